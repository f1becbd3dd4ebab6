"""
The side of a connection that works by itself: what its transport calls, what its parts call, and how it ends.

The other side, what the user of a connection calls, is `tcpapp.connection.connection`, which also draws the way of a
message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.asyncio_errors import explained
from tcpapp.connection.buffered_bytes import Load
from tcpapp.connection.deadlines import Deadlines, reason_of, unread
from tcpapp.connection.dispatcher import Dispatch
from tcpapp.connection.handlers import Handlers, value_of
from tcpapp.connection.inbox import Inbox
from tcpapp.connection.lifecycle import (
    ABORT_TRANSPORT,
    ASK_APP,
    DISCONNECT,
    DROP,
    END_WAITS,
    FAIL_WAITERS,
    FLUSH,
    START_APP,
    STOP_READING,
    Ending,
    Event,
    Stage,
    State,
    cause_of_end,
    cause_of_failure,
    cause_of_loss,
)
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.pause_flags import AWAITING, BLOCKED, GONE, OVER, PAUSED, TOLD
from tcpapp.connection.protocol_detection import hinted
from tcpapp.connection.read_control import Reading
from tcpapp.connection.receiver import Arrival
from tcpapp.connection.settings import Settings
from tcpapp.connection.starttls import Upgrade
from tcpapp.connection.throttle import Intake
from tcpapp.connection.tls_handshake import Handshake
from tcpapp.errors import NotConnected, UnreadableStream, drop_frames, without_frames
from tcpapp.framing import Framing
from tcpapp.telemetry import AppFailed, Closed, MessagesSkipped, NeverOpened, Opened
from tcpapp.telemetry import Event as TelemetryEvent
from tcpapp.transport import keepalive
from tcpapp.transport.layers import (
    ITSELF,
    close_by_halves,
    close_unanswered,
    send_at_once,
    session_on,
    sets_up_tls,
    talks_to_itself,
)

__all__ = ["Link"]


class _Gone:
    """In the place of the parts of a connection that has ended: what they are asked for has no effect any more."""

    hold = OVER | GONE
    requests = waits_for = None
    pulled = done = True
    working = False
    kept: tuple[()] = ()
    noted = 0

    def take(self, data: bytes) -> None:
        """Bytes that come after the end are nobody's."""

    def note(self) -> None:
        """Nothing is held."""

    def hold_back(self, why: int) -> None:
        """Nothing is handed on."""

    let_go = hold_back


