"""The statistics of a running server: counts, ages and settings, in one structure for people and programs."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

from tcpapp.limits import Limits, Policies, Timeouts
from tcpapp.telemetry.counters import RECENT

__all__ = ["ConnectionCounts", "ConnectionInfo", "Hold", "Info", "Totals", "Wait"]


@dataclass(frozen=True, kw_only=True)
class Info:
    """
    The statistics of a server at one moment. Times are in seconds.

    - `addresses`: the addresses where it listens, as texts such as ``127.0.0.1:7007``.
    - `state`: ``"serving"``, ``"suspended"``, ``"draining"``, or ``"stopped"`` if it listens nowhere.
    - `uptime`: the time since its factory was made.
    - `connections`, `most_connections`: how many connections are open now, and the most that were open at one time.
    - `accepted`, `accept_rate`: how many connections were accepted in total, and per second over the last ten seconds.
    - `refused`, `closed`: how many clients were rejected, and how many connections have ended, by rule.
    - `oldest`, `median_age`: the greatest and the median age of the open connections; 0.0 without connections.
    - `messages`, `message_rate`, `bytes`, `byte_rate`: how many messages and bytes were received in total, and per
      second over the last ten seconds. Messages that were skipped for their length count, too.
    - `sent_messages`, `sent_message_rate`, `sent_bytes`, `sent_byte_rate`: how many messages and bytes were sent, in
      total and per second. A byte counts when the transport gets it, and a message when the transport has its last
      byte. A message in the outbox does not count yet; it never counts if it is dropped. No count says that the peer
      has received a message.
    - `late_replies`: how many replies came that no request waited for, or no longer waited for.
    - `failed_sends`: how many messages were not sent, because the connection was not open, or ended before.
    - `lag`, `most_lag`: the last and the longest delay of the event loop; 0.0 without a loop monitor.
    - `lost_lines`: how many lines the log could not write; counted only under `twistd tcpapp`.
    - `buffered`: the bytes that all connections hold, as `max_buffered` counts them.
    - `shed`: how many connections were cut because all connections together held too many bytes.
    - `limits`, `timeouts`, `policies`: the current settings.
    """

    addresses: tuple[str, ...]
    state: str
    uptime: float
    connections: int
    most_connections: int
    accepted: int
    accept_rate: float
    refused: Mapping[str, int]
    closed: Mapping[str, int]
    oldest: float
    median_age: float
    messages: int
    message_rate: float
    bytes: int
    byte_rate: float
    sent_messages: int
    sent_message_rate: float
    sent_bytes: int
    sent_byte_rate: float
    late_replies: int
    failed_sends: int
    lag: float = 0.0
    most_lag: float = 0.0
    lost_lines: int = 0
    buffered: int
    shed: int
    limits: Limits
    timeouts: Timeouts
    policies: Policies

    def as_dict(self) -> dict[str, Any]:
        """Return the statistics as dictionaries, lists, texts and numbers, which JSON can represent."""
        return asdict(self) | {"addresses": list(self.addresses)}


class Totals(NamedTuple):
    """
    What one connection received and sent, counted as in `Info`.

    `duration` is how many seconds the connection has been open, or was open if it has ended.
    """

    messages: int = 0
    bytes: int = 0
    sent_messages: int = 0
    sent_bytes: int = 0
    duration: float = 0.0


@dataclass(frozen=True)
class Hold:
    """
    What holds a connection back, and for how many `seconds` it has done so.

    ==================== ==============================================================================================
    reason               what it is
    ==================== ==============================================================================================
    ``awaiting-reply``   The app has not yet replied to as many messages as ``concurrency`` allows.
    ``paused``           ``pause()`` was called.
    ``write-blocked``    The peer does not take the sent bytes. The seconds count from the last bytes that it took.
    ``turn``             Other connections have their turn first.
    ``message-rate``     More messages came than ``message_rate`` allows.
    ``byte-rate``        More bytes came than ``byte_rate`` allows.
    ``inbox-full``       More than ``inbox_high`` bytes of messages wait for the app.
    ``body-full``        More than ``inbox_high`` bytes of the body of a message wait for the app.
    ``memory-pressure``  All connections together hold nearly ``max_buffered`` bytes, and this one holds many of them.
    ``tls-handshake``    TLS is being set up. Seconds in which nothing was read do not count.
    ``handshake-turn``   A step of the handshake waits for its turn.
    ``moving``           The connection waits at a message boundary, to continue in another process.
    ``flush``            The connection is closing, and the peer has not taken all bytes yet.
    ==================== ==============================================================================================

    For ``inbox-full``, ``body-full``, ``memory-pressure``, ``handshake-turn`` and ``moving``, and for a ``turn`` of
    messages that came in one chunk, the seconds count from the moment when reading stopped. Without a clock all seconds
    are 0.0.
    """

    reason: str
    seconds: float


@dataclass(frozen=True)
class Wait:
    """
    A wait that ends in `seconds`. `name` is its name in `Timeouts`, the name of a rate, or one of these: ``ending`` for
    the end of the connection, ``tasks`` for the end of its tasks, ``every`` for the next tick.
    """

    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ConnectionInfo:
    """
    The statistics of a connection at one moment. Times are in seconds.

    - `state`: the value of its `State`.
    - `age`: how long it has been open, or was open if it has ended.
    - `messages`, `bytes`, `sent_messages`, `sent_bytes`: as in `Info`. They stay after the end of the connection.
    - `unread`: how many messages are in the inbox, for the app or ``receive``.
    - `pending`: how many received messages wait for a turn or for a rate.
    - `in_flight`: how many messages the app has, and has yet to answer. With ``replies="in-order"`` an answered message
      counts until its reply is sent.
    - `tasks`: how many tasks of the connection run (``spawn``), also while its end waits for them.
    - `unsent`: how many bytes wait until the transport takes more.
    - `buffered`: how many bytes the connection holds, as `max_buffered` counts them.
    - `holds`: what holds the connection back. It is empty while an app that fetches messages does not fetch one: see
      `unread`.
    - `deadline`: the wait that ends first; `None` if no wait has an end.
    """

    state: str
    age: float
    messages: int
    bytes: int
    sent_messages: int
    sent_bytes: int
    unread: int = 0
    pending: int = 0
    in_flight: int = 0
    tasks: int = 0
    unsent: int = 0
    buffered: int = 0
    holds: tuple[Hold, ...] = ()
    deadline: Wait | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the same as dictionaries, lists, texts and numbers, as in JSON."""
        return asdict(self) | {"holds": [asdict(each) for each in self.holds]}


