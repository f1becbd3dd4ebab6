"""
The bytes that wait in an outbox: in order, each with the ``send`` that waits for it.

They are taken out in pieces up to the write mark, each of which is joined from as many waiting bytes as fit into it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted.internet.defer import Deferred

from tcpapp.connection.lifecycle import Lifecycle
from tcpapp.connection.outcomes import Settler
from tcpapp.connection.shared_message import LEAST_SHARED, PLACE_COST, SharedMessage
from tcpapp.connection.waiting_bytes import WaitingBytes
from tcpapp.limits import Limits
from tcpapp.telemetry.counters import MessageCounter, Throughput

__all__ = ["SEND_COST", "UnsentQueue"]

SEND_COST: Final = 512
"""Bytes that count for a waiting ``send`` besides its message: Deferred and place take 310 bytes on CPython 3.11."""


class UnsentQueue(MessageCounter):
    """
    The waiting bytes of one outbox. `unsent` is their number, of which `_shared` are counted elsewhere.

    The subclass decides when they are taken out, and gives them to the transport.
    """

    __slots__ = (
        "_handed",
        "_lifecycle",
        "_limits",
        "_queue",
        "_sends",
        "_settler",
        "_shared",
        "blocked",
        "unsent",
        "write_high",
    )

    def __init__(self, settler: Settler, lifecycle: Lifecycle, limits: Limits, throughput: Throughput) -> None:
        super().__init__(throughput)
        self._settler = settler
        self._lifecycle = lifecycle
        self._limits = limits
        self.write_high = limits.write_high
        self._queue: deque[WaitingBytes] | None = None
        self._sends = 0
        self._shared = 0
        self._handed: list[Deferred[None]] | None = None
        self.blocked = False
        self.unsent = 0

    @property
    def _queued(self) -> int:
        """The bytes of memory that wait for the transport."""
        return self.unsent + SEND_COST * self._sends

    def _append(
        self, data: bytes, messages: int, waiter: Deferred[None] | None, shared: SharedMessage | None = None
    ) -> None:
        """Let `data` wait. It is joined to the bytes before it, unless it is `shared` and no short message."""
        if self._lifecycle.stage.drops:
            data = b""
        if self._queue is None:
            self._queue = deque()
        copied = shared is None or len(data) < LEAST_SHARED
        if waiter is None and copied and self._queue and self._queue[-1].takes(data, self.write_high):
            self._queue[-1].join(data, messages)
        else:
            self._queue.append(WaitingBytes(data, messages, waiter, shared=None if copied else shared))
            if waiter is not None:
                self._sends += 1
        self.unsent += len(data)
        if shared is not None and not copied:
            self._shared += len(data) - PLACE_COST
            shared.wait(self._settler)

    def _withdraw(self, waiter: Deferred[None]) -> None:
        """A ``send`` was cancelled: remove its bytes, if the transport has none of them."""
        for waiting in self._queue or ():
            if waiting.waiter is waiter and not waiting.given:
                assert self._queue is not None
                self._queue.remove(waiting)
                self.unsent -= len(waiting.data)
                self._sends -= 1
                break

    def _next_piece(self) -> tuple[bytes, int, list[SharedMessage]]:
        """
        Take the bytes of one write, up to the write mark, and the number of messages that end in them. The last of the
        results are the shared messages among these. Only bytes that no single write can take are given in parts: of all
        others it is known how many messages the transport has got.
        """
        assert self._queue
        messages = 0
        taken: list[SharedMessage] = []
        pieces: list[bytes | bytearray] = []
        room = self.write_high
        while self._queue and (room or not self._queue[0].data):
            waiting = self._queue[0]
            if waiting.stream is not None:
                break
            piece = waiting.data
            if waiting.given or len(piece) > room:
                if pieces and len(piece) <= self.write_high:
                    break
                piece = piece[waiting.given : waiting.given + room]
            waiting.given += len(piece)
            room -= len(piece)
            pieces.append(piece)
            if waiting.shared is not None:
                self._shared -= len(piece)
            if waiting.given == len(waiting.data):
                self._queue.popleft()
                messages += waiting.messages
                self._note_handed(waiting)
                if waiting.shared is not None:
                    self._shared += PLACE_COST
                    taken.append(waiting.shared)
        self.unsent -= self.write_high - room
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces), messages, taken

    def _leave_shared(self) -> None:
        """The connection ends: no shared message waits here any more."""
        self._shared = 0
        for waiting in self._queue or ():
            if waiting.shared is not None:
                waiting.shared.leave(self._settler)
                waiting.shared = None

    def _take_no_more(self) -> None:
        """Bytes that are written from now on wait behind a piece that is never fed, and are dropped there."""
        if self._queue is None:
            self._queue = deque()
        self._queue.append(WaitingBytes(b"", 0, None))

    def _fire_handed(self) -> None:
        if not self.blocked and not self._lifecycle.stage.drops:
            handed, self._handed = self._handed or (), None
            for waiter in handed:
                if not waiter.called:  # it may have been cancelled
                    waiter.callback(None)

    def _note_handed(self, waiting: WaitingBytes) -> None:
        if waiting.waiter is not None:
            self._sends -= 1
            if self._handed is None:
                self._handed = []
            self._handed.append(waiting.waiter)
