"""Messages that wait in the inbox, and skipped messages, count in a turn as well."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tcpapp import Limits, Timeouts, batch, conversation
from tcpapp.limits import Policies
from tcpapp.telemetry import Closed, MessagesSkipped
from tests.connection.costly import Costly, Server, costs, paused
from tests.peers import NotedTransport, TurnClock, outcome

# Messages that wait in the inbox --------------------------------------------------------------------------------------


class Waiting(Costly):
    """An app that answers its first message later, and the others as `Costly` does."""

    def __init__(self, clock: TurnClock) -> None:
        super().__init__(clock)
        self.first: Deferred[bytes] | None = None

    def received(self, message: bytes, connection: Any) -> Any:
        if self.first is None:
            self.first = Deferred()
            return self.first
        return super().received(message, connection)


def test_messages_that_waited_for_the_app_have_their_turns_too() -> None:
    """Messages that waited behind an answer are handled for a turn's time, and then other connections have a turn."""
    server = Server(Waiting)
    peer = server.peer()
    peer.receive(costs(1, 1) + costs(10, 1000))
    server.app.first.callback(b"first")
    assert server.answered(peer) == [2]
    for count in range(3, 12):
        server.clock.give_turn()
        assert server.answered(peer) == [count]
    assert server.turns() <= 1
    assert server.answered(peer) == [11]


def test_a_connection_that_ends_leaves_no_message_that_waits_for_its_turn() -> None:
    """If a connection ends while messages wait for a turn, no timer and no counted byte is left."""
    server = Server(Waiting)
    peer = server.peer()
    peer.receive(costs(1, 1) + costs(10, 1000))
    server.app.first.callback(b"first")
    peer.lose()
    assert server.clock.getDelayedCalls() == []
    assert (server.answered(peer), server.factory.info().buffered) == ([2], 0)


def test_a_batch_takes_all_waiting_messages_at_once() -> None:
    """A batch is one call for all messages, and the time of the call counts for the next messages."""

    def app(clock: TurnClock) -> Any:
        @batch
        def all_of_them(messages: list[bytes], connection: Any) -> list[bytes]:
            clock.rightNow += sum(map(int, messages)) / 1e6
            return messages

        return all_of_them

    server = Server(app)
    peer = server.peer()
    peer.receive(costs(10, 1000))
    assert server.answered(peer) == [10]
    peer.receive(costs(3, 1000))
    assert server.answered(peer) == [10]
    server.turns()
    assert server.answered(peer) == [13]


# Conversations --------------------------------------------------------------------------------------------------------


def talking(clock: TurnClock) -> Any:
    """Return a conversation that waits for its gate, and then takes as many microseconds as each message says."""
    gate: Deferred[None] = Deferred()

    @conversation
    async def talk(connection: Any) -> None:
        await gate
        async for message in connection:
            clock.rightNow += int(message) / 1e6
            await connection.send(message)

    talk.gate = gate  # type: ignore[attr-defined]
    return talk


def test_a_conversation_that_finds_messages_waiting_takes_turns() -> None:
    """A conversation gets a turn's time of messages before others have a turn. None is lost or reordered."""
    server = Server(talking)
    peer, other = server.peer(), server.peer()
    peer.receive(b"".join(b"%d\n" % (1000 + number) for number in range(5)))
    server.clock.rightNow += 1
    server.app.gate.callback(None)
    heard = [server.answered(peer)[0]]
    while server.clock.getDelayedCalls():
        server.clock.give_turn()
        heard.append(server.answered(peer)[0])
    assert heard == [0, 1, 2, 3, 4, 5]
    assert peer.value() == b"1000\n1001\n1002\n1003\n1004\n"
    other.receive(costs(1, 1))
    assert server.answered(other) == [1]


def test_a_conversation_that_waits_for_its_turn_gets_all_messages_at_the_end() -> None:
    """At the end the messages come at once, because there is no later turn. Then the conversation learns of the end."""
    server = Server(talking)
    peer = server.peer()
    peer.receive(costs(3, 1000))
    server.clock.rightNow += 1
    server.app.gate.callback(None)
    assert server.answered(peer) == [0]
    peer.lose()
    assert server.clock.getDelayedCalls() == []
    [closed] = [each for each in server.events if isinstance(each, Closed)]
    assert (closed.reason.rule, closed.unhandled) == ("end-of-stream", 0)


def test_a_receive_that_is_cancelled_while_it_waits_for_its_turn_takes_nothing() -> None:
    """If a receive is cancelled while it waits for its turn, the next receive gets its message."""
    clock, taken = TurnClock(), []

    @conversation
    async def talk(connection: Any) -> None:
        await gate
        cancelled, other = connection.receive(), connection.receive()
        told = outcome(cancelled)
        cancelled.cancel()
        cancelled.cancel()
        taken.append(await other)
        taken.append(len(told))

    gate: Deferred[None] = Deferred()
    server = Server(lambda clock: talk)
    peer = server.peer()
    peer.receive(b"1\n2\n")
    server.clock.rightNow += 1
    gate.callback(None)
    assert taken == []
    server.clock.give_turn()
    assert taken == [b"1", 1]
    assert clock.getDelayedCalls() == []


# Messages that waited in the inbox of a paused app --------------------------------------------------------------------


