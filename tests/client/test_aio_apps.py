"""Apps whose handlers are coroutines of asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, ClassVar

import pytest
from twisted.internet.defer import Deferred, succeed

from tcpapp import aio, batch, conversation
from tcpapp.close_reason import CloseReason
from tcpapp.connection.tasks import MOMENT
from tcpapp.errors import InvalidOption, NotConnected, TooManyTasks
from tcpapp.limits import Limits, Timeouts
from tcpapp.telemetry import AppFailed, Closed, TasksLeft
from tests.peers import AbruptTransport, Peer


async def shout(message: bytes, connection: Any) -> bytes:
    """Reply in capitals."""
    await asyncio.sleep(0)
    assert asyncio.current_task() is not None
    assert isinstance(connection, aio.Native)
    return message.upper()


class Counts:
    """An app whose instances each have a connection, and count its messages."""

    told: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        self.count = 0

    async def opened(self, connection: Any) -> bytes:
        await asyncio.sleep(0)
        self.connections = {connection}
        return b"welcome"

    async def received(self, message: bytes, connection: Any) -> bytes:
        await asyncio.sleep(0)
        assert connection in self.connections
        self.count += 1
        return b"%d" % self.count

    def draining(self, connection: Any) -> bytes:
        return b"%s leaves" % type(connection).__name__.encode()

    def closed(self, connection: Any, reason: CloseReason) -> None:
        self.told.append((type(connection), self.count, reason.rule))


class Batched:
    """An app in the batch form."""

    async def received_all(self, messages: list[bytes], connection: Any) -> list[bytes]:
        await asyncio.sleep(0)
        return [b" ".join(messages)]


@batch
async def joins(messages: list[bytes], connection: Any) -> list[bytes]:
    """Reply to all at once."""
    await asyncio.sleep(0)
    return [b"+".join(messages)]


@conversation
async def talks(connection: Any) -> None:
    """Reply in capitals, as long as the connection lives."""
    async for message in connection:
        await asyncio.sleep(0)
        await connection.send(message.upper())


def at_once(message: bytes, connection: Any) -> bytes:
    """Reply without waiting."""
    assert isinstance(connection, aio.Native)
    return message.upper()


def later(message: bytes, connection: Any) -> Deferred[bytes]:
    """Reply with a Deferred, as an app of Twisted can."""
    return succeed(message.upper())


async def said_to(app: Any, *said: bytes) -> Peer:
    """Return a peer of `app` that has sent these chunks, after some turns of the loop."""
    peer = Peer(app)
    for each in (b"", *said):
        if each:
            peer.says(each)
        for _ in range(10):
            await asyncio.sleep(0)
    return peer


@pytest.mark.parametrize(
    ("native", "replies"),
    [
        (shout, b"ONE\nTWO\n"),
        (at_once, b"ONE\nTWO\n"),
        (later, b"ONE\nTWO\n"),
        (partial(shout), b"ONE\nTWO\n"),
        (talks, b"ONE\nTWO\n"),
        pytest.param(aio.conversation(talks.talk), b"ONE\nTWO\n", id="talks already"),
        (joins, b"one+two\n"),
        (Batched(), b"one two\n"),
        (Batched, b"one two\n"),
        (Counts, b"welcome\n1\n2\n"),
        (Counts(), b"welcome\n1\n2\n"),
    ],
)
def test_an_app_of_any_form_can_await_asyncio(native: Any, replies: bytes) -> None:
    """An app of each form can await asyncio, and keeps its docstring."""
    made = aio.app(native)
    assert made.__doc__ == native.__doc__

    async def main() -> None:
        peer = await said_to(made, b"one\ntwo\n")
        assert peer.hears() == replies
        peer.connection.close()
        peer.leaves()
        await asyncio.sleep(0)

    asyncio.run(main())


def test_a_class_is_made_anew_for_each_connection() -> None:
    """A class is made anew for each connection, and an instance serves all. Each part gets the connection."""

    async def main() -> None:
        for app, counts in ((aio.app(Counts), [1, 1]), (aio.app(Counts()), [2, 2])):
            Counts.told.clear()
            peers = [await said_to(app, b"hello\n") for _ in range(2)]
            for peer in peers:
                peer.hears()
                peer.connection.drain()
                assert peer.hears() == b"Native leaves\n"
                peer.leaves()
            assert Counts.told == [(aio.Native, count, "drained") for count in counts]

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [5, lambda message: None, type("Nothing", (), {})])
def test_an_invalid_app_is_refused_at_once(wrong: Any) -> None:
    """`aio.app` refuses an invalid app, as `listen` does."""
    with pytest.raises(InvalidOption):
        aio.app(wrong)


def test_none_and_a_conversation_stay_as_they_are() -> None:
    """
    `aio.app` returns None and an aio conversation unchanged; `aio.conversation` refuses a function that takes a
    message.
    """
    assert aio.app(None) is None
    talk = aio.conversation(talks.talk)
    assert aio.app(talk) is talk
    with pytest.raises(InvalidOption, match=r"shout.*: takes \(connection\)"):
        aio.conversation(shout)  # type: ignore[arg-type]  # it takes a message, too


def test_on_a_reactor_without_asyncio_an_app_says_so() -> None:
    """On a reactor without asyncio the connection is closed, and the reason names the reactor and what to do."""
    for app in (aio.app(shout), aio.app(Counts), aio.conversation(talks.talk)):
        peer = Peer(app)
        peer.says(b"hello\n")
        peer.leaves()
        assert peer.reason.rule == "app-failed"
        assert "aio: no loop of asyncio runs here, for Twisted's reactor is" in str(peer.reason)
        assert "start with --reactor=asyncio or --reactor=uvloop" in str(peer.reason.error)
    with pytest.raises(InvalidOption, match="no loop of asyncio runs here"):
        aio.future(Deferred())
    with pytest.raises(InvalidOption, match="no loop of asyncio runs here"):
        aio.deferred(Deferred())


# The end, tasks and ticks ---------------------------------------------------------------------------------------------


async def turns(count: int = 10) -> None:
    """Let the loop make some turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def noted(what: Any, log: list[Any]) -> None:
    """Await `what`, and note how that ended."""
    try:
        log.append(await what)
    except BaseException as error:
        log.append(type(error))
        raise


