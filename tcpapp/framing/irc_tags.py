r"""
The tags before a message of IRC, as text: ``time=12:00;+draft/reply=a\sb;label`` (IRCv3, message tags).

In a value ``;`` is written ``\:``, a space ``\s``, and CR, LF and ``\`` with a ``\``, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["read_tags", "write_tags"]

ESCAPES = {";": r"\:", " ": r"\s", "\\": r"\\", "\r": r"\r", "\n": r"\n"}
CHARACTERS = {escape: character for character, escape in ESCAPES.items()}

ESCAPE = re.compile(r"\\.?")
ESCAPED = re.compile(r"[; \\\r\n]")


def read_tags(text: str) -> dict[str, str]:
    """Return the tags in `text`, each with its value: of a repeated one, the last; of one without a value, ``""``."""
    pairs = [each.partition("=") for each in text.split(";")]
    return {name: ESCAPE.sub(_character, value) for name, _, value in pairs if name}


def write_tags(tags: Mapping[str, str]) -> str:
    """Return the text of `tags`. What is no name of a tag is written as it is: `read_tags` reads other tags from it."""
    pairs = [(name, ESCAPED.sub(_escape, value)) for name, value in tags.items()]
    return ";".join([f"{name}={value}" if value else name for name, value in pairs])


def _character(escape: re.Match[str]) -> str:
    """Return what an escape stands for: an unknown one for its character, and a lone backslash for nothing."""
    return CHARACTERS.get(escape[0], escape[0][1:])


def _escape(character: re.Match[str]) -> str:
    return ESCAPES[character[0]]
