"""The contract of all framings, and the parts that they share."""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NoReturn

from typing_extensions import Self, override

from tcpapp.errors import (
    InvalidFraming,
    InvalidState,
    MessageTooLong,
    TruncatedMessage,
    UnreadableStream,
    UnsendableMessage,
    without_frames,
)
from tcpapp.framing.rereading import Rereadable
from tcpapp.framing.state import StateReader, StateWriter, lost, pack, unpack
from tcpapp.spec import escape

__all__ = ["DEFAULT_MAX", "HEADER", "Framing", "Oversize"]

DEFAULT_MAX = 1024 * 1024
"""The most bytes in one message: 1 MiB, as in NATS (``max_payload``)."""

HEADER = 64
"""The most bytes of an unfinished frame that are held beside ``max``, unless a framing says otherwise: its header."""

Oversize = Literal["close", "skip"]
"""What happens with a peer's message over ``max``: the connection is closed, or only the message is left out."""


class Framing(Rereadable, ABC):
    """
    Bytes ↔ messages, without I/O.

    One framing is given to a factory and serves all its connections: `fresh` makes the state of each. The calls, in
    order: `receive` for every chunk, then `finish` once at the end of the stream; `frame` and `frame_all` at any time.
    The same bytes give the same messages, the same kind of failure and the same count of `skipped`, however they are
    cut. Time is linear in the bytes, down to one byte at a time. At most ``max`` bytes plus one chunk are held. (A
    frame's header is held until the length in it is known, in addition to ``max``.)

    - `max`: the most bytes in a message as the app gets it, in both directions.
    - `oversize`: ``"close"`` raises `MessageTooLong` for a longer message. ``"skip"`` leaves it out, counts it in
      `skipped` when its end has come, and reads on.
    - `failure`: the error this stream ended with; `None` while it can be read.
    - `skipped`: how many messages were left out since it was last set to 0 by the code that reports them.
    - `frames_alike`: `frame` gives the same bytes on each connection, so `tcpapp.send_to_all` calls it once for all. A
      class with a `frame` of its own says so itself.

    Two framings are equal if they have the same configuration, whatever each has read. The configuration must not be
    changed.

    `dump` puts the state of a stream into bytes, and `load` takes it out again, in another process too: an open
    connection can move to it in the middle of a message.

    A framing of your own defines `receive` and `frame`. It defines `_start` if it has state of its own, and `_arrived`
    if it holds more than `_held`. Its `receive` begins with `_check`, keeps unfinished bytes by `_hold`, takes them
    back by `_with_held`, and ends the stream by `_fail`. Its `frame` begins with `_sendable`. The arguments of its
    ``__init__`` are its configuration: each is kept in an attribute of the same name.

    `dump` and `load` work by themselves for a framing that keeps its state in `_held` alone. A framing with state of
    its own also defines `_write_state` and `_read_state`, and `_most_held` if it holds more than ``max`` and a short
    header. Nothing is lost silently: `dump` refuses a state whose attributes `load` would not restore.
    """

    __slots__ = ("_held", "failure", "max", "oversize", "skipped")

    frames_alike: ClassVar[bool] = False
    _name: ClassVar[str] = ""
    _presets: ClassVar[dict[str, tuple[Any, ...]]] = {}
    _defaults: ClassVar[dict[str, Any]] = {}

    max: int
    oversize: Oversize
    failure: UnreadableStream | None
    skipped: int
    _held: bytes | bytearray

    @override
    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.frames_alike = vars(cls).get("frames_alike", "frame" not in vars(cls) and cls.frames_alike)
        cls._defaults = {name: option.default for name, option in inspect.signature(cls).parameters.items()}
        cls._note_state()

    def __init__(self, *, max: int = DEFAULT_MAX, oversize: Oversize = "close") -> None:  # noqa: A002 - the public name
        self.max = whole("max", max, 1)
        if oversize not in ("close", "skip"):
            raise InvalidFraming(f"oversize={oversize!r}: takes 'close' or 'skip'")
        self.oversize = oversize
        self._start()

    def _start(self) -> None:
        """Reset to the start of a stream. A framing with state of its own calls this, and sets its own."""
        self.failure = None
        self.skipped = 0
        self._held = b""

    def fresh(self) -> Self:
        """A framing with the same configuration, at the start of its stream: the state of one connection."""
        state = object.__new__(type(self))
        state.max, state.oversize = self.max, self.oversize  # which an ``__init__`` need not take
        for name in self._defaults:
            setattr(state, name, getattr(self, name))
        state._start()
        return state

    # Receiving

    @abstractmethod
    def receive(self, chunk: bytes) -> list[bytes]:
        """
        Take the next bytes of the stream and return the messages that are now whole, in order.

        Raises only `UnreadableStream`, the peer's fault. Messages that are already whole come first: if the chunk holds
        some before the fault, they are returned, `failure` is set, and the next call raises. After a failure every call
        raises it again.
        """

    def finish(self) -> None:
        """
        Report that the stream ended here.

        Raises `TruncatedMessage` if that is inside a message (its `value`: how many bytes of it, or of its header, had
        arrived), or the `failure` that is already there.
        """
        self._check()
        arrived = self._arrived()
        if arrived is not None:
            text = f"the stream ended inside a message, of which {arrived} bytes had arrived"
            self._fail(TruncatedMessage(text, value=arrived), [])

    def drop(self) -> None:
        """Release what is held: the stream is not read on from here. The count `skipped` is still to be reported."""
        skipped = self.skipped
        self._start()
        self.skipped = skipped

    # The state as bytes

    def dump(self) -> bytes:
        """
        The state of this stream as bytes, for `load`: what is held, what is being skipped, the count `skipped`.

        It changes nothing. The form is compact (`tcpapp.framing.state` shows it), and has a version: a release of
        tcpapp reads its own version and the one before. Whatever is returned can be loaded: that was tried.

        Raises `InvalidState` after a `failure`, and for a framing with attributes that would be lost.
        """
        if self.failure is not None:
            raise InvalidState(f"a stream that has failed cannot be dumped: {self.failure}")
        state = StateWriter()
        self._write_state(state)
        own, kind = state.joined(), kind_of(self)
        loaded = self.fresh()
        try:
            restore(loaded, own, self._held)
        except InvalidState as error:
            hooks = "_write_state, _read_state and _most_held"
            raise InvalidState(f"{kind} would not load its own state (see its {hooks}): {error}") from None
        if names := ", ".join(lost(self, loaded)):
            raise InvalidState(f"{kind} would lose {names}: write it in _write_state, and read it in _read_state")
        return pack(kind, own, self._held)

    def load(self, state: bytes) -> None:
        """
        Go on where the dumped stream was: as its framing would, with the same messages, failures and counts.

        For a framing from `fresh`, configured as the dumped one was: the class has the same name, and the options have
        the same `repr`. `max` and `oversize` can differ if the state is possible with them too. Raises `InvalidState`,
        and nothing else, for any other bytes; then this framing is at the start of a stream. Work and memory are linear
        in the length of `state`.
        """
        self._start()
        try:
            restore(self, *unpack(state, kind_of(self)))
        except Exception:
            self._start()
            raise

    def _write_state(self, state: StateWriter) -> None:
        """
        Write what this framing keeps beside `_held`. `dump` calls it.

        A framing with state of its own calls this, and writes its own.
        """
        state.write_number(self.skipped)

    def _read_state(self, state: StateReader) -> None:
        """
        Read what `_write_state` wrote, in the same order. `load` calls it; `_held` is there already.

        A framing with state of its own calls this, and reads its own. The bytes can be wrong: each number is read with
        the most that it can be. Values that do not fit together are refused: ``raise self._impossible(…)``.
        """
        self.skipped = state.read_number("skipped")

    def _most_held(self) -> int:
        """
        The most bytes in `_held` between two chunks; `load` accepts no more.

        By default ``max``, and 64 for a header.
        """
        return self.max + HEADER

    def _impossible(self, what: str) -> InvalidState:
        """The error of a state that no stream leads to in this framing; `what` says what is in the state."""
        return InvalidState(f"{what}: no state of {self!r}; load it into a framing of the same max and oversize")

    def _read_dropped(self, state: StateReader) -> int:
        """How many bytes of a message that is being skipped have come already; 0 if none is."""
        dropped = state.read_number("dropped")
        if dropped and (self.oversize == "close" or dropped <= self.max):
            raise self._impossible(f"{dropped} bytes dropped of a skipped message")
        return dropped

    @property
    def held(self) -> int:
        """How many bytes of unfinished input are held now."""
        return len(self._held)

    @property
    def beginning(self) -> bytes | bytearray:
        """The held bytes of an unfinished message, from its beginning; do not change them."""
        return self._held

    @property
    def unfinished(self) -> bool:
        """Whether the stream is inside a message that has begun and is not whole."""
        return self._arrived() is not None

    def _arrived(self) -> int | None:
        """How many bytes of the unfinished message, or of its header, have come; `None` between two messages."""
        return len(self._held) or None

    def _check(self) -> None:
        """Raise the failure again, without earlier tracebacks. `receive` begins with it."""
        if self.failure is not None:
            raise self.failure.with_traceback(None)

    def _fail(self, failure: UnreadableStream, messages: list[bytes]) -> list[bytes]:
        """
        End the stream with `failure`, the peer's fault: what is held is dropped.

        Returns the `messages` before the fault, for `receive` to return; raises the fault if there are none.
        """
        self._held = b""
        self.failure = without_frames(failure)
        if messages:
            return messages
        raise failure

    def _hold(self, piece: bytes) -> None:
        """
        Keep `piece`, the bytes of an unfinished message, behind what is held.

        The first piece is kept as it came. From the second on, pieces are gathered in a `bytearray`, which grows in
        linear time and holds one byte in one byte. A list of 1-byte pieces would take thirty times as much.
        """
        held = self._held
        if not held:
            self._held = piece
        elif isinstance(held, bytearray):
            held += piece
        else:
            self._held = bytearray(held)
            self._held += piece

    def _with_held(self, piece: bytes) -> bytes:
        """
        The held bytes and `piece`, joined; nothing is held any more.

        Call it only when a message can be whole, and not for each chunk: it copies all that is held.
        """
        held = self._held
        if not held:
            return piece
        self._held = b""
        return b"".join((held, piece))

    def _too_long(self, size: int, seen: str = "has come") -> MessageTooLong:
        """The fault of a message of `size` bytes, over ``max``, for `_fail`; `seen` says how the size is known."""
        text = f"a message of {size} bytes {seen}; at most {self.max} (max) are accepted"
        return MessageTooLong(text, value=size, limit=self.max)

    # Sending

    @abstractmethod
    def frame(self, message: bytes) -> bytes:
        """The bytes that carry `message`. Raises only `UnsendableMessage`, our fault."""

    def frame_all(self, messages: list[bytes]) -> bytes:
        """
        The bytes that carry `messages`, one after the other: the fast way for all replies to one chunk.

        Raises `UnsendableMessage` for the first that cannot be sent; then none of them is framed.
        """
        return b"".join([self.frame(message) for message in messages])

    def _sendable(self, message: bytes) -> None:
        """Raise `UnsendableMessage`, our fault, for a `message` over ``max`` or not bytes. `frame` begins with it."""
        if not isinstance(message, bytes):
            refuse_type(message)
        if len(message) > self.max:
            raise UnsendableMessage(
                f"a message of {len(message)} bytes; at most {self.max} (max) are sent: "
                "make it shorter, or the framing's max larger"
            )

    def _all_sendable(self, messages: list[bytes]) -> bool:
        """Whether `_sendable` would accept each of `messages`, without a Python step for each."""
        return set(map(type, messages)) == {bytes} and max(map(len, messages)) <= self.max

    # As a value

    def _options(self) -> dict[str, Any]:
        """The options that differ from their defaults, in the order of the constructor."""
        found = {name: getattr(self, name) for name in self._defaults}
        return {name: value for name, value in found.items() if value != self._defaults[name]}

    def _spec(self) -> tuple[str, dict[str, Any]]:
        """The name and the options of the spec that makes this framing."""
        return self._name, self._options()

    @override
    def __str__(self) -> str:
        name, options = self._spec()
        return "".join([name, *(f":{key}={_written(value)}" for key, value in options.items())])

    @override
    def __repr__(self) -> str:
        return _call(self, self._options())

    @override
    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._defaults)

    @override
    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self._defaults)))


