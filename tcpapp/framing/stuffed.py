"""What the framings share that write a message so that one byte is left over to end it with."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from typing_extensions import override

from tcpapp.errors import UnreadableStream
from tcpapp.framing.base import Framing

__all__ = ["Stuffed"]


class Stuffed(Framing):
    """
    A framing that rewrites a message so that `_end`, one byte, is not in it, and ends it with that byte.

    `_held` is what the unfinished message amounts to, read as far as it has come: so ``max`` bounds what is held,
    however much longer the message is on the wire. `_dropped` counts the bytes of a message that is being skipped.
    """

    __slots__ = ("_dropped",)

    _end: ClassVar[bytes]
    _dropped: int

    @override
    def _start(self) -> None:
        super()._start()
        self._dropped = 0

    @override
    def _arrived(self) -> int | None:
        return self._dropped + self.held if self._is_open() else None

    @override
    def receive(self, chunk: bytes) -> list[bytes]:
        """The messages that are now whole. Raises `MessageTooLong` and `MalformedFrame`."""
        if self.failure is not None:
            self._check()
        pieces = chunk.split(self._end)
        tail = pieces.pop()
        messages: list[bytes] = []
        try:
            self._cut(pieces, messages)
            if tail:
                self._absorb(tail)
        except UnreadableStream as fault:
            return self._fail(fault, messages)
        return messages

    def _cut(self, pieces: list[bytes], messages: list[bytes]) -> None:
        """Put what `pieces`, each of them ended by `_end`, amount to into `messages`."""
        if pieces and self._is_open():
            self._absorb(pieces.pop(0))
            self._close(messages)
        append, read, most = messages.append, self._read, self.max
        for piece in filter(None, pieces):
            message = read(piece)
            if message is not None and len(message) <= most:
                append(message)
            else:
                self._absorb(piece)
                self._close(messages)

    def _absorb(self, piece: bytes) -> None:
        """Take the next `piece` of an unfinished message. Raises the first fault in it."""
        read, fault = self._go_on(piece)
        arrived = self._dropped + len(self._held) + len(read)
        if arrived <= self.max:
            self._hold(read)
        elif self.oversize == "close":
            raise self._too_long(arrived)
        else:
            self._dropped = arrived
            self._held = b""
        if fault is not None:
            raise fault

    def _close(self, messages: list[bytes]) -> None:
        """Take the end of the message that `_absorb` has taken the pieces of."""
        self._leave()
        if self._dropped:
            self._dropped = 0
            self.skipped += 1
        else:
            messages.append(bytes(self._held))
            self._held = b""

    # What differs

    @abstractmethod
    def _read(self, piece: bytes) -> bytes | None:
        """The message that `piece` is the whole of; `None` where it has a fault or takes a closer look."""

    @abstractmethod
    def _is_open(self) -> bool:
        """Whether a message is unfinished."""

    @abstractmethod
    def _go_on(self, piece: bytes) -> tuple[bytes, UnreadableStream | None]:
        """What the next `piece` of a message amounts to, as far as there is no fault; and the fault."""

    @abstractmethod
    def _leave(self) -> None:
        """Be where no message is open. Raises `MalformedFrame` where the one that is cannot end here."""
