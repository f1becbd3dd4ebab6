"""`info()` of one connection: what it received and sent, what it holds, what holds it back, and what ends next."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport

from tcpapp import Limits, MessageClientFactory, MessageServerFactory, Reply, Telemetry, Timeouts, batch, conversation
from tcpapp.apps import echo
from tcpapp.connection.protocol import protocol_of
from tcpapp.connection.read_control import MEMORY_PRESSURE
from tcpapp.telemetry import Closed
from tcpapp.telemetry.statistics import ConnectionInfo, Hold, Wait
from tcpapp.testing.wire import Wire
from tests.connection.costly import Server, costs
from tests.peers import NotedTransport, Peer, Switch, TurnClock, never, stalled

OFF = Timeouts(first_message=0, idle=0, message_timeout=0, handler_timeout=0, send_progress=0, tls_handshake=0)
"""No timeout that `info()` could read the time of a hold from."""


def held(peer: Peer) -> list[tuple[str, float]]:
    """Return the reasons that hold the connection back, with their seconds."""
    return [(each.reason, each.seconds) for each in peer.protocol.info().holds]


def counts(peer: Peer) -> tuple[int, int, int, int]:
    """Return the received and the sent messages and bytes of the connection."""
    info = peer.protocol.info()
    return info.messages, info.bytes, info.sent_messages, info.sent_bytes


# Its life -------------------------------------------------------------------------------------------------------------


def test_an_idle_connection_is_held_back_by_nothing() -> None:
    """`info()` has the state and the age of an idle connection, and the wait that is over first."""
    peer = Peer(echo, timeouts=Timeouts(first_message=60, idle=600))
    peer.clock.advance(7)
    assert peer.protocol.info() == ConnectionInfo(
        state="open", age=7.0, messages=0, bytes=0, sent_messages=0, sent_bytes=0, deadline=Wait("first_message", 53.0)
    )
    peer.says(b"hello\n")
    peer.clock.advance(10)
    info = peer.protocol.info()
    assert (info.age, info.deadline, info.holds) == (17.0, Wait("idle", 590.0), ())


def test_a_connection_that_is_not_made_yet_has_an_info() -> None:
    """All counts are 0 before the transport is connected."""
    protocol: Any = MessageServerFactory(echo, telemetry=Telemetry()).buildProtocol(None)
    assert protocol.info() == ConnectionInfo(
        state="unopened", age=0.0, messages=0, bytes=0, sent_messages=0, sent_bytes=0
    )


def test_the_counts_are_kept_after_the_end() -> None:
    """After the end, `info()` still has the counts, the time that the connection was open, and the unread messages."""
    peer = Peer(None, timeouts=OFF)
    peer.says(b"one\ntwo\nth")
    peer.connection.send(b"hello")
    peer.clock.advance(5)
    peer.connection.pause()
    peer.resets()
    peer.clock.advance(20)
    expected = ConnectionInfo(
        state="closed", age=5.0, messages=2, bytes=10, sent_messages=1, sent_bytes=6, unread=2, holds=(), deadline=None
    )
    assert peer.protocol.info() == expected
    peer.slips_in(b"three\n")
    assert peer.protocol.info() == expected
    assert (peer.factory.info().messages, peer.factory.info().sent_bytes) == (2, 6)


def test_the_event_of_the_end_has_the_counts() -> None:
    """`Closed` has the same counts as `info()`, and the seconds that the connection was open."""
    peer = Peer(echo, timeouts=OFF)
    peer.says(b"one\ntwo\n")
    peer.clock.advance(3)
    peer.resets()
    [closed] = peer.told(Closed)
    assert (closed.messages, closed.bytes, closed.sent_messages, closed.sent_bytes) == (2, 8, 2, 8)
    assert (closed.duration, closed.connection) == (3.0, peer.connection)


def test_an_app_can_ask_at_the_end() -> None:
    """Handlers that run at the end get the same numbers as a caller after it."""
    seen: list[ConnectionInfo] = []

    class App:
        def received(self, message: bytes, connection: Any) -> bytes:
            return message

        def closed(self, connection: Any, reason: Any) -> None:
            seen.append(protocol_of(connection).info())

    peer = Peer(App(), timeouts=OFF)
    peer.says(b"one\n")
    peer.clock.advance(3)
    peer.resets()
    assert seen == [peer.protocol.info()]
    assert (seen[0].state, seen[0].age, seen[0].sent_messages) == ("closed", 3.0, 1)


def test_an_info_is_a_value() -> None:
    """`as_dict()` gives what JSON can hold, and no field can be set."""
    peer = Peer(Switch(), timeouts=Timeouts(idle=0, handler_timeout=30))
    peer.says(b"hello\n")
    info = peer.protocol.info()
    told = json.loads(json.dumps(info.as_dict()))
    assert told == info.as_dict()
    assert (told["holds"], told["deadline"]) == (
        [{"reason": "awaiting-reply", "seconds": 0.0}],
        {"name": "handler_timeout", "seconds": 30.0},
    )
    with pytest.raises(FrozenInstanceError):
        info.age = 0.0


def test_without_a_clock_all_seconds_are_0() -> None:
    """A transport without a reactor has no time: the holds are there, and no wait."""
    protocol: Any = MessageServerFactory(never, telemetry=Telemetry()).buildProtocol(None)
    protocol.makeConnection(StringTransport())
    protocol.dataReceived(b"one\ntwo\n")
    protocol.connection.pause()
    info = protocol.info()
    assert (info.age, info.deadline, info.unread) == (0.0, None, 1)
    assert info.holds == (Hold("awaiting-reply", 0.0), Hold("paused", 0.0))


# The counts -----------------------------------------------------------------------------------------------------------


@batch
def together(messages: list[bytes], connection: Any) -> list[bytes]:
    return messages


@conversation
async def talk(connection: Any) -> None:
    async for message in connection:
        await connection.send(message)


async def coroutine(message: bytes, connection: Any) -> bytes:
    return message


class Polite:
    """An app that greets, and says a last word."""

    def opened(self, connection: Any) -> bytes:
        return b"hello"

    def received(self, message: bytes, connection: Any) -> bytes:
        return message

    def draining(self, connection: Any) -> bytes:
        return b"goodbye"


@pytest.mark.parametrize(
    "app",
    [
        pytest.param(lambda message, _: message, id="function"),
        pytest.param(lambda message, _: Reply(message), id="reply"),
        pytest.param(lambda message, connection: connection.send(b"sent") and None, id="send"),
        pytest.param(coroutine, id="coroutine"),
        pytest.param(together, id="batch"),
        pytest.param(talk, id="conversation"),
        pytest.param(Polite(), id="object"),
    ],
)
@pytest.mark.parametrize("chunks", [[b"a\n"], [b"a\nbc\n", b"d", b"ef\n"], [b"x\n" * 100]])
def test_each_message_and_byte_counts_once(app: Any, chunks: list[bytes]) -> None:
    """The counts are those of the bytes, whatever the form of the app, with requests and heartbeats between."""
    peer = Peer(app, heartbeat=b"alive", timeouts=Timeouts(heartbeat=5))
    for chunk in chunks:
        peer.says(chunk)
    peer.connection.send(b"more")
    peer.connection.request(b"tell me").addErrback(lambda _: None)
    peer.clock.pump([1.0] * 6)
    peer.connection.drain()
    peer.clock.pump([0] * 5)
    came, written = b"".join(chunks), b"".join(peer.transport.writes)
    assert counts(peer) == (came.count(b"\n"), len(came), written.count(b"\n"), len(written))
    assert b"alive\n" in written


def test_the_last_message_before_tls_counts() -> None:
    """`start_tls` sends one message in plain."""
    peer = Peer(echo, transport=NotedTransport(tls=True), timeouts=OFF)
    peer.connection.start_tls("context", last=b"go ahead")
    assert counts(peer) == (0, 0, 1, 9)


def test_skipped_messages_count_as_received() -> None:
    """Messages over the framing's ``max`` came, although no app got them."""
    peer = Peer(echo, "line:max=4:oversize=skip", timeouts=OFF)
    peer.says(b"one\nmuch too long\n")
    assert counts(peer) == (2, 18, 1, 4)


