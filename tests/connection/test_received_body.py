"""The bodies of messages on a connection: reading, backpressure, deadlines, and every end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any
from weakref import ref

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport

from tcpapp import Limits, MessageServerFactory, Policies, Timeouts, batch, conversation
from tcpapp.connection.received_body import BODY_COST
from tcpapp.errors import BodyDiscarded, InvalidState, MessageTooLong, NotConnected
from tcpapp.framing import Body
from tcpapp.telemetry import AppFailed
from tests.framing.bodies import chunked, store, upload
from tests.peers import AbruptTransport, Peer, outcome, result_of

QUIET = Timeouts(first_message=0, idle=0)
LIMITS = Limits(inbox_high=100, inbox_low=50)


def peer_of(app: Any, framing: Any = None, **options: Any) -> Peer:
    """Return the peer of a connection with the framing `store`."""
    return Peer(app, store() if framing is None else framing, **{"timeouts": QUIET, "limits": LIMITS, **options})


class Saving:
    """An app that notes each piece that it reads in `pieces`, and replies with their number."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.errors: list[BaseException] = []

    async def received(self, message: Any, connection: Any) -> bytes | None:
        _, body = message
        if body is None:
            return b"none;"
        try:
            async for piece in body:
                self.pieces.append(piece)
        except Exception as error:
            self.errors.append(error)
            raise
        return b"%d;" % len(b"".join(self.pieces))


class Holding:
    """An app that notes the messages that it gets, and returns a Deferred of `pending` for each."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.pending: list[Deferred[Any]] = []

    def received(self, message: Any, connection: Any) -> Deferred[Any]:
        self.messages.append(message)
        self.pending.append(Deferred())
        return self.pending[-1]

    @property
    def body(self) -> Body:
        """The body of the first message."""
        body: Body = self.messages[0][1]
        return body


# Reading -------------------------------------------------------------------------------------------------------------


def test_a_body_is_read_as_it_comes() -> None:
    """The app has the message at once, and each piece when it has come; the next message comes behind the body."""
    app = Saving()
    peer = peer_of(app)
    peer.says(b"set 6\r\nab")
    assert app.pieces == [b"ab"]
    peer.says(b"cd")
    peer.says(b"ef\r")
    assert (app.pieces, peer.hears()) == ([b"ab", b"cd", b"ef"], b"")
    peer.says(b"\nget\r\n")
    assert peer.hears() == b"6;none;"
    assert peer.factory.settings.memory_budget.total == 0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_bodies_come_whole_however_they_are_cut(size: int) -> None:
    """Several bodies in one stream are read in order, whatever the chunks are."""
    seen: list[bytes] = []

    async def app(message: Any, connection: Any) -> bytes:
        seen.append(await message[1].read() if message[1] is not None else b"-")
        return b"%d;" % len(seen)

    stream = b"set 3\r\nabc\r\nget\r\nset 0\r\n\r\nset 5\r\nhello\r\n"
    peer = peer_of(app)
    for place in range(0, len(stream), size):
        peer.says(stream[place : place + size])
    assert (seen, peer.hears()) == ([b"abc", b"-", b"", b"hello"], b"1;2;3;4;")


def test_a_body_in_chunks_and_a_body_to_the_end() -> None:
    """Bodies of each kind come over a connection."""
    app = Saving()
    peer = peer_of(app, chunked())
    peer.says(b"head\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert peer.hears() == b"5;"
    app = Saving()
    peer = peer_of(app, upload())
    peer.says(b"head\nall of")
    peer.says(b" it")
    peer.half_closes()
    peer.transport.turn()
    assert (peer.hears(), peer.reason.rule) == (b"9;", "end-of-stream")


def test_a_conversation_reads_bodies() -> None:
    """A conversation reads the body of a message that it has received."""

    @conversation
    async def app(connection: Any) -> None:
        async for _, body in connection:
            await connection.send(b"-" if body is None else await body.read())

    peer = peer_of(app)
    peer.says(b"set 6\r\nab")
    peer.says(b"cdef\r\nget\r\n")
    assert peer.hears() == b"abcdef-"


def test_a_client_reads_bodies() -> None:
    """A message that `receive` returns can have a body, and so can a message that waits in the inbox."""
    peer = peer_of(None)
    received = outcome(peer.connection.receive())
    peer.says(b"set 3\r\nabc\r\nset 2\r\nde\r\n")
    assert result_of(Deferred.fromCoroutine(received[0][1].read())) == b"abc"
    _, body = result_of(peer.connection.receive())
    assert result_of(Deferred.fromCoroutine(body.read())) == b"de"


def test_several_readers_share_a_body() -> None:
    """Each piece goes to one reader, and all of them end with the body."""
    pieces: list[tuple[int, bytes]] = []

    async def reader(number: int, body: Body) -> None:
        async for piece in body:
            pieces.append((number, piece))  # noqa: PERF401 - the order of the readers counts

    app = Holding()
    peer = peer_of(app)
    peer.says(b"set 6\r\n")
    done = [outcome(Deferred.fromCoroutine(reader(number, app.body))) for number in range(2)]
    peer.says(b"abc")
    peer.says(b"def\r\n")
    assert (b"".join(piece for _, piece in pieces), done) == (b"abcdef", [[None], [None]])
    peer.resets()


def test_a_reader_that_is_cancelled_takes_nothing() -> None:
    """After a cancelled reader, the next reader gets the piece."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"set 6\r\n")
    reading = Deferred.fromCoroutine(app.body.read())
    cancelled = outcome(reading)
    reading.cancel()
    peer.says(b"abcdef\r\n")
    assert (len(cancelled), result_of(Deferred.fromCoroutine(app.body.read()))) == (1, b"abcdef")
    peer.resets()


