"""
The types of RESP.

============================== ===============================================================
type                           value
============================== ===============================================================
``$`` bulk string              `bytes`
``:`` integer, ``(`` bignum    `int`
``,`` double                   `float`
``#`` boolean                  `bool`
``_`` null, ``$-1``, ``*-1``   `None`
``*`` array                    `list`; a `tuple` can be sent, too
``%`` map                      `Map`; a `dict` can be sent, too
``~`` set                      `Set`; a `set` can be sent, too
``+`` simple string            `SimpleString`
``-``, ``!`` error             `ErrorReply`
``=`` verbatim string          `VerbatimString`
``>`` push                     `Push`
``|`` attributes               `Attributed`, with the value behind them
============================== ===============================================================
"""

from __future__ import annotations

from typing import Any, NamedTuple

from typing_extensions import override

__all__ = ["DEEPEST", "Attributed", "ErrorReply", "Map", "Push", "Set", "SimpleString", "VerbatimString"]

DEEPEST = 32
"""The most containers within each other. Our choice: hiredis began with 9, and apps read values by recursion."""


class SimpleString(bytes):
    """A simple string, such as ``OK``: bytes without CR and LF. It equals the same `bytes`, which are a bulk string."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return f"SimpleString({super().__repr__()})"


class ErrorReply(NamedTuple):
    """An error, simple or bulk. Its `text` begins with a code: ``ERR``, ``WRONGTYPE``, ``NOAUTH`` …"""

    text: bytes


class VerbatimString(NamedTuple):
    """A text for people, and its `format`, of three bytes: ``txt`` or ``mkd``."""

    format: bytes
    text: bytes


class Map(list[tuple[Any, Any]]):
    """
    A map: its pairs of key and value, in the order of the stream.

    It is not a `dict`, because a peer chooses the keys: there can be lists among them, the same key twice, and any
    number of keys with the same hash, which take minutes to store. Where you trust the peer, ``dict(map)`` makes one.
    """

    __slots__ = ()


class Set(list[Any]):
    """A set: its members in the order of the stream. It is not a Python `set` for the same reasons as in `Map`."""

    __slots__ = ()


class Push(list[Any]):
    """What a server says on its own, and not in reply to a request: the kind of it, and its parts."""

    __slots__ = ()


class Attributed(NamedTuple):
    """A `value` with `attributes`, which a client can ignore: how popular a key is, for example."""

    attributes: Map
    value: Any
