"""
The life of a connection, and its end: one table, which the connection executes.

`TRANSITIONS` says for each stage which events change it, what the next stage is, and which actions follow. An event
without a row for a stage changes nothing in that stage.

============= ============= ============= ===================================================
stage         event         next stage    what is done
============= ============= ============= ===================================================
UNOPENED      `CONNECTED`   OPENING
UNOPENED      `LOST`        CLOSED        `END`
OPENING       `READY`       OPEN          `START_APP`
OPENING       `LOADED`      OPEN          `CONTINUE_APP`
OPENING       `CLOSE`       ABORTING      `END_WAITS` `DROP` `ABORT_TRANSPORT` `FAIL_WAITERS`
OPENING       `ABORT`       ABORTING      `END_WAITS` `DROP` `ABORT_TRANSPORT` `FAIL_WAITERS`
OPENING       `LOST`        CLOSED        `END`
OPEN          `INPUT_OVER`  INPUT_ENDING  `END_WAITS` `STOP_READING`
OPEN          `CLOSE`       CLOSING       `END_WAITS` `FAIL_WAITERS` `ASK_APP`
OPEN          `ABORT`       ABORTING      `END_WAITS` `DROP` `ABORT_TRANSPORT` `FAIL_WAITERS`
OPEN          `MOVED`       CLOSED        `END`
OPEN          `LOST`        CLOSED        `END`
INPUT_ENDING  `RELEASED`    INPUT_CLOSED  `FAIL_WAITERS` `ASK_APP`
INPUT_ENDING  `CLOSE`       CLOSING       `END_WAITS` `FAIL_WAITERS` `ASK_APP`
INPUT_ENDING  `ABORT`       ABORTING      `END_WAITS` `DROP` `ABORT_TRANSPORT` `FAIL_WAITERS`
INPUT_ENDING  `LOST`        CLOSED        `END`
INPUT_ENDING  `SWITCHED`    OPEN          `READ_ON`
INPUT_CLOSED  `SWITCHED`    OPEN          `READ_ON`
INPUT_CLOSED  `CLOSE`       CLOSING       `END_WAITS` `FAIL_WAITERS` `ASK_APP`
INPUT_CLOSED  `ABORT`       ABORTING      `END_WAITS` `DROP` `ABORT_TRANSPORT` `FAIL_WAITERS`
INPUT_CLOSED  `LOST`        CLOSED        `END`
CLOSING       `APP_IDLE`    FLUSHING      `FLUSH`
CLOSING       `ABORT`       ABORTING      `END_WAITS` `DROP` `ABORT_TRANSPORT` `FAIL_WAITERS`
CLOSING       `LOST`        CLOSED        `END`
FLUSHING      `HANDED_OVER` DISCONNECTING `DISCONNECT`
FLUSHING      `PASSED_ON`   TAKEN_OVER    `PASS_ON`
FLUSHING      `ABORT`       ABORTING      `END_WAITS` `DROP` `ABORT_TRANSPORT` `FAIL_WAITERS`
FLUSHING      `LOST`        CLOSED        `END`
TAKEN_OVER    `CLOSE`       DISCONNECTING `DISCONNECT`
TAKEN_OVER    `ABORT`       ABORTING      `END_WAITS` `DROP` `ABORT_TRANSPORT` `FAIL_WAITERS`
TAKEN_OVER    `LOST`        CLOSED        `END`
DISCONNECTING `ABORT`       ABORTING      `END_WAITS` `DROP` `ABORT_TRANSPORT` `FAIL_WAITERS`
DISCONNECTING `LOST`        CLOSED        `END`
ABORTING      `ABORT`       ABORTING      `END_WAITS` `DROP` `ABORT_TRANSPORT` `FAIL_WAITERS`
ABORTING      `LOST`        CLOSED        `END`
============= ============= ============= ===================================================

Users see the stages as the six values of `State`. The first cause is the `CloseReason` of the connection. A later cause
replaces it only where the first was clean and the later one is not.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.pause_flags import CONNECTION_CLOSED, CONNECTION_CLOSING, NO_MORE_INPUT
from tcpapp.connection.unhandled import unlogged
from tcpapp.connection.waiters import Waiters
from tcpapp.errors import NotConnected, UnreadableStream
from tcpapp.framing import Framing
from tcpapp.spec import line_of
from tcpapp.transport.layers import tls_trouble

__all__ = [
    "TRANSITIONS",
    "Event",
    "Lifecycle",
    "Stage",
    "State",
    "cause_of_end",
    "cause_of_failure",
    "cause_of_loss",
]


class State(Enum):
    """The state of a connection. Messages can be sent in `OPEN` and `INPUT_CLOSED`, and come in `OPEN` only."""

    UNOPENED = "unopened"
    OPENING = "opening"
    OPEN = "open"
    INPUT_CLOSED = "input-closed"
    CLOSING = "closing"
    CLOSED = "closed"


class Stage(Enum):
    """
    The stage of a connection in the table.

    - `state`: what users see of the stage.
    - `pauses`: the bits that the dispatcher has for the stage.
    - `sends`: messages can be sent.
    - `reads`: the transport can be read from.
    - `brings`: a message can still come to the inbox.
    - `flushes`: the outbox empties itself for the end.
    - `drops`: the outbox takes no more bytes.

    They are plain attributes, because looking up a member of an enum takes longer on some Pythons.
    """

    __hash__ = object.__hash__  # quicker than the hash of an enum, which hashes its name

    def __init__(self, text: str, state: State, hold: int = 0) -> None:
        self.state = state
        self.pauses = hold
        self.sends = state in (State.OPEN, State.INPUT_CLOSED)
        self.reads = state in (State.OPENING, State.OPEN)
        self.brings = self.reads or state is State.UNOPENED or text == "input-ending"
        self.is_open = state is State.OPEN
        self.flushes = text == "flushing"
        self.drops = text == "aborting" or state is State.CLOSED

    UNOPENED = "unopened", State.UNOPENED
    OPENING = "opening", State.OPENING
    OPEN = "open", State.OPEN
    INPUT_ENDING = "input-ending", State.INPUT_CLOSED, NO_MORE_INPUT
    """Nothing more is read. Messages that were read wait for their turn."""
    INPUT_CLOSED = "input-closed", State.INPUT_CLOSED, NO_MORE_INPUT
    """No message comes any more. The app still handles the messages that came."""
    CLOSING = "closing", State.CLOSING, CONNECTION_CLOSING
    """The app is being called. Its reply is flushed as well."""
    FLUSHING = "flushing", State.CLOSING, CONNECTION_CLOSING
    """The transport does not have all bytes yet."""
    TAKEN_OVER = "taken-over", State.CLOSING, CONNECTION_CLOSING
    """Another protocol has the transport, and the parts have ended."""
    DISCONNECTING = "disconnecting", State.CLOSING, CONNECTION_CLOSING
    """The transport has all bytes, and sends them and FIN."""
    ABORTING = "aborting", State.CLOSING, CONNECTION_CLOSING
    """Nothing is flushed any more."""
    CLOSED = "closed", State.CLOSED, CONNECTION_CLOSING | CONNECTION_CLOSED


class Event(Enum):
    """What changes the stage of a connection."""

    __hash__ = object.__hash__

    CONNECTED = "the transport is connected"
    READY = "TLS is set up, or there is none"
    LOADED = "it was open in another process, and goes on here"
    INPUT_OVER = "the peer closed its side, the stream is unreadable, or the connection drains"
    RELEASED = "the inbox, or the app, has all messages that were read"
    SWITCHED = "another framing reads on where the last one could not"
    CLOSE = "we close: what is written is flushed"
    APP_IDLE = "the app is not being called"
    HANDED_OVER = "the transport has all that was written"
    PASSED_ON = "the transport has all that was written, and another protocol gets it"
    ABORT = "we cut the connection: what is written is lost"
    MOVED = "it continues in another process"
    LOST = "the transport is lost"


# The actions, in the order in which they are done.
NOTHING: Final = 0
END_WAITS: Final = 1
"""Expect no bytes of the peer any more."""
STOP_READING: Final = 2
"""Read no more of a peer that did not end its stream itself."""
DROP: Final = 4
"""Drop the bytes that have no use any more."""
ABORT_TRANSPORT: Final = 8
"""Abort the transport."""
START_APP: Final = 16
"""Tell the app that the connection is open."""
CONTINUE_APP: Final = 32
"""Go on with the app, which knows the connection: it was told in another process."""
FLUSH: Final = 64
"""Give the transport all written bytes."""
DISCONNECT: Final = 128
"""Close the transport."""
END: Final = 256
"""End all parts, and tell the app, unless the connection continues in another process."""
READ_ON: Final = 512
"""Read from the peer again, and wait for it."""
PASS_ON: Final = 1024
"""End all parts, and give the transport to the other protocol."""
FAIL_WAITERS: Final = 2048
"""Fail the waiters for a message or a reply. This runs the user's code, so it comes when all else is settled."""
ASK_APP: Final = 4096
"""See whether the app is being called, or still has messages. If not, that is the next event."""

