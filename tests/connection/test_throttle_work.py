"""The time of one connection's messages in a turn of the loop, and the waits it causes, by a clock that apps move."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tcpapp import Limits, MessageServerFactory, Telemetry, Timeouts, batch, conversation
from tcpapp.connection.throttle import FIRST, SMALL
from tcpapp.limits import Policies
from tcpapp.limits.fairness import READERS
from tcpapp.telemetry import Closed, MessagesSkipped
from tests.peers import NotedTransport, TurnClock, outcome

QUIET = Timeouts(first_message=0, idle=0, frame=0, answer=0)
BUDGET = 250e-6


class Costly:
    """An app whose messages take the microseconds in their text."""

    def __init__(self, clock: TurnClock) -> None:
        self.clock = clock
        self.messages: list[bytes] = []

    def received(self, message: bytes, connection: Any) -> bytes:
        self.clock.rightNow += int(message) / 1e6
        self.messages.append(message)
        return message


class Server:
    """A server with an app whose messages take time, and peers of it."""

    def __init__(self, app: Any = None, framing: str = "line", **options: Any) -> None:
        self.clock = TurnClock()
        self.app = Costly(self.clock) if app is None else app(self.clock)
        self.events: list[Any] = []
        options = {"timeouts": QUIET, "telemetry": Telemetry(self.events.append), **options}
        self.factory = MessageServerFactory(self.app, framing, **options)

    def peer(self, **options: Any) -> NotedTransport:
        transport = NotedTransport(clock=self.clock, **options)
        transport.connect(self.factory.buildProtocol(None))
        return transport

    def answered(self, *peers: NotedTransport) -> list[int]:
        """How many lines each peer has received."""
        return [each.value().count(b"\n") for each in peers]

    def turns(self, most: int = 1000) -> int:
        """Turns of the loop until there is nothing left to do."""
        for count in range(most):
            if not self.clock.getDelayedCalls():
                return count
            self.clock.give_turn()
        raise AssertionError


def costs(count: int, each: int) -> bytes:
    return b"%d\n" % each * count


def large(each: int) -> bytes:
    """A message that takes this many microseconds, and is longer than messages that count as cheap."""
    return b"%*d\n" % (SMALL + 1, each)


def paused(peer: NotedTransport) -> bool:
    return peer.producerState == "paused"


# One that takes long --------------------------------------------------------------------------------------------------


def test_one_that_takes_long_waits_for_its_turn() -> None:
    """After its first chunk, of unknown cost; nothing is read before all that has come is handled."""
    server = Server()
    peer = server.peer()
    peer.receive(costs(3, 1000))
    assert (server.answered(peer), paused(peer)) == ([3], False)
    peer.receive(costs(3, 1000))
    assert (server.answered(peer), paused(peer)) == ([3], True)
    for count in (4, 5, 6):
        server.clock.give_turn()
        assert server.answered(peer) == [count]
    assert not paused(peer)


def test_the_first_chunk_is_measured_by_few_messages() -> None:
    """A new connection with a thousand messages at once delays nobody for longer than those few."""
    server = Server()
    peer = server.peer()
    peer.receive(costs(1000, 1000))
    assert server.answered(peer) == [FIRST]
    assert server.turns() >= 1000 - FIRST
    assert server.answered(peer) == [1000]


def test_one_whose_messages_are_quick_is_answered_at_once_in_one_write() -> None:
    """However many come: after the measured messages, as many are handled as the time allows."""
    server = Server()
    peer = server.peer()
    for _ in range(3):
        peer.writes.clear()
        peer.receive(costs(200, 1))
        assert (len(peer.writes), paused(peer)) == (1, False)
    assert server.answered(peer) == [600]


def test_a_turn_lasts_as_long_as_the_budget() -> None:
    """Of messages that take 100 microseconds each, two: a third one would go over it."""
    server = Server()
    peer = server.peer()
    peer.receive(costs(3, 100))
    peer.receive(costs(9, 100))
    heard = [server.answered(peer)[0]]
    while server.clock.getDelayedCalls():
        server.clock.give_turn()
        heard.append(server.answered(peer)[0])
    assert heard == [3, 5, 7, 9, 11, 12]


def test_it_is_quick_again_when_its_messages_are() -> None:
    """Once a chunk took less than a turn's time, the next one is handled as it comes."""
    server = Server()
    peer = server.peer()
    peer.receive(costs(1, 1000))
    peer.receive(costs(1, 1))
    assert server.answered(peer) == [1]
    server.clock.give_turn()
    peer.receive(costs(4, 1))
    assert server.answered(peer) == [6]


