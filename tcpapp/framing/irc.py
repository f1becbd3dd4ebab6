"""IRC: messages in lines."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

from tcpapp.framing.irc_messages import LONGEST, LONGEST_TAGS, IrcMessage, read_message, write_message
from tcpapp.framing.parsers import parser
from tcpapp.framing.reader import NO_MESSAGE
from tcpapp.framing.wants import until

__all__ = ["IrcMessage", "irc"]

TAGS_OF_A_CLIENT = 4096
"""The most bytes of the tags that a client sends, from ``@`` to the space behind them (IRCv3, message tags)."""


@parser(max=LONGEST_TAGS + LONGEST, frame=write_message)
def irc(*, side: Literal["server", "client"] = "server") -> Generator[Any, Any, Any]:
    """
    IRC, with the tags of IRCv3::

        ':ann!a@host PRIVMSG #room :hello all'  →  IrcMessage("PRIVMSG", ("#room", "hello all"), "ann!a@host")

    `side`: ``"server"`` receives what a client sends, with at most 4,096 bytes of tags before a message. ``"client"``
    receives what a server sends, with at most 8,191. A line has 512 bytes beside the tags. It ends with CR LF or LF,
    and an empty line is no message.

    Errors: `MalformedFrame` for a line that is longer, has no command, or has a CR or NUL. A message that would be read
    as another one cannot be sent, such as one with CR LF, or with a space in a parameter before the last. Source: RFC
    1459 and 2812; "Message Tags" (ircv3.net); "Modern IRC Client Protocol" (modern.ircdocs.horse).
    """
    line = (yield until(b"\n")).removesuffix(b"\r")
    if not line.strip(b" "):
        return NO_MESSAGE
    return read_message(line, TAGS_OF_A_CLIENT if side == "server" else LONGEST_TAGS)
