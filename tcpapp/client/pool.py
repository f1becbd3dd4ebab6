"""
A pool: several connections to one server, or to several equivalent servers, that are used like one.

A request goes to the less busy of two members that are drawn at random (Mitzenmacher's "power of two choices"). The
load is spread nearly as evenly as by comparing all members. And not all requests go at once to the member that was idle
a moment ago.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import Self

from tcpapp.client.async_with import StartedInBlock
from tcpapp.client.reconnecting import Client, Connected, Stopped
from tcpapp.client.reconnecting.retry_budget import RetryBudget
from tcpapp.client.reconnecting.states import State
from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.connection import Connection
from tcpapp.connection.handlers import outcome_of
from tcpapp.connection.unhandled import failed, unlogged
from tcpapp.connection.waiters import Waiters
from tcpapp.errors import Forked, InvalidOption, MaybeSent, NeverSent, NotConnected, TimedOut
from tcpapp.limits import Recovery
from tcpapp.spec import line_of
from tcpapp.transport.fork_check import check_fork, was_forked

__all__ = ["Pool"]

Request = TypeVar("Request")
Reply = TypeVar("Reply")

CHECK_EVERY = 30.0
"""Seconds between two checks of a member. Source: the default of AWS's network load balancer."""

_log = Logger(namespace="tcpapp")


