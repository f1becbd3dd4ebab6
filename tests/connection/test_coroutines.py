"""Apps that are coroutines run up to their first wait before anything is made for them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from types import CoroutineType
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from tcpapp import Reply, Timeouts, batch
from tcpapp.connection.coroutines import begun
from tcpapp.errors import InvalidOption, NotConnected
from tcpapp.telemetry import AppFailed
from tests.peers import AbruptTransport, Peer

FORMS = pytest.mark.parametrize("concurrency", [1, 3], ids=["one at a time", "three at a time"])
NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


@pytest.fixture
def no_deferred(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse to make the Deferred of a coroutine."""

    def refuse(coroutine: Any) -> None:
        raise AssertionError(f"{coroutine} was given a Deferred")

    monkeypatch.setattr(Deferred, "fromCoroutine", refuse)
    return


# Coroutines that return at once ---------------------------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize(
    ("reply", "heard"),
    [
        (lambda: b"yes", b"1\nyes\n3\n"),
        (lambda: None, b"1\n3\n"),
        (lambda: Reply(b"yes"), b"1\nyes\n3\n"),
        (lambda: iter([b"a", b"b"]), b"1\na\nb\n3\n"),
    ],
    ids=["bytes", "None", "Reply", "stream"],
)
def test_the_reply_of_a_coroutine_that_returns_at_once_is_written_with_the_others(
    concurrency: int, reply: Callable[[], Any], heard: bytes
) -> None:
    """A coroutine that returns at once gives its reply in its place, and the replies to a chunk are one write."""

    async def app(message: bytes, connection: Any) -> Any:
        return reply() if message == b"2" else message

    peer = Peer(app, concurrency=concurrency)
    peer.says(b"1\n2\n3\n")
    assert peer.hears() == heard
    assert len(peer.transport.writes) == 1
    assert peer.protocol.info().in_flight == 0


@FORMS
@pytest.mark.usefixtures("no_deferred")
def test_a_coroutine_that_returns_at_once_costs_no_deferred_and_no_timer(concurrency: int) -> None:
    """Neither a Deferred is made for it, nor a timer, also where it awaits a Deferred that has fired."""

    async def app(message: bytes, connection: Any) -> bytes:
        await connection.send(b"to be sent first")
        return await succeed(message)

    peer = Peer(app, concurrency=concurrency, timeouts=Timeouts(handler_timeout=1))
    peer.says(b"1\n")
    peer.says(b"2\n3\n")
    assert peer.hears().replace(b"to be sent first\n", b"") == b"1\n2\n3\n"
    assert peer.waits == []


@FORMS
def test_a_value_of_a_coroutine_that_returns_at_once_is_encoded(concurrency: int) -> None:
    """The codec encodes what the coroutine returns, and a value that it refuses is the app's failure."""

    async def app(message: Any, connection: Any) -> Any:
        return {"bad": object(), "null": Reply(None), "stream": iter([1, [2]])}.get(message, message)

    peer = Peer(app, codec="json", concurrency=concurrency)
    peer.says(b'"1"\n"null"\n"stream"\n"bad"\n"5"\n')
    assert peer.hears() == b'"1"\nnull\n1\n[2]\n'
    peer.leaves()
    assert peer.reason.rule == "app-failed"


@FORMS
@pytest.mark.parametrize("codec", [None, "text"])
def test_a_batch_that_is_a_coroutine_and_returns_at_once_is_answered(concurrency: int, codec: Any) -> None:
    """The replies of a batch that returns at once are sent, and anything but a list is the app's failure."""

    async def answer(messages: list[Any], connection: Any) -> Any:
        return None if len(messages) == 1 else messages if len(messages) == 2 else messages[0]

    peer = Peer(batch(answer), codec=codec, concurrency=concurrency)
    peer.says(b"1\n")
    peer.says(b"1\n2\n")
    assert peer.hears() == b"1\n2\n"
    peer.says(b"1\n2\n3\n")
    peer.leaves()
    assert peer.reason.rule == "app-failed"


def test_the_replies_of_a_batch_before_an_unsendable_one_are_sent() -> None:
    """If the codec refuses a reply of a batch that returns at once, the replies before it are sent."""

    async def answer(messages: list[Any], connection: Any) -> Any:
        return ["yes", object()]

    peer = Peer(batch(answer), codec="json")
    peer.says(b"1\n")
    assert peer.hears() == b'"yes"\n'
    peer.leaves()
    assert peer.reason.rule == "app-failed"


