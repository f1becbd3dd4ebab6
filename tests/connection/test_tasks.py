"""Tasks of a connection: how they start and end, what they hold up, and what becomes of them at its end."""

from __future__ import annotations

import asyncio
import gc
from typing import Any
from weakref import ref

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tcpapp.connection.connection import State
from tcpapp.connection.tasks import MOMENT, Tasks, awaited_by
from tcpapp.errors import InvalidOption, NotConnected, TooManyTasks
from tcpapp.limits import Limits, Timeouts
from tcpapp.telemetry import AppFailed, Closed, TasksLeft
from tcpapp.telemetry.statistics import Wait
from tests.peers import AbruptTransport, NotedTransport, Peer, outcome, result_of, stalled

QUIET = Timeouts(first_message=0, idle=0)


async def waits(for_what: Deferred[Any], log: list[Any]) -> Any:
    """Await `for_what`, and note how that ended."""
    try:
        result = await for_what
    except BaseException as error:
        log.append(type(error))
        raise
    log.append(result)
    return result


class Closing:
    """An app that notes its end in `log`."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def received(self, message: bytes, connection: Any) -> bytes:
        return message

    def closed(self, connection: Any, reason: Any) -> None:
        self.log.append("closed")


# Results --------------------------------------------------------------------------------------------------------------


def test_a_task_starts_at_once_and_its_deferred_has_its_result() -> None:
    """`spawn()` runs a coroutine up to its first wait, and its Deferred fires with the result."""
    peer, wait, log = Peer(), Deferred[int](), list[Any]()

    async def adds() -> int:
        log.append("started")
        return 1 + await wait

    told = outcome(peer.connection.spawn(adds()))
    assert (log, told) == (["started"], [])
    wait.callback(2)
    assert told == [3]
    assert len(peer.protocol._tasks) == 0


def test_tasks_run_beside_the_app() -> None:
    """A task does not hold up the messages behind the one that has started it."""

    def app(message: bytes, connection: Any) -> None:
        async def answers_later() -> None:
            await deferLater(peer.clock, 1)
            await connection.send(message)

        connection.spawn(answers_later())

    peer = Peer(app)
    peer.says(b"a\nb\n")
    assert peer.hears() == b""
    peer.clock.advance(1)
    assert peer.hears() == b"a\nb\n"


def test_a_cancelled_task_is_no_failure() -> None:
    """Cancelling the Deferred cancels the task, and the connection stays open."""
    peer, log = Peer(), list[Any]()
    spawned = peer.connection.spawn(waits(Deferred(), log))
    spawned.cancel()
    assert log == [CancelledError]
    assert (peer.connection.state, peer.told(AppFailed)) == (State.OPEN, [])


def test_a_task_that_fails_closes_the_connection_as_the_app_does() -> None:
    """A failed task is logged once with its traceback, and closes its connection, and the caller gets the error too."""
    peer = Peer(Closing(log := []))
    wait: Deferred[None] = Deferred()
    told = outcome(peer.connection.spawn(waits(wait, [])))
    wait.errback(ZeroDivisionError("by zero"))
    assert isinstance(told[0], ZeroDivisionError)
    [failed] = peer.told(AppFailed)
    assert failed.failure.value is told[0]
    assert peer.closing
    peer.leaves()
    assert (peer.reason.rule, log) == ("app-failed", ["closed"])


def test_a_failure_that_nobody_takes_is_logged_once(logged_errors: Any) -> None:
    """Twisted does not log the failure of a task again, if its Deferred is dropped."""
    peer = Peer()

    async def fails() -> None:
        raise ZeroDivisionError

    peer.connection.spawn(fails())
    assert (len(peer.told(AppFailed)), logged_errors.take()) == (1, [])


def test_a_failure_of_the_callers_own_callback_is_not_hidden() -> None:
    """An error of a callback on the Deferred of a task is logged by Twisted, as any."""
    peer, wait = Peer(), Deferred[None]()
    spawned = peer.connection.spawn(waits(wait, []))
    told = outcome(spawned.addCallback(lambda _: 1 / 0))
    wait.callback(None)
    assert isinstance(told[0], ZeroDivisionError)
    assert peer.told(AppFailed) == []


# Refusals -------------------------------------------------------------------------------------------------------------


def test_the_number_of_tasks_is_bounded() -> None:
    """A task over `max_tasks` is refused, until one ends. With 0 there is no bound."""
    peer = Peer(limits=Limits(max_tasks=2))
    first = peer.connection.spawn(waits(Deferred(), []))
    peer.connection.spawn(waits(Deferred(), []))
    third = waits(Deferred(), [])
    with pytest.raises(TooManyTasks, match=r"^2 tasks of this connection run.*\(max_tasks"):
        peer.connection.spawn(third)
    assert third.cr_frame is None
    first.cancel()
    peer.connection.spawn(waits(Deferred(), []))
    without = Peer(limits=Limits(max_tasks=0))
    for _ in range(200):
        without.connection.spawn(waits(Deferred(), []))
    assert len(without.protocol._tasks) == 200


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ends", [Peer.leaves, lambda peer: peer.connection.close()])
def test_no_task_starts_after_the_end(ends: Any) -> None:
    """`spawn()` on a connection that is closing or closed raises `NotConnected`, and closes the coroutine."""
    peer, log = Peer(), list[Any]()
    ends(peer)
    coroutine = waits(Deferred(), log)
    with pytest.raises(NotConnected):
        peer.connection.spawn(coroutine)
    assert coroutine.cr_frame is None
    del coroutine
    gc.collect()
    assert log == []


def test_the_closed_of_an_app_starts_no_task() -> None:
    """`spawn()` in `closed` raises `NotConnected`, which is no failure of the app."""

    class App:
        def closed(self, connection: Any, reason: Any) -> None:
            connection.spawn(waits(Deferred(), []))

    peer = Peer(App())
    peer.leaves()
    assert peer.told(AppFailed) == []


@pytest.mark.parametrize(
    ("thing", "says"), [(waits, "takes a coroutine; call the function"), (5, r"^spawn\(5\): takes a coroutine$")]
)
def test_only_coroutines_are_spawned(thing: Any, says: str) -> None:
    """`spawn()` of another object raises an error that says what to do."""
    with pytest.raises(InvalidOption, match=says):
        Peer().connection.spawn(thing)


# No more messages come ------------------------------------------------------------------------------------------------


def drains(peer: Peer) -> None:
    peer.connection.drain()


@pytest.mark.parametrize("ends", [Peer.half_closes, drains])
def test_a_connection_waits_for_its_tasks_when_no_more_messages_come(ends: Any) -> None:
    """A drain, or the peer's half-close, waits for a task as for a pending reply. Then the connection closes."""
    peer, wait = Peer(Closing([])), Deferred[None]()

    async def answers() -> None:
        await wait
        await peer.connection.send(b"done")

    peer.connection.spawn(answers())
    ends(peer)
    assert (peer.closing, peer.connection.state) == (False, State.INPUT_CLOSED)
    wait.callback(None)
    assert (peer.hears(), peer.closing) == (b"done\n", True)