_ABORTED: Final = (Stage.ABORTING, END_WAITS | DROP | ABORT_TRANSPORT | FAIL_WAITERS)
_CLOSING: Final = (Stage.CLOSING, END_WAITS | FAIL_WAITERS | ASK_APP)
_LOST: Final = (Stage.CLOSED, END)

TRANSITIONS: Final[dict[tuple[Stage, Event], tuple[Stage, int]]] = {
    (Stage.UNOPENED, Event.CONNECTED): (Stage.OPENING, NOTHING),
    (Stage.UNOPENED, Event.LOST): _LOST,
    (Stage.OPENING, Event.READY): (Stage.OPEN, START_APP),
    (Stage.OPENING, Event.LOADED): (Stage.OPEN, CONTINUE_APP),
    (Stage.OPENING, Event.CLOSE): _ABORTED,
    (Stage.OPENING, Event.ABORT): _ABORTED,
    (Stage.OPENING, Event.LOST): _LOST,
    (Stage.OPEN, Event.INPUT_OVER): (Stage.INPUT_ENDING, END_WAITS | STOP_READING),
    (Stage.OPEN, Event.CLOSE): _CLOSING,
    (Stage.OPEN, Event.ABORT): _ABORTED,
    (Stage.OPEN, Event.MOVED): _LOST,
    (Stage.OPEN, Event.LOST): _LOST,
    (Stage.INPUT_ENDING, Event.RELEASED): (Stage.INPUT_CLOSED, FAIL_WAITERS | ASK_APP),
    (Stage.INPUT_ENDING, Event.CLOSE): _CLOSING,
    (Stage.INPUT_ENDING, Event.ABORT): _ABORTED,
    (Stage.INPUT_ENDING, Event.LOST): _LOST,
    (Stage.INPUT_ENDING, Event.SWITCHED): (Stage.OPEN, READ_ON),
    (Stage.INPUT_CLOSED, Event.SWITCHED): (Stage.OPEN, READ_ON),
    (Stage.INPUT_CLOSED, Event.CLOSE): _CLOSING,
    (Stage.INPUT_CLOSED, Event.ABORT): _ABORTED,
    (Stage.INPUT_CLOSED, Event.LOST): _LOST,
    (Stage.CLOSING, Event.APP_IDLE): (Stage.FLUSHING, FLUSH),
    (Stage.CLOSING, Event.ABORT): _ABORTED,
    (Stage.CLOSING, Event.LOST): _LOST,
    (Stage.FLUSHING, Event.HANDED_OVER): (Stage.DISCONNECTING, DISCONNECT),
    (Stage.FLUSHING, Event.PASSED_ON): (Stage.TAKEN_OVER, PASS_ON),
    (Stage.FLUSHING, Event.ABORT): _ABORTED,
    (Stage.FLUSHING, Event.LOST): _LOST,
    (Stage.TAKEN_OVER, Event.CLOSE): (Stage.DISCONNECTING, DISCONNECT),
    (Stage.TAKEN_OVER, Event.ABORT): _ABORTED,
    (Stage.TAKEN_OVER, Event.LOST): _LOST,
    (Stage.DISCONNECTING, Event.ABORT): _ABORTED,
    (Stage.DISCONNECTING, Event.LOST): _LOST,
    (Stage.ABORTING, Event.ABORT): _ABORTED,
    (Stage.ABORTING, Event.LOST): _LOST,
}
"""The next stage after each event, and the actions. An event without a row changes nothing."""


