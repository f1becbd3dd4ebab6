"""Timers and calls from threads: when the reactor has a turn, what is called in it, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from threading import Thread
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tcpapp.reactor import timers
from tcpapp.reactor.timers import TimedReactor
from tests.reactor.conftest import Bench, Noting, call_in_turn

test = pytest_twisted.ensureDeferred

noted: ContextVar[str] = ContextVar("noted", default="nothing")


class Handle:
    """A call that the fake loop makes later, unless it is cancelled."""

    def __init__(self, call: Callable[..., object], context: Any, when: float = 0.0) -> None:
        self.call, self.context, self.when = call, context, when
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeLoop:
    """A loop whose rounds and whose time the test controls."""

    def __init__(self) -> None:
        self.now = 1000.0004
        self.wall = 5000.0
        self.ready: list[Handle] = []
        self.timers: list[Handle] = []
        self.made = 0
        self.wakes = 0

    def add_reader(self, *_: object) -> None:
        """Watch nothing."""

    def call_soon(self, call: Callable[..., object], *, context: Any = None) -> Handle:
        self.ready.append(Handle(call, context))
        return self.ready[-1]

    def call_soon_threadsafe(self, call: Callable[..., object], *, context: Any = None) -> Handle:
        self.wakes += 1
        return self.call_soon(call, context=context)

    def call_at(self, when: float, call: Callable[..., object]) -> Handle:
        self.made += 1
        self.timers.append(Handle(call, None, when))
        return self.timers[-1]

    @property
    def active(self) -> list[float]:
        """Return when the timers end that were not cancelled."""
        return [each.when for each in self.timers if not each.is_cancelled]

    def go_round(self) -> int:
        """Run one round: call what was ready before it. Return the number of calls."""
        ready, self.ready = [each for each in self.ready if not each.is_cancelled], []
        for each in ready:
            each.context.run(each.call)
        return len(ready)

    def advance(self, seconds: float) -> None:
        """Let time pass, and call the timers that are due."""
        self.now += seconds
        self.wall += seconds
        due = [each for each in self.timers if each.when <= self.now]
        self.timers = [each for each in self.timers if each.when > self.now]
        for each in due:
            if not each.is_cancelled:
                each.call()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> FakeLoop:
    """Give a fake loop whose time is the time of the timers."""
    made = FakeLoop()
    monkeypatch.setattr(timers, "monotonic", lambda: made.now)
    return made


@pytest.fixture
def reactor(loop: FakeLoop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a reactor on the fake loop."""
    monkeypatch.setattr(TimedReactor, "seconds", staticmethod(lambda: loop.wall))
    made = TimedReactor(loop, Context())
    yield made
    made.waker.connectionLost(None)


# Turns ---------------------------------------------------------------------------------------------------------------


def test_a_call_without_delay_is_made_in_the_next_round_and_its_own_in_the_one_after(
    reactor: Any, loop: FakeLoop
) -> None:
    """
    Calls without delay are made in one turn in the next round; a call that one of them schedules is made in the round
    after.
    """
    called: list[str] = []
    reactor.callLater(0, lambda: (called.append("first"), reactor.callLater(0, called.append, "its own")))
    reactor.callLater(0, called.append, "second")
    assert loop.go_round() == 1
    assert called == ["first", "second"]
    assert loop.go_round() == 1
    assert called == ["first", "second", "its own"]
    assert loop.go_round() == 0


def test_calls_come_in_the_order_of_their_times(reactor: Any, loop: FakeLoop) -> None:
    """Calls are made in the order of their times."""
    called: list[int] = []
    for number in (3, 1, 2, 0):
        reactor.callLater(number, called.append, number)
    loop.advance(10)
    loop.go_round()
    assert called == [0, 1, 2, 3]


def test_arguments_are_passed_on(reactor: Any, loop: FakeLoop) -> None:
    """`callLater` passes positional and named arguments to the call."""
    found: list[Any] = []
    reactor.callLater(0, lambda *given, **named: found.append((given, named)), 1, 2, named=3)
    loop.go_round()
    assert found == [((1, 2), {"named": 3})]


def test_a_negative_delay_is_refused(reactor: Any) -> None:
    """`callLater` refuses a negative delay."""
    with pytest.raises(AssertionError, match="-1 is not greater than or equal to 0 seconds"):
        reactor.callLater(-1, print)


def test_an_error_of_a_call_does_not_prevent_other_calls(reactor: Any, loop: FakeLoop, logged_errors: Any) -> None:
    """A call that raises is logged, and the next call of the turn is made."""
    called: list[str] = []
    reactor.callLater(0, lambda: 1 / 0)
    reactor.callLater(0, called.append, "called")
    loop.go_round()
    assert called == ["called"]
    assert len(logged_errors.take(ZeroDivisionError)) == 1