def test_a_connection_does_not_wait_for_a_task_in_the_background() -> None:
    """When no more messages come, the connection closes although a background task runs, which is then cancelled."""
    peer, log = Peer(Closing([])), list[Any]()
    peer.connection.spawn(waits(Deferred(), log), background=True)
    peer.half_closes()
    assert (peer.closing, log) == (True, [])
    peer.leaves()
    assert log == [CancelledError]


@pytest.mark.parametrize("call", ["receive", "request"])
def test_a_reply_outlasts_a_task_that_learns_of_the_half_close(call: str) -> None:
    """A task that waits for the peer ends with its half-close, and the connection waits for the app's reply alone."""
    wait: Deferred[bytes] = Deferred()

    class App:
        def received(self, message: bytes, connection: Any) -> Deferred[bytes]:
            connection.spawn(waits(connection.request(b"?") if call == "request" else connection.receive(), log))
            return wait

    log: list[Any] = []
    peer = Peer(App())
    peer.says(b"a\n")
    peer.hears()
    peer.half_closes()
    assert (log, peer.connection.state) == ([NotConnected], State.INPUT_CLOSED)
    wait.callback(b"A")
    assert (peer.hears(), peer.closing, peer.told(AppFailed)) == (b"A\n", True, [])


def test_a_task_is_cancelled_at_once_when_memory_is_short() -> None:
    """When a connection is cut to save memory, its tasks are cancelled at once, since they can hold most of it."""
    log: list[Any] = []
    peer = stalled(None, limits=Limits(max_buffered=100_000))
    peer.connection.spawn(waits(Deferred(), log))
    peer.connection.send(b"x" * 900_000).addErrback(lambda _: None)
    assert (log, peer.connection.state) == ([CancelledError], State.CLOSING)
    peer.transport.turn()
    assert peer.reason.rule == "memory-short"


