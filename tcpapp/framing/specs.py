"""Framings by their specs: ``line``, ``int32:max=65536``, ``delimited:by=\\x03`` …"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from tcpapp.errors import InvalidFraming
from tcpapp.framing.base import Framing
from tcpapp.framing.blocks import MLLP, Blocks
from tcpapp.framing.cobs import Cobs
from tcpapp.framing.fixed import Fixed
from tcpapp.framing.length import PRESET_WIDTHS, LengthPrefixed
from tcpapp.framing.lines import Delimited, Lines
from tcpapp.framing.netstrings import Netstrings
from tcpapp.framing.raw import Raw
from tcpapp.framing.slip import Slip
from tcpapp.framing.varint import Varint
from tcpapp.spec import InvalidSpec, shown, split, suggest

__all__ = ["SPECS", "from_string"]

_NUMBER = re.compile(rb"-?[0-9]{1,19}")


def _number(key: str, value: bytes) -> int:
    if not _NUMBER.fullmatch(value):
        raise InvalidFraming(f"{key}={_shown(value)}: takes a whole number, in digits")
    return int(value)


def _bytes(_key: str, value: bytes) -> bytes:
    return value


def _choice(*choices: str) -> Callable[[str, bytes], str]:
    def choose(key: str, value: bytes) -> str:
        word = value.decode("utf-8", "replace")
        if word not in choices:
            raise InvalidFraming(f"{key}={_shown(value)}: takes {' or '.join(choices)}{suggest(word, choices)}")
        return word

    return choose


def _shown(value: bytes) -> str:
    return repr(value.decode("utf-8", "backslashreplace"))


Reader = Callable[[str, bytes], Any]

_COMMON: dict[str, Reader] = {"max": _number, "oversize": _choice("close", "skip")}
_LENGTH: dict[str, Reader] = {
    "width": _number,
    "order": _choice("big", "little"),
    "offset": _number,
    "adjust": _number,
    "strip": _number,
}
_FORMS: dict[str, tuple[Callable[..., Framing], dict[str, Reader]]] = {
    "raw": (Raw, {}),
    "line": (Lines, {"delimiter": _bytes}),
    "delimited": (Delimited, {"by": _bytes}),
    **{f"int{8 * width}": (partial(LengthPrefixed, width), {}) for width in PRESET_WIDTHS},
    "length": (LengthPrefixed, _LENGTH),
    "varint": (Varint, {}),
    "netstring": (Netstrings, {}),
    "fixed": (Fixed, {"size": _number}),
    "mllp": (partial(Blocks, *MLLP), {}),
    "blocks": (Blocks, {"start": _bytes, "end": _bytes}),
    "slip": (Slip, {}),
    "cobs": (Cobs, {}),
}
_REQUIRED = {"delimited": ("by",), "fixed": ("size",), "blocks": ("start", "end")}

SPECS = tuple(_FORMS)
"""The names that a spec can begin with."""


def from_string(spec: str | Framing) -> Framing:
    """
    The framing that `spec` describes; a framing is returned as it is.

    A spec is a name and options, ``name:key=value:key=value``, with escapes as in `tcpapp.spec`. All framings take
    ``max`` (bytes) and ``oversize`` (``close`` or ``skip``). The `str` of a framing makes an equal one. Raises
    `InvalidFraming`, which names the option, what it takes, and a similar name.
    """
    if isinstance(spec, Framing):
        return spec
    if not isinstance(spec, str):
        made = f"{spec.__name__}(…)" if isinstance(spec, type) and issubclass(spec, Framing) else "Lines()"
        raise InvalidFraming(f"{spec!r}: a framing is a spec such as 'line', or an object such as {made}")
    try:
        name, given = split(spec)
    except (InvalidSpec, UnicodeError) as error:
        raise InvalidFraming(str(error)) from None
    if name not in _FORMS:
        raise InvalidFraming(f"{name!r} is no framing; there are {', '.join(SPECS)}{suggest(name, SPECS)}")
    try:
        return _made(name, given)
    except InvalidFraming as error:
        raise InvalidFraming(f"{name}: {error}") from None


def _made(name: str, given: dict[str, bytes]) -> Framing:
    make, readers = _FORMS[name]
    readers = {**readers, **_COMMON}
    for key in given:
        if key not in readers:
            raise InvalidFraming(
                f"{shown(key)}= is no option of it; it takes {', '.join(readers)}{suggest(key, readers)}"
            )
    for key in _REQUIRED.get(name, ()):
        if key not in given:
            raise InvalidFraming(f"{key}= is missing; it takes {', '.join(readers)}")
    return make(**{key: readers[key](key, value) for key, value in given.items()})