def test_a_body_can_be_read_by_a_task_of_asyncio() -> None:
    """In a task of asyncio, a reader awaits a future."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"set 6\r\nabc")

    async def main() -> bytes:
        reading = asyncio.ensure_future(app.body.read())
        for _ in range(3):
            await asyncio.sleep(0)
        peer.says(b"def\r\n")
        return await reading

    assert asyncio.run(main()) == b"abcdef"
    peer.resets()


# Backpressure --------------------------------------------------------------------------------------------------------


def test_the_peer_waits_while_nobody_reads() -> None:
    """Over `inbox_high` bytes of a body nothing is read, and at `inbox_low` bytes reading goes on."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"set 1000\r\n" + b"x" * 60)
    assert not peer.paused
    peer.says(b"x" * 60)
    assert (peer.paused, app.body.held) == (True, 120)
    assert [each.reason for each in peer.protocol.info().holds] == ["awaiting-reply", "body-full"]
    assert peer.protocol.info().buffered >= 120 + BODY_COST
    app.body.take(60)
    assert peer.paused
    app.body.take(10)
    assert not peer.paused
    peer.resets()


def test_a_large_body_is_never_held() -> None:
    """Of a body of any size, the connection holds about as much as an inbox can hold, and then nothing."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"set 100000\r\n")
    most, sent, taken = 0, 0, 0
    while taken < 100_000:
        while not peer.paused and sent < 100_000:
            peer.says(b"x" * 100)
            sent += 100
        most = max(most, peer.protocol._buffered.held_bytes)
        taken += len(app.body.take())
    assert most < 1000 + BODY_COST
    peer.says(b"\r\n")
    app.pending[0].callback(None)
    assert peer.factory.settings.memory_budget.total == 0


def test_many_tiny_bodies_take_linear_time() -> None:
    """A chunk with thousands of bodies that the app has not got takes no longer for each of them."""

    class Counting(dict[Any, Any]):
        walks = 0

        def __iter__(self) -> Any:
            self.walks += 1
            return super().__iter__()

    app = Holding()
    peer = peer_of(app, limits=Limits())
    peer.says(b"get\r\n")
    bodies = peer.protocol._bodies
    bodies._open = Counting()
    peer.says(b"set 1\r\nx\r\n" * 200)
    assert (len(bodies), bodies.held, bodies._open.walks) == (200, 200 + 200 * BODY_COST, 0)
    peer.resets()


def test_an_answer_waits_behind_the_body_of_the_message() -> None:
    """While the app has a body, messages behind it wait, and are handed on when the app has answered."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"set 3\r\nabc\r\nset 1\r\nx\r\nget\r\n")
    assert len(app.messages) == 1
    app.pending[0].callback(None)
    assert app.messages[1] == ([b"set", b"1"], Body.of(b"x"))
    app.pending[1].callback(b"ok;")
    app.pending[2].callback(None)
    assert peer.hears() == b"ok;"


