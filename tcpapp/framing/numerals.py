"""Whole numbers in a peer's text. `int` alone would accept ``+5``, ``1_000``, spaces, and digits of other scripts."""

from __future__ import annotations

import re

from tcpapp.errors import MalformedFrame
from tcpapp.framing.base import quoted

__all__ = ["decimal", "hexadecimal"]

_DECIMAL = re.compile(rb"[0-9]{1,18}")
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]{1,15}")
"""As many digits as are less than 2 to the power of 60: more than any length, and never work for a peer's digits."""


def decimal(text: bytes) -> int:
    """Return the number that `text` writes in decimal digits. Raises `MalformedFrame`, the peer's fault."""
    if not _DECIMAL.fullmatch(text):
        raise MalformedFrame(f"{quoted(text)}: takes 1 to 18 decimal digits")
    return int(text)


def hexadecimal(text: bytes) -> int:
    """Return the number that `text` writes in hexadecimal digits. Raises `MalformedFrame`, the peer's fault."""
    if not _HEXADECIMAL.fullmatch(text):
        raise MalformedFrame(f"{quoted(text)}: takes 1 to 15 hexadecimal digits")
    return int(text, 16)