def test_messages_that_wait_when_the_connection_is_cut_do_not_count_as_sent() -> None:
    """After a cut, only the bytes count that the transport got before it."""
    peer = stalled(None, timeouts=OFF, limits=Limits(write_high=1000))
    peer.connection.send(b"x" * 5000).addErrback(lambda _: None)
    peer.connection.send(b"more").addErrback(lambda _: None)
    assert (counts(peer), peer.protocol.info().unsent) == ((0, 0, 0, 2000), 3006)
    peer.connection.abort()
    peer.resets()
    assert (counts(peer), peer.protocol.info().unsent) == ((0, 0, 0, 2000), 0)


def test_the_reply_of_an_app_that_cuts_the_connection_does_not_count_as_sent() -> None:
    """A reply after `abort()` does not count, because the transport would lose it."""
    peer = Peer(lambda message, connection: connection.abort() or b"never", timeouts=OFF)
    peer.says(b"now\n")
    peer.resets()
    assert (counts(peer), peer.transport.writes) == ((1, 4, 0, 0), [])


# What holds it back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeouts", [OFF, Timeouts(first_message=0, idle=0, handler_timeout=30)])
def test_a_reply_that_is_not_there_holds_it(timeouts: Timeouts) -> None:
    """The seconds count from the message, also without a ``handler_timeout``."""
    app = Switch()
    peer = Peer(app, timeouts=timeouts)
    peer.says(b"one\n")
    peer.clock.advance(3)
    peer.says(b"two\nthree\n")
    info = peer.protocol.info()
    assert (info.holds, info.unread) == ((Hold("awaiting-reply", 3.0),), 2)
    assert info.deadline == (None if timeouts is OFF else Wait("handler_timeout", 27.0))
    assert info.buffered == peer.factory.info().buffered > 0
    app.pending[0].callback(b"ONE")
    assert held(peer) == [("awaiting-reply", 0.0)]
    for place in (1, 2):
        app.pending[place].callback(None)
    assert held(peer) == []


