"""Raw bytes that a connection sends piece by piece: their order, their end, and what a failure does."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import StringTransport

from tcpapp import Limits, MessageServerFactory, Timeouts
from tcpapp.close_reason import EndedBy
from tcpapp.connection import stream_sources
from tcpapp.errors import InvalidOption, NotConnected, UnsendableStream
from tcpapp.telemetry import AppFailed
from tests.peers import AbruptTransport, NotedTransport, Peer, outcome, stalled

HIGH = 64 * 1024
QUIET = Timeouts(first_message=0, idle=0)


def quiet(app: Any = None, **options: Any) -> Peer:
    """Return a peer that reads at once."""
    return Peer(app, **{"timeouts": QUIET, **options})


class Given:
    """An async source, whose next piece the test gives. `closed` says that its `finally` ran."""

    def __init__(self) -> None:
        self.closed = False
        self._next: Deferred[bytes | None] = Deferred()

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            while (piece := await self._next) is not None:
                yield piece
        finally:
            self.closed = True

    def give(self, piece: bytes | None) -> None:
        given, self._next = self._next, Deferred()
        given.callback(piece)

    def fail(self, error: Exception) -> None:
        self._next.errback(error)


async def several(*pieces: Any) -> AsyncIterator[Any]:
    """Give `pieces` without a wait."""
    for each in pieces:
        yield each


# What is sent --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        lambda path: b"raw bytes",
        lambda path: bytearray(b"raw bytes"),
        lambda path: memoryview(b"raw bytes"),
        lambda path: [b"raw", b"", bytearray(b" "), memoryview(b"bytes")],
        lambda path: iter([b"raw ", b"bytes"]),
        lambda path: several(b"raw ", b"", bytearray(b"bytes")),
        lambda path: BytesIO(b"raw bytes"),
        lambda path: path,
        str,
    ],
    ids=["bytes", "bytearray", "memoryview", "list", "iterator", "async", "file", "path", "string"],
)
def test_a_source_of_each_kind_is_sent_without_a_frame(source: Any, tmp_path: Path) -> None:
    """Bytes, iterables, async iterables, files and paths are sent as they are, and their bytes are counted."""
    path = tmp_path / "file"
    path.write_bytes(b"raw bytes")
    peer = quiet()
    assert outcome(peer.connection.send_stream(source(path))) == [9]
    assert peer.hears() == b"raw bytes"
    assert (peer.protocol.info().sent_bytes, peer.protocol.info().sent_messages) == (9, 0)


@pytest.mark.parametrize("source", [b"", [], [b"", b""], several, BytesIO], ids=str)
def test_an_empty_source_is_sent_whole(source: Any) -> None:
    """A source without bytes fires with 0, and the connection goes on."""
    peer = quiet()
    assert outcome(peer.connection.send_stream(source() if callable(source) else source, size=0)) == [0]
    peer.connection.send(b"next")
    assert peer.hears() == b"next\n"


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("size", [HIGH - 1, HIGH, HIGH + 1, 3 * HIGH + 1])
def test_a_long_piece_is_sent_in_pieces(size: int, asynchronous: bool) -> None:
    """A piece of any length is given to the transport in pieces up to the write mark."""
    peer = quiet()
    pieces = [b"a" * size, b"b" * size]
    assert outcome(peer.connection.send_stream(several(*pieces) if asynchronous else pieces)) == [2 * size]
    assert b"".join(peer.transport.writes) == b"".join(pieces)
    assert max(map(len, peer.transport.writes)) <= HIGH


def test_small_pieces_are_joined() -> None:
    """A thousand pieces of an iterator, of some bytes each, go out in one write."""
    peer = quiet()
    peer.connection.send_stream(b"%d," % number for number in range(1000))
    assert len(peer.transport.writes) == 1


def test_a_stream_keeps_its_place_among_messages() -> None:
    """Earlier replies and messages go before a stream, and later messages, streams and the reply behind it."""

    def app(message: bytes, connection: Any) -> bytes:
        connection.send(b"head")
        connection.send_stream([b"one"])
        connection.send(b"middle")
        connection.send_stream([b"two"])
        return b"reply"

    peer = quiet(app)
    peer.says(b"hello\n")
    assert peer.hears() == b"head\nonemiddle\ntworeply\n"


def test_a_message_never_lands_inside_a_stream() -> None:
    """While a source has no bytes yet, messages wait behind the stream, and are sent once it has ended."""
    peer, source = quiet(), Given()
    sent = outcome(peer.connection.send_stream(source.pieces()))
    later = outcome(peer.connection.send(b"later"))
    source.give(b"body")
    assert (peer.hears(), sent, later) == (b"body", [], [])
    source.give(None)
    assert (peer.hears(), sent, later) == (b"later\n", [4], [None])


def test_the_source_can_send_itself() -> None:
    """A message that a source sends while it is read goes out behind the stream."""
    peer = quiet()

    def pieces() -> Iterator[bytes]:
        peer.connection.send(b"behind")
        peer.connection.send_stream([b"far behind"])
        yield b"stream "

    assert outcome(peer.connection.send_stream(pieces())) == [7]
    assert peer.hears() == b"stream behind\nfar behind"


def test_the_app_waits_for_a_stream() -> None:
    """The app gets no further message until a stream that it does not wait for is sent."""
    source, seen = Given(), []

    def app(message: bytes, connection: Any) -> None:
        seen.append(message)
        if message == b"first":
            connection.send_stream(source.pieces())

    peer = quiet(app)
    peer.says(b"first\nsecond\n")
    source.give(b"body")
    assert seen == [b"first"]
    source.give(None)
    assert seen == [b"first", b"second"]


# Backpressure --------------------------------------------------------------------------------------------------------


def test_the_next_piece_is_taken_when_the_peer_has_read() -> None:
    """While the peer does not read, no further piece is taken from the source, and all held bytes are counted."""
    peer, taken = stalled(timeouts=QUIET), []

    def pieces() -> Iterator[bytes]:
        for number in range(20):
            taken.append(number)
            yield bytes(HIGH)

    sent = outcome(peer.connection.send_stream(pieces()))
    before = len(taken)
    assert (before, sent) == (2, [])
    assert peer.protocol._buffered.held_bytes <= 4 * HIGH
    while not sent:
        peer.transport.take()
    assert (sent, len(taken)) == ([20 * HIGH], 20)
    assert peer.protocol._buffered.held_bytes == 0


def test_bytes_of_a_long_piece_that_wait_are_counted() -> None:
    """What the source gave at once and the peer has not read is in the count of buffered bytes, until it is sent."""
    peer = stalled(timeouts=QUIET)
    sent = outcome(peer.connection.send_stream([bytes(10 * HIGH)]))
    assert peer.protocol._buffered.held_bytes >= 8 * HIGH
    peer.transport.go_on()
    peer.transport.turn()
    assert (sent, peer.protocol._buffered.held_bytes) == ([10 * HIGH], 0)


def test_a_stream_fires_when_the_peer_has_read_enough() -> None:
    """The Deferred of a stream that fills the transport fires when the transport is below its mark again."""
    peer = stalled(timeouts=QUIET)
    sent = outcome(peer.connection.send_stream([bytes(HIGH), bytes(HIGH)]))
    assert sent == []
    peer.transport.take()
    assert sent == [2 * HIGH]


def test_a_peer_that_reads_nothing_is_cut() -> None:
    """A stream to a peer that takes nothing for `send_progress` seconds fails, and its source is closed."""
    peer, closed = stalled(timeouts=Timeouts(first_message=0, idle=0, send_progress=30)), []

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(HIGH)
        finally:
            closed.append(True)

    sent = outcome(peer.connection.send_stream(pieces()))
    peer.clock.advance(31)
    peer.transport.turn()
    assert ([type(each) for each in sent], closed, peer.reason.rule) == ([NotConnected], [True], "send-stalled")


def test_too_many_bytes_behind_a_stream_end_the_connection() -> None:
    """More than `max_unsent` bytes that wait behind a stream end the connection, as behind a slow peer."""
    peer = quiet(limits=Limits(max_unsent=1000))
    outcome(peer.connection.send_stream(Given().pieces()))
    for _ in range(3):
        outcome(peer.connection.send(b"x" * 500))
    peer.transport.turn()
    assert peer.reason.rule == "too-much-unsent"


def test_too_many_streams_end_the_connection() -> None:
    """Streams that wait count against `max_unsent`, so that their number is bounded."""
    peer = quiet(limits=Limits(max_unsent=1000))
    for _ in range(5):
        outcome(peer.connection.send_stream(Given().pieces()))
    peer.transport.turn()
    assert peer.reason.rule == "too-much-unsent"


class EagerTransport(NotedTransport):
    """A transport that pauses and resumes its producer inside every write."""

    def write(self, data: bytes) -> None:
        super().write(data)
        self.protocol._outbox.pauseProducing()
        self.protocol._outbox.resumeProducing()


def test_a_transport_that_resumes_inside_a_write_gets_the_pieces_in_order() -> None:
    """A stream is not read again while it gives a piece, so that any number of pieces keep their order."""
    peer = Peer(None, transport=EagerTransport(), timeouts=QUIET)
    pieces = [bytes([number % 256]) * HIGH for number in range(1100)]
    assert outcome(peer.connection.send_stream(pieces)) == [1100 * HIGH]
    assert b"".join(peer.transport.writes) == b"".join(pieces)


def test_bytes_that_the_kernel_sends_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that do not pass through the process count as sent bytes, and as the last time when bytes were sent."""
    path = tmp_path / "file"
    path.write_bytes(bytes(10))
    monkeypatch.setattr(stream_sources, "carries_files", lambda transport: True)
    monkeypatch.setattr(stream_sources, "send_file", lambda transport, file, offset, size: 2)
    peer = quiet()
    peer.clock.advance(5)
    assert outcome(peer.connection.send_stream(path)) == [10]
    assert (peer.protocol.info().sent_bytes, peer.protocol._deadlines.last_sent, peer.hears()) == (10, 5, b"")


