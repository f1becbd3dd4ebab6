"""Middleware of one's own: `wrap` puts functions around the parts of an app of any form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import permutations
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from tcpapp import Reply, aio, batch, conversation
from tcpapp.apps.middleware import Timings, authenticated, rate_limited, timing, wrap
from tcpapp.errors import InvalidOption
from tcpapp.telemetry import AppFailed
from tests.peers import Peer


def echo(message: bytes, connection: Any) -> bytes:
    """Reply with the message."""
    return message


async def waits(message: bytes, connection: Any) -> bytes:
    """Reply with the message, as a coroutine."""
    return await succeed(message)


def later(message: bytes, connection: Any) -> Deferred[bytes]:
    """Reply with the message, as a Deferred."""
    return succeed(message)


class Greets:
    """An app with all parts, which notes what it gets."""

    def __init__(self) -> None:
        self.count = 0

    def opened(self, connection: Any) -> bytes:
        return b"welcome"

    def received(self, message: bytes, connection: Any) -> bytes:
        self.count += 1
        return b"%d %s" % (self.count, message)

    def closed(self, connection: Any, reason: Any) -> None:
        connection.data.log.append(f"closed after {self.count}")

    def draining(self, connection: Any) -> bytes:
        return b"goodbye"


@batch
def joins(messages: list[bytes], connection: Any) -> list[bytes]:
    """Reply to all at once."""
    return [b"+".join(messages)]


@conversation
async def talks(connection: Any) -> None:
    """Reply in a conversation."""
    async for message in connection:
        await connection.send(message)


def shouting(app: Any) -> Any:
    """Middleware that is a plain function."""

    def received(message: bytes, connection: Any, inner: Callable[..., Any]) -> Any:
        return inner(message.upper(), connection)

    def received_all(messages: list[bytes], connection: Any, inner: Callable[..., Any]) -> Any:
        return inner([message.upper() for message in messages], connection)

    return wrap(app, received=received, received_all=received_all)


def marking(app: Any) -> Any:
    """Middleware that is async, and changes the replies."""

    async def received(message: bytes, connection: Any, inner: Callable[..., Any]) -> Any:
        reply = await inner(message, connection)
        return None if reply is None else b"<%s>" % reply

    async def received_all(messages: list[bytes], connection: Any, inner: Callable[..., Any]) -> Any:
        return [b"<%s>" % reply for reply in await inner(messages, connection)]

    return wrap(app, received=received, received_all=received_all)


FORMS = {
    "function": echo,
    "partial": partial(echo),
    "coroutine": waits,
    "deferred": later,
    "class": Greets,
    "conversation": talks,
    "batch": joins,
}


@pytest.mark.parametrize("form", ["function", "partial", "coroutine", "deferred", "conversation"])
def test_a_function_around_each_message_works_for_every_form(form: str) -> None:
    """A plain function around `received` gets each message, and what it returns is the reply."""
    app = shouting(FORMS[form])
    peer = Peer(app)
    peer.says(b"one\ntwo\n")
    assert peer.hears() == b"ONE\nTWO\n"
    assert app.__doc__ == FORMS[form].__doc__
    peer.leaves()
    assert peer.told(AppFailed) == []


def test_a_function_around_a_batch_gets_all_messages() -> None:
    """A function around `received_all` gets the messages that came together."""
    peer = Peer(shouting(joins))
    peer.says(b"one\ntwo\n")
    assert peer.hears() == b"ONE+TWO\n"
    peer = Peer(marking(joins))
    peer.says(b"one\ntwo\n")
    assert peer.hears() == b"<one+two>\n"


@pytest.mark.parametrize("app", [echo, waits, later])
def test_an_async_function_awaits_any_app(app: Any) -> None:
    """In a coroutine function, `inner` can be awaited, whether the app is async or not."""
    peer = Peer(marking(app))
    peer.says(b"one\ntwo\n")
    assert peer.hears() == b"<one>\n<two>\n"


def test_a_class_stays_a_class() -> None:
    """Each connection of a wrapped class has an instance of its own; a wrapped object serves all."""
    for app, expected in ((Greets, b"1 ONE\n"), (Greets(), b"2 ONE\n")):
        wrapped = shouting(app)
        assert isinstance(wrapped, type) is isinstance(app, type)
        peers = [Peer(wrapped) for _ in range(2)]
        for peer in peers:
            peer.connection.data.log = []
            peer.says(b"one\n")
        assert peers[1].hears() == b"welcome\n" + expected


def test_the_other_parts_of_an_app_are_called_as_before() -> None:
    """Parts without a function around them are the app's own: its greeting, its farewell, its end."""
    peer = Peer(shouting(Greets))
    log = peer.connection.data.log = []
    peer.says(b"one\n")
    peer.connection.drain()
    assert peer.hears() == b"welcome\n1 ONE\ngoodbye\n"
    peer.leaves()
    assert log == ["closed after 1"]


