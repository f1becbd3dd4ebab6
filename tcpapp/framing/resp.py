"""RESP, the protocol of Redis, version 2 and 3."""

from __future__ import annotations

from typing import Any, Literal

from tcpapp.framing.parsers import parser
from tcpapp.framing.reader import Parse
from tcpapp.framing.resp_reader import read_request, read_value
from tcpapp.framing.resp_values import Attributed, ErrorReply, Map, Push, Set, SimpleString, VerbatimString
from tcpapp.framing.resp_writer import write, write_request

__all__ = ["Attributed", "ErrorReply", "Map", "Push", "Set", "SimpleString", "VerbatimString", "resp"]


def _write(message: Any, side: Literal["server", "client"], version: Literal[2, 3]) -> bytes:
    return write(message, version) if side == "server" else write_request(message)


@parser(frame=_write)
def resp(*, side: Literal["server", "client"] = "server", version: Literal[2, 3] = 2) -> Parse:  # noqa: ARG001 - for sending
    """
    RESP, the protocol of Redis::

        *2 $3 GET $3 key  →  [b"GET", b"key"], in a server
        $5 hello          →  b"hello", in a client

    A server receives requests, each a list of one `bytes` or more: an array of bulk strings, or a line of words. It
    sends values, and a client receives them: bytes, int, float, bool, `None`, lists, `SimpleString`, `ErrorReply`,
    `VerbatimString`, `Map`, `Set`, `Push` and `Attributed`. Where it sends, a `dict` is a map and a `set` a set.

    - `side`: ``"server"`` receives what a client sends, ``"client"`` what a server sends.
    - `version`: of what a server sends. Version 2 has no type for some values, and they are sent as Redis does: a map
      as an array, true as 1. A client receives both versions.

    ``max`` bounds a whole value, with all that is in it. Errors: `MalformedFrame` for anything else, for an integer
    over 64 bits, a big number over 4,300 digits, more than 32 containers within each other, and a streamed type
    (``$?``, ``*?``), which Redis does not send. Source: "Redis serialization protocol specification" (redis.io).
    """
    return (yield from read_request() if side == "server" else read_value())
