"""SMTP: commands and replies in lines, and mails with their dots."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.errors import MalformedFrame, MessageTooLong, TruncatedMessage, UnsendableMessage
from tcpapp.framing.smtp import SmtpCommand, SmtpMail, SmtpReply, smtp, smtp_data
from tcpapp.testing.oracles import check_framing


def received(framing: Any, stream: bytes) -> list[Any]:
    """Return the messages of a stream that ends well."""
    messages: list[Any] = framing.receive(stream)
    framing.finish()
    return messages


COMMANDS = {
    b"QUIT\r\n": SmtpCommand("QUIT"),
    b"ehlo client.example\r\n": SmtpCommand("EHLO", "client.example"),
    b"mail FROM:<Ann@example.com> SIZE=100\r\n": SmtpCommand("MAIL", "FROM:<Ann@example.com> SIZE=100"),
    b"NOOP  two spaces  \r\n": SmtpCommand("NOOP", "two spaces"),
    b"RSET \r\n": SmtpCommand("RSET"),
    b"\r\n": SmtpCommand(""),
    "qu\N{LATIN SMALL LETTER DOTLESS I}t\r\n".encode(): SmtpCommand("qu\N{LATIN SMALL LETTER DOTLESS I}t"),
    "RCPT TO:<grüße@example.com>\r\n".encode(): SmtpCommand("RCPT", "TO:<grüße@example.com>"),
    b"VRFY gr\xfc\xdfe\r\n": SmtpCommand("VRFY", "gr\udcfc\udcdfe"),
}

SENDABLE = [each for each in COMMANDS.values() if each.verb and each.verb.isascii()]

REPLIES = {
    b"250 OK\r\n": SmtpReply(250, "OK"),
    b"250\r\n": SmtpReply(250),
    b"354 \r\n": SmtpReply(354),
    b"250-tcpapp\r\n250-SIZE 1000\r\n250 HELP\r\n": SmtpReply(250, "tcpapp\nSIZE 1000\nHELP"),
    b"250-tcpapp\r\n250-\r\n250\r\n": SmtpReply(250, "tcpapp\n\n"),
    b"550-5.1.1 no such\r\n550 5.1.1 mailbox\r\n": SmtpReply(550, "5.1.1 no such\n5.1.1 mailbox"),
}


@pytest.mark.parametrize("stream", COMMANDS)
def test_a_server_reads_commands(stream: bytes) -> None:
    """A line gives its command: the verb in capitals, and the text behind it without spaces around it."""
    assert received(smtp(), stream) == [COMMANDS[stream]]


@pytest.mark.parametrize("stream", REPLIES)
def test_a_client_reads_replies(stream: bytes) -> None:
    """The lines of a reply give one reply."""
    assert received(smtp(side="client"), stream) == [REPLIES[stream]]


@pytest.mark.parametrize("message", [*SENDABLE, *REPLIES.values()])
def test_a_message_is_received_as_it_was_sent(message: Any) -> None:
    """The lines that are made of a command, or of a reply, give it again."""
    side: Any = "server" if isinstance(message, SmtpCommand) else "client"
    assert received(smtp(side=side), smtp().frame(message)) == [message]


def test_lines_are_sent_as_the_rfc_writes_them() -> None:
    """A reply of several lines has a dash behind the code in all lines but the last."""
    assert smtp().frame(SmtpReply(250, "a\nb\nc")) == b"250-a\r\n250-b\r\n250 c\r\n"
    assert smtp().frame(SmtpCommand("MAIL", "FROM:<>")) == b"MAIL FROM:<>\r\n"
    assert smtp().frame(SmtpCommand("quit")) == b"quit\r\n"


def test_commands_can_come_together() -> None:
    """Commands of one chunk (PIPELINING, RFC 2920) are single commands."""
    stream = b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n"
    assert [each.verb for each in received(smtp(), stream)] == ["MAIL", "RCPT", "DATA"]


@pytest.mark.parametrize(
    "stream",
    [b"QUIT\n", b"QUIT\rRSET\r\n", b"QUIT\r\r\n", b"NOOP \0\r\n", b"NOOP \x7f\r\n", b"NOOP \x1b[2J\r\n"],
)
def test_a_line_of_a_command_is_text_and_ends_with_cr_lf(stream: bytes) -> None:
    """A command with a control character, or with another end than CR LF, ends the stream."""
    with pytest.raises(MalformedFrame):
        smtp().receive(stream)


@pytest.mark.parametrize(
    "stream",
    [
        b"hello\r\n",
        b"25 OK\r\n",
        b"2500 OK\r\n",
        b"150 OK\r\n",
        b"600 OK\r\n",
        b"250_OK\r\n",
        b"250 OK\n",
        b"250-a\r\n251 b\r\n",
        b"250-a\r\nb\r\n",
        b"250 \x1b[2J\r\n",
        "٢٥٠ OK\r\n".encode(),
    ],
)
def test_a_malformed_reply_is_refused(stream: bytes) -> None:
    """A reply without a code of three digits, with several codes, or with a control character ends the stream."""
    with pytest.raises(MalformedFrame):
        smtp(side="client").receive(stream)


def test_the_lines_of_a_reply_are_bounded() -> None:
    """A line has at most 12,288 bytes, and a reply, however many lines it has, at most `max`."""
    line = b"NOOP " + b"x" * 12_281
    assert len(received(smtp(), line + b"\r\n")[0].argument) == 12_281
    with pytest.raises(MessageTooLong):
        smtp().receive(line + b"x\r\n")
    client = smtp(side="client")
    with pytest.raises(MessageTooLong):
        client.receive(b"250-more\r\n" * 10_000)


def test_a_reply_that_goes_on_is_unfinished() -> None:
    """A stream that ends behind a line with a dash ends inside a reply."""
    framing = smtp(side="client")
    assert framing.receive(b"250-more\r\n") == []
    with pytest.raises(TruncatedMessage):
        framing.finish()


@pytest.mark.parametrize(
    "message",
    [
        SmtpCommand(""),
        SmtpCommand("MAIL FROM"),
        SmtpCommand("MAIL", "FROM:<>\r\nQUIT"),
        SmtpCommand("MAIL", "FROM:<>\nQUIT"),
        SmtpCommand("MAIL\r\nQUIT"),
        SmtpCommand("NOOP", "\0"),
        SmtpCommand("NOOP", "\ud800"),
        SmtpCommand("NOOP", "x" * 12_288),
        SmtpReply(250, "OK\r\n221 bye"),
        SmtpReply(250, "\0"),
        SmtpReply(199, "OK"),
        SmtpReply(600, "OK"),
        SmtpReply("250", "OK"),  # type: ignore[arg-type]  # what an app can do wrong
        SmtpReply(250, b"OK"),  # type: ignore[arg-type]
        "QUIT",
        b"QUIT\r\n",
        None,
    ],
)
def test_a_message_that_would_be_another_one_is_not_sent(message: Any) -> None:
    """A message that its peer would read as another one, or as two, cannot be sent: nothing can be injected."""
    with pytest.raises(UnsendableMessage):
        smtp().frame(message)


MAILS = {
    b".\r\n": b"",
    b"\r\n.\r\n": b"\r\n",
    b"hello\r\n.\r\n": b"hello\r\n",
    b"Subject: x\r\n\r\n..\r\n.\r\n": b"Subject: x\r\n\r\n.\r\n",
    b"..\r\n.\r\n": b".\r\n",
    b"..a\r\n..\r\n...\r\n....\r\n\r\n.\r\n": b".a\r\n.\r\n..\r\n...\r\n\r\n",
    b"a.\r\nb.b\r\n.\r\n": b"a.\r\nb.b\r\n",
    b"\xff\0\r\n.\r\n": b"\xff\0\r\n",
}


@pytest.mark.parametrize("stream", MAILS)
def test_a_mail_ends_with_a_dot_in_a_line(stream: bytes) -> None:
    """A mail ends before a line with one dot, and a line that begins with a dot comes with one more."""
    assert received(smtp_data(), stream * 2) == [SmtpMail(MAILS[stream])] * 2


@pytest.mark.parametrize("mail", MAILS.values())
def test_a_mail_is_received_as_it_was_sent(mail: bytes) -> None:
    """The bytes that are made of a mail give this mail again."""
    assert received(smtp_data(), smtp_data().frame(SmtpMail(mail))) == [SmtpMail(mail)]


def test_a_dot_that_came_without_another_one_is_dropped() -> None:
    """A client that sends a line with a dot as it is loses the dot (RFC 5321, section 4.5.2)."""
    assert received(smtp_data(), b".a\r\n.b\r\n.\r\n") == [SmtpMail(b"a\r\nb\r\n")]


SMUGGLED = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\n\n.\r\n",
    b"\r\r\n.\r\r\n",
]
"""Ends that some servers take for the end of a mail (SMTP smuggling)."""


@pytest.mark.parametrize("end", SMUGGLED)
def test_another_end_does_not_end_a_mail(end: bytes) -> None:
    """Nothing but CR LF, a dot, CR LF ends a mail. A mail with another CR or LF is refused as a whole."""
    stream = b"hello" + end + b"MAIL FROM:<admin@example.com>\r\n"
    framing = smtp_data()
    assert framing.receive(stream) == []
    if framing.unfinished and b"\0" not in end:
        with pytest.raises(MalformedFrame):
            framing.receive(b".\r\n")


@pytest.mark.parametrize(
    "mail",
    [b"no end", b"a\nb\r\n", b"a\rb\r\n", b"a\r\n.\n", b"a\n.\r\nMAIL FROM:<a@b>\r\n", b"\n", b"\r", "text\r\n", None],
)
def test_a_mail_with_other_line_ends_is_not_sent(mail: Any) -> None:
    """A mail whose lines do not all end with CR LF cannot be sent, nor can a text."""
    with pytest.raises(UnsendableMessage):
        smtp_data().frame(SmtpMail(mail))


def test_a_mail_is_bounded() -> None:
    """A mail of `max` bytes, with all its dots and its end, is read; one more byte ends the stream before its end."""
    framing = smtp_data(max=20)
    assert framing.receive(b"x" * 15 + b"\r\n.\r\n") == [SmtpMail(b"x" * 15 + b"\r\n")]
    assert framing.receive(b"x" * 15) == []
    with pytest.raises(MessageTooLong):
        framing.receive(b"x" * 6)
    with pytest.raises(UnsendableMessage):
        smtp_data(max=20).frame(SmtpMail(b"x" * 16 + b"\r\n"))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("make", "messages"),
    [
        (smtp, SENDABLE),
        (lambda: smtp(side="client"), REPLIES.values()),
        (smtp_data, map(SmtpMail, MAILS.values())),
    ],
    ids=["server", "client", "mails"],
)
def test_the_promises_of_every_framing_hold(make: Any, messages: Any) -> None:
    """Both sides, and mails, keep the promises of every framing."""
    check_framing(make, messages, examples=20)
