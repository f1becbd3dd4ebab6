"""The SOCKS5 proxy: its stages, its replies, and that it serves only what is allowed."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from tcpapp.apps import socks5
from tcpapp.apps.echo import echo
from tcpapp.apps.socks5 import Socks5, greeting, login, request
from tests.peers import Peer

if TYPE_CHECKING:
    from tests.peers import Hosts

CONNECT = b"\x05\x01\x00\x03\x06server\x1b\x5f"
"""A request for ``server:7007``."""
FAILED = b"\x05%c\0\x01\0\0\0\0\0\0"


def test_it_is_short() -> None:
    """The app is an example, so it has fewer than 80 lines."""
    assert len(inspect.getsource(socks5).splitlines()) < 80
    assert ast.get_docstring(ast.parse(inspect.getsource(socks5)))


def test_no_method_that_both_know_closes() -> None:
    """A client without the right method gets FF, and the connection closes."""
    peer = Peer(Socks5([]), greeting())
    peer.says(b"\x05\x01\x02")
    assert (peer.hears(), peer.closing) == (b"\x05\xff", True)


@pytest.mark.parametrize("stream", [b"\x04\x01", b"GET / HTTP/1.1\r\n", b"\x05\x01\x00\x05\x01\x00\x07"])
def test_any_other_protocol_closes(stream: bytes) -> None:
    """Another version, or an unknown kind of address, is malformed."""
    peer = Peer(Socks5([]), greeting())
    peer.says(stream)
    peer.transport.turn()
    assert peer.closing


@pytest.mark.parametrize(
    ("asked", "reply"),
    [
        (b"\x05\x01\x00\x03\x0bexample.com\x01\xbb", FAILED % 2),
        (b"\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb", FAILED % 2),
        (b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x01\xbb", FAILED % 2),
        (b"\x05\x02\x00\x03\x06server\x1b\x5f", FAILED % 7),
    ],
)
def test_it_serves_no_other_target_and_no_other_command(asked: bytes, reply: bytes) -> None:
    """A target that is not allowed gets reply 2, and a command other than CONNECT reply 7; then it closes."""
    peer = Peer(Socks5(["server:7007"]), greeting())
    peer.says(b"\x05\x01\x00" + asked)
    assert (peer.hears(), peer.closing) == (b"\x05\x00" + reply, True)


@pytest.mark.parametrize(
    ("name", "password", "reply"), [(b"ann", b"secret", 0), (b"ann", b"wrong", 1), (b"bob", b"", 1)]
)
def test_users_log_in(name: bytes, password: bytes, reply: int) -> None:
    """With users, a client has to give the name and the password of one of them."""
    peer = Peer(Socks5([], {"ann": "secret"}), greeting())
    peer.says(b"\x05\x02\x00\x02" + b"\x01%c%b%c%b" % (len(name), name, len(password), password))
    assert (peer.hears(), peer.closing) == (b"\x05\x02\x01%c" % reply, bool(reply))


def test_the_bytes_go_to_the_target_and_back(hosts: Hosts) -> None:
    """Behind the reply all bytes are passed on, also bytes that came with the request, and each end of a side."""
    hosts.listen(echo)
    proxy = Socks5(["server:7007"], reactor=hosts.server.reactor)
    hosts.listen(proxy, "tcp:1080", framing=greeting())
    client = hosts.connect("tcp:server:1080", framing="raw")
    client.send(b"\x05\x01\x00" + CONNECT + b"early\n")
    hosts.wait(3)
    client.send(b"late\n")
    hosts.wait(3)
    heard = b""
    while client.unread:
        heard += hosts.run(client.receive())
    assert heard == b"\x05\x00" + FAILED % 0 + b"early\nlate\n"


@pytest.mark.parametrize(("target", "code"), [("server:9", 5), ("nowhere:9", 4)])
def test_a_target_that_cannot_be_reached_has_a_code(hosts: Hosts, target: str, code: int) -> None:
    """The reply says whether the target refused, or its name is unknown."""
    host, _, port = target.partition(":")
    hosts.listen(Socks5([target], reactor=hosts.server.reactor), "tcp:1080", framing=greeting())
    client = hosts.connect("tcp:server:1080", framing="raw")
    client.send(b"\x05\x01\x00" + b"\x05\x01\x00\x03%c%b" % (len(host), host.encode()) + int(port).to_bytes(2, "big"))
    hosts.wait(30)
    heard: Any = b""
    while client.unread:
        heard += hosts.run(client.receive())
    assert heard[:4] == b"\x05\x00\x05%c" % code


@pytest.mark.parametrize(
    ("framing", "messages"),
    [
        (greeting(), [b"\x05\x01\x00", b"\x05\x02\x00\x02"]),
        (login(), [b"\x01\x01a\x01b", b"\x01\x00\x00"]),
        (request(), [CONNECT, b"\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb"]),
    ],
    ids=["greeting", "login", "request"],
)
def test_its_framings_keep_the_contract(framing: Any, messages: list[bytes]) -> None:
    """The framing of each stage gives the same messages however its stream is cut."""
    state = framing.fresh()
    expected = state.receive(b"".join(messages))
    for at in range(len(b"".join(messages))):
        state = framing.fresh()
        stream = b"".join(messages)
        assert state.receive(stream[:at]) + state.receive(stream[at:]) == expected
