"""
Count the messages and bytes that one connection, and all connections of a factory, receive and send.

The path of a message counts only for its own connection: two additions and a comparison for a chunk. ``info()`` makes
the totals of a factory, as the sum over its connections. For the rates, a connection reports its counts once in a
second, before it counts the first chunk of a new second.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["RECENT", "Counters", "MessageCounter", "Throughput"]

RECENT = 10
"""The seconds that a rate is averaged over. Our choice: long enough to show one message every few seconds."""


class _Second:
    """
    Counts what all connections received, or sent, in one second.

    A connection subtracts its counts when the second begins for it, and adds its counts when it begins another second.
    """

    __slots__ = ("bytes", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0


class Throughput:
    """
    Counts the messages and bytes of all connections of a factory, in one direction.

    `messages` and `bytes` are the sums over connections that have ended, less the counts that connections brought from
    another process. `until` is the end of the present second.
    """

    __slots__ = ("_seconds", "bytes", "messages", "until")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.until = 0.0
        self._seconds: dict[float, _Second] = {}

    def begin_second(self, now: float) -> None:
        """Begin a new second, and keep the recent ones."""
        self.until = int(now) + 1.0
        if len(self._seconds) > 2 * RECENT:  # not each time: a quiet connection comes here with each message
            self._seconds = {until: second for until, second in self._seconds.items() if _is_recent(until, now)}
        self._seconds[self.until] = _Second()

    def add(self, until: float, messages: int, size: int) -> None:
        """Add to the counts of the second that ends at `until`, if it is a recent one."""
        second = self._seconds.get(until)
        if second is not None:
            second.messages += messages
            second.bytes += size

    def totals(self, connections: Iterable[MessageCounter], now: float) -> tuple[int, int, float, float]:
        """
        Return the messages, the bytes, the messages per second and the bytes per second.

        The rates are averaged over the last ten seconds.

        `connections` are the counters of all connections that have not ended.
        """
        messages, size = self.messages, self.bytes
        recent = {until: second for until, second in self._seconds.items() if _is_recent(until, now)}
        recent_messages = sum([each.messages for each in recent.values()])
        recent_size = sum([each.bytes for each in recent.values()])
        for each in connections:
            messages += each.messages
            size += each.bytes
            if each.until in recent:  # its second is not over, so its counts were subtracted only
                recent_messages += each.messages
                recent_size += each.bytes
        return messages, size, recent_messages / RECENT, recent_size / RECENT


class MessageCounter:
    """
    Counts the `messages` and `bytes` of one connection in one direction.

    The path of a message adds to them. Before it adds at `until` or later, it calls `begin_second`.
    """

    __slots__ = ("bytes", "messages", "throughput", "until")

    def __init__(self, throughput: Throughput) -> None:
        self.throughput = throughput
        self.messages = 0
        self.bytes = 0
        self.until = 0.0

    def begin_second(self, now: float) -> None:
        """Report the counts of the last second, and begin a new one."""
        throughput = self.throughput
        if now >= throughput.until:
            throughput.begin_second(now)
        throughput.add(self.until, self.messages, self.bytes)
        throughput.add(throughput.until, -self.messages, -self.bytes)
        self.until = throughput.until

    def continue_from(self, messages: int, size: int) -> None:
        """Add the counts of this connection in another process. The totals of the factory leave them out."""
        self.messages += messages
        self.bytes += size
        self.throughput.messages -= messages
        self.throughput.bytes -= size

    def end_counting(self) -> None:
        """Add the counts of the connection to the totals, because it has ended."""
        throughput = self.throughput
        throughput.add(self.until, self.messages, self.bytes)
        throughput.messages += self.messages
        throughput.bytes += self.bytes


class Counters:
    """
    Counts what all connections of a factory `received` and `sent`.

    `late_replies` counts replies that no request waited for. `failed_sends` counts messages whose ``send`` failed
    because the connection was not open, or ended before they were sent.
    """

    __slots__ = ("failed_sends", "late_replies", "received", "sent")

    def __init__(self) -> None:
        self.received = Throughput()
        self.sent = Throughput()
        self.late_replies = 0
        self.failed_sends = 0


def _is_recent(until: float, now: float) -> bool:
    """Return whether the second that ends at `until` began in the last ten seconds."""
    return now - (until - 1) <= RECENT
