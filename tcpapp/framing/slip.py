"""SLIP: packets between END bytes."""

from __future__ import annotations

import re

from typing_extensions import override

from tcpapp.errors import MalformedFrame, UnsendableMessage
from tcpapp.framing.base import quoted
from tcpapp.framing.state import StateReader, StateWriter
from tcpapp.framing.stuffed import Stuffed

__all__ = ["Slip"]

END, ESC = b"\xc0", b"\xdb"
ESC_END, ESC_ESC = b"\xdb\xdc", b"\xdb\xdd"
_WRONG = re.compile(rb"\xdb[^\xdc\xdd]", re.DOTALL)


class Slip(Stuffed):
    """
    Packets between END bytes (C0); C0 and DB within them are written DB DC and DB DD::

        C0 'hello' C0  →  hello

    END is sent before a packet as well, so that line noise before it becomes a packet of its own. Two ENDs with nothing
    between them are no packet, so the empty message cannot be sent. ``max`` counts a packet as the app gets it. At most
    ``max`` bytes and one ESC are held.

    Errors: `MessageTooLong`; `MalformedFrame` if anything but DC or DD follows DB; `TruncatedMessage`. Source: RFC
    1055. (Its receiver ignores a wrong escape; here the stream is known to be broken, and an error is raised.)
    """

    __slots__ = ("_escaped",)
    frames_alike = True
    _name = "slip"
    _end = END

    _escaped: bool

    @override
    def _start(self) -> None:
        super()._start()
        self._escaped = False

    @override
    def _write_state(self, state: StateWriter) -> None:
        super()._write_state(state)
        state.write_number(self._escaped)

    @override
    def _read_state(self, state: StateReader) -> None:
        super()._read_state(state)
        self._escaped = state.read_flag("escaped")

    @property
    @override
    def held(self) -> int:
        """How many bytes of unfinished input are held now; this includes an ESC whose second byte has not come."""
        return len(self._held) + (self._escaped and self.failure is None)

    @override
    def _is_open(self) -> bool:
        return bool(self._held or self._escaped or self._dropped)

    @override
    def _read(self, piece: bytes) -> bytes | None:
        if ESC not in piece:
            return piece
        if piece.count(ESC) != piece.count(ESC_END) + piece.count(ESC_ESC):
            return None
        return _unescaped(piece)

    @override
    def _go_on(self, piece: bytes) -> tuple[bytes, MalformedFrame | None]:
        if self._escaped:
            piece = ESC + piece
            self._escaped = False
        if ESC not in piece:
            return piece, None
        wrong = _WRONG.search(piece)
        if wrong:
            return _unescaped(piece[: wrong.start()]), _wrong(wrong[0])
        # Each ESC is the first byte of an escape; only the last byte can be an ESC whose second byte has not come.
        self._escaped = piece.endswith(ESC)
        return _unescaped(piece[:-1] if self._escaped else piece), None

    @override
    def _leave(self) -> None:
        if self._escaped:
            raise _wrong(ESC + END)

    @override
    def frame(self, message: bytes) -> bytes:
        """`message`, escaped, between two ENDs. Raises `UnsendableMessage`, also for the empty message."""
        self._sendable(message)
        if not message:
            raise UnsendableMessage("an empty message; SLIP has no empty packets")
        return b"".join((END, message.replace(ESC, ESC_ESC).replace(END, ESC_END), END))


def _unescaped(piece: bytes) -> bytes:
    """
    `piece` with its escapes undone, if every ESC begins an escape: the order keeps a new ESC from being read as one.
    """
    return piece.replace(ESC_END, END).replace(ESC_ESC, ESC)


def _wrong(found: bytes) -> MalformedFrame:
    return MalformedFrame(f"{quoted(found)} in a packet; behind an ESC (DB) comes DC or DD")
