"""
Message bytes ↔ values: `Text`, `Json`, `MessagePack`.

A codec stands above the framing: the framing cuts the stream into messages, the codec says what each one means. With
a codec an app is handed values and replies with values; without one, bytes.

======================== ======================= ===============================================================
codec                    spec                    values
======================== ======================= ===============================================================
``Text()``               ``text``                `str`, as UTF-8 (RFC 3629)
``Json(type)``           ``json``                what JSON has (RFC 8259), or `type`; needs msgspec
``MessagePack(type)``    ``msgpack``             what MessagePack has (github.com/msgpack/msgpack, spec.md), or
                                                 `type`; needs msgspec
======================== ======================= ===============================================================

Each takes ``invalid=``, in a spec ``json:invalid=deliver``; `Json` and `MessagePack` also ``max_keys=``. msgspec comes
with ``pip install 'tcpapp[codecs]'`` and is imported when a codec that needs it is made, not before.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Literal, get_args, get_origin, overload

from typing_extensions import TypeVar, override

from tcpapp.decoded_size import costs_of, json_size, msgpack_size, text_size
from tcpapp.errors import InvalidOption, UndecodableMessage, UnsendableMessage, without_frames
from tcpapp.peer_keys import MAX_KEYS, json_guard, msgpack_guard
from tcpapp.spec import InvalidSpec, shown, split, suggest
from tcpapp.value_types import types_within

__all__ = ["Codec", "Invalid", "Json", "MessagePack", "Text", "from_string"]

T = TypeVar("T", default=Any)

Invalid = Literal["close", "deliver"]
"""What becomes of a peer's message that is no value: the connection is closed, or the app is handed the error."""

QUOTED = 80
"""The most characters an error shows of what a peer sent: one line of a log."""

BYTE_WEIGHT = 32
"""Bytes of memory that `Codec.weight` counts for each byte of a message. 24 MiB of JSON became 578 to 801 MiB."""

UNCOLLECTED = 1400
"""
Bytes of a message from which on Python's collector does not run while it is decoded, and while an app answers at once.

Up to CPython 3.11 it runs wherever objects are made, and looks through the same growing value again and again: 1 MB of
``[[],[],…]`` took 77 to 110 ms, and takes 15. It begins with 700 objects, and each takes 2 bytes of a message at least.
"""

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


class Text(Codec[str]):
    """
    Text in UTF-8 (RFC 3629), strictly: no byte is replaced or left out, in either direction.

    A byte order mark is kept, as U+FEFF. ::

        b"hall\\xc3\\xa5" ↔ "hallå"
    """

    __slots__ = ()

    name = "text"

    @override
    def decode(self, message: bytes) -> str:
        """The text. Raises `UndecodableMessage` where `message` is not UTF-8."""
        try:
            return message.decode()
        except Exception as error:
            raise _undecodable("UTF-8 text", message, error) from error

    @override
    def weight(self, message: bytes) -> int:
        """See `Codec.weight`: one, two or four bytes for each byte, by the widest character."""
        return text_size(message)

    @override
    def encode(self, value: str) -> bytes:
        """The UTF-8 of `value`. Raises `UnsendableMessage` for what is no `str`, or holds half a surrogate pair."""
        try:
            if not isinstance(value, str):
                raise TypeError("not a str")
            return str.encode(value)
        except Exception as error:
            raise _unsendable(self, "a str without lone surrogates", value, error) from error


_ENCODABLE = "None, bool, int, float, str, bytes, list, dict, dataclasses, msgspec Structs, …, not nested without end"


