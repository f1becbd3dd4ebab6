"""The channels of `redis`: which connection subscribed to which, and what is published there."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import Any

from tcpapp.connection.connection import Connection
from tcpapp.connection.fan_out import send_to_all
from tcpapp.errors import NotConnected, UnsendableMessage
from tcpapp.framing.resp import Push

__all__ = ["LONGEST_NAME", "MOST_CHANNELS", "MOST_PATTERNS", "Channels", "Subscriber"]

MOST_CHANNELS, MOST_PATTERNS = 1000, 32
"""The most channels and patterns of a connection. Our choice: each message is compared with the patterns of all."""

LONGEST_NAME = 250
"""The most bytes of a channel or a pattern. Our choice: as many as of a key in memcached."""


class Subscriber:
    """What one connection subscribed to: the names of its channels, or its patterns, in order."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self.channels) + len(self.patterns)

    def tell(self, *parts: Any) -> None:
        """
        Send a message that is no reply. A connection that takes nothing ends by its ``max_unsent``.

        It does not get a message that is longer than its framing's ``max``.
        """
        self.connection.send(Push(parts)).addErrback(lambda failure: failure.trap(NotConnected, UnsendableMessage))


class Channels:
    """All channels and patterns with subscribers, and these."""

    def __init__(self) -> None:
        self.channels: dict[bytes, dict[Subscriber, None]] = {}
        self.patterns: dict[bytes, dict[Subscriber, None]] = {}
        self._compiled: dict[bytes, re.Pattern[str]] = {}

    def subscribe(self, subscriber: Subscriber, name: bytes, *, pattern: bool = False) -> bool:
        """Subscribe to a channel or a pattern. Returns `False` if there are too many, or if the name is too long."""
        own, of_all, most = self._tables(subscriber, pattern)
        if len(name) > LONGEST_NAME or (len(own) >= most and name not in own):
            return False
        own[name] = None
        of_all.setdefault(name, {})[subscriber] = None
        if pattern and name not in self._compiled:
            self._compiled[name] = re.compile(fnmatch.translate(name.decode("latin-1")))
        return True

    def unsubscribe(self, subscriber: Subscriber, name: bytes, *, pattern: bool = False) -> None:
        """Undo `subscribe`. Does nothing for a name that was not subscribed to."""
        own, of_all, _ = self._tables(subscriber, pattern)
        if name in own:
            del own[name], of_all[name][subscriber]
            if not of_all[name]:
                del of_all[name]
                if pattern:
                    del self._compiled[name]

    def leave(self, subscriber: Subscriber) -> None:
        """Undo all of this subscriber's `subscribe`."""
        for pattern in (False, True):
            for name in [*self._tables(subscriber, pattern)[0]]:
                self.unsubscribe(subscriber, name, pattern=pattern)

    def publish(self, channel: bytes, message: bytes) -> int:
        """Send `message` to all that subscribed to `channel`, and return how often it was sent."""
        told = _tell_all(self.channels.get(channel, ()), b"message", channel, message)
        text = channel.decode("latin-1")
        for pattern, compiled in [*self._compiled.items()]:
            if compiled.match(text):
                told += _tell_all(self.patterns[pattern], b"pmessage", pattern, channel, message)
        return told

    def _tables(
        self, subscriber: Subscriber, pattern: bool
    ) -> tuple[dict[bytes, None], dict[bytes, dict[Subscriber, None]], int]:
        if pattern:
            return subscriber.patterns, self.patterns, MOST_PATTERNS
        return subscriber.channels, self.channels, MOST_CHANNELS


def _tell_all(subscribers: Iterable[Subscriber], *parts: Any) -> int:
    """Send a message to `subscribers`. Returns how many get it: none, if it is longer than the ``max`` of a framing."""
    try:
        return send_to_all([each.connection for each in subscribers], Push(parts))
    except UnsendableMessage:
        return 0