UNOPENED_REASON = CloseReason(EndedBy.US, "unopened", "it is not connected yet; use it once it is open")


class Lifecycle:
    """
    The stage of one connection, and the one deadline of its end. It does no I/O: the connection does the actions.

    `opened` says whether the connection was ever open.
    """

    __slots__ = ("_cause", "_deadlines", "_openers", "_overdue_reason", "_waiters", "opened", "stage")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._cause: CloseReason | None = None
        self._overdue_reason: CloseReason | None = None
        self._openers: Waiters[None] | None = None
        self._waiters: Waiters[CloseReason] | None = None
        self.opened = False
        self.stage = Stage.UNOPENED

    @property
    def cause(self) -> CloseReason:
        """What ended the connection, or is ending it."""
        return self._cause or UNOPENED_REASON

    @property
    def error(self) -> NotConnected:
        """The error of calls on a connection that is not open."""
        return NotConnected(f"the connection is not open: {self.cause}", self.cause)

    def happen(self, event: Event, cause: CloseReason | None = None) -> int:
        """
        `event` happened, for `cause`. Returns the actions of the table.

        The stage changes only here.
        """
        row = TRANSITIONS.get((self.stage, event))
        if row is None:
            return NOTHING
        if cause is not None and (event is not Event.LOST or self._is_news(cause)):
            self._note(cause)
        self.stage, actions = row
        if actions & READ_ON:
            self._cause = None
        if actions & (ABORT_TRANSPORT | END | READ_ON | PASS_ON):
            self._deadlines.stop("ending")
        elif actions & (START_APP | CONTINUE_APP):
            self.opened = True
        return actions

    def note_fault(self, cause: CloseReason) -> None:
        """The bytes before the end were faulty: `cause` replaces a clean cause, until the connection is closed."""
        if self.stage.state is State.INPUT_CLOSED or (
            self.stage.state is State.CLOSING and self.cause.by is EndedBy.PEER
        ):
            self._note(cause)

    def replace_cause(self, cause: CloseReason) -> None:
        """Another framing has read the end of the input, and sees it as `cause`."""
        self._cause = cause

    def _is_news(self, cause: CloseReason) -> bool:
        """
        Whether the loss of the transport is a better cause than the earlier one.

        It is when the network fails while we end the connection, because the bytes to be flushed can be lost. It is not
        when the peer had ended the connection, or when another protocol has the transport. A message that the peer had
        not finished when we ended is no fault.
        """
        if self.stage is Stage.TAKEN_OVER:
            return False
        spoilt = self.opened and self._cause is not None and self._cause.by is EndedBy.US
        return self._cause is None or (spoilt and cause.by is EndedBy.NETWORK)

    def end_within(self, seconds: float, rule: str, timer: str) -> None:
        """
        Cut the connection by `rule` in `seconds`; below 0 means now.

        An earlier deadline stays.
        """
        seconds = max(seconds, 0)
        if (
            self.stage in (Stage.UNOPENED, Stage.CLOSED)
            or self._deadlines.ends("ending") <= self._deadlines.seconds() + seconds
        ):
            return
        text = f"it was not finished in {seconds:g} s ({timer})"
        self._overdue_reason = CloseReason(EndedBy.US, rule, text, seconds, seconds)
        self._deadlines.start("ending", seconds)

    @property
    def overdue_reason(self) -> CloseReason:
        """The cause when the deadline passes. There must be a deadline."""
        assert self._overdue_reason is not None
        return self._overdue_reason

    def when_open(self) -> Deferred[None]:
        """Fires once it is open. Fails with the error that ended it before, or with `NotConnected` without one."""
        if self.opened:
            return succeed(None)
        if self.stage is Stage.CLOSED:
            error = self.cause.error or self.error
            return unlogged(fail(error), error)
        if self._openers is None:
            self._openers = Waiters()
        return self._openers.wait()

    def when_over(self) -> Deferred[CloseReason]:
        """Fires with the `CloseReason` after the end."""
        if self.stage is Stage.CLOSED:
            return succeed(self.cause)
        if self._waiters is None:
            self._waiters = Waiters()
        return self._waiters.wait()

    def fire_open(self) -> None:
        """Fire the Deferreds of `when_open`."""
        if self._openers is not None:
            self._openers.fire(None)

    def fire_closed(self) -> None:
        """Fire the Deferreds of `when_over`, and fail those of `when_open` that have not fired."""
        if self._openers is not None:
            self._openers.fail_unlogged(self.cause.error or self.error, self.cause.error)
        if self._waiters is not None:
            self._waiters.fire(self.cause)

    def _note(self, cause: CloseReason) -> None:
        """Keep the first cause, unless it was clean and `cause` is not."""
        if self._cause is None or (self._cause.clean and not cause.clean):
            self._cause = cause