def _call(framing: Framing, options: dict[str, Any]) -> str:
    return f"{type(framing).__name__}({', '.join(f'{key}={value!r}' for key, value in options.items())})"


def kind_of(framing: Framing) -> str:
    """What a state of `framing` has to be loaded into: its class, and its options without ``max`` and ``oversize``."""
    return _call(framing, {key: value for key, value in framing._options().items() if key not in ("max", "oversize")})


def restore(framing: Framing, own: bytes, held: bytes | bytearray) -> None:
    """Set the state of a fresh `framing` from what it has written of its own, and the held bytes."""
    if len(held) > framing._most_held():
        raise framing._impossible(f"{len(held)} bytes held")
    framing._held = held
    state = StateReader(own)
    framing._read_state(state)
    state.finish()


def _written(value: object) -> str:
    return escape(value if isinstance(value, bytes) else str(value).encode())


def refuse_type(message: object) -> NoReturn:
    """Raise the `UnsendableMessage` of a `message` that is not `bytes`: it names its type, and the right type."""
    hint = "encode it, or give the connection a codec" if isinstance(message, str) else "give its bytes, or a codec"
    raise UnsendableMessage(f"a message is bytes, not {type(message).__name__}: {hint}")


def whole(name: str, value: object, least: int, most: int = sys.maxsize) -> int:
    """`value` if it is a whole number from `least` to `most`; otherwise `InvalidFraming` that names the option."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        if most < sys.maxsize:
            takes = f"{least} to {most}"
        else:  # no stream is as long: a bound that need not be named
            takes = f"{least} or more" if least > -sys.maxsize else "negative too"
        raise InvalidFraming(f"{name}={value!r}: takes a whole number, {takes}")
    return value


def marker(name: str, value: object) -> bytes:
    """`value` if it can mark where a message ends or starts; otherwise `InvalidFraming` that names the option."""
    if not isinstance(value, bytes) or not value:
        raise InvalidFraming(f"{name}={value!r}: takes bytes, one or more")
    return value


def quoted(piece: bytes, most: int = 16) -> str:
    """Bytes of a peer for an error's text: escaped, and cut after `most` bytes."""
    return repr(bytes(piece[:most])) + ("…" if len(piece) > most else "")
