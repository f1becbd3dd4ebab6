"""
How a connection ends: where it stands, what put it there first, by when it is over, and who waits for that.

========== ============ ==================================================================== =========
from       event        what it is                                                           to
========== ============ ==================================================================== =========
UNOPENED   ``begin``    the transport is connected; TLS is still to be set up                OPENING
UNOPENED   ``open``     the transport is connected                                           OPEN
OPENING    ``open``     TLS is set up                                                        OPEN
OPENING    ``cut``      there is nothing to flush                                            CLOSING
OPEN       ``no_more``  no message comes any more; what came is still handled                OPEN
OPEN       ``close``    what is written is flushed                                           CLOSING
OPEN       ``cut``      what is written is lost                                              CLOSING
CLOSING    ``cut``      the same, where flushing takes too long                              CLOSING
any        ``over``     the transport is lost                                                CLOSED
========== ============ ==================================================================== =========

The first cause is the `CloseReason` of the connection; only a proper ending gives way to what spoils it.
"""

from __future__ import annotations

from enum import Enum

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.unhandled import unlogged
from tcpapp.errors import NotConnected, UndecodableMessage, UnreadableStream
from tcpapp.framing import Framing
from tcpapp.spec import line_of
from tcpapp.transport.layers import tls_trouble

__all__ = ["Ending", "State", "cause_of_end", "cause_of_failure", "cause_of_loss"]


class State(Enum):
    """Where a connection stands."""

    UNOPENED = "unopened"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


UNOPENED_REASON = CloseReason(EndedBy.US, "unopened", "it is not connected yet; use it once it is open")


