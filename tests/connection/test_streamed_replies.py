"""Replies that are iterators or async iterators: their messages are sent one by one, as the peer reads them."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.testing import StringTransport

from tcpapp import MessageServerFactory, Reply, Telemetry, Timeouts, batch
from tcpapp.connection.concurrent_dispatcher import ConcurrentDispatcher
from tcpapp.connection.dispatcher import Dispatcher
from tcpapp.connection.reply_stream import ReplyStream
from tcpapp.telemetry import AppFailed
from tests.peers import AbruptTransport, NotedTransport, Peer, TurnClock, stalled

QUIET = Timeouts(first_message=0, idle=0, handler_timeout=10)


class Broken(Exception):
    """An error of the app."""


class Source:
    """Generators of messages, which note what was taken of them and how each ended."""

    def __init__(self, count: int = 3, size: int = 1) -> None:
        self.count, self.size = count, size
        self.taken = self.begun = 0
        self.ended: list[str] = []

    def messages(self) -> Iterator[bytes]:
        """Give the messages."""
        self.begun += 1
        how = "closed"
        try:
            for number in range(self.count):
                self.taken += 1
                yield b"%d" % number * self.size
            how = "exhausted"
        finally:
            self.ended.append(how)

    async def messages_later(self) -> AsyncIterator[bytes]:
        """Give the messages as an async generator that does not wait."""
        how = "closed"
        try:
            for number in range(self.count):
                self.taken += 1
                yield b"%d" % number * self.size
            how = "exhausted"
        finally:
            self.ended.append(how)


class Fed:
    """An async generator that gives what the test says, and notes how it ended."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []
        self.ended: list[str] = []

    async def messages(self) -> AsyncIterator[Any]:
        """Give each message when the test gives it."""
        how = "closed"
        try:
            while True:
                self.asked.append(Deferred())
                message = await self.asked[-1]
                if message is None:
                    break
                yield message
            how = "exhausted"
        except CancelledError:
            how = "cancelled"
            raise
        finally:
            self.ended.append(how)


def forms(source: Source) -> dict[str, Any]:
    """Return an app of each form whose reply is the source."""

    async def coroutine(message: bytes, connection: Any) -> Iterator[bytes]:
        return source.messages()

    async def coroutine_of_later(message: bytes, connection: Any) -> AsyncIterator[bytes]:
        return source.messages_later()

    class App:
        def received(self, message: bytes, connection: Any) -> Iterator[bytes]:
            return source.messages()

    class Generator:
        def received(self, message: bytes, connection: Any) -> Iterator[bytes]:
            yield from source.messages()

    class AsyncGenerator:
        async def received(self, message: bytes, connection: Any) -> AsyncIterator[bytes]:
            async for each in source.messages_later():
                yield each

    @batch
    def messages_of_batch(messages: list[bytes], connection: Any) -> Iterator[bytes]:
        return source.messages()

    @batch
    async def messages_of_batch_later(messages: list[bytes], connection: Any) -> Iterator[bytes]:
        return source.messages()

    return {
        "function": lambda message, connection: source.messages(),
        "async": lambda message, connection: source.messages_later(),
        "deferred": lambda message, connection: succeed(source.messages()),
        "coroutine": coroutine,
        "coroutine-of-async": coroutine_of_later,
        "class": App,
        "generator": Generator,
        "async-generator": AsyncGenerator,
        "batch": messages_of_batch,
        "batch-later": messages_of_batch_later,
    }


def held(peer: Peer) -> tuple[int, int, int]:
    """Return the messages in flight, and the bytes that the connection and the memory budget count."""
    info = peer.protocol.info()
    return info.in_flight, info.buffered, peer.factory.settings.memory_budget.total


def drained(peer: Peer) -> bytes:
    """Let the peer read all, and return what it heard."""
    peer.transport.go_on()
    for _ in range(1000):
        peer.clock.advance(0)
    return peer.hears()


# What is sent ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(forms(Source())))
def test_each_form_can_reply_with_many_messages(form: str) -> None:
    """Apps of each form can reply with an iterator or an async iterator. The next message is handled after the last."""
    source = Source()
    peer = Peer(forms(source)[form])
    peer.says(b"a\n")
    peer.says(b"b\n")
    assert (peer.hears(), source.ended, held(peer)) == (b"0\n1\n2\n" * 2, ["exhausted"] * 2, (0, 0, 0))


