"""Shared part of framings that rewrite a message, so that one byte value is free to mark its end."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from typing_extensions import override

from tcpapp.errors import UnreadableStream
from tcpapp.framing.base import Framing
from tcpapp.framing.state import StateReader, StateWriter

__all__ = ["Stuffed"]


class Stuffed(Framing):
    """
    A framing that rewrites a message without the byte `_end`, and ends it with that byte.

    `_held` is the decoded part of the unfinished message. So ``max`` bounds what is held, however much longer the
    message is on the wire. `_dropped` counts the bytes of a message that is being skipped.
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
    def _write_state(self, state: StateWriter) -> None:
        super()._write_state(state)
        state.write_number(self._dropped)

    @override
    def _read_state(self, state: StateReader) -> None:
        super()._read_state(state)
        self._dropped = self._read_dropped(state)
        if self._dropped and self._held:
            raise self._impossible(f"{len(self._held)} bytes held of a skipped message")

    @override
    def _most_held(self) -> int:
        return self.max

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
        """Decode `pieces`, each of them followed by `_end`, into `messages`."""
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
        """Take the end of the message whose pieces `_absorb` has taken."""
        self._leave()
        if self._dropped:
            self._dropped = 0
            self.skipped += 1
        else:
            messages.append(bytes(self._held))
            self._held = b""

    # Differences between these framings

    @abstractmethod
    def _read(self, piece: bytes) -> bytes | None:
        """The message of a whole frame `piece`; `None` if it has a fault or needs a closer look."""

    @abstractmethod
    def _is_open(self) -> bool:
        """Whether a message is unfinished."""

    @abstractmethod
    def _go_on(self, piece: bytes) -> tuple[bytes, UnreadableStream | None]:
        """The next `piece` of a message decoded, up to a fault; and the fault."""

    @abstractmethod
    def _leave(self) -> None:
        """Reset to the state between messages. Raises `MalformedFrame` if the open message cannot end here."""