def test_one_moment_that_took_long_is_soon_forgotten() -> None:
    """The machine may have been busy: cheap messages are measured again, and handled together."""
    server = Server()
    peer = server.peer()
    peer.receive(costs(1, 10_000))
    peer.receive(costs(200, 1))
    server.clock.give_turn()
    assert server.answered(peer) == [201]


# And the others -------------------------------------------------------------------------------------------------------


def test_of_those_that_take_long_one_has_its_turn_at_a_time() -> None:
    """Twenty of them delay nobody for longer than one of them does."""
    server = Server()
    busy = [server.peer() for _ in range(20)]
    for each in busy:
        each.receive(costs(1, 1000))
    server.turns()
    for each in busy:
        each.receive(costs(3, 1000))
    quick = server.peer()
    quick.receive(costs(1, 1))
    for turn in range(1, 61):
        before = server.clock.seconds()
        server.clock.give_turn()
        assert server.clock.seconds() - before < 1.1e-3
        quick.receive(costs(1, 1))
        assert server.answered(quick) == [turn + 1]
    assert server.answered(*busy) == [4] * 20


def test_of_new_ones_that_say_little_one_more_is_measured_at_once() -> None:
    """If two took long, the others have a turn each; they do not wait for connections known to be busy."""
    server = Server()
    busy = [server.peer() for _ in range(20)]
    for each in busy:
        each.receive(costs(1, 1000))
    assert server.answered(*busy) == [1] * 2 + [0] * 18
    for count in range(3, 21):
        server.clock.give_turn()
        assert sum(server.answered(*busy)) == count
    server.turns()
    for each in busy:
        each.receive(costs(5, 1000))
    server.clock.give_turn()
    newcomers = [server.peer() for _ in range(3)]
    for each in newcomers:
        each.receive(costs(1, 1))
    assert server.answered(*newcomers) == [1, 1, 1]


def test_of_new_ones_that_say_much_one_is_measured_in_a_turn() -> None:
    """New connections and busy ones have their turns alternately."""
    server = Server()
    busy, new = server.peer(), [server.peer() for _ in range(3)]
    busy.receive(costs(1, 1000))
    busy.receive(costs(6, 1000))
    for each in new:
        each.receive(large(1000))
    heard = []
    for _ in range(6):
        server.clock.give_turn()
        heard.append(server.answered(busy, *new))
    assert heard == [
        [1, 1, 0, 0],
        [2, 1, 0, 0],
        [2, 1, 1, 0],
        [3, 1, 1, 0],
        [3, 1, 1, 1],
        [4, 1, 1, 1],
    ]


def test_of_several_large_messages_of_a_new_one_one_is_measured() -> None:
    """The time of small ones says nothing of them."""
    server = Server()
    peer = server.peer()
    peer.receive(large(1000) * 2)
    assert server.answered(peer) == [1]


def test_messages_larger_than_any_before_wait_where_others_took_long() -> None:
    """Messages of a length that is known to be cheap do not."""
    server = Server()
    busy, grows = server.peer(), server.peer()
    grows.receive(costs(1, 1))
    busy.receive(costs(1, 1000))
    grows.receive(large(1) + costs(1, 1))
    assert (server.answered(grows), paused(grows)) == ([1], True)
    server.turns()
    assert (server.answered(grows), paused(grows)) == ([3], False)
    busy.receive(costs(1, 1000))
    grows.receive(large(1))
    assert server.answered(grows) == [4]


def test_small_messages_wait_where_two_took_long() -> None:
    """For a turn that all of them share, before another one that takes long."""
    server = Server()
    known, busy = [server.peer() for _ in range(3)], [server.peer() for _ in range(2)]
    for each in known:
        each.receive(costs(1, 1))
    for each in busy:
        each.receive(costs(1, 1000))
    for each in busy:
        each.receive(costs(2, 1000))
    for each in known:
        each.receive(costs(1, 1))
    assert server.answered(*known, *busy) == [1, 1, 1, 1, 1]
    server.clock.give_turn()
    assert server.answered(*known, *busy) == [2, 2, 2, 1, 1]
    for each in known:
        each.receive(costs(1, 1))
    server.clock.give_turn()
    assert server.answered(*known, *busy) == [3, 3, 3, 2, 1]


