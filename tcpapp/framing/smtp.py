"""SMTP: commands, replies and mails."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

from tcpapp.errors import UnsendableMessage
from tcpapp.framing.parsers import parser
from tcpapp.framing.smtp_lines import SmtpCommand, SmtpReply, read_command, read_reply, write_command, write_reply
from tcpapp.framing.smtp_mails import SmtpMail, read_mail, write_mail

__all__ = ["SmtpCommand", "SmtpMail", "SmtpReply", "smtp", "smtp_data"]

WRITERS: dict[type, Any] = {SmtpCommand: write_command, SmtpReply: write_reply, SmtpMail: write_mail}


def _write(message: SmtpCommand | SmtpReply | SmtpMail) -> bytes:
    write = WRITERS.get(type(message))
    if write is None:
        raise UnsendableMessage(f"{message!r:.80}: takes an SmtpCommand, an SmtpReply or an SmtpMail")
    return write(message)  # type: ignore[no-any-return]  # each of them returns bytes


@parser(max=65_536, frame=_write)
def smtp(*, side: Literal["server", "client"] = "server") -> Generator[Any, Any, SmtpCommand | SmtpReply]:
    r"""
    The commands and replies of SMTP::

        'MAIL FROM:<ann@example.com>'  →  SmtpCommand("MAIL", "FROM:<ann@example.com>"), in a server
        '250-example.com', '250 SIZE'  →  SmtpReply(250, "example.com\nSIZE"), in a client

    A server that replies 354 to ``DATA`` switches to `smtp_data`, and back when it has the mail. All three kinds of
    messages can be sent, by both sides.

    `side`: ``"server"`` receives what a client sends, ``"client"`` what a server sends. ``max`` bounds all lines of a
    reply, and 12,288 bytes are the most of a line.

    Errors: `MalformedFrame` for a line that ends with LF alone, has control characters, or is no reply. Source: RFC
    5321, sections 2.3.8, 4.1 and 4.2; RFC 4954, section 4, for the length of a line.
    """
    return (yield from read_command() if side == "server" else read_reply())


@parser(max=10_240_000, frame=_write)
def smtp_data() -> Generator[Any, Any, SmtpMail]:
    r"""
    The mails of SMTP, behind ``DATA``::

        'Subject: x', '', '..', '.'  →  SmtpMail(b"Subject: x\r\n\r\n.\r\n")

    Only CR LF, a dot and CR LF end a mail. ``max`` bounds it with its dots; 10,240,000 is the limit of Postfix.

    Errors: `MalformedFrame` for a mail with another CR or LF. A server that it is passed on to could take what is
    behind it for commands (SMTP smuggling, CVE-2023-51764). Source: RFC 5321, sections 4.1.1.4 and 4.5.2.
    """
    return (yield from read_mail())
