"""What can happen to a server and its connections: each event, and what is told with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from tcpapp.close_reason import CloseReason
from tcpapp.limits.admission import Refusal
from tcpapp.proxy_protocol import Header

__all__ = [
    "AppFailed",
    "Closed",
    "Event",
    "EventConnection",
    "LateReply",
    "LimitNear",
    "Listener",
    "MessagesSkipped",
    "NeverOpened",
    "Opened",
    "Refused",
]


class EventConnection(Protocol):
    """The connection that an event is about, as far as a listener can rely on it: a `MessageProtocol`."""

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
        """How many messages came that nobody has taken."""

    def close(self, grace: float | None = None) -> Deferred[CloseReason]:
        """Flush what was written, and close."""

    def abort(self, reason: CloseReason | None = None) -> None:
        """Cut the connection now."""


@dataclass(frozen=True)
class Opened:
    """A connection is open."""

    connection: EventConnection


@dataclass(frozen=True)
class Closed:
    """
    A connection has ended. `unhandled` messages had arrived whole and were never taken by the app.

    `failed_sends`: how many messages waited to be sent, and were not: each ``send`` of them failed.
    `probe`: it was a server's, and its peer ended it and had sent nothing, as the checks of a balancer do.
    """

    connection: EventConnection
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

    connection: EventConnection
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

    connection: EventConnection
    failure: Failure


@dataclass(frozen=True)
class MessagesSkipped:
    """`count` messages over `limit` bytes were left out, as ``oversize=skip`` asks."""

    connection: EventConnection
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

    connection: EventConnection


Event = Opened | Closed | NeverOpened | Refused | AppFailed | LimitNear | MessagesSkipped | LateReply
Listener = Callable[[Event], None]
