"""
Message bytes ↔ values: `Text`, `Json`, `MessagePack`.

The framing splits the stream into messages, and the codec decodes each message. With a codec an app gets values and
replies with values. Without one, it gets and returns bytes.

======================== ======================= ===============================================================
codec                    spec                    values
======================== ======================= ===============================================================
``Text()``               ``text``                `str`, as UTF-8 (RFC 3629)
``Json(type)``           ``json``                the types of JSON (RFC 8259), or `type`; needs msgspec
``MessagePack(type)``    ``msgpack``             its types (github.com/msgpack/msgpack, spec.md), or
                                                 `type`; needs msgspec
======================== ======================= ===============================================================

Each codec takes ``invalid=`` (in a spec: ``json:invalid=deliver``). `Json` and `MessagePack` also take ``max_keys=``.
``pip install 'tcpapp[codecs]'`` installs msgspec, which is imported only when a codec needs it.

Imports `errors` and `spec`. New here: a codec is a class in a module of its own, and an entry in `specs`.
"""

from __future__ import annotations

from tcpapp.codecs.base import Codec, Invalid
from tcpapp.codecs.specs import from_string
from tcpapp.codecs.structured import Json, MessagePack
from tcpapp.codecs.text import Text

__all__ = ["Codec", "Invalid", "Json", "MessagePack", "Text", "from_string"]