_GONE: Any = _Gone()


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class Link(Protocol):
    """A connection's framing, inbox, outbox, dispatch, deadlines and ending, put together."""

    __slots__ = (
        "_arrival",
        "_clock",
        "_deadlines",
        "_dispatch",
        "_ending",
        "_framing",
        "_handshake",
        "_inbox",
        "_intake",
        "_load",
        "_outbox",
        "_reading",
        "_settings",
        "_unhandled",
        "_upgrade",
        "connected",
        "factory",
        "transport",
    )

    transport: Any
    """What it writes to, as Twisted gave it."""

    factory: Any
    """The factory that made it, which it shares with other connections: a server's has ``info()`` and ``change()``."""

    def __init__(self, settings: Settings, factory: Any = None) -> None:
        self._settings = settings
        self.factory = factory
        self.transport = None
        self.connected = 0
        self._deadlines = Deadlines(self)
        self._ending = Ending(self._deadlines)
        self._clock: IReactorTime | None = settings.clock
        self._handshake: Handshake | None = None
        self._upgrade: Upgrade | None = None
        self._unhandled = 0

    @property
    def state(self) -> State:
        """Where it stands: messages can be sent in `State.OPEN` and `State.INPUT_CLOSED`, and come in the first."""
        return self._ending.stage.state

    @property
    def was_open(self) -> bool:
        """Whether it ever was open: with TLS, whether the handshake was done."""
        return self._ending.opened

    # What the transport calls.

    def connectionMade(self) -> None:
        """The transport is connected. The app is told at once, or once TLS is set up. Twisted calls it."""
        settings = self._settings
        if self._clock is None:
            self._clock = getattr(self.transport, "reactor", None)
        self._deadlines.run_on(self._clock)
        keepalive.switch_on(self.transport, settings.limits, settings.timeouts)
        if settings.policies.no_delay:
            send_at_once(self.transport)
        self._put_together()
        self._happen(Event.CONNECTED)
        if self.factory is not None:
            self.factory.connection_made(self)
            if not getattr(self.factory, "serves", True) and talks_to_itself(self.transport):
                self._cut(CloseReason(EndedBy.NETWORK, "lost", ITSELF, error=ConnectionRefusedError(string=ITSELF)))
                return
        if not sets_up_tls(self.transport):
            self._happen(Event.READY)
            return
        self._set_up_tls(self.transport)
        if settings.timeouts.tls_handshake:
            self._deadlines.start("tls_handshake", settings.timeouts.tls_handshake)

    def handshakeCompleted(self) -> None:
        """TLS is set up. Twisted calls it."""
        self._deadlines.stop("tls_handshake")
        self._end_handshake()
        if self._happen(Event.READY):
            return
        if self._upgrade is not None:
            self._upgrade.secured(session_on(self.transport))

    def dataReceived(self, data: bytes) -> None:
        """Bytes came. Twisted calls it."""
        self._arrival.take(data)

    def readConnectionLost(self) -> None:
        """The peer closed its side: what came is still answered. Twisted calls it."""
        self._end_input(cause_of_end(self._framing))

    def writeConnectionLost(self) -> None:
        """Our side is closed for writing. Twisted calls it; it follows from our own closing."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The single end: everyone who waits is told, everything that runs is stopped. Twisted calls it."""
        if self._ending.stage.sends:
            self._intake.let_in_last()
        stage = self._ending.stage
        flushed = stage.state is State.CLOSING and stage is not Stage.ABORTING
        if self._happen(Event.LOST, cause_of_loss(reason, self._framing)):
            self._end(flushed and isinstance(reason.value, ConnectionDone))
        drop_frames(reason)  # OpenSSL's errors hold the frames of TLS that they passed through

    def _end(self, flushed: bool) -> None:
        """The transport is lost, after all was `flushed` or not: end all parts, and tell everyone who waits."""
        ended = self._ending.cause
        self._deadlines.end()
        self._end_handshake()
        self._load.end()
        self._drop(all_of_it=False)
        waited_for = self._dispatch.waits_for
        if self.factory is not None:
            self.factory.connection_closed(self, ended)
        self._end_waiters()
        failed_sends = self._outbox.end(self._ending.error, flushed)
        self._settings.traffic.failed_sends += failed_sends
        self._dispatch.closed(ended)
        probe = not self._deadlines.spoken_to and self._serves and ended.rule in ("end-of-stream", "lost")
        if self._ending.opened:
            self._tell(Closed, ended, self._unhandled, probe, failed_sends)
        else:
            self._tell(NeverOpened, ended, probe)
        self._ending.tell()
        if self._upgrade is not None:
            self._upgrade.failed(ended.error or self._ending.error)
        self._dispatch.cancel_talk(waited_for)
        self._dispatch.cancel_answer()
        self._take_apart()

    # What its parts call.

    def left_out(self, data: bytes) -> None:
        """Messages of `data` were left out, or the rest of it cannot be read."""
        framing = self._framing
        if framing.skipped:
            count, framing.skipped = framing.skipped, 0
            self._tell(MessagesSkipped, count, framing.max)
        if framing.failure is not None and not self._intake.kept:
            self.unreadable(framing.failure, data)

    def left_unhandled(self, count: int) -> None:
        """So many messages came, and are taken by nobody."""
        self._unhandled += count

    def all_let_in(self) -> None:
        """All that came is the app's: what came after it counts."""
        if self._framing.failure is not None:
            self.unreadable(self._framing.failure)
        else:
            self._happen(Event.ALL_LET_IN)

    def too_fast(self, cause: CloseReason) -> None:
        """More comes than may, and there is no waiting."""
        (self._cut if self._settings.policies.too_fast == "reset" else self._end_input)(cause)

    def memory_short(self, cause: CloseReason) -> None:
        """It is the one that holds the most, where all of them hold too much."""
        self._load.end()  # its bytes are gone before anything else is, but for those of its transport: a turn later
        dispatch, waited_for = self._dispatch, self._dispatch.waits_for
        self._cut(cause)
        self._drop(all_of_it=True)
        # Values in the app's hands can be most of it, and other connections can bring more in this very turn.
        dispatch.cancel_talk(waited_for)
        dispatch.cancel_answer(at_end=False)

    def load_changed(self) -> None:
        """More is held than was, or less."""
        self._load.note()

    def writing_blocked(self) -> None:
        """The peer does not take what the app sends: the app waits."""
        self._dispatch.hold_back(BLOCKED)

    def writing_resumed(self) -> None:
        """The peer takes it again."""
        self._dispatch.let_go(BLOCKED)
        self._load.note()

    def too_much_unsent(self, unsent: int) -> None:
        """The peer takes less than is sent."""
        limit = self._settings.limits.max_unsent
        text = f"{unsent} bytes wait for the peer to take what was sent; at most {limit} (max_unsent) may"
        self._cut(CloseReason(EndedBy.US, "too-much-unsent", text, unsent, limit))

    def unreadable(self, error: UnreadableStream, beginning: bytes = b"") -> None:
        """The stream cannot be read on from here; what came before `error` is still handled."""
        self._end_input(hinted(error.close_reason(), beginning))

    def app_waits(self) -> None:
        """The app's reply is one to wait for."""
        seconds = self._settings.timeouts.answer
        if seconds:
            self._deadlines.start("answer", seconds)

    def app_answered(self) -> None:
        """That reply came, or failed."""
        self._deadlines.stop("answer")
        self._deadlines.peers_turn()

    def app_failed(self, failure: Failure) -> None:
        """The app raised. That the connection it works with has ended is not its failure."""
        failure = explained(failure)
        error: Any = failure.value
        stage = self._ending.stage
        if isinstance(error, (NotConnected, CancelledError)) and not stage.sends:
            drop_frames(failure)  # a coroutine that was cancelled would hold itself by it, and this connection
            return
        if isinstance(error, NotConnected) and stage is not Stage.OPEN and error.reason is self._ending.cause:
            self._close(error.reason)
            return
        cause = cause_of_failure(error)
        if cause.rule == "app-failed":
            self._tell(AppFailed, failure)
        self._close(cause)

    def talk_ended(self) -> None:
        """The conversation came to its end, and the connection with it."""
        self._close(CloseReason(EndedBy.US, "closed", "the conversation came to its end"))

    def undecodable(self, cause: CloseReason, left: int) -> None:
        """A message is no value: none of the `left` after it is taken, and the connection closes."""
        self._unhandled += left
        self._ending.spoil(cause)
        self._end_input(cause)

    def all_handed_over(self) -> None:
        """The transport has all that was written: close it. Unless it was cut, or is lost by now."""
        self._happen(Event.HANDED_OVER)

    def app_rests(self) -> None:
        """The app is not being called: what waited for that can be done."""
        stage = self._ending.stage
        if stage is Stage.CLOSING:
            if not self._dispatch.working:
                self._happen(Event.APP_RESTS)
        elif stage is Stage.INPUT_CLOSED and self._dispatch.done:
            self._close(self._ending.cause)
        elif self._load.noted:
            self._load.note()

    # What its deadlines call.

    @property
    def has_the_turn(self) -> bool:
        """Whether something is in our hands: a message that waits for the app, or that the app has yet to answer."""
        return bool(self._inbox or self._intake.kept or self._dispatch.hold & (AWAITING | PAUSED))

    def overdue(self, wait: str, seconds: float) -> None:
        """What `wait` stands for did not come in `seconds`."""
        if wait == "ending":
            if not close_unanswered(self.transport):
                self._cut(self._ending.late)
        elif wait == "message_rate":
            self._intake.go_on()
        elif wait == "byte_rate":
            self._intake.read_on()
        elif wait in ("tls_handshake", "send_progress"):
            self._cut(reason_of(wait, seconds))
        elif wait == "frame" and self._deadlines.unread:
            self._end_input(unread(seconds))
        elif wait == "frame":
            self._end_input(hinted(reason_of(wait, seconds), self._framing.beginning))
        elif wait == "max_age":
            self._drain(reason_of(wait, seconds), None)
        else:
            dispatch = self._dispatch  # the connection can be gone when this is closed
            self._close(hinted(reason_of(wait, seconds), self._framing.beginning))
            if wait == "answer":
                dispatch.cancel_answer()

    def beat(self, missed: int) -> None:
        """Send a heartbeat; give the peer up where too many are `missed`."""
        seconds = self._settings.timeouts.heartbeat
        heartbeat = self._settings.heartbeat
        if missed >= self._settings.limits.heartbeats_missed:
            self._cut(reason_of("heartbeat", seconds * (missed + 1)))
        elif not self._outbox.behind:  # to one who does not read, it would be one more thing not read
            try:
                message = heartbeat(self) if callable(heartbeat) else heartbeat
                if message is not None:
                    self._outbox.write(self._frame(value_of(message)))
            except Exception:  # the user's function, or what it gave
                self.app_failed(Failure())

    # How it opens.

    @property
    def _serves(self) -> bool:
        """Whether it is a server's."""
        return getattr(self.factory, "serves", False)

    def _set_up_tls(self, layer: Any) -> None:
        """The handshake of `layer`, which is TLS, begins: a server's takes turns with all others of this server."""
        close_by_halves(layer)
        if self._serves:
            steps = self._settings.steps
            self._handshake = Handshake(layer, steps, self._reading, self._clock, self._handshake_goes_on)

    def _handshake_goes_on(self) -> None:
        """Bytes of a TLS handshake came."""
        self._deadlines.spoken_to = True

    def _end_handshake(self) -> None:
        """TLS is set up, or it will never be."""
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.end()

    def _put_together(self) -> None:
        """Make the parts of a connection that has a transport."""
        settings, limits, deadlines = self._settings, self._settings.limits, self._deadlines
        self._framing = settings.framing.fresh()
        self._reading = Reading(self.transport, self._ending, deadlines, limits.write_high)
        self._inbox = Inbox(limits, self._reading, self._ending, settings.codec, self)
        self._outbox = Outbox(self.transport, self, self._ending, limits, settings.timeouts.send_progress, deadlines)
        self._dispatch = Dispatch(self, self._framing, settings, self._inbox, self._outbox, deadlines, self._clock)
        self._intake = Intake(self, self._dispatch, self._reading, settings, deadlines, self._clock)
        self._load = Load(settings.memory, self._parts, self._dispatch, self._reading, self)
        self._arrival = Arrival(
            self, self._framing, self._intake, self._dispatch, deadlines, settings.traffic, self._load
        )

    @property
    def _parts(self) -> tuple[Framing, Intake, Inbox, Outbox]:
        """What holds bytes."""
        return self._framing, self._intake, self._inbox, self._outbox

    def _start_app(self) -> None:
        """Messages can pass: tell the app."""
        settings = self._settings
        self._deadlines.spoken_to = False  # the bytes of a handshake say nothing to the app
        settings.begin_waits(self._deadlines, serves=self._serves)
        failure: Failure | None = None
        try:
            handlers = settings.handlers()
        except Exception:  # an app that is a class is made here
            handlers, failure = Handlers(None, None), Failure()
        if self.factory is not None:
            self.factory.connection_opened(self)
        self._tell(Opened)
        if failure is not None:
            self.app_failed(failure)
            failure = None  # it holds this frame
        self._dispatch.start(handlers)
        self._ending.tell_open()

    # How it ends.

    def _end_input(self, cause: CloseReason) -> None:
        """No message will come any more: what came is still handled, then the connection is closed for `cause`."""
        news = self._happen(Event.INPUT_OVER, cause)
        if self._ending.stage is Stage.INPUT_ENDING and not self._intake.kept:
            self._happen(Event.ALL_LET_IN)
        seconds = self._settings.timeouts.half_close
        ours = cause.clean and cause.by is EndedBy.US  # a drain, which has a deadline of its own
        if news and self._ending.stage.sends and seconds and not ours:
            self._ending.within(seconds, "half-close-over", "half_close")

    def _drain(self, cause: CloseReason, deadline: float | None) -> None:
        """End the input for `cause`; what is not finished in `deadline` seconds (`None`: ``timeouts.drain``) is cut."""
        if self._ending.stage is Stage.OPENING:
            self._cut(cause)
        if self._ending.stage is Stage.OPEN:
            self._dispatch.draining()
        self._end_input(cause)
        if self._ending.stage.sends:
            self._ending.within(self._settings.timeouts.drain if deadline is None else deadline, "drain-over", "drain")

    def _cut(self, cause: CloseReason) -> None:
        """Close for `cause` without flushing."""
        self._happen(Event.ABORT, cause)

    def _drop(self, *, all_of_it: bool) -> None:
        """
        Let go of the bytes that nobody can want any more, at once, and count the messages among them.

        Those that a ``receive`` can still take are kept, unless it is `all_of_it`.
        """
        if self._dispatch is _GONE:
            return
        self._unhandled += self._intake.drop()
        if all_of_it or not self._dispatch.pulled:
            self._unhandled += self._inbox.drop()
        if self._ending.stage is not Stage.CLOSED:  # else `end` tells which of its bytes the transport has
            self._outbox.drop()
        self._framing.drop()
        self._load.note()

    def _take_apart(self) -> None:
        """
        Let go of the parts, which hold this connection as it holds them: it goes when the last one who has it does.

        What came and was not taken can still be received.
        """
        self._dispatch.end()
        self._inbox.leave()
        if self._ending.cause.error is not None:
            without_frames(self._ending.cause.error)
        self._upgrade = None
        self._arrival = self._dispatch = self._intake = self._load = self._outbox = _GONE

    def _close(self, cause: CloseReason, grace: float | None = None) -> None:
        """Flush and close for `cause`; while the app is being called, once it returns."""
        actions = self._ending.happen(Event.CLOSE, cause)
        if actions & ASK_APP or (grace is not None and not actions):
            self._ending.within(self._settings.timeouts.grace if grace is None else grace, "grace-over", "grace")
        self._act(actions)

    def _happen(self, event: Event, cause: CloseReason | None = None) -> int:
        """`event` happened: do what the table says of it. Whether, and what, that was."""
        actions = self._ending.happen(event, cause)
        self._act(actions)
        return actions

    def _act(self, actions: int) -> None:
        """Do what the table says: first all that the new stage needs, and last what runs the user's code."""
        if not actions:
            return
        self._dispatch.enter(self._ending.stage.hold)
        if actions & END_WAITS:
            self._deadlines.no_more_input()
        if actions & STOP_READING and self._ending.cause.by is not EndedBy.PEER:
            self._reading.stop()
        if actions & DROP:
            self._drop(all_of_it=False)
        if actions & ABORT_TRANSPORT:
            self.transport.abortConnection()
        if actions & (START_APP | FLUSH | DISCONNECT | FAIL_WAITERS | ASK_APP):
            self._go_on(actions)

    def _go_on(self, actions: int) -> None:
        """Do that part of it which has the app, or those who wait, called."""
        if actions & START_APP:
            self._start_app()
        if actions & FLUSH:
            self._outbox.finish()
        if actions & DISCONNECT:
            if self._ending.cause.by is not EndedBy.PEER:
                self._reading.read_to_the_end()
            self.transport.loseConnection()
        if actions & FAIL_WAITERS:
            self._end_waiters()
        if actions & ASK_APP:
            self.app_rests()

    def _end_waiters(self) -> None:
        requests, waited_for = self._dispatch.requests, self._dispatch.waits_for
        error = self._ending.error
        self._inbox.end(error)
        if requests is not None:
            requests.end(error)
        if self._dispatch.waits_for is not waited_for and not self._ending.stage.sends:
            self._dispatch.hold_back(TOLD)

    def _frame(self, message: Any) -> bytes:
        codec = self._settings.codec
        return self._framing.frame(message if codec is None else codec.encode(message))

    def _tell(self, kind: Callable[..., TelemetryEvent], *details: Any) -> None:
        if self._settings.telemetry:
            self._settings.telemetry.tell(kind(self, *details))
