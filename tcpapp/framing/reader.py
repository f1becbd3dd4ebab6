"""The loop that runs the generators of a parser over the bytes of a stream."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final

from typing_extensions import override

from tcpapp.errors import MalformedFrame, UnreadableStream
from tcpapp.framing.body import Body
from tcpapp.framing.decoded import Decoded, Streamed
from tcpapp.framing.loops import find_in, size_of
from tcpapp.framing.streams import BodyReader, Stream
from tcpapp.framing.want_types import Until, Want, no_want, take_exactly

__all__ = ["EMPTY_WANTS", "NO_MESSAGE", "MessageReader", "Parse", "receive"]

Parse = Generator[Any, Any, Any]
"""A generator that reads one message: it yields wants, gets their bytes, and returns the message."""

SMALL: Final = 4096
"""
Up to so many held bytes are joined with a chunk to look for a want. More are gathered in a `bytearray`.

So the work for a chunk is bounded, and short messages are read by the quick loop also if they come in many chunks.
"""

EMPTY_WANTS: Final = 1000
"""The most wants in a row that take no byte: our choice. A parser that asks for more of them would never end."""

NO_MESSAGE: Final = object()
"""
What a generator returns for bytes that are no message, such as an empty line or a heart-beat: ``return NO_MESSAGE``.

