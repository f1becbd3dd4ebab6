"""Context variables, logging contexts, and the order of calls are as on Twisted's epoll reactor."""

from __future__ import annotations

import threading
from contextvars import ContextVar, copy_context
from typing import Any

from twisted.python import context
from twisted.python.log import ILogContext
from twisted.python.threadpool import ThreadPool

from tcpapp.reactor.contexts import SharedContext
from tests.patience import PATIENCE
from tests.reactor.conftest import Noting, call_in_turn, connected, go_round, in_another_thread

variable: ContextVar[str] = ContextVar("variable", default="none")


def test_a_context_variable_that_a_callback_sets_holds_for_later_callbacks(either: Any) -> None:
    """
    A context variable that one callback sets has that value in the next callback, of any kind, and in the program after
    it.
    """

    def drive() -> list[str]:
        seen: list[str] = []
        server, peer = connected(either)

        def received(end: Any) -> None:
            seen.append(f"data {variable.get()}")
            variable.set("of data")
            either.callLater(0, timed)

        def timed() -> None:
            seen.append(f"timer {variable.get()}")
            variable.set("of a timer")
            either.callFromThread(called)

        def called() -> None:
            seen.append(f"thread {variable.get()}")
            variable.set("of a call from a thread")
            peer.close()

        server.on_data = received
        server.on_lost = lambda _: seen.append(f"end {variable.get()}")
        variable.set("of the program")
        peer.sendall(b"x")
        go_round(either, lambda: server.reason)
        seen.append(f"program {variable.get()}")
        return seen

    assert in_another_thread(drive) == [
        "data of the program",
        "timer of data",
        "thread of a timer",
        "end of a call from a thread",
        "program of a call from a thread",
    ]


def test_a_context_variable_that_is_set_in_a_run_holds_after_it(either: Any) -> None:
    """A context variable that callbacks set while `run` lasts keeps its value after `run` has returned."""

    def drive() -> str:
        either.callWhenRunning(variable.set, "of the beginning")
        either.callLater(0, lambda: variable.set(variable.get() + ", of a timer"))
        either.callLater(0.001, either.stop)
        either.run(installSignalHandlers=False)
        return variable.get()

    assert in_another_thread(drive) == "of the beginning, of a timer"


def test_the_shared_context_is_entered_once() -> None:
    """
    Inside the shared context `enter` and `all_of_it` do not enter it again; a variable set there is unchanged outside.
    """
    shared = SharedContext()
    assert not shared.is_entered
    assert shared.run(lambda: shared.is_entered)
    assert shared.run(shared.enter, lambda: shared.is_entered)

    def inside() -> None:
        with shared.all_of_it():
            variable.set("inside")

    shared.run(inside)
    assert shared.run(variable.get) == "inside"
    assert variable.get() == "none"


def test_a_context_variable_that_is_not_set_keeps_its_value() -> None:
    """A variable of the program has its value in the shared context, and keeps it afterwards."""
    shared = SharedContext()

    def program() -> None:
        variable.set("of the program")
        with shared.all_of_it():
            assert shared.run(variable.get) == "of the program"
        assert variable.get() == "of the program"

    copy_context().run(program)


def test_the_work_of_a_thread_is_logged_for_the_connection_that_asked_for_it(either: Any) -> None:
    """The work of a thread has the logging context of the connection that started it, also while others are read."""

    def drive() -> None:
        threads = ThreadPool(0, 1)
        threads.start()
        may_go, said = threading.Event(), list[str]()

        def work() -> None:
            may_go.wait(PATIENCE)
            said.append(context.get(ILogContext)["system"])

        one, peer = connected(either, First())
        two, other_peer = connected(either)
        one.on_data = lambda _: threads.callInThread(work)
        with peer, other_peer:
            peer.sendall(b"x")
            go_round(either, lambda: one.data)
            other_peer.sendall(b"x")
            go_round(either, lambda: two.data)
            may_go.set()
            threads.stop()
        assert said[0].startswith("First,")

    in_another_thread(drive)


class First(Noting):
    """A protocol with a name of its own."""


def test_a_connection_with_another_name_is_logged_under_that(either: Any) -> None:
    """When the `logstr` of a transport changes, later events of the connection are logged under the new name."""

    def drive() -> list[str]:
        said: list[str] = []
        server, peer = connected(either)
        server.on_data = lambda _: said.append(context.get(ILogContext)["system"])
        with peer:
            for count, name in enumerate(("one", "one", "two"), 1):
                server.transport.logstr = name
                peer.sendall(b"x")
                go_round(either, lambda count=count: len(said) == count)
        return said

    assert in_another_thread(drive) == ["one", "one", "two"]


def test_calls_from_threads_come_before_timers_that_are_due(either: Any) -> None:
    """In a round, calls from threads come before timers that are due, each kind in the order of its requests."""

    def drive() -> list[str]:
        called: list[str] = []

        either.callLater(0, call_in_turn, either, called.append)
        go_round(either, lambda: len(called) == 5)
        return called

    assert in_another_thread(drive) == ["thread 1", "thread 2", "timer 1", "timer 2", "a millisecond"]


def test_calls_from_threads_keep_their_order_when_one_raises(either: Any, logged_errors: Any) -> None:
    """A call from a thread that raises is logged, and the other calls are made in their order."""

    def drive() -> list[int]:
        called: list[int] = []
        for each in range(100):
            either.callFromThread(called.append, each)
        either.callFromThread(lambda: 1 / 0)
        either.callFromThread(either.callFromThread, called.append, 100)
        go_round(either, lambda: len(called) == 101)
        return called

    assert in_another_thread(drive) == [*range(101)]
    assert len(logged_errors.take(ZeroDivisionError)) == 1