class Pool(StartedInBlock, MultiService, Generic[Request, Reply]):
    """
    `size` clients of `endpoint`, the members. Each reconnects by itself, and the pool sends over the connected members.

    ::

        async with Pool("tcp:localhost:7007", size=8, check=lambda connection: connection.request("ping")) as pool:
            print(await pool.request("hello"))

    - `size`: the number of clients, 1 or more.
    - `check`: a function that takes a member's connection. It is called every `check_every` seconds, and its result is
      awaited for at most ``recovery.prepare`` seconds. If it fails, that connection is cut, and the member reconnects.
    - `options`: the options of `Client` without ``while_down`` and ``connect_now``. While no member is connected,
      messages wait for the first member: at most ``recovery.max_waiting`` messages, for at most ``timeouts.request``
      seconds.

    ``async with`` starts and stops the pool, also when the block is cancelled. Raises the errors of `Client`. Call its
    methods only in the reactor's thread. In a forked child they fail with `Forked`.
    """

    def __init__(
        self,
        endpoint: str | IStreamClientEndpoint | Sequence[str | IStreamClientEndpoint],
        size: int = 4,
        *,
        check: Callable[[Connection], Any] | None = None,
        check_every: float = CHECK_EVERY,
        **options: Any,
    ) -> None:
        super().__init__()
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidOption(f"size={size!r}: takes a whole number of clients, 1 or more")
        if not check_every > 0:
            raise InvalidOption(f"check_every={check_every!r}: takes a number of seconds, more than 0")
        for name in ("while_down", "connect_now"):
            if name in options:
                raise InvalidOption(f"{name}: a pool does not take it; messages wait for a connected member")
        self.members: list[Client[Any, Any]] = [Client(endpoint, while_down="fail", **options) for _ in range(size)]
        first = self.members[0]
        self._reactor = first.reactor
        self._settings = first.settings
        self._recovery: Recovery = options.get("recovery") or Recovery()
        self._clock: IReactorTime = first.clock
        self._random = self._settings.random
        self._budget = RetryBudget(self._recovery, self._clock.seconds)
        self._check = check
        self._checks = LoopingCall(self._check_all)
        self._checks.clock = self._clock
        self._check_every = check_every
        self._waiters: Waiters[None] = Waiters()
        self._takers: Waiters[Any] = Waiters()
        self._offers: dict[Client[Any, Any], Deferred[Any]] = {}
        self._ready: list[Any] = []
        self._draining = False
        self._failed_sends = 0
        self._error: BaseException | None = None
        for member in self.members:
            member.watch(self._member_is)
            member.setServiceParent(self)

    # Starting and stopping.

    @property
    def connected(self) -> list[Client[Any, Any]]:
        """The members that have a connection now."""
        return [each for each in self.members if each.connection is not None]

    @property
    def failed_sends(self) -> int:
        """The number of messages whose `send` failed with `NeverSent` or `MaybeSent`."""
        return self._failed_sends

    def start(self) -> Deferred[Self]:
        """
        Start all members. Fires with the pool as soon as one member is connected; fails when all have given up.

        Cancelling the Deferred does not stop the pool: call `stop`. Raises `Forked` in a forked child.
        """
        self.startService()
        return self.when_connected().addCallback(lambda _: self)

    def startService(self) -> None:
        """Start all members and their checks, and return at once. Twisted's services call it. Raises `Forked`."""
        check_fork(self._reactor, "start")
        if not self.running:
            self._draining, self._error = False, None
            super().startService()
            if self._check is not None:
                self._checks.start(self._check_every, now=False)

    def stop(self) -> Deferred[None]:
        """Stop all members (see `Client.stop`). Fires when their connections are closed; fails only with `Forked`."""
        if was_forked(self._reactor):
            return fail(Forked("stop"))
        if self._checks.running:
            self._checks.stop()
        stopped = DeferredList([maybeDeferred(each.stop) for each in self.members], consumeErrors=True)
        self.running = 0
        self._tell_waiters()
        self._takers.fail_unlogged(self._not_connected())
        return stopped.addCallback(lambda _: None)

    def stopService(self) -> Deferred[None]:
        """Do the same as `stop`. Twisted's services call it."""
        return self.stop()

    def drain(self, deadline: float | None = None) -> Deferred[int]:
        """
        Accept no more messages, let all members drain, and stop within `deadline` seconds. See `Client.drain`.

        Fires with the number of messages of all members that were not sent or not answered.
        """
        if was_forked(self._reactor):
            return fail(Forked("drain"))
        self._draining = True
        draining = DeferredList([each.drain(deadline) for each in self.members])
        return draining.addCallback(lambda found: self.stop().addCallback(lambda _: sum(count for _, count in found)))

    def when_connected(self) -> Deferred[None]:
        """
        Return a Deferred that fires as soon as a member is connected.

        Fails with the error of the last member that gave up, and with `NotConnected` if the pool does not run.
        """
        if was_forked(self._reactor):
            return fail(Forked("when_connected"))
        if self.connected:
            return succeed(None)
        if not self.running or all(isinstance(each.state, Stopped) for each in self.members):
            return unlogged(fail(self._error or self._not_connected()))
        return self._waiters.wait()

    # Messages.

    def send(self, message: Request) -> Deferred[None]:
        """
        Send `message` over a member. See `Client.send`, whose errors it raises.

        While no member is connected the message waits, for at most ``timeouts.request`` seconds. Then the Deferred
        fails with `NeverSent`.
        """
        return self._over_a_member("send", lambda member, _: member.send(message), message, None, is_send=True)

    def request(self, message: Request, timeout: float | None = None, *, idempotent: bool = False) -> Deferred[Reply]:
        """
        Send `message` over a member and wait for its reply, for at most `timeout` seconds in total. See
        `Client.request`.

        An `idempotent` request is sent again over another member if its connection is lost. Fails as `Client.request`
        does.
        """
        self._budget.earn()
        return self._over_a_member(
            "request", lambda member, seconds: member.request(message, seconds), message, timeout, idempotent=idempotent
        )

    def receive(self) -> Deferred[Reply]:
        """
        Return a Deferred of the next message of any member that is not the reply to a request.

        Fails with `NotConnected` when the pool is stopped. A cancelled call takes no message.
        """
        if was_forked(self._reactor):
            return fail(Forked("receive"))
        if self._ready:
            return succeed(self._ready.pop(0))
        if not self.running:
            return failed(self._not_connected())
        taker = self._takers.wait()
        for member in self.members:
            self._offer(member)
        return taker

    def undelivered(self) -> list[NeverSent | MaybeSent]:
        """Return messages of all members that were possibly not delivered. See `Client.undelivered`."""
        return [each for member in self.members for each in member.undelivered()]

    # Members.

    def _pick(self) -> Client[Any, Any] | None:
        """Return the less busy of two members that are drawn at random; `None` if no member is connected."""
        connected = self.connected
        if len(connected) > 2:
            connected = self._random.sample(connected, 2)
        return min(connected, key=lambda each: each.unfinished, default=None)

    def _over_a_member(
        self,
        what: str,
        do: Callable[[Client[Any, Any], float], Deferred[Any]],
        message: Any,
        timeout: float | None,
        *,
        idempotent: bool = False,
        is_send: bool = False,
    ) -> Deferred[Any]:
        if was_forked(self._reactor):
            return fail(Forked(what))
        seconds = self._settings.timeouts.request if timeout is None else timeout
        if seconds < 0:
            return fail(TimedOut("request", 0))
        trying = self._go_on_trying(do, message, seconds, idempotent=idempotent, is_send=is_send)
        return unlogged(Deferred.fromCoroutine(trying))

    async def _go_on_trying(
        self,
        do: Callable[[Client[Any, Any], float], Deferred[Any]],
        message: Any,
        seconds: float,
        *,
        idempotent: bool,
        is_send: bool,
    ) -> Any:
        """Try until a member succeeds. A message that no connection was given is always tried again."""
        until = self._clock.seconds() + seconds
        try:
            while True:
                if self._draining:
                    raise self._never_sent("the pool drains: it accepts no more messages", message)
                member = self._pick()
                if member is None:
                    await self._wait_for_a_member(until if seconds else None, message)
                    continue
                try:
                    # 0 would be no limit: a deadline in the past must expire at once
                    return await do(member, max(until - self._clock.seconds(), 1e-6) if seconds else 0)
                except NeverSent:
                    if member.connection is not None:  # the member has a connection, so that was not the cause
                        raise
                except MaybeSent:
                    if not (idempotent and self.running and self._budget.take()):
                        raise
        except NotConnected:
            self._failed_sends += is_send
            raise

    async def _wait_for_a_member(self, until: float | None, message: Any) -> None:
        if len(self._waiters) >= self._recovery.max_waiting:
            raise self._never_sent(
                f"{len(self._waiters)} messages wait for a connection, which is the limit (max_waiting)", message
            )
        connected = self.when_connected()
        if until is not None:
            connected.addTimeout(max(until - self._clock.seconds(), 0), self._clock)
        try:
            await connected
        except Exception as error:
            raise self._never_sent(f"there was no connection for it: {error}", message) from error

    def _never_sent(self, text: str, message: Any) -> NeverSent:
        return NeverSent(text, CloseReason(EndedBy.US, "closed", text), message)

    def _not_connected(self) -> NotConnected:
        reason = CloseReason(EndedBy.US, "closed", "the pool is not running")
        return NotConnected(f"the pool is not connected: {reason}", reason)

    def _member_is(self, state: State) -> None:
        if isinstance(state, Connected):
            self._tell_waiters()
        elif isinstance(state, Stopped) and state.error is not None:
            self._error = state.error
            if all(isinstance(each.state, Stopped) for each in self.members):
                self._tell_waiters()

    def _tell_waiters(self) -> None:
        """Fire or fail the waiting calls, when a member is connected or none will be."""
        for waiter in self._waiters.take():
            if waiter.called:
                continue
            if self.connected:
                waiter.callback(None)
            else:
                unlogged(waiter).errback(self._error or self._not_connected())

    def _offer(self, member: Client[Any, Any]) -> None:
        """Pass messages of `member` to waiting calls, one message for each call."""
        if member in self._offers or isinstance(member.state, Stopped):
            return
        offer = self._offers[member] = member.receive()
        offer.addCallbacks(self._taken, self._not_taken, callbackArgs=(member,), errbackArgs=(member,))

    def _taken(self, message: Any, member: Client[Any, Any]) -> None:
        self._offers.pop(member, None)
        if not self._takers.fire_first(message):
            self._ready.append(message)
        if self._takers:
            self._offer(member)

    def _not_taken(self, _: Failure, member: Client[Any, Any]) -> None:
        """Note that the member stopped or gave up."""
        self._offers.pop(member, None)

    # Checks.

    def _check_all(self) -> None:
        for member in self.connected:
            connection = member.connection
            if connection is None:  # the check of another member has ended it
                continue
            assert self._check is not None
            checking = outcome_of(self._check, connection)
            if self._recovery.prepare:
                checking.addTimeout(self._recovery.prepare, self._clock)
            checking.addErrback(self._failed_check, connection)

    def _failed_check(self, failure: Failure, connection: Connection) -> None:
        if connection.is_open:
            text = f"its check failed: {line_of(failure.getErrorMessage())}"
            _log.warn("a member of a pool is cut: {text}", text=text)
            connection.abort(CloseReason(EndedBy.US, "aborted", text))
