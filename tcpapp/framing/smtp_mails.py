"""A mail of SMTP: its lines, and the dots that keep them from ending it (RFC 5321, section 4.5.2)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from tcpapp.errors import MalformedFrame, UnsendableMessage
from tcpapp.framing.wants import exactly, peek, until

__all__ = ["SmtpMail", "read_mail", "write_mail"]

END = b".\r\n"


class SmtpMail(NamedTuple):
    """The content of a mail: its lines, each with CR LF at its end."""

    content: bytes


def read_mail() -> Generator[Any, Any, SmtpMail]:
    """Read a mail. One with another CR or LF than that at the end of a line is refused."""
    if (yield peek(len(END))) == END:
        yield exactly(len(END))
        return SmtpMail(b"")
    content: bytes = (yield until(b"\r\n" + END)) + b"\r\n"
    if _has_bare_ends(content):
        raise MalformedFrame("a CR or an LF alone in a mail: a line ends with CR LF")
    return SmtpMail(content.removeprefix(b".").replace(b"\r\n.", b"\r\n"))


def write_mail(mail: SmtpMail) -> bytes:
    """Return the bytes of `mail`. Raises `UnsendableMessage` if a line of it has no CR LF, or another CR or LF."""
    lines = b"\r\n" + mail.content
    if not lines.endswith(b"\r\n") or _has_bare_ends(lines):
        raise UnsendableMessage("a mail with a CR or an LF alone, or without an end: each line ends with CR LF")
    return lines.replace(b"\r\n.", b"\r\n..")[2:] + END


def _has_bare_ends(content: bytes) -> bool:
    return not content.count(b"\r\n") == content.count(b"\r") == content.count(b"\n")
