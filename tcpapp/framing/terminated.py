"""Shared part of framings whose messages end at a given sequence of bytes."""

from __future__ import annotations

from functools import lru_cache

from typing_extensions import override

from tcpapp.errors import UnsendableMessage
from tcpapp.framing.base import Framing, quoted
from tcpapp.framing.state import StateReader, StateWriter

__all__ = ["Terminated", "overlaps_itself"]


class Terminated(Framing):
    """
    A framing whose messages last until a terminator comes.

    `_dropped` counts the discarded bytes of a message over ``max``; it is 0 unless one is being skipped. While one is,
    `_held` is at most what can be the first part of the terminator.
    """

    __slots__ = ("_dropped",)
    _gapless = True

    _dropped: int

    @override
    def _start(self) -> None:
        super()._start()
        self._dropped = 0

    @override
    def _arrived(self) -> int | None:
        return self._dropped + len(self._held) or None

    @override
    def _write_state(self, state: StateWriter) -> None:
        super()._write_state(state)
        state.write_number(self._dropped)

    @override
    def _read_state(self, state: StateReader) -> None:
        super()._read_state(state)
        self._dropped = self._read_dropped(state)

    def _check_unfinished(self, end: bytes, longest: bytes) -> None:
        """Raise `InvalidState` if `_held` cannot be of an unfinished message, which `end` or `longest` will end."""
        held = len(self._held)
        begun = _begun(self._held, longest)
        if end in self._held or (held > begun if self._dropped else held - begun > self.max):
            raise self._impossible(f"{held} bytes held of an unfinished message")

    def _ends_in(self, chunk: bytes, end: bytes) -> bool:
        """Whether the unfinished message ends in `chunk`: `end` is in it, or crosses its beginning."""
        if end in chunk:
            return True
        most = len(end) - 1
        return most > 0 and end in self._held[-most:] + chunk[:most]

    def _extend(self, piece: bytes, end: bytes, messages: list[bytes]) -> list[bytes]:
        """
        Hold `piece`, after which the message goes on. Returns `messages`, or fails behind them if the message is too
        long.

        It is too long only if it stays so when the last held bytes are the first part of `end`.
        """
        self._hold(piece)
        arrived = self._dropped + len(self._held)
        if arrived > self.max:
            begun = _begun(self._held, end)
            if arrived - begun > self.max:
                if self.oversize == "close":
                    return self._fail(self._too_long(arrived - begun), messages)
                self._dropped = arrived - begun
                self._held = end[:begun]
        return messages

    def _ended(self, message: bytes, end: bytes) -> bytes:
        """`message` and `end`. Raises `UnsendableMessage` if `end` would be found too early."""
        self._sendable(message)
        ended = message + end
        if ended.find(end) != len(message):
            raise UnsendableMessage(
                f"a message that holds {quoted(end)}, or forms it together with the {quoted(end)} behind it"
            )
        return ended

    def _all_ended(self, messages: list[bytes], end: bytes) -> bytes | None:
        """The results of `_ended` for `messages`, joined; `None` if one is refused, or may be."""
        if not self._all_sendable(messages) or overlaps_itself(end):
            return None
        ended = end.join([*messages, b""])
        # as many ends as messages: enough, because none begins inside another
        return ended if ended.count(end) == len(messages) else None

    def _sift(self, messages: list[bytes]) -> list[bytes]:
        """`messages` without those over ``max``; on a failure, those before it, if any."""
        fitting = [message for message in messages if len(message) <= self.max]
        if len(fitting) == len(messages):
            return messages
        if self.oversize == "skip":
            self.skipped += len(messages) - len(fitting)
            return fitting
        first = next(index for index, message in enumerate(messages) if len(message) > self.max)
        return self._fail(self._too_long(len(messages[first])), messages[:first])


def _begun(held: bytes | bytearray, end: bytes) -> int:
    """How many bytes at the end of `held` can be the first part of `end`."""
    return next((size for size in range(len(end) - 1, 0, -1) if held.endswith(end[:size])), 0)


@lru_cache(maxsize=256)  # a process has a handful of delimiters; bounded all the same
def overlaps_itself(end: bytes) -> bool:
    """Whether one occurrence of `end` can begin inside another, as in ``aa`` or ``\r\n\r``."""
    return any(end.startswith(end[size:]) for size in range(1, len(end)))
