"""If code mixes the waits of asyncio and Twisted, the error names the cause and the cure."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tcpapp import aio
from tcpapp.connection.asyncio_errors import explained
from tcpapp.errors import InvalidOption
from tests.peers import Peer, outcome

once = pytest.mark.once  # a loop of asyncio cannot run inside another


async def sleeps() -> None:
    await asyncio.sleep(10)


async def waits_for_a_future() -> None:
    await asyncio.get_running_loop().create_future()


async def waits_for_so_long() -> None:
    await asyncio.wait_for(asyncio.get_running_loop().create_future(), 10)


async def has_a_group() -> None:
    async with asyncio.TaskGroup():  # type: ignore[attr-defined]  # from Python 3.11 on
        raise AssertionError


IN_TWISTED: list[Any] = [sleeps, waits_for_a_future, waits_for_so_long]
if sys.version_info >= (3, 11):
    IN_TWISTED.append(has_a_group)


def in_a_loop(function: Callable[[], Any]) -> Any:
    """Call `function` while a loop runs, outside of the loop's tasks, and return the result."""

    async def main() -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: done.set_result(function()))
        return await done

    return asyncio.run(main())


def error_of(coroutine: Any) -> Any:
    """Run a coroutine with Twisted, and return its error, as `explained` changes it."""
    [error] = outcome(Deferred.fromCoroutine(coroutine).addErrback(explained))
    return error


@once
@pytest.mark.parametrize("native", IN_TWISTED)
def test_a_twisted_coroutine_that_awaits_asyncio_gets_an_explained_error(native: Any) -> None:
    """A Twisted coroutine that awaits asyncio fails with `InvalidOption`, whose cause is Python's own error."""
    error = in_a_loop(lambda: error_of(native()))
    assert isinstance(error, InvalidOption)
    assert isinstance(error.__cause__, RuntimeError)
    assert str(error).startswith("a Twisted coroutine cannot await asyncio: make the app with tcpapp.aio.app, or ")
    assert str(error.__cause__) in str(error)


@once
def test_a_twisted_coroutine_that_awaits_asyncio_without_a_loop_gets_an_explained_error() -> None:
    """Without a loop of asyncio, the error names the reactors that have one."""
    error = error_of(sleeps())
    assert isinstance(error, InvalidOption)
    assert str(error).startswith("asyncio has no loop here: start with --reactor=asyncio or --reactor=uvloop, ")


@once
def test_a_task_that_awaits_a_deferred_gets_an_explained_error() -> None:
    """If a task of asyncio awaits a Deferred, the error tells it to await `tcpapp.aio.future(...)`."""

    async def native() -> None:
        await Deferred()

    async def main() -> Any:
        task = asyncio.ensure_future(native())
        [error] = await asyncio.gather(task, return_exceptions=True)
        return explained(Failure(error)).value

    error = asyncio.run(main())
    assert isinstance(error, InvalidOption)
    assert str(error).startswith("a task of asyncio cannot await a Deferred: await tcpapp.aio.future(...) of it")


@pytest.mark.parametrize("error", [RuntimeError("something else"), ValueError("no running event loop"), KeyError()])
def test_any_other_failure_is_returned_unchanged(error: Exception) -> None:
    """`explained` returns a failure with any other error unchanged."""
    failure = Failure(error)
    assert explained(failure) is failure


def test_the_traceback_is_kept() -> None:
    """The explained error keeps the traceback, so that the log shows the line of the coroutine."""
    try:
        raise RuntimeError("no running event loop")
    except RuntimeError:
        failure = Failure()
    told = explained(failure)
    assert (told.tb, told.type) == (failure.tb, InvalidOption)
    assert "test_the_traceback_is_kept" in told.getTraceback()


@once
def test_the_end_of_an_app_that_awaits_asyncio_names_the_cure() -> None:
    """If a Twisted app awaits asyncio, the reason of the connection's end names `tcpapp.aio.app`."""

    async def app(message: bytes, connection: Any) -> bytes:
        await asyncio.sleep(10)
        return message

    def served() -> Peer:
        peer = Peer(app)
        peer.says(b"hello\n")
        peer.leaves()
        return peer

    for peer in (in_a_loop(served), served()):
        assert peer.reason.rule == "app-failed"
        assert "tcpapp.aio.app" in str(peer.reason)


@once
def test_a_future_that_a_twisted_coroutine_awaits_says_so() -> None:
    """`aio.future` in a Twisted coroutine fails with the cure, even if a task called the coroutine."""

    async def wrong() -> None:
        await aio.future(Deferred())

    async def main() -> None:
        [error] = outcome(Deferred.fromCoroutine(wrong()))
        assert isinstance(error, InvalidOption)
        assert "a Twisted coroutine cannot await asyncio; await Deferreds of tcpapp there" in str(error)

    asyncio.run(main())
