"""Messages between a start and an end mark: MLLP and its relatives."""

from __future__ import annotations

from typing import Any, ClassVar

from typing_extensions import override

from tcpapp.errors import MalformedFrame, UnreadableStream
from tcpapp.framing.base import DEFAULT_MAX, Oversize, marker, quoted
from tcpapp.framing.state import StateReader, StateWriter
from tcpapp.framing.terminated import Terminated

__all__ = ["Blocks"]

MLLP = (b"\x0b", b"\x1c\r")
"""HL7's marks: vertical tab before the message; file separator and carriage return behind it."""


class Blocks(Terminated):
    """
    Messages between the marks `start` and `end`. MLLP, which carries HL7 version 2, has the marks in `MLLP`::

        0B 'hello' 1C 0D  →  hello

    A message ends at the first `end` behind its `start`. A message that holds `end`, or forms it together with the mark
    behind it, cannot be sent. ``max`` counts a message without its marks. The first bytes of an incomplete mark are
    held, even if ``max`` is less.

    Errors: `MessageTooLong`; `MalformedFrame` if anything else than `start` comes between two messages;
    `TruncatedMessage`.
    Source: HL7 version 2, appendix C ("Minimal Lower Layer Protocol"); MLLP release 1.
    """

    __slots__ = ("_inside", "end", "start")
    frames_alike = True
    _name = "blocks"
    _presets: ClassVar[dict[str, tuple[Any, ...]]] = {"mllp": MLLP}

    start: bytes
    end: bytes
    _inside: bool

    def __init__(
        self,
        start: bytes,
        end: bytes,
        *,
        max: int = DEFAULT_MAX,  # noqa: A002 - the public name
        oversize: Oversize = "close",
    ) -> None:
        self.start = marker("start", start)
        self.end = marker("end", end)
        super().__init__(max=max, oversize=oversize)

    @override
    def _start(self) -> None:
        super()._start()
        self._inside = False

    @override
    def _arrived(self) -> int | None:
        return self._dropped + len(self._held) if self._inside else super()._arrived()

    @override
    def _write_state(self, state: StateWriter) -> None:
        super()._write_state(state)
        state.write_number(self._inside)

    @override
    def _read_state(self, state: StateReader) -> None:
        super()._read_state(state)
        self._inside = state.read_flag("inside")
        if self._inside:
            self._check_unfinished(self.end, self.end)
        elif self._dropped or not self.start.startswith(self._held) or len(self._held) == len(self.start):
            raise self._impossible(f"{len(self._held)} bytes held between two messages")

    @override
    def _most_held(self) -> int:
        return max(self.max + len(self.end), len(self.start)) - 1

    @override
    def receive(self, chunk: bytes) -> list[bytes]:
        """The messages that are now whole. Raises `MessageTooLong` and `MalformedFrame`."""
        if self.failure is not None:
            self._check()
        if self._inside and not self._ends_in(chunk, self.end):
            return self._extend(chunk, self.end, [])
        messages: list[bytes] = []
        try:
            tail = self._cut(self._with_held(chunk), messages)
        except UnreadableStream as fault:
            return self._fail(fault, messages)
        return self._extend(tail, self.end, messages) if self._inside else messages

    def _cut(self, chunk: bytes, messages: list[bytes]) -> bytes:
        """Cut the messages out of `chunk`; returns the bytes behind the last of them, without its start mark."""
        start, end, most = self.start, self.end, self.max
        at = 0
        while self._inside or chunk.startswith(start, at):
            at += 0 if self._inside else len(start)
            close = chunk.find(end, at)
            self._inside = close < 0
            if self._inside:
                return chunk[at:]
            if close - at <= most and not self._dropped:
                messages.append(chunk[at:close])
            else:
                self._leave_out(close - at)
            at = close + len(end)
        return self._outside(chunk[at:])

    def _leave_out(self, size: int) -> None:
        """Handle a message over ``max``: one of `size` bytes, or one whose last `size` bytes these are."""
        if self.oversize == "close":
            raise self._too_long(size)
        self._dropped = 0
        self.skipped += 1

    def _outside(self, tail: bytes) -> bytes:
        """Hold `tail`, which can become a start mark, or refuse it."""
        if not self.start.startswith(tail):
            text = f"{quoted(tail, len(self.start))} between two messages; {quoted(self.start)} begins one"
            raise MalformedFrame(text)
        self._held = tail
        return b""

    @override
    def frame(self, message: bytes) -> bytes:
        """`message` between the marks. Raises `UnsendableMessage`, also where the end mark would come too early."""
        return self.start + self._ended(message, self.end)

    @override
    def frame_all(self, messages: list[bytes]) -> bytes:
        """Each of `messages` between the marks. Raises `UnsendableMessage` as `frame` does."""
        if self._all_ended(messages, self.end) is None:
            return super().frame_all(messages)
        return b"".join([self.start, (self.end + self.start).join(messages), self.end])

    @override
    def _spec(self) -> tuple[str, dict[str, Any]]:
        name, options = super()._spec()
        if (self.start, self.end) != MLLP:
            return name, options
        return "mllp", {key: value for key, value in options.items() if key not in ("start", "end")}
