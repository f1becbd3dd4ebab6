"""The forms of app, the errors of invalid apps, and the parts that a connection gets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from tcpapp.codecs import Json, Text
from tcpapp.connection.app import conversation
from tcpapp.connection.handlers import Conversation, Decoded, Handlers, deferred_of, handlers_of
from tcpapp.errors import InvalidOption, UndecodableMessage, UnsendableMessage
from tests.peers import outcome

CONNECTION: Any = SimpleNamespace()

# Apps of every kind. They have names, because the texts of errors contain the names.


def shout(message, connection):
    return message.upper()


def with_more(message, connection, *further, loud=True):
    return message


def one(message):
    return message


def three(message, connection, more):
    return message


def keyword(message, *, connection):
    return message


async def later(message, connection):
    return message.upper()


async def talk(connection):
    """Talk for as long as the connection lives."""


async def nothing():
    pass


class Chat:
    def __init__(self):
        self.log = []

    def opened(self, connection):
        self.log.append("opened")

    def received(self, message, connection):
        self.log.append(message)
        return message.upper()

    def closed(self, connection, reason):
        self.log.append(reason)


class OnlyClosed:
    def closed(self, connection, reason):
        return "closed"


class Room(Chat):
    def __init__(self, name):
        super().__init__()
        self.name = name


class Callable2:
    def __call__(self, message, connection):
        return message.upper()


class Callable1:
    def __call__(self, message):
        return message

    def __repr__(self):
        return "<a Callable1>"


class CallableChat(Callable1):
    def received(self, message, connection):
        return message


class Unbound:
    """An app whose parts get no instance as an argument."""

    received = Callable2()
    closed = staticmethod(partial(lambda log, connection, reason: None, []))

    @staticmethod
    def opened(connection):
        return connection

    @classmethod
    def made(cls):
        return cls()


class PartialReceived:
    """An app whose `received` gets the instance from Python 3.14 on, and does not get it before."""

    received = partial(lambda greeting, message, connection: greeting + message, b"hello ")

    def __repr__(self):
        return "<a PartialReceived>"


class OwnPartial(PartialReceived):
    """An app whose `received` is an attribute of the instance, which no version of Python binds."""

    def __init__(self):
        self.received = partial(lambda greeting, message, connection: greeting + message, b"hello ")


class PartialDraining(Chat):
    draining = partial(lambda reply, connection: reply, b"bye")


class NarrowDraining(Chat):
    def draining(self):
        pass


class OfTheClass:
    @classmethod
    def received(cls, message, connection):
        return cls, message


class Property:
    """An app whose `received` is a property, found only by reading the attribute."""

    @property
    def received(self):
        return shout


class Empty:
    pass


class NarrowOpened(Chat):
    def opened(self):
        pass


class NarrowReceived(Chat):
    def received(self, message):
        pass


class NarrowClosed(Chat):
    def closed(self, connection):
        pass


class StaticOfThree:
    @staticmethod
    def received(self, message, connection):  # noqa: PLW0211 - the mistake that is to be found
        pass


class Flag:
    opened = False

    def received(self, message, connection):
        return message

    def __repr__(self):
        return "<a Flag>"


class Untold:
    """A callable without a signature, as some built-in functions."""

    __signature__ = 5

    def __call__(self, message, connection):
        return message


# Valid and invalid apps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "app",
    [
        None,
        shout,
        with_more,
        later,
        lambda *everything: None,
        partial(three, more=1),
        Chat().received,
        print,
        max,
        Callable2(),
        Chat,
        Chat(),
        OnlyClosed,
        CallableChat(),
        Unbound,
        Unbound(),
        OfTheClass,
        OwnPartial(),
        Property,
        Property(),
        Room("lobby"),
        partial(Room, "lobby")(),
        Untold(),
        SimpleNamespace(opened=lambda connection: None, received=None, closed=None),
        conversation(talk),
    ],
)
def test_each_of_the_forms_is_an_app(app: Any) -> None:
    """Functions, objects, classes and conversations of every kind are accepted."""
    assert isinstance(handlers_of(app)(), Handlers)


NO_APP = (
    " is no app: it takes a function of (message, connection), an object or a class with any of opened, received and"
    " closed, or a @conversation"
)
NO_METHODS = ": a class that is an app has any of "
PARTIAL = (
    "is a functools.partial in a class, which Python calls with the instance from 3.14 on, and before without it;"
    " write staticmethod(partial(...)), or a method"
)
CONVERSE = "; a coroutine that takes the connection alone is written with @conversation"


@pytest.mark.parametrize(
    ("app", "text"),
    [
        (5, f"5{NO_APP}"),
        ("echo", f"'echo'{NO_APP}"),
        (b"", f"b''{NO_APP}"),
        (False, f"False{NO_APP}"),
        ([shout], f"[{shout!r}]{NO_APP}"),
        (SimpleNamespace(opened=None), f"namespace(opened=None){NO_APP}"),
        (Empty, f"Empty{NO_METHODS}"),
        (str, f"str{NO_METHODS}"),
        (Callable2, f"Callable2{NO_METHODS}"),
        (one, "one(message): takes (message, connection)"),
        (three, "three(message, connection, more): takes (message, connection)"),
        (keyword, "keyword(message, *, connection): takes (message, connection)"),
        (len, "len(obj, /): takes (message, connection)"),
        (Callable1(), "<a Callable1>(message): takes (message, connection)"),
        (Chat().opened, "Chat.opened(connection): takes (message, connection)"),
        (Chat.received, "Chat.received(self, message, connection): takes (message, connection)"),
        (talk, f"talk(connection): takes (message, connection){CONVERSE}"),
        (nothing, "nothing(): takes (message, connection)"),
        (Room, "Room(name): takes ()"),
        (NarrowOpened, "NarrowOpened.opened(self): takes (self, connection)"),
        (NarrowOpened(), "NarrowOpened.opened(): takes (connection)"),
        (NarrowReceived, "NarrowReceived.received(self, message): takes (self, message, connection)"),
        (NarrowReceived(), "NarrowReceived.received(message): takes (message, connection)"),
        (NarrowClosed, "NarrowClosed.closed(self, connection): takes (self, connection, reason)"),
        (NarrowClosed(), "NarrowClosed.closed(connection): takes (connection, reason)"),
        (NarrowDraining, "NarrowDraining.draining(self): takes (self, connection)"),
        (PartialReceived, f"PartialReceived: its received {PARTIAL}"),
        (PartialReceived(), f"<a PartialReceived>: its received {PARTIAL}"),
        (OwnPartial, f"OwnPartial: its received {PARTIAL}"),
        (PartialDraining, f"PartialDraining: its draining {PARTIAL}"),
        (StaticOfThree, "StaticOfThree.received(self, message, connection): takes (message, connection)"),
        (Flag, "Flag: its opened takes a method of (connection), not False"),
        (Flag(), "<a Flag>: its opened takes a method of (connection), not False"),
        (SimpleNamespace(received=talk), f"talk(connection): takes (message, connection){CONVERSE}"),
        (SimpleNamespace(closed=shout, received="x"), "takes a method of (message, connection), not 'x'"),
    ],
)
def test_an_invalid_app_is_refused(app: Any, text: str) -> None:
    """The error for an invalid app names the given object and the valid forms."""
    with pytest.raises(InvalidOption) as caught:
        handlers_of(app)
    assert text in str(caught.value)


def test_a_partial_is_named_in_full() -> None:
    """The error for an invalid partial shows all of it, because a partial has no name."""
    app = partial(shout, b"message", CONNECTION)
    with pytest.raises(InvalidOption) as caught:
        handlers_of(app)
    assert f"{app!r}(): takes (message, connection)" == str(caught.value)


# The parts that a connection gets ------------------------------------------------------------------------------------


def parts(handlers: Handlers) -> set[str]:
    return {name for name in Handlers.__slots__ if name != "_app" and getattr(handlers, name) is not None}


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (None, set()),
        (shout, {"received"}),
        (Callable2(), {"received"}),
        (Chat, {"opened", "received", "closed"}),
        (Chat(), {"opened", "received", "closed"}),
        (OnlyClosed(), {"closed"}),
        (CallableChat(), {"received"}),
        (conversation(talk), {"talk"}),
    ],
)
@pytest.mark.parametrize("codec", [None, Text()], ids=["bytes", "text"])
def test_handlers_are_the_parts_that_the_app_has(app: Any, expected: set[str], codec: Any) -> None:
    """A part that the app does not have is `None`. A callable object with methods is an app by its methods."""
    assert expected == parts(handlers_of(app, codec)())


def test_a_part_that_is_false_is_a_part() -> None:
    """A part counts even if its truth value is false, such as a callable list that is empty."""

    class Heard(list):  # type: ignore[type-arg]
        def __call__(self, message: bytes, connection: Any) -> None:
            self.append(message)

    class Hearing:
        received = Heard()

    assert Handlers(Hearing(), None).received is Hearing.received


def test_a_class_is_made_anew_for_each_connection() -> None:
    """Each connection has its own instance of a class, so `self` is the state of one connection."""
    make = handlers_of(Chat)
    one_of_them, other = make(), make()
    one_of_them.received(b"a", CONNECTION)
    assert (one_of_them.received.__self__.log, other.received.__self__.log) == ([b"a"], [])


def test_an_instance_serves_all_connections() -> None:
    """An app that is an instance gives all connections the same handlers."""
    chat = Chat()
    make = handlers_of(chat)
    make().opened(CONNECTION)
    make().closed(CONNECTION, "gone")
    assert (chat.log, make() is make()) == (["opened", "gone"], True)


@pytest.mark.parametrize("app", [shout, Chat().received])
def test_without_a_codec_the_app_is_called_as_it_is(app: Callable[..., Any]) -> None:
    """Without a codec, `received` is the app's own function, with nothing around it."""
    assert app == handlers_of(app)().received