def test_a_delay_below_a_millisecond_has_a_turn_at_once_and_a_timer(reactor: Any, loop: FakeLoop) -> None:
    """
    A call with a delay below a millisecond is not made too early: the turn at once finds it not due, and a timer
    follows.
    """
    called: list[str] = []
    reactor.callLater(0.0005, called.append, "called")
    loop.go_round()
    assert (called, loop.active) == ([], [pytest.approx(1000.001)])
    loop.advance(0.0007)
    loop.go_round()
    assert called == ["called"]


# The loop's timer ----------------------------------------------------------------------------------------------------


def test_a_thousand_later_calls_have_one_timer_of_the_loop(reactor: Any, loop: FakeLoop) -> None:
    """
    Calls with longer delays share one timer of the loop, which ends at the first of them, rounded up to a millisecond.
    """
    for number in range(1000):
        reactor.callLater(30 + number, print)
    assert loop.made == 1
    assert loop.active == [pytest.approx(1030.001)]  # the next whole millisecond: never before it is due
    assert loop.go_round() == 0


def test_a_call_that_is_due_before_the_timer_has_one_made_for_it(reactor: Any, loop: FakeLoop) -> None:
    """A call that is due before the timer gets an earlier timer; then the timer of the next call follows."""
    called: list[int] = []
    reactor.callLater(30, called.append, 30)
    reactor.callLater(5, called.append, 5)
    assert loop.active == [pytest.approx(1005.001)]
    loop.advance(5.001)
    loop.go_round()
    assert called == [5]
    assert loop.active == [pytest.approx(1030.001)]


def test_a_timeout_that_is_reset_again_and_again_touches_no_timer(reactor: Any, loop: FakeLoop) -> None:
    """Resets of a timeout make no timer; when the first timer ends, one more is made for the remaining time."""
    called: list[float] = []
    timeout = reactor.callLater(30, lambda: called.append(loop.wall))
    for _ in range(100):
        loop.advance(0.25)
        timeout.reset(30)
        reactor.callLater(0, int)
        loop.go_round()
    assert loop.made == 1
    loop.advance(5.1)
    loop.go_round()
    assert (called, loop.made) == ([], 2)
    loop.advance(25)
    loop.go_round()
    assert called == [5055.1]


def test_a_call_that_is_reset_to_be_sooner_has_its_turn(reactor: Any, loop: FakeLoop) -> None:
    """A call that is reset to an earlier time gets an earlier timer, and with 0 seconds a turn in the next round."""
    called: list[str] = []
    call = reactor.callLater(30, called.append, "called")
    reactor.callLater(0, int)
    loop.go_round()
    call.reset(2)
    assert loop.active == [pytest.approx(1002.001)]
    call.reset(0)
    loop.go_round()
    assert called == ["called"]


def test_a_call_that_is_reset_in_a_turn_gets_a_timer_after_it(reactor: Any, loop: FakeLoop) -> None:
    """A call that another call resets in a turn gets its timer after the turn."""
    call = reactor.callLater(30, int)
    reactor.callLater(0, lambda: call.reset(2))
    loop.go_round()
    assert loop.active == [pytest.approx(1002.001)]


def test_the_timer_of_a_cancelled_call_is_not_cancelled(reactor: Any, loop: FakeLoop) -> None:
    """The timer of a cancelled call stays, and when it ends, the timer of the next call is made."""
    reactor.callLater(30, int).cancel()
    reactor.callLater(0, int)
    loop.go_round()
    reactor.callLater(40, int)
    assert loop.active == [pytest.approx(1030.001)]
    loop.advance(31)
    loop.go_round()
    assert loop.active == [pytest.approx(1040.001)]


def test_a_timer_that_ends_while_a_turn_is_in_the_queue_brings_no_other(reactor: Any, loop: FakeLoop) -> None:
    """A timer that ends while a turn is queued adds no second turn; the one turn makes both calls in order."""
    called: list[str] = []
    reactor.callLater(1, called.append, "later")
    reactor.callLater(0, called.append, "at once")
    loop.advance(2)
    assert loop.go_round() == 1
    assert called == ["at once", "later"]


def test_a_step_of_the_system_clock_makes_no_call_late(reactor: Any, loop: FakeLoop) -> None:
    """A call is made in time after the system clock was set forward."""
    called: list[str] = []
    reactor.callLater(3600, int)
    loop.wall += 3590
    reactor.callLater(20, called.append, "called")
    loop.advance(20.001)
    loop.go_round()
    assert called == ["called"]


