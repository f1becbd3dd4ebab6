"""Periodic work: `every` by a fake clock, without drift, and its end with the connection."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tcpapp import MessageServerFactory, Telemetry, conversation
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.ticks import TICK, Every, Ticks
from tcpapp.errors import InvalidOption
from tcpapp.limits import Timeouts
from tests.peers import Peer, StrictClock, TurnClock, outcome

QUIET = Timeouts(first_message=0, idle=0, keepalive=0)


def ticking(seconds: float, *, peer: Peer | None = None, **options: Any) -> tuple[Peer, list[Any]]:
    """Return a peer whose connection has a task for these ticks, and a log of each tick, its time, and the end."""
    peer, log = peer or Peer(timeouts=QUIET), list[Any]()
    note = log.append

    async def ticks() -> None:
        async for skipped in peer.connection.every(seconds, **options):
            note((peer.clock.seconds(), skipped))
        note("over")

    peer.connection.spawn(ticks())
    return peer, log


def test_a_tick_comes_every_few_seconds() -> None:
    """The first tick comes after the interval, and each later one an interval after that."""
    peer, log = ticking(5)
    peer.clock.advance(4)
    assert log == []
    peer.clock.pump([1, 5, 4])
    assert log == [(5, 0), (10, 0)]


def test_the_first_tick_can_come_at_once() -> None:
    """With ``now=True`` the first tick comes at once, and the second after the interval."""
    peer, log = ticking(5, now=True)
    assert log == [(0, 0)]
    peer.clock.pump([4, 1, 5])
    assert log == [(0, 0), (5, 0), (10, 0)]


def test_delays_do_not_add_up() -> None:
    """Each tick is due at a multiple of the interval, although each one takes some time."""
    peer, times = Peer(timeouts=QUIET), []

    async def works() -> None:
        async for _ in peer.connection.every(0.1):
            times.append(peer.clock.seconds())
            await deferLater(peer.clock, 0.03)

    peer.connection.spawn(works())
    peer.clock.pump([0.01] * 10_000)
    assert len(times) == 1000
    assert times[-1] == pytest.approx(100, abs=0.011)


def test_ticks_that_come_during_the_work_of_one_are_skipped_and_counted() -> None:
    """If the work of a tick takes longer than the interval, the next tick says how many were skipped in that time."""
    peer, log = Peer(timeouts=QUIET), list[Any]()
    work: list[Deferred[None]] = []

    async def works() -> None:
        async for skipped in peer.connection.every(5):
            log.append((peer.clock.seconds(), skipped))
            work.append(Deferred())
            await work[-1]

    peer.connection.spawn(works())
    peer.clock.pump([5, 12])
    assert log == [(5, 0)]
    work[0].callback(None)  # at 17, after the ticks of 10 and 15
    peer.clock.pump([2.5, 0.5])
    assert log == [(5, 0), (20, 2)]
    work[1].callback(None)
    peer.clock.advance(5)
    assert log == [(5, 0), (20, 2), (25, 0)]


def test_a_clock_that_jumps_gives_one_tick() -> None:
    """After a long stall there is one tick, late, and the next tick says how many were skipped."""
    peer, log = ticking(1)
    peer.clock.advance(60)
    peer.clock.advance(1)
    assert [skipped for _, skipped in log] == [0, 59]


def test_several_loops_have_their_own_intervals_on_one_timer() -> None:
    """The loops of a connection share its timer, and each has its own interval."""
    peer, slow = ticking(3)
    _, fast = ticking(2, peer=peer)
    assert [each for each in peer.clock.getDelayedCalls() if "SharedTimer._on_call" in repr(each.func)] == (
        peer.clock.getDelayedCalls()
    )
    peer.clock.pump([1] * 6)
    assert ([at for at, _ in slow], [at for at, _ in fast]) == ([3, 6], [2, 4, 6])
    assert len(peer.clock.getDelayedCalls()) == 1
    assert peer.protocol.info().deadline.name == TICK


def half_closes(peer: Peer) -> None:
    peer.half_closes()


def closes(peer: Peer) -> None:
    peer.connection.close()


def aborts(peer: Peer) -> None:
    peer.connection.abort()


def drains(peer: Peer) -> None:
    peer.connection.drain()


@pytest.mark.parametrize("ends", [half_closes, drains, closes, aborts, Peer.leaves, Peer.resets])
def test_the_loop_ends_when_no_more_messages_come(ends: Any) -> None:
    """However the connection ends, a loop of ticks ends, as ``async for message in connection`` does."""
    peer, log = ticking(5)
    peer.clock.advance(5)
    ends(peer)
    assert log == [(5, 0), "over"]


def test_a_drain_does_not_wait_for_a_loop() -> None:
    """A task that is a loop of ticks ends with the drain, so that the connection closes at once."""
    peer, log = ticking(5, peer=Peer(lambda message, connection: None, timeouts=QUIET))
    peer.connection.drain()
    assert (log, peer.closing) == (["over"], True)


def test_a_loop_that_begins_after_the_end_has_no_tick() -> None:
    """On a connection that is not open, `every` has no tick: before it is open, while it closes, and after the end."""
    peer = Peer(timeouts=QUIET)
    protocol: Any = MessageServerFactory(None, telemetry=Telemetry()).buildProtocol(None)
    assert outcome(protocol.connection.every(1).tick()) == [None]
    every = peer.connection.every(1)
    peer.connection.close()
    assert outcome(every.tick()) == [None]
    peer.leaves()
    assert outcome(peer.connection.every(1, now=True).tick()) == [None]


def test_a_conversation_can_tick() -> None:
    """A conversation that sends at each tick closes its connection when the loop ends."""

    @conversation
    async def clock(connection: Any) -> None:
        async for _ in connection.every(1):
            await connection.send(b"tick")

    peer = Peer(clock, timeouts=QUIET)
    peer.clock.pump([1, 1])
    assert peer.hears() == b"tick\ntick\n"
    peer.half_closes()
    assert peer.closing


def test_a_conversation_that_knows_of_the_end_by_a_tick_is_not_cancelled() -> None:
    """A conversation whose loop of ticks has ended at the connection's end can still clean up."""
    log, clean = list[Any](), Deferred[str]()

    @conversation
    async def talk(connection: Any) -> None:
        async for _ in connection.every(1):
            pass
        log.append(await clean)

    peer = Peer(talk, timeouts=QUIET)
    peer.resets()
    clean.callback("clean")
    assert log == ["clean"]


