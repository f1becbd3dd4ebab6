"""
Twisted's side of a connection: the methods that its transport calls, and the steps that its parts ask for.

The user's side is `tcpapp.connection.connection`, which also has a picture of the way of a message.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any
from weakref import ref

from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection import outcomes
from tcpapp.connection.connection import Connection
from tcpapp.connection.connection_info import info_of
from tcpapp.connection.handlers import value_of
from tcpapp.connection.lifecycle import Event, Stage, State, cause_of_end, cause_of_loss
from tcpapp.connection.movable import Movable
from tcpapp.connection.outcomes import APP_IDLE
from tcpapp.connection.pause_flags import WRITE_BLOCKED
from tcpapp.connection.protocol_detection import with_detected
from tcpapp.connection.settings import Settings
from tcpapp.connection.tasks import TASKS
from tcpapp.connection.throttle import over_rate
from tcpapp.connection.ticks import TICK
from tcpapp.connection.timeout_reasons import reason_of, unread
from tcpapp.connection.waiters import fail_all
from tcpapp.errors import UndecodableMessage, UnreadableStream, drop_frames
from tcpapp.telemetry import LateReply, MessagesSkipped
from tcpapp.telemetry.statistics import ConnectionInfo
from tcpapp.transport import keepalive
from tcpapp.transport.direct import end_now
from tcpapp.transport.inherited_options import has_inherited
from tcpapp.transport.layers import ITSELF, close_unanswered, send_at_once, session_on, sets_up_tls, talks_to_itself

__all__ = ["MessageProtocol", "protocol_of"]


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class MessageProtocol(Movable):
    """
    Twisted's side of one connection: a `Protocol` that a factory's ``buildProtocol`` makes, and a transport calls.

    `connection` is the user's side, with ``send``, ``receive`` and ``close``. A unit test gives this protocol a fake
    transport by ``makeConnection``, and bytes by ``dataReceived``.
    """

    __slots__ = ()

    def __init__(self, settings: Settings, factory: Any = None) -> None:
        super().__init__(settings, factory)
        self._connection = Connection(self)

    @property
    @override
    def connection(self) -> Connection:
        """The user's side: the same object as long as it is open, or somebody holds it."""
        connection = self._connection
        if not isinstance(connection, ref):
            return connection  # type: ignore[no-any-return]  # the other kind that it can be
        found: Connection | None = connection()
        if found is None:
            found = Connection(self)
            self._connection = ref(found)
        return found

    def info(self) -> ConnectionInfo:
        """What it has received and sent, what it holds, and what holds it back, now. Its counts are kept at its end."""
        return info_of(self)

    # What the transport calls.

    def connectionMade(self) -> None:
        """The transport is connected. The app is told at once, or once TLS is set up. Twisted calls it."""
        settings = self._settings
        if self._clock is None:
            self._clock = getattr(self.transport, "reactor", None)
        if self._clock is not None:
            self._deadlines.share(settings.timer_on(self._clock))
        if not has_inherited(self.transport):
            keepalive.switch_on(self.transport, settings.limits, settings.timeouts)
            if settings.policies.no_delay:
                send_at_once(self.transport)
        self._unmade = settings.rules
        if settings.reads_specially:
            self._make_parts()
        self._happen(Event.CONNECTED)
        if self.factory is not None:
            self.factory.connection_made(self._connection)
            if not getattr(self.factory, "serves", True) and talks_to_itself(self.transport):
                self._abort(CloseReason(EndedBy.NETWORK, "lost", ITSELF, error=ConnectionRefusedError(string=ITSELF)))
                return
        if not sets_up_tls(self.transport):
            self._ready()
            return
        self._set_up_tls(self.transport)
        self._deadlines.start("tls_handshake", settings.timeouts.tls_handshake or inf)

    def handshakeCompleted(self) -> None:
        """TLS is set up. Twisted calls it."""
        self._deadlines.stop("tls_handshake")
        self._end_handshake()
        if self._ready():
            return
        if self._starttls is not None:
            self._buffered.own_rewind().clear()
            self.settle(self._starttls.secured(session_on(self.transport)))

    def dataReceived(self, data: bytes) -> None:
        """Bytes came. Twisted calls it."""
        outcome = self._receiver.receive(data)
        if outcome and (outcome != APP_IDLE or not self._lifecycle.stage.is_open):  # that asks for nothing more
            self.settle(outcome, data)

    def readConnectionLost(self) -> None:
        """The peer closed its side. The messages that came are still answered. Twisted calls it."""
        self._input_end = self._input_end._replace(by_peer=True)
        if self._successor is not None and self._successor.begun:
            self._successor.read_lost(self.transport)
            return
        if not (self._is_at_rest() and end_now(self.transport)):  # as most connections end
            self._end_input(cause_of_end(self._framing))

    def writeConnectionLost(self) -> None:
        """Our side is closed for writing. Twisted calls it; it follows from our own closing."""
        if self._successor is not None and self._successor.begun:
            self._successor.write_lost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is lost: fire or fail all waiters, and stop everything that runs. Twisted calls it."""
        stage = self._lifecycle.stage
        if self._unmade is not None:
            self._make_parts()
        if stage.sends and self._throttle.pending:
            self.settle(self._throttle.release_last())
            stage = self._lifecycle.stage
        flushed = stage.state is State.CLOSING and stage is not Stage.ABORTING
        if self._happen(Event.LOST, cause_of_loss(reason, self._framing)):
            self._end(flushed and isinstance(reason.value, ConnectionDone))
            if self._successor is not None and self._successor.begun:
                self._successor.lost(reason)
        if reason is not connectionDone:
            drop_frames(reason)  # OpenSSL's errors hold the frames of TLS that they passed through

    # What its parts report.

    @override
    def settle(self, outcome: int, detail: Any = None) -> None:
        """Do what `outcome` asks for, bit by bit, in the order of `tcpapp.connection.outcomes`."""
        while outcome:
            bit = outcome & -outcome
            outcome ^= bit
            STEPS[bit](self, detail)

    def _refused(self, _: Any) -> None:
        """A message is undecodable: no message behind it is taken, and the connection closes."""
        inbox = self._inbox
        assert inbox.refusal is not None
        self._unhandled += inbox.lost
        inbox.lost = 0
        self._lifecycle.note_fault(inbox.refusal.reason)
        self._end_input(inbox.refusal.reason)
        fail_all(inbox.take_waiters(), inbox.refusal)

    def _all_released(self, _: Any) -> None:
        """The app has all messages: an end, or a failure of the framing, behind them takes effect now."""
        if self._framing.failure is not None:
            self._unreadable(self._framing.failure)
        elif not self._lifecycle.stage.is_open:  # there it changes nothing
            self._happen(Event.RELEASED)

    def _too_many_messages(self, _: Any) -> None:
        """More messages came than ``message_rate`` allows, and the policy is not to wait."""
        self._over_rate(over_rate("messages", self._settings.limits.message_rate))

    def _too_many_bytes(self, _: Any) -> None:
        """More bytes came than ``byte_rate`` allows, and the policy is not to wait."""
        self._over_rate(over_rate("bytes", self._settings.limits.byte_rate))

    def _over_rate(self, cause: CloseReason) -> None:
        (self._abort if self._settings.policies.over_rate == "reset" else self._end_input)(cause)

    def _messages_skipped(self, data: bytes) -> None:
        """Messages of `data` were skipped, or the rest of the stream cannot be read."""
        framing = self._framing
        if framing.skipped:
            count, framing.skipped = framing.skipped, 0
            self._emit(MessagesSkipped, count, framing.max)
        if framing.failure is not None and not self._throttle.pending:
            self._unreadable(framing.failure, data)

    def _unreadable(self, error: UnreadableStream, beginning: bytes = b"") -> None:
        """The stream cannot be read any further. The messages before `error` are still handled."""
        self._end_input(with_detected(error.close_reason(), beginning, self._framing))

    def _unanswered(self, detail: tuple[Failure, int]) -> None:
        """A reply is undecodable, or the user's key function raised: no message behind it is taken."""
        failure, left = detail
        self._unhandled += left
        error = failure.value
        if isinstance(error, UndecodableMessage):
            self._unreadable(error)
        else:
            self._app_failed(failure)

    def _late_reply(self, _: Any) -> None:
        """A reply came that no request waits for any more."""
        self._settings.counters.late_replies += 1
        self._emit(LateReply)

    def _unsecured(self, _: Any) -> None:
        """TLS cannot be set up, so nothing more can be sent or received."""
        assert self._starttls is not None
        self._abort(self._starttls.cause)

    def _write_blocked(self, _: Any) -> None:
        """The peer does not take the sent bytes: the app waits."""
        self._dispatcher.pause(WRITE_BLOCKED)

    def _write_resumed(self, _: Any) -> None:
        """The peer takes bytes again."""
        self.settle(self._dispatcher.resume(WRITE_BLOCKED))
        self._buffered.update()

    def _too_much_unsent(self, unsent: int) -> None:
        """More than ``max_unsent`` bytes wait for the peer."""
        limit = self._settings.limits.max_unsent
        text = f"{unsent} bytes wait until they can be sent; at most {limit} (max_unsent) can"
        self._abort(CloseReason(EndedBy.US, "too-much-unsent", text, unsent, limit))

    def _body_came(self, _: Any) -> None:
        """Bytes of a body have come, or its end."""
        if self._bodies is not None:  # else the connection has ended meanwhile
            self._bodies.fire()

    def _stream_cut(self, cause: CloseReason) -> None:
        """A part of a stream is sent, and the rest will not come: the peer cannot find the next message."""
        self._abort(cause)

    def _app_waits(self, since: float | None) -> None:
        """The app's reply is not there yet. It is the reply to a message that the app has `since` that time, or now."""
        self._deadlines.start("handler_timeout", self._settings.timeouts.handler_timeout or inf, since)

    def _app_answered(self, _: Any) -> None:
        """That reply came, or failed."""
        self._deadlines.stop("handler_timeout")
        self._deadlines.await_peer()

    def _conversation_ended(self, _: Any) -> None:
        """The conversation came to its end, and the connection with it."""
        self._close(CloseReason(EndedBy.US, "closed", "the conversation came to its end"))

    def _overdue(self, detail: tuple[str, float]) -> None:
        """A wait is overdue."""
        wait, seconds = detail
        if wait == "ending":
            if not close_unanswered(self.transport):
                self._abort(self._lifecycle.overdue_reason)
        elif wait in WORK_WAITS:
            WORK_WAITS[wait](self)
        elif wait in ("tls_handshake", "send_progress"):
            self._abort(reason_of(wait, seconds))
        elif wait == "message_timeout" and self._deadlines.paused_for_memory:
            self._end_input(unread(seconds))
        elif wait == "body_timeout":
            self._end_input(reason_of(wait, seconds))
        elif wait == "message_timeout":
            self._end_input(with_detected(reason_of(wait, seconds), self._framing.beginning, self._framing))
        elif wait == "max_age":
            self._drain(reason_of(wait, seconds), None)
        else:
            dispatcher = self._dispatcher  # the connection can be gone when this is closed
            self._close(with_detected(reason_of(wait, seconds), self._framing.beginning, self._framing))
            if wait == "handler_timeout":
                dispatcher.cancel_handler()

    def _tick_due(self) -> None:
        """A tick is due."""
        assert self._tasks is not None
        self._tasks.ticks.due()

    def _tasks_overdue(self) -> None:
        """The connection has ended, and its tasks did not end in the time that they had."""
        assert self._tasks is not None
        self._leave_tasks(self._tasks)

    def _heartbeat_due(self, missed: int) -> None:
        """Send a heartbeat, or cut the connection where too many were `missed`."""
        seconds = self._settings.timeouts.heartbeat
        heartbeat = self._settings.heartbeat
        if missed >= self._settings.limits.heartbeats_missed:
            self._abort(reason_of("heartbeat", seconds * (missed + 1)))
        elif not self._outbox.behind:  # a peer that does not read would not read it either
            try:
                message = heartbeat(self.connection) if callable(heartbeat) else heartbeat
                if message is not None:
                    self._outbox.write(self._frame(value_of(message)))
            except Exception:  # of the user's function, or of its message
                self._app_failed(Failure())

    def _memory_short(self, cause: CloseReason) -> None:
        """All connections together hold too much, and this connection holds the most."""
        self._buffered.end()  # first: the budget counts its bytes as freed. Its transport frees its own a turn later
        dispatcher, waited_for = self._dispatcher, self._dispatcher.awaited
        self._abort(cause)
        self._drop_buffers(all_of_it=True)
        # Values in the app's hands can be most of it, and other connections can bring more in this very turn.
        dispatcher.cancel_conversation(waited_for)
        dispatcher.cancel_handler(at_end=False)
        if self._tasks is not None:
            self._tasks.cancel()

    def _buffered_changed(self, _: Any) -> None:
        """The number of held bytes has changed."""
        self._buffered.update()


