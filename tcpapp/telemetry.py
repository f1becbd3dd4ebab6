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

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from tcpapp.addresses import describe
from tcpapp.admission import Refusal
from tcpapp.close_reason import CloseReason
from tcpapp.errors import UnsendableMessage
from tcpapp.log_lines import FAILURES, FailureLog, LineRates, LoggedFailure, kind_of, tell_left_out
from tcpapp.spec import LINE, line_of

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
    """
    A connection has ended. `unhandled` messages had arrived whole and were never taken by the app.

    `failed_sends`: how many messages waited to be sent, and were not: each ``send`` of them failed.
    `probe`: it was a server's, and its peer ended it and had sent nothing, as the checks of a balancer do.
    """

    connection: MessageProtocol
    reason: CloseReason
    unhandled: int
    probe: bool = False
    failed_sends: int = 0


@dataclass(frozen=True)
class NeverOpened:
    """
    A connection ended before it was open, while TLS was being set up: the app knows nothing of it.

    `probe`: as of `Closed`.
    """

    connection: MessageProtocol
    reason: CloseReason
    probe: bool = False


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
    """
    Passes events on. True while somebody listens: ask before making an event.

    `seconds` is the clock by which failures of listeners are logged, one a second of each kind.
    """

    __slots__ = ("_failures", "_listeners")

    def __init__(self, *listeners: Listener, seconds: Callable[[], float] = monotonic) -> None:
        self._listeners = listeners
        self._failures = FailureLog(seconds)

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
                text = "a telemetry listener failed on {event!r}"
                self._failures.write(_log, text, Failure(), event=type(event).__name__)


def log(event: Event) -> None:
    """
    The listener that writes to Twisted's log: what an operator has to know, a line each.

    Connections that open, and that end well, are not news and make no line. What a peer sent stands in a line only
    escaped and cut, also where it is in an exception's text: ``log_failure`` of an event is the app's failure, whose
    text is safe, and whose ``value`` is the exception as it was raised. A reply that cannot be sent is one line.
    """
    if not _is_news(event):
        return
    if isinstance(event, Closed):
        _log_closed(event)
    elif isinstance(event, NeverOpened):
        _log.info("{peer}: not opened: {reason}", peer=_peer(event.connection), reason=_whole(event.reason))
    elif isinstance(event, AppFailed):
        _log_failed(event)
    elif isinstance(event, Refused):
        peer = "a client" if event.address is None else describe(event.address)
        _log.warn("refused {peer}: {refusal}", peer=peer, refusal=_whole(event.refusal))
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
    else:
        _log.info("{peer}: dropped a reply that no request waits for", peer=_peer(event.connection))


REFUSALS = 1
"""Lines a second that clients who are turned away for one reason may make: 147 of them made 445 in a flood, once."""

CLOSES = 10
"""Lines a second that ends of one kind may make, and at once after a quiet one: our choice; a person can read them."""

RARE: dict[type, float] = {Refused: REFUSALS, AppFailed: FAILURES}
"""Events with a rate of their own."""

WHOLE = 2 * LINE
"""Characters of a whole reason: what a peer sent has at most half of them, the rest is ours."""


class CalmLog:
    """
    `log`, but not as often as a flood of peers would have it: so many lines a second of one kind and one rule.

    What makes no line is counted, and told in the next line of that kind. A server's `info()` counts everything.
    """

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        self._rates = LineRates(seconds)

    def __call__(self, event: Event) -> None:
        """Write a line, or do not."""
        if not _is_news(event):
            return
        left_out = self._rates.take(_kind_of(event), RARE.get(type(event), CLOSES))
        if left_out is not None:
            tell_left_out(_log, left_out)
            log(event)


def _is_news(event: Event) -> bool:
    """Whether an operator has to know of it."""
    if isinstance(event, Closed):
        return bool(event.unhandled) or not (event.reason.clean or event.probe)
    if isinstance(event, NeverOpened):
        return not event.probe
    return not isinstance(event, Opened)


def _kind_of(event: Event) -> tuple[object, ...]:
    """What lines are alike by, and share a rate: the kind of event, and its rule, or where the app failed."""
    if isinstance(event, AppFailed):
        return (AppFailed, *kind_of(event.failure))
    if isinstance(event, (Closed, NeverOpened)):
        return type(event), event.reason.rule
    if isinstance(event, LimitNear):
        return LimitNear, event.name
    return (Refused, event.refusal.rule) if isinstance(event, Refused) else (type(event),)


def _log_failed(event: AppFailed) -> None:
    """One line for a reply that cannot be sent, where the traceback names no line of the app; else the traceback."""
    failure, peer = event.failure, _peer(event.connection)
    if isinstance(failure.value, UnsendableMessage) and not _raised_in_app(failure):
        text = "{peer}: the app failed: it gave a reply that cannot be sent: {error}"
        _log.error(text, peer=peer, error=line_of(str(failure.value)))
    else:
        _log.failure("the app failed on the connection of {peer}", LoggedFailure(failure), peer=peer)


def _raised_in_app(failure: Failure) -> bool:
    """Whether a call of the traceback is of a module that is not ours, nor Twisted's."""
    traceback = failure.tb
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in ("tcpapp", "twisted"):
            return True
        traceback = traceback.tb_next
    return False


def _log_closed(event: Closed) -> None:
    if event.unhandled:
        _log.warn("{peer}: {count} message(s) were not handled", peer=_peer(event.connection), count=event.unhandled)
    if not event.reason.clean:
        _log.info("{peer}: closed: {reason}", peer=_peer(event.connection), reason=_whole(event.reason))


def _whole(told: object) -> str:
    return line_of(str(told), WHOLE)


def _peer(connection: MessageProtocol) -> str:
    return describe(connection.peer)
