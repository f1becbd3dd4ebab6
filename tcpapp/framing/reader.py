"""The loop that runs the generators of a parser over the bytes of a stream."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final

from typing_extensions import override

from tcpapp.errors import MalformedFrame
from tcpapp.framing.body import Body
from tcpapp.framing.decoded import Decoded, Streamed
from tcpapp.framing.streams import BodyReader, Stream
from tcpapp.framing.wants import Until, Want, take_exactly

__all__ = ["EMPTY_WANTS", "NO_MESSAGE", "MessageReader", "Parse"]

Parse = Generator[Any, Any, Any]
"""A generator that reads one message: it yields wants, gets their bytes, and returns the message."""

EMPTY_WANTS: Final = 1000
"""The most wants in a row that take no byte: our choice. A parser that asks for more of them would never end."""

NO_MESSAGE: Final = object()
"""
What a generator returns for bytes that are no message, such as an empty line or a heart-beat: ``return NO_MESSAGE``.

The stream is then between two messages. So any number of such bytes can come, and the stream can end behind them.
"""

DONE: Final = object()
"""What is yielded behind a message."""


def drive(parse: Callable[[], Parse], box: list[Any]) -> Parse:
    """
    Run `parse` for message after message, and put each message into `box`.

    A ``yield from`` gets the result of a generator without an exception for each.
    """
    while True:
        box[0] = yield from parse()
        yield DONE


class MessageReader:
    """
    Where a parser is in a stream: the generator that reads the message, what it wants, and where that begins.

    `want` is `None` between two messages. The places count from the beginning of the buffer that is read: of a chunk,
    or of the held bytes of the message. With `whole`, a message is a `Decoded`, its bytes and its value.

    `stream` is the body that comes behind the last message; `None` where there is none. `new_body` makes bodies.
    """

    __slots__ = (
        "_asked",
        "_box",
        "_driver",
        "_empty",
        "_empty_at",
        "_send",
        "at",
        "begin",
        "max",
        "new_body",
        "searched",
        "stream",
        "want",
        "whole",
    )

    def __init__(self, parse: Callable[[], Parse], most: int, *, whole: bool) -> None:
        self._box: list[Any] = [None]
        self._driver = drive(parse, self._box)
        self._send = self._driver.send
        self.want: Any = None
        self.max = most
        self.whole = whole
        self.begin = self.at = self.searched = 0
        self._empty_at = self._empty = 0
        self.new_body: Callable[[int | None], Body] = Body
        self.stream: BodyReader | None = None
        self._asked: tuple[BodyReader, int] | None = None

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, MessageReader) and self._place() == other._place()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _place(self) -> tuple[Any, ...] | None:
        if self.want is None:
            return None
        return repr(self.want), self.at, self.searched, self._empty_at, self._empty

    def close(self) -> None:
        """The stream is not read on from here: let the generator end, whatever it does about that."""
        self.want = None
        if self.stream is not None:
            self.stream.close()
        with suppress(Exception):
            self._driver.close()

    def read(self, chunk: bytes, begin: int, messages: list[Any]) -> int:
        """
        Read all messages from `begin` on, which is a beginning. Returns where the unfinished one begins, or -1.

        Raises what the generator raises, and `UnreadableStream` for a want that cannot be met.
        """
        size, find, send = len(chunk), chunk.find, self._send
        if self.stream is not None:
            begin = self._read_body(self.stream, chunk, begin)
        while begin < size:
            at = begin
            last = begin + self.max
            want = send(None)
            while want is not DONE:
                if type(want) is int:
                    end = at + want
                    if at < end <= size and end <= last:
                        want = send(chunk[at:end])
                        at = end
                        continue
                elif type(want) is Until:
                    end = find(want.delimiter, at, last)
                    if at <= end <= at + want.max:
                        data = chunk[at:end]
                        at = end + want.length
                        want = send(data)
                        continue
                self.want, self.begin, self.at, self.searched = want, begin, at, at
                data = self._take(chunk)
                if data is None:
                    self._shift(begin)
                    return begin
                at = self.at
                want = send(data)
            self._add(chunk, begin, at, messages)
            begin = at
            if self.stream is not None:
                begin = self._read_body(self.stream, chunk, begin)
        return -1

    def _read_body(self, stream: BodyReader, chunk: bytes, begin: int) -> int:
        """Read the body behind a message. Returns where the next message begins."""
        end = stream.read(chunk, begin)
        if end < 0:
            return len(chunk)
        if end == begin and stream.is_alone:
            raise MalformedFrame("the parser returns a message and a body without a byte")
        self.stream = None
        return end

    def go_on(self, held: bytearray, messages: list[Any]) -> int:
        """More of the unfinished message is `held`. Returns where it ends, or -1. Raises as `read` does."""
        want = self.want
        if type(want) is int and self.at + want > len(held):  # it fits into ``max``: that was seen when it was new
            return -1
        while want is not DONE:
            data = self._take(held)
            if data is None:
                return -1
            self.want = want = self._send(data)
            self.searched = self.at
        self._add(held, 0, self.at, messages)
        return self.at

    def _take(self, buffer: bytes | bytearray) -> Any:
        """What is wanted, from `buffer`; `None` while it has not all come."""
        want, at = self.want, self.at
        if type(want) is int:
            data = take_exactly(want, buffer, self)
        elif isinstance(want, Want):
            data = want.take(buffer, self)
        elif isinstance(want, Stream):
            return self._begin_body(want)
        else:
            raise MalformedFrame(f"the parser yields {want!r:.80}: takes until, until_any, exactly or peek")
        if data is not None and self.at == at:
            self._note_empty(at)
        return data

    def _begin_body(self, asked: Stream) -> Body:
        """The message ends here, and a body comes behind it."""
        if self._asked is not None:
            raise MalformedFrame("the parser asks for a second body: a message has one, as its last part")
        reader = BodyReader(asked, self.new_body(asked.size), self.max)
        self._asked = reader, self.at
        return reader.body

    def _note_empty(self, at: int) -> None:
        """A want took no byte."""
        if at - self.begin != self._empty_at:
            self._empty_at, self._empty = at - self.begin, 0
        self._empty += 1
        if self._empty > EMPTY_WANTS:
            raise MalformedFrame(f"the parser has more than {EMPTY_WANTS} wants in a row that take no byte")

    def _shift(self, begin: int) -> None:
        """The unfinished message is held from its `begin` on."""
        self.at -= begin
        self.searched -= begin
        self.begin = 0

    def _add(self, buffer: bytes | bytearray, begin: int, end: int, messages: list[Any]) -> None:
        """A message ends."""
        value, self._box[0] = self._box[0], None
        self.want = None
        self._empty_at = self._empty = 0
        if self._asked is not None:
            message = self._with_body(self._asked, bytes(buffer[begin:end]), value, end)
            if value is NO_MESSAGE:
                message.body.discard()
            else:
                messages.append(message if self.whole else value)
        elif begin == end:
            raise MalformedFrame("the parser returns a message without reading a byte of it")
        elif value is not NO_MESSAGE:
            messages.append(Decoded(bytes(buffer[begin:end]), value) if self.whole else value)

    def _with_body(self, asked: tuple[BodyReader, int], message: bytes, value: Any, end: int) -> Streamed:
        """A message ends that has a body."""
        self._asked = None
        self.stream, at = asked
        if at != end:
            raise MalformedFrame("the parser reads on behind the body: a body is the last part of its message")
        self.stream.is_alone = not message
        return Streamed(message, value, self.stream.body)
