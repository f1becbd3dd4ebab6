"""The proxy by HTTP CONNECT: its responses, and that it serves only what is allowed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from tcpapp.apps import connect_proxy
from tcpapp.apps.connect_proxy import ConnectProxy
from tcpapp.apps.echo import echo
from tests.peers import Peer

if TYPE_CHECKING:
    from tests.peers import Hosts


def test_it_is_short() -> None:
    """The app is an example, so it has fewer than 80 lines."""
    assert len(inspect.getsource(connect_proxy).splitlines()) < 80


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", b"405"),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", b"403"),
        (b"CONNECT server:7008 HTTP/1.1\r\nHost: server:7008\r\n\r\n", b"403"),
        (b"CONNECT [::1]:7007 HTTP/1.1\r\nHost: [::1]:7007\r\n\r\n", b"403"),
    ],
)
def test_it_serves_no_other_target_and_no_other_method(head: bytes, status: bytes) -> None:
    """A target that is not allowed gets 403, and a method other than CONNECT gets 405."""
    peer = Peer(ConnectProxy(["server:7007"]), "http1")
    peer.says(head)
    assert peer.hears().startswith(b"HTTP/1.1 " + status)


def heard_of(hosts: Hosts, proxy: ConnectProxy, *pieces: bytes) -> bytes:
    """Send the pieces to the proxy, and return what came back."""
    hosts.listen(proxy, "tcp:3128", framing="http1")
    client = hosts.connect("tcp:server:3128", framing="raw")
    for each in pieces:
        client.send(each)
        hosts.wait(30)
    heard = b""
    while client.unread:
        heard += hosts.run(client.receive())
    return heard


def test_the_bytes_go_to_the_target_and_back(hosts: Hosts) -> None:
    """The response has no length, and behind it all bytes are passed on, also bytes that came with the request."""
    hosts.listen(echo)
    proxy = ConnectProxy(["server:7007"], reactor=hosts.server.reactor)
    head = b"CONNECT server:7007 HTTP/1.1\r\nHost: server:7007\r\n\r\nearly\n"
    assert heard_of(hosts, proxy, head, b"late\n") == (b"HTTP/1.1 200 Connection established\r\n\r\nearly\nlate\n")


@pytest.mark.parametrize(("target", "status"), [("server:9", b"502"), ("nowhere:9", b"502")])
def test_a_target_that_cannot_be_reached_has_a_status(hosts: Hosts, target: str, status: bytes) -> None:
    """A target that refuses, or whose name is unknown, gets 502, and the connection goes on."""
    proxy = ConnectProxy([target], reactor=hosts.server.reactor)
    head = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target.encode(), target.encode())
    assert heard_of(hosts, proxy, head).startswith(b"HTTP/1.1 " + status)


def test_a_late_target_gets_504() -> None:
    """A target that does not answer in time gets 504."""
    assert connect_proxy.is_late(TimeoutError())
    assert not connect_proxy.is_late(OSError())
