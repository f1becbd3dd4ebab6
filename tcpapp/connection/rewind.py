"""
The received bytes that another framing would read again.

When a connection switches its framing, the new one reads what is behind the message that the app has in hand. Messages
behind it may have been cut by the old framing already, and a message can have begun. So while the app has a message in
hand, the received chunks are kept: from the one with that message on. When nothing is in hand, nothing is kept. So the
synchronous path of a message keeps only its present chunk, in the receiver.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from tcpapp.connection.dispatcher import Dispatcher
from tcpapp.connection.inbox import Inbox
from tcpapp.connection.pause_flags import AWAITING_REPLY, HANDLING, RECEIVE_ONLY
from tcpapp.connection.read_control import BYTES_KEPT, ReadControl
from tcpapp.connection.throttle import Throttle
from tcpapp.framing import Framing
from tcpapp.framing.rereading import Mark

__all__ = ["Rewind"]

ONE_READ: Final = 64 * 1024
"""
The bytes of one read of Twisted. So many more can be kept than a full inbox and an unfinished message have. The end of
a message is searched at once, and not by a switch only, if its beginning, or what is kept, has more bytes than this.
"""

SMALL: Final = 4096
"""Chunks are joined up to so many bytes. Our choice: joining costs less than keeping each of them."""

CHUNK_COST: Final = 256
"""Bytes that count for each chunk after the first: the tuple, its mark and the object of its bytes take 230 bytes."""


class Chunk(NamedTuple):
    """
    A received chunk: the state of the framing before it, its bytes, and how many messages end in it.

    `inside`: it begins inside a message. `has_gap`: bytes behind its last message can be of no message.
    """

    mark: Mark | None
    data: bytes
    messages: int
    inside: bool
    has_gap: bool

    @property
    def begun(self) -> int:
        """How many bytes the mark holds."""
        return 0 if self.mark is None else self.mark[1]


def _joined(first: Chunk, second: Chunk) -> Chunk:
    has_gap = second.has_gap or (first.has_gap and not second.messages)
    return Chunk(first.mark, first.data + second.data, first.messages + second.messages, first.inside, has_gap)


class Rewind:
    """
    Keeps the bytes of one connection: the `chunks` from the one with the message in hand on, `None` where none is.

    No more is read while they are more than fit into the inbox, one read and the longest message.
    """

    __slots__ = (
        "_bytes",
        "_count",
        "_dispatcher",
        "_gaps",
        "_in_body",
        "_inbox",
        "_inside",
        "_mark",
        "_mark_at",
        "_read_control",
        "_room",
        "_throttle",
        "chunks",
        "framing",
    )

    def __init__(
        self,
        framing: Framing,
        throttle: Throttle,
        inbox: Inbox,
        dispatcher: Dispatcher,
        read_control: ReadControl,
    ) -> None:
        self.framing = framing
        self._throttle = throttle
        self._inbox = inbox
        self._dispatcher = dispatcher
        self._read_control = read_control
        self._room = inbox.limits.inbox_high + ONE_READ
        self._bytes = 0
        self.chunks: deque[Chunk] | None = None
        self._count = 0
        self._mark: Mark | None = None
        self._mark_at = 0
        self._inside = self._in_body = False
        self._gaps: int | None = 0

    @property
    def size(self) -> int:
        """How many bytes of memory are kept."""
        chunks = self.chunks
        return self._bytes + chunks[0].begun + CHUNK_COST * (len(chunks) - 1) if chunks else 0

    @property
    def behind(self) -> int:
        """How many messages were cut, and are behind the message in hand: nobody has got them."""
        throttle = self._throttle
        return self._dispatcher.left + self._inbox.newer + len(throttle.pending) + throttle.dropped

    @property
    def in_hand(self) -> bool:
        """Whether the app has a message, or can still ask for the end of the last one."""
        dispatcher = self._dispatcher
        if not dispatcher.takes_one:
            return False
        if dispatcher.pauses & (HANDLING | AWAITING_REPLY) or dispatcher.sorts_replies or self.behind:
            return True
        return bool(dispatcher.pauses & RECEIVE_ONLY) and not self._inbox.awaited

    @property
    def _ends_inside(self) -> bool:
        """Whether bytes came that are of no whole message, or that the framing could not read."""
        return self.framing.unfinished or self.framing.in_body or self.framing.failure is not None

    def note(self, data: bytes, count: int, at: int) -> None:
        """A chunk came, with `count` messages. It ends behind `at` received bytes."""
        framing = self.framing
        mark, inside = (self._mark, self._inside) if self._mark_at == at - len(data) else (None, False)
        before, self._gaps = self._gaps, framing.gaps
        has_gap = self._gaps is None or self._gaps != before or framing.skipped > 0 or framing.failure is not None
        chunk = Chunk(mark, data, count, inside, has_gap)
        if self._in_body or framing.in_body or (count and framing.body_end is not None):
            self._note_body(chunk, self._in_body)
        else:
            self._add(chunk)
        self._in_body = framing.in_body
        self._inside = framing.unfinished
        self._mark = framing.mark() if framing.failure is None and self._inside else None
        self._mark_at = at
        self.trim()

    def note_state(self, unfinished: bool, at: int) -> None:
        """A chunk came that ends behind `at` received bytes, and nothing is in hand: note only the state behind it."""
        framing = self.framing
        self._inside, self._mark_at = unfinished, at
        self._mark = framing.mark() if unfinished else None
        self._in_body = framing._has_bodies and framing.in_body
        self._gaps = -1

    def _note_body(self, chunk: Chunk, was_in_body: bool) -> None:
        """A body is in the chunk. The body of the message in hand is not kept."""
        end, behind, opened = self.framing.body_end, self.behind, self.framing.open_body_end
        if opened is not None and not self.chunks:
            chunk = chunk._replace(data=chunk.data[len(chunk.data) - opened :])
        if end is not None and behind <= chunk.messages - end[1]:
            self.clear()
            rest = chunk.data[len(chunk.data) - end[0] :]
            chunk = Chunk(None, rest, chunk.messages - end[1], inside=False, has_gap=chunk.has_gap)
        if self.framing.in_body and not behind:
            self.clear()
        else:
            self._add(chunk, joins=was_in_body)

    def trim(self) -> None:
        """Drop what no switch would read again."""
        chunks = self.chunks
        if not chunks:
            return
        if not self.in_hand:
            self.clear()
            return
        behind = self.behind
        while len(chunks) > 1 and self._is_over(chunks[0], chunks[1], behind):
            self._take_first()
        if not behind and len(chunks) == 1:
            self._shorten(chunks[0])
        elif self._bytes > self._room and not self.framing._by_chunk:
            self._begin_behind(self.rest(), behind)
        if self._bytes > self._room + self.framing.max:
            self._read_control.pause(BYTES_KEPT)
        else:
            self._read_control.resume(BYTES_KEPT)

    def rest(self) -> bytes | None:
        """All bytes behind the message in hand; `None` where that message is not known, and another has begun."""
        place = self._count - self.behind
        chunks = list(self.chunks or ())
        if not chunks:
            return None if self._ends_inside or place else b""
        if place < 0 or (not place and chunks[0].inside):
            return None
        first = 0
        while place > chunks[first].messages:
            place -= chunks[first].messages
            first += 1
        begin = self.framing.behind(chunks[first].mark, chunks[first].data, place)
        return b"".join([begin, *[each.data for each in chunks[first + 1 :]]])

    def clear(self) -> None:
        """Keep nothing: the stream is read on from here."""
        self.chunks = None
        self._count = self._bytes = 0
        self._read_control.resume(BYTES_KEPT)

    def begin(self, framing: Framing) -> None:
        """Read on by another `framing`, which has read nothing yet."""
        self.clear()
        self.framing = framing
        self._mark, self._inside, self._in_body, self._gaps = None, False, False, 0

    def _add(self, chunk: Chunk, *, joins: bool = False) -> None:
        """Keep `chunk`, joined to the chunk before it if both are small, or if it cannot be read without that."""
        if self.chunks is None:
            self.chunks = deque()
        chunks, size = self.chunks, len(chunk.data)
        if chunks and (joins or (len(chunks[-1].data) + size <= SMALL and not self.framing._by_chunk)):
            chunks.append(_joined(chunks.pop(), chunk))
        else:
            chunks.append(chunk)
        self._count += chunk.messages
        self._bytes += size

    def _take_first(self) -> None:
        assert self.chunks
        first = self.chunks.popleft()
        self._count -= first.messages
        self._bytes -= len(first.data)

    def _begin_behind(self, rest: bytes | None, count: int) -> None:
        """Keep the `rest`, which is behind the message in hand and has `count` messages, and nothing else."""
        if rest is None:
            return
        self.chunks = None
        self._count = self._bytes = 0
        if rest:
            self._add(Chunk(None, rest, count, inside=False, has_gap=True))

    def _is_over(self, first: Chunk, second: Chunk, behind: int) -> bool:
        """Whether the message in hand is behind the `first` chunk, or ends exactly with it."""
        later = self._count - first.messages
        return later > behind or (later == behind and first.messages > 0 and not second.inside and not first.has_gap)

    def _shorten(self, only: Chunk) -> None:
        """The app has all messages of the `only` chunk: keep what is behind them, unless that costs more to find."""
        unfinished = self._ends_inside
        if not only.messages:
            return
        if not (unfinished or only.has_gap):
            self.clear()
        elif not unfinished or max(only.begun, self._bytes) > ONE_READ:
            self._begin_behind(self.rest(), 0)
