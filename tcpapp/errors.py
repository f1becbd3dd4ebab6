"""
Every error tcpapp raises, in one tree::

    TcpAppError
    ├── InvalidAddress         an invalid endpoint, host or port
    ├── InvalidFraming         an invalid framing spec or option
    ├── InvalidOption          any other invalid setting: a limit, a timeout, a codec, an app
    ├── InvalidProxyHeader     an invalid PROXY header of ours: mixed families, a port out of range
    ├── InvalidState           the state of a connection that cannot be dumped or loaded
    ├── UnsendableMessage      ours: too long, holds the delimiter, not bytes. The connection stays open
    ├── UnreadableStream       theirs: the connection is closed
    │   ├── MessageTooLong     raised as soon as the length is known; nothing of it is buffered
    │   ├── MalformedFrame     bytes that are no frame of this framing
    │   ├── TruncatedMessage   the stream ended inside a message
    │   ├── UndecodableMessage a whole message that the codec cannot decode
    │   └── MalformedProxyHeader  the stream does not begin with the required PROXY header
    ├── NotConnected           send, receive or request on a connection that is not open
    │   ├── NeverSent          of a `Client`: no connection was given any part of the message
    │   └── MaybeSent          of a `Client`: the connection was lost before a reply came
    ├── UnavailableReactor     ``--reactor=uvloop`` where there is no uvloop
    ├── Forked                 a client or a server in a forked child of a process with a running reactor
    ├── GiveUp                 raised by your ``prepare``: do not try again
    └── TimedOut               a timer expired; names it and its seconds

The ``Invalid…`` errors are the caller's fault, and are `ValueError`\\ s too. They are raised before anything is opened
or listened on; `InvalidState` is raised before any of the state is used. `UnsendableMessage` is our side's fault, and
`UnreadableStream` the peer's (h11 splits its errors the same way). Every message says what was wrong and what would be
right.

Failures to connect are Twisted's own (`twisted.internet.error.ConnectionRefusedError`, ``DNSLookupError``,
``TimeoutError``, …).
"""

from __future__ import annotations

from typing import Any, TypeVar

from typing_extensions import override

from tcpapp.close_reason import CloseReason, EndedBy

__all__ = [
    "Forked",
    "GiveUp",
    "InvalidAddress",
    "InvalidFraming",
    "InvalidOption",
    "InvalidProxyHeader",
    "InvalidState",
    "MalformedFrame",
    "MalformedProxyHeader",
    "MaybeSent",
    "MessageTooLong",
    "NeverSent",
    "NotConnected",
    "TcpAppError",
    "TimedOut",
    "TruncatedMessage",
    "UnavailableReactor",
    "UndecodableMessage",
    "UnreadableStream",
    "UnsendableMessage",
]

LONGEST_CHAIN = 100
"""Length of the chain of causes that is followed: our choice; a chain can form a circle."""

Error = TypeVar("Error", bound=BaseException)


def without_frames(error: Error) -> Error:
    """
    `error` itself, with the tracebacks removed from it and from the errors that led to it.

    A kept error with a traceback keeps every frame that it passed through: the chunk it was found in, and the
    connection. An error of tcpapp repeats in its text what the errors behind it say, and drops them.
    """
    if isinstance(error, TcpAppError):
        error.__cause__ = error.__context__ = None
    each: BaseException | None = error
    for _ in range(LONGEST_CHAIN):
        if each is None:
            break
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error


def drop_frames(failure: Any) -> None:
    """
    Remove the frames from the error of a `Failure` of Twisted's, as `without_frames` does, and from the failure itself.
    """
    if failure.value.__traceback__ is not None:
        without_frames(failure.value)
        failure.tb = None


class TcpAppError(Exception):
    """The root: ``except TcpAppError`` catches whatever tcpapp itself raises."""


class InvalidAddress(TcpAppError, ValueError):
    """An invalid endpoint, host or port. The caller's fault; raised before anything is opened."""


class InvalidFraming(TcpAppError, ValueError):
    """An invalid framing spec or option; names the option and what it takes. The caller's fault."""


class InvalidOption(TcpAppError, ValueError):
    """An invalid limit, timeout, codec or app; names it and what it takes. The caller's fault."""


class InvalidProxyHeader(TcpAppError, ValueError):
    """A PROXY header that cannot be written; names the part and what it takes. The caller's fault."""


class InvalidState(TcpAppError, ValueError):
    """
    The state of a connection, or of a part of it, that cannot be put into bytes (dumped) or taken out of them (loaded).

    It cannot be dumped if the stream has failed, or if something would be lost; then the connection is as before. It
    cannot be loaded if the bytes are of another version or of another configuration, or were changed on the way; then
    nothing was loaded. The caller's fault, and never the peer's.
    """


