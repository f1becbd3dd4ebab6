"""
What happened, told to whoever listens.

A server and its connections say what happens to them as events, and never log themselves. `log` is the listener every
factory begins with; counters and metrics are further ones. No event stands on the path of a message, and none is even
made while nobody listens::

    telemetry = Telemetry()
    telemetry.listen(log)
    factory = MessageServerFactory(app, telemetry=telemetry)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from tcpapp.addresses import describe
from tcpapp.admission import Refusal
from tcpapp.close_reason import CloseReason
from tcpapp.pace import Pace

if TYPE_CHECKING:
    from tcpapp.connection import MessageProtocol

__all__ = [
    "AppFailed",
    "CalmLog",
    "Closed",
    "Event",
    "LateReply",
    "LimitNear",
    "Listener",
    "MessagesSkipped",
    "NeverOpened",
    "Opened",
    "Refused",
    "Telemetry",
    "log",
]


@dataclass(frozen=True)
class Opened:
    """A connection is open."""

    connection: MessageProtocol


@dataclass(frozen=True)
class Closed:
    """A connection has ended. `unhandled` messages had arrived whole and were never taken by the app."""

    connection: MessageProtocol
    reason: CloseReason
    unhandled: int


@dataclass(frozen=True)
class NeverOpened:
    """A connection ended before it was open, while TLS was being set up: the app knows nothing of it."""

    connection: MessageProtocol
    reason: CloseReason


@dataclass(frozen=True)
class Refused:
    """A client at `address` (`None`: not known) was turned away, by the `refusal`; `connections` were open."""

    address: Any
    connections: int
    refusal: Refusal


@dataclass(frozen=True)
class AppFailed:
    """The app raised, or gave a reply that cannot be sent. Its connection is closed; no other is touched."""

    connection: MessageProtocol
    failure: Failure


@dataclass(frozen=True)
class MessagesSkipped:
    """`count` messages over `limit` bytes were left out, as ``oversize=skip`` asks."""

    connection: MessageProtocol
    count: int
    limit: int


@dataclass(frozen=True)
class LimitNear:
    """
    The alarm: four fifths of a limit of `Limits`, called `name`, are reached. It is told again once it was left behind.

    There are `value` of what `limit` allows; `where` is the address or the network whose limit it is, or ``""``: it is
    that of the whole server. Of ``max_buffered`` the value is in bytes, and the greedy are not read from any more.
    """

    name: str
    value: int
    limit: int
    where: str = ""


@dataclass(frozen=True)
class LateReply:
    """A reply came that no request waits for (any more): it is dropped."""

    connection: MessageProtocol


Event = Opened | Closed | NeverOpened | Refused | AppFailed | LimitNear | MessagesSkipped | LateReply
Listener = Callable[[Event], None]

_log = Logger(namespace="tcpapp")


class Telemetry:
    """Passes events on. True while somebody listens: ask before making an event."""

    __slots__ = ("_listeners",)

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each event from now on; returns a function that ends it."""
        self._listeners = (*self._listeners, listener)

        def stop() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return stop

    def tell(self, event: Event) -> None:
        """Pass `event` to every listener. One that raises is logged, and harms neither the others nor the caller."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                _log.failure("a telemetry listener failed on {event!r}", event=type(event).__name__)


def log(event: Event) -> None:
    """
    The listener that writes to Twisted's log: what an operator has to know, a line each.

    Connections that open, and that end well, are not news and make no line. What a peer sent stands in a line only
    escaped; an app's traceback stands as Python gives it.
    """
    if isinstance(event, Closed):
        _log_closed(event)
    elif isinstance(event, NeverOpened):
        _log.info("{peer}: not opened: {reason}", peer=_peer(event.connection), reason=str(event.reason))
    elif isinstance(event, AppFailed):
        _log.failure("the app failed on the connection of {peer}", event.failure, peer=_peer(event.connection))
    elif isinstance(event, Refused):
        peer = "a client" if event.address is None else describe(event.address)
        _log.warn("refused {peer}: {refusal}", peer=peer, refusal=str(event.refusal))
    elif isinstance(event, MessagesSkipped):
        _log.warn(
            "{peer}: left out {count} message(s) over {limit} bytes",
            peer=_peer(event.connection),
            count=event.count,
            limit=event.limit,
        )
    elif isinstance(event, LimitNear):
        text = "connections hold {value} bytes, of {limit} ({name}): those that hold the most are not read from"
        if event.name != "max_buffered":
            text = "{value} connections {where}are open, near {limit} ({name}): turn it up, or find who it is"
        where = event.where and f"from {event.where} "
        _log.warn(text, name=event.name, value=event.value, limit=event.limit, where=where)
    elif isinstance(event, LateReply):
        _log.info("{peer}: dropped a reply that no request waits for", peer=_peer(event.connection))


REFUSALS = 1
"""Lines a second that clients who are turned away for one reason may make: 147 of them made 445 in a flood, once."""

CLOSES = 10
"""Lines a second that ends of one kind may make, and at once after a quiet one: our choice; a person can read them."""


class CalmLog:
    """
    `log`, but not as often as a flood of peers would have it: so many lines a second of one kind and one rule.

    What makes no line is counted, and told in the next line of that kind. A server's `info()` counts everything.
    """

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds
        self._paces: dict[tuple[type[Event], str], Pace] = {}
        self._left_out: Counter[tuple[type[Event], str]] = Counter()

    def __call__(self, event: Event) -> None:
        """Write a line, or do not."""
        if isinstance(event, Opened) or (isinstance(event, Closed) and event.reason.clean and not event.unhandled):
            return  # which is no news
        kind = type(event), _rule_of(event)
        now = self._seconds()
        pace = self._paces.setdefault(kind, Pace(REFUSALS if isinstance(event, Refused) else CLOSES))
        if isinstance(event, AppFailed) or pace.credit(now) >= 1:
            pace.wait(now)
            left_out = self._left_out.pop(kind, 0)
            if left_out:
                _log.warn("and {count} more like the next line, which made none", count=left_out)
            log(event)
        else:
            self._left_out[kind] += 1


def _rule_of(event: Event) -> str:
    """The rule of an event that has one. There are few: a table of kinds and rules cannot grow by what peers do."""
    if isinstance(event, (Closed, NeverOpened)):
        return event.reason.rule
    if isinstance(event, LimitNear):
        return event.name
    return event.refusal.rule if isinstance(event, Refused) else ""


def _log_closed(event: Closed) -> None:
    if event.unhandled:
        _log.warn("{peer}: {count} message(s) were not handled", peer=_peer(event.connection), count=event.unhandled)
    if not event.reason.clean:
        _log.info("{peer}: closed: {reason}", peer=_peer(event.connection), reason=str(event.reason))


def _peer(connection: MessageProtocol) -> str:
    return describe(connection.peer)
