"""Messages behind a length of fixed width: every option of Netty's and tokio's length-field framings."""

from __future__ import annotations

import struct
import sys
from typing import Any, ClassVar, Literal

from typing_extensions import override

from tcpapp.errors import InvalidFraming, MalformedFrame, UnsendableMessage
from tcpapp.framing.base import DEFAULT_MAX, Oversize, whole
from tcpapp.framing.loops import LONGEST_IN_RUN, Pack, Unpack, cut_counted, frame_counted
from tcpapp.framing.sized import UNKNOWN, Sized
from tcpapp.framing.state import StateReader, StateWriter

__all__ = ["LengthPrefixed"]

Order = Literal["big", "little"]

MOST_HEADER = 0xFFFF
"""The most bytes of `offset` and `strip`: they are held, and written, beside ``max``; real headers have tens."""

PRESET_WIDTHS = (1, 2, 3, 4, 8)
"""The widths, in bytes, that have a spec of their own when nothing else is set: ``int8`` to ``int64``."""


class _Odd:
    """Like a `struct.Struct` of one unsigned number, for the widths that `struct` has no letter for."""

    __slots__ = ("order", "width")

    def __init__(self, width: int, order: Order) -> None:
        self.width = width
        self.order = order

    def unpack_from(self, chunk: bytes, at: int) -> tuple[int]:
        return (int.from_bytes(chunk[at : at + self.width], self.order),)

    def pack(self, value: int) -> bytes:
        return value.to_bytes(self.width, self.order)


def _field(width: int, order: Order) -> struct.Struct | _Odd:
    letter = {1: "B", 2: "H", 4: "I", 8: "Q"}.get(width)
    mark = ">" if order == "big" else "<"
    return struct.Struct(mark + letter) if letter else _Odd(width, order)


_ORDERS: tuple[Order, Order] = ("big", "little")
_FIELDS = {(width, order): _field(width, order) for width in range(1, 9) for order in _ORDERS}
_METHODS = {kind: (field.unpack_from, field.pack) for kind, field in _FIELDS.items()}  # shared by all connections