def protocol_of(connection: Connection) -> MessageProtocol:
    """
    Twisted's side of `connection`: its `transport`, its `factory`, and the `clock` of its timers.

    ::

        ticks.clock = protocol_of(connection).clock  # a LoopingCall of an app, which a test drives by a Clock
    """
    return connection._protocol  # type: ignore[return-value]  # no other class makes connections


STEPS: dict[int, Callable[[MessageProtocol, Any], None]] = {
    outcomes.REFUSED: MessageProtocol._refused,
    outcomes.ALL_RELEASED: MessageProtocol._all_released,
    outcomes.TOO_MANY_MESSAGES: MessageProtocol._too_many_messages,
    outcomes.TOO_MANY_BYTES: MessageProtocol._too_many_bytes,
    outcomes.MESSAGES_SKIPPED: MessageProtocol._messages_skipped,
    outcomes.UNANSWERED: MessageProtocol._unanswered,
    outcomes.UNSECURED: MessageProtocol._unsecured,
    outcomes.WRITE_BLOCKED: MessageProtocol._write_blocked,
    outcomes.WRITE_RESUMED: MessageProtocol._write_resumed,
    outcomes.TOO_MUCH_UNSENT: MessageProtocol._too_much_unsent,
    outcomes.HANDED_OVER: MessageProtocol._handed_over,
    outcomes.APP_WAITS: MessageProtocol._app_waits,
    outcomes.APP_ANSWERED: MessageProtocol._app_answered,
    outcomes.APP_FAILED: MessageProtocol._app_failed,
    outcomes.CONVERSATION_ENDED: MessageProtocol._conversation_ended,
    outcomes.OVERDUE: MessageProtocol._overdue,
    outcomes.HEARTBEAT: MessageProtocol._heartbeat_due,
    outcomes.MEMORY_SHORT: MessageProtocol._memory_short,
    outcomes.BUFFERED_CHANGED: MessageProtocol._buffered_changed,
    outcomes.APP_IDLE: MessageProtocol._app_rests,
    outcomes.LATE_REPLY: MessageProtocol._late_reply,
    outcomes.STREAM_CUT: MessageProtocol._stream_cut,
    outcomes.BODY_CAME: MessageProtocol._body_came,
}
"""The step for each bit of an outcome."""

WORK_WAITS: dict[str, Callable[[MessageProtocol], None]] = {
    "message_rate": lambda protocol: protocol.settle(protocol._throttle.release()),
    "byte_rate": lambda protocol: protocol._throttle.resume_reading(),
    TICK: MessageProtocol._tick_due,
    TASKS: MessageProtocol._tasks_overdue,
}
"""What is done after each wait that ends no connection."""
