"""
Connecting and reconnecting: attempts, preparation, waits, and giving up.

========== ============================ =====================================================================
state      event                        to
========== ============================ =====================================================================
Stopped    ``begin``                    Connecting
Connecting open, and prepared           Connected
Connecting failed, an endpoint is left  Connecting to that endpoint
Connecting failed, none is left         Waiting; or Stopped, if `connect_now` is set, or the error is fatal
Connected  the connection is lost       Waiting; or Stopped, if the error is fatal
Waiting    its time is over             Connecting
any        ``end``                      Stopped
========== ============================ =====================================================================
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

from tcpapp.client.connect import dial
from tcpapp.client.factory import MessageClientFactory
from tcpapp.client.reconnecting.backoff import Attempts
from tcpapp.client.reconnecting.states import Connected, Connecting, Observed, Stopped, Waiting
from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.connection import Connection
from tcpapp.connection.handlers import outcome_of
from tcpapp.connection.unhandled import unlogged
from tcpapp.connection.waiters import Waiters
from tcpapp.errors import InvalidAddress, NotConnected, TimedOut
from tcpapp.limits import Recovery
from tcpapp.spec import line_of
from tcpapp.transport.layers import tls_trouble
from tcpapp.transport.proxy_header import ProxyHeaderSource

__all__ = ["Connector", "ConnectorUser", "Plan"]

UNSTARTED = CloseReason(EndedBy.US, "unopened", "the client was not started")
STOPPED = CloseReason(EndedBy.US, "closed", "the client was stopped")

MOST_UNREAD = 16
"""The most lost connections with messages that are still to be received. Our choice: each has at most a full inbox."""

_log = Logger(namespace="tcpapp")


class ConnectorUser(Protocol):
    """The methods that a `Connector` calls: a `Delivery`."""

    def usable(self) -> None:
        """Use the new connection, which is open and prepared."""

    def lost(self, reason: CloseReason) -> None:
        """Handle the end of the connection, for this reason. Its requests have failed already."""

    def ended(self, reason: CloseReason) -> None:
        """Fail the waiting messages, because there will be no further connection."""


class Plan:
    """The arguments of `Client` for its connections."""

    def __init__(
        self,
        recovery: Recovery,
        attempts: Attempts[Any],
        prepare: Callable[[Connection], Any] | None,
        is_fatal: Callable[[BaseException], bool],
        *,
        connect_now: bool,
        proxy_header: ProxyHeaderSource | None,
    ) -> None:
        self.recovery = recovery
        self.attempts = attempts
        self.prepare = prepare
        self.is_fatal = is_fatal
        self.connect_now = connect_now
        self.proxy_header = proxy_header


class Connector:
    """
    Makes the connections of one client, one after the other, while it is `running`.

    `latest` is the current or the last connection. `unread` are lost connections with messages that were not received
    yet. `observed` gets each new state.
    """

    def __init__(
        self, factory: MessageClientFactory, reactor: Any, clock: IReactorTime, plan: Plan, user: ConnectorUser
    ) -> None:
        self._factory = factory
        self._reactor = reactor
        self._clock = clock
        self._plan = plan
        self._user = user
        self._connection: Connection | None = None
        self._trying: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        self._openers: Waiters[Connection] = Waiters()
        self._was_connected = False
        self.latest: Connection | None = None
        self.unread: deque[Connection] = deque()
        self.observed = Observed()
        self.running = False

    @property
    def connection(self) -> Connection | None:
        """The connection that can be used now; `None` without one."""
        connection = self._connection
        return connection if connection is not None and connection.is_open else None

    @property
    def why_not(self) -> CloseReason:
        """The reason why there is no connection, while it is not `running`."""
        state = self.observed.state
        if isinstance(state, Stopped) and state.error is not None:
            return _gave_up(state.error)
        return STOPPED if self._was_connected else UNSTARTED

    def begin(self) -> None:
        """Begin to connect, and to reconnect when the connection is lost."""
        self.running, self._was_connected = True, False
        self._plan.attempts.success()
        self._try_next()

    def end(self) -> None:
        """Stop connecting. The caller decides what happens to the connection."""
        self._was_connected = True
        self._end(Stopped(), NotConnected(f"the client is not connected: {STOPPED}", STOPPED), STOPPED)

    def next_connection(self) -> Deferred[Connection]:
        """Return a Deferred of the next connection that is open and prepared. Fails if there will be none."""
        if not self.running:
            state, reason = self.observed.state, self.why_not
            error = state.error if isinstance(state, Stopped) else None
            return unlogged(fail(error or NotConnected(f"the client is not connected: {reason}", reason)))
        return self._openers.wait()

    def _try_next(self) -> None:
        self._timer = None
        if self._plan.attempts.round_is_over:
            self._plan.attempts.begin_round()
        endpoint = self._plan.attempts.next()
        self.observed.become(Connecting(self._plan.attempts.number, str(endpoint)))
        if not self.running or self._trying or self._timer or self._connection:  # a watcher has stopped or restarted it
            return
        self._trying = trying = maybeDeferred(dial, self._factory, endpoint, self._reactor, self._plan.proxy_header)
        trying.addCallback(self._prepared).addCallbacks(self._usable, self._not_usable)

    def _prepared(self, connection: Connection) -> Any:
        """Prepare `connection`, and fire with it. If preparing fails, cut it."""
        if self._plan.prepare is None:
            return connection
        preparing = outcome_of(self._plan.prepare, connection)
        reasons: list[CloseReason] = []

        def lost(reason: CloseReason) -> None:
            reasons.append(reason)
            preparing.cancel()

        closed = connection.when_closed()
        closed.addCallbacks(lost, lambda _: None)
        if self._plan.recovery.prepare:
            preparing.addTimeout(self._plan.recovery.prepare, self._clock, _prepare_timed_out)

        def done(result: Any) -> Any:
            closed.cancel()
            if not isinstance(result, Failure):
                return connection
            connection.abort()
            return Failure(_lost(reasons[0])) if reasons and result.check(CancelledError) else result

        return preparing.addBoth(done)

    def _usable(self, connection: Connection) -> None:
        self._trying = None
        self._connection = self.latest = connection
        self._was_connected = True
        if not self._plan.recovery.healthy_after:
            self._plan.attempts.success()
        else:
            self._timer = self._clock.callLater(self._plan.recovery.healthy_after, self._healthy)
        self.observed.become(Connected(connection))
        self._openers.fire(connection)
        self._user.usable()
        connection.when_closed().addCallback(self._lost, connection)

    def _healthy(self) -> None:
        self._timer = None
        self._plan.attempts.success()

    def _not_usable(self, failure: Failure) -> None:
        if self._trying is None:  # it was stopped
            return
        self._trying = None
        error: Any = failure.value
        if isinstance(error, InvalidAddress):
            _log.error("a client cannot connect, and tries again: {error}", error=str(error))
        if self._ends(error):
            self._give_up(error)
        elif not self._plan.attempts.round_is_over:
            self._try_next()
        elif self._plan.connect_now and not self._was_connected:
            self._give_up(error)
        else:
            self._wait_because_of(error)

    def _lost(self, reason: CloseReason, connection: Connection) -> None:
        """Handle the end of a connection, whose requests have failed already."""
        self._user.lost(reason)
        if connection.unread:
            self.unread.append(connection)
        if len(self.unread) > MOST_UNREAD:
            dropped = self.unread.popleft()
            _log.warn("dropped {count} message(s) of a lost connection that were not received", count=dropped.unread)
        if self._connection is not connection:  # the client was stopped
            return
        self._connection = None
        self._stop_timer()
        error = _lost(reason)
        if self._ends(error):
            self._give_up(error.reason.error or error)
        else:
            self._wait_because_of(error)

    def _ends(self, error: BaseException) -> bool:
        below = error.reason.error if isinstance(error, NotConnected) else None
        try:
            return self._plan.is_fatal(error) or (below is not None and self._plan.is_fatal(below))
        except Exception:  # noqa: BLE001 - a function of the user can raise anything
            _log.failure("is_fatal of a client failed, and the client tries again")
            return False

    def _wait_because_of(self, error: BaseException) -> None:
        seconds = self._plan.attempts.wait()
        until = self._clock.seconds() + seconds
        self._timer = self._clock.callLater(seconds, self._try_next)
        self.observed.become(Waiting(self._plan.attempts.number + 1, seconds, until, error))

    def _give_up(self, error: BaseException) -> None:
        _log.error("a client gives up: {error}", error=_in_words(error))
        self._end(Stopped(error), error, _gave_up(error))

    def _end(self, state: Stopped, error: BaseException, reason: CloseReason) -> None:
        """Stop running, and fail all waiting calls."""
        self.running = False
        self._stop_timer()
        trying, self._trying = self._trying, None
        if trying is not None:
            trying.cancel()
        self._connection = None
        self.observed.become(state)
        self._openers.fail_unlogged(error)
        self._user.ended(reason)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def _gave_up(error: BaseException) -> CloseReason:
    return CloseReason(EndedBy.US, "closed", f"the client gave up: {_in_words(error)}", error=error)


def _in_words(error: BaseException) -> str:
    return line_of(tls_trouble(error) or safe_str(error))


def _lost(reason: CloseReason) -> NotConnected:
    return NotConnected(f"the connection was lost: {reason}", reason)


def _prepare_timed_out(_: object, seconds: float) -> None:
    raise TimedOut("prepare", seconds)
