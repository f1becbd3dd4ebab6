"""
Every error tcpapp raises, in one tree::

    TcpAppError
    ├── InvalidAddress         an invalid endpoint, host or port
    ├── InvalidFraming         an invalid framing spec or option
    ├── InvalidOption          any other invalid setting: a limit, a timeout, a codec, an app
    ├── InvalidProxyHeader     a PROXY header that we cannot send: mixed families, a port out of range
    ├── InvalidState           the state of a connection cannot be dumped or loaded
    ├── UnsendableMessage      our fault: too long, holds the delimiter, not bytes. The connection stays open
    ├── UnsendableStream       our fault: the source of a ``send_stream`` has another size, or gives no bytes
    ├── BodyDiscarded          a body is read that was discarded
    ├── UnreadableStream       the peer's fault: the connection is closed
    │   ├── MessageTooLong     a message is longer than ``max``; raised as soon as that is known
    │   ├── MalformedFrame     the bytes are no frame of this framing
    │   ├── TruncatedMessage   the stream ended inside a message
    │   ├── UndecodableMessage a whole message that the codec cannot decode
    │   └── MalformedProxyHeader  the stream does not begin with the required PROXY header
    ├── NotConnected           send, receive or request on a connection that is not open
    │   ├── NeverSent          raised by a `Client`: no connection was given any part of the message
    │   └── MaybeSent          raised by a `Client`: the connection was lost before a reply came
    ├── TooManyTasks           `spawn` on a connection with as many tasks as it can have
    ├── UnavailableReactor     ``--reactor=uvloop`` where there is no uvloop
    ├── Forked                 a client or a server is used in a forked child of a process with a running reactor
    ├── GiveUp                 raised by your ``prepare``: do not try again
    └── TimedOut               a timer expired; the error names the timer and its seconds

The ``Invalid…`` errors are the caller's fault, and are subclasses of `ValueError`, too. They are raised before anything
is opened or listened on; `InvalidState` is raised before any of the state is used. `UnsendableMessage` is our side's
fault, and `UnreadableStream` is the peer's (h11 splits its errors the same way). Every message says what was wrong and
what would be right.

Failures to connect are Twisted's own (`twisted.internet.error.ConnectionRefusedError`, ``DNSLookupError``,
``TimeoutError``, …).
"""

from __future__ import annotations

from typing import Any, TypeVar

from typing_extensions import override

from tcpapp.close_reason import CloseReason, EndedBy

__all__ = [
    "BodyDiscarded",
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
    "TooManyTasks",
    "TruncatedMessage",
    "UnavailableReactor",
    "UndecodableMessage",
    "UnreadableStream",
    "UnsendableMessage",
    "UnsendableStream",
]

LONGEST_CHAIN = 100
"""The most causes of an error that are followed: our choice; a chain of causes can be a circle."""

Error = TypeVar("Error", bound=BaseException)


def without_frames(error: Error) -> Error:
    """
    Remove the tracebacks from `error` and from the errors that led to it, and return it.

    A traceback keeps every frame that the error passed through in memory, and so the received chunk and the connection.
    The text of a tcpapp error repeats the texts of its causes, so its causes are dropped. A `MalformedFrame` keeps its
    cause: it can be an error in a parser, whose author looks for it.
    """
    if isinstance(error, TcpAppError):
        error.__context__ = None
        if not isinstance(error, MalformedFrame):
            error.__cause__ = None
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
    """The root of the tree: ``except TcpAppError`` catches every error that tcpapp itself raises."""


class InvalidAddress(TcpAppError, ValueError):
    """An endpoint, host or port is invalid. The caller's fault; raised before anything is opened."""


class InvalidFraming(TcpAppError, ValueError):
    """A framing spec or option is invalid. The error names the option and what it takes. The caller's fault."""


class InvalidOption(TcpAppError, ValueError):
    """A limit, timeout, codec or app is invalid. The error names it and what it takes. The caller's fault."""


class InvalidProxyHeader(TcpAppError, ValueError):
    """A PROXY header cannot be written. The error names the invalid part and what it takes. The caller's fault."""


class InvalidState(TcpAppError, ValueError):
    """
    The state of a connection, or of a part of it, cannot be written as bytes (dumped) or read from bytes (loaded).

    A state cannot be dumped if the stream has failed, or if something would be lost. The connection is then as before.
    A state cannot be loaded if its bytes are of another version or of another configuration, or were changed on the
    way. Nothing was then loaded. The caller's fault, and never the peer's.
    """


class UnsendableMessage(TcpAppError):
    """
    The framing or the codec of this connection cannot send a message.

    Our side's fault. Nothing of the message was written, and the connection stays open.
    """