def waits_in(form: str, log: list[Any]) -> Any:
    """Return an app of this form whose coroutine waits for ever."""

    async def received(message: bytes, connection: Any) -> None:
        await noted(asyncio.Event().wait(), log)

    async def talk(connection: Any) -> None:
        await noted(asyncio.Event().wait(), log)

    async def opened(self: Any, connection: Any) -> None:
        await noted(asyncio.Event().wait(), log)

    if form == "function":
        return aio.app(received)
    return aio.app(conversation(talk) if form == "conversation" else type("App", (), {"opened": opened}))


@pytest.mark.parametrize("form", ["function", "conversation", "class"])
def test_a_coroutine_that_waits_is_cancelled_at_the_end(form: str) -> None:
    """At the end of the connection, a coroutine of an app in any form is cancelled where it waits."""

    async def main() -> None:
        log: list[Any] = []
        peer = await said_to(waits_in(form, log), b"hello\n")
        peer.resets()
        await turns()
        assert (log, peer.told(AppFailed)) == ([asyncio.CancelledError], [])

    asyncio.run(main())


def test_a_conversation_that_waits_for_a_message_learns_of_the_end_by_that() -> None:
    """The `receive()` of a conversation raises the reason of the end, and the conversation can clean up in peace."""

    async def main() -> None:
        log: list[Any] = []

        async def talk(connection: Any) -> None:
            try:
                await noted(connection.receive(), log)
            finally:
                await asyncio.sleep(0)
                log.append("clean")

        peer = await said_to(aio.conversation(talk))
        peer.resets()
        await turns()
        assert (log, peer.told(AppFailed)) == ([NotConnected, "clean"], [])

    asyncio.run(main())


