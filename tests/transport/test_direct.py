"""Sending on a socket, and closing it, at once: over which transports, and what is left to the transport."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet import tcp, unix
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from tcpapp.testing.transport import FakeTransport
from tcpapp.transport.direct import end_now, has_socket, send_now


class Plain(tcp.Connection):
    """Twisted's TCP connection over one end of a pair of sockets, without a reactor."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__(end, None, reactor=MemoryReactor())  # type: ignore[arg-type]
        self.connected = True


@pytest.fixture
def ends() -> Any:
    """Give a transport and the socket of its peer."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ours, theirs:
        yield Plain(ours), theirs


def test_bytes_go_to_the_socket(ends: Any) -> None:
    """The peer has the bytes when the call returns, and the transport holds none."""
    transport, peer = ends
    assert has_socket(transport)
    assert send_now(transport, b"hello") == 5
    assert peer.recv(100) == b"hello"
    assert not transport._tempDataLen


def test_a_full_socket_takes_a_part_and_then_nothing(ends: Any) -> None:
    """The number of taken bytes is returned, and nothing is raised."""
    transport, _ = ends
    taken = send_now(transport, bytes(1 << 24))
    assert 0 < taken < 1 << 24
    assert send_now(transport, b"more") == 0


def test_a_lost_socket_takes_nothing(ends: Any) -> None:
    """The transport finds out about the loss, when it writes the bytes."""
    transport, peer = ends
    peer.close()
    assert send_now(transport, b"hello") == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dataBuffer", b"earlier"),
        ("_tempDataLen", 7),
        ("connected", False),
        ("disconnecting", True),
        ("_writeDisconnecting", True),
        ("_blocked", True),
        ("TLS", True),
    ],
)
def test_a_transport_in_another_state_takes_nothing(ends: Any, name: str, value: object) -> None:
    """Bytes behind others, of a closing transport, or of TLS are left to the transport."""
    transport, _ = ends
    setattr(transport, name, value)
    assert send_now(transport, b"hello") == 0


def test_other_transports_have_no_such_socket(ends: Any) -> None:
    """A test's transport, a UNIX socket, which can carry descriptors, and a layer above TCP take nothing."""
    plain, _ = ends
    wrapped = ProtocolWrapper(WrappingFactory(None), None)  # type: ignore[arg-type]
    wrapped.transport = plain
    for transport in (FakeTransport(), StringTransport(), unix.Server.__new__(unix.Server), wrapped):
        assert not has_socket(transport)
        assert send_now(transport, b"hello") == 0


# The end -------------------------------------------------------------------------------------------------------------


class Noted(Protocol):
    """Notes its end."""

    lost: Failure | None = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


def test_a_connection_ends_at_once(ends: Any) -> None:
    """Where all was sent, the protocol has its end, and the peer the end of the stream, when the call returns."""
    transport, peer = ends
    transport.protocol = protocol = Noted()
    transport.startReading()
    assert end_now(transport)
    assert protocol.lost is connectionDone
    assert peer.recv(100) == b""
    assert (transport.reactor.getReaders(), transport.reactor.getWriters()) == ([], [])


def test_a_transport_that_cannot_end_at_once_stays(ends: Any) -> None:
    """A transport without a socket, or with unsent bytes, is left as it was."""
    transport, _ = ends
    transport.write(b"unsent")
    assert not end_now(transport)
    assert not end_now(StringTransport())
    assert transport.connected