def test_the_messages_that_come_at_once_are_one_write() -> None:
    """The messages of short iterators, and the replies around them, are one write for the chunk."""
    source = Source()
    peer = Peer(lambda message, _: source.messages() if message == b"s" else message)
    peer.says(b"a\ns\nb\ns\n")
    assert peer.transport.writes == [b"a\n0\n1\n2\nb\n0\n1\n2\n"]


def test_messages_of_an_async_iterator_are_sent_as_they_come() -> None:
    """Each message of an async iterator is written when it is there. Messages of the peer wait until it ends."""
    fed = Fed()
    peer = Peer(lambda message, _: fed.messages() if message == b"s" else message)
    peer.says(b"a\ns\nb\n")
    assert (peer.hears(), peer.connection.unread, peer.protocol.info().in_flight) == (b"a\n", 1, 1)
    fed.asked[0].callback(b"one")
    assert peer.hears() == b"one\n"
    fed.asked[1].callback(b"two")
    fed.asked[2].callback(None)
    assert (peer.hears(), fed.ended, held(peer)) == (b"two\nb\n", ["exhausted"], (0, 0, 0))


def test_an_iterator_without_messages_is_no_reply() -> None:
    """An iterator that gives nothing sends nothing."""
    peer = Peer(lambda message, _: iter([]) if message == b"s" else message)
    peer.says(b"s\na\n")
    assert peer.hears() == b"a\n"


def test_each_message_is_encoded() -> None:
    """With a codec, each message of an iterator is a value, None too, alone or in a `Reply`."""

    async def later() -> AsyncIterator[Any]:
        for each in (1, None, Reply(None), Reply([2])):
            yield each

    def app(message: Any, connection: Any) -> Any:
        return later() if message else iter([{"a": 1}, None, Reply(None), "x"])

    peer = Peer(app, codec="json")
    peer.says(b"0\n1\n")
    assert peer.hears() == b'{"a":1}\nnull\nnull\n"x"\n1\nnull\nnull\n[2]\n'


@pytest.mark.parametrize("value", [[1, 2], (1, 2), {"a": 1}, "text"])
def test_a_list_is_a_value(value: Any) -> None:
    """Lists, tuples, dicts and texts are values of the codec, and no iterators."""
    peer = Peer(lambda message, _: value, codec="msgpack", framing="int32")
    peer.says(b"\0\0\0\1\1")
    assert peer.hears()[4:] == peer.factory.settings.codec.encode(value)


def test_a_greeting_can_be_many_messages() -> None:
    """`opened` can return an iterator, with a codec and without. No message is handled before its last one is sent."""
    fed = Fed()

    class App:
        def opened(self, connection: Any) -> Any:
            return fed.messages()

        def received(self, message: Any, connection: Any) -> Any:
            return message

    for codec, message in ((None, b"welcome"), ("text", "welcome")):
        peer = Peer(App(), codec=codec)
        peer.says(b"a\n")
        fed.asked.pop().callback(message)
        assert peer.hears() == b"welcome\n"
        fed.asked.pop().callback(None)
        assert peer.hears() == b"a\n"


def test_send_inside_an_iterator_keeps_the_order() -> None:
    """Messages that an iterator sends by itself follow the messages before them, and are part of the same write."""

    def app(message: bytes, connection: Any) -> Iterator[bytes]:
        yield b"1"
        connection.send(b"sent")
        yield b"2"

    peer = Peer(app)
    peer.says(b"a\n")
    assert peer.transport.writes == [b"1\nsent\n2\n"]


def test_without_a_clock_an_iterator_is_sent_at_once() -> None:
    """Over a transport without a reactor, as in a unit test, all messages of an iterator are sent at once."""
    source = Source(1000)
    protocol: Any = MessageServerFactory(forms(source)["function"], telemetry=Telemetry()).buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(b"a\n")
    assert transport.value().count(b"\n") == 1000


