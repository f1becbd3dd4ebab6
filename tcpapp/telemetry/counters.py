"""
Counters: what one connection receives and sends, and what all connections of a factory do, in all and a second.

The path of a message counts only for its own connection: two additions and a comparison for a chunk. The totals of a
factory are the sum over its connections, made when ``info()`` asks. For the rates, a connection reports its counts once
in a second, before it counts the first chunk of a new second.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["RECENT", "Counters", "MessageCounter", "Throughput"]

RECENT = 10
"""Seconds that a rate is averaged over: our choice; long enough to show a rate of one in a few seconds."""


class _Second:
    """
    What all connections received, or sent, in one second.

    A connection subtracts its counts when the second begins for it, and adds its counts when it begins another second.
    """

    __slots__ = ("bytes", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0


class Throughput:
    """
    The messages and bytes of all connections of a factory, in one direction.

    `messages` and `bytes` count those of connections that have ended, less the counts that connections brought from
    another process. `until` is the end of the present second.
    """

    __slots__ = ("_seconds", "bytes", "messages", "until")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.until = 0.0
        self._seconds: dict[float, _Second] = {}

    def begin_second(self, now: float) -> None:
        """A new second has begun: remember the last ones."""
        self.until = int(now) + 1.0
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
        Messages, bytes, messages a second and bytes a second. The rates are those of the last ten seconds.

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
        """A new second has begun: report the counts of the last one."""
        throughput = self.throughput
        if now >= throughput.until:
            throughput.begin_second(now)
        throughput.add(self.until, self.messages, self.bytes)
        throughput.add(throughput.until, -self.messages, -self.bytes)
        self.until = throughput.until

    def continue_from(self, messages: int, size: int) -> None:
        """Go on from the counts of this connection in another process. The totals of the factory are without them."""
        self.messages += messages
        self.bytes += size
        self.throughput.messages -= messages
        self.throughput.bytes -= size

    def end_counting(self) -> None:
        """The connection has ended: the totals keep its counts."""
        throughput = self.throughput
        throughput.add(self.until, self.messages, self.bytes)
        throughput.messages += self.messages
        throughput.bytes += self.bytes


class Counters:
    """
    What all connections of a factory `received` and `sent`.

    `late_replies` counts replies that no request waited for. `failed_sends` counts messages whose ``send`` failed
    because the connection was not open (any more).
    """

    __slots__ = ("failed_sends", "late_replies", "received", "sent")

    def __init__(self) -> None:
        self.received = Throughput()
        self.sent = Throughput()
        self.late_replies = 0
        self.failed_sends = 0


def _is_recent(until: float, now: float) -> bool:
    """Whether the second that ends at `until` began in the last ten seconds."""
    return now - (until - 1) <= RECENT