class ConnectionCounts:
    """Counts the connections of a factory. Counting takes a few operations for a connection, and none for a message."""

    def __init__(self, now: float) -> None:
        self.since = now
        self.accepted = 0
        self.most = 0
        self.closed: Counter[str] = Counter()
        self._seconds: deque[tuple[int, int]] = deque()

    def opened(self, now: float, there: int) -> None:
        """Count a connection that opened at `now`; with it, `there` are open."""
        self.accepted += 1
        self.most = max(self.most, there)
        second = int(now)
        count = self._seconds.pop()[1] if self._seconds and self._seconds[-1][0] == second else 0
        self._seconds.append((second, count + 1))
        if len(self._seconds) > RECENT:
            self._seconds.popleft()

    def moved_here(self, there: int) -> None:
        """Count one more connection, which another process accepted. Now `there` are open."""
        self.most = max(self.most, there)

    def rate(self, now: float) -> float:
        """Return the accepted connections per second, averaged over the last ten seconds."""
        return sum(count for second, count in self._seconds if now - second <= RECENT) / RECENT


def ages(opened: Iterable[float], now: float) -> tuple[float, float]:
    """Return the greatest and the median age of these connections; 0.0 without connections."""
    found = [max(0.0, now - each) for each in opened]
    return (max(found), median(found)) if found else (0.0, 0.0)
