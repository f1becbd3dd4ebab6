"""Shared part of framings in which the length of a message comes before the message."""

from __future__ import annotations

from abc import abstractmethod

from typing_extensions import override

from tcpapp.errors import UnreadableStream
from tcpapp.framing.base import Framing
from tcpapp.framing.state import StateReader, StateWriter

__all__ = ["Sized"]

UNKNOWN = -1
"""Stands for a length whose header is not whole yet."""


class Sized(Framing):
    """
    A framing in which the length of a message comes before the message.

    - `_wanted`: the size of the unfinished message with its trailer; `UNKNOWN` while `_held` is part of a header.
    - `_missed`: how many of the next bytes to discard: the rest of a skipped message, or of a header.
    """

    __slots__ = ("_missed", "_wanted")
    _gapless = True

    _wanted: int
    _missed: int

    @override
    def _start(self) -> None:
        super()._start()
        self._wanted = UNKNOWN
        self._missed = 0

    @override
    def _arrived(self) -> int | None:
        if self._skipping():
            return max(0, self._wanted - self._missed)
        return len(self._held) if self._held or self._wanted != UNKNOWN else None

    @property
    @override
    def unfinished(self) -> bool:
        """Whether the stream stands inside a message."""
        return self._wanted != UNKNOWN or bool(self._held)

    @override
    def _write_state(self, state: StateWriter) -> None:
        super()._write_state(state)
        state.write_number(self._wanted - UNKNOWN)
        state.write_number(self._missed)
        state.write_number(self._skipping())

    @override
    def _read_state(self, state: StateReader) -> None:
        super()._read_state(state)
        self._wanted = state.read_number("wanted") + UNKNOWN
        self._missed = state.read_number("missed")
        skipping = state.read_flag("skipping")
        held = len(self._held)
        if skipping != self._skipping() or not self._is_possible():
            begun = "a header" if self._wanted == UNKNOWN else f"a message of {self._wanted}"
            kind = "which is skipped" if skipping else "which is not skipped"
            raise self._impossible(f"{held} bytes held and {self._missed} to discard of {begun}, {kind}")

    def _is_possible(self) -> bool:
        """Whether a stream can lead to the numbers and the held bytes that are here."""
        held, behind = len(self._held), self._behind()
        if self._wanted == UNKNOWN:
            return not self._missed and self._is_begun_header()
        if self._skipping():
            return self.oversize == "skip" and not held and 0 < self._missed <= self._wanted + behind
        if self._missed:
            return not held and self._missed <= behind
        return max(0, -behind) <= held < self._wanted

    def _is_begun_header(self) -> bool:
        """Whether `_held` is nothing or the beginning of a header: then it is held again, as it is."""
        held, self._held = bytes(self._held), b""
        try:
            self._cut(held, [])
        except UnreadableStream:
            return False
        return self._held == held and self._wanted == UNKNOWN

    def _skipping(self) -> bool:
        return self._wanted - self._trailer() > self.max

    @override
    def receive(self, chunk: bytes) -> list[bytes]:
        """The messages that are now whole. Raises `MessageTooLong` and `MalformedFrame`."""
        if self.failure is not None:
            self._check()
        messages: list[bytes] = []
        try:
            if self._held or self._wanted != UNKNOWN:
                chunk = self._resume(chunk, messages)
            self._cut(chunk, messages)
        except UnreadableStream as fault:
            return self._fail(fault, messages)
        return messages

    # Differences between these framings

    @abstractmethod
    def _cut(self, chunk: bytes, messages: list[bytes]) -> None:
        """
        Put the messages in `chunk`, which starts with a frame, into `messages`.

        Passes a message that is too long or incomplete to `_begin`, and holds an incomplete header. This is the hot
        path of the toolkit: the code for each single message is in `tcpapp.framing.loops`.
        """

    def _header(self) -> int:
        """The fewest bytes of a complete header."""
        return 1

    def _behind(self) -> int:
        """How many bytes behind its header a message begins; negative if it includes some of the header."""
        return 0

    def _trailer(self) -> int:
        """How many bytes follow a message and are no part of it: 0 or 1."""
        return 0

    def _check_trailer(self, last: bytes) -> None:
        """Raise `MalformedFrame` if `last`, the last byte of a frame, is wrong."""

    # A message that needs a closer look

    def _take(self, chunk: bytes, begin: int, end: int, messages: list[bytes]) -> int:
        """
        Put the message, and trailer, at `begin` to `end` into `messages`; or `_begin` it. Returns where to read on.
        """
        last = end - self._trailer()
        if end > len(chunk) or last - begin > self.max:
            return self._begin(chunk, begin, end)
        self._check_trailer(chunk[end - 1 : end])
        messages.append(chunk[begin:last])
        return end

    # The beginning and the end of a message that spans several chunks

    def _begin(self, chunk: bytes, begin: int, end: int) -> int:
        """
        Handle the message, and trailer, at `begin` to `end`, which is too long or goes on beyond `chunk`.

        Returns `end`, from where to read on. Raises `MessageTooLong`, or skips, or leaves the rest to `_resume`.
        """
        size = end - begin - self._trailer()
        too_long, beyond = size > self.max, end - len(chunk)
        if too_long and self.oversize == "close":
            raise self._too_long(size, "is announced")
        if beyond > 0:
            self._wanted = end - begin
            self._missed = beyond if too_long else max(0, begin - len(chunk))
            self._held = b"" if too_long else chunk[begin:]
        else:
            self._check_trailer(chunk[end - 1 : end])
            self.skipped += 1
        return end

    def _resume(self, chunk: bytes, messages: list[bytes]) -> bytes:
        """Continue a message of an earlier chunk; if it ends here, returns the bytes behind it."""
        if self._missed:
            chunk = self._miss(chunk)
            if self._missed:
                return b""
        if self._wanted == UNKNOWN:
            if len(self._held) + len(chunk) >= self._header():
                return self._with_held(chunk)
            self._hold(chunk)
            return b""
        cut = self._wanted - len(self._held)
        if len(chunk) < cut:
            self._hold(chunk)
            return b""
        self._check_trailer(chunk[cut - 1 : cut])
        messages.append(self._with_held(chunk[: cut - self._trailer()]))
        self._wanted = UNKNOWN
        return chunk[cut:]

    def _miss(self, chunk: bytes) -> bytes:
        """Discard the bytes that are to be discarded; returns the rest."""
        cut = min(self._missed, len(chunk))
        self._missed -= cut
        if not self._missed and self._skipping():
            self._check_trailer(chunk[cut - 1 : cut])
            self.skipped += 1
            self._wanted = UNKNOWN
        return chunk[cut:]
