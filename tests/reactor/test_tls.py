"""Quick TLS on the reactor: it does what Twisted's protocol does, with fewer steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL.SSL import Error, WantReadError
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from tcpapp.reactor import tls
from tests.reactor.conftest import Bench, Noting

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")
test = pytest_twisted.ensureDeferred


async def met(bench: Bench, contexts: Any, server: Noting, client: Noting, kind: type[Any]) -> None:
    """Connect the two protocols over TLS by this kind of Twisted's protocol, and finish the handshake."""
    factory: Any = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda _: server
    listen: Any = SSL4ServerEndpoint(bench.reactor, 0, contexts[0], interface="127.0.0.1")
    if kind is not BufferingTLSTransport:
        factory = TLSMemoryBIOFactory(contexts[0], False, factory)
        factory.protocol = kind
        listen = TCP4ServerEndpoint(bench.reactor, 0, interface="127.0.0.1")
    port = await listen.listen(factory)
    await connectProtocol(
        wrapClientTLS(contexts[1], TCP4ClientEndpoint(bench.reactor, "127.0.0.1", port.getHost().port)), client
    )
    await port.stopListening()
    server.on_data = client.on_data = lambda _: None
    client.transport.write(b"?")
    await bench.until(lambda: server.data == b"?")
    server.transport.write(b"!")
    await bench.until(lambda: client.data == b"!")
    server.data.clear()
    client.data.clear()


KINDS = pytest.mark.parametrize("kind", [TLSMemoryBIOProtocol, BufferingTLSTransport])


@KINDS
@test
async def test_quick_tls_is_a_subclass_of_twisteds_protocol(bench: Bench, contexts: Any, kind: type[Any]) -> None:
    """TLS transports are quick subclasses of Twisted's protocol, show the peer's certificate, and close cleanly."""
    server, client = Noting(), Noting()
    await met(bench, contexts, server, client, kind)
    assert isinstance(server.transport, kind)
    assert isinstance(server.transport, tls.QuickTLS)
    assert isinstance(client.transport, tls.QuickBufferingTLS)
    assert client.transport.getPeerCertificate() is not None
    client.transport.loseConnection()
    await bench.until(lambda: client.reason and server.reason)
    assert client.reason.check(ConnectionDone)
    assert server.reason.check(ConnectionDone)