def test_a_stream_waits_while_the_transport_is_over_its_mark() -> None:
    """A source that has bytes again while the transport is over its mark is asked when the transport takes bytes."""
    peer, source = stalled(timeouts=QUIET), Given()
    outcome(peer.connection.send_stream(source.pieces()))
    peer.protocol._outbox.pauseProducing()
    source.give(b"piece")
    assert peer.transport.writes == []
    peer.protocol._outbox.resumeProducing()
    assert peer.transport.writes == [b"piece"]
    peer.resets()


# Turns ---------------------------------------------------------------------------------------------------------------


class SlowSource:
    """An iterator whose every piece takes longer than the work of one turn."""

    def __init__(self, clock: Any, count: int, piece: bytes = b"piece") -> None:
        self.clock = clock
        self.left = count
        self.piece = piece

    def __iter__(self) -> SlowSource:
        return self

    def __next__(self) -> bytes:
        self.clock.rightNow += 0.001
        self.left -= 1
        if self.left < 0:
            raise StopIteration
        return self.piece


@pytest.mark.parametrize("piece", [b"piece", b""])
def test_a_source_that_takes_long_gets_one_turn_after_another(piece: bytes) -> None:
    """A source that uses up the work of a turn goes on in a later turn, also where it gives empty pieces."""
    peer = quiet()
    source = SlowSource(peer.clock, 5, piece)
    sent = outcome(peer.connection.send_stream(source))
    assert (source.left, sent) == (4, [])
    peer.transport.turn()
    assert sent == [5 * len(piece)]


