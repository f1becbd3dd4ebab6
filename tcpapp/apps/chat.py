"""
A chat room of lines: names, joins and leaves, ``/who`` and ``/quit``.

It shows the second form of app: a class with an object for each connection. So ``self`` is the state of one member, and
all members share the `Room`. Serve it with ``--framing line`` and join with ``telnet`` or ``nc``.
"""

from __future__ import annotations

import re
from contextlib import suppress

from tcpapp.close_reason import CloseReason
from tcpapp.connection.connection import Connection
from tcpapp.connection.fan_out import send_to_all
from tcpapp.errors import NotConnected, UnsendableMessage

__all__ = ["Chat", "Room", "chat"]

NAME = re.compile(r"[^\W_][\w-]{0,19}")
"""A name: 1 to 20 letters, digits, ``_`` and ``-``. The first is a letter or a digit."""

LONGEST_LINE = 1000
"""The most characters of a line that are passed on: a screenful, so that no member can flood the others with a line."""

HELP = "/who: who is here. /quit: leave. Anything else is said to all."


class Room:
    """The members of the room, by name."""

    def __init__(self) -> None:
        self.members: dict[str, Chat] = {}

    def tell_all(self, text: str, *, but: Chat | None = None) -> None:
        """Send `text` to every member except `but`. A text that is too long for the framing is not sent."""
        connections = [member.connection for member in self.members.values() if member is not but]
        with suppress(UnsendableMessage):
            send_to_all(connections, text.encode())


class Chat:
    """One member of the `room`, from joining to leaving. For another room, make a subclass with a `room` of its own."""

    room = Room()

    def __init__(self) -> None:
        self.name = ""

    def opened(self, connection: Connection) -> None:
        """Ask a new member for a name."""
        self.connection = connection
        self.tell("Welcome. What is your name?")

    def received(self, message: bytes, connection: Connection) -> None:
        """Handle a line: a name, a command, or a text for all members."""
        text = printable(message)
        if not self.name:
            self.join(text)
        elif text.startswith("/"):
            self.command(text)
        elif text:
            self.room.tell_all(f"{self.name}: {text}", but=self)

    def closed(self, connection: Connection, reason: CloseReason) -> None:
        """Tell the other members that this one left, if it had a name."""
        if self.name:
            del self.room.members[self.name]
            self.room.tell_all(f"* {self.name} left")

    def join(self, name: str) -> None:
        """Give this member the `name`, if it is valid and free; otherwise ask again."""
        if not NAME.fullmatch(name):
            self.tell("A name is 1 to 20 letters, digits, - and _. What is your name?")
        elif name in self.room.members:
            self.tell(f"{name} is here already. What is your name?")
        else:
            self.name = name
            self.room.members[name] = self
            self.tell(f"Hello, {name}. {HELP}")
            self.room.tell_all(f"* {name} joined", but=self)

    def command(self, text: str) -> None:
        """Run the command of a line that begins with ``/``."""
        if text == "/who":
            self.tell(f"Here: {', '.join(sorted(self.room.members))}")
        elif text == "/quit":
            self.tell("Goodbye.")
            self.connection.close()
        else:
            self.tell(f"There is no {text.split(maxsplit=1)[0]}. {HELP}")

    def tell(self, text: str) -> None:
        """Send `text` to this member. Does nothing for a member that has just left."""
        self.connection.send(text.encode()).addErrback(lambda failure: failure.trap(NotConnected))


def printable(line: bytes) -> str:
    """Return a member's line as text without control characters, at most `LONGEST_LINE` characters long."""
    text = "".join(" " if char.isspace() else char for char in line.decode("utf-8", "replace"))
    return "".join(char for char in text if char.isprintable()).strip()[:LONGEST_LINE]


chat = Chat
