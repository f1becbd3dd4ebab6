"""IRC: messages in lines, with their tags, sources, commands and parameters."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.errors import MalformedFrame, MessageTooLong, UnsendableMessage
from tcpapp.framing.irc import IrcMessage, irc
from tcpapp.testing.oracles import check_framing


def received(stream: bytes, **options: Any) -> list[IrcMessage]:
    """Return the messages of a stream that ends well."""
    framing = irc(**options).fresh()
    messages = framing.receive(stream)
    framing.finish()
    return messages


LINES = {
    b"QUIT": IrcMessage("QUIT"),
    b"foo bar baz asdf": IrcMessage("FOO", ("bar", "baz", "asdf")),
    b":coolguy foo bar baz :asdf quux": IrcMessage("FOO", ("bar", "baz", "asdf quux"), "coolguy"),
    b":coolguy foo bar baz :": IrcMessage("FOO", ("bar", "baz", ""), "coolguy"),
    b":coolguy foo bar baz ::asdf": IrcMessage("FOO", ("bar", "baz", ":asdf"), "coolguy"),
    b":coolguy foo bar baz :  asdf quux ": IrcMessage("FOO", ("bar", "baz", "  asdf quux "), "coolguy"),
    b"foo bar baz :  ": IrcMessage("FOO", ("bar", "baz", "  ")),
    b":src JOIN #chan": IrcMessage("JOIN", ("#chan",), "src"),
    b":src JOIN :#chan": IrcMessage("JOIN", ("#chan",), "src"),
    b":src AWAY": IrcMessage("AWAY", (), "src"),
    b":src AWAY ": IrcMessage("AWAY", (), "src"),
    b":cool\tguy foo bar baz": IrcMessage("FOO", ("bar", "baz"), "cool\tguy"),
    b":gravel.mozilla.org 432  #momo :Erroneous Nickname: Illegal characters": IrcMessage(
        "432", ("#momo", "Erroneous Nickname: Illegal characters"), "gravel.mozilla.org"
    ),
    b":gravel.mozilla.org MODE #tckk +n ": IrcMessage("MODE", ("#tckk", "+n"), "gravel.mozilla.org"),
    b":SomeOp MODE #channel +oo SomeUser :AnotherUser": IrcMessage(
        "MODE", ("#channel", "+oo", "SomeUser", "AnotherUser"), "SomeOp"
    ),
    b"@a=b;c=32;k;rt=ql7 foo": IrcMessage("FOO", tags={"a": "b", "c": "32", "k": "", "rt": "ql7"}),
    rb"@a=b\\and\nk;c=72\s45;d=gh\:764 foo": IrcMessage("FOO", tags={"a": "b\\and\nk", "c": "72 45", "d": "gh;764"}),
    b"@c;h=;a=b :quux ab cd": IrcMessage("AB", ("cd",), "quux", {"c": "", "h": "", "a": "b"}),
    rb"@tag1=value\1 COMMAND": IrcMessage("COMMAND", tags={"tag1": "value1"}),
    b"@tag1=value1\\ COMMAND": IrcMessage("COMMAND", tags={"tag1": "value1"}),
    b"@tag1=1;tag2=3;tag1=5 COMMAND": IrcMessage("COMMAND", tags={"tag1": "5", "tag2": "3"}),
    b"@tag1=1;vendor/tag2=8;+tag3=a=b  COMMAND": IrcMessage(
        "COMMAND", tags={"tag1": "1", "vendor/tag2": "8", "+tag3": "a=b"}
    ),
    "PRIVMSG #room :grüß dich".encode(): IrcMessage("PRIVMSG", ("#room", "grüß dich")),
    b"PRIVMSG #room :gr\xfc\xdf": IrcMessage("PRIVMSG", ("#room", "gr\udcfc\udcdf")),
}
"""Lines and their messages. Most are of the public test vectors of IRC parsers (ircdocs, ``msg-split``)."""


@pytest.mark.parametrize("line", LINES)
def test_a_line_gives_its_message(line: bytes) -> None:
    """A line with tags, a source, a command and parameters gives the message with these."""
    assert received(line + b"\r\n") == [LINES[line]]


@pytest.mark.parametrize("line", LINES)
def test_a_message_is_received_as_it_was_sent(line: bytes) -> None:
    """The line that is made of a message gives this message again."""
    assert received(irc().frame(LINES[line])) == [LINES[line]]


def test_a_parameter_has_a_colon_only_where_it_needs_one() -> None:
    """The last parameter has a colon if it is empty, has a space, or begins with a colon."""
    frame = irc().frame
    assert frame(IrcMessage("JOIN", ("#room",))) == b"JOIN #room\r\n"
    assert frame(IrcMessage("TOPIC", ("#room", ""))) == b"TOPIC #room :\r\n"
    assert frame(IrcMessage("PRIVMSG", ("ann", ":)"), "ben!b@host")) == b":ben!b@host PRIVMSG ann ::)\r\n"
    assert frame(IrcMessage("PRIVMSG", ("ann", "hello all"), tags={"k": "", "+a": "b; c"})) == (
        rb"@k;+a=b\:\sc PRIVMSG ann :hello all" + b"\r\n"
    )


def test_a_line_can_end_with_lf_alone() -> None:
    """A line that ends with LF alone is read as one that ends with CR LF (RFC 1459, section 8.2; Modern IRC)."""
    assert received(b"PING a\nPING b\r\n") == [IrcMessage("PING", ("a",)), IrcMessage("PING", ("b",))]


def test_empty_lines_are_no_messages() -> None:
    """Empty lines, and lines of spaces, are left out. A stream can end behind one."""
    assert received(b"\r\nPING a\r\n\n  \r\n\r\n") == [IrcMessage("PING", ("a",))]


def test_any_number_of_empty_lines_is_read() -> None:
    """Empty lines do not count as a part of a message, so more of them than `max` end no stream."""
    framing = irc()
    for _ in range(3):
        assert framing.receive(b"\r\n" * framing.max) == []
        assert framing.held == 0


INVALID = {
    "no command": b":source",
    "only tags": b"@a=b",
    "only tags and a space": b"@a=b ",
    "an empty command": b":source :text",
    "a command with a sign": b"PING! a",
    "a number with two digits": b"43 a",
    "a number with four digits": b"4320 a",
    "letters and digits": b"PING1 a",
    "a CR inside": b"PING a\rQUIT",
    "two CRs at the end": b"PING a\r",
    "a letter whose capital is an I": "P\N{LATIN SMALL LETTER DOTLESS I}NG a".encode(),
    "a NUL": b"PING \0",
    "a NUL in a tag": b"@a=\0 PING",
}


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_line_is_refused(case: str) -> None:
    """A line that is no message ends the stream."""
    with pytest.raises(MalformedFrame):
        irc().receive(INVALID[case] + b"\r\n")


def test_a_line_has_at_most_512_bytes() -> None:
    """A line of 512 bytes with its CR LF is read and sent, and one of 513 bytes is not."""
    longest = IrcMessage("PRIVMSG", ("a", "b" * 500))
    assert len(irc().frame(longest)) == 512
    assert received(irc().frame(longest)) == [longest]
    longer = IrcMessage("PRIVMSG", ("a", "b" * 501))
    with pytest.raises(UnsendableMessage, match="511 bytes"):
        irc().frame(longer)
    with pytest.raises(MalformedFrame) as raised:
        irc().receive(b"PRIVMSG a %b\r\n" % (b"b" * 501))
    assert (raised.value.value, raised.value.limit) == (511, 510)


@pytest.mark.parametrize(("side", "most"), [("server", 4096), ("client", 8191)])
def test_the_tags_are_bounded(side: Any, most: int) -> None:
    """A server reads 4,096 bytes of tags, and a client 8,191, beside the 512 bytes of the line; not one more."""
    line = b"PRIVMSG a " + b"b" * 500
    tags = b"@a=" + b"b" * (most - 4) + b" "
    assert [len(each.tags["a"]) for each in received(tags + line + b"\r\n", side=side)] == [most - 4]
    with pytest.raises((MalformedFrame, MessageTooLong)):
        irc(side=side).receive(b"@b" + tags[1:] + line + b"\r\n")


def test_a_line_without_an_end_is_bounded() -> None:
    """A line that does not end is too long after as many bytes as the tags and a line can have."""
    framing = irc()
    framing.receive(b"x" * 8_700)
    with pytest.raises(MessageTooLong):
        framing.receive(b"x" * 8_700)
    assert framing.held == 0


@pytest.mark.parametrize(
    "message",
    [
        IrcMessage("PRIVMSG", ("a", "b\r\nQUIT")),
        IrcMessage("PRIVMSG", ("a", "b\nQUIT")),
        IrcMessage("PRIVMSG", ("a", "b\0")),
        IrcMessage("PRIVMSG", ("a b", "c")),
        IrcMessage("PRIVMSG", ("", "c")),
        IrcMessage("PRIVMSG", (":a", "c")),
        IrcMessage("QUIT\r\nJOIN", ("#room",)),
        IrcMessage("PRIVMSG a"),
        IrcMessage("privmsg", ("a",)),
        IrcMessage("", ("a",)),
        IrcMessage("PING", ("a",), "ann ben"),
        IrcMessage("PING", ("a",), "ann\r\nQUIT"),
        IrcMessage("PING", ("a",), tags={"a b": "c"}),
        IrcMessage("PING", ("a",), tags={"a;b": "c"}),
        IrcMessage("PING", ("a",), tags={"a=b": "c"}),
        IrcMessage("PING", ("a",), tags={"": "c"}),
        IrcMessage("PING", ("a",), tags={"a": "\0"}),
        IrcMessage("PING", ("\ud800",)),
        IrcMessage("PING", ("a\udc0a",)),
        IrcMessage("PING", (b"a",)),  # type: ignore[arg-type]  # what an app can do wrong
        "PING a",
    ],
)
def test_a_message_that_would_be_another_one_is_not_sent(message: Any) -> None:
    """A message that its peer would read as another one, or as two, cannot be sent: nothing can be injected."""
    with pytest.raises(UnsendableMessage):
        irc().frame(message)


@pytest.mark.exhaustive
@pytest.mark.parametrize("side", ["server", "client"])
def test_the_promises_of_every_framing_hold(side: Any) -> None:
    """Both sides keep the promises of every framing."""
    check_framing(lambda: irc(side=side), list(LINES.values())[::3], examples=20)