# Discarding ----------------------------------------------------------------------------------------------------------


def test_a_function_that_does_not_read_a_body_discards_it() -> None:
    """When a function has returned, the rest of the body is dropped as it comes, and the next message is handled."""
    seen: list[Any] = []

    def app(message: Any, connection: Any) -> bytes:
        seen.append(message)
        return b"no;"

    peer = peer_of(app)
    peer.says(b"set 1000\r\n" + b"x" * 500)
    body = seen[0][1]
    assert (peer.hears(), body.held, body.is_discarded) == (b"no;", 0, True)
    assert not peer.paused
    peer.says(b"x" * 500 + b"\r\nget\r\n")
    assert (peer.hears(), peer.factory.settings.memory_budget.total) == (b"no;", 0)
    with pytest.raises(BodyDiscarded):
        body.take()


@pytest.mark.parametrize("how", ["returns", "raises"])
def test_a_coroutine_that_leaves_a_body_discards_it(how: str) -> None:
    """When a coroutine has ended, the rest of its body is dropped."""
    bodies: list[Body] = []

    async def app(message: Any, connection: Any) -> bytes | None:
        bodies.append(message[1])
        async for _ in message[1]:
            if how == "raises":
                raise ValueError("disk")
            return b"enough;"
        return None

    peer = peer_of(app)
    peer.says(b"set 1000\r\n")
    peer.says(b"x" * 500)
    assert bodies[0].is_discarded
    if how == "returns":
        assert peer.hears() == b"enough;"
        peer.resets()
    else:
        peer.transport.turn()
        assert peer.reason.rule == "app-failed"


def test_a_stream_of_replies_keeps_the_body_to_its_end() -> None:
    """A generator that reads its body and yields replies has the body until it ends, and then it is discarded."""
    bodies: list[Body] = []

    async def app(message: Any, connection: Any) -> AsyncIterator[bytes]:
        bodies.append(message[1])
        async for piece in message[1]:
            yield piece + b";"
            if piece == b"x":
                break

    peer = peer_of(app)
    peer.says(b"set 4\r\nab")
    peer.says(b"cd\r\nset 100\r\n")
    peer.says(b"x")
    peer.transport.turn()
    assert (peer.hears(), [each.is_discarded for each in bodies]) == (b"ab;cd;x;", [False, True])
    peer.resets()


@pytest.mark.parametrize("waits", [False, True])
def test_an_iterator_of_replies_keeps_the_body_to_its_end(waits: bool) -> None:
    """The body of a message is discarded when the last of its replies is taken, at once or later."""
    bodies: list[Body] = []
    pending: list[Deferred[Any]] = []

    def replies(body: Body) -> Iterator[bytes]:
        for number in range(3):
            assert not body.is_discarded
            yield b"%d;" % number

    def app(message: Any, connection: Any) -> Any:
        bodies.append(message[1])
        if not waits:
            return replies(message[1])
        pending.append(Deferred())
        return pending[0].addCallback(lambda _: replies(message[1]))

    peer = peer_of(app)
    peer.says(b"set 100\r\n")
    for each in pending:
        each.callback(None)
    peer.transport.turn()
    assert (peer.hears(), bodies[0].is_discarded) == (b"0;1;2;", True)
    peer.resets()


def test_a_stream_of_replies_that_is_cut_releases_its_body() -> None:
    """An iterator without `aclose` that the end of the connection cuts leaves its body discarded."""
    bodies: list[Body] = []

    class Replies:
        def __aiter__(self) -> Replies:
            return self

        def __anext__(self) -> Deferred[bytes]:
            return Deferred()

    def app(message: Any, connection: Any) -> Any:
        bodies.append(message[1])
        return Replies()

    peer = peer_of(app)
    peer.says(b"set 100\r\n")
    peer.resets()
    assert bodies[0].is_discarded


def test_a_function_that_raises_discards_the_body() -> None:
    """A function that raises closes the connection, and its body is discarded."""
    bodies: list[Body] = []

    def app(message: Any, connection: Any) -> None:
        bodies.append(message[1])
        raise ValueError("no")

    peer = peer_of(app)
    peer.says(b"set 1000\r\nabc")
    assert bodies[0].is_discarded
    peer.transport.turn()