# Backpressure, and turns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(forms(Source())))
def test_no_message_is_taken_while_the_peer_does_not_read(form: str) -> None:
    """While the peer does not take what was sent, no further message is taken. It goes on where it was."""
    source = Source(100, size=20_000)
    peer = stalled(forms(source)[form])
    peer.says(b"a\n")
    assert source.taken <= 8
    assert peer.protocol.info().buffered <= 3 * 65_536
    before = source.taken
    for _ in range(10):
        peer.clock.advance(0)
    assert source.taken == before
    heard = drained(peer)
    assert (source.taken, heard.count(b"\n"), source.ended) == (100, 100, ["exhausted"])
    assert heard == b"".join(b"%d" % number * 20_000 + b"\n" for number in range(100))
    assert held(peer) == (0, 0, 0)


@pytest.mark.parametrize("form", list(forms(Source())))
def test_a_long_iterator_takes_turns(form: str) -> None:
    """An iterator that takes time gives other connections their turns, and goes on in a later turn."""
    clock = TurnClock()

    class Slow(Source):
        def messages(self) -> Iterator[bytes]:
            for each in super().messages():
                clock.rightNow += 100e-6
                yield each

        async def messages_later(self) -> AsyncIterator[bytes]:
            async for each in super().messages_later():
                clock.rightNow += 100e-6
                yield each

    source = Slow(50)
    peer = Peer(forms(source)[form], transport=NotedTransport(clock=clock), timeouts=QUIET)
    peer.says(b"a\n")
    taken = [source.taken]
    while not source.ended:
        clock.give_turn()
        taken.append(source.taken)
    assert max(after - before for before, after in zip([0, *taken], taken, strict=False)) <= 4
    clock.advance(0)
    assert (peer.hears().count(b"\n"), held(peer)) == (50, (0, 0, 0))


def test_an_iterator_that_waits_for_its_turn_can_be_cancelled() -> None:
    """The end of a connection closes an iterator that waits for its turn, and the turn is given to nobody."""
    clock = TurnClock()
    source = Source(50)

    def slow(message: bytes, connection: Any) -> Iterator[bytes]:
        for each in source.messages():
            clock.rightNow += 1e-3
            yield each

    peer = Peer(slow, transport=NotedTransport(clock=clock), timeouts=QUIET)
    peer.says(b"a\n")
    assert peer.protocol.info().in_flight == 1
    peer.resets()
    clock.advance(1)
    assert (source.taken < 50, source.ended, clock.getDelayedCalls()) == (True, ["closed"], [])


# Time -----------------------------------------------------------------------------------------------------------------


def test_handler_timeout_is_counted_from_message_to_message() -> None:
    """The app has `handler_timeout` seconds for each message of its reply. Without progress the connection closes."""
    fed = Fed()
    peer = Peer(lambda message, _: fed.messages(), timeouts=QUIET)
    peer.says(b"a\n")
    for _ in range(3):
        peer.clock.advance(9)
        fed.asked[-1].callback(b"x")
    peer.clock.advance(9.5)
    assert not peer.closing
    peer.clock.advance(0.5)
    assert (peer.closing, fed.ended) == (True, ["cancelled"])
    peer.transport.turn()
    assert (peer.hears(), peer.reason.rule) == (b"x\n" * 3, "handler-timeout")


@pytest.mark.parametrize("form", ["function", "async", "coroutine"])
def test_the_time_of_a_slow_peer_is_not_the_apps(form: str) -> None:
    """While a stream waits for the peer, `handler_timeout` stands still: `send_progress` bounds that wait."""
    source = Source(100, size=20_000)
    peer = stalled(forms(source)[form], timeouts=Timeouts(first_message=0, handler_timeout=10, send_progress=60))
    peer.says(b"a\n")
    assert sorted(each.reason for each in peer.protocol.info().holds) == ["awaiting-reply", "write-blocked"]
    peer.clock.advance(30)
    assert not peer.closing
    peer.clock.advance(31)
    peer.transport.turn()
    assert (peer.reason.rule, source.ended) == ("send-stalled", ["closed"])


