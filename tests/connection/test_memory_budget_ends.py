"""An ended connection leaves no counted byte, no object, and no work for the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tcpapp import Limits, MessageServerFactory, Timeouts, conversation
from tcpapp.connection.lifecycle import State
from tcpapp.connection.protocol import protocol_of
from tcpapp.telemetry import AppFailed, Closed
from tcpapp.testing.transport import FakeTransport
from tests.peers import NotedTransport, Peer, StrictClock, Switch, stalled

QUIET = Timeouts(first_message=0, idle=0, message_timeout=0, send_progress=0, handler_timeout=0)


def buffered(peer: Any) -> int:
    """Return the bytes that the peer's server counts as buffered."""
    return int(peer.factory.info().buffered)


# Work that goes on after the end -------------------------------------------------------------------------------------


async def streams(message: bytes, connection: Any) -> bytes:
    for _ in range(200):
        await connection.send(b"x" * 300_000)
    return b"done"


@conversation
async def converses(connection: Any) -> None:
    async for _ in connection:
        await streams(b"", connection)


@pytest.mark.parametrize("app", [streams, converses])
@pytest.mark.parametrize("end", ["resets", "leaves", "abort", "close"])
def test_an_app_that_still_sends_at_the_end_leaves_no_counted_bytes(app: Any, end: str) -> None:
    """If an app goes on sending after the end, each send fails, and no byte of it is counted."""
    peer = stalled(app, timeouts=QUIET)
    peer.says(b"go\n")
    assert buffered(peer) > 300_000
    if end in ("abort", "close"):
        getattr(peer.connection, end)()
        peer.clock.advance(10)
    else:
        getattr(peer, end)()
    assert (buffered(peer), dict(peer.factory.settings.memory_budget._held)) == (0, {})


@pytest.mark.parametrize("fires", ["callback", "errback"])
def test_an_answer_after_the_end_is_dropped(fires: str) -> None:
    """If the canceller of a reply does nothing, the reply can come after the end. It is not counted and not sent."""
    answers: list[Deferred[bytes]] = []
    told: list[str] = []

    class App:
        def received(self, message: bytes, connection: Any) -> Deferred[bytes]:
            answer: Deferred[bytes] = Deferred(lambda _: None)
            answers.append(uncancelled := Deferred())
            uncancelled.addBoth(lambda result: told.append("answered") or result).addBoth(lambda _: None)
            return answer

    peer = Peer(App(), timeouts=QUIET)
    peer.says(b"1\n2\n3\n" + b"x" * 1000)
    assert buffered(peer) > 1000
    peer.resets()
    getattr(answers[0], fires)(b"late" if fires == "callback" else ZeroDivisionError())
    assert (buffered(peer), told, peer.transport.value()) == (0, ["answered"], b"")


def test_a_send_that_is_cancelled_at_the_end_changes_no_count() -> None:
    """If sends are cancelled while their connection ends, the count of buffered bytes stays 0."""
    peer: Any = stalled(timeouts=QUIET)
    sends = [peer.connection.send(b"x" * 100_000) for _ in range(3)]
    for each in sends:
        each.addErrback(lambda _: [other.cancel() for other in sends])
    peer.resets()
    assert buffered(peer) == 0


# Bytes that are held while a connection closes -----------------------------------------------------------------------


def test_the_unsent_bytes_of_a_closing_connection_still_count() -> None:
    """Unsent bytes count until the transport has them, which never holds more than twice the write mark."""
    peer: Any = stalled(lambda *_: b"x" * 500_000, timeouts=QUIET, framing="line:max=1000000")
    peer.says(b"go\n")
    peer.half_closes()
    assert not peer.closing
    assert buffered(peer) > 400_000
    assert peer.transport.unsent <= 2 * 64 * 1024
    while not peer.closing:
        peer.transport.take()
    peer.transport.take()
    peer.leaves()
    assert (buffered(peer), len(peer.hears())) == (0, 500_001)


def test_peers_that_close_and_do_not_read_are_cut_when_memory_is_short() -> None:
    """Sixty unread replies of a megabyte do not take sixty megabytes: most of the connections are cut."""
    clock, limits = StrictClock(), Limits(max_buffered=8 * 1024 * 1024)
    factory = MessageServerFactory(lambda *_: b"x" * 1_000_000, "line", limits=limits, timeouts=QUIET, clock=clock)
    transports = []
    for _ in range(60):
        transport = NotedTransport(peer_reads=False, clock=clock)
        transport.connect(factory.buildProtocol(None))
        transport.receive(b"a\n")
        transport.half_close()
        transports.append(transport)
        assert factory.info().buffered <= 8 * 1024 * 1024
    assert 50 < factory.settings.memory_budget.shed < 60
    held = [protocol_of(each.connection).info().unsent for each in transports if not each.aborted]
    assert sum(held) <= 8 * 1024 * 1024


# Memory that is freed at once ----------------------------------------------------------------------------------------