class Ending:
    """
    The state of one connection, and the one deadline of its end. It does no I/O: the connection does what it says.

    `opened` says whether it ever was open.
    """

    __slots__ = ("_cause", "_deadlines", "_late", "_openers", "_waiters", "no_more_input", "opened", "state")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._cause: CloseReason | None = None
        self._late: CloseReason | None = None
        self._openers: list[Deferred[None]] | None = None
        self._waiters: list[Deferred[CloseReason]] | None = None
        self.opened = False
        self.no_more_input = False
        self.state = State.UNOPENED

    @property
    def cause(self) -> CloseReason:
        """What ended the connection, or is ending it."""
        return self._cause or UNOPENED_REASON

    @property
    def error(self) -> NotConnected:
        """What those are told who want something of a connection that is not open."""
        return NotConnected(f"the connection is not open: {self.cause}", self.cause)

    def begin(self) -> None:
        """The transport is connected, and TLS is still to be set up."""
        self.state = State.OPENING

    def open(self) -> None:
        """Messages can pass. Whoever waits for that is told by `tell_open`."""
        self.state = State.OPEN
        self.opened = True

    def no_more(self, cause: CloseReason) -> bool:
        """No message comes any more. Whether this is news."""
        if self.no_more_input or self.state is not State.OPEN:
            return False
        self.no_more_input = True
        self._cause = cause
        return True

    def close(self, cause: CloseReason) -> bool:
        """Flush and close. Whether this is news."""
        if self.state is not State.OPEN:
            return False
        self.state = State.CLOSING
        self._note(cause)
        return True

    def cut(self, cause: CloseReason) -> bool:
        """Close without flushing. Whether there is anything to cut."""
        if self.state not in (State.OPENING, State.OPEN, State.CLOSING):
            return False
        self.state = State.CLOSING
        self._note(cause)
        self._deadlines.stop("ending")
        return True

    def spoil(self, cause: CloseReason) -> None:
        """What came before the end was not sound: a proper ending becomes `cause`, until it is over."""
        if self.state is not State.CLOSED:
            self._note(cause)

    def over(self, cause: CloseReason) -> CloseReason:
        """
        The transport is lost. Returns the connection's `CloseReason`: `cause`, if nothing came before.

        A network that fails spoils a proper ending of ours, for what was to be flushed may be lost; not one of the
        peer's, who had all. What a peer was in the middle of saying when we ended is nobody's fault.
        """
        self.state = State.CLOSED
        self._deadlines.stop("ending")
        spoilt = self.opened and self._cause is not None and self._cause.by is EndedBy.US
        if self._cause is None or (spoilt and cause.by is EndedBy.NETWORK):
            self._note(cause)
        return self.cause

    def within(self, seconds: float, rule: str, timer: str) -> None:
        """
        Have it cut by `rule` in `seconds`; those below 0 are over already.

        A deadline only comes nearer: where a sooner one stands, it stays.
        """
        seconds = max(seconds, 0)
        if (
            self.state in (State.UNOPENED, State.CLOSED)
            or self._deadlines.ends("ending") <= self._deadlines.seconds() + seconds
        ):
            return
        text = f"it was not finished in {seconds:g} s ({timer})"
        self._late = CloseReason(EndedBy.US, rule, text, seconds, seconds)
        self._deadlines.start("ending", seconds)

    @property
    def late(self) -> CloseReason:
        """Why it is cut where it is not over in time. There has to be such a time."""
        assert self._late is not None
        return self._late

    def when_open(self) -> Deferred[None]:
        """Fires once it is open, or fails with the error that ended it before: `NotConnected`, where there is none."""
        if self.opened:
            return succeed(None)
        if self.state is State.CLOSED:
            error = self.cause.error or self.error
            return unlogged(fail(error), error)
        if self._openers is None:
            self._openers = []
        opener: Deferred[None] = Deferred(self._openers.remove)
        self._openers.append(opener)
        return opener

    def when_over(self) -> Deferred[CloseReason]:
        """Fires with the `CloseReason` after the end."""
        if self.state is State.CLOSED:
            return succeed(self.cause)
        if self._waiters is None:
            self._waiters = []
        waiter: Deferred[CloseReason] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    def tell_open(self) -> None:
        """Fire what `when_open` gave."""
        openers, self._openers = self._openers or (), None
        for opener in openers:
            opener.callback(None)

    def tell(self) -> None:
        """Fire what `when_over` gave, and fail what `when_open` gave and has not fired."""
        openers, self._openers = self._openers or (), None
        for opener in openers:
            error = self.cause.error or self.error
            unlogged(opener, error).errback(error)
        waiters, self._waiters = self._waiters or (), None
        for waiter in waiters:
            waiter.callback(self.cause)

    def _note(self, cause: CloseReason) -> None:
        """The first cause stands, unless it was a proper ending that `cause` spoils."""
        if self._cause is None or (self._cause.clean and not cause.clean):
            self._cause = cause


def cause_of_end(framing: Framing) -> CloseReason:
    """Why it ends where the peer ended its stream, of which `framing` has read all: between two messages, or in one."""
    try:
        framing.finish()
    except UnreadableStream as error:
        return error.close_reason()
    return CloseReason(EndedBy.PEER, "end-of-stream", "the peer closed its side")


def cause_of_loss(loss: Failure, framing: Framing) -> CloseReason:
    """Why it ends where the transport is lost: properly, as `cause_of_end`, or by what `loss` says."""
    if isinstance(loss.value, ConnectionDone):
        return cause_of_end(framing)
    trouble = tls_trouble(loss.value)
    if trouble is not None:
        by = EndedBy.PEER if "alert" in trouble else EndedBy.US
        return CloseReason(by, "tls-failed", trouble, error=loss.value)
    return CloseReason(EndedBy.NETWORK, "lost", loss.getErrorMessage(), error=loss.value)


def cause_of_failure(error: BaseException) -> CloseReason:
    """Why it ends where the app raised `error`; what a peer sent that is no value is not the app's fault."""
    if isinstance(error, UndecodableMessage):
        return error.close_reason()
    text = f"the app raised {type(error).__name__}: {safe_str(error)}"
    return CloseReason(EndedBy.US, "app-failed", line_of(text), error=error)