class _Structured(Codec[T]):
    """What `Json` and `MessagePack` share: msgspec's decoder and encoder, made once."""

    __slots__ = ("_decode", "_encode", "_size", "max_keys", "type")

    options = ("invalid", "max_keys")
    _format: ClassVar[str]
    _guard: ClassVar[Any]
    _sizes: ClassVar[Any]

    @overload
    def __init__(self, type: None = None, *, invalid: Invalid = "close", max_keys: int = MAX_KEYS) -> None: ...
    @overload
    def __init__(self, type: type[T], *, invalid: Invalid = "close", max_keys: int = MAX_KEYS) -> None: ...
    @overload
    def __init__(self, type: Any, *, invalid: Invalid = "close", max_keys: int = MAX_KEYS) -> None: ...
    def __init__(
        self,
        type: Any = None,  # noqa: A002 - msgspec's word
        *,
        invalid: Invalid = "close",
        max_keys: int = MAX_KEYS,
    ) -> None:
        super().__init__(invalid=invalid)
        if isinstance(max_keys, bool) or not isinstance(max_keys, int) or max_keys < 0:
            raise InvalidOption(f"max_keys={max_keys!r}: takes a whole number of keys, 0 or more (0: no limit)")
        module = _msgspec(self.name)
        try:
            decode = module.Decoder(Any if type is None else type).decode
        except Exception as error:
            raise InvalidOption(
                f"type={_quoted(repr(type))}: takes a type msgspec can validate: a Struct, dataclass or TypedDict,"
                f" int, str, list[int], dict[str, int], a union, … ({_quoted(str(error))})"
            ) from error
        self._encode = module.Encoder().encode
        self._decode = self._guard(type, max_keys, decode)
        self._size: Callable[[bytes], int] = self._sizes(costs_of(types_within(type)))
        self.max_keys = max_keys
        self.type = type

    @override
    def decode(self, message: bytes) -> T:
        """
        The value. Raises `UndecodableMessage` where `message` is not one whole value of the format, or not of `type`.

        Nesting deeper than Python's recursion limit, numbers out of range, and more keys than ``max_keys`` are refused
        like any other fault. Python's collector, if it is on, is off while a large message is decoded.
        """
        try:
            if len(message) >= UNCOLLECTED and gc.isenabled():
                return uncollected(self._decode, message)  # type: ignore[no-any-return]  # msgspec answers for the type
            return self._decode(message)  # type: ignore[no-any-return]
        except Exception as error:
            raise _undecodable(self._wanted(), message, error) from error

    @override
    def weight(self, message: bytes) -> int:
        """See `Codec.weight`. Its cost is that of a few passes over the bytes in C, whatever the value."""
        return self._size(message)

    @override
    def encode(self, value: T) -> bytes:
        """
        The message. Raises `UnsendableMessage` for a value the format has no form for.

        Whether `value` is of `type` is the type checker's to say (`T`); nothing is validated here, so a reply may be
        of another type than what is received.
        """
        try:
            return self._encode(value)  # type: ignore[no-any-return]  # msgspec answers for the type
        except Exception as error:
            raise _unsendable(self, _ENCODABLE, value, error) from error

    @override
    def _arguments(self) -> list[str]:
        return ([] if self.type is None else [_type_name(self.type)]) + super()._arguments()

    @override
    def _changed(self) -> dict[str, Any]:
        return super()._changed() | ({} if self.max_keys == MAX_KEYS else {"max_keys": self.max_keys})

    def _wanted(self) -> str:
        return self._format if self.type is None else f"{self._format} of type {_type_name(self.type)}"


class Json(_Structured[T]):
    r"""
    JSON (RFC 8259) through msgspec: one value in a message, in UTF-8.

    - `type`: what each message must be; any value where it is `None`. msgspec validates and builds it: a ``Struct``,
      a dataclass, ``list[int]``, a union. Without `type`, values are `None`, `bool`, `int`, `float`, `str`, `list`
      and `dict`; of a key given twice the last counts. NaN, a float out of range, an int over 4,300 digits are refused.
    - `max_keys`: the most keys of dicts and members of sets in one message whose hashes a peer can choose; 0: no limit.
      It counts only where `type` has keys that are numbers, or made of numbers (`tcpapp.peer_keys`): integers from 19
      digits on, and each ``float``, ``Decimal``, ``UUID``, time, tuple, and part of a tuple or object.
    - `invalid`: see `Codec`.

    What is sent holds no line break, so it fits the ``line`` framing (JSON Lines). What JSON has no form for is
    sent as msgspec has it: `bytes` as base64, dates in ISO 8601, `set` as an array, NaN as ``null``. ::

        b'{"id":1}' ↔ {"id": 1}

    Raises `InvalidOption` for a `type` that cannot be one, and where msgspec is not installed.
    """

    __slots__ = ()

    name = "json"
    _format = "one JSON value (RFC 8259)"
    _guard = staticmethod(json_guard)
    _sizes = staticmethod(json_size)