def test_a_kept_body_outlives_its_handler() -> None:
    """A function can keep the body, and give it to a task."""
    done: list[Any] = []

    def app(message: Any, connection: Any) -> bytes:
        if message[1] is not None:
            Deferred.fromCoroutine(message[1].keep().read()).addCallback(done.append)
        return b"soon;"

    peer = peer_of(app)
    peer.says(b"set 6\r\n")
    assert peer.hears() == b"soon;"
    peer.says(b"abc")
    peer.says(b"def\r\nget\r\n")
    assert (done, peer.hears()) == ([b"abcdef"], b"soon;")
    assert peer.factory.settings.memory_budget.total == 0


def test_a_body_that_the_app_discards_is_dropped() -> None:
    """`discard` drops what is held, and reading goes on."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"set 1000\r\n" + b"x" * 500)
    assert peer.paused
    app.body.discard()
    assert not peer.paused
    peer.says(b"x" * 500 + b"\r\n")
    assert app.body.is_over
    app.pending[0].callback(None)


@pytest.mark.parametrize("kept", [False, True])
def test_a_conversation_that_asks_for_the_next_message_discards_the_body(kept: bool) -> None:
    """`receive` discards the body of the message before, unless it was kept."""
    bodies: list[Body] = []

    @conversation
    async def app(connection: Any) -> None:
        async for _, body in connection:
            if body is not None:
                bodies.append(body.keep() if kept else body)
            else:
                await connection.send(b"next;")

    peer = peer_of(app)
    peer.says(b"set 500\r\n" + b"x" * 200)
    assert (bodies[0].is_discarded, peer.paused) == (not kept, kept)
    if kept:
        bodies[0].take()
    peer.says(b"x" * 300 + b"\r\nget\r\n")
    if kept:
        bodies[0].take()
    assert peer.hears() == b"next;"


@pytest.mark.parametrize("waits", [False, True])
def test_a_batch_discards_its_bodies(waits: bool) -> None:
    """The bodies of a batch are discarded when its handler has ended."""
    pending: list[Deferred[Any]] = []
    given: list[Any] = []

    @batch
    def app(messages: list[Any], connection: Any) -> Any:
        given.extend(messages)
        pending.append(Deferred())
        return pending[-1] if waits else None

    peer = peer_of(app)
    peer.says(b"get\r\nset 500\r\n" + b"x" * 20)
    body = given[1][1]
    if waits:
        assert body.take() == b"x" * 20
        pending[0].callback([])
    assert body.is_discarded
    peer.resets()


def test_a_batch_that_raises_discards_its_bodies() -> None:
    """The bodies of a batch are discarded when its handler raises."""
    given: list[Any] = []

    @batch
    def app(messages: list[Any], connection: Any) -> Any:
        given.extend(messages)
        raise ValueError("no")

    peer = peer_of(app)
    peer.says(b"set 500\r\n" + b"x" * 20)
    assert given[0][1].is_discarded
    peer.transport.turn()


def test_a_batch_that_ends_after_its_connection_has_no_bodies_left() -> None:
    """A batch that still cleans up when its connection has ended has no bodies to discard, and is no failure."""
    cleaned: Deferred[None] = Deferred()
    ended: list[str] = []

    @batch
    async def app(messages: list[Any], connection: Any) -> list[bytes]:
        try:
            await Deferred()
        finally:
            await cleaned
            ended.append(connection.state.value)

    peer = peer_of(app)
    peer.says(b"set 500\r\n" + b"x" * 20)
    peer.resets()
    assert ended == []
    cleaned.callback(None)
    assert (ended, peer.told(AppFailed)) == (["closed"], [])
    assert peer.factory.settings.memory_budget.total == 0


# Deadlines -----------------------------------------------------------------------------------------------------------


def test_a_body_has_a_deadline_by_progress() -> None:
    """Each chunk of a body gives it `body_timeout` seconds more. Then the connection ends, and the reader is told."""
    app = Saving()
    peer = peer_of(
        app, timeouts=Timeouts(first_message=0, idle=0, message_timeout=5, body_timeout=20, handler_timeout=0)
    )
    peer.says(b"set 100\r\n")
    for _ in range(5):
        peer.clock.advance(19)
        peer.says(b"x")
    peer.clock.advance(21)
    peer.transport.turn()
    [error] = app.errors
    assert isinstance(error, NotConnected)
    assert (peer.reason.rule, error.reason.rule, len(app.pieces)) == ("body-timeout", "body-timeout", 5)


def test_no_deadline_runs_behind_a_body() -> None:
    """When a body is whole, its deadline ends."""
    peer = peer_of(Saving())
    peer.says(b"set 3\r\nabc\r\n")
    assert peer.waits == []


def test_the_deadline_stands_still_while_the_app_does_not_read() -> None:
    """A peer that is not read from cannot send, so its time does not run."""
    app = Holding()
    peer = peer_of(app, timeouts=Timeouts(first_message=0, idle=0, body_timeout=20, handler_timeout=0))
    peer.says(b"set 1000\r\n" + b"x" * 500)
    peer.clock.advance(100)
    assert peer.connection.is_open
    app.body.take()
    peer.clock.advance(19)
    assert peer.connection.is_open
    peer.clock.advance(2)
    assert not peer.connection.is_open
    app.pending[0].callback(None)
    peer.transport.turn()


def test_reading_gives_the_app_its_time_again() -> None:
    """An app that reads a long body has `handler_timeout` seconds from the last piece that it took."""
    app = Holding()
    peer = peer_of(app, timeouts=Timeouts(first_message=0, idle=0, body_timeout=0, handler_timeout=60))
    peer.says(b"set 1000\r\n")
    for _ in range(3):
        peer.clock.advance(50)
        peer.says(b"x")
        app.body.take()
    assert peer.connection.is_open
    peer.clock.advance(61)
    peer.transport.turn()
    assert peer.reason.rule == "handler-timeout"


# The end -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "rule"),
    [
        (lambda peer: peer.half_closes(), "truncated-message"),
        (lambda peer: peer.resets(), "lost"),
        (lambda peer: peer.connection.close(), "closed"),
        (lambda peer: peer.connection.abort(), "aborted"),
        (lambda peer: peer.says(b"x" * 10 + b"no"), "malformed-frame"),
    ],
    ids=["half-close", "reset", "close", "abort", "malformed"],
)
def test_an_end_inside_a_body_is_told_to_its_reader(end: Any, rule: str) -> None:
    """The reader of a body gets all pieces that came, and then the reason of the connection's end."""
    app = Saving()
    peer = peer_of(app)
    peer.says(b"set 12\r\nab")
    end(peer)
    peer.transport.turn()
    [error] = app.errors
    assert isinstance(error, NotConnected)
    assert (error.reason.rule, b"".join(app.pieces)[:2]) == (rule, b"ab")
    assert (peer.told(AppFailed), peer.reason.rule) == ([], rule)
    assert peer.factory.settings.memory_budget.total == 0


