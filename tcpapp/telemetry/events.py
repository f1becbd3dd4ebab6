"""
The events of a server and its connections: their fields, and their lines in the log.

New here: each event is a class. The object that it happens to makes the event and passes it to `Telemetry.emit`.
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
    "TasksLeft",
]


class EventConnection(Protocol):
    """The connection of an event: the part of `Connection` that a listener can rely on."""

    @property
    def peer(self) -> IAddress:
        """The peer's address."""

    @property
    def host(self) -> IAddress:
        """The address of our side."""

    @property
    def proxy(self) -> Header | None:
        """The PROXY header at the beginning of the connection; `None` without one."""

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent and received."""

    @property
    def unread(self) -> int:
        """The number of received messages that the app or `receive` has not taken yet."""

    def close(self, grace: float | None = None) -> Deferred[CloseReason]:
        """Flush the written bytes and close, within `grace` seconds (`None`: ``timeouts.grace``)."""

    def abort(self, reason: CloseReason | None = None) -> None:
        """Cut the connection now, without flushing."""


Level = Literal["info", "warn", "error", "critical"]

CLOSES = 10
"""
Lines a second for events of one kind, and as many at once after a quiet second. Our choice: a person can read them.
"""

REFUSALS = 1
"""Lines a second for clients that are rejected by one rule: a flood of 147 clients once made 445 lines."""

WHOLE = 2 * LINE
"""The most characters of a reason: at most half of them are from a peer, the others are ours."""


@dataclass(frozen=True)
class Line:
    """A line of the log: its level, and its text with `fields` in braces."""

    level: Level
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)


class Event(ABC):
    """Something that happened. Each listener gets the event, and `lines` says what the log shows of it."""

    rate: ClassVar[float] = CLOSES
    """How many events of one `kind` can make lines in a second."""

    def kind(self) -> Hashable:
        """Return a key that is equal for events that share a rate of lines; `None` for an event that makes no line."""
        return type(self)

    @abstractmethod
    def lines(self) -> Iterable[Line]:
        """
        Return the lines that tell an operator about the event. Bytes of a peer are in them only escaped and cut. The
        log calls this only if `kind` is not `None`.
        """


class _ConnectionEvent(Event):
    """An event of one connection."""

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
        """Return `None`: a connection that opens makes no line."""
        return None

    @override
    def lines(self) -> Iterable[Line]:
        """Return no line."""
        return ()


@dataclass(frozen=True)
class Closed(_ConnectionEvent):
    """
    A connection has ended, for this `reason`.

    - `unhandled`: how many messages had arrived whole, and were never handled by the app.
    - `failed_sends`: how many waiting messages were not sent, so that their ``send`` failed.
    - `messages`, `bytes`, `sent_messages`, `sent_bytes`: what the connection received and sent, counted as in `Info`.
    - `duration`: how many seconds the connection was open.
    - `probe`: whether the peer ended a server's connection without sending a byte, as a load balancer's check does.
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
        """Return a key for each rule. A clean end makes no line, unless messages were not handled."""
        news = self.unhandled or not (self.reason.clean or self.probe)
        return (Closed, self.reason.rule) if news else None

    @override
    def lines(self) -> Iterable[Line]:
        """Return a line for messages that were not handled, and one for an end that was not clean."""
        if self.unhandled:
            yield self._line("warn", "{count} message(s) were not handled", count=self.unhandled)
        if not self.reason.clean:
            yield self._line("info", "closed: {reason}", reason=_whole(self.reason))


@dataclass(frozen=True)
class NeverOpened(_ConnectionEvent):
    """
    A connection ended before it was open, while TLS was being set up. The app was never called for it.

    `probe`: as for `Closed`.
    """

    connection: EventConnection
    reason: CloseReason
    probe: bool = False

    @override
    def kind(self) -> Hashable:
        """Return a key for each rule. A load balancer's check makes no line."""
        return None if self.probe else (NeverOpened, self.reason.rule)

    @override
    def lines(self) -> Iterable[Line]:
        """Return a line with the reason."""
        return [self._line("info", "not opened: {reason}", reason=_whole(self.reason))]


@dataclass(frozen=True)
class Refused(Event):
    """A client at `address` (`None`: not known) was rejected for this `refusal`, while `connections` were open."""

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
        """Return a line with the client's address and the refusal."""
        peer = "a client" if self.address is None else describe(self.address)
        return [Line("warn", "refused {peer}: {refusal}", {"peer": peer, "refusal": _whole(self.refusal)})]