@pytest.mark.parametrize("cancel", [False, True])
def test_no_turn_is_left_when_a_stream_ends_before_it(cancel: bool) -> None:
    """The turn for which a stream waits is given up when the connection ends, or when the stream is cancelled."""
    peer = quiet()
    sending = peer.connection.send_stream(SlowSource(peer.clock, 5))
    outcome(sending)
    if cancel:
        sending.cancel()
    else:
        peer.resets()
    assert len(peer.factory.settings.fair_share) == 0
    peer.transport.turn()


def test_without_a_clock_a_source_is_read_at_once() -> None:
    """Over a transport without a reactor there are no turns, and the whole source is sent."""
    factory = MessageServerFactory(None)
    protocol: Any = factory.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    assert outcome(protocol.connection.send_stream(b"x" for _ in range(1000))) == [1000]
    assert transport.value() == b"x" * 1000


def test_each_piece_gives_the_app_its_time_again() -> None:
    """An app that awaits a long stream has `handler_timeout` seconds from the last piece, and not for all of it."""
    source = Given()

    async def app(message: bytes, connection: Any) -> None:
        await connection.send_stream(source.pieces())

    peer = quiet(app, timeouts=Timeouts(first_message=0, idle=0, handler_timeout=60))
    peer.says(b"go\n")
    for _ in range(3):
        peer.clock.advance(50)
        source.give(b"piece")
    assert peer.connection.is_open
    peer.clock.advance(61)
    peer.transport.turn()
    assert peer.reason.rule == "handler-timeout"
    assert source.closed