def test_an_exception_of_the_constructor_is_raised_for_each_connection() -> None:
    """An exception in the constructor of a class is raised when the instance for a connection is made."""

    class Failing(Chat):
        def __init__(self):
            raise ZeroDivisionError

    make = handlers_of(Failing)
    with pytest.raises(ZeroDivisionError):
        make()


@pytest.mark.parametrize("app", [Unbound, Unbound()])
def test_parts_that_take_no_instance_are_called_without_one(app: Any) -> None:
    """Static methods, and callables that are not functions, are called without the instance."""
    handlers = handlers_of(app)()
    assert (
        handlers.received(b"a", CONNECTION),
        handlers.opened(CONNECTION),
        handlers.closed(CONNECTION, "gone"),
    ) == (b"A", CONNECTION, None)


def test_a_class_method_is_given_its_class() -> None:
    """A class method gets its class as the first argument."""
    assert (OfTheClass, b"a") == handlers_of(OfTheClass)().received(b"a", CONNECTION)


# Replies with a codec ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "encoded"),
    [({"a": 1}, b'{"a":1}'), ([], b"[]"), (0, b"0"), (False, b"false"), ("", b'""')],
)
def test_a_codec_makes_bytes_of_a_reply(reply: Any, encoded: bytes) -> None:
    """A codec encodes each reply, also a falsy one."""
    received = handlers_of(lambda message, connection: reply, Json())().received
    assert encoded == received(b"1", CONNECTION)


