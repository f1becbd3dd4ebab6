"""
The bodies of messages in a parser: what a generator asks for as the last part of its message, and how it is read.

A body has a generator of its own, which runs after the message was returned. It yields `piece` for bytes of the body,
which are passed on as they come, and any other want for what stands between them.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import Any, Final

from typing_extensions import override

from tcpapp.errors import InvalidFraming, MalformedFrame
from tcpapp.framing.base import marker, quoted
from tcpapp.framing.body import Body
from tcpapp.framing.want_types import UNLIMITED, Want, no_want, take_exactly

__all__ = ["BodyReader", "Piece", "Stream", "piece", "stream"]

Parts = Generator[Any, Any, Any]
"""A generator that reads a body: it yields pieces, and wants between them."""

EMPTY_WANTS: Final = 1000
"""The most wants in a row that take no byte, as for a message."""


class Piece:
    """What a body's generator yields for bytes of the body; see `piece`."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size

    @override
    def __repr__(self) -> str:
        return f"piece({'' if self.size == UNLIMITED else self.size})"


class Stream:
    """What a generator yields for the body of its message; see `stream`. `size` is its length, where that is known."""

    __slots__ = ("parts", "size")

    def __init__(self, parts: Parts, size: int | None) -> None:
        self.parts = parts
        self.size = size


def piece(n: int | None = None) -> Piece:
    """
    Pass on the next `n` bytes as a part of the body; without `n`, all bytes until the stream ends.

    ::

        def chunks():
            while size := int((yield until(b"\\r\\n", max=16)), 16):
                yield piece(size)
                yield exactly(2)

    They are passed on as they come, and ``max`` does not bound them. A negative `n` is a `MalformedFrame`.
    """
    return Piece(UNLIMITED if n is None else n)


def stream(body: int | Parts | None = None, *, end: bytes = b"") -> Stream:
    """
    Ask for a `Body`: the rest of the message, which is handed to the app before it has come.

    ::

        line = yield until(b"\\r\\n", max=2048)
        words = line.split()
        if words[:1] == [b"set"]:
            return words, (yield stream(int(words[4]), end=b"\\r\\n"))
        return words, None

    `body` is the number of its bytes, behind which `end` must come; or a generator, which yields each `piece` and reads
    what is between them; or `None`: all bytes until the stream ends. It is the last thing that the generator asks for:
    it gets the `Body` at once, and returns it in its message. The next message begins behind the body.

    The ``max`` of the framing bounds the message without its body, and each want between two pieces.
    """
    if body is None or isinstance(body, int):
        if body is not None and body < 0:
            raise MalformedFrame(f"stream({body}): takes a number of bytes, 0 or more")
        return Stream(_counted(body, marker("end", end) if end else b""), body)
    if end:
        raise InvalidFraming(f"end={end!r}: a generator reads what is behind the body itself")
    if not isinstance(body, Generator):
        raise InvalidFraming(f"stream({body!r:.80}): takes a number of bytes, a generator or None")
    return Stream(body, None)


def _counted(size: int | None, end: bytes) -> Parts:
    yield piece(size)
    if end and (found := (yield len(end))) != end:
        raise MalformedFrame(f"{quoted(found)} behind a body of {size} bytes; takes {quoted(end)}")


class BodyReader:
    """
    Where the body of a message is in the stream.

    It is a place for wants (`tcpapp.framing.wants.Place`): `begin`, `at` and `searched` count from the beginning of the
    bytes that are read. `arrived` counts all bytes of the body, with what is between its pieces. Where it `is_alone`,
    its message has no bytes before it.
    """

    __slots__ = (
        "_empty",
        "_held",
        "_left",
        "_parts",
        "_want",
        "arrived",
        "at",
        "begin",
        "body",
        "is_alone",
        "max",
        "searched",
    )

    def __init__(self, asked: Stream, body: Body, most: int) -> None:
        self.body = body
        self.is_alone = False
        self.max = most
        self._parts = asked.parts
        self._want: Any = None
        self._left = self._empty = 0
        self._held: bytes | bytearray = b""
        self.arrived = 0
        self.at = self.begin = self.searched = 0

    @property
    def held(self) -> int:
        """How many bytes of an unfinished want are held."""
        return len(self._held)

    @property
    def ends_with_the_stream(self) -> bool:
        """Whether the body is whole when the stream ends here."""
        return type(self._want) is Piece and self._want.size == UNLIMITED

    def read(self, chunk: bytes, start: int) -> int:
        """
        Read the body from `start` on. Returns where it ends in `chunk`, or -1.

        Raises what its generator raises, and `UnreadableStream`.
        """
        self.arrived += len(chunk) - start
        if self._held:
            held = self._held = bytearray(self._held) if isinstance(self._held, bytes) else self._held
            before = len(held) - start
            held += chunk[start:] if start else chunk
            ended = self._run(held)
            if ended:
                return self.at - before
            del held[: self.at]
        else:
            self.at = self.begin = self.searched = start
            ended = self._run(chunk)
            if ended:
                return self.at
            self._held = chunk[self.at :]
        self.searched -= self.at
        self.at = self.begin = 0
        return -1

    def _run(self, buffer: bytes | bytearray) -> bool:
        """Read from `at` on. Returns whether the body ends there."""
        if self._want is None and self._next(None):
            return True
        while True:
            data = self._pass_on(buffer) if type(self._want) is Piece else self._take(buffer)
            if data is None:
                return False
            if self.at == self.begin:
                self._note_empty()
            else:
                self._empty = 0
            if self._next(data):
                return True

    def _next(self, data: Any) -> bool:
        """Let the generator go on. Returns whether the body has ended."""
        try:
            self._want = want = self._parts.send(data)
        except StopIteration:
            self.body.finish()
            return True
        self.begin = self.searched = self.at
        if type(want) is Piece:
            self._left = want.size
            if want.size < 0:
                raise MalformedFrame(f"{want}: takes a number of bytes, 0 or more")
        elif not isinstance(want, (int, Want)):
            raise MalformedFrame(f"a body yields {no_want(want)}: takes piece, until, until_any, exactly or peek")
        return False

    def _pass_on(self, buffer: bytes | bytearray) -> Any:
        """Give the body what has come of a piece; `None` where more is to come."""
        at = self.at
        size = min(self._left, len(buffer) - at)
        if size:
            self.at = end = at + size
            self.body.feed(buffer[at:end] if type(buffer) is bytes else bytes(memoryview(buffer)[at:end]))
            self._left -= size
        return None if self._left else b""

    def _take(self, buffer: bytes | bytearray) -> Any:
        want = self._want
        return take_exactly(want, buffer, self) if type(want) is int else want.take(buffer, self)

    def _note_empty(self) -> None:
        self._empty += 1
        if self._empty > EMPTY_WANTS:
            raise MalformedFrame(f"the body has more than {EMPTY_WANTS} wants in a row that take no byte")

    def close(self) -> None:
        """The stream is not read on from here."""
        with suppress(Exception):
            self._parts.close()
