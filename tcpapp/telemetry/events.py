"""
What can happen to a server and its connections: each event, what is told with it, and its lines in the log.

New here: an event is a class; whatever it happens to makes one, and gives it to `Telemetry.emit`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from typing_extensions import override

from tcpapp.close_reason import CloseReason
from tcpapp.errors import UnsendableMessage
from tcpapp.limits.admission import Refusal
from tcpapp.proxy_protocol import Header
from tcpapp.spec import LINE, line_of
from tcpapp.telemetry.log_lines import FAILURES, LoggedFailure, kind_of
from tcpapp.transport.addresses import describe

__all__ = [
    "AppFailed",
    "Closed",
    "Event",
    "EventConnection",
    "LateReply",
    "LimitNear",
    "Line",
    "Listener",
    "MessagesSkipped",
    "NeverOpened",
    "Opened",
    "RecorderFailed",
    "Refused",
]


class EventConnection(Protocol):
    """The connection of an event, as far as a listener can rely on it: a `Connection`."""

    @property
    def peer(self) -> IAddress:
        """The peer's address."""

    @property
    def host(self) -> IAddress:
        """Our own address."""

    @property
    def proxy(self) -> Header | None:
        """The PROXY header that it began with."""

    @property
    def is_open(self) -> bool:
        """Whether messages can go both ways."""

    @property
    def unread(self) -> int:
        """How many received messages were not taken yet."""

    def close(self, grace: float | None = None) -> Deferred[CloseReason]:
        """Flush what was written, and close."""

    def abort(self, reason: CloseReason | None = None) -> None:
        """Cut the connection now."""


Level = Literal["info", "warn", "error", "critical"]

CLOSES = 10
"""Lines a second that events of one kind may make, and at once after a quiet one: our choice; a person can read it."""

REFUSALS = 1
"""Lines a second for rejected clients of one reason. Once, 147 clients made 445 lines in a flood."""

WHOLE = 2 * LINE
"""Characters of a whole reason: what a peer sent has at most half of them, the rest is ours."""


@dataclass(frozen=True)
class Line:
    """A line of the log: its level, and its text with `fields` in braces."""

    level: Level
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)


class Event(ABC):
    """An event. Each listener gets it, and the log has its `lines`."""

    rate: ClassVar[float] = CLOSES
    """How many of one `kind` may make lines in a second."""

    def kind(self) -> Hashable:
        """What events are alike by that share a rate of lines; `None`: it is no news, and makes no line."""
        return type(self)

    @abstractmethod
    def lines(self) -> Iterable[Line]:
        """
        What an operator has to know of it. What a peer sent stands there only escaped and cut.

        It is asked only where there is a `kind`.
        """


class _ConnectionEvent(Event):
    """One that is about a connection."""

    connection: EventConnection

    def _line(self, level: Level, text: str, **fields: Any) -> Line:
        return Line(level, "{peer}: " + text, {**fields, "peer": describe(self.connection.peer)})


@dataclass(frozen=True)
class Opened(_ConnectionEvent):
    """A connection is open. `moved`: it was open before, in another process, and its app was told there."""

    connection: EventConnection
    moved: bool = False

    @override
    def kind(self) -> Hashable:
        """None: connections that open are no news."""
        return None

    @override
    def lines(self) -> Iterable[Line]:
        """Nothing."""
        return ()


@dataclass(frozen=True)
class Closed(_ConnectionEvent):
    """
    A connection has ended. `unhandled` messages had arrived whole and were never taken by the app.

    `failed_sends`: how many waiting messages were not sent: their ``send`` failed.

    `messages`, `bytes`, `sent_messages`, `sent_bytes`: what it received and sent, counted as in `Info`. `duration`: how
    many seconds it was open.

    `probe`: it was a server's connection, and its peer ended it without sending a byte, as a load balancer's checks do.
    """

    connection: EventConnection
    reason: CloseReason
    unhandled: int
    probe: bool = False
    failed_sends: int = 0
    messages: int = 0
    bytes: int = 0
    sent_messages: int = 0
    sent_bytes: int = 0
    duration: float = 0.0

    @override
    def kind(self) -> Hashable:
        """One for each rule. A proper end is no news, unless messages were not handled."""
        news = self.unhandled or not (self.reason.clean or self.probe)
        return (Closed, self.reason.rule) if news else None

    @override
    def lines(self) -> Iterable[Line]:
        """Messages that were not handled, and an end that was no proper one."""
        if self.unhandled:
            yield self._line("warn", "{count} message(s) were not handled", count=self.unhandled)
        if not self.reason.clean:
            yield self._line("info", "closed: {reason}", reason=_whole(self.reason))