@pytest.mark.parametrize("app", [Greets, echo, talks, joins])
def test_functions_around_the_other_parts_are_called_for_every_form(app: Any) -> None:
    """Functions around `opened`, `closed` and `draining` are called also for an app without these parts."""
    log: list[Any] = []

    def opened(connection: Any, inner: Any) -> bytes:
        log.append(inner(connection))
        connection.data.log = log
        return b"hi"

    async def closed(connection: Any, reason: Any, inner: Any) -> None:
        await inner(connection, reason)
        log.append(reason.rule)

    def draining(connection: Any, inner: Any) -> Any:
        return inner(connection) or b"bye"

    peer = Peer(wrap(app, opened=opened, closed=closed, draining=draining))
    has_parts = app is Greets
    peer.connection.drain()
    assert peer.hears() == (b"hi\ngoodbye\n" if has_parts else b"hi\nbye\n")
    peer.leaves()
    assert log == ([b"welcome", "closed after 0", "drained"] if has_parts else [None, "drained"])


def test_functions_around_a_wrapped_conversation_add_up() -> None:
    """A conversation can be wrapped several times: each function is called, the outermost first."""
    log: list[str] = []

    def noting(app: Any, name: str) -> Any:
        def closed(connection: Any, reason: Any, inner: Any) -> None:
            log.append(name)
            inner(connection, reason)

        return wrap(app, closed=closed, draining=lambda connection, inner: inner(connection))

    peer = Peer(noting(noting(talks, "inner"), "outer"))
    peer.leaves()
    assert log == ["outer", "inner"]


def test_a_function_can_run_around_a_conversation() -> None:
    """`talk` gets the conversation itself, and begins it or not."""

    async def talk(connection: Any, inner: Any) -> None:
        if await connection.receive() == b"please":
            await inner(connection)

    for first, heard in ((b"please", b"one\n"), (b"now", b"")):
        peer = Peer(wrap(talks, talk=talk, received=lambda message, connection, inner: None))
        peer.says(first + b"\none\n")
        assert peer.hears() == heard


def test_a_message_can_be_kept_from_the_app() -> None:
    """A function that does not call `inner` replies in place of the app."""

    def received(message: bytes, connection: Any, inner: Any) -> Any:
        return Reply(b"no") if message == b"bad" else inner(message, connection)

    for app in (echo, talks):
        peer = Peer(wrap(app, received=received))
        peer.says(b"bad\ngood\n")
        assert peer.hears() == b"no\ngood\n"


@pytest.mark.parametrize("app", [echo, talks, Greets()])
def test_an_error_of_middleware_is_a_failure_of_the_app(app: Any) -> None:
    """What a function raises closes the connection, as when the app raises it."""

    def received(message: bytes, connection: Any, inner: Any) -> Any:
        raise ZeroDivisionError

    peer = Peer(wrap(app, received=received))
    peer.connection.data.log = []
    peer.says(b"one\n")
    peer.leaves()
    assert (peer.reason.rule, len(peer.told(AppFailed))) == ("app-failed", 1)


def test_an_error_of_the_app_reaches_the_middleware() -> None:
    """A coroutine function can handle the error of the app that it awaits."""

    def fails(message: bytes, connection: Any) -> bytes:
        raise ZeroDivisionError

    async def received(message: bytes, connection: Any, inner: Any) -> Any:
        try:
            return await inner(message, connection)
        except ZeroDivisionError:
            return b"sorry"

    peer = Peer(wrap(fails, received=received))
    peer.says(b"one\n")
    assert peer.hears() == b"sorry\n"


