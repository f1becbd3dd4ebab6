"""
Message bytes ↔ values: `Text`, `Json`, `MessagePack`.

A codec is above the framing: the framing splits the stream into messages, and the codec decodes each. With a codec an
app gets values and replies with values; without one, bytes.

======================== ======================= ===============================================================
codec                    spec                    values
======================== ======================= ===============================================================
``Text()``               ``text``                `str`, as UTF-8 (RFC 3629)
``Json(type)``           ``json``                what JSON has (RFC 8259), or `type`; needs msgspec
``MessagePack(type)``    ``msgpack``             what MessagePack has (github.com/msgpack/msgpack, spec.md), or
                                                 `type`; needs msgspec
======================== ======================= ===============================================================

Each takes ``invalid=``, in a spec ``json:invalid=deliver``; `Json` and `MessagePack` also ``max_keys=``. msgspec comes
with ``pip install 'tcpapp[codecs]'``, and is imported only when a codec that needs it is made.

Imports `errors` and `spec`.
New here: a codec is a class in a module here, and its word an entry in `specs`.
"""

from __future__ import annotations

from tcpapp.codecs.base import Codec, Invalid
from tcpapp.codecs.specs import from_string
from tcpapp.codecs.structured import Json, MessagePack
from tcpapp.codecs.text import Text

__all__ = ["Codec", "Invalid", "Json", "MessagePack", "Text", "from_string"]
