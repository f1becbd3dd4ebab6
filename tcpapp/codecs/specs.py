"""Making codecs from their specs."""

from __future__ import annotations

from typing import Any, overload

from tcpapp.codecs.base import Codec, T
from tcpapp.codecs.structured import Json, MessagePack
from tcpapp.codecs.text import Text
from tcpapp.errors import InvalidOption
from tcpapp.spec import InvalidSpec, shown, split, suggest

__all__ = ["from_string"]

_KNOWN: dict[str, type[Codec[Any]]] = {known.name: known for known in (Text, Json, MessagePack)}

_TAKES = {"invalid": "invalid=close or invalid=deliver", "max_keys": "max_keys=NUMBER"}


@overload
def from_string(spec: None) -> None: ...
@overload
def from_string(spec: str | Codec[T]) -> Codec[Any]: ...
def from_string(spec: str | Codec[Any] | None) -> Codec[Any] | None:
    """
    Return the codec that `spec` describes: ``text``, ``json`` or ``msgpack``, with ``:invalid=deliver`` as an option.

    ``json`` and ``msgpack`` take ``:max_keys=NUMBER``, too. A `Codec` is returned as it is, and so is `None`. Raises
    `InvalidOption`, the caller's fault.
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