def test_a_task_of_asyncio_runs_beside_the_app() -> None:
    """`connection.spawn()` runs a coroutine as a task of asyncio, and returns a future of its result."""

    async def main() -> None:
        results: list[Any] = []

        async def works(message: bytes, connection: Any) -> bytes:
            assert asyncio.current_task() is not None
            await asyncio.sleep(0)
            await connection.send(message.upper())
            return message

        async def app(message: bytes, connection: Any) -> None:
            results.append(connection.spawn(works(message, connection)))

        peer = await said_to(aio.app(app), b"one\ntwo\n")
        assert peer.hears() == b"ONE\nTWO\n"
        assert [await each for each in results] == [b"one", b"two"]

    asyncio.run(main())


def test_the_end_waits_for_tasks_of_asyncio() -> None:
    """At the end a task is cancelled, and the connection is closed when the task has ended, after its clean-up."""

    async def main() -> None:
        log: list[Any] = []

        async def works() -> None:
            try:
                await noted(asyncio.Event().wait(), log)
            finally:
                await asyncio.sleep(0)
                log.append("clean")

        peer = Peer()
        spawned = aio.Native(peer.connection).spawn(works())
        aio.Native(peer.connection).when_closed().add_done_callback(lambda _: log.append("closed"))
        await turns()
        peer.leaves()
        assert log == []
        await turns()
        assert (log, spawned.cancelled()) == ([asyncio.CancelledError, "clean", "closed"], True)
        assert (peer.told(AppFailed), peer.clock.getDelayedCalls()) == ([], [])

    asyncio.run(main())


def test_a_task_that_has_not_begun_never_runs_after_the_end() -> None:
    """If a connection ends in the turn in which a task was spawned, the task does not run."""

    async def main() -> None:
        log: list[Any] = []
        peer = Peer()
        spawned = aio.Native(peer.connection).spawn(noted(None, log))
        peer.leaves()
        await turns()
        assert (log, spawned.cancelled(), len(peer.told(Closed))) == ([], True, 1)

    asyncio.run(main())


def test_a_task_can_end_its_connection() -> None:
    """A task that closes its own connection runs on to its end."""

    async def main() -> None:
        log: list[Any] = []
        peer = Peer(transport=AbruptTransport())

        async def cuts() -> None:
            await asyncio.sleep(0)
            peer.connection.abort()
            await noted(asyncio.sleep(0, "slept"), log)

        aio.Native(peer.connection).spawn(cuts())
        await turns()
        assert (log, len(peer.told(Closed))) == (["slept"], 1)

    asyncio.run(main())


@pytest.mark.parametrize("times", [2, 3])
def test_a_task_that_resists_is_cancelled_again_and_left(times: int) -> None:
    """A task of asyncio that goes on after it was cancelled is cancelled again after the grace, and then left."""

    async def main() -> None:
        log: list[Any] = []

        async def stays() -> None:
            while len(log) < times:
                with contextlib.suppress(asyncio.CancelledError):
                    await noted(asyncio.Event().wait(), log)

        peer = Peer(timeouts=Timeouts(grace=3))
        aio.Native(peer.connection).spawn(stays())
        await turns()
        peer.leaves()
        await turns()
        assert (log, peer.told(Closed)) == ([asyncio.CancelledError], [])
        peer.clock.advance(3)
        await turns()
        assert (len(log), len(peer.told(Closed))) == (2, 3 - times)
        peer.clock.advance(MOMENT)
        await turns()
        assert log == [asyncio.CancelledError] * times
        assert (len(peer.told(TasksLeft)), len(peer.told(Closed))) == (times - 2, 1)

    asyncio.run(main())