def test_a_drain_does_not_wait_for_a_task_beyond_its_deadline() -> None:
    """A task that does not end is cancelled at the deadline of the drain, and its connection is cut."""
    peer, log = Peer(Closing([]), timeouts=QUIET), list[Any]()
    peer.connection.spawn(waits(Deferred(), log))
    peer.connection.drain(3)
    peer.clock.advance(2)
    assert (peer.transport.aborted, log) == (False, [])
    peer.clock.advance(1)
    assert peer.transport.aborted
    peer.transport.lose()
    assert (log, peer.reason.rule) == ([CancelledError], "drain-over")


# The end --------------------------------------------------------------------------------------------------------------


def test_tasks_end_before_the_app_is_told_of_the_end() -> None:
    """At the end a task is cancelled, then the app's `closed` is called, and then `when_closed` fires."""
    log: list[Any] = []
    peer = Peer(Closing(log))
    peer.connection.spawn(waits(Deferred(), log))
    peer.connection.when_closed().addCallback(lambda _: log.append("when_closed"))
    peer.resets()
    assert log == [CancelledError, "closed", "when_closed"]
    assert (peer.told(AppFailed), peer.clock.getDelayedCalls()) == ([], [])


def test_the_end_waits_for_tasks_that_clean_up() -> None:
    """A task that awaits something while it ends holds up `closed` and `when_closed`, and the count of connections."""
    log: list[Any] = []
    peer, clean = Peer(Closing(log)), Deferred[str]()

    async def cleans_up() -> None:
        try:
            await Deferred()
        finally:
            log.append(await clean)

    peer.connection.spawn(cleans_up())
    peer.connection.data.kept = "so far"
    when_closed = outcome(peer.connection.when_closed())
    stopped = outcome(peer.factory.drain())
    peer.leaves()
    assert (peer.connection.state, log, when_closed, stopped) == (State.CLOSED, [], [], [])
    assert (peer.factory.info().connections, peer.connection.data.kept) == (1, "so far")
    clean.callback("clean")
    assert (log, len(when_closed), len(stopped)) == (["clean", "closed"], 1, 1)
    assert (peer.factory.info().connections, vars(peer.connection.data)) == (0, {})
    assert peer.clock.getDelayedCalls() == []


def test_the_end_waits_for_the_last_of_its_tasks() -> None:
    """Of several tasks that clean up, the last one to end lets the connection end."""
    log: list[Any] = []
    peer, cleans = Peer(Closing(log)), [Deferred[int](), Deferred[int]()]

    async def cleans_up(clean: Deferred[int]) -> None:
        try:
            await Deferred()
        finally:
            log.append(await clean)

    for each in cleans:
        peer.connection.spawn(cleans_up(each))
    peer.leaves()
    cleans[1].callback(1)
    assert log == [1]
    cleans[0].callback(0)
    assert log == [1, 0, "closed"]


def test_a_task_that_does_not_end_is_left_after_the_grace() -> None:
    """The end waits for tasks for `grace` seconds, cancels them again, and then leaves and reports them."""
    log: list[Any] = []
    peer = Peer(Closing(log), timeouts=Timeouts(grace=7))

    async def never_ends() -> None:
        while True:
            try:
                await Deferred()
            except CancelledError:
                log.append("cancelled")

    peer.connection.spawn(never_ends())
    peer.leaves()
    peer.clock.advance(6)
    assert log == ["cancelled"]
    peer.clock.advance(1)
    assert log == ["cancelled"] * 2
    peer.clock.advance(MOMENT)
    assert log == ["cancelled"] * 3 + ["closed"]
    [left] = peer.told(TasksLeft)
    assert (left.count, left.seconds, len(peer.told(Closed))) == (1, 7, 1)
    [line] = left.lines()
    assert line.text.format(**line.fields).endswith(
        "1 task(s) of the connection still run 7 s after they were cancelled"
    )
    assert peer.clock.getDelayedCalls() == []