def test_a_chunk_that_ends_its_connection_at_once_wakes_no_reader_again() -> None:
    """A transport can be lost while its chunk is handed on: the reader gets the piece in it once, and then the end."""
    app = Saving()
    limits = Limits(byte_rate=100)
    peer = peer_of(app, transport=AbruptTransport(), limits=limits, policies=Policies(over_rate="reset"))
    peer.says(b"set 500\r\nab")
    peer.says(b"x" * 200)
    assert (peer.reason.rule, app.pieces) == ("byte-rate", [b"ab", b"x" * 200])
    assert [type(each) for each in app.errors] == [NotConnected]
    assert peer.factory.settings.memory_budget.total == 0


def test_what_came_before_the_end_can_be_read_after_it() -> None:
    """After the end of the connection a body has the bytes that came, and then raises."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"set 12\r\nab")
    app.body.keep()
    peer.resets()
    assert app.body.take() == b"ab"
    error = result_of(Deferred.fromCoroutine(app.body.read()))
    assert (type(error), error.reason.rule) == (NotConnected, "lost")


def test_a_whole_body_can_be_read_after_the_end() -> None:
    """A body that has come whole ends as it should, whatever became of the connection."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"set 3\r\nabc\r\n")
    app.body.keep()
    peer.resets()
    assert result_of(Deferred.fromCoroutine(app.body.read())) == b"abc"