# Sizes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "size", "text"),
    [
        ([b"four"], 5, "the source ended after 4 bytes; its size is 5"),
        ([b"four", b"five"], 5, "the source gave 8 bytes or more; its size is 5"),
        (BytesIO(b"four"), 5, "the source ended after 4 bytes; its size is 5"),
        (["text"], None, "the source gave 'text': takes bytes"),
    ],
)
def test_a_source_of_another_size_cuts_the_connection(source: Any, size: int | None, text: str) -> None:
    """A source with fewer or more bytes than its size, or without bytes, fails the call and cuts the connection."""
    peer = quiet()
    [error] = outcome(peer.connection.send_stream(source, size=size))
    assert (type(error), str(error)) == (UnsendableStream, text)
    assert peer.transport.aborted
    peer.transport.turn()
    assert (peer.reason.rule, peer.reason.by, peer.reason.error) == ("stream-cut", EndedBy.US, error)
    assert text in peer.reason.detail


def test_of_a_file_only_its_size_is_sent() -> None:
    """With `size`, a file is read no further, and its position is behind the sent bytes."""
    peer, file = quiet(), BytesIO(b"0123456789")
    file.seek(2)
    assert outcome(peer.connection.send_stream(file, size=3)) == [3]
    assert (peer.hears(), file.read()) == (b"234", b"56789")


# Failures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [5, None, object])
def test_what_is_no_source_is_refused(source: Any) -> None:
    """An object that gives no bytes fails the call at once, and the connection stays open."""
    peer = quiet()
    [error] = outcome(peer.connection.send_stream(source))
    assert (type(error), peer.connection.is_open) == (InvalidOption, True)


@pytest.mark.parametrize("size", [-1, 1.5, True, "1"])
def test_a_size_is_a_number_of_bytes(size: Any) -> None:
    """A size that is no number of bytes fails the call at once, and the connection stays open."""
    peer = quiet()
    [error] = outcome(peer.connection.send_stream([b"x"], size=size))
    assert (type(error), peer.connection.is_open) == (InvalidOption, True)


def test_a_file_that_is_not_there_leaves_the_connection_open(tmp_path: Path) -> None:
    """A path that cannot be opened fails the call at once, so that the app can say so to the peer."""
    peer = quiet()
    [error] = outcome(peer.connection.send_stream(tmp_path / "missing"))
    assert type(error) is FileNotFoundError
    peer.connection.send(b"no such file")
    assert peer.hears() == b"no such file\n"