class LengthPrefixed(Sized):
    """
    A length, then the message::

        00 00 00 05 'hello'  →  hello

    The length is `width` bytes (1 to 8), unsigned, in `order` (``"big"`` or ``"little"``). The other options are those
    of Netty's ``LengthFieldBasedFrameDecoder``, and describe frames such as ``CA FE 00 09 01 'hello'``:

    - `offset`: how many bytes of header stand before the length;
    - `adjust`: the number to add to the length so that it counts the bytes behind the length field (Netty's
      ``lengthAdjustment``; negative if the length counts the header too);
    - `strip`: how many bytes are dropped from the front of the frame; the rest is the message (Netty's
      ``initialBytesToStrip``). `None` is the whole header, ``offset + width``, as in tokio.

    So a frame is ``offset + width + length + adjust`` bytes. Sending works in reverse: `strip` zero bytes are put
    before the message, and the length is written over the bytes at its place. If the message keeps a part of the header
    (`strip` less than ``offset + width``), it must begin with that part. A message that is too short for it, or whose
    length does not fit into the field, cannot be sent. ``max`` counts the message as the app gets it. By default it is
    1 MiB, or less if the field cannot announce as much. A ``max`` that the field cannot announce is refused, because it
    would have no effect.

    tokio counts the length from behind the skipped bytes: its ``length_adjustment`` is ``adjust`` plus ``offset +
    width`` minus ``num_skip``. If only the header is skipped, its default, the two are the same.

    Up to ``offset + width`` bytes of an incomplete header are held, even if ``max`` is less.

    Errors: `MessageTooLong` as soon as the length is there; `MalformedFrame` if the length is too small for the frame's
    own header, or for the bytes to strip; `TruncatedMessage`. Source: Netty's ``LengthFieldBasedFrameDecoder``, tokio's
    ``LengthDelimitedCodec``; Erlang's ``gen_tcp`` packets 1, 2 and 4; Twisted's ``Int8/16/32StringReceiver``; DNS over
    TCP (RFC 1035, section 4.2.2).
    """

    __slots__ = ("_pack", "_run_length", "_unpack", "adjust", "offset", "order", "strip", "width")
    frames_alike = True
    _name = "length"
    _presets: ClassVar[dict[str, tuple[Any, ...]]] = {f"int{8 * width}": (width,) for width in PRESET_WIDTHS}

    _unpack: Unpack | None
    """Reads a header, if frames are only a length and a message."""
    _pack: Pack | None
    """Writes such a header."""
    _run_length: int
    """The length of the messages in the last run; -1 if the last chunk did not begin with a run."""

    width: int
    order: Order
    offset: int
    adjust: int
    strip: int

    def __init__(
        self,
        width: int = 4,
        order: Order = "big",
        offset: int = 0,
        adjust: int = 0,
        strip: int | None = None,
        *,
        max: int | None = None,  # noqa: A002 - the public name
        oversize: Oversize = "close",
    ) -> None:
        if order not in ("big", "little"):
            raise InvalidFraming(f"order={order!r}: takes 'big' or 'little'")
        self.width = whole("width", width, 1, 8)
        self.order = order
        self.offset = whole("offset", offset, 0, MOST_HEADER)
        self.adjust = whole("adjust", adjust, -sys.maxsize)
        self.strip = self.offset + self.width if strip is None else whole("strip", strip, 0, MOST_HEADER)
        super().__init__(max=self._default_max() if max is None else max, oversize=oversize)
        self._check_max()

    def _longest(self) -> int:
        """The longest message that the length field can announce."""
        return int(256**self.width) - 1 + self._header() + self.adjust - self.strip

    def _default_max(self) -> int:
        return min(DEFAULT_MAX, max(1, self._longest()))

    def _check_max(self) -> None:
        """Refuse a ``max`` that no frame can have, or that is less than any frame has."""
        least = max(1, self._header() - self.strip, self._header() + self.adjust - self.strip)
        most = self._longest()
        if most < least:
            raise InvalidFraming(f"adjust={self.adjust}, strip={self.strip}: no message fits into such a frame")
        if not least <= self.max <= most:
            field = f"a length of {self.width} byte{'s' * (self.width > 1)}"
            raise InvalidFraming(f"max={self.max}: takes {least} to {most}, the messages that {field} can announce")

    @override
    def _start(self) -> None:
        super()._start()
        plain = self.offset == self.adjust == 0 and self.strip == self.width
        self._unpack, self._pack = _METHODS[self.width, self.order] if plain else (None, None)
        self._run_length = -1

    @override
    def _header(self) -> int:
        return self.offset + self.width

    @override
    def _behind(self) -> int:
        return self.strip - self._header()

    @override
    def _write_state(self, state: StateWriter) -> None:
        super()._write_state(state)
        state.write_number(self._run_length + 1)

    @override
    def _read_state(self, state: StateReader) -> None:
        super()._read_state(state)
        longest = min(LONGEST_IN_RUN, self.max) if self._unpack is not None else -1
        self._run_length = state.read_number("length in a run", longest + 1) - 1

    @override
    def _most_held(self) -> int:
        return max(self.max, self._header())

    @override
    def receive(self, chunk: bytes) -> list[bytes]:
        """The messages that are now whole; the most common chunk is one message, and has a fast path."""
        unpack, width = self._unpack, self.width
        if unpack is not None and len(chunk) >= width and not self._held and self._wanted == UNKNOWN:
            (length,) = unpack(chunk, 0)
            if width + length == len(chunk) and length <= self.max and self.failure is None:
                return [chunk[width:]]
        return Sized.receive(self, chunk)

    @override
    def _cut(self, chunk: bytes, messages: list[bytes]) -> None:
        if self._unpack is not None and self._pack is not None:
            self._cut_plain(chunk, messages, self._unpack, self._pack)
        else:
            self._cut_any(chunk, messages)

    def _cut_plain(self, chunk: bytes, messages: list[bytes], unpack: Unpack, pack: Pack) -> None:
        """`_cut` of frames that are only a length and a message: the common case, and the fast one."""
        width, most = self.width, self.max
        last = len(chunk) - width
        start, self._run_length = cut_counted(chunk, 0, width, most, unpack, pack, self._run_length, messages)
        while start <= last:
            (length,) = unpack(chunk, start)
            begin = start + width
            start = self._begin(chunk, begin, begin + length)
            if start <= last:
                start, self._run_length = cut_counted(chunk, start, width, most, unpack, pack, -1, messages)
        if start < len(chunk):
            self._held = chunk[start:]

    def _cut_any(self, chunk: bytes, messages: list[bytes]) -> None:
        """`_cut` with every option."""
        unpack = _FIELDS[self.width, self.order].unpack_from
        append = messages.append
        offset, strip = self.offset, self.strip
        header = offset + self.width
        beside = header + self.adjust  # the bytes of a frame beside the value of its length field
        least = max(header, strip) - beside
        most = self.max + strip - beside
        size = len(chunk)
        last = size - header
        start = 0
        while start <= last:
            (value,) = unpack(chunk, start + offset)
            end = start + beside + value
            if least <= value <= most and end <= size:
                append(chunk[start + strip : end])
                start = end
            elif value < least:
                raise self._malformed(value, least)
            else:
                start = self._begin(chunk, start + strip, end)
        if start < size:
            self._held = chunk[start:]

    def _malformed(self, value: int, least: int) -> MalformedFrame:
        text = f"a length of {value}; with {self} a frame has at least {least}"
        return MalformedFrame(text, value=value, limit=least)

    @override
    def frame(self, message: bytes) -> bytes:
        """The header and `message`. Raises `UnsendableMessage`."""
        if self._pack is not None and type(message) is bytes and len(message) <= self.max:
            return self._pack(len(message)) + message
        self._sendable(message)
        header = self.offset + self.width
        length = self.strip + len(message) - header - self.adjust
        if self.strip + len(message) < header:
            kept = header - self.strip
            raise UnsendableMessage(f"a message of {len(message)} bytes; with {self} its first {kept} are header")
        try:
            field = length.to_bytes(self.width, self.order)
        except OverflowError:
            most = 256**self.width - 1
            raise UnsendableMessage(f"a length of {length}; a field of {self.width} bytes takes 0 to {most}") from None
        full = bytes(self.strip) + message
        return b"".join((full[: self.offset], field, full[header:]))

    @override
    def frame_all(self, messages: list[bytes]) -> bytes:
        """Each of `messages` behind its header. Raises `UnsendableMessage` as `frame` does."""
        framed = None if self._pack is None else frame_counted(messages, self.max, self._pack)
        return super().frame_all(messages) if framed is None else framed

    @override
    def _options(self) -> dict[str, Any]:
        options = super()._options()
        if self.strip == self.offset + self.width:
            del options["strip"]
        if self.max == self._default_max():
            del options["max"]
        return options

    @override
    def _spec(self) -> tuple[str, dict[str, Any]]:
        name, options = super()._spec()
        if options.keys() <= {"width", "max", "oversize"} and self.width in PRESET_WIDTHS:
            options.pop("width", None)
            return f"int{8 * self.width}", options
        return name, options