def test_no_reply_stays_none() -> None:
    """With a codec, `None` is still no reply, although JSON has a null."""
    assert handlers_of(lambda message, connection: None, Json())().received(b"1", CONNECTION) is None


@pytest.mark.parametrize(
    "make",
    [lambda: succeed("a"), lambda: asyncio.Future(loop=Loop()), lambda: later("a", None)],
    ids=["deferred", "future", "coroutine"],
)
def test_a_reply_that_is_not_there_yet_is_passed_on(make: Callable[[], Any]) -> None:
    """A Deferred, a future or a coroutine is returned unchanged. Its result is encoded only later."""
    reply = make()
    assert reply is handlers_of(lambda message, connection: reply, Json())().received(b"1", CONNECTION)
    getattr(reply, "close", lambda: None)()


def test_a_reply_that_cannot_be_encoded_raises() -> None:
    """A reply that the codec cannot encode raises the codec's own error."""
    received = handlers_of(lambda message, connection: object(), Json())().received
    with pytest.raises(UnsendableMessage):
        received(b"1", CONNECTION)


def test_a_message_is_decoded_as_the_app_takes_it() -> None:
    """A message is decoded when the app takes it, unless it was decoded before. An undecodable message raises."""
    received = handlers_of(lambda message, connection: message, Json())().received
    assert received(b"[1]", CONNECTION) == received(Decoded(b"[2]", [1]), CONNECTION) == b"[1]"
    with pytest.raises(UndecodableMessage):
        received(b"{]", CONNECTION)


# Replies that are not there yet --------------------------------------------------------------------------------------


