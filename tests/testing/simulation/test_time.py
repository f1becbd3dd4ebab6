"""Virtual time: timers, clocks, and the cost of silence."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool

from tcpapp.testing.simulation import NeverSettles, NothingLeft, Simulation
from tcpapp.testing.simulation.timeline import MANY_STALE
from tests.testing.simulation.scenes import pair


@pytest.fixture
def sim():
    """Give a simulation with seed 4."""
    with Simulation(4) as sim:
        yield sim


def test_timers_fire_in_their_order_and_a_little_late(sim):
    """Timers fire in the order of their times, each a few microseconds late and never early."""
    reactor = sim.host("a").reactor
    fired = []
    for seconds in (3, 1, 2):
        reactor.callLater(seconds, lambda seconds=seconds: fired.append((seconds, reactor.seconds())))
    sim.run()
    assert fired == [(seconds, pytest.approx(seconds, abs=1e-5)) for seconds in (1, 2, 3)]
    assert all(now > seconds for seconds, now in fired)


def test_timers_of_one_process_for_one_moment_keep_their_order(sim):
    """Timers of one process that are due at the same moment fire in the order in which they were set."""
    reactor = sim.host("a").reactor
    fired = []
    for number in range(50):
        reactor.callLater(1, fired.append, number)
    sim.run()
    assert fired == list(range(50))


def test_a_timer_can_be_cancelled_delayed_and_reset(sim):
    """A timer fires at the time that `delay` or `reset` gives it, and not at all after `cancel`."""
    reactor = sim.host("a").reactor
    fired = []
    cancelled, delayed, later, earlier = (
        reactor.callLater(10, lambda name=name: fired.append((name, round(reactor.seconds(), 3)))) for name in "cdle"
    )
    cancelled.cancel()
    delayed.delay(5)
    later.reset(20)
    earlier.reset(1)
    assert set(reactor.getDelayedCalls()) == {delayed, later, earlier}
    sim.run()
    assert fired == [("e", 1.0), ("d", 15.0), ("l", 20.0)]
    assert reactor.getDelayedCalls() == []
    with pytest.raises(AlreadyCancelled):
        cancelled.cancel()
    with pytest.raises(AlreadyCalled):
        delayed.cancel()


def test_a_timer_reset_to_an_earlier_time_and_then_a_later_one_fires_once(sim):
    """A timer that is reset to an earlier and then to a later time fires once, at the later time."""
    reactor = sim.host("a").reactor
    fired = []
    call = reactor.callLater(5, lambda: fired.append(reactor.seconds()))
    call.reset(1)
    call.reset(9)
    sim.run()
    assert fired == [pytest.approx(9, abs=1e-5)]


def test_a_delay_is_not_negative(sim):
    """`callLater` refuses a negative delay."""
    with pytest.raises(AssertionError):
        sim.host("a").reactor.callLater(-1, print)


def test_timers_that_are_cancelled_again_and_again_do_not_pile_up(sim):
    """Cancelled timers are removed, so the timeline does not grow without bound."""
    reactor = sim.host("a").reactor
    for _ in range(3 * MANY_STALE):
        reactor.callLater(3600, print).cancel()
    assert len(sim.timeline) <= MANY_STALE + 1


def test_a_looping_call_ticks_as_often_as_it_should(sim):
    """A `LoopingCall` of 0.1 seconds ticks 999 times in 100 seconds: no timer is early by a rounding error."""
    reactor = sim.host("a").reactor
    ticks = []
    looping = LoopingCall(ticks.append, None)
    looping.clock = reactor
    sim.run(until=0.1)
    looping.start(0.1, now=False)
    sim.run(until=100.05)
    looping.stop()
    assert len(ticks) == 999


def test_an_hour_of_silence_costs_nothing(sim):
    """An hour of an open connection that sends nothing causes fewer than 100 events, which are timers."""
    pair(sim)
    before = sim.timeline.happened
    sim.run(until=3600.0)
    assert sim.timeline.happened - before < 100
    assert sim.now == 3600.0


def test_a_timer_that_is_due_at_the_end_of_a_run_fires_in_it(sim):
    """A timer that is due at the moment in `until` fires in that run."""
    slept = sim.sleep(5.0)
    sim.run(until=5.0)
    assert slept.called


def test_a_sleep_can_be_cancelled(sim):
    """A cancelled sleep fails with `CancelledError`, and the next run goes on."""
    slept = sim.sleep(5.0)
    slept.cancel()
    with pytest.raises(CancelledError):
        sim.run(slept)
    sim.run()


def test_an_endless_loop_of_timers_is_an_error():
    """
    Timers that are set again without end raise `NeverSettles`, which names the number of events, the seed and the
    timer.
    """
    sim = Simulation(9)
    reactor = sim.host("a").reactor

    def again():
        reactor.callLater(1, again)

    again()
    with pytest.raises(NeverSettles, match=r"(?s)after 500 events .*seed 9.*Simulation\(9\).*timer .*again"), sim:
        sim.run(at_most=500)


def test_the_last_event_that_may_happen_can_end_a_run(sim):
    """A run that has reached its most events ends without an error if only cancelled timers are left."""
    reactor = sim.host("a").reactor
    unused = reactor.callLater(2, print)
    reactor.callLater(1, unused.cancel)
    sim.run(at_most=1)
    assert len(sim.timeline) == 0


def test_waiting_for_a_deferred_that_never_fires_is_an_error(sim):
    """`run` raises `NothingLeft` when it waits for a Deferred and no event is left."""
    with pytest.raises(NothingLeft, match="no event is left"):
        sim.run(Deferred())


def test_a_clock_set_forward_fires_timers_early(sim):
    """A clock that is set forward fires timers early, since they run on the wall clock, as Twisted's do."""
    host = sim.host("a")
    fired = []
    host.reactor.callLater(100, lambda: fired.append((round(sim.now, 3), round(host.reactor.seconds(), 3))))
    sim.run(until=10.0)
    host.jump(3600.0)
    assert host.reactor.seconds() == 3610.0
    sim.run()
    assert fired == [(10.0, 3610.0)]


def test_a_clock_set_back_makes_timers_late(sim):
    """Timers of a host whose clock is set back by an hour fire an hour later; other hosts keep their clocks."""
    host, other = sim.host("a"), sim.host("b")
    fired = []
    host.reactor.callLater(2, lambda: fired.append(sim.now))
    host.jump(-3600.0)
    sim.run(until=12.0)
    assert fired == []
    assert other.reactor.seconds() == 12.0
    sim.run()
    assert fired == [pytest.approx(3602.0, abs=1e-5)]


def test_calls_in_threads_run_at_once(sim):
    """A call in a thread runs at once in the same thread, and its result comes in a later turn."""
    reactor = sim.host("a").reactor
    assert IReactorTime.providedBy(reactor)
    reactor.suggestThreadPoolSize(10)
    done = []
    reactor.callInThread(done.append, 1)
    assert done == [1]
    deferred = deferToThreadPool(reactor, reactor.getThreadPool(), lambda: 2)
    assert not deferred.called
    assert sim.run(deferred) == 2
    with pytest.raises(ZeroDivisionError):
        sim.run(deferToThreadPool(reactor, reactor.getThreadPool(), lambda: 1 / 0))
    reactor.getThreadPool().callInThreadWithCallback(None, done.append, 2)
    reactor.getThreadPool().callInThreadWithCallback(None, lambda: 1 / 0)
    assert done == [1, 2]
