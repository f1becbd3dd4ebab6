"""The time of a connection's messages in a turn, and the waits that it causes, by a clock that apps move."""

from __future__ import annotations

from typing import Any

from tcpapp import Limits
from tcpapp.connection.throttle import FIRST_MESSAGES
from tcpapp.framing import Lines
from tcpapp.limits.fairness import READERS_PER_TURN
from tcpapp.telemetry import Closed
from tests.connection.costly import Server, costs, large, paused
from tests.peers import TurnClock, outcome

# A slow connection ----------------------------------------------------------------------------------------------------


def test_a_slow_connection_waits_for_its_turn() -> None:
    """After its first chunk, of unknown cost, a slow connection handles one message a turn, and reads no more."""
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
    """Of a thousand messages of a new connection only a few are handled at once, so that others do not wait long."""
    server = Server()
    peer = server.peer()
    peer.receive(costs(1000, 1000))
    assert server.answered(peer) == [FIRST_MESSAGES]
    assert server.turns() >= 1000 - FIRST_MESSAGES
    assert server.answered(peer) == [1000]


def test_quick_messages_are_answered_at_once_in_one_write() -> None:
    """However many quick messages come, they are handled at once, and their replies are one write."""
    server = Server()
    peer = server.peer()
    for _ in range(3):
        peer.writes.clear()
        peer.receive(costs(200, 1))
        assert (len(peer.writes), paused(peer)) == (1, False)
    assert server.answered(peer) == [600]


def test_a_turn_lasts_as_long_as_the_budget() -> None:
    """Two messages of 100 microseconds fit into a turn. A third one would exceed the budget."""
    server = Server()
    peer = server.peer()
    peer.receive(costs(3, 100))
    peer.receive(costs(9, 100))
    heard = [server.answered(peer)[0]]
    while server.clock.getDelayedCalls():
        server.clock.give_turn()
        heard.append(server.answered(peer)[0])
    assert heard == [3, 5, 7, 9, 11, 12]


def test_a_connection_is_quick_again_when_its_messages_are() -> None:
    """After a chunk that took less than a turn's time, the next chunk is handled as it comes."""
    server = Server()
    peer = server.peer()
    peer.receive(costs(1, 1000))
    peer.receive(costs(1, 1))
    assert server.answered(peer) == [1]
    server.clock.give_turn()
    peer.receive(costs(4, 1))
    assert server.answered(peer) == [6]


def test_a_chunk_that_is_slow_to_cut_makes_later_messages_wait() -> None:
    """A chunk without a whole message can take long, too: the next messages wait for their turn."""

    class Slow(Lines):
        def receive(self, data: bytes) -> list[Any]:
            server.clock.rightNow += 1e-3
            return super().receive(data)

    server = Server(framing=Slow())
    peer = server.peer()
    peer.receive(b"000")
    peer.receive(b"1\n1\n")
    assert (server.answered(peer), paused(peer)) == ([0], True)
    server.turns()
    assert server.answered(peer) == [2]


def test_one_slow_message_is_soon_forgotten() -> None:
    """One slow message can be due to a busy machine: cheap messages are measured again, and handled together."""
    server = Server()
    peer = server.peer()
    peer.receive(costs(1, 10_000))
    peer.receive(costs(200, 1))
    server.clock.give_turn()
    assert server.answered(peer) == [201]


# Several connections --------------------------------------------------------------------------------------------------


def test_slow_connections_have_their_turns_one_at_a_time() -> None:
    """Twenty slow connections do not delay the others for longer than one slow connection does."""
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


def test_new_connections_with_small_messages_do_not_wait_for_busy_ones() -> None:
    """After two slow new connections, each other new one has a turn. New ones do not wait for known busy ones."""
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


def test_new_connections_with_large_messages_alternate_with_busy_ones() -> None:
    """New connections with large messages, and busy connections, have their turns alternately."""
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


def test_one_large_message_of_a_new_connection_is_measured() -> None:
    """Of several large messages only one is handled at first, because their cost is unknown."""
    server = Server()
    peer = server.peer()
    peer.receive(large(1000) * 2)
    assert server.answered(peer) == [1]


def test_messages_larger_than_any_before_wait_where_others_took_long() -> None:
    """After others took long, a message of a new size waits. A message of a size that is known to be cheap does not."""
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
    """After two slow connections, small messages of all others share one turn, before the next slow one."""
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


def test_busy_connections_are_read_from_in_turns() -> None:
    """
    Busy connections read in turns, because even a part of a message takes time.

    If no other waits, one reads at once.
    """
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
    assert [paused(each) for each in busy] == [True] + [False] * READERS_PER_TURN + [True] * (9 - READERS_PER_TURN)
    busy[1].receive(b" ")
    server.clock.give_turn()
    assert [paused(each) for each in busy] == [True] * 2 + [False] * (2 * READERS_PER_TURN - 1) + [True] * (
        10 - 2 * READERS_PER_TURN - 1
    )
    assert server.answered(busy[0]) == [3]
    busy[-1].lose()
    server.turns()
    assert [paused(each) for each in busy[:-1]] == [False] * 9


def test_fan_out_counts_for_its_sender() -> None:
    """The copies of one message for all members of a room count as the work of its sender."""
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


def test_without_a_budget_the_time_of_messages_does_not_count() -> None:
    """With `work_per_turn=0` a turn has no time limit. The number of messages has a limit of its own."""
    server = Server(limits=Limits(work_per_turn=0))
    peer = server.peer()
    for _ in range(2):
        peer.receive(costs(100, 1000))
        assert not paused(peer)
    assert server.answered(peer) == [200]


def test_without_a_budget_only_the_number_of_messages_bounds_a_turn() -> None:
    """With `work_per_turn=0`, one connection has its share in a turn, whatever the size of its messages."""
    server = Server(limits=Limits(work_per_turn=0, messages_per_turn=2))
    peers = [server.peer() for _ in range(3)]
    for each in peers:
        each.receive(large(1) * 4)
    heard = [sum(server.answered(*peers))]
    while server.clock.getDelayedCalls():
        server.clock.give_turn()
        heard.append(sum(server.answered(*peers)))
    assert heard == [2, 4, 6, 8, 10, 12]


def test_a_connection_that_ends_while_it_waits_for_its_turn_has_none() -> None:
    """
    If a connection ends while it waits, its messages get one turn's time.

    The rest is counted, and no timer is left.
    """
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


def test_last_messages_are_handled_before_the_end_is_reported() -> None:
    """Over TLS a peer can send and close at once: its messages are handled before the end is reported."""
    server = Server()
    peer = server.peer()
    peer.receive(costs(1, 1000))
    peer.receive(costs(5, 1))
    peer.lose()
    assert len(server.app.messages) == 6
    [closed] = [each for each in server.events if isinstance(each, Closed)]
    assert (closed.reason.rule, closed.unhandled) == ("end-of-stream", 0)


def test_last_messages_can_be_received_after_the_end() -> None:
    """After the end a caller can receive all messages, however many wait, and whatever time the last one took."""
    server = Server(lambda clock: None)
    peer = server.peer()
    connection: Any = peer.connection
    connection.receive().addCallback(lambda _: setattr(server.clock, "rightNow", 1.0))
    peer.receive(b"costly\n")
    peer.receive(b"one\ntwo\n")
    peer.lose()
    assert [outcome(connection.receive()) for _ in range(2)] == [[b"one"], [b"two"]]
