"""memcached's text protocol, with its classic and its meta commands."""

from __future__ import annotations

from typing import Literal

from tcpapp.framing.memcached_lines import ITEMS, REPLIES, REQUESTS, MemcachedMessage, read_line, write
from tcpapp.framing.parsers import parser
from tcpapp.framing.reader import Parse

__all__ = ["MemcachedMessage", "memcached"]

KEY = 250
"""The most bytes of a key, as in memcached. No other word of a request is as long."""


@parser(frame=write)
def memcached(*, side: Literal["server", "client"] = "server") -> Parse:
    """
    memcached's text protocol::

        'get key'                  →  MemcachedMessage((b"get", b"key"))
        'set key 0 60 5', 'hello'  →  MemcachedMessage((b"set", b"key", b"0", b"60"), b"hello")

    A server receives requests, and a client whole replies: the ``VALUE`` and ``STAT`` lines before ``END`` are `items`.
    The length of the data is left out, since `data` has it. `frame` takes both, and `bytes` for a line without data.

    `side`: ``"server"`` receives what a client sends, ``"client"`` what a server sends. ``max`` bounds a whole message.

    Lines end with CR LF; an LF alone ends them, too, as in memcached. Errors: `MalformedFrame` for a line without
    words, with control characters or without the length of its data, for a word of a request over 250 bytes, and if no
    CR LF is behind the data. Source: ``doc/protocol.txt`` of memcached 1.6.
    """
    if side == "server":
        return (yield from read_line(REQUESTS, KEY))
    items = []
    message = yield from read_line(REPLIES)
    while message.words[0] in ITEMS:
        items.append(message)
        message = yield from read_line(REPLIES)
    return message._replace(items=tuple(items))
