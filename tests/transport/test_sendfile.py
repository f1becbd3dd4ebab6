"""sendfile over the transports of each reactor: what the kernel takes, and what it does not."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from tcpapp.testing.transport import FakeTransport
from tcpapp.transport import sendfile
from tcpapp.transport.sendfile import MOST_AT_ONCE, carries_files, send_file

pytestmark = pytest.mark.skipif(not sendfile.HAS_SENDFILE, reason="the system has no sendfile of this kind")


class Plain(tcp.Connection):
    """Twisted's TCP connection over one end of a pair of sockets, without a reactor."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__(end, None, reactor=None)
        self.connected = True


@pytest.fixture
def ends() -> Any:
    """Give a transport and the socket of its peer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(10)
    with ours, theirs:
        yield Plain(ours), theirs


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Give the descriptor of a file that is longer than a socket holds."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 16384)
    with path.open("rb") as file:
        yield file.fileno()


def test_the_kernel_sends_a_part_of_a_file(ends: Any, file: int) -> None:
    """The bytes from the offset arrive at the peer, and the position of the file stays."""
    transport, peer = ends
    assert send_file(transport, file, 3, 5) == 5
    assert peer.recv(100) == bytes([3, 4, 5, 6, 7])
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


def test_the_bytes_of_one_call_are_bounded(ends: Any, file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call asks the kernel for `MOST_AT_ONCE` bytes, so that it does not hold the reactor for long."""
    asked = []
    monkeypatch.setattr("os.sendfile", lambda *arguments: asked.append(arguments) or arguments[3])
    assert send_file(ends[0], file, 0, 10**9) == MOST_AT_ONCE
    assert [each[1:] for each in asked] == [(file, 0, MOST_AT_ONCE)]


def test_a_full_socket_takes_nothing(ends: Any, file: int) -> None:
    """A socket whose buffers are full takes nothing, and nothing is raised."""
    transport, _ = ends
    offset = 0
    while sent := send_file(transport, file, offset, 10**9):
        offset += sent
    assert 0 < offset < 16384 * 256


def test_bytes_that_the_transport_holds_go_first(ends: Any, file: int) -> None:
    """While the transport holds written bytes, the kernel is not asked."""
    transport, _ = ends
    transport.dataBuffer = b"earlier"
    assert send_file(transport, file, 0, 5) == 0


@pytest.mark.parametrize("gone", ["peer", "socket"])
def test_a_lost_connection_takes_nothing(ends: Any, file: int, gone: str) -> None:
    """A connection that is lost takes nothing: the transport finds out when it writes."""
    transport, peer = ends
    if gone == "peer":
        peer.close()
    else:
        transport.socket.close()
    assert send_file(transport, file, 0, 5) == 0


def test_the_end_of_the_file_gives_nothing(ends: Any, file: int) -> None:
    """Behind the end of a file there is nothing to send."""
    assert send_file(ends[0], file, 1 << 30, 5) == 0


def test_plain_transports_carry_files(ends: Any) -> None:
    """Twisted's transports over a socket carry files, also below a layer that passes bytes on."""
    transport, _ = ends
    wrapper = ProtocolWrapper(WrappingFactory(None), None)  # type: ignore[arg-type]  # neither is used
    wrapper.transport = transport
    assert carries_files(transport)
    assert carries_files(wrapper)


def test_other_transports_carry_no_files(ends: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transports without a socket, transports with TLS, and systems without this sendfile carry no files."""
    assert not carries_files(StringTransport())
    assert not carries_files(FakeTransport())
    monkeypatch.setattr(sendfile, "HAS_SENDFILE", False)
    assert not carries_files(ends[0])


def test_a_transport_that_has_lost_its_socket_carries_no_files(ends: Any) -> None:
    """Twisted's transports have no socket any more after the end of the connection."""
    transport, _ = ends
    del transport.socket
    assert not carries_files(transport)


def test_a_transport_with_tls_carries_no_files(ends: Any) -> None:
    """A connection that has begun TLS encrypts its bytes, so the kernel must not send the file itself."""
    tls = pytest.importorskip("twisted.protocols.tls")
    transport, _ = ends
    transport.protocol = tls.TLSMemoryBIOProtocol.__new__(tls.TLSMemoryBIOProtocol)
    assert not carries_files(transport)