def test_a_task_of_asyncio_that_is_cancelled_is_no_failure() -> None:
    """Cancelling the future of a task cancels the task alone."""

    async def main() -> None:
        log: list[Any] = []
        peer = Peer()
        spawned = aio.Native(peer.connection).spawn(noted(asyncio.Event().wait(), log))
        await turns()
        spawned.cancel()
        await turns()
        assert (log, peer.connection.is_open) == ([asyncio.CancelledError], True)

    asyncio.run(main())


def test_a_task_of_asyncio_that_fails_closes_the_connection(caplog: Any) -> None:
    """The failure of a task is the app's, and asyncio does not report it again."""

    async def main() -> None:
        peer = Peer()

        async def fails() -> None:
            await asyncio.sleep(0)
            raise ZeroDivisionError

        aio.Native(peer.connection).spawn(fails())
        await turns()
        assert (len(peer.told(AppFailed)), peer.closing) == (1, True)
        gc.collect()

    asyncio.run(main())
    assert caplog.records == []


@pytest.mark.filterwarnings("error")
def test_a_refused_task_of_asyncio_is_closed() -> None:
    """A coroutine that cannot be spawned is closed: after the end, over the limit, or where no loop runs."""

    async def main() -> None:
        peer = Peer(limits=Limits(max_tasks=1))
        native = aio.Native(peer.connection)
        native.spawn(asyncio.sleep(0))
        with pytest.raises(TooManyTasks):
            native.spawn(noted(None, []))
        peer.leaves()
        with pytest.raises(NotConnected):
            native.spawn(noted(None, []))
        with pytest.raises(InvalidOption, match="takes a coroutine; call the function"):
            native.spawn(noted)
        gc.collect()
        await turns()

    asyncio.run(main())
    with pytest.raises(InvalidOption, match="no loop of asyncio runs here"):
        aio.Native(Peer().connection).spawn(noted(None, []))
    gc.collect()


def test_a_task_of_asyncio_can_tick() -> None:
    """``async for skipped in connection.every(…)`` works in a task of asyncio, and ends with the connection."""

    async def main() -> None:
        peer, log = Peer(), list[Any]()

        async def ticks(connection: Any) -> None:
            async for skipped in connection.every(2, now=True):
                await asyncio.sleep(0)
                log.append(skipped)
            log.append("over")

        native = aio.Native(peer.connection)
        native.spawn(ticks(native))
        for _ in range(3):
            await turns()
            peer.clock.advance(2)
        await turns()
        peer.connection.close()
        await turns()
        assert log == [0, 0, 0, 0, "over"]

    asyncio.run(main())


# Replies of many messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["function", "coroutine", "class"])
def test_a_reply_of_many_messages_can_await_asyncio(form: str) -> None:
    """An async generator of an app awaits asyncio between its messages, and is closed at the end of the connection."""

    async def main() -> None:
        log: list[str] = []

        async def counts(message: bytes, connection: Any) -> AsyncIterator[bytes]:
            try:
                for number in range(int(message)):
                    await asyncio.sleep(0)
                    yield b"%d" % number
                if message == b"3":
                    await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                log.append("closed")

        async def later(message: bytes, connection: Any) -> AsyncIterator[bytes]:
            await asyncio.sleep(0)
            return counts(message, connection)

        apps = {"function": counts, "coroutine": later, "class": type("App", (), {"received": staticmethod(counts)})}
        peer = await said_to(aio.app(apps[form]), b"2\n")
        await turns(20)
        assert (peer.hears(), log) == (b"0\n1\n", ["closed"])
        peer.says(b"3\n")
        await turns(20)
        assert (peer.hears(), log) == (b"0\n1\n2\n", ["closed"])
        peer.resets()
        await turns(20)
        assert (log, peer.told(AppFailed)) == (["closed", "closed"], [])

    asyncio.run(main())