@pytest.mark.parametrize("first", [b"", b"half"])
def test_an_iterator_that_raises_cuts_the_connection(first: bytes) -> None:
    """What an iterator raises fails the call. The connection is cut, and nothing that waits behind is sent."""

    def pieces() -> Iterator[bytes]:
        if first:
            yield first
        peer.connection.send(b"behind")
        raise ValueError("disk")

    peer = quiet()
    [error] = outcome(peer.connection.send_stream(pieces()))
    assert (type(error), peer.transport.aborted, b"behind" in b"".join(peer.transport.writes)) == (
        ValueError,
        True,
        False,
    )
    peer.transport.turn()
    assert (peer.reason.rule, peer.told(AppFailed)) == ("stream-cut", [])


@pytest.mark.parametrize("waits", [False, True])
def test_an_async_iterator_that_raises_cuts_the_connection(waits: bool) -> None:
    """What an async iterator raises, at once or later, fails the call and cuts the connection."""
    peer, source = quiet(), Given()
    if not waits:
        source.fail(ValueError("disk"))
    sent = outcome(peer.connection.send_stream(source.pieces()))
    if waits:
        source.give(b"half")
        source.fail(ValueError("disk"))
    assert ([type(each) for each in sent], peer.transport.aborted) == ([ValueError], True)
    assert source.closed


def test_a_failed_stream_of_an_app_is_the_apps_failure() -> None:
    """An app that awaits a stream gets the error of the source, and is reported with it where it does not handle it."""

    async def app(message: bytes, connection: Any) -> None:
        await connection.send_stream([1])

    peer = quiet(app)
    peer.says(b"go\n")
    peer.transport.turn()
    [failed] = peer.told(AppFailed)
    assert (failed.failure.type, peer.reason.rule) == (UnsendableStream, "stream-cut")


def test_a_stream_on_a_closed_connection_fails() -> None:
    """A stream on a connection that is not open fails with `NotConnected`, counts as a failed send, opens nothing."""
    peer = quiet()
    peer.resets()
    [error] = outcome(peer.connection.send_stream("/no/such/file"))
    assert type(error) is NotConnected
    assert peer.factory.settings.counters.failed_sends == 1


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("how", ["resets", "abort"])
def test_the_end_of_the_connection_fails_a_stream(how: str, asynchronous: bool) -> None:
    """A stream fails with `NotConnected` when the connection ends, its source is closed, and nothing is held."""
    peer, closed = stalled(timeouts=QUIET), []

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(HIGH)
        finally:
            closed.append(True)

    async def async_pieces() -> AsyncIterator[bytes]:
        for each in pieces():
            yield each

    sent = outcome(peer.connection.send_stream(async_pieces() if asynchronous else pieces()))
    if how == "resets":
        peer.resets()
    else:
        peer.connection.abort()
        peer.transport.turn()
    assert ([type(each) for each in sent], closed) == ([NotConnected], [True])
    assert peer.factory.settings.memory_budget.total == 0


def test_the_end_while_an_async_source_is_awaited_cancels_it() -> None:
    """An async source that has no bytes yet is cancelled when the connection ends."""
    peer, source = quiet(), Given()
    sent = outcome(peer.connection.send_stream(source.pieces()))
    peer.resets()
    assert ([type(each) for each in sent], source.closed) == ([NotConnected], True)


def test_an_async_iterator_without_aclose_need_not_be_closed() -> None:
    """An object with `__anext__` alone is a source, too."""

    class Two:
        left = 2

        def __aiter__(self) -> Two:
            return self

        async def __anext__(self) -> bytes:
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return b"x"

    peer = quiet()
    assert outcome(peer.connection.send_stream(Two())) == [2]


# Cancelling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits_behind", [False, True])
def test_a_cancelled_stream_cuts_the_connection(waits_behind: bool) -> None:
    """Cancelling a stream that is not whole fails it with `CancelledError`, and cuts the connection."""
    peer, source = stalled(timeouts=QUIET), Given()
    if waits_behind:
        outcome(peer.connection.send(bytes(10 * HIGH)))
    sending = peer.connection.send_stream(source.pieces())
    sent = outcome(sending)
    sending.cancel()
    sending.cancel()
    assert ([type(each) for each in sent], peer.transport.aborted) == ([CancelledError], True)
    peer.transport.turn()
    assert (peer.reason.rule, source.closed or waits_behind) == ("stream-cut", True)


