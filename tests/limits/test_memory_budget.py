"""The memory budget of all connections: which connections are paused or cut, and which stay undisturbed."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp import Limits, MessageServerFactory, Telemetry, Timeouts
from tcpapp.apps import echo
from tcpapp.limits.memory_budget import MemoryBudget
from tcpapp.telemetry import Closed, LimitNear
from tests.peers import NotedTransport, StrictClock


class Holder:
    """A holder of bytes that records its calls."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.budget = budget
        self.connections = 1
        self.held_bytes = 0
        self.told: list[Any] = []

    def now_hold(self, amount: int) -> None:
        self.held_bytes = amount
        self.budget.update(self, amount)

    def pause_reading(self) -> None:
        self.told.append("paused")

    def resume_reading(self) -> None:
        self.told.append("resumed")

    def shed(self, held_bytes: int, limit: int) -> None:
        self.told.append((held_bytes, limit))
        self.held_bytes = 0


class Rig:
    """A memory budget of 1000 bytes, its holders, and its alarms."""

    def __init__(self, limit: int = 1000, holders: int = 4) -> None:
        self.alarms: list[tuple[int, int]] = []
        self.budget = MemoryBudget(limit, lambda total, limit: self.alarms.append((total, limit)))
        self.holders = [Holder(self.budget) for _ in range(holders)]

    def hold(self, *amounts: int) -> None:
        for holder, amount in zip(self.holders, amounts, strict=False):
            holder.now_hold(amount)

    @property
    def told(self) -> list[list[Any]]:
        return [each.told for each in self.holders]


def test_the_total_is_the_sum_of_the_held_bytes() -> None:
    """The total is the sum of what each holder holds now, without forgotten holders."""
    rig = Rig()
    rig.hold(100, 200, 300)
    rig.hold(50, 0)
    assert rig.budget.total == 350
    rig.budget.forget(rig.holders[2])
    rig.budget.forget(rig.holders[3])
    assert (rig.budget.total, rig.told) == (50, [[]] * 4)


def test_from_four_fifths_on_the_largest_connections_are_not_read_from() -> None:
    """Over four fifths of the limit, only a holder that holds more than its share is paused; the alarm comes once."""
    rig = Rig()
    rig.hold(100, 100, 590)
    assert rig.told == [[]] * 4
    rig.hold(150, 150, 600)
    assert rig.told == [[], [], ["paused"], []]
    rig.hold(160, 160, 610)
    assert rig.told == [[], [], ["paused"], []]
    assert rig.alarms == [(900, 1000)]


def test_a_connection_that_frees_bytes_is_not_paused() -> None:
    """Over four fifths of the limit, a holder that grows is paused; a holder that frees bytes is not."""
    rig = Rig()
    rig.hold(300, 300, 190)
    rig.hold(320, 290)
    assert rig.told == [["paused"], [], [], []]


def test_all_are_read_from_again_when_there_is_room() -> None:
    """At seven tenths of the limit, a paused holder is resumed, and the alarm can come again."""
    rig = Rig()
    rig.hold(300, 0, 550)
    rig.hold(300, 0, 450)
    assert rig.told[2] == ["paused"]
    rig.hold(300, 0, 400)
    assert rig.told[2] == ["paused", "resumed"]
    rig.hold(300, 0, 600)
    assert (rig.told[2][-1], len(rig.alarms)) == ("paused", 2)


def test_over_the_bound_the_largest_are_cut() -> None:
    """Over the limit, the largest holders are cut until nine tenths of the limit are left."""
    rig = Rig()
    rig.hold(200, 350, 150, 310)
    assert rig.told[1][-1] == (350, 1000)
    assert [rig.told[each] for each in (0, 2)] == [[], []]
    assert (rig.budget.total, rig.budget.shed) == (660, 1)


def test_a_single_holder_over_the_limit_is_cut() -> None:
    """A holder that exceeds the limit alone is cut, and nothing is held then."""
    rig = Rig()
    rig.hold(5000)
    assert (rig.told[0], rig.budget.total) == (["paused", (5000, 1000)], 0)


def test_the_held_bytes_are_read_anew_before_a_cut() -> None:
    """Before a holder is cut, each is asked how much it holds now: the last noted amount can be out of date."""
    rig = Rig()
    rig.hold(600, 100, 100)
    rig.holders[0].held_bytes = 10
    rig.holders[1].now_hold(460)
    assert (rig.told, rig.budget.total) == ([[], ["paused"], [], []], 570)


def test_a_closed_connection_is_not_resumed() -> None:
    """A forgotten holder is not resumed when there is room again."""
    rig = Rig()
    rig.hold(300, 0, 550)
    rig.budget.forget(rig.holders[2])
    rig.hold(0, 0, 0)
    assert rig.told[2] == ["paused"]


def test_without_a_limit_no_holder_is_paused_or_cut() -> None:
    """With a limit of 0, holders can hold any number of bytes."""
    rig = Rig(limit=0)
    rig.hold(10**12, 10**12)
    assert rig.told == [[]] * 4


# The memory budget of a server ---------------------------------------------------------------------------------------

KIB = 1024


class Server:
    """A server with little memory, its peers, and its events."""

    def __init__(self, app: Any, framing: str = "line", *, frame: float = 0, **limits: int) -> None:
        self.clock = StrictClock()
        self.events: list[Any] = []
        self.factory = MessageServerFactory(
            app,
            framing,
            limits=Limits(max_connections=10_000, **limits),
            timeouts=Timeouts(first_message=0, idle=0, message_timeout=frame, send_progress=0),
            telemetry=Telemetry(self.events.append),
        )

    def peer(self, **options: Any) -> NotedTransport:
        transport = NotedTransport(clock=self.clock, **options)
        transport.connect(self.factory.buildProtocol(None))
        return transport

    def told(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.events if isinstance(each, kind)]


