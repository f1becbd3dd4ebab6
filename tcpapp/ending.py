"""
How a connection ends: where it stands, what put it there first, by when it is over, and who waits for that.

========== ============ ==================================================================== =========
from       event        what it is                                                           to
========== ============ ==================================================================== =========
UNOPENED   ``open``     the transport is connected                                           OPEN
OPEN       ``no_more``  no message comes any more; what came is still handled                OPEN
OPEN       ``close``    what is written is flushed                                           CLOSING
OPEN       ``cut``      what is written is lost                                              CLOSING
CLOSING    ``cut``      the same, where flushing takes too long                              CLOSING
any        ``over``     the transport is lost                                                CLOSED
========== ============ ==================================================================== =========

The first cause is the `CloseReason` of the connection; only a proper ending gives way to what spoils it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.errors import NotConnected, UnreadableStream
from tcpapp.framing import Framing

__all__ = ["Ending", "State", "cause_of_end", "cause_of_loss"]


class State(Enum):
    """Where a connection stands."""

    UNOPENED = "unopened"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


UNOPENED_REASON = CloseReason(EndedBy.US, "unopened", "it was never connected; use it once connectionMade was called")


class Ending:
    """The state of one connection, and its one deadline. It does no I/O: the connection does what its answers say."""

    __slots__ = ("_cause", "_clock", "_cut", "_timer", "_waiters", "no_more_input", "state")

    def __init__(self, cut: Callable[[CloseReason], None]) -> None:
        self._cut = cut
        self._cause: CloseReason | None = None
        self._clock: IReactorTime | None = None
        self._timer: IDelayedCall | None = None
        self._waiters: list[Deferred[CloseReason]] | None = None
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

    def open(self, clock: IReactorTime | None) -> None:
        """The transport is connected; deadlines run on `clock`."""
        self._clock = clock
        self.state = State.OPEN

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
        if self.state not in (State.OPEN, State.CLOSING):
            return False
        self.state = State.CLOSING
        self._note(cause)
        self._stop_timer()
        return True

    def over(self, cause: CloseReason) -> CloseReason:
        """
        The transport is lost. Returns the connection's `CloseReason`: `cause`, if nothing came before.

        A network that fails spoils a proper ending of ours, for what was to be flushed may be lost; not one of the
        peer's, who had all. What a peer was in the middle of saying when we ended is nobody's fault.
        """
        self.state = State.CLOSED
        self._stop_timer()
        if self._cause is None or (self._cause.by is EndedBy.US and cause.by is EndedBy.NETWORK):
            self._note(cause)
        return self.cause

    def within(self, seconds: float, rule: str, timer: str) -> None:
        """
        Have it cut by `rule` in `seconds`; those below 0 are over already.

        A deadline only comes nearer: where a sooner one stands, it stays.
        """
        seconds = max(seconds, 0)
        if self._clock is None or self.state is State.CLOSED:
            return
        if self._timer is not None and self._timer.getTime() <= self._clock.seconds() + seconds:
            return
        self._stop_timer()
        text = f"it was not finished in {seconds:g} s ({timer})"
        cause = CloseReason(EndedBy.US, rule, text, seconds, seconds)
        self._timer = self._clock.callLater(seconds, self._time_out, cause)

    def when_over(self) -> Deferred[CloseReason]:
        """Fires with the `CloseReason` after the end."""
        if self.state is State.CLOSED:
            return succeed(self.cause)
        if self._waiters is None:
            self._waiters = []
        waiter: Deferred[CloseReason] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    def tell(self) -> None:
        """Fire what `when_over` gave."""
        waiters, self._waiters = self._waiters or (), None
        for waiter in waiters:
            waiter.callback(self.cause)

    def _note(self, cause: CloseReason) -> None:
        """The first cause stands, unless it was a proper ending that `cause` spoils."""
        if self._cause is None or (self._cause.clean and not cause.clean):
            self._cause = cause

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _time_out(self, cause: CloseReason) -> None:
        self._timer = None
        self._cut(cause)


def cause_of_end(framing: Framing) -> CloseReason:
    """Why it ends where the peer ended its stream, of which `framing` has read all: between two messages, or in one."""
    try:
        framing.finish()
    except UnreadableStream as error:
        return CloseReason.from_unreadable(error)
    return CloseReason(EndedBy.PEER, "end-of-stream", "the peer closed its side")


def cause_of_loss(loss: Failure, framing: Framing) -> CloseReason:
    """Why it ends where the transport is lost: properly, as `cause_of_end`, or by what `loss` says."""
    if loss.check(ConnectionDone):
        return cause_of_end(framing)
    return CloseReason(EndedBy.NETWORK, "lost", loss.getErrorMessage(), error=loss.value)
