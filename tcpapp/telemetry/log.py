"""The listener that writes events to the log, and not more often than a person can read."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from twisted.logger import Logger
from twisted.python.failure import Failure

from tcpapp.errors import UnsendableMessage
from tcpapp.spec import LINE, line_of
from tcpapp.telemetry.events import (
    AppFailed,
    Closed,
    Event,
    EventConnection,
    LimitNear,
    MessagesSkipped,
    NeverOpened,
    Opened,
    Refused,
)
from tcpapp.telemetry.log_lines import FAILURES, LineRates, LoggedFailure, kind_of, tell_left_out
from tcpapp.transport.addresses import describe

__all__ = ["CalmLog", "log"]

_log = Logger(namespace="tcpapp")


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


def _peer(connection: EventConnection) -> str:
    return describe(connection.peer)
