"""Netstrings: a length in digits, the message, a comma."""

from __future__ import annotations

from typing_extensions import override

from tcpapp.errors import MalformedFrame
from tcpapp.framing.base import quoted
from tcpapp.framing.loops import cut_netstrings
from tcpapp.framing.sized import Sized

__all__ = ["Netstrings"]

MOST_DIGITS = 20
"""The most digits of a length that is skipped: 64 bits, more than any stream is long."""

_COLON = ord(":")
_DIGITS = b"0123456789"


class Netstrings(Sized):
    """
    djb's netstrings::

        '5:hello,'  →  hello

    The length is decimal, without leading zeros; the empty message is ``0:,``. The digits of an incomplete length are
    held, even if ``max`` is less.

    Errors: `MessageTooLong` as soon as the digits show it, even if more digits follow. `MalformedFrame` if another byte
    stands in place of a digit, the colon or the comma. `TruncatedMessage`. With ``oversize="skip"`` a length of more
    than 20 digits is malformed. Source: D. J. Bernstein, "Netstrings" (cr.yp.to/proto/netstrings.txt).
    """

    __slots__ = ()
    frames_alike = True
    _name = "netstring"

    @override
    def _trailer(self) -> int:
        return 1

    @override
    def _check_trailer(self, last: bytes) -> None:
        if last != b",":
            raise MalformedFrame(f"{quoted(last)} behind a netstring; a comma closes it")

    @override
    def _cut(self, chunk: bytes, messages: list[bytes]) -> None:
        start, size = cut_netstrings(chunk, 0, self.max, messages), len(chunk)
        while start < size:
            length, colon = self._read(chunk, start)
            if colon == start:
                self._held = chunk[start:]
                return
            start = self._take(chunk, colon + 1, colon + 2 + length, messages)
            start = cut_netstrings(chunk, start, self.max, messages)

    def _read(self, chunk: bytes, start: int) -> tuple[int, int]:
        """
        The length at `start` and the place of its colon, which is `start` if that is beyond `chunk`.

        Goes from digit to digit, so that the first fault is raised however the stream is cut.
        """
        length = 0
        for at in range(start, min(len(chunk), start + MOST_DIGITS + 1)):
            byte = chunk[at]
            if byte == _COLON and at > start:
                return length, at
            if byte not in _DIGITS or (at > start and length == 0) or at == start + MOST_DIGITS:
                raise MalformedFrame(
                    f"{quoted(chunk[start : at + 1], MOST_DIGITS + 1)} begins a netstring; "
                    f"it begins with 1 to {MOST_DIGITS} digits, the first no 0 unless it is alone, and a colon"
                )
            length = 10 * length + byte - 0x30
            if length > self.max and self.oversize == "close":
                raise self._too_long(length, "or more is announced")
        return 0, start

    @override
    def frame(self, message: bytes) -> bytes:
        """The length of `message`, a colon, the message, and a comma. Raises `UnsendableMessage`."""
        self._sendable(message)
        return b"%d:%b," % (len(message), message)

    @override
    def frame_all(self, messages: list[bytes]) -> bytes:
        """Each of `messages` as a netstring. Raises `UnsendableMessage` as `frame` does."""
        if self._all_sendable(messages):
            return b"".join([b"%d:%b," % (len(message), message) for message in messages])
        return super().frame_all(messages)