def test_a_pause_holds_it() -> None:
    """The seconds count from the first `pause`, until `resume`."""
    peer = Peer(echo, timeouts=OFF)
    peer.connection.pause()
    peer.clock.advance(3)
    peer.connection.pause()
    peer.clock.advance(1)
    assert held(peer) == [("paused", 4.0)]
    peer.connection.resume()
    assert held(peer) == []
    peer.connection.pause()
    assert held(peer) == [("paused", 0.0)]


@pytest.mark.parametrize("timeouts", [OFF, Timeouts(first_message=0, idle=0, send_progress=30)])
def test_a_peer_that_takes_nothing_holds_it(timeouts: Timeouts) -> None:
    """The seconds count from the last bytes that it took."""
    peer = stalled(None, timeouts=timeouts, limits=Limits(write_high=1000))
    peer.connection.send(b"x" * 5000)
    peer.clock.advance(3)
    assert (held(peer), peer.protocol.info().unsent) == ([("write-blocked", 3.0)], 3001)
    assert peer.protocol.info().deadline == (None if timeouts is OFF else Wait("send_progress", 27.0))
    peer.transport.take()
    peer.clock.advance(2)
    assert held(peer) == [("write-blocked", 2.0)]
    peer.transport.go_on()
    assert (held(peer), peer.protocol.info().sent_messages) == ([], 1)


def test_a_turn_of_a_busy_app_holds_it() -> None:
    """Messages that take long are handled in turns, and the seconds count from the end of the last turn."""
    server = Server()
    transport = server.peer()
    protocol = protocol_of(transport.connection)
    transport.receive(costs(40, 100))
    [hold] = protocol.info().holds
    assert (hold.reason, protocol.info().pending > 0) == ("turn", True)
    server.clock.rightNow += 2
    [hold] = protocol.info().holds
    assert hold.seconds == pytest.approx(2, abs=0.01)
    server.turns()
    assert (protocol.info().holds, protocol.info().pending) == ((), 0)