@KINDS
@pytest.mark.parametrize("size", [1, 16_384, 16_388, tls.ROOM, 3_000_000])
@test
async def test_every_byte_comes_both_ways(bench: Bench, contexts: Any, kind: type[Any], size: int) -> None:
    """Any number of bytes that a client sends over quick TLS arrives, and so does the reply."""
    server, client = Noting(), Noting()
    await met(bench, contexts, server, client, kind)
    sent = bytes(range(251)) * (size // 251 + 1)
    answered: list[int] = [0]

    def answer(end: Noting) -> None:
        end.transport.write(bytes(end.data[answered[0] :]))
        answered[0] = len(end.data)

    server.on_data = answer
    client.transport.write(sent[:size])
    client.transport.write(b"")
    await bench.until(lambda: len(client.data) == size)
    assert client.data == sent[:size]
    client.transport.abortConnection()
    await bench.until(lambda: server.reason)


@test
async def test_bytes_written_in_one_call_are_sent_as_one_record(bench: Bench, contexts: Any) -> None:
    """
    Small writes in one `dataReceived` are sent as one record; large ones all arrive; text is refused with `TypeError`.
    """
    server, client = Noting(), Noting()
    await met(bench, contexts, server, client, BufferingTLSTransport)

    def answer(end: Noting) -> None:
        for piece in (b"a", b"b", b"c"):
            end.transport.write(piece)

    server.on_data = answer
    client.chunks.clear()
    client.transport.write(b"x")
    await bench.until(lambda: client.data == b"abc")
    assert client.chunks == [3]
    server.on_data = lambda end: [end.transport.write(b"y" * 30_000) for _ in range(4)]
    client.transport.write(b"x")
    await bench.until(lambda: len(client.data) == 120_003)
    with pytest.raises(TypeError):
        server.transport.write("text")
    client.transport.abortConnection()
    await bench.until(lambda: server.reason)


@KINDS
@test
async def test_bytes_that_are_not_tls_end_the_connection(bench: Bench, contexts: Any, kind: type[Any]) -> None:
    """
    Bytes that are not TLS end the connection with OpenSSL's error, as Twisted does; the app gets all earlier bytes.
    """
    server, client = Noting(), Noting()
    await met(bench, contexts, server, client, kind)
    client.transport.transport.write(encrypted(client, b"last") + b"\x17\x03\x03\x00\x20" + b"x" * 32)
    await bench.until(lambda: server.reason and client.reason)
    assert server.data == b"last"
    assert server.reason.check(Error)


def encrypted(end: Noting, data: bytes) -> bytes:
    """Return `data` as encrypted by the OpenSSL connection of `end`, without sending it."""
    connection = end.transport._tlsConnection
    found = bytearray()
    for start in range(0, len(data), 16_384):
        connection.send(data[start : start + 16_384])
        found += connection.bio_read(1 << 16)
    return bytes(found)


@test
async def test_more_bytes_than_the_buffer_holds_come_in_several_pieces(bench: Bench, contexts: Any) -> None:
    """More decrypted bytes than the buffer holds are delivered in pieces of the buffer's size."""
    server, client = Noting(), Noting()
    await met(bench, contexts, server, client, TLSMemoryBIOProtocol)
    server.chunks.clear()
    sent = bytes(range(250)) * 1200
    server.transport.dataReceived(encrypted(client, sent))
    assert server.data == sent
    assert server.chunks == [tls.ROOM, tls.ROOM, len(sent) - 2 * tls.ROOM]
    client.transport.abortConnection()
    await bench.until(lambda: server.reason)


@test
async def test_bytes_after_the_end_are_not_delivered(bench: Bench, contexts: Any) -> None:
    """Valid records that arrive after a broken one are not delivered."""
    server, client = Noting(), Noting()
    await met(bench, contexts, server, client, TLSMemoryBIOProtocol)
    late = encrypted(client, b"late")
    server.transport.dataReceived(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    server.transport.dataReceived(late)
    assert server.data == b""
    await bench.until(lambda: server.reason and client.reason)


@test
async def test_a_write_that_openssl_refuses_ends_the_connection(bench: Bench, contexts: Any) -> None:
    """A write that OpenSSL refuses ends the connection with its error."""
    server, client = Noting(), Noting()
    await met(bench, contexts, server, client, TLSMemoryBIOProtocol)
    server.transport._tlsConnection.shutdown()
    server.transport.write(b"x")
    await bench.until(lambda: server.reason and client.reason)
    assert server.reason.check(Error)


@test
async def test_a_write_that_openssl_cannot_take_yet_is_sent_later(
    bench: Bench, contexts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that OpenSSL takes only after it has read is sent, before later writes, when bytes have come."""
    server, client = Noting(), Noting()
    await met(bench, contexts, server, client, TLSMemoryBIOProtocol)
    with monkeypatch.context() as patched:
        patched.setattr(tls, "_ssl_write", lambda *_: -1)
        patched.setattr(type(server.transport._tlsConnection), "send", raises_want_read)
        server.transport.write(b"first")
        server.transport.write(b", second")
    client.transport.write(b"?")
    await bench.until(lambda: client.data == b"first, second")
    server.transport.write(b"!")
    await bench.until(lambda: client.data == b"first, second!")
    client.transport.abortConnection()
    await bench.until(lambda: server.reason)


def raises_want_read(*_: object) -> int:
    """Raise pyOpenSSL's error for a write that must wait until more has been read."""
    raise WantReadError


def test_bytes_written_before_quick_tls_are_kept() -> None:
    """A protocol keeps the bytes that were written before it was made quick; Twisted sends them in the next turn."""
    clock = Clock()
    factory: Any = Factory()
    factory._clock = clock
    protocol = BufferingTLSTransport(factory, Noting())
    protocol.write(b"x")
    before = protocol._aggregator
    tls.quicken(protocol)
    assert type(protocol) is tls.QuickBufferingTLS
    assert protocol._aggregator is before
    before._scheduled.cancel()


@test
async def test_an_end_without_close_notify_is_a_lost_connection(bench: Bench, contexts: Any) -> None:
    """When the peer closes TCP without close_notify, the reason is `ConnectionLost`."""
    server, client = Noting(), Noting()
    await met(bench, contexts, server, client, TLSMemoryBIOProtocol)
    client.transport.transport.loseConnection()
    await bench.until(lambda: server.reason and client.reason)
    assert server.reason.check(ConnectionLost)


@test
async def test_a_close_after_bytes_ends_the_connection_cleanly(bench: Bench, contexts: Any) -> None:
    """When bytes and close_notify come in one piece, the bytes are delivered first."""
    server, client = Noting(), Noting()
    await met(bench, contexts, server, client, TLSMemoryBIOProtocol)
    server.on_data = lambda end: end.transport.write(b"answer")
    client.transport.write(b"last")
    client.transport.loseConnection()
    await bench.until(lambda: server.reason and client.reason)
    assert server.data == b"last"
    assert server.reason.check(ConnectionDone)


@test
async def test_nothing_is_delivered_after_an_abort(bench: Bench, contexts: Any) -> None:
    """After `abortConnection` in `dataReceived` no more bytes are delivered, and a later write does nothing."""
    server, client = Noting(), Noting()
    await met(bench, contexts, server, client, TLSMemoryBIOProtocol)
    server.on_data = lambda end: end.transport.abortConnection()
    client.transport.write(b"x" * (tls.ROOM + 1))
    await bench.until(lambda: server.reason and client.reason)
    assert len(server.data) <= tls.ROOM
    server.transport.write(b"too late")


def test_a_binding_that_lacks_a_function_keeps_twisteds_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """When pyOpenSSL's binding lacks a needed function, `quicken` leaves Twisted's protocol unchanged."""
    monkeypatch.setattr(tls, "IS_THERE", False)
    protocol = TLSMemoryBIOProtocol.__new__(TLSMemoryBIOProtocol)
    tls.quicken(protocol)
    assert type(protocol) is TLSMemoryBIOProtocol


def test_other_protocols_are_not_made_quick() -> None:
    """`quicken` leaves other protocols and subclasses of Twisted's TLS protocol unchanged."""

    class Own(TLSMemoryBIOProtocol):
        pass

    for protocol in (Noting(), Own.__new__(Own)):
        before = type(protocol)
        tls.quicken(protocol)
        assert type(protocol) is before


def test_a_class_with_may_be_quick_keeps_its_other_methods() -> None:
    """A class with `may_be_quick` is made quick once, by a subclass that keeps its other methods."""

    class Own(TLSMemoryBIOProtocol):
        may_be_quick = True

    protocols = [Own.__new__(Own) for _ in range(2)]
    for protocol in (*protocols, protocols[0]):
        tls.quicken(protocol)
    quick = type(protocols[0])
    assert quick.__mro__[1:3] == (tls.QuickTLS, Own)
    assert type(protocols[1]) is quick


def test_the_reactor_works_without_pyopenssl() -> None:
    """Without pyOpenSSL the reactor can be installed, and `quicken` does nothing."""
    code = (
        "import sys; sys.modules['OpenSSL'] = None; import tcpapp.reactor; tcpapp.reactor.install();"
        "from twisted.internet import reactor; print(reactor.quicken(object()))"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True).stdout == b"None\n"
