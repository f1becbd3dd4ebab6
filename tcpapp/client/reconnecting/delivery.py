"""
Delivery: sending over the current connection, or over the next one. Each message has a result when a connection is
lost.

======== ============================================ =====================================================
call     fires                                        if the connection is lost before that
======== ============================================ =====================================================
send     when less than ``write_high`` is unsent      `MaybeSent`; `undelivered` returns messages lost later
request  when its reply comes                         `MaybeSent`, or it is sent again if it is idempotent
======== ============================================ =====================================================
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tcpapp.client.reconnecting.connector import Connector
from tcpapp.client.reconnecting.retry_budget import RetryBudget
from tcpapp.client.reconnecting.send_queue import Outgoing, SendQueue, Unconfirmed
from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.connection import Connection
from tcpapp.connection.settings import Settings
from tcpapp.connection.unhandled import failed
from tcpapp.connection.waiters import Waiters
from tcpapp.errors import InvalidOption, MaybeSent, NeverSent, NotConnected, TimedOut, UnsendableMessage
from tcpapp.limits import Recovery
from tcpapp.spec import suggest

__all__ = ["Delivery"]

WHILE_DOWN = ("wait", "fail", "buffer")
"""The choices for a `send` without a connection."""

DRAINING = CloseReason(EndedBy.US, "drained", "the client drains: it accepts no more messages")
DOWN = CloseReason(EndedBy.NETWORK, "lost", "there is no connection")


class Delivery:
    """
    All messages that one client sends, and the replies that it waits for.

    `connector` makes the connections, and calls `usable`, `lost` and `ended`. The creator of both objects sets it once.
    """

    connector: Connector

    def __init__(self, settings: Settings, recovery: Recovery, clock: IReactorTime, while_down: str) -> None:
        if while_down not in WHILE_DOWN:
            hint = suggest(str(while_down), WHILE_DOWN)
            raise InvalidOption(f"while_down={while_down!r}: takes {', '.join(WHILE_DOWN)}{hint}")
        self._settings = settings
        self._clock = clock
        self._while_down = while_down
        self._budget = RetryBudget(recovery, clock.seconds)
        self._queue = SendQueue(recovery)
        self._in_flight: dict[Outgoing, None] = {}
        self._unconfirmed = Unconfirmed(recovery)
        self._lost: deque[NeverSent | MaybeSent] = deque(maxlen=int(recovery.max_waiting))
        self._drain_waiters: Waiters[None] = Waiters()
        self._most = settings.limits.max_requests
        self._position = 0
        self._pumping = False
        self.draining = False

    @property
    def unfinished(self) -> int:
        """The number of messages that are not sent yet, and of requests that wait for their reply."""
        return len(self._queue) + len(self._in_flight)

    def send(self, message: Any) -> Deferred[Any]:
        """Send `message`. See `Client.send`."""
        connection = self.connector.connection
        if connection is not None and not self._queue and not self.draining:
            return self._send_on(connection, message)
        return self._wait(message, None, is_request=False)

    def request(self, message: Any, timeout: float | None, *, idempotent: bool) -> Deferred[Any]:
        """Send `message` and wait for its reply. See `Client.request`."""
        seconds = self._settings.timeouts.request if timeout is None else timeout
        if seconds < 0:
            return fail(TimedOut("request", 0))
        self._budget.earn()
        if self._queue or self.draining or self.connector.connection is None or len(self._in_flight) >= self._most:
            return self._wait(message, seconds, is_request=True, idempotent=idempotent)
        each = Outgoing(message, is_request=True, idempotent=idempotent)
        deferred = each.deferred = Deferred(lambda _: self._cancel(each))
        if seconds:
            each.timer = self._clock.callLater(seconds, self._overdue, each, seconds)
        self._write(each)
        return deferred

    def undelivered(self) -> list[NeverSent | MaybeSent]:
        """Return messages that were possibly not delivered. See `Client.undelivered`."""
        found = [*self._lost, *(NeverSent("it waits for a connection", DOWN, each.message) for each in self._queue)]
        self._lost.clear()
        return found

    def drained(self, seconds: float) -> Deferred[None]:
        """Accept no more messages. Fires when all are sent and answered, or after this many seconds."""
        self.draining = True
        rest = self._drain_waiters.wait()
        rest.addTimeout(max(seconds, 0), self._clock).addErrback(lambda _: None)
        self._check_drained()
        return rest

    # Calls from its connections.

    def usable(self) -> None:
        """Send the waiting messages over the new connection."""
        self._pump()

    def lost(self, reason: CloseReason) -> None:
        """Remember the messages that were sent on the lost connection and not confirmed by a reply."""
        text = f"it was sent, and is possibly lost: {reason}"
        self._lost.extend(MaybeSent(text, reason, each) for each in self._unconfirmed.take_all())

    def ended(self, reason: CloseReason) -> None:
        """Fail the waiting messages with `NeverSent`, because there will be no further connection."""
        for each in self._queue.take_all():
            error = self._never_sent(f"it was not sent: {reason}", reason, each.message, is_request=each.is_request)
            if each.deferred is None:
                self._lost.append(error)
            each.finish(error)
        self._check_drained()

    # One message.

    def _send_on(self, connection: Connection, message: Any) -> Deferred[Any]:
        self._position += 1
        sent = connection.send(message)
        if not sent.called or not isinstance(sent.result, Failure):
            self._unconfirmed.add(self._position, message)
            if sent.called:
                return sent
        return sent.addErrback(self._send_failed, message)

    def _send_failed(self, failure: Failure, message: Any) -> Failure:
        failure.trap(NotConnected)
        error: Any = failure.value
        return Failure(MaybeSent(f"it was sent, and is possibly lost: {error.reason}", error.reason, message))

    def _wait(
        self, message: Any, seconds: float | None, *, is_request: bool, idempotent: bool = False
    ) -> Deferred[Any]:
        """Let the message wait for a connection or for its turn, or fail it."""
        reason = self._refuses(is_request=is_request)
        if reason is not None:
            return failed(self._never_sent(f"it was not sent: {reason}", reason, message, is_request=is_request))
        try:
            size = len(self._settings.frame(message))
        except UnsendableMessage as error:
            return fail(error)
        if text := self._queue.refusal(size):
            reason = CloseReason(EndedBy.US, "closed", text)
            return failed(self._never_sent(text, reason, message, is_request=is_request))
        told = is_request or self._while_down == "wait"
        each = Outgoing(message, is_request=is_request, idempotent=idempotent)
        deferred: Deferred[Any] = Deferred(lambda _: self._cancel(each)) if told else succeed(None)
        each.deferred = deferred if told else None
        if seconds:
            each.timer = self._clock.callLater(seconds, self._overdue, each, seconds)
        self._queue.add(each, size)
        self._pump()
        return deferred

    def _never_sent(self, text: str, reason: CloseReason, message: Any, *, is_request: bool) -> NeverSent:
        """Return the error for a message that no connection was given. Count it if it was sent by ``send``."""
        self._settings.counters.failed_sends += not is_request
        return NeverSent(text, reason, message)

    def _refuses(self, *, is_request: bool) -> CloseReason | None:
        """Return why a message can neither be sent nor wait; `None` if it can."""
        if not self.connector.running:
            return self.connector.why_not
        if self.draining:
            return DRAINING
        return DOWN if self.connector.connection is None and self._while_down == "fail" else None

    def _pump(self) -> None:
        """Give the waiting messages to the connection, as far as the limits allow."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while (each := self._queue.next()) is not None and self._may_have(each):
                self._queue.remove(each)
                self._write(each)
        finally:
            self._pumping = False
        self._check_drained()

    def _may_have(self, each: Outgoing) -> bool:
        return self.connector.connection is not None and (not each.is_request or len(self._in_flight) < self._most)

    def _write(self, each: Outgoing) -> None:
        connection = self.connector.connection
        assert connection is not None
        if not each.is_request:
            sent = self._send_on(connection, each.message)
            each.under = sent
            sent.addCallbacks(each.finish, lambda failure: self._send_of_waiting_failed(failure, each))
            return
        self._position += 1
        each.position = self._position
        self._in_flight[each] = None
        each.under = reply = connection.request(each.message, 0)
        reply.addCallbacks(self._answered, self._not_answered, callbackArgs=(each,), errbackArgs=(each,))

    def _send_of_waiting_failed(self, failure: Failure, each: Outgoing) -> None:
        if each.deferred is None and isinstance(failure.value, MaybeSent):
            self._lost.append(failure.value)
        each.finish(failure.value)

    def _answered(self, reply: Any, each: Outgoing) -> None:
        self._in_flight.pop(each, None)
        self._unconfirmed.confirm(each.position)
        each.finish(reply)
        self._pump()

    def _not_answered(self, failure: Failure, each: Outgoing) -> None:
        self._in_flight.pop(each, None)
        error: Any = failure.value
        if isinstance(error, NotConnected):
            self.lost(error.reason)  # requests fail first, and their errbacks can call `undelivered`
        if each.deferred is not None and isinstance(error, NotConnected):
            if each.idempotent and self.connector.running and self._budget.take():
                self._queue.add(each, len(self._settings.frame(each.message)), again=True)
                return
            error = MaybeSent(f"no reply came: {error.reason}", error.reason, each.message)
        each.finish(error)
        self._pump()

    def _overdue(self, each: Outgoing, seconds: float) -> None:
        each.timer = None
        if self._queue.remove(each):
            text = f"there was no connection for it in {seconds:g} s"
            each.finish(NeverSent(text, CloseReason(EndedBy.US, "closed", text), each.message))
            self._check_drained()
        else:
            each.finish(TimedOut("request", seconds))
            self._cancel(each)

    def _cancel(self, each: Outgoing) -> None:
        """Give up a request whose caller no longer waits for it."""
        each.deferred = None
        each.finish(None)
        if not self._queue.remove(each) and each.under is not None:
            each.under.cancel()
        self._check_drained()

    def _check_drained(self) -> None:
        """Fire the Deferreds of `drained` if no message is left."""
        if (not self._queue and not self._in_flight) or not self.connector.running:
            self._drain_waiters.fire(None)