def test_a_cancelled_tick_comes_in_the_next_call() -> None:
    """A tick whose Deferred is cancelled is waited for again by the next call, and leaves no waiter."""
    peer = Peer(timeouts=QUIET)
    every = peer.connection.every(5)
    cancelled = outcome(first := every.tick())
    first.cancel()
    assert isinstance(cancelled[0], CancelledError)
    assert len(peer.protocol._tasks.ticks) == 0
    told = outcome(every.tick())
    peer.clock.advance(5)
    assert told == [0]


def test_a_cancelled_tick_leaves_the_others() -> None:
    """Of two loops that wait, one can be cancelled, and the other one goes on. Without a loop nothing is waited for."""
    peer, log = ticking(2, peer=Peer(timeouts=QUIET))
    other = peer.connection.spawn(wait_for_tick(peer.connection.every(1)))
    other.cancel()
    peer.clock.advance(2)
    assert log == [(2, 0)]
    peer = Peer(timeouts=QUIET)
    peer.connection.spawn(wait_for_tick(peer.connection.every(1))).cancel()
    assert peer.protocol.info().deadline is None


async def wait_for_tick(every: Any) -> None:
    """Wait for one tick."""
    await every.tick()


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "5", True, None])
def test_an_invalid_interval_is_refused(seconds: Any) -> None:
    """`every` takes a finite number above 0."""
    with pytest.raises(InvalidOption, match=r"^every\(.*\): takes a number of seconds, more than 0$"):
        Peer().connection.every(seconds)


def test_a_connection_without_a_clock_has_no_ticks() -> None:
    """On an open connection without a clock, `every` raises an error that says what to do."""
    peer = Peer(timeouts=QUIET)
    peer.protocol._clock = None
    with pytest.raises(InvalidOption, match="the factory takes a clock"):
        peer.connection.every(1)


def test_a_tick_that_is_cancelled_by_another_does_not_come() -> None:
    """The callback of one tick can cancel another one that is due at the same time, or wait for a new one."""
    peer = Peer(timeouts=QUIET)
    ticks = peer.protocol._own_tasks().ticks
    first, second = ticks.wait(1), ticks.wait(1)
    told = outcome(second)
    first.addCallback(lambda _: second.cancel())
    peer.clock.advance(1)
    assert (first.called, isinstance(told[0], CancelledError), len(ticks)) == (True, True, 0)


def test_a_tick_can_fire_as_early_as_the_timer() -> None:
    """A timer that fires a millisecond early gives its tick, and none is skipped or doubled by that."""
    clock = TurnClock()
    peer = Peer(timeouts=QUIET)
    assert isinstance(peer.clock, StrictClock)
    deadlines = Deadlines(peer.protocol)
    deadlines.run_on(clock)
    ticks = Ticks(deadlines)
    every = Every(1, ticks, lambda: True)
    skipped = []
    for number in range(1, 5):
        told = outcome(every.tick())
        clock.rightNow = number - 0.0005
        ticks.due()
        skipped += told
    assert skipped == [0, 0, 0, 0]
    deadlines.end()


def test_ticks_leave_the_other_waits_alone() -> None:
    """A server still closes a connection that is idle for too long, although a task of it ticks."""
    peer, _ = ticking(3, peer=Peer(timeouts=Timeouts(first_message=0, idle=10)))
    peer.clock.pump([1] * 10)
    assert peer.closing
    peer.leaves()
    assert (peer.reason.rule, peer.clock.getDelayedCalls()) == ("idle", [])