class Loop:
    """The part of an event loop that a future needs. `run` makes the scheduled calls."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], Any]] = []

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: Any) -> None:
        raise AssertionError(context)

    def call_soon(self, callback: Callable[..., Any], *arguments: Any, context: Any = None) -> None:
        self.soon.append(partial(callback, *arguments))

    def run(self) -> None:
        while self.soon:
            self.soon.pop(0)()


def test_a_deferred_is_returned_unchanged() -> None:
    """`deferred_of()` returns a Deferred unchanged."""
    deferred: Deferred[bytes] = Deferred()
    assert deferred is deferred_of(deferred)


def test_a_coroutine_is_begun_at_once() -> None:
    """`deferred_of()` runs a coroutine at once, to its end or to its first await."""
    waited: Deferred[bytes] = Deferred()

    async def wait() -> bytes:
        return await waited + b"!"

    assert outcome(deferred_of(later(b"hello", CONNECTION))) == [b"HELLO"]
    seen = outcome(deferred_of(wait()))
    assert seen == []
    waited.callback(b"hello")
    assert seen == [b"hello!"]


def test_an_exception_in_a_coroutine_fails_its_deferred() -> None:
    """An exception in a coroutine fails the Deferred of the coroutine. `deferred_of()` does not raise it."""

    async def fails() -> None:
        await fail(ZeroDivisionError())

    assert [ZeroDivisionError] == [type(each) for each in outcome(deferred_of(fails()))]


@pytest.mark.parametrize("done_before", [False, True])
@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_a_future_fires_when_its_loop_runs(done_before: bool, error: type[Exception] | None) -> None:
    """The Deferred of a future, done or not, fires only when the future's loop runs."""
    loop = Loop()
    future: Any = asyncio.Future(loop=loop)  # type: ignore[arg-type]
    finish = partial(future.set_result, b"hello") if error is None else partial(future.set_exception, error())
    if done_before:
        finish()
    seen = outcome(deferred_of(future))
    if not done_before:
        loop.run()
        assert seen == []
        finish()
    assert seen == []
    loop.run()
    assert [b"hello" if error is None else error] == [each if error is None else type(each) for each in seen]


def test_cancelling_the_deferred_cancels_the_future() -> None:
    """A caller that cancels the Deferred of a future cancels the future, so that its work can stop."""
    loop = Loop()
    future: Any = asyncio.Future(loop=loop)  # type: ignore[arg-type]
    deferred = deferred_of(future)
    assert deferred is not None
    seen = outcome(deferred)
    deferred.cancel()
    loop.run()
    assert (future.cancelled(), len(seen)) == (True, 1)
    assert isinstance(seen[0], (CancelledError, asyncio.CancelledError))


async def generator():
    yield b"hello"


@pytest.mark.parametrize(
    "result", [None, b"", b"hello", "text", 0, [], later, talk, (each for each in b""), generator()]
)
def test_anything_else_is_a_reply_already(result: Any) -> None:
    """`deferred_of()` returns `None` for values, for functions that were not called, and for generators."""
    assert deferred_of(result) is None


# Conversations -------------------------------------------------------------------------------------------------------


def test_a_conversation_keeps_its_name_and_can_be_awaited() -> None:
    """A conversation has the name and the docstring of its function, and a test can await it."""
    app = conversation(talk)
    assert (Conversation, "talk", talk.__doc__, talk) == (type(app), app.__name__, app.__doc__, app.talk)
    assert outcome(deferred_of(app(CONNECTION))) == [None]


def test_a_conversation_can_be_a_partial_or_a_method() -> None:
    """`conversation()` takes any async function of the connection alone, also a method or a partial."""

    class Guide:
        async def guide(self, connection):
            return connection

    async def guided(guide, connection):
        return guide, connection

    by_method, by_partial = conversation(Guide().guide), conversation(partial(guided, "guide"))
    assert outcome(deferred_of(by_method(CONNECTION))) == [CONNECTION]
    assert outcome(deferred_of(by_partial(CONNECTION))) == [("guide", CONNECTION)]
    assert by_partial.__name__ == repr(by_partial.talk)


TAKES_ASYNC = ": @conversation takes an async function of one argument, the connection"


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (shout, f"shout{TAKES_ASYNC}"),
        (Chat, f"Chat{TAKES_ASYNC}"),
        (generator, f"generator{TAKES_ASYNC}"),
        (5, f"5{TAKES_ASYNC}"),
        (later, "later(message, connection): takes (connection)"),
        (nothing, "nothing(): takes (connection)"),
    ],
)
def test_an_invalid_conversation_is_refused(function: Any, text: str) -> None:
    """`conversation()` refuses anything else, with an error that shows the valid form."""
    with pytest.raises(InvalidOption) as caught:
        conversation(function)
    assert text == str(caught.value)