@FORMS
@pytest.mark.parametrize("chunk", [b"1\nbad\n3\n", b"bad\n"])
def test_a_coroutine_that_raises_at_once_fails_the_app(concurrency: int, chunk: bytes) -> None:
    """The replies before it are sent, no message after it is handled, and the event shows where it raised."""

    async def app(message: bytes, connection: Any) -> bytes:
        if message == b"bad":
            raise ZeroDivisionError("its own mistake")
        return message

    peer = Peer(app, concurrency=concurrency)
    peer.says(chunk)
    assert peer.hears() == chunk.partition(b"bad")[0]
    peer.leaves()
    [failed] = peer.told(AppFailed)
    assert "in app" in failed.failure.getTraceback()
    assert "its own mistake" in failed.failure.getTraceback()
    assert peer.reason.rule == "app-failed"


def test_a_coroutine_that_exits_the_program_only_fails_its_app() -> None:
    """`SystemExit` in a coroutine is a failure of the app, at once as later: it does not end the reactor's read."""

    async def app(message: bytes, connection: Any) -> None:
        raise SystemExit

    peer = Peer(app)
    peer.says(b"1\n")
    peer.leaves()
    assert isinstance(peer.reason.error, SystemExit)


@FORMS
def test_a_coroutine_that_returns_a_deferred_sends_what_cannot_be_sent(concurrency: int) -> None:
    """A Deferred as the result of a coroutine is no reply: it is not awaited, at once as later."""

    async def app(message: bytes, connection: Any) -> Any:
        return succeed(message)

    peer = Peer(app, concurrency=concurrency)
    peer.says(b"1\n")
    peer.leaves()
    assert peer.reason.rule == "app-failed"


@FORMS
def test_a_coroutine_that_returns_at_once_waits_for_earlier_replies(concurrency: int) -> None:
    """Replies stay in the order of their messages where an earlier coroutine waits."""
    waiting: list[Deferred[None]] = []

    async def app(message: bytes, connection: Any) -> bytes:
        if message == b"1":
            waiting.append(Deferred())
            await waiting[0]
        return message

    peer = Peer(app, concurrency=concurrency)
    peer.says(b"1\n2\n3\n")
    assert peer.hears() == b""
    waiting[0].callback(None)
    assert peer.hears() == b"1\n2\n3\n"


def test_a_greeting_of_a_coroutine_that_returns_at_once_is_sent() -> None:
    """``opened`` can be a coroutine, whose result is sent."""

    class Greeting:
        async def opened(self, connection: Any) -> str:
            return "hello"

        async def received(self, message: str, connection: Any) -> str:
            return message

    peer = Peer(Greeting(), codec="json")
    peer.says(b'"you"\n')
    assert peer.hears() == b'"hello"\n"you"\n'


@FORMS
def test_a_coroutine_that_closes_its_connection_is_answered(concurrency: int) -> None:
    """The reply of a coroutine that returns at once is sent, also where it has called ``close`` before."""

    async def app(message: bytes, connection: Any) -> bytes:
        connection.close()
        return b"bye"

    peer = Peer(app, concurrency=concurrency)
    peer.says(b"1\n2\n")
    peer.leaves()
    assert peer.hears() == b"bye\n"
    assert peer.reason.rule == "closed"


@FORMS
def test_a_coroutine_that_is_running_when_its_connection_ends_sends_nothing(concurrency: int) -> None:
    """A coroutine that runs at the end gets to its own end, and is cancelled where it waits after that."""
    ended: list[str] = []

    async def app(message: bytes, connection: Any) -> bytes:
        connection.abort()
        if message == b"waits":
            try:
                await Deferred()
            except CancelledError:
                ended.append("cancelled")
                raise
        ended.append("returned")
        return b"too late"

    for message in (b"returns", b"waits"):
        peer = Peer(app, transport=AbruptTransport(), concurrency=concurrency)
        peer.says(message + b"\n")
        assert peer.hears() == b""
        assert peer.reason.rule == "aborted"
    assert ended == ["returned", "cancelled"]


# Coroutines that wait -------------------------------------------------------------------------------------------------


@FORMS
def test_a_coroutine_that_waits_goes_on_with_what_its_deferreds_give(concurrency: int) -> None:
    """It gets each result and each error of the Deferreds that it awaits, and its reply is sent when it returns."""
    waiting: list[Deferred[Any]] = []

    async def app(message: bytes, connection: Any) -> bytes:
        waiting.append(Deferred())
        first = await waiting[0]
        waiting.append(Deferred())
        with suppress(ZeroDivisionError):
            await waiting[1]
        with suppress(LookupError):
            await fail(LookupError())
        return bytes(first + await succeed(b"!"))

    peer = Peer(app, concurrency=concurrency, timeouts=Timeouts(handler_timeout=1))
    peer.says(b"1\n")
    assert (peer.waits, peer.protocol.info().in_flight) == (["handler_timeout"], 1)
    waiting[0].callback(b"yes")
    waiting[1].errback(ZeroDivisionError())
    assert peer.hears() == b"yes!\n"
    assert peer.waits == []