The stream is then between two messages. So any number of such bytes can come, and the stream can end behind them.
"""

DONE: Final = object()
"""What is yielded behind a message."""

END: Final = object()
"""Stands for a want where no byte is left to read."""


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

    - `held`: the bytes of the unfinished message. More can be held without a look at them if they are fewer than
      `room`, and none of them is `mark`, where there is one.
    - `want`: what it waits for, `at` this place of them; `None` between two messages. The places count from the
      beginning of the buffer that is read, in which the message begins at `begin`.
    - `whole`: a message is a `Decoded`, its bytes and its value.
    - `stream`: the body that comes behind the last message; `None` where there is none. `new_body` makes bodies.
    - `body_end`: how many bytes came behind the last body that ended in this chunk, and how many messages before that.
    - `open_body_end`: how many bytes came behind the body that this chunk began in.
    - `dropped`: how many times bytes were `NO_MESSAGE`.
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
        "body_end",
        "dropped",
        "enough",
        "held",
        "mark",
        "max",
        "new_body",
        "open_body_end",
        "room",
        "searched",
        "stream",
        "want",
        "whole",
    )

    def __init__(self, parse: Callable[[], Parse], most: int, *, whole: bool) -> None:
        self._box: list[Any] = [None]
        self._driver = drive(parse, self._box)
        self._send = self._driver.send
        self.held: bytes | bytearray = b""
        self.want: Any = None
        self.max = size_of(most)
        self.whole = whole
        self.begin = self.at = self.searched = 0
        self.enough = self.room = 0
        self.mark: bytes | None = None
        self._empty_at = self._empty = 0
        self.new_body: Callable[[int | None], Body] = Body
        self.stream: BodyReader | None = None
        self._asked: tuple[BodyReader, int] | None = None
        self.body_end: tuple[int, int] | None = None
        self.open_body_end: int | None = None
        self.dropped = 0

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, MessageReader) and self._place() == other._place()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _place(self) -> tuple[Any, ...] | None:
        if self.want is None:
            return None
        return repr(self.want), self.at, self._empty_at, self._empty

    def close(self) -> None:
        """The stream is not read on from here: let the generator end, whatever it does about that."""
        self.want = None
        self.room = 0
        if self.stream is not None:
            self.stream.close()
        with suppress(Exception):
            self._driver.close()

    def receive(self, chunk: bytes, messages: list[Any]) -> None:
        """
        Read the messages that are whole with this `chunk`, and hold the bytes of the unfinished one.

        Raises what the generator raises, and `UnreadableStream` for a want that cannot be met.
        """
        held = self.held
        self.room = 0
        self.body_end = self.open_body_end = None
        if len(held) > SMALL:
            gathered = held if isinstance(held, bytearray) else bytearray(held)
            gathered += chunk
            end = self._go_on(gathered, messages)
            if end < 0:
                self.room = self.enough - len(gathered)
                self.held = gathered
                return
            chunk, held = bytes(gathered[end:]), b""
        buffer = b"".join((held, chunk)) if held else chunk
        begin = self._read(buffer, messages)
        if begin < 0:
            self.mark = None
            self.held = b""
            return
        self.room = self.enough - len(buffer) + begin
        left = buffer[begin:] if begin else buffer
        self.held = left if self.enough <= SMALL else bytearray(left)

    def load(self, held: bytes) -> bool:
        """Hold the bytes of an unfinished message, and read them. Returns `False` if they do not begin one message."""
        messages: list[Any] = []
        self.held = b""
        try:
            self.receive(held, messages)
        except Exception:  # noqa: BLE001 - of the generator, which can raise anything
            return False
        return not messages and self.stream is None and self.held == held

    def _read(self, buffer: bytes, messages: list[Any]) -> int:  # noqa: C901 - a call for each want takes too long
        """Read messages from `buffer`, which begins with the unfinished one. Returns where the next one is, or -1."""
        size, send, most, raw = len(buffer), self._send, self.max, buffer
        begin, at, want = 0, self.at, self.want
        until, delimiter, length, reach = None, b"", 0, 0
        if want is None:
            begin = at = 0 if self.stream is None else self._read_open_body(self.stream, buffer, messages)
            want = send(None) if begin < size else END
        last = begin + most
        while want is not END:
            if type(want) is int:
                end = at + size_of(want)
                if at < end <= size and end <= last:
                    at, want = end, send(raw[at:end])
                    continue
                if size < end <= last:
                    return self._wait(want, begin, at, end, None)
            elif type(want) is Until:
                if want is not until:
                    until, delimiter, length, reach = want, want.delimiter, want.length, size_of(want.max)
                end = find_in(buffer, delimiter, at, last)
                if at <= end <= at + reach:
                    at, want = end + length, send(raw[at:end])
                    continue
                stop = at + reach + length
                if end < 0 and size < last and size < stop:
                    return self._wait(want, begin, at, min(stop, last), want.mark)
            elif want is DONE:
                begin = at = self._end(buffer, begin, at, messages)
                last = at + most
                want = send(None) if at < size else END
                continue
            data = self._look(want, buffer, begin, at)
            if data is None:
                return begin
            at, want = self.at, send(data)
        self.want = self._box[0] = None
        return -1

    def _wait(self, want: Any, begin: int, at: int, enough: int, mark: bytes | None) -> int:
        """`want` has to wait; its message is held from `begin` on. Returns `begin`."""
        self.want = want
        self.at = self.searched = at - begin
        self.begin = 0
        self.enough = enough - begin
        self.mark = mark
        return begin

    def _look(self, want: Any, buffer: bytes, begin: int, at: int) -> Any:
        """What is wanted, `at` this place of the message that begins at `begin`; `None` while it has not all come."""
        self.want, self.begin, self.at, self.searched = want, begin, at, at
        data = self._take(buffer)
        if data is None:
            self.at -= begin
            self.searched -= begin
            self.begin = 0
            self._note_wait()
        return data

    def _note_wait(self) -> None:
        """Note what has to come before it is worth looking at the held bytes again."""
        want = self.want
        self.mark = None
        if type(want) is int:
            self.enough = self.at + want
        elif type(want) is Until:
            self.enough = min(self.at + want.max + want.length, self.max)
            self.mark = want.mark
        else:
            self.enough = 0

    def _read_open_body(self, stream: BodyReader, chunk: bytes, messages: list[Any]) -> int:
        """The `chunk` begins in a body. Returns where the next message begins."""
        end = self._read_body(stream, chunk, 0, messages)
        if self.body_end is not None:
            self.open_body_end = len(chunk) - end
        return end

    def _read_body(self, stream: BodyReader, chunk: bytes, begin: int, messages: list[Any]) -> int:
        """Read the body behind a message. Returns where the next message begins."""
        end = stream.read(chunk, begin)
        if end < 0:
            return len(chunk)
        if end == begin and stream.is_alone:
            raise MalformedFrame("the parser returns a message and a body without a byte")
        self.stream = None
        self.body_end = len(chunk) - end, len(messages)
        return end

    def _go_on(self, held: bytearray, messages: list[Any]) -> int:
        """More of the unfinished message is `held`. Returns where it ends, or -1. Raises as `read` does."""
        want = self.want
        while want is not DONE:
            data = self._take(held)
            if data is None:
                self._note_wait()
                return -1
            self.want = want = self._send(data)
            self.searched = self.at
        end = self.at
        self._add(held, 0, end, messages)
        return end

    def _take(self, buffer: bytes | bytearray) -> Any:
        """What is wanted, from `buffer`; `None` while it has not all come."""
        want, at = self.want, self.at
        if type(want) is int:
            data: Any = take_exactly(want, buffer, self)
        elif isinstance(want, Want):
            data = want.take(buffer, self)
        elif isinstance(want, Stream):
            return self._begin_body(want)
        else:
            raise MalformedFrame(f"the parser yields {no_want(want)}: takes until, until_any, exactly, peek or stream")
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

    def _end(self, buffer: bytes, begin: int, end: int, messages: list[Any]) -> int:
        """A message ends in `buffer`. Returns where the next one begins: behind the body, if there is one."""
        self._add(buffer, begin, end, messages)
        return end if self.stream is None else self._read_body(self.stream, buffer, end, messages)

    def _add(self, buffer: bytes | bytearray, begin: int, end: int, messages: list[Any]) -> None:
        """A message ends."""
        value = self._box[0]
        self.want = self._box[0] = None
        self._empty_at = self._empty = 0
        self.dropped += value is NO_MESSAGE
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


def receive(framing: Any, chunk: bytes) -> list[Any]:
    """
    The messages that are now whole. Raises `UnreadableStream`.

    It is the method of each `tcpapp.framing.parsers.Parser`, and is here because this module is compiled.
    """
    reader: MessageReader = framing._reader
    if len(chunk) < reader.room:
        mark = reader.mark
        if mark is None or find_in(chunk, mark, 0, len(chunk)) < 0:
            reader.held += chunk
            reader.room -= len(chunk)
            return []
    if framing.failure is not None:
        framing._check()
    messages: list[Any] = []
    try:
        reader.receive(chunk, messages)
    except UnreadableStream as error:
        return framing._fail(error, messages)  # type: ignore[no-any-return]
    except Exception as error:  # noqa: BLE001 - of the user's generator, which can raise anything
        return framing._fail(framing._fault_of(error), messages)  # type: ignore[no-any-return]
    return framing._only_bytes(messages) if framing._form == "bytes" else messages