class _FailureEvent(_ConnectionEvent):
    """An event about an object of the user's that raised. Events of the same failure share a rate of lines."""

    failure: Failure

    rate = FAILURES

    @override
    def kind(self) -> Hashable:
        """Return a key for each type of exception and each line that raises it."""
        return type(self), *kind_of(self.failure)


@dataclass(frozen=True)
class AppFailed(_FailureEvent):
    """The app raised, or returned a reply that cannot be sent. Its connection is closed, and no other."""

    connection: EventConnection
    failure: Failure

    @override
    def lines(self) -> Iterable[Line]:
        """
        Return the line with the traceback. For a reply that cannot be sent, if no call of the app is in the traceback,
        return a line with the error instead.

        The field ``log_failure`` is the app's failure with a safe text; its ``value`` is the original exception.
        """
        failure = self.failure
        if isinstance(failure.value, UnsendableMessage) and not _raised_in_app(failure):
            text = "the app failed: it gave a reply that cannot be sent: {error}"
            return [self._line("error", text, error=line_of(str(failure.value)))]
        fields = {"peer": describe(self.connection.peer), "log_failure": LoggedFailure(failure)}
        return [Line("critical", "the app failed on the connection of {peer}", fields)]


@dataclass(frozen=True)
class RecorderFailed(_FailureEvent):
    """A recorder of the connection raised an error, and was detached. The connection stays open."""

    connection: EventConnection
    failure: Failure

    @override
    def lines(self) -> Iterable[Line]:
        """Return one line with the traceback. ``log_failure`` is as for `AppFailed`."""
        fields = {"peer": describe(self.connection.peer), "log_failure": LoggedFailure(self.failure)}
        return [Line("critical", "a recorder failed on the connection of {peer}, and is detached", fields)]


@dataclass(frozen=True)
class MessagesSkipped(_ConnectionEvent):
    """`count` messages over `limit` bytes were skipped, because the framing has ``oversize=skip``."""

    connection: EventConnection
    count: int
    limit: int

    @override
    def lines(self) -> Iterable[Line]:
        """Return a line with their number and the limit."""
        text = "left out {count} message(s) over {limit} bytes"
        return [self._line("warn", text, count=self.count, limit=self.limit)]


@dataclass(frozen=True)
class LimitNear(Event):
    """
    Alarm: a number has reached four fifths of the limit of `Limits` called `name`. It repeats only after the number has
    fallen to seven tenths.

    `value` is the current number and `limit` the limit. For a limit of one address or network, `where` names it; for a
    limit of the whole server, `where` is ``""``. For ``max_buffered`` the value is in bytes, and the connections that
    hold the most are no longer read from.
    """

    name: str
    value: int
    limit: int
    where: str = ""

    @override
    def kind(self) -> Hashable:
        """Return a key for each limit."""
        return LimitNear, self.name

    @override
    def lines(self) -> Iterable[Line]:
        """Return a line with the number and the limit."""
        text = "connections hold {value} of {limit} bytes ({name}): the largest holders are not read from"
        if self.name != "max_buffered":
            text = "{value} connections {where}are open, near {limit} ({name}): raise the limit, or find the cause"
        where = self.where and f"from {self.where} "
        fields = {"name": self.name, "value": self.value, "limit": self.limit, "where": where}
        return [Line("warn", text, fields)]


@dataclass(frozen=True)
class LateReply(_ConnectionEvent):
    """A reply came that no request waits for, or no longer waits for. It was dropped."""

    connection: EventConnection

    @override
    def lines(self) -> Iterable[Line]:
        """Return a line without details."""
        return [self._line("info", "dropped a reply that no request waits for")]


@dataclass(frozen=True)
class TasksLeft(_ConnectionEvent):
    """
    A connection ended, and `count` of its tasks ran on for `seconds` after they were cancelled. They are left running,
    and the connection no longer waits for them.
    """

    connection: EventConnection
    count: int
    seconds: float

    @override
    def lines(self) -> Iterable[Line]:
        """Return a line with their number."""
        text = "{count} task(s) of the connection still run {seconds:g} s after they were cancelled"
        return [self._line("warn", text, count=self.count, seconds=self.seconds)]


Listener = Callable[[Event], None]


def _whole(told: object) -> str:
    return line_of(str(told), WHOLE)


def _raised_in_app(failure: Failure) -> bool:
    """Return whether the traceback has a call in a module that is neither ours nor Twisted's."""
    traceback = failure.tb
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in ("tcpapp", "twisted"):
            return True
        traceback = traceback.tb_next
    return False