def test_a_turn_of_messages_in_the_inbox_holds_it() -> None:
    """The time of a wait for a turn is noted, and is gone with the turn."""
    server = Server()
    transport = server.peer()
    protocol = protocol_of(transport.connection)
    transport.connection.pause()
    transport.receive(costs(10, 10_000))
    protocol._dispatcher.slow = True
    transport.connection.resume()
    server.clock.rightNow += 2
    [hold] = protocol.info().holds
    assert (hold.reason, hold.seconds) == ("turn", pytest.approx(2, abs=0.01))
    server.turns()
    assert protocol.info().holds == ()


def test_the_first_of_two_waits_for_a_turn_counts() -> None:
    """Messages in the inbox and messages of a later chunk can wait for turns at the same time."""
    server = Server()
    transport = server.peer()
    protocol = protocol_of(transport.connection)
    protocol._dispatcher._wait_for_turn()
    server.clock.rightNow += 2
    protocol._throttle._busy = True
    protocol.dataReceived(costs(3, 100))
    server.clock.rightNow += 1
    assert (protocol._throttle.waits_for_turn, protocol.info().holds) == (True, (Hold("turn", 3.0),))


def test_a_turn_of_a_conversation_holds_it() -> None:
    """A conversation that used the time of its turn gets the next message in a later turn."""

    @conversation
    async def slow(connection: Any) -> None:
        async for _ in connection:
            protocol_of(connection).clock.rightNow += 1

    peer = Peer(slow, transport=NotedTransport(clock=TurnClock()), timeouts=OFF)
    peer.says(b"1\n2\n3\n")
    peer.clock.rightNow += 2
    assert ("turn", 2.0) in held(peer)
    for _ in range(10):
        peer.clock.give_turn()  # type: ignore[attr-defined]
    assert held(peer) == []


def test_rates_hold_it() -> None:
    """More messages, or bytes, came than the rate allows: the seconds count from then."""
    peer = Peer(echo, timeouts=OFF, limits=Limits(message_rate=2))
    peer.says(b"x\n" * 8)
    peer.clock.advance(0.25)
    assert held(peer) == [("message-rate", 0.25)]
    assert peer.protocol.info().deadline == Wait("message_rate", 0.25)
    peer = Peer(echo, "int32", timeouts=OFF, limits=Limits(byte_rate=1000))
    peer.says(b"\0\0\x10\0" + b"x" * 996)
    peer.clock.advance(0.05)
    [(reason, seconds)] = held(peer)
    assert (reason, seconds) == ("byte-rate", 0.05)
    peer.clock.advance(10)
    assert held(peer) == []


def test_messages_that_a_rate_keeps_hold_it_after_a_half_close() -> None:
    """After a half-close, messages that wait for the rate are a hold, and that nothing is read is not."""
    peer = Peer(echo, timeouts=OFF, limits=Limits(message_rate=2))
    peer.says(b"x\n" * 8)
    peer.half_closes()
    peer.protocol.readConnectionLost()
    assert (peer.protocol.info().state, held(peer)) == ("input-closed", [("message-rate", 0.0)])


def test_a_full_inbox_holds_it() -> None:
    """Nothing is read while more than ``inbox_high`` bytes wait, beside what holds the app."""
    peer = Peer(never, timeouts=OFF, limits=Limits(inbox_high=200, inbox_low=100))
    peer.says(b"one\n")
    peer.clock.advance(1)
    peer.says(b"x" * 250 + b"\n")
    peer.clock.advance(2)
    assert held(peer) == [("awaiting-reply", 3.0), ("inbox-full", 2.0)]
    peer.half_closes()
    peer.protocol.readConnectionLost()
    assert held(peer) == [("awaiting-reply", 3.0)]


def test_short_memory_holds_it() -> None:
    """Nothing is read while all connections together hold too much, and the seconds count from that moment."""
    peer = Peer(None, timeouts=OFF)
    peer.protocol._buffered.pause_reading()
    peer.clock.advance(2)
    assert held(peer) == [("memory-pressure", 2.0)]
    assert peer.protocol._read_control.pauses == MEMORY_PRESSURE
    peer.protocol._buffered.resume_reading()
    assert held(peer) == []