class UnsendableStream(TcpAppError):
    """
    The source of a ``send_stream`` has fewer or more bytes than its size, or gives something else than bytes.

    Our side's fault. A part of it can be sent already, so the connection is cut.
    """


class BodyDiscarded(TcpAppError):
    """
    The body of a message was discarded, by `discard` or because its handler has ended, and its bytes were dropped.

    Our side's fault: a body that is read after its handler has ended is kept, by ``body.keep()``.
    """


class UnreadableStream(TcpAppError):
    """
    The peer sent bytes that cannot be read as messages. The peer's fault; the connection is closed.

    `value` and `limit` are the size and the limit that it is over, in bytes; `None` for a rule without numbers.
    """

    rule = "unreadable-stream"
    """The rule of the `CloseReason` of a connection that ends with this error."""

    def __init__(self, message: str, *, value: int | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.value = value
        self.limit = limit

    def close_reason(self) -> CloseReason:
        """
        Return the reason of a connection that ends with this error. The reason keeps the error without its frames.
        """
        by = EndedBy.PEER if self.rule == "truncated-message" else EndedBy.US
        return CloseReason(by, self.rule, str(self), self.value, self.limit, without_frames(self))


class MessageTooLong(UnreadableStream):
    """A message is longer than the framing's ``max``: `value` bytes were received or announced, over `limit`."""

    rule = "message-too-long"


class MalformedFrame(UnreadableStream):
    """The received bytes are no frame of this framing."""

    rule = "malformed-frame"


class TruncatedMessage(UnreadableStream):
    """The stream ended inside a message, of which `value` bytes had arrived."""

    rule = "truncated-message"


ERROR_WEIGHT = 1024
"""Bytes of memory of an error without its message: the object, its attributes, and a text of at most 400 characters."""


class UndecodableMessage(UnreadableStream):
    """
    The codec cannot decode a whole message. `message` holds its bytes.

    The messages before and after it can be read. So an app can get this error in place of the value and continue
    (``invalid="deliver"`` on the codec).
    """

    rule = "undecodable-message"

    def __init__(self, text: str, *, message: bytes) -> None:
        super().__init__(text, value=len(message))
        self.message = message

    @property
    def weight(self) -> int:
        """An upper bound of the bytes of memory of this error and its message, after `without_frames`."""
        return ERROR_WEIGHT + len(self.message)


class MalformedProxyHeader(UnreadableStream):
    """A connection requires a PROXY header, and its stream does not begin with a whole, valid one."""

    rule = "malformed-proxy-header"


class NotConnected(TcpAppError):
    """
    The connection is not open, or ended before the call was finished: `send`, `receive` or `request` failed.

    `reason` is the `CloseReason` of the connection.
    """

    def __init__(self, message: str, reason: CloseReason) -> None:
        super().__init__(message)
        self.reason = reason

    def again(self) -> NotConnected:
        """
        Return a new error with the same text and reason. Raising one error twice would add to its traceback each time.
        """
        return NotConnected(str(self), self.reason)


class NeverSent(NotConnected):
    """
    `message` was not sent and will not be sent: no connection was given any part of it. You can safely send it again.

    A `Client` raises this for a message that still waits when the client stops, or when the time of the message is
    over. It also raises it for a message that comes when too many wait.
    """

    def __init__(self, text: str, reason: CloseReason, message: object) -> None:
        super().__init__(text, reason)
        self.message = message


class MaybeSent(NotConnected):
    """
    `message` was given to a connection that was lost before a reply came. The peer has possibly read it.

    A `Client` raises this. Only the two programs can find out what happened. Send the message again if it does no harm
    when the peer handles it twice.
    """

    def __init__(self, text: str, reason: CloseReason, message: object) -> None:
        super().__init__(text, reason)
        self.message = message


class TooManyTasks(TcpAppError):
    """
    `spawn` was called on a connection on which ``max_tasks`` tasks run. The coroutine was not started.

    The app's fault: each message of a peer starts a task, and the app does not wait for any.
    """


class UnavailableReactor(TcpAppError, ImportError):
    """
    `tcpapp.reactor.install` found no uvloop: it is not installed, or does not exist for this platform.

    No reactor was installed: a program can continue with Twisted's default reactor.
    """


class Forked(TcpAppError, RuntimeError):
    """
    A forked child uses something that belongs to its parent's reactor, which does not run in the child.

    Nothing was sent, and the parent's connections are unchanged. `what` names the call that failed.
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

    The client stops, and all calls that wait for it fail with this error.
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