# Failures and ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["raises", "raises-later", "unsendable", "unsendable-later", "none"])
def test_a_failure_inside_is_the_apps_after_what_was_sent(kind: str) -> None:
    """An iterator that raises, or gives what cannot be sent, fails as an app does. Messages before that are sent."""
    ended: list[bool] = []

    def source() -> Iterator[Any]:
        try:
            yield b"1"
            yield b"2"
            if kind == "raises":
                raise Broken
            yield None if kind == "none" else "no bytes"
            yield b"3"
        finally:
            ended.append(True)

    async def later() -> AsyncIterator[Any]:
        try:
            yield b"1"
            yield b"2"
            if kind == "raises-later":
                raise Broken
            yield "no bytes"
            yield b"3"
        finally:
            ended.append(True)

    peer = Peer(lambda message, _: later() if "later" in kind else source())
    peer.says(b"a\nb\n")
    peer.transport.turn()
    assert (peer.hears(), peer.reason.rule, len(peer.told(AppFailed)), ended) == (b"1\n2\n", "app-failed", 1, [True])


def test_what_the_codec_refuses_fails_after_what_was_sent() -> None:
    """A message that the codec refuses is the app's failure. The messages before it are sent, then it is closed."""
    closed: list[bool] = []

    def source() -> Iterator[Any]:
        try:
            yield 1
            yield object()
        finally:
            closed.append(True)

    peer = Peer(lambda message, _: source(), codec="json")
    peer.says(b"0\n")
    peer.transport.turn()
    assert (peer.hears(), peer.reason.rule, closed) == (b"1\n", "app-failed", [True])


@pytest.mark.parametrize("transport", [NotedTransport, AbruptTransport])
@pytest.mark.parametrize("form", list(forms(Source())))
def test_the_end_of_the_connection_closes_the_iterator(form: str, transport: type[NotedTransport]) -> None:
    """At the end of the connection, an iterator that waits is closed. Nothing of it is kept."""
    source = Source(100, size=20_000)
    peer = Peer(forms(source)[form], transport=transport(peer_reads=False))
    peer.says(b"a\n")
    peer.connection.abort()
    peer.transport.turn()
    assert (source.ended, peer.told(AppFailed), held(peer)) == (["closed"], [], (0, 0, 0))
    assert not peer.timers


def test_the_end_of_the_connection_cancels_what_an_async_iterator_awaits() -> None:
    """An async iterator that waits for something is cancelled there, and its clean-up is awaited."""
    fed, clean_up = Fed(), Deferred[None]()
    ended: list[str] = []

    async def source() -> AsyncIterator[Any]:
        try:
            async for each in fed.messages():
                yield each
        finally:
            await clean_up
            ended.append("clean")

    peer = Peer(lambda message, _: source())
    peer.says(b"a\n")
    peer.resets()
    assert (fed.ended, ended) == (["cancelled"], [])
    clean_up.callback(None)
    assert (ended, peer.told(AppFailed)) == (["clean"], [])


def test_an_iterator_that_is_not_cancelled_ends_with_its_next_message() -> None:
    """An async iterator that ignores its cancellation is closed when it gives its next message."""
    asked: list[Deferred[Any]] = []
    ended: list[str] = []

    async def source() -> AsyncIterator[Any]:
        try:
            while True:
                asked.append(Deferred())
                with suppress(CancelledError):
                    await asked[-1]
                yield b"x"
        finally:
            ended.append("closed")

    peer = Peer(lambda message, _: source())
    peer.says(b"a\n")
    peer.resets()
    assert (ended, peer.hears()) == (["closed"], b"")


@pytest.mark.parametrize("form", list(forms(Source())))
def test_close_ends_the_iterator(form: str) -> None:
    """`close()` sends what was there. The iterator is closed when the connection ends, and gives nothing more."""
    source = Source(100, size=20_000)
    peer = stalled(forms(source)[form])
    peer.says(b"a\n")
    taken = source.taken
    peer.connection.close()
    peer.transport.go_on()
    peer.transport.turn()
    assert (peer.hears().count(b"\n"), source.taken, source.ended) == (taken, taken, ["closed"])


@pytest.mark.parametrize("transport", [NotedTransport, AbruptTransport])
@pytest.mark.parametrize("how", ["abort", "close"])
@pytest.mark.parametrize("at", [0, 1])
def test_an_iterator_can_end_its_connection(how: str, transport: type[NotedTransport], at: int) -> None:
    """An iterator that ends the connection is closed when it gives its next message. `close` sends those before it."""
    ended: list[str] = []

    def app(message: bytes, connection: Any) -> Iterator[bytes]:
        try:
            yield b"1"
            if at:
                yield b"x" * 100_000
                yield b"2"
            getattr(connection, how)()
            yield b"3"
            ended.append("went on")
        finally:
            ended.append("closed")

    peer = Peer(app, transport=transport(peer_reads=False))
    peer.says(b"a\n")
    if not peer.transport.disconnected:
        peer.transport.go_on()
        peer.transport.turn()
    heard = peer.hears()
    assert (ended, peer.told(AppFailed), held(peer)) == (["closed"], [], (0, 0, 0))
    lost = how == "abort" or transport is AbruptTransport
    assert lost or heard == (b"1\n" + b"x" * 100_000 + b"\n2\n" if at else b"1\n")


