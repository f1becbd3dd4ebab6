"""Consistent overhead byte stuffing: frames without zeros, each followed by a zero."""

from __future__ import annotations

from typing_extensions import override

from tcpapp.errors import MalformedFrame
from tcpapp.framing.state import StateReader, StateWriter
from tcpapp.framing.stuffed import Stuffed

__all__ = ["Cobs"]

FULL = 0xFF
"""The code of a block of 254 bytes that is not followed by a zero."""


class Cobs(Stuffed):
    """
    Frames without zeros, each followed by a zero::

        06 'hello' 00  →  hello

    A frame consists of blocks: a code ``n`` from 1 to 255, then ``n - 1`` bytes that are not zero. Between two blocks
    the message has a zero, unless the first block has the code 255. This costs at most one byte in 254. The empty
    message is ``01 00``. A zero with nothing before it is ignored, because senders use one to end whatever came before.
    ``max`` counts a message as the app gets it.

    Errors: `MessageTooLong`; `MalformedFrame` if a zero comes before the end of a block; `TruncatedMessage`.
    Source: S. Cheshire and M. Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on Networking 7(2).
    """

    __slots__ = ("_code", "_left")
    frames_alike = True
    _name = "cobs"
    _end = b"\0"

    _code: int
    """The code of the last block; 0 between two messages."""
    _left: int
    """How many bytes of that block have not come yet."""

    @override
    def _start(self) -> None:
        super()._start()
        self._code = self._left = 0

    @override
    def _write_state(self, state: StateWriter) -> None:
        super()._write_state(state)
        state.write_number(self._code)
        state.write_number(self._left)

    @override
    def _read_state(self, state: StateReader) -> None:
        super()._read_state(state)
        self._code = state.read_number("code", FULL)
        self._left = state.read_number("left of the block", max(0, self._code - 1))
        arrived = self._dropped + len(self._held)
        if arrived < self._code - 1 - self._left or (arrived and not self._code):
            raise self._impossible(f"{arrived} bytes of a message, and a block of {self._code - 1}")

    @override
    def _is_open(self) -> bool:
        return self._code != 0

    @override
    def _read(self, piece: bytes) -> bytes | None:
        if FULL in piece:
            return None
        # if no block is full, each code but the first stands for a zero
        read = bytearray(piece)
        size, at = len(piece), 0
        while at < size:
            code = piece[at]
            read[at] = 0
            at += code
        return bytes(read[1:]) if at == size else None

    @override
    def _go_on(self, piece: bytes) -> tuple[bytes, None]:
        parts = []
        at = 0
        while at < len(piece):
            if self._left:
                parts.append(piece[at : at + self._left])
                at += len(parts[-1])
                self._left -= len(parts[-1])
            else:
                if 0 < self._code < FULL:
                    parts.append(b"\0")
                self._code = piece[at]
                self._left = self._code - 1
                at += 1
        return b"".join(parts), None

    @override
    def _leave(self) -> None:
        if self._left:
            text = f"a frame that ends {self._left} bytes too early: its last block announces {self._code - 1}"
            raise MalformedFrame(text)
        self._code = 0

    @override
    def frame(self, message: bytes) -> bytes:
        """`message`, stuffed, and a zero. Raises `UnsendableMessage`."""
        self._sendable(message)
        *runs, last = message.split(b"\0")
        parts: list[bytes] = []
        for run in runs:
            rest = _full_blocks(run, parts)
            parts += (_CODES[len(rest)], rest)
        rest = _full_blocks(last, parts)
        # a full block at the very end needs no other behind it: no zero is read there
        if rest or len(last) == 0:
            parts += (_CODES[len(rest)], rest)
        parts.append(b"\0")
        return b"".join(parts)


_CODES = [bytes([size + 1]) for size in range(FULL - 1)]


def _full_blocks(run: bytes, parts: list[bytes]) -> bytes:
    """Put all full blocks of `run`, which has no zeros, into `parts`; returns the rest."""
    full = FULL - 1
    whole = len(run) - len(run) % full
    for at in range(0, whole, full):
        parts += (b"\xff", run[at : at + full])
    return run[whole:]