def test_a_task_that_ends_by_the_second_cancel_is_not_left() -> None:
    """A task that goes on waiting after it was cancelled is cancelled again when the grace is over."""
    log: list[Any] = []
    peer = Peer(Closing(log), timeouts=Timeouts(grace=7))

    async def hesitates() -> None:
        try:
            await Deferred()
        finally:
            await waits(Deferred(), log)

    peer.connection.spawn(hesitates())
    peer.leaves()
    peer.clock.advance(7)
    assert (log, peer.told(TasksLeft)) == ([CancelledError, "closed"], [])


def test_without_a_clock_the_end_does_not_wait_for_tasks() -> None:
    """A connection without a clock leaves its tasks at once, since no timer can end the wait."""
    log: list[Any] = []
    peer = Peer(Closing(log), transport=NotedTransport())
    peer.protocol._clock = None

    async def never_ends() -> None:
        while True:
            try:
                await Deferred()
            except CancelledError:
                log.append("cancelled")

    peer.connection.spawn(never_ends())
    peer.leaves()
    assert log == ["cancelled", "cancelled", "closed"]


def test_a_task_that_fails_while_it_ends_is_reported() -> None:
    """An error of a cancelled task is a failure of the app, which the log shows. The reason of the end stays."""

    async def fails_to_clean_up() -> None:
        try:
            await Deferred()
        finally:
            raise ZeroDivisionError

    peer = Peer()
    peer.connection.spawn(fails_to_clean_up())
    peer.leaves()
    assert (len(peer.told(AppFailed)), peer.reason.rule) == (1, "end-of-stream")


@pytest.mark.parametrize("call", ["receive", "request"])
def test_a_task_that_waits_for_the_peer_learns_of_the_end_by_that(call: str) -> None:
    """A `receive()` or `request()` of a task fails with the reason. The task is not cancelled while it cleans up."""
    log: list[Any] = []
    peer, clean = Peer(None), Deferred[str]()

    async def asks() -> None:
        try:
            await getattr(peer.connection, call)(*([b"?"] if call == "request" else []))
        except NotConnected as error:
            log.append(error.reason.rule)
        await waits(clean, log)

    peer.connection.spawn(asks())
    peer.resets()
    assert log == ["lost"]
    clean.callback("clean")
    assert (log, peer.told(AppFailed)) == (["lost", "clean"], [])


def test_a_task_can_end_its_own_connection() -> None:
    """A task that cuts its connection runs on to its end, and is not cancelled while it runs."""
    log: list[Any] = []
    peer = Peer(Closing(log), transport=AbruptTransport())

    async def cuts() -> None:
        await deferLater(peer.clock, 1)
        peer.connection.abort()
        log.append(peer.connection.state)

    told = outcome(peer.connection.spawn(cuts()))
    peer.clock.advance(1)
    assert (log, told) == ([State.CLOSED, "closed"], [None])


def test_a_task_that_cancels_another_at_the_end_ends_both() -> None:
    """A task that awaits another task's Deferred ends with it. Each is cancelled once."""
    log: list[Any] = []
    peer = Peer(Closing(log))

    async def parent() -> None:
        await waits(peer.connection.spawn(waits(Deferred(), log)), log)

    peer.connection.spawn(parent())
    peer.leaves()
    assert log == [CancelledError, CancelledError, "closed"]


def test_a_pending_reply_is_cancelled_before_the_tasks_have_ended() -> None:
    """At the end, a pending reply does not wait for a task that cleans up: both are cancelled at once."""
    log: list[Any] = []

    async def app(message: bytes, connection: Any) -> None:
        connection.spawn(cleans_up())
        await waits(Deferred(), log)

    async def cleans_up() -> None:
        try:
            await Deferred()
        finally:
            log.append("cleans up")
            await Deferred()

    peer = Peer(app)
    peer.says(b"a\n")
    peer.leaves()
    assert log == [CancelledError, "cleans up"]
    peer.clock.advance(5)
    assert peer.clock.getDelayedCalls() == []


