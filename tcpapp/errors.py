"""
Every error tcpapp raises, in one tree::

    TcpAppError
    ├── InvalidAddress         an endpoint, host or port that cannot be one
    ├── InvalidFraming         a framing spec or option that cannot be one
    ├── InvalidOption          any other setting that cannot be one: a limit, a timeout, a codec, an app
    ├── InvalidProxyHeader     a PROXY header of ours that cannot be one: mixed families, a port out of range
    ├── UnsendableMessage      ours: too long, holds the delimiter, not bytes. The connection lives on
    ├── UnreadableStream       theirs: the connection is closed
    │   ├── MessageTooLong     known as early as the length is; nothing of it is buffered
    │   ├── MalformedFrame     bytes that no frame of this framing can begin or go on with
    │   ├── TruncatedMessage   the stream ended inside a message
    │   ├── UndecodableMessage a whole message that is no value of the codec
    │   └── MalformedProxyHeader  the stream does not begin with a PROXY header, and has to
    ├── NotConnected           send, receive or request on a connection that is not open
    │   ├── NeverSent          a `Client`'s: nothing of the message was given to any connection
    │   └── MaybeSent          a `Client`'s: it was, and the connection was lost before a reply came
    ├── UnavailableReactor     ``--reactor=uvloop`` where there is no uvloop
    ├── Forked                 a client, or a server, in a child of a process whose reactor was running
    ├── GiveUp                 yours, raised in ``prepare``: do not try again
    └── TimedOut               which timer, after how many seconds

The ``Invalid…`` errors are the caller's and are raised before anything is opened or listened on; they are
`ValueError`\\ s too. `UnsendableMessage` is our side's, `UnreadableStream` the peer's (h11 splits its errors the
same way). Every message says what was wrong and what would be right.

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
"""Errors, each the cause of the one before, that are looked at: our choice; a chain can be made to bite its tail."""

Error = TypeVar("Error", bound=BaseException)


def without_frames(error: Error) -> Error:
    """
    `error` itself, without its traceback, nor those of the errors that led to it.

    An error that is kept would keep every frame that it passed through: the chunk it was found in, and the connection.
    One of ours says all that the errors behind it say, and lets go of them.
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
    """`without_frames` of what a `Failure` of Twisted's has failed with, and the traceback it keeps itself."""
    if failure.value.__traceback__ is not None:
        without_frames(failure.value)
        failure.tb = None


class TcpAppError(Exception):
    """The root: ``except TcpAppError`` catches whatever tcpapp itself raises."""


class InvalidAddress(TcpAppError, ValueError):
    """An endpoint, host or port that cannot be one. The caller's fault; said before anything is opened."""


class InvalidFraming(TcpAppError, ValueError):
    """A framing spec or option that cannot be one; names the option and what it takes. The caller's fault."""


class InvalidOption(TcpAppError, ValueError):
    """A limit, timeout, codec or app that cannot be one; names it and what it takes. The caller's fault."""


class InvalidProxyHeader(TcpAppError, ValueError):
    """A PROXY header that cannot be written; names the part and what it takes. The caller's fault."""


class UnsendableMessage(TcpAppError):
    """
    A message that this connection's framing or codec cannot send.

    Our side's fault. Nothing of the message was written and the connection lives on.
    """


class UnreadableStream(TcpAppError):
    """
    What the peer sent cannot be read on from here. The peer's fault; the connection is closed.

    `value` and `limit` are the numbers that decided it (bytes), or `None` where the rule has no number.
    """

    rule = "unreadable-stream"
    """The name of the rule, as it stands in the `CloseReason`."""

    def __init__(self, message: str, *, value: int | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.value = value
        self.limit = limit

    def close_reason(self) -> CloseReason:
        """The reason of a connection whose peer sent this. It keeps the error without its frames."""
        by = EndedBy.PEER if self.rule == "truncated-message" else EndedBy.US
        return CloseReason(by, self.rule, str(self), self.value, self.limit, without_frames(self))


class MessageTooLong(UnreadableStream):
    """A message longer than the framing's ``max``: `value` bytes, so far or announced, over `limit`."""

    rule = "message-too-long"


class MalformedFrame(UnreadableStream):
    """Bytes that no frame of this framing can begin or go on with."""

    rule = "malformed-frame"


class TruncatedMessage(UnreadableStream):
    """The stream ended inside a message, of which `value` bytes had arrived."""

    rule = "truncated-message"


ERROR_WEIGHT = 1024
"""Bytes of an error beside the message: its text, of at most 400 characters, its attributes, and itself."""


class UndecodableMessage(UnreadableStream):
    """
    A whole message that is no value of the codec. `message` holds its bytes.

    The frames around it are sound, so an app may ask to be handed this error in the value's place and go on
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
    """The stream does not begin with a whole, sound PROXY header, on a connection where there has to be one."""

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
        """Another error that says the same: one that was raised is not raised a second time."""
        return NotConnected(str(self), self.reason)


class NeverSent(NotConnected):
    """
    `message` was not sent, and never will be: nothing of it was given to any connection. It may be sent again.

    The word of a `Client` for what waited when it stopped, when its time was over, or when too much waited already.
    """

    def __init__(self, text: str, reason: CloseReason, message: object) -> None:
        super().__init__(text, reason)
        self.message = message


class MaybeSent(NotConnected):
    """
    `message` was given to a connection that was lost before a reply came: the peer may have read it, or not.

    The word of a `Client`. Only the two programs can know; a message that may be handled twice may be sent again.
    """

    def __init__(self, text: str, reason: CloseReason, message: object) -> None:
        super().__init__(text, reason)
        self.message = message


class UnavailableReactor(TcpAppError, ImportError):
    """
    `tcpapp.reactor.install` where there is no uvloop: it is not installed, or the platform has none.

    Nothing was installed: a program may go on with Twisted's default reactor.
    """


class Forked(TcpAppError, RuntimeError):
    """
    A forked child uses what belongs to its parent's reactor, which does not run in the child.

    Nothing was sent, and the parent's connections are as they were. `what` was asked for.
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
    To be raised by ``prepare`` of a `Client` where to try again is no use: a login that was refused, say.

    The client stops, and everyone who waits fails with this error.
    """


class TimedOut(TcpAppError):
    """The timer named `timer` ran out after `seconds` seconds."""

    def __init__(self, timer: str, seconds: float) -> None:
        super().__init__(timer, seconds)
        self.timer = timer
        self.seconds = seconds

    @override
    def __str__(self) -> str:
        return f"{self.timer} timed out after {self.seconds:g} s"
