"""The options that accepted sockets inherit: which ports have them. `tests/integration` sees what the kernel does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tcpapp.limits import Limits, Timeouts
from tcpapp.testing.transport import FakeTransport
from tcpapp.transport import inherited_options
from tcpapp.transport.inherited_options import has_inherited, set_for_clients


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a port like Twisted's, with a socket that this process opened."""
    monkeypatch.setattr(inherited_options, "COPIES", True)
    with socket.socket() as listening:
        yield SimpleNamespace(socket=listening, _shouldShutdown=True)


def test_the_options_are_set_on_the_socket_that_listens(port: Any) -> None:
    """Both kinds of options are set, or switched off."""
    assert set_for_clients(port, Limits(), Timeouts(keepalive=20), no_delay=True)
    assert port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert set_for_clients(port, Limits(), Timeouts(keepalive=0, user_timeout=0), no_delay=False)
    assert not port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("port_is", ["adopted", "unix", "closed", "of another system", "stdio"])
def test_other_ports_pass_nothing_on(port_is: str, port: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that another program opened stays as it is, and other sockets have no such options."""
    if port_is == "adopted":
        port._shouldShutdown = False
    elif port_is == "unix":
        port.socket.close()
        port.socket = socket.socket(socket.AF_UNIX)
    elif port_is == "closed":
        port.socket.close()
    elif port_is == "stdio":
        port = object()
    else:
        monkeypatch.setattr(inherited_options, "COPIES", False)
    assert not set_for_clients(port, Limits(), Timeouts(), no_delay=True)
    if port_is == "unix":
        port.socket.close()


def test_only_a_port_that_says_so_has_passed_options_on() -> None:
    """A transport without a port, as a client's, has inherited nothing."""
    assert not has_inherited(FakeTransport())
    assert not has_inherited(SimpleNamespace(server=SimpleNamespace()))
    assert has_inherited(SimpleNamespace(server=SimpleNamespace(passes_options_on=True)))