def test_a_task_that_awaits_the_end_of_its_connection_is_cancelled_there() -> None:
    """A task can close its connection. If it awaits the end, which waits for it, it is cancelled, and none hangs."""
    log: list[Any] = []
    peer = Peer(Closing(log))

    async def closes() -> None:
        await waits(peer.connection.close(), log)

    peer.connection.spawn(closes())
    peer.leaves()
    assert (log, peer.told(AppFailed), peer.clock.getDelayedCalls()) == ([CancelledError, "closed"], [], [])


def test_asyncio_in_a_task_of_twisted_is_explained() -> None:
    """A task that awaits asyncio without `tcpapp.aio` fails with an error that says what to do."""
    peer = Peer()

    async def sleeps() -> None:
        await asyncio.sleep(1)

    peer.connection.spawn(sleeps())
    peer.leaves()
    assert "asyncio has no loop here: start with --reactor=asyncio" in str(peer.reason)


def test_the_number_of_tasks_is_told() -> None:
    """`info()` of the protocol says how many tasks run, also while the connection waits for their end."""
    peer, clean = Peer(), Deferred[None]()

    async def cleans_up() -> None:
        try:
            await Deferred()
        finally:
            await clean

    assert peer.protocol.info().tasks == 0
    peer.connection.spawn(cleans_up())
    peer.connection.spawn(waits(Deferred(), []))
    assert peer.protocol.info().tasks == 2
    peer.leaves()
    info = peer.protocol.info()
    assert (info.tasks, info.state, info.deadline) == (1, "closed", Wait("tasks", 5.0))
    clean.callback(None)
    assert (peer.protocol.info().tasks, peer.protocol.info().deadline) == (0, None)


def test_a_connection_without_tasks_has_no_memory_for_them() -> None:
    """A connection makes its tasks and its data when they are first used."""
    peer = Peer(Closing([]))
    peer.says(b"a\n")
    assert (peer.protocol._tasks, peer.protocol._data) == (None, None)


@pytest.mark.usefixtures("no_collector")
def test_a_task_that_has_ended_is_freed() -> None:
    """Neither a returned nor a cancelled task, nor its connection, stays in memory after the end."""
    peer = Peer(Closing([]))
    wait: Deferred[None] = Deferred()
    coroutines = [waits(wait, []), waits(Deferred(), [])]
    kept = [ref(each) for each in coroutines]
    for each in coroutines:
        peer.connection.spawn(each)
    del each, coroutines
    wait.callback(None)
    peer.leaves()
    protocol = ref(peer.protocol.connection)
    peer.connection = peer.transport.connection = None
    peer.events.clear()
    assert ([each() for each in kept], protocol()) == ([None, None], None)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("end", [Peer.resets, None], ids=["closed", "too-many"])
def test_a_task_that_is_refused_leaves_nothing_in_memory(end: Any) -> None:
    """The error of a refused task does not keep the connection, nor the coroutine, in memory."""
    peer = Peer(Closing([]), limits=Limits(max_tasks=1))
    connection = peer.connection
    connection.spawn(waits(Deferred(), []))
    if end is not None:
        end(peer)
    coroutine = waits(Deferred(), [])
    kept = ref(coroutine)
    with pytest.raises((NotConnected, TooManyTasks)):
        connection.spawn(coroutine)
    del coroutine
    assert kept() is None
    peer.leaves()
    protocol = ref(peer.protocol)
    peer.connection = connection = peer.protocol = peer.transport.connection = None
    peer.events.clear()
    assert protocol() is None


def test_awaited_by_sees_through_coroutines() -> None:
    """`awaited_by()` returns what the innermost coroutine awaits; `None` after the end."""
    wait: Deferred[None] = Deferred()

    async def outer() -> None:
        await waits(wait, [])

    coroutine = outer()
    running = Deferred.fromCoroutine(coroutine)
    assert awaited_by(coroutine) not in (None, coroutine)
    wait.callback(None)
    assert (awaited_by(coroutine), result_of(running)) == (None, None)
    assert len(Tasks(Peer().protocol, Peer().protocol._lifecycle, Peer().protocol._deadlines)) == 0