def test_a_stream_that_is_whole_can_be_cancelled_without_a_cut() -> None:
    """Cancelling a stream whose bytes the transport has all does not cut the connection."""
    peer = stalled(timeouts=QUIET)
    peer.connection.send(bytes(HIGH - 1))
    sending = peer.connection.send_stream(BytesIO(b"all"), size=3)
    sent = outcome(sending)
    assert sent == []
    sending.cancel()
    assert ([type(each) for each in sent], peer.transport.aborted) == ([CancelledError], False)
    peer.transport.go_on()


def test_a_cut_where_the_transport_is_lost_at_once_gives_the_first_cause() -> None:
    """Where the transport is lost inside the cut, the caller still gets what the source raised."""
    peer = Peer(None, transport=AbruptTransport(), timeouts=QUIET)
    [error] = outcome(peer.connection.send_stream([1]))
    assert (type(error), peer.reason.rule) == (UnsendableStream, "stream-cut")


@pytest.mark.parametrize("transport", [NotedTransport, AbruptTransport])
@pytest.mark.parametrize("gives", [False, True])
def test_a_source_can_end_the_connection(transport: Any, gives: bool) -> None:
    """A generator that aborts its connection is closed when it has given its piece, and nothing more is sent."""
    peer, closed = Peer(None, transport=transport(), timeouts=QUIET), []

    def pieces() -> Iterator[bytes]:
        try:
            peer.connection.abort()
            if not gives:
                raise ValueError("late")
            yield b"never sent"
        finally:
            closed.append(True)

    sent = outcome(peer.connection.send_stream(pieces()))
    peer.transport.turn()
    assert len(sent) == 1
    assert (closed, peer.reason.rule, peer.transport.value()) == ([True], "aborted", b"")


def test_a_generator_that_raises_at_its_close_is_reported() -> None:
    """What a generator raises when it is closed is reported as the failure of the app, and the stream has its error."""

    def pieces() -> Iterator[bytes]:
        try:
            yield bytes(3 * HIGH)
        finally:
            raise ValueError("in finally")

    peer = stalled(timeouts=QUIET)
    sending = peer.connection.send_stream(pieces())
    sent = outcome(sending)
    sending.cancel()
    peer.transport.turn()
    [failed] = peer.told(AppFailed)
    assert ([type(each) for each in sent], failed.failure.type) == ([CancelledError], ValueError)


def test_an_async_generator_that_raises_at_its_close_is_reported() -> None:
    """What an async generator raises when it is closed is reported as the failure of the app."""

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield bytes(3 * HIGH)
        finally:
            raise ValueError("in finally")

    peer = stalled(timeouts=QUIET)
    sending = peer.connection.send_stream(pieces())
    outcome(sending)
    sending.cancel()
    peer.transport.turn()
    assert [each.failure.type for each in peer.told(AppFailed)] == [ValueError]


# Closing -------------------------------------------------------------------------------------------------------------


def test_close_flushes_a_stream() -> None:
    """`close` sends the rest of a stream first, within its grace."""
    peer, source = quiet(), Given()
    sent = outcome(peer.connection.send_stream(source.pieces()))
    outcome(peer.connection.close())
    source.give(b"body")
    assert not peer.closing
    source.give(None)
    peer.transport.turn()
    assert (peer.hears(), sent, peer.reason.rule) == (b"body", [4], "closed")


def test_close_cuts_a_stream_that_does_not_end() -> None:
    """A stream that is not whole when the grace of `close` is over fails, and its source is closed."""
    peer, source = quiet(), Given()
    sent = outcome(peer.connection.send_stream(source.pieces()))
    outcome(peer.connection.close(grace=5))
    peer.clock.advance(6)
    peer.transport.turn()
    assert ([type(each) for each in sent], source.closed, peer.reason.rule) == ([NotConnected], True, "grace-over")


