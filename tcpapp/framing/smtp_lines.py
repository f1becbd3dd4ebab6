"""The commands and replies of SMTP, as values and as lines (RFC 5321, sections 2.3.8, 4.1 and 4.2)."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any, NamedTuple

from tcpapp.errors import MalformedFrame, UnsendableMessage
from tcpapp.framing.base import quoted
from tcpapp.framing.wants import until

__all__ = ["SmtpCommand", "SmtpReply", "read_command", "read_reply", "write_command", "write_reply"]

LONGEST_LINE = 12_288
"""The most bytes of a line, CR LF included: as many as AUTH needs (RFC 4954, section 4); other commands have 512."""

VERB = re.compile(r"[!-~]+")
TEXT = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
REPLY = re.compile(r"([2-5][0-9][0-9])(?:([ -])([^\x00-\x08\x0a-\x1f\x7f]*))?")


class SmtpCommand(NamedTuple):
    """A command: its `verb` in capitals, and its `argument`, which is all the text behind it."""

    verb: str
    argument: str = ""


class SmtpReply(NamedTuple):
    r"""A reply: its `code`, and its `text`, in which ``\n`` separates the lines."""

    code: int
    text: str = ""


def read_command() -> Generator[Any, Any, SmtpCommand]:
    """Read a command."""
    verb, _, argument = (yield from _line()).partition(" ")
    return SmtpCommand(verb.upper() if verb.isascii() else verb, argument.strip(" "))


def read_reply() -> Generator[Any, Any, SmtpReply]:
    """Read a reply of any number of lines. All lines have the same code, and ``-`` behind the code of all but one."""
    code, lines, more = "", [], "-"
    while more == "-":
        line = yield from _line()
        found = REPLY.fullmatch(line)
        if found is None or code not in ("", found[1]):
            raise MalformedFrame(f"{line!r:.80}: a line of a reply has its code, a space or '-', and text")
        code, more = found[1], found[2]
        lines.append(found[3] or "")
    return SmtpReply(int(code), "\n".join(lines))


def _line() -> Generator[Any, Any, str]:
    line: bytes = yield until(b"\n", max=LONGEST_LINE - 1)
    text = line.removesuffix(b"\r").decode("utf-8", "surrogateescape")
    if not line.endswith(b"\r") or not TEXT.fullmatch(text):
        raise MalformedFrame(f"{quoted(line, 80)}: a line is text, and ends with CR LF")
    return text


def write_command(command: SmtpCommand) -> bytes:
    """Return the line of `command`. Raises `UnsendableMessage`."""
    if not VERB.fullmatch(command.verb):
        raise UnsendableMessage(f"{command.verb!r:.80}: a verb is visible characters of ASCII")
    return _written([f"{command.verb} {command.argument}".rstrip(" ")])


def write_reply(reply: SmtpReply) -> bytes:
    """Return the lines of `reply`. Raises `UnsendableMessage`."""
    if not 200 <= reply.code <= 599:
        raise UnsendableMessage(f"{reply.code!r:.80}: a code is a number from 200 to 599")
    *before, last = reply.text.split("\n")
    return _written([*(f"{reply.code}-{each}" for each in before), f"{reply.code} {last}"])


def _written(lines: list[str]) -> bytes:
    written = [f"{line}\r\n".encode("utf-8", "surrogateescape") for line in lines]
    if not all(map(TEXT.fullmatch, lines)) or max(map(len, written)) > LONGEST_LINE:
        raise UnsendableMessage(f"{lines!r:.80}: a line is text of at most {LONGEST_LINE} bytes")
    return b"".join(written)