def test_a_failure_of_the_clean_up_is_reported() -> None:
    """What an iterator raises when it is closed is the app's failure."""

    def app(message: bytes, connection: Any) -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            raise Broken

    peer = stalled(app)
    peer.says(b"a\n")
    peer.resets()
    [failed] = peer.told(AppFailed)
    assert failed.failure.type is Broken


@pytest.mark.parametrize("how", ["drain", "half-close"])
@pytest.mark.parametrize("form", ["function", "async", "coroutine", "batch"])
def test_a_drain_waits_for_the_last_message(form: str, how: str) -> None:
    """After a drain or a half-close, a stream is sent to its end. Then the connection closes."""
    source = Source(100, size=20_000)
    peer = stalled(forms(source)[form])
    peer.says(b"a\n")
    if how == "drain":
        peer.connection.drain()
    else:
        peer.half_closes()
    assert not peer.closing
    assert drained(peer).count(b"\n") == 100
    assert peer.closing
    peer.transport.turn()
    assert (peer.reason.clean, source.ended) == (True, ["exhausted"])


def test_a_stream_stands_against_a_move() -> None:
    """A connection whose reply is a stream is at a boundary when its last message is sent."""
    fed = Fed()
    peer = Peer(lambda message, _: fed.messages())
    peer.says(b"a\n")
    peer.protocol.pause_at_boundary()
    assert [each.rule for each in peer.protocol.obstacles()] == ["reply-pending"]
    fed.asked[-1].callback(None)
    assert peer.protocol.obstacles() == []


def test_an_iterator_without_an_end_is_not_closed() -> None:
    """Iterators that cannot be closed, such as `map`, are only let go of."""
    peer = stalled(lambda message, _: map(bytes, [100_000] * 9))
    peer.says(b"a\n")
    peer.resets()
    assert (peer.told(AppFailed), held(peer)) == ([], (0, 0, 0))


def test_a_stream_that_comes_after_the_end_is_closed() -> None:
    """A coroutine that returns an iterator after the connection has ended has it closed, and nothing is taken."""
    later: Deferred[Any] = Deferred()
    closed: list[bool] = []

    class Closable(Iterator[bytes]):
        def __next__(self) -> bytes:
            raise AssertionError

        def close(self) -> None:
            closed.append(True)

    async def app(message: bytes, connection: Any) -> Any:
        with suppress(CancelledError):
            await later
        return Closable()

    peer = Peer(app)
    peer.says(b"a\n")
    peer.resets()
    assert (closed, peer.told(AppFailed)) == ([True], [])


def test_a_pause_does_not_stop_a_stream() -> None:
    """`pause()` keeps the app from further messages. The stream that it has begun goes on, also after `resume()`."""
    fed = Fed()
    peer = Peer(lambda message, _: fed.messages())
    peer.says(b"a\n")
    peer.connection.pause()
    fed.asked[-1].callback(b"1")
    peer.connection.resume()
    fed.asked[-1].callback(b"2")
    assert peer.hears() == b"1\n2\n"


@pytest.mark.source
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("form", ["function", "async", "coroutine", "fed"])
def test_the_parts_of_an_ended_connection_are_freed(form: str, concurrency: int) -> None:
    """At its end a connection lets go of its streams and of its dispatcher, which no collector has to find."""
    app = (lambda message, _: Fed().messages()) if form == "fed" else forms(Source(100, 20_000))[form]
    peer = stalled(app, concurrency=concurrency)
    peer.says(b"a\nb\n")
    assert parts() != []
    peer.resets()
    assert parts() == []


def parts() -> list[Any]:
    """Return the dispatchers and the streams that are still there."""
    return [each for each in gc.get_objects() if type(each) in (Dispatcher, ConcurrentDispatcher, ReplyStream)]