class MessagePack(_Structured[T]):
    r"""
    MessagePack (github.com/msgpack/msgpack, spec.md) through msgspec: one value in a message.

    - `type`: what each message must be; any value where it is `None`. Without `type`, values are those of `Json`,
      `bytes`, ``datetime`` (the timestamp extension) and ``msgspec.msgpack.Ext``; keys are `str`, `bytes`, numbers,
      `bool`, `None` and times. A key that is an array is refused, unless `type` has tuples as keys.
    - `max_keys`: see `Json`; integers count from 9 bytes on. With 0 there is no limit, and arrays may be keys.
    - `invalid`: see `Codec`.

    Messages hold any byte: use a framing that counts (``int32``, ``varint``), not one that delimits. ::

        b"\x81\xa2id\x01" ↔ {"id": 1}

    Raises `InvalidOption` for a `type` that cannot be one, and where msgspec is not installed.
    """

    __slots__ = ()

    name = "msgpack"
    _format = "one MessagePack value"
    _guard = staticmethod(msgpack_guard)
    _sizes = staticmethod(msgpack_size)


_KNOWN: dict[str, type[Codec[Any]]] = {known.name: known for known in (Text, Json, MessagePack)}

_TAKES = {"invalid": "invalid=close or invalid=deliver", "max_keys": "max_keys=NUMBER"}


@overload
def from_string(spec: None) -> None: ...
@overload
def from_string(spec: str | Codec[T]) -> Codec[Any]: ...
def from_string(spec: str | Codec[Any] | None) -> Codec[Any] | None:
    """
    The codec that `spec` describes: ``text``, ``json`` or ``msgpack``, with ``:invalid=deliver`` where it is wanted.

    ``json`` and ``msgpack`` take ``:max_keys=NUMBER``, too.

    A `Codec` is returned as it is, and so is `None`. Raises `InvalidOption`.
    """
    if spec is None or isinstance(spec, Codec):
        return spec
    if not isinstance(spec, str):
        raise InvalidOption(f"codec={spec!r}: takes 'text', 'json', 'msgpack', or a Codec such as Json()")
    try:
        name, options = split(spec)
    except InvalidSpec as error:
        raise InvalidOption(f"codec={error}, as in json:invalid=deliver") from error
    if name not in _KNOWN:
        raise InvalidOption(f"codec={spec!r}: takes 'text', 'json' or 'msgpack'{suggest(name, _KNOWN)}")
    known = _KNOWN[name]
    for key in (each for each in options if each not in known.options):
        takes = ", ".join(_TAKES[each] for each in known.options)
        near = suggest(key, known.options)
        raise InvalidOption(f"codec={spec!r}: {name} has no {shown(key)}=; takes {takes}{near}")
    given: dict[str, Any] = {key: value.decode("utf-8", "replace") for key, value in options.items()}
    if given.get("max_keys", "").isdecimal():
        given["max_keys"] = int(given["max_keys"][:20])
    return known(**given)


def _msgspec(name: str) -> Any:
    """The module ``msgspec.<name>``."""
    try:
        return importlib.import_module(f"msgspec.{name}")
    except ImportError as error:
        raise InvalidOption(f"codec {name}: needs msgspec, not installed here: pip install 'tcpapp[codecs]'") from error


def _undecodable(wanted: str, message: bytes, error: Exception) -> UndecodableMessage:
    """What to raise for a peer's `message`; what it and its reader say is shown escaped and cut short."""
    shown = _quoted(repr(message[:QUOTED]))
    return UndecodableMessage(f"not {wanted}: {_why(error)}; got {len(message)} bytes: {shown}", message=message)


def _unsendable(codec: Codec[Any], takes: str, value: object, error: Exception) -> UnsendableMessage:
    """What to raise for our own `value`, which is named by its type alone: its ``repr`` may be huge, or fail."""
    kind = type(value).__qualname__
    return UnsendableMessage(f"{codec.name} cannot send this {kind}: {_why(error)}; it takes {takes}")


def _why(error: Exception) -> str:
    """What `error` says, in a few words: msgspec's and a type's own errors may hold the peer's text."""
    if isinstance(error, (UnicodeDecodeError, UnicodeEncodeError)):
        return f"{error.reason} at {error.start}"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return _quoted(repr(str(error)[:QUOTED])[1:-1])


def _quoted(text: str) -> str:
    """`text` cut to `QUOTED` characters."""
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 1]}…"


def _type_name(kind: Any) -> str:
    # list[int] is an instance of type in Python 3.10, and its __qualname__ is "list"
    plain = isinstance(kind, type) and get_origin(kind) is None
    return kind.__qualname__ if plain else repr(kind)