def test_a_move_holds_it() -> None:
    """A connection that comes to a message boundary is not read from, until it is moved or goes on here."""
    peer = Peer(echo, timeouts=OFF)
    peer.protocol.pause_at_boundary()
    peer.slips_in(b"one\n")
    peer.clock.advance(2)
    assert (held(peer), peer.protocol.info().unread) == ([("moving", 2.0)], 1)
    peer.protocol.resume_from_boundary()
    assert (held(peer), peer.hears()) == ([], b"one\n")


@pytest.mark.parametrize("timeouts", [OFF, Timeouts(first_message=0, idle=0, tls_handshake=30)])
def test_starttls_holds_it(timeouts: Timeouts) -> None:
    """The app gets no message until TLS is set up."""
    peer = Peer(echo, transport=NotedTransport(tls=True), timeouts=timeouts)
    peer.connection.start_tls("context")
    peer.clock.advance(2)
    assert held(peer) == [("tls-handshake", 2.0)]
    assert peer.protocol.info().deadline == (None if timeouts is OFF else Wait("tls_handshake", 28.0))
    peer.protocol.handshakeCompleted()
    assert held(peer) == []


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")
def test_a_handshake_holds_it(tls_certificates: Any) -> None:
    """A connection in its TLS handshake is opening, and a step of the handshake can wait for its turn."""
    clock = TurnClock()
    factory = MessageServerFactory(echo, telemetry=Telemetry())
    server: Any = factory.buildProtocol(None)
    client: Any = MessageClientFactory(telemetry=Telemetry()).buildProtocol(None)
    contexts = tls_certificates.server_options(), tls_certificates.client_options("localhost")
    Wire(server, client, clock=clock, tls=contexts, latency=1.0)
    clock.rightNow += 0.5
    assert (server.info().state, server.info().age) == ("opening", 0.0)
    assert server.info().holds == (Hold("tls-handshake", 0.5),)
    factory.settings.step_scheduler.note_step(clock)
    server._handshake.receive(b"\x16")
    assert [each.reason for each in server.info().holds] == ["tls-handshake", "handshake-turn"]
    for each in (server, client):
        each.connection.abort()
    clock.pump([1.0] * 3)
    assert (server.info().state, server.info().age) == ("closed", 0.0)


def test_a_flush_holds_its_end() -> None:
    """While a connection closes, the seconds count from the moment when it began to flush."""
    peer = stalled(None, timeouts=OFF, limits=Limits(write_high=1000))
    peer.connection.send(b"x" * 5000)
    peer.clock.advance(3)
    peer.connection.close(grace=10)
    peer.clock.advance(2)
    info = peer.protocol.info()
    assert (info.state, info.holds, info.deadline) == ("closing", (Hold("flush", 2.0),), Wait("ending", 8.0))
    peer.transport.take(4500)
    assert held(peer) == [("flush", 2.0)]
    peer.connection.abort()
    assert held(peer) == []


def test_an_app_that_closes_is_held_by_nothing() -> None:
    """While the app is being called, nothing is flushed yet."""
    seen: list[Any] = []

    def app(message: bytes, connection: Any) -> None:
        connection.close()
        seen.append(protocol_of(connection).info())

    peer = Peer(app, timeouts=OFF)
    peer.says(b"one\n")
    assert [(each.state, each.holds) for each in seen] == [("closing", ())]


def test_several_reasons_can_hold_it() -> None:
    """All are in the list: first those for which messages are not handed on, then those for which nothing is read."""
    peer = stalled(
        lambda message, _: message * 10 if message != b"wait" else Deferred(),
        timeouts=OFF,
        limits=Limits(write_high=1000, inbox_high=300, inbox_low=100),
    )
    peer.says(b"x" * 200 + b"\nwait\n")
    peer.connection.pause()
    peer.says(b"y\n" * 5)
    peer.protocol._buffered.pause_reading()
    assert [reason for reason, _ in held(peer)] == ["paused", "write-blocked", "inbox-full", "memory-pressure"]