class Held(Costly):
    """A costly app that replies with more than the write mark, or later."""

    def __init__(self, clock: TurnClock, *, later: bool) -> None:
        super().__init__(clock)
        self.later = later
        self.answers: list[Deferred[None]] = []

    def received(self, message: bytes, connection: Any) -> Any:
        super().received(message, connection)
        if not self.later:
            return b"x" * 300_000
        self.answers.append(Deferred())
        return self.answers[-1]


def held(count: int, cost: int, *, later: bool) -> tuple[Server, list[NotedTransport]]:
    """
    Return a server whose app is paused for each of this many peers, and the peers, which have sent one more message.
    """
    timeouts = Timeouts(first_message=0, idle=0, message_timeout=0, handler_timeout=0, send_progress=0)
    server = Server(lambda clock: Held(clock, later=later), timeouts=timeouts)
    peers = [server.peer(peer_reads=False) for _ in range(count)]
    for each in peers:
        each.receive(b"%d\n" % cost)
    for each in peers:
        each.receive(b"%d\n" % cost)
    server.turns()
    assert (len(server.app.messages), [each.connection.unread for each in peers]) == (count, [1] * count)
    return server, peers


def taken(server: Server) -> list[int]:
    """Return how many messages the app gets in each of the next turns."""
    found: list[int] = []
    while server.clock.getDelayedCalls() and len(found) < 100:
        before = len(server.app.messages)
        server.clock.give_turn()
        found.append(len(server.app.messages) - before)
    return found


@pytest.mark.parametrize("later", [False, True])
def test_costly_messages_that_waited_in_inboxes_take_turns(later: bool) -> None:
    """If all peers read at once, or all answers come at once, each turn still handles one costly message."""
    server, peers = held(3, 10_000, later=later)
    for each in peers:
        while each.unsent:
            each.take()
    for answer in getattr(server.app, "answers", ()):
        answer.callback(None)
    assert len(server.app.messages) == 3
    assert [each for each in taken(server) if each] == [1, 1, 1]


def test_a_paused_connection_waits_for_another_turn() -> None:
    """A costly connection that is paused in its turn waits for another turn after `resume()`."""
    server, (peer,) = held(1, 10_000, later=True)
    server.app.answers[0].callback(None)
    peer.connection.pause()
    assert taken(server) == [0]
    peer.connection.resume()
    assert len(server.app.messages) == 1
    assert taken(server) == [1]


def test_messages_that_take_little_wait_for_no_turn() -> None:
    """Cheap messages are handed on at once, also on a connection whose earlier messages were costly."""
    server, (peer,) = held(1, 10, later=True)
    server.app.answers[0].callback(None)
    assert (len(server.app.messages), taken(server)) == (2, [])
    peer.receive(b"10000\n10\n10\n")
    server.turns()
    server.app.answers[1].callback(None)
    server.app.answers[2].callback(None)
    assert taken(server) == [1]
    server.app.answers[3].callback(None)
    assert len(server.app.messages) == 5


# Skipped messages -----------------------------------------------------------------------------------------------------


class Reading(NotedTransport):
    """A transport that reads up to a number of bytes at once, like Twisted's sockets."""

    bufferSize = 65536


def skipping(**options: Any) -> tuple[Server, Reading]:
    server = Server(framing="line:max=2:oversize=skip", **options)
    transport = Reading(clock=server.clock)
    transport.connect(server.factory.buildProtocol(None))
    return server, transport


def test_skipped_messages_count_for_the_size_of_reads() -> None:
    """A flood of skipped messages is read in small pieces, as any flood. After the flood, reads are large again."""
    server, peer = skipping()
    peer.receive(b"abc\n" * 15_000)
    assert peer.bufferSize == 1024
    peer.receive(b"1\n")
    assert (peer.bufferSize, server.answered(peer)) == (65536, [1])
    assert server.factory.info().messages == 15_001
    [skipped] = [each for each in server.events if isinstance(each, MessagesSkipped)]
    assert skipped.count == 15_000


def test_skipped_messages_count_for_the_rate() -> None:
    """Reading pauses until the rate allows the skipped messages, and other messages of their chunk wait, too."""
    server, peer = skipping(limits=Limits(message_rate=10))
    peer.receive(b"abc\n" * 25)
    assert paused(peer)
    server.clock.advance(1.5)
    assert paused(peer)
    server.clock.advance(0.2)
    assert not paused(peer)
    server.clock.advance(10)
    peer.receive(b"abc\n" * 15 + b"1\n")
    assert (server.answered(peer), paused(peer)) == ([0], True)
    server.clock.advance(0.7)
    assert (server.answered(peer), paused(peer)) == ([1], False)


@pytest.mark.parametrize(("policy", "aborted"), [("refuse", False), ("reset", True)])
def test_a_peer_that_sends_too_many_skipped_messages_can_be_closed(policy: str, aborted: bool) -> None:
    """A peer that sends skipped messages over its rate is closed or cut, as any peer over its rate."""
    server, peer = skipping(limits=Limits(message_rate=10), policies=Policies(over_rate=policy))
    peer.receive(b"abc\n" * 25)
    assert (peer.disconnecting, peer.aborted) == (True, aborted)
    peer.turn()
    peer.lose()
    [closed] = [each for each in server.events if isinstance(each, Closed)]
    assert closed.reason.rule == "message-rate"