def test_a_stream_to_a_peer_that_closed_its_side_is_not_cut_by_the_grace() -> None:
    """A client that half-closes behind its request gets the whole stream, although the app does not wait for it."""
    source = Given()
    peer = quiet(lambda message, connection: connection.send_stream(source.pieces()) and None)
    peer.says(b"go\n")
    peer.transport.half_close()
    peer.clock.advance(10)
    source.give(b"body")
    assert (peer.hears(), peer.closing) == (b"body", False)
    source.give(None)
    peer.transport.turn()
    assert peer.reason.rule == "end-of-stream"


def test_a_peer_that_closed_its_side_has_time_for_a_long_stream() -> None:
    """After a half-close, each piece of a stream gives it `half_close` seconds more. Then the connection is cut."""
    source = Given()
    peer = quiet(lambda message, connection: connection.send_stream(source.pieces()) and None)
    peer.says(b"go\n")
    peer.transport.half_close()
    for _ in range(4):
        peer.clock.advance(25)
        source.give(b"piece")
    assert (peer.hears(), peer.closing) == (b"piece" * 4, False)
    peer.clock.advance(31)
    peer.transport.turn()
    assert peer.reason.rule == "half-close-over"


def test_a_stream_does_not_give_a_closing_connection_more_time() -> None:
    """The grace of `close` bounds the whole flush, however long a stream is."""
    source = Given()
    peer = quiet()
    outcome(peer.connection.send_stream(source.pieces()))
    outcome(peer.connection.close(grace=5))
    for _ in range(2):
        peer.clock.advance(3)
        source.give(b"piece")
    peer.transport.turn()
    assert peer.reason.rule == "grace-over"


def test_a_stream_that_is_sent_when_the_peer_leaves_has_succeeded() -> None:
    """Of the streams of a connection that the peer ends while it is flushed, only an unfinished one fails."""
    peer = stalled(timeouts=QUIET)
    whole = outcome(peer.connection.send_stream([bytes(HIGH + 1)]))
    half = outcome(peer.connection.send_stream(Given().pieces()))
    outcome(peer.connection.close())
    peer.transport.go_on()
    peer.leaves()
    assert (whole, [type(each) for each in half]) == ([HIGH + 1], [NotConnected])


@pytest.mark.parametrize("source", [[b"x"], [1], b"y" * 10 * HIGH])
def test_a_stream_that_is_over_does_not_keep_its_connection(source: Any) -> None:
    """A stream is freed without the collector, whether it was sent, failed, or was cut by the end."""
    gc.collect()
    gc.disable()
    try:
        peer = stalled(timeouts=QUIET)
        told = outcome(peer.connection.send_stream(source))
        peer.resets()
        told.clear()
        kinds = [type(each).__name__ for each in gc.get_referrers(peer.protocol)]
    finally:
        gc.enable()
    assert "SentStream" not in kinds


@pytest.mark.usefixtures("no_collector")
def test_a_connection_is_freed_that_ends_while_its_stream_waits_for_a_piece() -> None:
    """A source that is cancelled at the end of the connection keeps it no longer, without the collector."""

    async def pieces() -> Any:
        await Deferred()
        yield b"never"

    peer = stalled(timeouts=QUIET)
    told = outcome(peer.connection.send_stream(pieces()))
    peer.resets()
    assert [type(each) for each in told] == [NotConnected]
    freed = ref(peer.protocol), ref(peer.connection)
    peer.protocol = peer.connection = peer.transport.connection = None
    peer.events.clear()
    told.clear()
    assert [each() for each in freed] == [None, None]


# Recorders -----------------------------------------------------------------------------------------------------------


def test_a_recorder_hears_of_the_bytes_of_a_stream() -> None:
    """A recorder gets each piece of a stream as sent bytes, and as no message."""
    heard: list[Any] = []

    class Recorder:
        def received(self, messages: Any) -> None: ...

        def sending(self, messages: Any) -> None:
            heard.append(messages)

        def sent(self, data: bytes) -> None:
            heard.append(data)

    peer = quiet()
    peer.protocol.record(Recorder())
    peer.connection.send_stream([b"raw"])
    assert heard == [b"raw"]
