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
Bytes of one read of Twisted. The bytes that are kept can be so many more than a full inbox and an unfinished message.
A message whose beginning is as long is not kept twice, but its end is searched at once.
"""


class Chunk(NamedTuple):
    """
    A received chunk: the state of the framing before it, `None` between two messages; its bytes; its messages.

    `has_gap`: there can be bytes behind its last message that are of no message.
    """

    mark: Mark | None
    data: bytes
    count: int
    has_gap: bool

    @property
    def begun(self) -> int:
        """How many bytes the mark holds."""
        return 0 if self.mark is None else self.mark[1]


class Rewind:
    """
    Keeps the bytes of one connection, from the chunk with the message in hand on. `size` counts them.

    No more is read while they are more than `room` and the longest message.
    """

    __slots__ = (
        "_chunks",
        "_count",
        "_dispatcher",
        "_inbox",
        "_mark",
        "_mark_at",
        "_read_control",
        "_room",
        "_throttle",
        "framing",
        "size",
    )

    def __init__(
        self,
        framing: Framing,
        throttle: Throttle,
        inbox: Inbox,
        dispatcher: Dispatcher,
        read_control: ReadControl,
        room: int,
    ) -> None:
        self.framing = framing
        self._throttle = throttle
        self._inbox = inbox
        self._dispatcher = dispatcher
        self._read_control = read_control
        self._room = room + ONE_READ
        self._chunks: deque[Chunk] | None = None
        self._count = 0
        self._mark: Mark | None = None
        self._mark_at = -1
        self.size = 0

    @property
    def behind(self) -> int:
        """How many messages were cut, and are behind the message in hand: nobody has got them."""
        throttle = self._throttle
        return self._dispatcher.left + self._inbox.newer + len(throttle.pending) + throttle.dropped

    @property
    def in_hand(self) -> bool:
        """Whether the app has a message, or can still ask for the end of the last one."""
        pauses = self._dispatcher.pauses
        if pauses & (HANDLING | AWAITING_REPLY) or self._dispatcher.sorts_replies or self.behind:
            return True
        return bool(pauses & RECEIVE_ONLY) and not self._inbox.awaited

    def note(self, data: bytes, count: int, at: int) -> None:
        """A chunk came, with `count` messages. It ends behind `at` received bytes."""
        framing = self.framing
        mark = self._mark if self._mark_at == at - len(data) else None
        has_gap = not framing._gapless or framing.skipped > 0 or framing.failure is not None
        if (framing.unfinished or framing._remembers) and framing.failure is None:
            self._mark, self._mark_at = framing.mark(), at
        else:
            self._mark = None
        if self._chunks is None:
            self._chunks = deque()
        self._add(Chunk(mark, data, count, has_gap))
        self.trim()

    def trim(self) -> None:
        """Drop what no switch would read again."""
        chunks = self._chunks
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
        if self.size > self._room + self.framing.max:
            self._read_control.pause(BYTES_KEPT)
        else:
            self._read_control.resume(BYTES_KEPT)

    def rest(self) -> bytes | None:
        """All bytes behind the message in hand; `None` where that message is not known, and another has begun."""
        place = self._count - self.behind
        chunks = list(self._chunks or ())
        if not chunks:
            return None if self.framing.unfinished else b""
        first = 0
        while place > chunks[first].count:
            place -= chunks[first].count
            first += 1
        if not place and chunks[first].begun:
            return None
        begin = self.framing.behind(chunks[first].mark, chunks[first].data, place)
        return b"".join([begin, *[each.data for each in chunks[first + 1 :]]])

    def clear(self) -> None:
        """Keep nothing: the stream is read on from here."""
        self._chunks = None
        self._count = self.size = 0
        self._read_control.resume(BYTES_KEPT)

    def begin(self, framing: Framing) -> None:
        """Read on by another `framing`, which has read nothing yet."""
        self.clear()
        self.framing = framing
        self._mark = None

    def _add(self, chunk: Chunk) -> None:
        assert self._chunks is not None
        self._chunks.append(chunk)
        self._count += chunk.count
        self.size += len(chunk.data) + chunk.begun

    def _take_first(self) -> None:
        assert self._chunks
        first = self._chunks.popleft()
        self._count -= first.count
        self.size -= len(first.data) + first.begun

    def _is_over(self, first: Chunk, second: Chunk, behind: int) -> bool:
        """Whether the message in hand is behind the `first` chunk, or ends exactly with it."""
        later = self._count - first.count
        return later > behind or (later == behind and second.mark is None and first.count > 0 and not first.has_gap)

    def _shorten(self, only: Chunk) -> None:
        """The app has all messages of the `only` chunk: keep what is behind them, unless that costs more to find."""
        unfinished = self.framing.unfinished
        if not only.count:
            return
        if not (unfinished or only.has_gap):
            self.clear()
        elif not unfinished or only.begun > ONE_READ:
            rest = self.framing.behind(only.mark, only.data, only.count)
            self._take_first()
            if rest:
                self._add(Chunk(None, rest, 0, has_gap=True))