@dataclass(frozen=True)
class NeverOpened(_ConnectionEvent):
    """
    A connection ended before it was open, while TLS was being set up. The app knows nothing of it.

    `probe`: as for `Closed`.
    """

    connection: EventConnection
    reason: CloseReason
    probe: bool = False

    @override
    def kind(self) -> Hashable:
        """One for each rule. The checks of a balancer are no news."""
        return None if self.probe else (NeverOpened, self.reason.rule)

    @override
    def lines(self) -> Iterable[Line]:
        """Why."""
        return [self._line("info", "not opened: {reason}", reason=_whole(self.reason))]


@dataclass(frozen=True)
class Refused(Event):
    """A client at `address` (`None`: not known) was rejected, by the `refusal`; `connections` were open."""

    address: Any
    connections: int
    refusal: Refusal

    rate = REFUSALS

    @override
    def kind(self) -> Hashable:
        """One for each rule."""
        return Refused, self.refusal.rule

    @override
    def lines(self) -> Iterable[Line]:
        """Who, and why."""
        peer = "a client" if self.address is None else describe(self.address)
        return [Line("warn", "refused {peer}: {refusal}", {"peer": peer, "refusal": _whole(self.refusal)})]


@dataclass(frozen=True)
class AppFailed(_ConnectionEvent):
    """The app raised, or gave a reply that cannot be sent. Its connection is closed; no other is touched."""

    connection: EventConnection
    failure: Failure

    rate = FAILURES

    @override
    def kind(self) -> Hashable:
        """One for each type of exception, and line that raises it."""
        return AppFailed, *kind_of(self.failure)

    @override
    def lines(self) -> Iterable[Line]:
        """
        One line for a reply that cannot be sent, where the traceback names no line of the app; else the traceback.

        ``log_failure`` is the app's failure, whose text is safe; its ``value`` is the exception as it was raised.
        """
        failure = self.failure
        if isinstance(failure.value, UnsendableMessage) and not _raised_in_app(failure):
            text = "the app failed: it gave a reply that cannot be sent: {error}"
            return [self._line("error", text, error=line_of(str(failure.value)))]
        fields = {"peer": describe(self.connection.peer), "log_failure": LoggedFailure(failure)}
        return [Line("critical", "the app failed on the connection of {peer}", fields)]


@dataclass(frozen=True)
class RecorderFailed(_ConnectionEvent):
    """A recorder of the connection raised: it was detached. The connection goes on."""

    connection: EventConnection
    failure: Failure

    rate = FAILURES

    @override
    def kind(self) -> Hashable:
        """One for each type of exception, and line that raises it."""
        return RecorderFailed, *kind_of(self.failure)

    @override
    def lines(self) -> Iterable[Line]:
        """The traceback. ``log_failure`` is as for `AppFailed`."""
        fields = {"peer": describe(self.connection.peer), "log_failure": LoggedFailure(self.failure)}
        return [Line("critical", "a recorder failed on the connection of {peer}, and is detached", fields)]


@dataclass(frozen=True)
class MessagesSkipped(_ConnectionEvent):
    """`count` messages over `limit` bytes were left out, as ``oversize=skip`` asks."""

    connection: EventConnection
    count: int
    limit: int

    @override
    def lines(self) -> Iterable[Line]:
        """How many."""
        text = "left out {count} message(s) over {limit} bytes"
        return [self._line("warn", text, count=self.count, limit=self.limit)]


@dataclass(frozen=True)
class LimitNear(Event):
    """
    Alarm: four fifths of a limit of `Limits`, called `name`, are reached. It repeats only after the number has fallen
    again.

    `value` is the current number and `limit` the limit. `where` is the address or the network of a limit per place, or
    ``""`` for a limit of the whole server. For ``max_buffered`` the value is in bytes, and the largest holders are no
    longer read from.
    """

    name: str
    value: int
    limit: int
    where: str = ""

    @override
    def kind(self) -> Hashable:
        """One for each limit."""
        return LimitNear, self.name

    @override
    def lines(self) -> Iterable[Line]:
        """How much of which limit."""
        text = "connections hold {value} of {limit} bytes ({name}): the largest holders are not read from"
        if self.name != "max_buffered":
            text = "{value} connections {where}are open, near {limit} ({name}): raise the limit, or find the cause"
        where = self.where and f"from {self.where} "
        fields = {"name": self.name, "value": self.value, "limit": self.limit, "where": where}
        return [Line("warn", text, fields)]


@dataclass(frozen=True)
class LateReply(_ConnectionEvent):
    """A reply came that no request waits for (any more): it is dropped."""

    connection: EventConnection

    @override
    def lines(self) -> Iterable[Line]:
        """That there was one."""
        return [self._line("info", "dropped a reply that no request waits for")]


Listener = Callable[[Event], None]


def _whole(told: object) -> str:
    return line_of(str(told), WHOLE)


def _raised_in_app(failure: Failure) -> bool:
    """Whether a call of the traceback is of a module that is not ours, nor Twisted's."""
    traceback = failure.tb
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in ("tcpapp", "twisted"):
            return True
        traceback = traceback.tb_next
    return False