def cause_of_end(framing: Framing) -> CloseReason:
    """The cause when the peer ended its stream, between two messages or inside one. `framing` has read all of it."""
    try:
        framing.finish()
    except UnreadableStream as error:
        return error.close_reason()
    # Each connection has an object of its own: `_app_failed` tells by it whether an error is of another connection.
    return CloseReason(EndedBy.PEER, "end-of-stream", "the peer closed its side")


def cause_of_loss(loss: Failure, framing: Framing) -> CloseReason:
    """The cause when the transport is lost: a clean end gives `cause_of_end`, otherwise `loss` says it."""
    if isinstance(loss.value, ConnectionDone):
        return cause_of_end(framing)
    trouble = tls_trouble(loss.value)
    if trouble is not None:
        by = EndedBy.PEER if "alert" in trouble else EndedBy.US
        return CloseReason(by, "tls-failed", trouble, error=loss.value)
    return CloseReason(EndedBy.NETWORK, "lost", loss.getErrorMessage(), error=loss.value)


def cause_of_failure(error: BaseException) -> CloseReason:
    """The cause when the app raised `error`. A message that cannot be read is the peer's fault, not the app's."""
    if isinstance(error, UnreadableStream):
        return error.close_reason()
    text = f"the app raised {type(error).__name__}: {safe_str(error)}"
    return CloseReason(EndedBy.US, "app-failed", line_of(text), error=error)
