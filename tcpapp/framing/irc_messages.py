"""A message of IRC, as a value and as a line: ``@time=12:00 :ann!a@host PRIVMSG #room :hello all``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tcpapp.errors import MalformedFrame, UnreadableStream, UnsendableMessage
from tcpapp.framing.base import quoted
from tcpapp.framing.irc_tags import read_tags, write_tags

__all__ = ["LONGEST", "LONGEST_TAGS", "IrcMessage", "read_message", "write_message"]

LONGEST = 512
"""The most bytes of a line without its tags, CR LF included (RFC 1459, section 2.3)."""

LONGEST_TAGS = 8191
"""The most bytes of the tags, from ``@`` to the space behind them (IRCv3, message tags)."""

COMMAND = re.compile(r"[A-Za-z]+|[0-9]{3}")
FORBIDDEN = re.compile(rb"[\r\n\0]")


class IrcMessage(NamedTuple):
    """
    A message: only the last of its `parameters` can have spaces, and `source` is the sender that a server names.

    Text is UTF-8. Other bytes become lone surrogates, as in Python's file names, and are sent again as they came.
    """

    command: str
    parameters: tuple[str, ...] = ()
    source: str = ""
    tags: Mapping[str, str] = MappingProxyType({})


def read_message(line: bytes, longest_tags: int = LONGEST_TAGS) -> IrcMessage:
    """Return the message in a `line` without its end. Raises `MalformedFrame`."""
    tags, space, rest = line.partition(b" ") if line.startswith(b"@") else (b"", b"", line)
    for part, most in ((tags + space, longest_tags), (rest, LONGEST - 2)):
        if len(part) > most:
            raise MalformedFrame(f"{len(part)} bytes of {quoted(part)}", value=len(part), limit=most)
    if FORBIDDEN.search(line):
        raise MalformedFrame(f"{quoted(line, 80)}: a message has no CR, LF and NUL")
    return _message(_text(tags[1:]), _text(rest).lstrip(" "))


def _message(tags: str, text: str) -> IrcMessage:
    source = ""
    if text.startswith(":"):
        source, _, text = text[1:].partition(" ")
    words, colon, last = text.partition(" :")
    command, *parameters = [each for each in words.split(" ") if each] or [""]
    if not COMMAND.fullmatch(command):
        raise MalformedFrame(f"{command!r:.80}: a command is letters, or 3 digits")
    return IrcMessage(command.upper(), (*parameters, *([last] if colon else [])), source, read_tags(tags))


def _text(part: bytes) -> str:
    return part.decode("utf-8", "surrogateescape")


def write_message(message: IrcMessage) -> bytes:
    """Return the line of `message`. Raises `UnsendableMessage` for a message that would be read as another one."""
    command, parameters, source, tags = message
    words = [command, *parameters]
    if parameters and (not words[-1] or words[-1].startswith(":") or " " in words[-1]):
        words[-1] = f":{words[-1]}"
    before = [f"@{write_tags(tags)}"] * bool(tags) + [f":{source}"] * bool(source)
    line = " ".join([*before, *words]).encode("utf-8", "surrogateescape")
    try:
        same = read_message(line) == message
    except UnreadableStream as error:
        raise UnsendableMessage(f"{message!r:.200}: {error}") from error
    if not same:
        raise UnsendableMessage(
            f"{message!r:.200}: only the last parameter can be empty, have a space or begin with ':'"
        )
    return line + b"\r\n"