@pytest.mark.once
@pytest.mark.parametrize("form", ["function", "conversation", "class"])
def test_apps_of_asyncio_are_wrapped_after_they_are_made(form: str) -> None:
    """What `tcpapp.aio.app` returns can be wrapped, in each form."""

    async def shout(message: bytes, connection: Any) -> bytes:
        await asyncio.sleep(0)
        return message.upper()

    async def talk(connection: Any) -> None:
        async for message in connection:
            await asyncio.sleep(0)
            await connection.send(message.upper())

    class Shouts:
        async def received(self, message: bytes, connection: Any) -> bytes:
            return await shout(message, connection)

    async def main() -> None:
        apps = {"function": aio.app(shout), "conversation": aio.conversation(talk), "class": aio.app(Shouts)}
        peer = Peer(marking(apps[form]) if form != "conversation" else shouting(apps[form]))
        peer.says(b"one\ntwo\n")
        for _ in range(20):
            await asyncio.sleep(0)
        assert peer.hears() == (b"ONE\nTWO\n" if form == "conversation" else b"<ONE>\n<TWO>\n")
        peer.connection.close()
        peer.leaves()
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())


class Silent:
    """An app that takes no messages."""

    def opened(self, connection: Any) -> None: ...


@pytest.mark.parametrize(
    ("app", "hooks", "says"),
    [
        (None, {}, "wrap: takes an app, and not None"),
        (5, {}, "5 is no app"),
        (lambda message: None, {}, r"takes \(message, connection\)"),
        (Silent, {"received": lambda m, c, i: None}, "Silent takes no messages: give it a received, or make it a"),
        (joins, {"received": lambda m, c, i: None}, "joins takes batches, and this middleware has no received_all"),
        (echo, {"received": lambda m, c: None}, r"received=.*: takes a function of \(message, connection, inner\)"),
        (echo, {"opened": 5}, r"opened=5: takes a function of \(connection, inner\)"),
        (talks, {"talk": lambda c, i: None}, r"talk=.*: takes an async function of \(connection, inner\)"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(app: Any, hooks: Any, says: str) -> None:
    """`wrap` refuses an object that is no app, and a function that does not fit. The error says what would."""
    with pytest.raises(InvalidOption, match=says):
        wrap(app, **hooks)


@pytest.mark.parametrize("order", list(permutations(["timing", "authenticated", "rate_limited"])), ids="-".join)
@pytest.mark.parametrize("form", ["function", "coroutine", "class", "conversation", "batch"])
def test_middleware_can_be_stacked_in_any_order(form: str, order: tuple[str, ...]) -> None:
    """The three that come with tcpapp work on each other, around every form of app, in every order."""
    timings = Timings()

    def check(message: bytes, connection: Any) -> bytes:
        return message

    layers: dict[str, Callable[[Any], Any]] = {
        "timing": lambda app: timing(app, timings),
        "authenticated": lambda app: authenticated(app, check),
        "rate_limited": lambda app: rate_limited(app, 100),
    }
    app = FORMS[form]
    for each in order:
        app = layers[each](app)
    peer = Peer(app)
    peer.connection.data.log = []
    peer.says(b"ann\n")
    peer.says(b"one\n")
    greeting, numbered = (b"welcome\n", b"1 ") if form == "class" else (b"", b"")
    assert peer.hears() == greeting + numbered + b"one\n"
    assert peer.connection.data.identity == b"ann"
    peer.half_closes()
    peer.leaves()
    assert timings.count == (1 if order.index("timing") < order.index("authenticated") else 2)
    assert (peer.told(AppFailed), peer.reason.rule) == ([], "end-of-stream")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_reply_of_many_messages_passes_through(is_async: bool) -> None:
    """A generator of an app sends its messages through middleware, also after a wait or a login."""

    def twice(message: bytes, connection: Any) -> Iterator[bytes]:
        yield message
        yield message

    async def twice_later(message: bytes, connection: Any) -> AsyncIterator[bytes]:
        yield message
        yield await succeed(message)

    app = shouting(rate_limited(authenticated(timing(twice_later if is_async else twice, Timings()), check_all), 2))
    peer = Peer(app)
    peer.says(b"ann\none\ntwo\n")
    peer.clock.advance(0.5)
    assert peer.hears() == b"ONE\nONE\nTWO\nTWO\n"


def check_all(message: bytes, connection: Any) -> bytes:
    """Let everybody in."""
    return message