class UnsendableMessage(TcpAppError):
    """
    A message that this connection's framing or codec cannot send.

    Our side's fault. Nothing of the message was written and the connection stays open.
    """


class UnreadableStream(TcpAppError):
    """
    Bytes of the peer that cannot be read on from here. The peer's fault; the connection is closed.

    `value` and `limit` are the numbers behind the decision (bytes), or `None` where the rule has no number.
    """

    rule = "unreadable-stream"
    """The name of the rule, as in the `CloseReason`."""

    def __init__(self, message: str, *, value: int | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.value = value
        self.limit = limit

    def close_reason(self) -> CloseReason:
        """The reason of a connection whose peer sent this. It keeps the error without its frames."""
        by = EndedBy.PEER if self.rule == "truncated-message" else EndedBy.US
        return CloseReason(by, self.rule, str(self), self.value, self.limit, without_frames(self))


class MessageTooLong(UnreadableStream):
    """A message longer than the framing's ``max``: `value` bytes, received or announced, over `limit`."""

    rule = "message-too-long"


class MalformedFrame(UnreadableStream):
    """Bytes that are no frame of this framing."""

    rule = "malformed-frame"


class TruncatedMessage(UnreadableStream):
    """The stream ended inside a message, of which `value` bytes had arrived."""

    rule = "truncated-message"


ERROR_WEIGHT = 1024
"""Bytes of an error beside the message: its text, of at most 400 characters, its attributes, and itself."""


class UndecodableMessage(UnreadableStream):
    """
    A whole message that the codec cannot decode. `message` holds its bytes.

    The frames around it are valid, so an app can ask to get this error in place of the value and go on
    (``invalid="deliver"`` on the codec).
    """

    rule = "undecodable-message"

    def __init__(self, text: str, *, message: bytes) -> None:
        super().__init__(text, value=len(message))
        self.message = message

    @property
    def weight(self) -> int:
        """An upper bound of the bytes of memory that this error takes with its message, `without_frames`."""
        return ERROR_WEIGHT + len(self.message)


class MalformedProxyHeader(UnreadableStream):
    """The stream does not begin with a whole, valid PROXY header, on a connection that requires one."""

    rule = "malformed-proxy-header"


class NotConnected(TcpAppError):
    """
    Send, receive or request on a connection that is not open.

    `reason` is the `CloseReason` of a connection that has ended, or is ending.
    """

    def __init__(self, message: str, reason: CloseReason) -> None:
        super().__init__(message)
        self.reason = reason

    def again(self) -> NotConnected:
        """A new error with the same text: an error that was raised is not raised a second time."""
        return NotConnected(str(self), self.reason)


class NeverSent(NotConnected):
    """
    `message` was not sent, and never will be: no connection was given any part of it. It can safely be sent again.

    A `Client` raises this for messages that waited when it stopped, when their time was over, or when too many waited.
    """

    def __init__(self, text: str, reason: CloseReason, message: object) -> None:
        super().__init__(text, reason)
        self.message = message


class MaybeSent(NotConnected):
    """
    `message` was given to a connection that was lost before a reply came. The peer may have read it, or not.

    A `Client` raises this. Only the two programs can know; a message that can be handled twice can be sent again.
    """

    def __init__(self, text: str, reason: CloseReason, message: object) -> None:
        super().__init__(text, reason)
        self.message = message


class UnavailableReactor(TcpAppError, ImportError):
    """
    `tcpapp.reactor.install` without uvloop: it is not installed, or the platform has none.

    Nothing was installed: a program can go on with Twisted's default reactor.
    """


class Forked(TcpAppError, RuntimeError):
    """
    A forked child uses something that belongs to its parent's reactor, which does not run in the child.

    Nothing was sent, and the parent's connections are unchanged. `what` names the use.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    @override
    def __str__(self) -> str:
        return (
            f"{self.what}: this process was forked while its parent ran Twisted's reactor, and no thread runs it here; "
            "connect after the fork, in processes that were forked or spawned before the first connection"
        )


class GiveUp(TcpAppError):
    """
    Raise this in ``prepare`` of a `Client` when another attempt cannot succeed: when a login is refused, for example.

    The client stops, and all its waiting calls fail with this error.
    """


class TimedOut(TcpAppError):
    """The timer named `timer` expired after `seconds` seconds."""

    def __init__(self, timer: str, seconds: float) -> None:
        super().__init__(timer, seconds)
        self.timer = timer
        self.seconds = seconds

    @override
    def __str__(self) -> str:
        return f"{self.timer} timed out after {self.seconds:g} s"
