"""The contract of all codecs, and how their errors show bytes of a peer."""

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
"""What happens with a peer's message that cannot be decoded: the connection is closed, or the app gets the error."""

QUOTED = 80
"""The most characters of a peer's bytes in an error: one line of a log."""

BYTE_WEIGHT = 32
"""Bytes of memory that `Codec.weight` counts for each byte of a message. 24 MiB of JSON became 578 to 801 MiB."""

VALUE_WEIGHT = 64
"""Bytes of memory of a value without content: an empty `dict`."""


def uncollected(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call this while Python's garbage collector, which is on, is off. Returns and raises what it does."""
    gc.disable()
    try:
        return call(*arguments)
    finally:
        gc.enable()


class Codec(Generic[T]):
    """
    Message bytes ↔ values of type `T`.

    A codec has no state: one is given to a factory and serves all its connections, in any thread. To write another,
    make a subclass, set `name`, and define `decode` and `encode` as described here.

    - `name`: the codec's word in specs and errors.
    - `invalid`: what a connection does with a message that cannot be decoded; `decode` raises in either case. With
      ``"close"`` it closes, with the `UndecodableMessage` as its reason. With ``"deliver"`` the app gets that error in
      place of the value, and the connection stays open.
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
        """The value of `message`. Raises only `UndecodableMessage`, the peer's fault."""
        raise NotImplementedError

    def encode(self, value: T) -> bytes:
        """The message of `value`. Raises only `UnsendableMessage`, our fault."""
        raise NotImplementedError

    def read(self, message: bytes) -> T | UndecodableMessage:
        """Like `decode`; if `invalid` is ``"deliver"``, the error itself, without its frames, is returned."""
        try:
            return self.decode(message)
        except UndecodableMessage as error:
            if self.invalid == "deliver":
                return without_frames(error)
            raise

    def weight(self, message: bytes) -> int:
        """
        An upper bound of the bytes of memory that the value of `message` takes, from its bytes alone.

        ``max_buffered`` counts it for a message that waits decoded. It is called for any `message`, also an invalid
        one, and must not raise. It does not include `message` itself, nor objects that an app's own code makes while a
        value is decoded (a ``__post_init__``).

        By default it is ``BYTE_WEIGHT`` times the length of the message: as for the densest JSON. A codec of your own
        with smaller values can return less.
        """
        return VALUE_WEIGHT + BYTE_WEIGHT * len(message)

    @override
    def __str__(self) -> str:
        """The spec of this codec; a `type` cannot be written in a spec and is left out."""
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
    """The error for a peer's `message`; its bytes and the reader's text are escaped and cut."""
    shown = quoted(repr(message[:QUOTED]))
    return UndecodableMessage(f"not {wanted}: {_why(error)}; got {len(message)} bytes: {shown}", message=message)


def unsendable(codec: Codec[Any], takes: str, value: object, error: Exception) -> UnsendableMessage:
    """The error for our own `value`, which is named only by its type: its ``repr`` can be huge, or fail."""
    kind = type(value).__qualname__
    return UnsendableMessage(f"{codec.name} cannot send this {kind}: {_why(error)}; it takes {takes}")


def _why(error: Exception) -> str:
    """`error` in a few words: the errors of msgspec and of a type can hold the peer's text."""
    if isinstance(error, (UnicodeDecodeError, UnicodeEncodeError)):
        return f"{error.reason} at {error.start}"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return quoted(repr(str(error)[:QUOTED])[1:-1])


def quoted(text: str) -> str:
    """`text` cut to `QUOTED` characters."""
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 1]}…"
