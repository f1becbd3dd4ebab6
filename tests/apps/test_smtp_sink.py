"""The app that receives mails by SMTP: its replies, the mails that it hands on, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tcpapp import MessageServerFactory
from tcpapp.apps.smtp_sink import COMMANDS, Mail, SmtpSink, smtp_sink
from tcpapp.framing.smtp import SmtpReply, smtp
from tcpapp.testing.oracles import check_app
from tests.peers import NotedTransport, Peer, joined

MAIL = b"Subject: x\r\n\r\nhello\r\n"


class Client:
    """A client of the app. `mails` are the mails that the app got, and `outcome` is the reply to the next one."""

    def __init__(self, **options: Any) -> None:
        self.mails: list[Mail] = []
        self.outcome: Any = None

        def deliver(sink: SmtpSink, mail: Mail) -> Any:
            self.mails.append(mail)
            return self.outcome

        app = type("Sink", (SmtpSink,), {"deliver": deliver, **options})
        self.transport: NotedTransport = joined(MessageServerFactory(app, framing="smtp", clock=Clock()))
        self.framing = smtp(side="client")
        self.greeting = self.replies()

    def replies(self) -> list[SmtpReply]:
        """Return the replies since the last call."""
        data = self.transport.value()
        self.transport.clear()
        replies: list[SmtpReply] = self.framing.receive(data)
        return replies

    def say(self, *lines: str | bytes) -> list[int]:
        """Send these lines at once, and return the codes of the replies."""
        self.transport.receive(
            b"".join([(each.encode() if isinstance(each, str) else each) + b"\r\n" for each in lines])
        )
        return [each.code for each in self.replies()]

    def begin(self) -> None:
        """Go as far as to the content of a mail."""
        assert self.say("EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA") == [250, 250, 250, 354]


def test_the_app_is_the_class() -> None:
    """Each connection has an object of its own."""
    assert smtp_sink is SmtpSink


def test_a_mail_is_handed_on() -> None:
    """A mail comes with its sender, its recipients and its content. Another one can follow, and QUIT ends it."""
    client = Client()
    assert client.greeting == [SmtpReply(220, "localhost ESMTP")]
    assert client.say("HELO me") == [250]
    for _ in range(2):
        assert client.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "RCPT TO:<e@f>") == [250] * 3
        assert client.say("DATA") == [354]
        assert client.say("Subject: x", "", "..", ".") == [250]
    assert client.mails == [Mail("a@b", ("c@d", "e@f"), b"Subject: x\r\n\r\n.\r\n")] * 2
    assert client.say("QUIT") == [221]
    assert not client.transport.connection.is_open


def test_commands_and_mails_can_come_at_once() -> None:
    """What comes in one chunk is read to the byte: commands, a mail, and commands again (RFC 2920)."""
    client = Client()
    stream = ["EHLO me", *["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "QUIT", "RSET", "."] * 2, "NOOP", "QUIT"]
    assert client.say(*stream) == [250, *[250, 250, 354, 250] * 2, 250, 221]
    assert [each.content for each in client.mails] == [b"QUIT\r\nRSET\r\n"] * 2


def test_a_stream_can_come_byte_by_byte() -> None:
    """The same conversation gives the same mails when each byte comes alone."""
    client = Client()
    for line in ("EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "hello", ".", "QUIT"):
        for byte in line.encode() + b"\r\n":
            client.transport.receive(bytes([byte]))
    assert [each.code for each in client.replies()] == [250, 250, 250, 354, 250, 221]
    assert client.mails == [Mail("a@b", ("c@d",), b"hello\r\n")]


def test_the_extensions_are_listed() -> None:
    """EHLO lists the extensions, HELO none, and both need a name."""
    client = Client(size=1000, name="mx.example.com")
    client.transport.receive(b"EHLO me\r\nHELO me\r\n")
    assert client.replies() == [
        SmtpReply(250, "mx.example.com\nPIPELINING\nSIZE 1000\n8BITMIME\nSMTPUTF8"),
        SmtpReply(250, "mx.example.com"),
    ]
    assert client.say("EHLO", "HELO ") == [501, 501]


def test_the_order_of_the_commands_is_checked() -> None:
    """MAIL needs a greeting, RCPT a MAIL, DATA a RCPT; a second MAIL needs RSET, and a greeting begins anew."""
    client = Client()
    assert client.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA") == [503, 503, 503]
    assert client.say("EHLO me", "RCPT TO:<c@d>", "MAIL FROM:<a@b>", "MAIL FROM:<a@b>", "DATA") == [
        *(250, 503, 250, 503, 503)
    ]
    assert client.say("RSET", "RCPT TO:<c@d>", "MAIL FROM:<a@b>", "EHLO me", "RCPT TO:<c@d>") == [
        *(250, 503, 250, 250, 503)
    ]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("MAIL FROM:<>", 250),
        ("mail from: <a@b>", 250),
        ('MAIL FROM:<"a b"@c>', 250),
        ("MAIL FROM:<@x,@y:a@b> SIZE=10 BODY=8BITMIME SMTPUTF8", 250),
        ("MAIL FROM:<a@b> body=7bit", 250),
        ("MAIL FROM:<a@b> SIZE=1001", 552),
        ("MAIL FROM:<a@b> SIZE=99999999999999999999", 552),
        ("MAIL FROM:<a@b> SIZE=x", 555),
        ("MAIL FROM:<a@b> AUTH=<>", 555),
        ("MAIL FROM:<a b>", 501),
        ("MAIL FROM:a@b", 501),
        ("MAIL TO:<a@b>", 501),
        ("MAIL", 501),
        ("NOOP anything", 250),
        ("VRFY ann", 252),
        ("VRFY", 501),
        ("EXPN list", 500),
        ("STARTTLS", 500),
        ("HELP", 500),
        ("", 500),
    ],
)
def test_each_command_has_its_reply(command: str, code: int) -> None:
    """A command that is known gets its reply, and another one an error."""
    client = Client(size=1000)
    assert client.say("EHLO me", command) == [250, code]


@pytest.mark.parametrize(
    ("command", "code"),
    [("RCPT TO:<>", 501), ("RCPT FROM:<a@b>", 501), ("RCPT TO:<a@b> NOTIFY=NEVER", 555), ("DATA now", 501)],
)
def test_a_recipient_has_its_reply(command: str, code: int) -> None:
    """A recipient without an address or with a parameter, and DATA with an argument, get an error."""
    assert Client().say("EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", command) == [250, 250, 250, code]


def test_the_recipients_are_bounded() -> None:
    """A mail has at most as many recipients as are permitted; the client can send the rest in another mail."""
    client = Client(most_recipients=2)
    assert client.say("EHLO me", "MAIL FROM:<a@b>", *["RCPT TO:<c@d>"] * 3) == [250, 250, 250, 250, 452]


def test_a_mail_that_is_too_long_is_refused() -> None:
    """A mail of the most bytes is taken. A longer one is refused, and a much longer one ends the connection."""
    client = Client(size=100)
    client.begin()
    assert client.say("." * 99, ".") == [250]
    assert client.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "x" * 99, ".") == [250, 250, 354, 552]
    assert client.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "x" * 300) == [250, 250, 354]
    assert not client.transport.connection.is_open
    assert [each.content for each in client.mails] == [b"." * 98 + b"\r\n"]


def test_a_mail_with_another_line_end_ends_the_connection() -> None:
    """A mail with an LF alone, by which commands could be smuggled, is not handed on."""
    client = Client()
    client.begin()
    client.transport.receive(b"hello\n.\r\nMAIL FROM:<x@y>\r\n.\r\n")
    assert not client.transport.connection.is_open
    assert client.mails == []


def test_a_client_with_many_errors_is_sent_away() -> None:
    """The last permitted error gets reply 421, and the connection is closed."""
    client = Client(most_errors=3)
    assert client.say("A", "B", "C", "D") == [500, 500, 421]
    assert not client.transport.connection.is_open


def test_the_app_can_refuse_a_mail() -> None:
    """`deliver` can return a reply of its own, at once or later."""
    client = Client()
    client.begin()
    client.outcome = SmtpReply(550, "No")
    assert client.say("hello", ".") == [550]
    client.begin()
    later: Deferred[SmtpReply | None] = Deferred()
    client.outcome = later
    assert client.say("hello", ".", "NOOP") == []
    later.callback(SmtpReply(451, "Later"))
    assert [each.code for each in client.replies()] == [451, 250]
    client.begin()
    client.outcome = later = Deferred()
    assert client.say("hello", ".") == []
    later.callback(None)
    assert [each.code for each in client.replies()] == [250]


def test_tls_forgets_what_was_said_in_plain() -> None:
    """STARTTLS is listed, its reply is the last in plain, and behind the handshake the client greets anew."""
    app = type("Sink", (SmtpSink,), {"tls": "context"})
    peer = Peer(app, transport=NotedTransport(tls=True), framing="smtp")
    peer.says(b"EHLO me\r\nMAIL FROM:<a@b>\r\n")
    assert peer.hears().splitlines()[-2:] == [b"250 STARTTLS", b"250 OK"]
    peer.says(b"STARTTLS\r\n")
    assert (peer.hears(), peer.transport.tls_context) == (b"220 Go ahead\r\n", "context")
    peer.protocol.handshakeCompleted()
    peer.says(b"MAIL FROM:<a@b>\r\n")
    assert peer.hears() == b"503 Bad sequence of commands\r\n"


def test_the_sink_drops_a_mail() -> None:
    """The app itself takes each mail and drops it."""
    client = Client()
    client.transport = joined(MessageServerFactory(smtp_sink, framing="smtp", clock=Clock()))
    client.replies()
    client.begin()
    assert client.say("hello", ".") == [250]


def test_nothing_is_left_whatever_a_client_does() -> None:
    """Whatever comes, and however the connection ends, the app leaves nothing behind."""
    commands = [f"{verb} <a@b>".encode() + b"\r\n" for verb in COMMANDS]
    check_app(SmtpSink, smtp(), messages=smtp().receive(b"".join(commands)), examples=20)
