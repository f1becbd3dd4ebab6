"""The base class of all codecs, and the errors that show bytes of a peer."""

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
"""For a message that cannot be decoded: close the connection, or deliver the error to the app."""

QUOTED = 80
"""The most characters of a peer's bytes in an error, so that the error fits in one line of a log."""

BYTE_WEIGHT = 32
"""Bytes of memory that `Codec.weight` counts for each byte of a message. We measured 24 to 33 with dense JSON."""

VALUE_WEIGHT = 64
"""Bytes of memory of a value without content, such as an empty `dict`."""


def uncollected(call: Callable[..., Any], *arguments: Any) -> Any:
    """
    Call this with Python's garbage collector switched off, and switch it on again. Returns and raises as the call does.
    """
    gc.disable()
    try:
        return call(*arguments)
    finally:
        gc.enable()


class Codec(Generic[T]):
    """
    Message bytes ↔ values of type `T`.

    A codec has no state: one codec serves all connections of a factory, in any thread. To write your own codec, make a
    subclass, set `name`, and define `decode` and `encode` as described here.

    - `name`: the name of the codec in specs and errors.
    - `invalid`: what a connection does with a message that cannot be decoded. With ``"close"`` it closes, and the
      `UndecodableMessage` is its reason. With ``"deliver"`` the app gets that error in place of the value, and the
      connection stays open. `decode` raises the error in either case.
    """

    __slots__ = ("invalid",)

    name: ClassVar[str] = "codec"
    options: ClassVar[tuple[str, ...]] = ("invalid",)
    """The options of this codec's specs."""

    def __init__(self, *, invalid: Invalid = "close") -> None:
        if invalid not in get_args(Invalid):
            near = suggest(str(invalid), get_args(Invalid))
            raise InvalidOption(f"invalid={invalid!r}: takes 'close' or 'deliver'{near}")
        self.invalid = invalid

    def decode(self, message: bytes) -> T:
        """Decode `message` and return its value. Raises `UndecodableMessage`, the peer's fault, and nothing else."""
        raise NotImplementedError

    def encode(self, value: T) -> bytes:
        """Encode `value` and return the message. Raises `UnsendableMessage`, our fault, and nothing else."""
        raise NotImplementedError

    def read(self, message: bytes) -> T | UndecodableMessage:
        """
        Decode `message` as `decode` does. If `invalid` is ``"deliver"``, return an error, without its frames, instead
        of raising it.
        """
        try:
            return self.decode(message)
        except UndecodableMessage as error:
            if self.invalid == "deliver":
                return without_frames(error)
            raise

    def weight(self, message: bytes) -> int:
        """
        Return an upper bound of the bytes of memory that the value of `message` takes. It does not decode the message.

        ``max_buffered`` counts this number for a decoded message that waits for the app. The method is called for any
        `message`, also for an invalid one, and must not raise. The number does not include `message` itself, nor
        objects that an app's own code makes while a value is decoded (a ``__post_init__``).

        By default it is ``BYTE_WEIGHT`` times the length of the message, as for the densest JSON. A codec of your own
        whose values are smaller can return less.
        """
        return VALUE_WEIGHT + BYTE_WEIGHT * len(message)

    @override
    def __str__(self) -> str:
        """Return the spec of this codec. It leaves out `type`, which cannot be written in a spec."""
        return ":".join([self.name, *(f"{name}={value}" for name, value in self._changed().items())])

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._arguments())})"

    def _arguments(self) -> list[str]:
        return [f"{name}={value!r}" for name, value in self._changed().items()]

    def _changed(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        return {} if self.invalid == "close" else {"invalid": self.invalid}


def undecodable(wanted: str, message: bytes, error: Exception) -> UndecodableMessage:
    """Return the error for a peer's `message`. Its text shows the bytes of the peer escaped and cut."""
    shown = quoted(repr(message[:QUOTED]))
    return UndecodableMessage(f"not {wanted}: {_why(error)}; got {len(message)} bytes: {shown}", message=message)


def unsendable(codec: Codec[Any], takes: str, value: object, error: Exception) -> UnsendableMessage:
    """
    Return the error for our own `value`. Its text names only the type: the ``repr`` of a value can be huge, or fail.
    """
    kind = type(value).__qualname__
    return UnsendableMessage(f"{codec.name} cannot send this {kind}: {_why(error)}; it takes {takes}")


def _why(error: Exception) -> str:
    """Return `error` in a few words, because the errors of msgspec and of a type can hold the peer's text."""
    if isinstance(error, (UnicodeDecodeError, UnicodeEncodeError)):
        return f"{error.reason} at {error.start}"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return quoted(repr(str(error)[:QUOTED])[1:-1])


def quoted(text: str) -> str:
    """Return `text` cut to `QUOTED` characters."""
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 1]}…"