def test_busy_ones_are_read_from_in_turns() -> None:
    """A chunk takes time, too, if it holds no whole message; as long as nobody else waits, the next is read at once."""
    server = Server()
    busy = [server.peer() for _ in range(10)]
    for each in busy:
        each.receive(costs(1, 1000))
        server.turns()
    busy[0].receive(b" ")
    assert not paused(busy[0])
    busy[0].receive(costs(5, 1000))
    for each in busy[1:]:
        each.receive(b" ")
    assert [paused(each) for each in busy] == [True] * 10
    server.clock.give_turn()
    assert [paused(each) for each in busy] == [True] + [False] * READERS + [True] * (9 - READERS)
    busy[1].receive(b" ")
    server.clock.give_turn()
    assert [paused(each) for each in busy] == [True] * 2 + [False] * (2 * READERS - 1) + [True] * (10 - 2 * READERS - 1)
    assert server.answered(busy[0]) == [3]
    busy[-1].lose()
    server.turns()
    assert [paused(each) for each in busy[:-1]] == [False] * 9


def test_fan_out_counts_for_whoever_brings_it_about() -> None:
    """The work for one message counts: in a room, each member's copy is sent in turn."""
    room: list[Any] = []

    class Member:
        def __init__(self, clock: TurnClock) -> None:
            self.clock = clock

        def opened(self, connection: Any) -> None:
            room.append(connection)

        def received(self, message: bytes, connection: Any) -> None:
            for each in room:
                self.clock.rightNow += 5e-6
                each.send(message)

    server = Server(Member)
    members = [server.peer() for _ in range(300)]
    flooder = members[0]
    flooder.receive(b"x\n")
    flooder.receive(b"x\n" * 100)
    heard = server.answered(members[-1])[0]
    for _ in range(10):
        server.clock.give_turn()
        more = server.answered(members[-1])[0]
        assert more - heard == 1
        heard = more


def test_without_a_budget_there_is_none() -> None:
    """0 is no limit; the number of messages has its own."""
    server = Server(limits=Limits(work_per_turn=0))
    peer = server.peer()
    for _ in range(2):
        peer.receive(costs(100, 1000))
        assert not paused(peer)
    assert server.answered(peer) == [200]


def test_without_a_budget_one_has_its_turn_however_much_it_has() -> None:
    """Only the number of messages bounds a turn then."""
    server = Server(limits=Limits(work_per_turn=0, messages_per_turn=2))
    peers = [server.peer() for _ in range(3)]
    for each in peers:
        each.receive(large(1) * 4)
    heard = [sum(server.answered(*peers))]
    while server.clock.getDelayedCalls():
        server.clock.give_turn()
        heard.append(sum(server.answered(*peers)))
    assert heard == [2, 4, 6, 8, 10, 12]


def test_one_that_ends_while_it_waits_for_its_turn_has_none() -> None:
    """It leaves no timer; its messages get one turn's time, and the rest is counted."""
    server = Server()
    peer, other = server.peer(), server.peer()
    for each in (peer, other):
        each.receive(costs(1, 1000))
    for each in (peer, other):
        each.receive(costs(2, 1000))
    peer.lose()
    assert [(each.reason.rule, each.unhandled) for each in server.events if isinstance(each, Closed)] == [
        ("end-of-stream", 1)
    ]
    server.turns()
    assert (len(server.app.messages), server.answered(other)) == (2 + 1 + 2, [3])
    assert server.factory.info().buffered == 0


def test_a_last_word_is_not_lost_where_its_turn_does_not_come() -> None:
    """Over TLS a peer that sends and closes is gone at once: its messages are handled before the end is reported."""
    server = Server()
    peer = server.peer()
    peer.receive(costs(1, 1000))
    peer.receive(costs(5, 1))
    peer.lose()
    assert len(server.app.messages) == 6
    [closed] = [each for each in server.events if isinstance(each, Closed)]
    assert (closed.reason.rule, closed.unhandled) == ("end-of-stream", 0)


def test_a_last_word_can_be_received_after_the_end() -> None:
    """A caller that takes messages finds all that came, however many, and whatever the last ones took."""
    server = Server(lambda clock: None)
    peer = server.peer()
    connection: Any = peer.connection
    connection.receive().addCallback(lambda _: setattr(server.clock, "rightNow", 1.0))
    peer.receive(b"costly\n")
    peer.receive(b"one\ntwo\n")
    peer.lose()
    assert [outcome(connection.receive()) for _ in range(2)] == [[b"one"], [b"two"]]


# What waits in the inbox ----------------------------------------------------------------------------------------------


