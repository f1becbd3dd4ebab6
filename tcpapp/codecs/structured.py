"""JSON and MessagePack, encoded and decoded by msgspec."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from typing import Any, ClassVar, get_origin, overload

from typing_extensions import override

from tcpapp.codecs.base import Codec, Invalid, T, quoted, uncollected, undecodable, unsendable
from tcpapp.codecs.decoded_size import costs_of, json_size, msgpack_size
from tcpapp.codecs.peer_keys import MAX_KEYS, json_guard, msgpack_guard
from tcpapp.codecs.value_types import types_within
from tcpapp.errors import InvalidOption

__all__ = ["Json", "MessagePack"]

UNCOLLECTED = 1400
"""
From this size in bytes on, Python's garbage collector is off while a message is decoded, and while the app handles it
without waiting.

Up to CPython 3.11 it runs during allocations, and scans the same growing value again and again: 1 MB of ``[[],[],…]``
took 77 to 110 ms, and takes 15 without it. It begins with 700 objects, and each takes at least 2 bytes of a message.
"""


_ENCODABLE = "None, bool, int, float, str, bytes, list, dict, dataclasses, msgspec Structs, …, not nested without end"


class _Structured(Codec[T]):
    """Shared part of `Json` and `MessagePack`: msgspec's decoder and encoder, made once."""

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
                f"type={quoted(repr(type))}: takes a type msgspec can validate: a Struct, dataclass or TypedDict,"
                f" int, str, list[int], dict[str, int], a union, … ({quoted(str(error))})"
            ) from error
        self._encode = module.Encoder().encode
        self._decode = self._guard(type, max_keys, decode)
        self._size: Callable[[bytes], int] = self._sizes(costs_of(types_within(type)))
        self.max_keys = max_keys
        self.type = type

    @override
    def decode(self, message: bytes) -> T:
        """
        Return the value. Raises `UndecodableMessage` if `message` is not one whole value of the format, or not of
        `type`.

        Nesting deeper than Python's recursion limit, numbers out of range, and more keys than ``max_keys`` are refused
        like any other fault. Python's collector, if it is on, is off while a large message is decoded.
        """
        try:
            if len(message) >= UNCOLLECTED and gc.isenabled():
                return uncollected(self._decode, message)  # type: ignore[no-any-return]  # msgspec answers for the type
            return self._decode(message)  # type: ignore[no-any-return]
        except Exception as error:
            raise undecodable(self._wanted(), message, error) from error

    @override
    def weight(self, message: bytes) -> int:
        """Return a bound as `Codec.weight` does. It makes a few passes over the bytes in C, whatever the value."""
        return self._size(message)

    @override
    def encode(self, value: T) -> bytes:
        """
        Return the message. Raises `UnsendableMessage` for a value that the format cannot represent.

        The type checker checks that `value` is of `type` (`T`). Nothing is validated here, so a reply can be of another
        type than the received messages.
        """
        try:
            return self._encode(value)  # type: ignore[no-any-return]  # msgspec answers for the type
        except Exception as error:
            raise unsendable(self, _ENCODABLE, value, error) from error

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

    - `type`: the type of each message; `None` allows any value. msgspec validates and builds it: a ``Struct``, a
      dataclass, ``list[int]``, a union. Without `type`, values are `None`, `bool`, `int`, `float`, `str`, `list` and
      `dict`; the last of equal keys counts. NaN, a float out of range, and an int of more than 4,300 digits are
      refused.
    - `max_keys`: the most keys of dicts and members of sets in one message whose hashes a peer can choose; 0: no limit.
      It matters only if `type` has keys that are numbers, or made of numbers (`tcpapp.codecs.peer_keys`): integers from
      19 digits on, and each ``float``, ``Decimal``, ``UUID``, time, tuple, and part of a tuple or object.
    - `invalid`: see `Codec`.

    Sent messages hold no line break, so they fit the ``line`` framing (JSON Lines). msgspec converts values that JSON
    lacks: `bytes` to base64, dates to ISO 8601, `set` to an array, NaN to ``null``. ::

        b'{"id":1}' ↔ {"id": 1}

    Raises `InvalidOption` for an invalid `type`, and if msgspec is not installed.
    """

    __slots__ = ()

    name = "json"
    _format = "one JSON value (RFC 8259)"
    _guard = staticmethod(json_guard)
    _sizes = staticmethod(json_size)


class MessagePack(_Structured[T]):
    r"""
    MessagePack (github.com/msgpack/msgpack, spec.md) through msgspec: one value in a message.

    - `type`: the type of each message; `None` allows any value. Without `type`, values are those of `Json`, `bytes`,
      ``datetime`` (the timestamp extension) and ``msgspec.msgpack.Ext``; keys are `str`, `bytes`, numbers, `bool`,
      `None` and times. A key that is an array is refused, unless `type` has tuples as keys.
    - `max_keys`: see `Json`; integers count from 9 bytes on. With 0 there is no limit, and arrays can be keys.
    - `invalid`: see `Codec`.

    Messages can hold any byte: use a framing with a length (``int32``, ``varint``), not one with a delimiter. ::

        b"\x81\xa2id\x01" ↔ {"id": 1}

    Raises `InvalidOption` for an invalid `type`, and if msgspec is not installed.
    """

    __slots__ = ()

    name = "msgpack"
    _format = "one MessagePack value"
    _guard = staticmethod(msgpack_guard)
    _sizes = staticmethod(msgpack_size)


def _msgspec(name: str) -> Any:
    """The module ``msgspec.<name>``."""
    try:
        return importlib.import_module(f"msgspec.{name}")
    except ImportError as error:
        raise InvalidOption(f"codec {name}: needs msgspec, not installed here: pip install 'tcpapp[codecs]'") from error


def _type_name(kind: Any) -> str:
    # list[int] is an instance of type in Python 3.10, and its __qualname__ is "list"
    plain = isinstance(kind, type) and get_origin(kind) is None
    return kind.__qualname__ if plain else repr(kind)