def test_an_aborted_connection_drops_its_bytes_at_once() -> None:
    """An aborted connection drops its bytes at once, and counts each dropped message."""
    app = Switch()
    peer: Any = stalled(app, timeouts=QUIET, limits=Limits(messages_per_turn=2))
    peer.says(b"1\n2\n3\n4\n" + b"x" * 1000)
    peer.connection.send(b"y" * 500_000).addErrback(lambda _: None)
    connection, protocol = peer.connection, peer.protocol
    parts = protocol._inbox, protocol._throttle, protocol._framing, protocol._outbox
    connection.abort()
    inbox, throttle, framing, outbox = parts
    assert (len(inbox), throttle.pending, framing.held, outbox.unsent, outbox._corked_size) == (0, [], 0, 0, 0)
    peer.clock.advance(0)
    assert ([each.unhandled for each in peer.told(Closed)], buffered(peer)) == ([3], 0)


def test_messages_that_can_be_received_outlive_an_abort() -> None:
    """After an abort, messages can still be received. A connection that is shed drops them."""
    for short, left in ((False, 2), (True, 0)):
        peer: Any = Peer(timeouts=QUIET)
        peer.says(b"1\n2\n")
        if short:
            peer.protocol._buffered.shed(1000, 500)
        else:
            peer.connection.abort()
        assert peer.connection.unread == left
        peer.clock.advance(0)
        assert (peer.connection.unread, buffered(peer)) == (left, 0)


class Value:
    """A value that an app holds."""


async def keeps(gone: list[str], waited: Deferred[None]) -> None:
    value = Value()
    weakref.finalize(value, gone.append, "value")
    try:
        await waited
    finally:
        gone.append("app")


@pytest.mark.parametrize("form", ["function", "conversation"])
def test_a_shed_connection_cancels_its_app_at_once(form: str) -> None:
    """A shed connection cancels its app at once, because the app can hold most of the memory."""
    gone: list[str] = []

    async def answers(message: bytes, connection: Any) -> None:
        await keeps(gone, Deferred())

    @conversation
    async def talks(connection: Any) -> None:
        async for _ in connection:
            await keeps(gone, Deferred())

    peer: Any = Peer(answers if form == "function" else talks, timeouts=QUIET)
    peer.says(b"1\n")
    peer.protocol._buffered.shed(1000, 500)
    assert (sorted(gone), buffered(peer), peer.connection.state) == (["app", "value"], 0, State.CLOSING)
    peer.clock.advance(0)
    assert ([each.reason.rule for each in peer.told(Closed)], peer.told(AppFailed)) == (["memory-short"], [])


@pytest.mark.parametrize("form", ["function", "conversation"])
def test_an_app_that_is_running_when_its_connection_is_cut_is_cancelled_at_the_end(form: str) -> None:
    """
    An app that is running while its connection is shed cannot be cancelled at once, so it is cancelled at the end.
    """
    gone: list[str] = []
    first: Deferred[None] = Deferred()

    async def sends_too_much(connection: Any) -> None:
        await first
        connection.send(b"x" * 3_000_000).addErrback(lambda _: None)
        await keeps(gone, Deferred())

    @conversation
    async def talks(connection: Any) -> None:
        await sends_too_much(connection)

    app = talks if form == "conversation" else lambda _, connection: sends_too_much(connection)
    limits = Limits(max_buffered=1_000_000)
    peer: Any = stalled(app, framing="line:max=4000000", timeouts=QUIET, limits=limits)
    peer.says(b"1\n")
    first.callback(None)
    assert (gone, peer.connection.state, peer.factory.info().shed) == ([], State.CLOSING, 1)
    peer.clock.advance(0)
    assert (sorted(gone), buffered(peer), peer.told(AppFailed)) == (["app", "value"], 0, [])


# No work for the garbage collector -----------------------------------------------------------------------------------


def opened(factory: Any, clock: Any, **options: Any) -> NotedTransport:
    transport = NotedTransport(clock=clock, **options)
    transport.connect(factory.buildProtocol(None))
    return transport


def halfway(transport: FakeTransport) -> None:
    transport.receive(b"hel")
    transport.lose()


def answered(transport: FakeTransport) -> None:
    transport.receive(b"hello\n")
    transport.lose()


def aborted(transport: Any) -> None:
    connection = transport.protocol.connection
    connection.send(b"x" * 300_000).addErrback(lambda _: None)
    connection.abort()
    transport.turn()


def half_closed(transport: FakeTransport) -> None:
    transport.receive(b"hello\n")
    transport.half_close()
    transport.turn()
    transport.lose()


def waited_for(transport: Any) -> None:
    connection = transport.protocol.connection
    connection.request(b"x").addErrback(lambda _: None)
    connection.when_closed()
    connection.close()
    transport.lose()


@pytest.mark.exhaustive
@pytest.mark.once
@pytest.mark.parametrize("end", [halfway, answered, aborted, half_closed, waited_for])
@pytest.mark.usefixtures("no_collector")
def test_ended_connections_are_no_cycles(end: Callable[[FakeTransport], None]) -> None:
    """Without the collector, a thousand ends leave fewer than 500 objects. A slow run leaves some log lines."""
    clock = StrictClock()
    factory = MessageServerFactory(lambda message, connection: message, timeouts=Timeouts(), clock=clock)

    def run(count: int) -> int:
        for _ in range(count):
            transport = opened(factory, clock, peer_reads=end is not aborted)
            end(transport)
            clock.advance(0)
            assert transport.connection.state is State.CLOSED
            vars(transport).clear()  # as Twisted's transports do; then nothing holds the connection
        return len(gc.get_objects())

    run(10)
    before = run(10)
    assert run(1000) - before < 500
    assert (factory.info().connections, factory.info().buffered) == (0, 0)
