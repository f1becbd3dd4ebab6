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
    A server at one moment. Times are seconds.

    - `addresses`: where it listens, as operators write it.
    - `state`: ``"serving"``, ``"suspended"``, ``"draining"``, or ``"stopped"`` if it listens nowhere.
    - `uptime`: time since its factory was made.
    - `connections`, `most_connections`: how many are open, and the most that were open at one time.
    - `accepted`, `accept_rate`: how many were accepted in total, and per second over the last ten seconds.
    - `refused`, `closed`: how many were rejected, and have ended, by rule.
    - `oldest`, `median_age`: how long connections have been open; 0.0 without connections.
    - `messages`, `message_rate`, `bytes`, `byte_rate`: how many peers sent in total, and per second over the last ten
      seconds. Messages that were skipped for their length count, too.
    - `sent_messages`, `sent_message_rate`, `sent_bytes`, `sent_byte_rate`: how many were sent to peers. A byte counts
      when the transport gets it, and a message when the transport has its last byte. So a message in the outbox does
      not count yet, and it never counts if it is dropped. No count says that the peer has received it.
    - `late_replies`: replies that came when no request waited for them any more, or that belong to no request.
    - `failed_sends`: messages whose ``send`` failed: the connection was not open, or ended before they were sent.
    - `lag`, `most_lag`: the last and the longest delay of the event loop; 0.0 without a loop monitor.
    - `lost_lines`: how many lines the log could not write, if they are counted, as under `twistd tcpapp`.
    - `buffered`: bytes that all connections hold, as `max_buffered` counts them; `shed`: how many connections it cut.
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
        """The same as dictionaries, lists, texts and numbers, as JSON has them."""
        return asdict(self) | {"addresses": list(self.addresses)}


class Totals(NamedTuple):
    """
    What one connection received and sent: as in `Info`. `duration` is how long it was open so far, or in all: seconds.
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
    ``awaiting-reply``   The app's reply to a message is not there yet.
    ``paused``           ``pause()`` was called.
    ``write-blocked``    The peer does not take the sent bytes. The seconds count from the last bytes that it took.
    ``turn``             Other connections have their turn.
    ``message-rate``     More messages came than ``message_rate`` allows.
    ``byte-rate``        More bytes came than ``byte_rate`` allows.
    ``inbox-full``       More than ``inbox_high`` bytes of messages wait for the app.
    ``memory-pressure``  All connections together hold nearly ``max_buffered`` bytes, and this one holds many of them.
    ``tls-handshake``    TLS is being set up. Seconds in which nothing was read do not count.
    ``handshake-turn``   A step of the handshake waits for its turn.
    ``moving``           It comes to a message boundary, to go on in another process.
    ``flush``            It is closing, and the peer has not taken all bytes yet.
    ==================== ==============================================================================================

    For ``inbox-full``, ``memory-pressure``, ``handshake-turn`` and ``moving``, and for a ``turn`` of messages that came
    in one chunk, the seconds count from the moment when reading stopped. Without a clock all seconds are 0.0.
    """

    reason: str
    seconds: float


@dataclass(frozen=True)
class Wait:
    """A wait that has an end: its `name` in `Timeouts`, a rate, or ``ending``; and the `seconds` until it is over."""

    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ConnectionInfo:
    """
    A connection at one moment. Times are seconds.

    - `state`: the value of its `State`.
    - `age`: how long it has been open, or was open.
    - `messages`, `bytes`, `sent_messages`, `sent_bytes`: as in `Info`, and also after its end.
    - `unread`: messages in the inbox, for the app or ``receive``.
    - `pending`: messages that came, and wait for a turn or for a rate.
    - `unsent`: bytes that wait until the transport takes more.
    - `buffered`: bytes that it holds, as `max_buffered` counts them.
    - `holds`: what holds it back. An app that fetches messages has none while it does not fetch: see `unread`.
    - `deadline`: the wait that is over first; `None` where none runs.
    """

    state: str
    age: float
    messages: int
    bytes: int
    sent_messages: int
    sent_bytes: int
    unread: int = 0
    pending: int = 0
    unsent: int = 0
    buffered: int = 0
    holds: tuple[Hold, ...] = ()
    deadline: Wait | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as dictionaries, lists, texts and numbers, as JSON has them."""
        return asdict(self) | {"holds": [asdict(each) for each in self.holds]}


class ConnectionCounts:
    """
    What a factory counts of its connections. Counting takes a few operations for a connection, and none for a message.
    """

    def __init__(self, now: float) -> None:
        self.since = now
        self.accepted = 0
        self.most = 0
        self.closed: Counter[str] = Counter()
        self._seconds: deque[tuple[int, int]] = deque()

    def opened(self, now: float, there: int) -> None:
        """One more connection is open at `now`; now `there` are open."""
        self.accepted += 1
        self.most = max(self.most, there)
        second = int(now)
        count = self._seconds.pop()[1] if self._seconds and self._seconds[-1][0] == second else 0
        self._seconds.append((second, count + 1))
        if len(self._seconds) > RECENT:
            self._seconds.popleft()

    def moved_here(self, there: int) -> None:
        """One more connection is open, which was accepted in another process; now `there` are open."""
        self.most = max(self.most, there)

    def rate(self, now: float) -> float:
        """Connections accepted per second, over the last ten seconds."""
        return sum(count for second, count in self._seconds if now - second <= RECENT) / RECENT


def ages(opened: Iterable[float], now: float) -> tuple[float, float]:
    """The greatest and the median age of these connections; 0.0 without connections."""
    found = [max(0.0, now - each) for each in opened]
    return (max(found), median(found)) if found else (0.0, 0.0)