# Cancelled calls -----------------------------------------------------------------------------------------------------


def test_cancelled_calls_do_not_pile_up_until_the_next_timer(reactor: Any, loop: FakeLoop) -> None:
    """At most 100 calls are held while a thousand are made and cancelled, and no timer is made for them."""
    reactor.callLater(30, int)
    for _ in range(1000):
        reactor.callLater(60, int).cancel()
        loop.go_round()
        assert len(reactor._newTimedCalls) + len(reactor._pendingTimedCalls) <= 100
    assert len(reactor.getDelayedCalls()) == 1
    assert loop.made == 1


def test_a_few_cancelled_calls_among_many_bring_no_turn(reactor: Any, loop: FakeLoop) -> None:
    """If less than half of the calls are cancelled, no turn removes them."""
    calls = [reactor.callLater(30, int) for _ in range(200)]
    for call in calls[:60]:
        call.cancel()
    assert loop.go_round() == 0


# Calls from threads --------------------------------------------------------------------------------------------------


def test_calls_from_threads_come_in_order_and_before_timed_calls(reactor: Any, loop: FakeLoop) -> None:
    """Several calls from a thread wake the loop once, and are made in order before timed calls."""
    called: list[str] = []

    def ask() -> None:
        for each in ("first", "second", "third"):
            reactor.callFromThread(called.append, each)

    reactor.callLater(0, called.append, "timed")
    asking = Thread(target=ask)
    asking.start()
    asking.join()
    assert loop.wakes == 1
    loop.go_round()
    assert called == ["first", "second", "third", "timed"]


def test_a_thread_wakes_a_reactor_that_waits(reactor: Any, loop: FakeLoop) -> None:
    """The calls from threads before a round are made in one turn, and a later call has a turn of its own."""
    called: list[str] = []
    reactor.callFromThread(called.append, "one")
    reactor.callFromThread(called.append, "two")
    assert loop.go_round() == 1
    reactor.callFromThread(called.append, "three")
    assert loop.go_round() == 1
    assert called == ["one", "two", "three"]


def test_a_call_that_a_call_from_a_thread_asks_for_comes_in_the_next_round(reactor: Any, loop: FakeLoop) -> None:
    """A call from a thread that schedules another is finished first; the other is made in the next round."""
    called: list[str] = []
    reactor.callFromThread(lambda: (reactor.callFromThread(called.append, "thread"), called.append("first")))
    loop.go_round()
    assert called == ["first"]
    loop.go_round()
    assert called == ["first", "thread"]


# Context variables ---------------------------------------------------------------------------------------------------


def test_a_context_variable_that_a_call_sets_holds_for_later_calls(reactor: Any, loop: FakeLoop) -> None:
    """A context variable that a timed call sets has its value in later timed calls and calls from threads."""
    found: list[str] = []
    reactor.callLater(0, noted.set, "by a timed call")
    reactor.callLater(1, lambda: found.append(noted.get()))
    loop.go_round()
    reactor.callFromThread(lambda: found.append(noted.get()))
    loop.go_round()
    loop.advance(2)
    loop.go_round()
    assert found == ["by a timed call"] * 2


# On the loop itself --------------------------------------------------------------------------------------------------


@test
async def test_sockets_are_polled_between_two_turns(bench: Bench) -> None:
    """Bytes that wait in a socket are read between two turns of timers."""
    server = Noting()
    peer = await bench.meet(server, unix=True)
    await bench.turns(3)
    for number in range(1, 20):
        peer.sendall(b"x")
        await deferLater(bench.reactor, 0)
        await deferLater(bench.reactor, 0)
        assert len(server.data) == number


@test
async def test_calls_have_the_same_order_as_on_twisteds_reactors(bench: Bench) -> None:
    """Calls from threads come before timers, each in the order of their requests, as on Twisted's reactors."""
    called: list[str] = []
    reactor = bench.reactor

    reactor.callLater(0, call_in_turn, reactor, called.append)
    await bench.until(lambda: len(called) == 5)
    assert called == ["thread 1", "thread 2", "timer 1", "timer 2", "a millisecond"]


@test
async def test_a_reactor_with_a_turn_in_every_round_lets_tasks_of_asyncio_run(bench: Bench) -> None:
    """Tasks of asyncio run while timers without delay give the reactor a turn in every round."""
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        while rounds < 20:
            rounds += 1
            await asyncio.sleep(0)

    counting = Deferred.fromFuture(bench.reactor._asyncioEventloop.create_task(count()))
    await bench.turns(25)
    assert rounds == 20
    await counting