@FORMS
def test_a_coroutine_that_waits_too_long_is_cancelled(concurrency: int) -> None:
    """After ``handler_timeout`` the Deferred that it awaits is cancelled, and the connection closes."""
    told: list[str] = []

    async def app(message: bytes, connection: Any) -> None:
        try:
            await Deferred(lambda _: told.append("the Deferred"))
        except CancelledError:
            told.append("the coroutine")
            raise

    peer = Peer(app, concurrency=concurrency, timeouts=Timeouts(handler_timeout=5))
    peer.says(b"1\n")
    peer.clock.advance(6)
    assert told == ["the Deferred", "the coroutine"]
    peer.leaves()
    assert peer.reason.rule == "handler-timeout"


def test_the_traceback_of_a_coroutine_that_has_waited_shows_where_it_raised() -> None:
    """The frames of the app are in the traceback, those of the error that it was given, too."""
    waiting: Deferred[None] = Deferred()

    async def inner() -> None:
        await waiting

    async def app(message: bytes, connection: Any) -> None:
        await inner()

    peer = Peer(app)
    peer.says(b"1\n")
    waiting.errback(ZeroDivisionError("from elsewhere"))
    peer.leaves()
    [failed] = peer.told(AppFailed)
    text = failed.failure.getTraceback()
    assert ("in app" in text, "in inner" in text, "from elsewhere" in text) == (True, True, True)


@FORMS
def test_a_coroutine_can_receive_the_next_message_itself(concurrency: int) -> None:
    """A coroutine that awaits ``receive`` gets the message behind its own, which the app does not get."""
    seen: list[bytes] = []

    async def app(message: bytes, connection: Any) -> bytes:
        seen.append(message)
        return message + bytes(await connection.receive())

    peer = Peer(app, concurrency=concurrency)
    peer.says(b"1\n")
    assert peer.hears() == b""
    peer.says(b"2\n3\n")
    peer.says(b"4\n")
    assert (peer.hears(), seen) == (b"12\n34\n", [b"1", b"3"])


def test_a_coroutine_that_awaits_a_future_gets_an_error_that_says_so() -> None:
    """Twisted cannot await a Future of asyncio: the app fails with an `InvalidOption`."""
    loop = asyncio.new_event_loop()

    async def app(message: bytes, connection: Any) -> None:
        await loop.create_future()

    peer = Peer(app)
    peer.says(b"1\n")
    peer.leaves()
    loop.close()
    assert isinstance(peer.reason.error, InvalidOption)


# `begun` --------------------------------------------------------------------------------------------------------------


def test_a_coroutine_has_a_context_of_its_own() -> None:
    """What a coroutine sets in a context variable stays its own, before its first wait and after."""
    waiting: Deferred[None] = Deferred()

    async def named(name: str, waits: Deferred[None]) -> str:
        token = NAME.set(name)
        await waits
        found = NAME.get()
        NAME.reset(token)  # which is possible in the same context only
        return found

    at_once: Any = named("ann", succeed(None))
    assert (begun(at_once, (Deferred,)), NAME.get()) == ("ann", "nobody")
    later: Any = named("bob", waiting)
    rest = begun(later, (Deferred,))
    assert NAME.get() == "nobody"
    waiting.callback(None)
    assert rest.result == "bob"


def test_a_coroutine_that_nobody_continues_is_closed() -> None:
    """If the Deferred that a coroutine awaits is forgotten, its ``finally`` blocks run, as with any coroutine."""
    closed: list[bool] = []

    async def waiting() -> None:
        try:
            await Deferred()
        finally:
            closed.append(True)

    coroutine: Any = waiting()
    rest = begun(coroutine, (Deferred,))
    assert isinstance(rest, Deferred)
    del rest, coroutine
    gc.collect()
    assert closed == [True]


def test_a_result_that_looks_like_a_wait_is_put_into_a_deferred() -> None:
    """The caller can tell a coroutine that waits from a coroutine that returned a Deferred."""
    own: Deferred[None] = Deferred()

    async def returning() -> Deferred[None]:
        return own

    coroutine: Any = returning()
    assert isinstance(coroutine, CoroutineType)
    assert begun(coroutine, (Deferred,)).result is own


def test_a_coroutine_that_awaits_its_ended_connection_fails_at_once() -> None:
    """The error of a call that fails at once reaches the coroutine where it awaits."""
    errors: list[BaseException] = []

    async def app(message: bytes, connection: Any) -> None:
        connection.abort()
        try:
            await connection.send(b"1")
        except NotConnected as error:
            errors.append(error)

    peer = Peer(app, transport=AbruptTransport())
    peer.says(b"1\n")
    assert len(errors) == 1