def test_peers_that_do_not_read_are_cut_and_a_reading_peer_is_served() -> None:
    """While some of 40 peers that do not read are cut, the limit holds, and a peer that reads gets its replies."""
    server = Server(lambda message, connection: message * 1000, max_buffered=1000 * KIB)
    healthy = server.peer()
    budget = server.factory.settings.memory_budget
    stuck = [server.peer(peer_reads=False) for _ in range(40)]
    for each in stuck:
        each.receive(b"x" * 90 + b"\n")
        each.receive(b"x" * 90 + b"\n")
        assert budget.total <= 1000 * KIB
        healthy.receive(b"hi\n")
        assert healthy.value() == b"hi" * 1000 + b"\n"
        healthy.clear()
    aborted = [each for each in stuck if each.aborted]
    assert 0 < len(aborted) == budget.shed < 40
    aborted[0].turn()
    [first] = [each.reason for each in server.told(Closed) if each.connection is aborted[0].connection]
    assert (first.rule, first.limit) == ("memory-short", 1000 * KIB)
    assert len(server.told(LimitNear)) >= 1


def test_a_long_message_that_does_not_end_counts() -> None:
    """The bytes of an unfinished message count and pause its connection; they are free when the connection ends."""
    server = Server(echo, "int32", max_buffered=100 * KIB)
    modest = server.peer()
    large = server.peer()
    modest.receive(b"\0\0\0\x05hel")
    large.receive(b"\0\x01\xf0\0" + b"x" * 85 * KIB)
    assert (large.producerState, large.aborted) == ("paused", False)
    modest.receive(b"lo")
    assert modest.value() == b"\0\0\0\x05hello"
    assert server.factory.settings.memory_budget.total == 85 * KIB
    large.lose()
    assert server.factory.settings.memory_budget.total == 0


def test_half_messages_do_not_keep_memory_short() -> None:
    """
    Of 200 connections with half a message, some are cut for memory, and all others end at `message_timeout`.

    A connection that is paused for memory has this timeout, too, and the reason of its end says so.
    """
    server = Server(echo, "int32", frame=10, max_buffered=8 * 1024 * KIB)
    budget = server.factory.settings.memory_budget
    healthy = server.peer()
    senders = [server.peer() for _ in range(200)]

    def is_served() -> None:
        healthy.receive(b"\0\0\0\x02hi")
        assert healthy.value() == b"\0\0\0\x02hi"
        healthy.clear()

    for each in senders:
        each.receive(b"\0\x01\0\0" + b"x" * 50 * KIB)
        is_served()
    stay = [each for each in senders if not each.disconnecting]
    not_read = [each for each in stay if each.producerState == "paused"]
    assert len(not_read) > 20
    for _ in range(9):
        server.clock.advance(1)
        is_served()
    assert [each for each in stay if not each.disconnecting] == stay
    server.clock.advance(1)
    is_served()
    assert (budget.total, server.factory.info().connections) == (0, 1)
    rules = {each.connection: each.reason.rule for each in server.told(Closed)}
    assert {rules[each.connection] for each in not_read} == {"memory-short"}
    assert "message-timeout" in rules.values()
    [reason, *_] = [each.reason for each in server.told(Closed) if each.connection is not_read[0].connection]
    assert (reason.limit, "10 s after its first byte" in reason.detail) == (10, True)


def test_a_message_is_completed_while_another_connection_is_paused() -> None:
    """While another connection is paused for memory, a connection completes its message and gets the reply."""
    server = Server(echo, "int32", frame=10, max_buffered=100 * KIB)
    large, other = server.peer(), server.peer()
    large.receive(b"\0\x01\0\0" + b"x" * 40 * KIB)
    other.receive(b"\0\x01\0\0" + b"x" * 45 * KIB)
    large.receive(b"x" * 24 * KIB)
    server.clock.advance(9)
    other.lose()
    server.clock.advance(0)
    assert large.value() == b"\0\x01\0\0" + b"x" * 64 * KIB


def test_messages_in_the_inbox_count() -> None:
    """A message that waits counts, and so do its received bytes, which another framing can read: until it is taken."""
    server = Server(None, max_buffered=200 * KIB, inbox_high=90 * KIB)
    transport = server.peer()
    transport.receive(b"x" * 60 * KIB + b"\n")
    budget = server.factory.settings.memory_budget
    assert 120 * KIB < budget.total < 121 * KIB
    connection: Any = transport.connection
    connection.receive()
    transport.receive(b"y\n")
    connection.receive()
    assert budget.total < KIB


@pytest.mark.exhaustive
def test_a_thousand_peers_that_send_and_never_read_hold_no_more_than_the_bound() -> None:
    """The held bytes of 1000 peers that never read stay within the limit; a peer that reads gets its replies."""
    limit = 10_000 * KIB
    server = Server(lambda message, connection: message * 200, max_buffered=limit, write_high=8 * KIB)
    healthy = server.peer()
    most = 0
    budget = server.factory.settings.memory_budget
    for number in range(1000):
        peer = server.peer(peer_reads=False)
        for _ in range(8):
            peer.receive(b"x" * 100 + b"\n")
            most = max(most, budget.total)
        if number % 50 == 0:
            healthy.receive(b"hi\n")
            assert healthy.value() == b"hi" * 200 + b"\n"
            healthy.clear()
    assert most <= limit
    assert budget.shed > 0