def test_bytes_behind_the_end_of_the_input_do_not_come() -> None:
    """After `close` no bytes of a body come any more."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"set 12\r\nab")
    outcome(peer.connection.close())
    peer.slips_in(b"cd")
    assert app.body.received == 2
    peer.transport.turn()


def test_a_drain_lets_a_body_come_whole() -> None:
    """A server that drains lets the app read the body of the message that it has, and then closes."""
    app = Saving()
    peer = peer_of(app)
    peer.says(b"set 6\r\nab")
    peer.connection.drain()
    peer.says(b"cdef\r\nget\r\n")
    peer.transport.turn()
    assert (peer.hears(), peer.reason.rule) == (b"6;none;", "drained")


def test_a_drain_does_not_wait_for_a_body_for_ever() -> None:
    """A body that is not whole at the deadline of the drain is cut."""
    app = Saving()
    peer = peer_of(app)
    peer.says(b"set 6\r\nab")
    peer.connection.drain(5)
    peer.clock.advance(6)
    peer.transport.turn()
    assert (peer.reason.rule, len(app.errors)) == ("drain-over", 1)


def test_a_body_that_is_too_long_for_read_is_the_peers_fault() -> None:
    """An app that does not handle the error of `read` closes the connection for that reason, without a traceback."""

    async def app(message: Any, connection: Any) -> bytes:
        return await message[1].read(10)  # type: ignore[no-any-return]  # bytes

    peer = peer_of(app)
    peer.says(b"set 1000\r\n")
    peer.transport.turn()
    assert (peer.reason.rule, peer.told(AppFailed), type(peer.reason.error)) == ("message-too-long", [], MessageTooLong)


def test_short_memory_drops_a_body() -> None:
    """Where memory is short, what is held of a body is dropped, and no reader takes the rest for the whole."""
    app = Holding()
    peer = peer_of(app, limits=Limits(inbox_high=10_000, inbox_low=10, max_buffered=4000))
    peer.says(b"set 9000\r\n")
    app.body.keep()
    peer.says(b"x" * 8000)
    peer.transport.turn()
    assert peer.reason.rule == "memory-short"
    assert app.body.held == 0
    error = result_of(Deferred.fromCoroutine(app.body.read()))
    assert type(error) is NotConnected


@pytest.mark.parametrize("data", [b"get\r\n", b"set 3\r\nabc\r\n", b"set 9\r\nabc"])
def test_the_parts_of_an_ended_connection_are_freed_although_a_body_is_held(data: bytes) -> None:
    """The parts of a connection refer to it no more after its end, and a body that is held keeps none of them."""
    gc.collect()
    gc.disable()
    try:
        app = Holding()
        peer = peer_of(app)
        peer.says(data)
        if app.body is not None:
            app.body.keep()
        peer.resets()
        kinds = {type(each).__name__ for each in gc.get_referrers(peer.protocol)}
    finally:
        gc.enable()
    assert kinds & {"BufferedBytes", "Dispatcher", "Throttle", "Bodies"} == set()
    assert app.messages


def drains(peer: Peer) -> None:
    """Drain a connection, whose time is over before its body has come."""
    peer.connection.drain(5)
    peer.clock.advance(5)


def ends_wrongly(peer: Peer) -> None:
    """Send wrong bytes at the end of a body."""
    peer.says(b"x" * 9)


async def reads(message: Any, connection: Any) -> None:
    """Read the body."""
    await message[1].read()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("app", [reads, lambda message, connection: None], ids=["reads", "leaves-it"])
@pytest.mark.parametrize("end", [drains, ends_wrongly, Peer.half_closes, Peer.resets])
def test_a_connection_is_freed_that_ends_inside_a_body(app: Any, end: Any) -> None:
    """A connection that ends inside a body, however it ends, is freed with its last holder, without the collector."""
    peer = peer_of(app)
    peer.says(b"set 9\r\nabc")
    end(peer)
    peer.leaves()
    freed = ref(peer.protocol), ref(peer.connection)
    peer.protocol = peer.connection = peer.transport.connection = None
    peer.events.clear()
    assert [each() for each in freed] == [None, None]


# Moving --------------------------------------------------------------------------------------------------------------


def test_a_body_is_an_obstacle_until_it_is_over() -> None:
    """A connection does not move inside a body, nor while a body is not read. Both pass."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"set 6\r\nab")
    assert [(each.rule, each.lasting) for each in peer.protocol.obstacles()] == [
        ("reply-pending", False),
        ("body", False),
    ]
    with pytest.raises(InvalidState, match="the body of a message"):
        peer.protocol.dump()
    peer.says(b"cdef\r\n")
    app.pending[0].callback(None)
    assert peer.protocol.obstacles() == []


