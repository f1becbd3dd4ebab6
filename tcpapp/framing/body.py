"""The body of a message that can be larger than memory: it is read piece by piece, as it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from typing_extensions import Self, override

from tcpapp.errors import BodyDiscarded, MessageTooLong, TruncatedMessage, UnreadableStream
from tcpapp.framing.base import DEFAULT_MAX

__all__ = ["Body"]


class Body:
    """
    Bytes of a message that come after it was handed to the app. A generator asks for it by `stream`.

    ::

        async for piece in body:
            file.write(piece)

    The pieces are as long as they came. On a connection, the peer has to wait while the app does not read: about
    ``inbox_high`` bytes are held. `read` returns a short body as a whole.

    A body is discarded when its handler has ended: the function has returned, or its coroutine is over. The bytes that
    are left are dropped as they come, and then the next message is read. `keep` prevents that.

    Reading raises `NotConnected` where the connection ends inside the body, and `BodyDiscarded` after `discard`. What
    came before can still be read after the end of the connection.

    - `size`: its bytes, or `None` where the peer does not say in advance.
    - `received`: the bytes that have come.
    - `held`: the bytes that have come and are not taken yet.

    ``Body.of(b"...")`` is a body that has come whole, for tests. A framing without a connection gives bodies, too:
    they get their bytes by ``framing.receive``, and `take` returns what has come.
    """

    __slots__ = (
        "_discarded",
        "_failure",
        "_given",
        "_in_hand",
        "_kept",
        "_offset",
        "_pieces",
        "_whole",
        "held",
        "received",
        "size",
    )

    def __init__(self, size: int | None = None) -> None:
        self.size = size
        self.received = self.held = 0
        self._pieces: deque[bytes] = deque()
        self._offset = 0
        self._whole = self._kept = self._discarded = self._given = self._in_hand = False
        self._failure: UnreadableStream | None = None

    @classmethod
    def of(cls, content: bytes | Iterable[bytes]) -> Self:
        """A body that has come whole: `content`, or its pieces."""
        pieces = [content] if isinstance(content, bytes) else list(content)
        body = cls(sum(map(len, pieces)))
        for piece in pieces:
            body.feed(piece)
        body.finish()
        return body

    @override
    def __repr__(self) -> str:
        size = "" if self.size is None else f" of {self.size}"
        end = "whole" if self._whole else "failed" if self._failure else "discarded" if self._discarded else "coming"
        return f"<{type(self).__name__} {self.received}{size} bytes, {end}>"

    @override
    def __eq__(self, other: object) -> bool:
        """Whether both hold the same bytes, and have come as far: so tests can compare messages with bodies."""
        if not isinstance(other, Body):
            return NotImplemented
        return self is other or self._content() == other._content()

    __hash__ = object.__hash__

    def __bytes__(self) -> bytes:
        """The bytes that have come and are not taken yet. They stay."""
        return b"".join(self._pieces)[self._offset :]

    def _content(self) -> tuple[Any, ...]:
        return self.received, bytes(self), self._whole, type(self._failure), self._discarded

    # The app reads.

    @property
    def is_whole(self) -> bool:
        """Whether its last byte has come."""
        return self._whole

    @property
    def is_kept(self) -> bool:
        """Whether it was kept."""
        return self._kept

    @property
    def is_given(self) -> bool:
        """Whether the app has its message, which no handler got: it was received, or was in a batch."""
        return self._given

    @property
    def is_discarded(self) -> bool:
        """Whether it was discarded."""
        return self._discarded

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for its bytes: all were taken, or it was discarded."""
        return self._discarded or (self._whole and not self.held)

    @property
    def remaining(self) -> int | None:
        """How many bytes are still to be taken; `None` while the peer has not said."""
        if self._whole:
            return self.held
        return None if self.size is None else self.size - self.received + self.held

    def take(self, most: int | None = None) -> bytes:
        """
        The next bytes that have come, at most `most` of them; none where none have come, or after the last byte.

        Raises the failure of the body behind the last byte that came before it, and `BodyDiscarded`.
        """
        if self._discarded:
            raise BodyDiscarded("the body was discarded; keep() it to read it after its handler has ended")
        if not self._pieces:
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            return b""
        piece, begin = self._pieces[0], self._offset
        end = len(piece) if most is None else min(begin + most, len(piece))
        if end == len(piece):
            self._pieces.popleft()
            self._offset = 0
        else:
            self._offset = end
        self.held -= end - begin
        return piece if end - begin == len(piece) else piece[begin:end]

    async def read(self, max: int = DEFAULT_MAX) -> bytes:  # noqa: A002 - as in framings
        """
        All bytes that are left, at most `max`.

        Raises `MessageTooLong` for more, at once where the size is known; the rest can still be read, or discarded. And
        raises as reading does.
        """
        pieces: list[bytes] = []
        length = 0
        left = self.remaining
        while left is None or left <= max:
            try:
                piece = await self.__anext__()
            except StopAsyncIteration:
                return b"".join(pieces)
            pieces.append(piece)
            length += len(piece)
            left = length if self.remaining is None else length + self.remaining
        raise MessageTooLong(f"a body of {left} bytes or more; at most {max} (max of read) are accepted", limit=max)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece. Raises as `take` does."""
        while not (piece := self.take()):
            if self._whole:
                raise StopAsyncIteration
            await self._more()
        return piece

    def keep(self) -> Self:
        """Let it be read after its handler has ended, for example by a task. Read it or discard it then."""
        self._kept = True
        return self

    @property
    def is_in_hand(self) -> bool:
        """Whether the app has its message."""
        return self._given or self._in_hand

    def give(self) -> None:
        """Note that the app has the message, which it has received."""
        self._given = True

    def hand_over(self) -> None:
        """Note that a handler of the app has the message."""
        self._in_hand = True

    def release(self) -> None:
        """The handler of the message has ended: discard the body, unless it was kept."""
        if not self._kept and not self.is_over:
            self.discard()

    def discard(self) -> None:
        """Drop what has come, and what will come."""
        self._discarded = True
        self._pieces.clear()
        self._offset = self.held = 0

    async def _more(self) -> None:
        """Wait until more bytes have come. Without a connection, none will."""
        raise TruncatedMessage(
            f"the body has no more bytes than the {self.received} that have come, and no connection brings more",
            value=self.received,
        )

    # The framing writes.

    def feed(self, piece: bytes) -> None:
        """Bytes have come, one or more."""
        self.received += len(piece)
        if not self._discarded:
            self._pieces.append(piece)
            self.held += len(piece)

    def finish(self) -> None:
        """All bytes have come."""
        self._whole = True

    def fail(self, failure: UnreadableStream) -> None:
        """No more bytes will come: the stream ended, or cannot be read."""
        if not self._whole:
            self._failure = failure