class Waiting(Costly):
    """The first message is answered later; the others as `Costly` does."""

    def __init__(self, clock: TurnClock) -> None:
        super().__init__(clock)
        self.first: Deferred[bytes] | None = None

    def received(self, message: bytes, connection: Any) -> Any:
        if self.first is None:
            self.first = Deferred()
            return self.first
        return super().received(message, connection)


def test_messages_that_waited_for_the_app_have_their_turns_too() -> None:
    """Messages that have piled up behind an answer are handled for a turn's time, and then others have theirs."""
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


def test_one_that_ends_with_messages_that_wait_for_their_turn_leaves_none() -> None:
    """Neither timer nor byte."""
    server = Server(Waiting)
    peer = server.peer()
    peer.receive(costs(1, 1) + costs(10, 1000))
    server.app.first.callback(b"first")
    peer.lose()
    assert server.clock.getDelayedCalls() == []
    assert (server.answered(peer), server.factory.info().buffered) == ([2], 0)


def test_a_batch_takes_what_waits_at_once() -> None:
    """Its app is called once for all; the time of that counts for the next ones."""

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
    """A conversation that first waits for something else, and then takes as long for a message as its text says."""
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
    """It gets at most a turn's time of them before others have theirs; none is lost or reordered."""
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


def test_a_conversation_that_waits_for_its_turn_is_given_what_came_before_the_end() -> None:
    """At once, because there is no later turn; then it learns of the end."""
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
    """The next one gets its message."""
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


# What waited in the inbox ---------------------------------------------------------------------------------------------


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
    """A server whose app is paused for each of this many peers, with a message of theirs behind the first."""
    timeouts = Timeouts(first_message=0, idle=0, frame=0, answer=0, send_progress=0)
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
    """How many messages the app gets in each of the next turns."""
    found: list[int] = []
    while server.clock.getDelayedCalls() and len(found) < 100:
        before = len(server.app.messages)
        server.clock.give_turn()
        found.append(len(server.app.messages) - before)
    return found


@pytest.mark.parametrize("later", [False, True])
def test_costly_messages_that_waited_in_inboxes_take_turns(later: bool) -> None:
    """Though all peers read at one moment, or the app answers all of them: others are served in between."""
    server, peers = held(3, 10_000, later=later)
    for each in peers:
        while each.unsent:
            each.take()
    for answer in getattr(server.app, "answers", ()):
        answer.callback(None)
    assert len(server.app.messages) == 3
    assert [each for each in taken(server) if each] == [1, 1, 1]


def test_one_that_is_held_back_when_its_turn_comes_waits_for_another() -> None:
    """It is as costly as before."""
    server, (peer,) = held(1, 10_000, later=True)
    server.app.answers[0].callback(None)
    peer.connection.pause()
    assert taken(server) == [0]
    peer.connection.resume()
    assert len(server.app.messages) == 1
    assert taken(server) == [1]


def test_messages_that_take_little_wait_for_no_turn() -> None:
    """They are handed on at once; and so are those of one that was costly before, when the last one was not."""
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


# Messages that are left out -------------------------------------------------------------------------------------------


class Reading(NotedTransport):
    """A transport that reads up to a number of bytes at once, like Twisted's sockets."""

    bufferSize = 65536


def skipping(**options: Any) -> tuple[Server, Reading]:
    server = Server(framing="line:max=2:oversize=skip", **options)
    transport = Reading(clock=server.clock)
    transport.connect(server.factory.buildProtocol(None))
    return server, transport


def test_messages_left_out_count_for_the_size_of_reads() -> None:
    """A flood of them is read in small pieces, as any flood; once there are few, as before."""
    server, peer = skipping()
    peer.receive(b"abc\n" * 15_000)
    assert peer.bufferSize == 1024
    peer.receive(b"1\n")
    assert (peer.bufferSize, server.answered(peer)) == (65536, [1])
    assert server.factory.info().messages == 15_001
    [skipped] = [each for each in server.events if isinstance(each, MessagesSkipped)]
    assert skipped.count == 15_000


def test_messages_left_out_count_for_the_rate() -> None:
    """Nothing more is read until as many are allowed, and messages that came with them wait for it."""
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
def test_one_that_sends_too_many_that_are_left_out_can_be_closed(policy: str, aborted: bool) -> None:
    """As any connection over its rate."""
    server, peer = skipping(limits=Limits(message_rate=10), policies=Policies(too_fast=policy))
    peer.receive(b"abc\n" * 25)
    assert (peer.disconnecting, peer.aborted) == (True, aborted)
    peer.turn()
    peer.lose()
    [closed] = [each for each in server.events if isinstance(each, Closed)]
    assert closed.reason.rule == "message-rate"