# Another framing -----------------------------------------------------------------------------------------------------


def test_the_body_in_hand_can_be_read_after_a_switch() -> None:
    """A handler that switches the framing still reads the body of its message, which has come whole."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"set 3\r\nabc\r\nrest")
    peer.connection.switch("raw")
    assert result_of(Deferred.fromCoroutine(app.body.read())) == b"abc"
    app.pending[0].callback(None)
    assert app.messages[1:] == [b"rest"]
    app.pending[1].callback(None)


def test_a_switch_reads_on_where_a_body_behind_the_message_was_full() -> None:
    """Where the body of a message behind has filled its place, the connection is read from again after a switch."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"get\r\nset 1000\r\n" + b"x" * 200)
    assert peer.paused
    peer.connection.switch("raw")
    app.pending[0].callback(None)
    app.pending[1].callback(None)
    assert not peer.paused
    peer.resets()


def test_a_whole_body_behind_the_message_is_read_by_another_framing() -> None:
    """A message that waits with its whole body is taken back by a switch, and holds nothing then."""
    app = Holding()
    peer = peer_of(app)
    peer.says(b"get\r\nset 3\r\nabc\r\n")
    peer.connection.switch("raw")
    app.pending[0].callback(None)
    assert app.messages[1:] == [b"set 3\r\nabc\r\n"]
    app.pending[1].callback(None)
    assert peer.factory.settings.memory_budget.total == 0


# Requests ------------------------------------------------------------------------------------------------------------


def test_the_reply_to_a_request_can_have_a_body() -> None:
    """The caller of a request reads the body of its reply."""
    peer = peer_of(None)
    asked = peer.connection.request(b"?")
    peer.says(b"set 3\r\nab")
    _, body = result_of(asked)
    reading = outcome(Deferred.fromCoroutine(body.read()))
    peer.says(b"c\r\n")
    assert reading == [b"abc"]


def test_the_body_of_a_late_reply_is_dropped() -> None:
    """The body of a reply that nobody waits for any more is dropped."""
    peer = peer_of(None)
    asked = peer.connection.request(b"?", timeout=1)
    outcome(asked)
    peer.clock.advance(2)
    peer.says(b"set 500\r\n" + b"x" * 200)
    assert not peer.paused
    peer.says(b"x" * 300 + b"\r\n")
    assert peer.factory.settings.memory_budget.total == 0


def test_a_message_with_a_body_beside_requests_is_handled() -> None:
    """A message that answers no request is handled with its body, which is discarded behind it."""
    app = Holding()
    peer = peer_of(app, key=lambda message: message[0][0] == b"reply" or None)
    outcome(peer.connection.request(([b"reply"], None)))
    peer.says(b"set 500\r\n" + b"x" * 20)
    assert app.body.take() == b"x" * 20
    app.pending[0].callback(None)
    assert app.body.is_discarded
    peer.resets()


# Recorders -----------------------------------------------------------------------------------------------------------


def test_a_recorder_hears_of_the_message_without_its_body() -> None:
    """A recorder gets the bytes of a message with a body, and not the body."""
    heard: list[Any] = []

    class Recorder:
        def received(self, messages: Any) -> None:
            heard.extend(messages)

        def sending(self, messages: Any) -> None: ...

        def sent(self, data: bytes) -> None: ...

    peer = peer_of(Saving())
    peer.protocol.record(Recorder())
    peer.says(b"set 3\r\nabc\r\nget\r\n")
    assert heard == [b"set 3\r\n", b"get\r\n"]


# Without a clock -----------------------------------------------------------------------------------------------------


def test_without_a_clock_bodies_are_read_all_the_same() -> None:
    """Over a transport without a reactor no deadline runs."""
    factory = MessageServerFactory(Saving(), store())
    protocol: Any = factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(b"set 3\r\n")
    protocol.dataReceived(b"abc\r\n")
    assert transport.value() == b"3;"
