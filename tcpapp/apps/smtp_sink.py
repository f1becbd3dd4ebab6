"""
Receive mails by SMTP (RFC 5321), and hand each to `SmtpSink.deliver`, which drops it.

It shows an app that switches its framing: behind DATA comes a mail, and behind the mail come commands again. Serve it
with ``--framing smtp``. To keep mails, make a subclass with a `deliver` of its own.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, ClassVar, NamedTuple

from tcpapp.connection.connection import Connection
from tcpapp.framing.smtp import SmtpCommand, SmtpMail, SmtpReply, smtp, smtp_data

__all__ = ["Mail", "SmtpSink", "smtp_sink"]

PATH = re.compile(r'(FROM|TO): ?<(?:@[^:<>\s]*:)?((?:"[^"]*"|[^<>"\s])*)>((?: [^ ]+)*)', re.IGNORECASE)
"""The argument of MAIL and RCPT: an address, without the route that could once be before it, and parameters."""

SIZE = re.compile(r"[0-9]{1,20}")
"""The digits of a SIZE (RFC 1870, section 3)."""

OK = SmtpReply(250, "OK")
SEQUENCE = SmtpReply(503, "Bad sequence of commands")
TOO_LONG = SmtpReply(552, "The mail is too long")
SYNTAX = SmtpReply(501, "Syntax error in the argument")


class Mail(NamedTuple):
    """A mail that was received: its `sender` (empty in a report of a failure), its `recipients`, its `content`."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


class SmtpSink:
    """One connection of a client that sends mails."""

    name: ClassVar[str] = "localhost"
    """The name of this server in its replies."""

    size: ClassVar[int] = 10_240_000
    """The most bytes of a mail, as in Postfix."""

    most_recipients: ClassVar[int] = 100
    """The most recipients of a mail: as many as a server must accept (RFC 5321, section 4.5.3.1.8)."""

    most_errors: ClassVar[int] = 20
    """The connection is closed at this many errors, as in Postfix (``smtpd_hard_error_limit``)."""

    tls: ClassVar[Any] = None
    """The context for `Connection.start_tls`; with `None`, there is no STARTTLS."""

    def __init__(self) -> None:
        self.errors = 0
        self._start()

    def _start(self) -> None:
        self.greeted = False
        self._forget_mail()

    def _forget_mail(self) -> None:
        self.sender: str | None = None
        self.recipients: list[str] = []

    def deliver(self, mail: Mail) -> SmtpReply | Awaitable[SmtpReply | None] | None:
        """Drop `mail`. A subclass can keep it, refuse it by a reply with another code than 250, and be async."""

    def opened(self, connection: Connection) -> SmtpReply:
        """Greet the client."""
        return SmtpReply(220, f"{self.name} ESMTP")

    def received(self, message: SmtpCommand | SmtpMail, connection: Connection) -> Any:
        """Reply to a command, or to a mail."""
        if isinstance(message, SmtpMail):
            connection.switch(smtp())
            return self._take(message)
        if message.verb == "STARTTLS" and self._has_starttls(connection):
            return self._start_tls(connection)
        reply = COMMANDS.get(message.verb, SmtpSink._unknown)(self, message.argument, connection)
        self.errors += reply.code >= 500
        if self.errors < self.most_errors:
            return reply
        connection.close()
        return SmtpReply(421, f"{self.name} closes: too many errors")

    def _take(self, message: SmtpMail) -> Any:
        mail = Mail(self.sender or "", tuple(self.recipients), message.content)
        self._forget_mail()
        if len(mail.content) > self.size:
            return TOO_LONG
        reply = self.deliver(mail)
        return self._when_delivered(reply) if isawaitable(reply) else reply or OK

    async def _when_delivered(self, reply: Awaitable[SmtpReply | None]) -> SmtpReply:
        return await reply or OK

    def _has_starttls(self, connection: Connection) -> bool:
        return self.tls is not None and connection.tls is None

    async def _start_tls(self, connection: Connection) -> None:
        """Go on with TLS. What the client said in plain is forgotten (RFC 3207, section 4.2)."""
        await connection.start_tls(self.tls, SmtpReply(220, "Go ahead"))
        self._start()

    def _hello(self, argument: str, connection: Connection) -> SmtpReply:
        if not argument:
            return SYNTAX
        self._start()
        self.greeted = True
        return SmtpReply(250, self.name)

    def _extended_hello(self, argument: str, connection: Connection) -> SmtpReply:
        reply = self._hello(argument, connection)
        extensions = ["PIPELINING", f"SIZE {self.size}", "8BITMIME", "SMTPUTF8"]
        if self._has_starttls(connection):
            extensions.append("STARTTLS")
        return reply if reply is SYNTAX else SmtpReply(250, "\n".join([self.name, *extensions]))

    def _mail(self, argument: str, connection: Connection) -> SmtpReply:
        path = PATH.fullmatch(argument)
        if path is None or path[1].upper() != "FROM":
            return SYNTAX
        if not self.greeted or self.sender is not None:
            return SEQUENCE
        refusal = self._refusal(path[3].upper().split())
        if refusal is None:
            self.sender = path[2]
        return refusal or OK

    def _refusal(self, parameters: list[str]) -> SmtpReply | None:
        """Return the reply to parameters of MAIL that are refused; `None` for the ones of our extensions."""
        for each in parameters:
            name, _, value = each.partition("=")
            if name == "SIZE" and SIZE.fullmatch(value):
                if int(value) > self.size:
                    return TOO_LONG
            elif each not in ("BODY=7BIT", "BODY=8BITMIME", "SMTPUTF8"):
                return SmtpReply(555, "This parameter is not known")
        return None

    def _recipient(self, argument: str, connection: Connection) -> SmtpReply:
        path = PATH.fullmatch(argument)
        if path is None or path[1].upper() != "TO" or not path[2]:
            return SYNTAX
        if self.sender is None:
            return SEQUENCE
        if path[3]:
            return SmtpReply(555, "This parameter is not known")
        if len(self.recipients) == self.most_recipients:
            return SmtpReply(452, f"A mail has at most {self.most_recipients} recipients")
        self.recipients.append(path[2])
        return OK

    def _data(self, argument: str, connection: Connection) -> SmtpReply:
        if argument:
            return SYNTAX
        if not self.recipients:
            return SEQUENCE
        connection.switch(smtp_data(max=2 * self.size + 5))  # each byte could be a dot with another one
        return SmtpReply(354, "End the mail with a dot in a line")

    def _reset(self, argument: str, connection: Connection) -> SmtpReply:
        self._forget_mail()
        return OK

    def _nothing(self, argument: str, connection: Connection) -> SmtpReply:
        return OK

    def _verify(self, argument: str, connection: Connection) -> SmtpReply:
        return SmtpReply(252, "Not verified, but a mail is taken") if argument else SYNTAX

    def _quit(self, argument: str, connection: Connection) -> SmtpReply:
        connection.close()
        return SmtpReply(221, f"{self.name} closes")

    def _unknown(self, argument: str, connection: Connection) -> SmtpReply:
        return SmtpReply(500, "This command is not known")


COMMANDS: dict[str, Callable[[SmtpSink, str, Connection], SmtpReply]] = {
    "HELO": SmtpSink._hello,
    "EHLO": SmtpSink._extended_hello,
    "MAIL": SmtpSink._mail,
    "RCPT": SmtpSink._recipient,
    "DATA": SmtpSink._data,
    "RSET": SmtpSink._reset,
    "NOOP": SmtpSink._nothing,
    "VRFY": SmtpSink._verify,
    "QUIT": SmtpSink._quit,
}

smtp_sink = SmtpSink
