"""What every codec is, and how its errors show what a peer sent."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Literal, get_args

from typing_extensions import TypeVar, override

from tcpapp.errors import InvalidOption, UndecodableMessage, UnsendableMessage, without_frames
from tcpapp.spec import suggest

__all__ = ["Codec", "Invalid", "quoted", "undecodable", "unsendable"]

T = TypeVar("T", default=Any)

Invalid = Literal["close", "deliver"]
"""What becomes of a peer's message that is no value: the connection is closed, or the app is handed the error."""

QUOTED = 80
"""The most characters an error shows of what a peer sent: one line of a log."""

BYTE_WEIGHT = 32
"""Bytes of memory that `Codec.weight` counts for each byte of a message. 24 MiB of JSON became 578 to 801 MiB."""

VALUE_WEIGHT = 64
"""Bytes of memory of a value without content: an empty `dict`."""


def uncollected(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call this while Python's collector, which is on, is off. Returns and raises what it does."""
    gc.disable()
    try:
        return call(*arguments)
    finally:
        gc.enable()


class Codec(Generic[T]):
    """
    Message bytes ↔ values of type `T`.

    A codec has no state: one is given to a factory and serves all its connections, in any thread. To write another,
    subclass, set `name`, and define `decode` and `encode` as they are promised here.

    - `name`: the codec's word in specs and errors.
    - `invalid`: what a connection does with a message that is no value; `decode` raises in either case. ``"close"``:
      it closes, with the `UndecodableMessage` as its reason; ``"deliver"``: the app is handed that error in the
      value's place, and the connection lives on.
    """

    __slots__ = ("invalid",)

    name: ClassVar[str] = "codec"
    options: ClassVar[tuple[str, ...]] = ("invalid",)
    """What a spec of this codec may set."""

    def __init__(self, *, invalid: Invalid = "close") -> None:
        if invalid not in get_args(Invalid):
            near = suggest(str(invalid), get_args(Invalid))
            raise InvalidOption(f"invalid={invalid!r}: takes 'close' or 'deliver'{near}")
        self.invalid = invalid

    def decode(self, message: bytes) -> T:
        """The value that `message` is. Raises `UndecodableMessage`, the peer's fault, and nothing else ever."""
        raise NotImplementedError

    def encode(self, value: T) -> bytes:
        """The message that `value` is. Raises `UnsendableMessage`, our fault, and nothing else ever."""
        raise NotImplementedError

    def read(self, message: bytes) -> T | UndecodableMessage:
        """As `decode`; the error itself, without its frames, is returned where `invalid` is ``"deliver"``."""
        try:
            return self.decode(message)
        except UndecodableMessage as error:
            if self.invalid == "deliver":
                return without_frames(error)
            raise

    def weight(self, message: bytes) -> int:
        """
        An upper bound of the bytes of memory that the value of `message` takes, from its bytes alone.

        It is what ``max_buffered`` counts for a message that waits decoded. It is called for any `message`, also one
        that is no value, and must not raise. Not in it: `message` itself, and what an app's own code makes while a
        value is decoded (a ``__post_init__``).

        By default ``BYTE_WEIGHT`` times the message: what the densest JSON takes. A codec of your own whose values are
        smaller may say so.
        """
        return VALUE_WEIGHT + BYTE_WEIGHT * len(message)

    @override
    def __str__(self) -> str:
        """The spec of this codec; a `type` cannot be written in one and is left out."""
        return ":".join([self.name, *(f"{name}={value}" for name, value in self._changed().items())])

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._arguments())})"

    def _arguments(self) -> list[str]:
        return [f"{name}={value!r}" for name, value in self._changed().items()]

    def _changed(self) -> dict[str, Any]:
        """The options that are not as by default."""
        return {} if self.invalid == "close" else {"invalid": self.invalid}


def undecodable(wanted: str, message: bytes, error: Exception) -> UndecodableMessage:
    """What to raise for a peer's `message`; what it and its reader say is shown escaped and cut short."""
    shown = quoted(repr(message[:QUOTED]))
    return UndecodableMessage(f"not {wanted}: {_why(error)}; got {len(message)} bytes: {shown}", message=message)


def unsendable(codec: Codec[Any], takes: str, value: object, error: Exception) -> UnsendableMessage:
    """What to raise for our own `value`, which is named by its type alone: its ``repr`` may be huge, or fail."""
    kind = type(value).__qualname__
    return UnsendableMessage(f"{codec.name} cannot send this {kind}: {_why(error)}; it takes {takes}")


def _why(error: Exception) -> str:
    """What `error` says, in a few words: msgspec's and a type's own errors may hold the peer's text."""
    if isinstance(error, (UnicodeDecodeError, UnicodeEncodeError)):
        return f"{error.reason} at {error.start}"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return quoted(repr(str(error)[:QUOTED])[1:-1])


def quoted(text: str) -> str:
    """`text` cut to `QUOTED` characters."""
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 1]}…"
