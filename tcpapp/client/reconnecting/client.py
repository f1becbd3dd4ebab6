"""The client that comes back: a service with a connection, or on its way to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from typing_extensions import Self, Unpack

from tcpapp.client.factory import MessageClientFactory
from tcpapp.client.reconnecting import fatal_errors
from tcpapp.client.reconnecting.backoff import Attempts
from tcpapp.client.reconnecting.connector import Life, Plan
from tcpapp.client.reconnecting.delivery import Sending
from tcpapp.client.reconnecting.states import State, States, Stopped
from tcpapp.connection.connection import MessageProtocol
from tcpapp.connection.settings import Options, Settings
from tcpapp.connection.unhandled import unlogged
from tcpapp.errors import Forked, InvalidOption, MaybeSent, NeverSent, NotConnected
from tcpapp.framing import Framing
from tcpapp.limits import Recovery
from tcpapp.transport.endpoint_strings import client_endpoint, client_string
from tcpapp.transport.fork_check import check_fork, was_forked
from tcpapp.transport.proxy_header import Announcement

__all__ = ["Client"]

Request = TypeVar("Request")
Reply = TypeVar("Reply")


def default_reactor() -> Any:
    """The global reactor, late: a program chooses its reactor first."""
    from twisted.internet import reactor

    return reactor


def _check(recovery: object, prepare: object, is_fatal: object) -> None:
    """What is none of its kind is said now, and not when it is first needed."""
    if not isinstance(recovery, Recovery):
        raise InvalidOption(f"recovery={recovery!r}: takes a Recovery")
    if prepare is not None and not callable(prepare):
        raise InvalidOption(f"prepare={prepare!r}: takes a function of the connection")
    if not callable(is_fatal):
        raise InvalidOption(f"is_fatal={is_fatal!r}: takes a function of the error")


class Client(Service, Generic[Request, Reply]):
    """
    A client that comes back, of one server or of several that are the same: `endpoint` is one, or a sequence of them.

    ::

        async with Client("tcp:localhost:7007", codec="json") as client:
            print(await client.request({"get": "weather"}))

    It is a Twisted service, for a program's own, and is started and stopped by itself as well. While it is started it
    has a connection, or is on its way to one: waits grow, at random, up to a bound, and begin small again only after a
    connection has been open, and prepared, for ``recovery.healthy_after`` seconds. Its `state` says where it stands.
    ``async with`` starts and stops it, also where it is cancelled.

    - `app`: what takes the messages that nobody receives, as with `connect`.
    - `prepare`: a function of the connection, called as soon as it is open and awaited: a login, a hello, what is to be
      subscribed to. Nothing else is sent before it is done. It raises `GiveUp` where to try again is no use.
    - `while_down`: what `send` does while there is no connection: ``"wait"`` for one, ``"fail"``, or ``"buffer"`` the
      message, and say at once that it is sent. Requests wait in any case but ``"fail"``.
    - `random_order`: whether several endpoints are tried at random, and not in their order, all of them before a wait.
    - `connect_now`: whether it stops, with the error, where the first round of attempts fails.
    - `recovery`: the numbers (`tcpapp.limits.Recovery`).
    - `is_fatal`: whether an error ends it; see `tcpapp.client.reconnecting.fatal_errors`.
    - `proxy_header`, `reactor`, `framing` and the `options` are those of `connect`.

    What was given to it has a definite end: `send` and `request` fail with `NeverSent` where no connection had the
    message, and with `MaybeSent` where one had it and was lost before a reply came; `undelivered` lists what else may
    be lost. Methods belong to the reactor's thread. In a process that was forked while the reactor ran, where nothing
    runs it, they fail with `Forked`. Raises `InvalidAddress`, `InvalidFraming` and `InvalidOption`.
    """

    def __init__(
        self,
        endpoint: str | IStreamClientEndpoint | Sequence[str | IStreamClientEndpoint],
        app: Any = None,
        *,
        framing: Framing | str = "line",
        prepare: Callable[[MessageProtocol], Any] | None = None,
        while_down: str = "wait",
        random_order: bool = False,
        connect_now: bool = False,
        recovery: Recovery | None = None,
        is_fatal: Callable[[BaseException], bool] = fatal_errors.is_fatal,
        proxy_header: Announcement | None = None,
        reactor: Any = None,
        **options: Unpack[Options],
    ) -> None:
        self._reactor = default_reactor() if reactor is None else reactor
        options.setdefault("clock", self._reactor)
        endpoints = list(endpoint) if isinstance(endpoint, (list, tuple)) else [endpoint]
        if not endpoints:
            raise InvalidOption("endpoint=[]: takes one at the least")
        for each in endpoints:
            client_endpoint(self._reactor, each, 1)  # that it can be one is said now
        factory = MessageClientFactory(app, framing, **options)
        self._settings = settings = factory.settings
        clock = self._clock = settings.clock or self._reactor
        numbers = Recovery() if recovery is None else recovery
        _check(numbers, prepare, is_fatal)
        attempts = Attempts(list(map(client_string, endpoints)), numbers, settings.random, random_order=random_order)
        plan = Plan(numbers, attempts, prepare, is_fatal, connect_now=connect_now, proxy_header=proxy_header)
        self._sending = Sending(settings, numbers, clock, while_down)
        self._life = self._sending.life = Life(factory, self._reactor, clock, plan, self._sending)
        self._life.observed.watch(self._note)

    # Its life.

    @property
    def state(self) -> State:
        """What it is doing: `Connecting`, `Connected`, `Waiting` or `Stopped`."""
        return self._life.observed.state

    def _note(self, state: State) -> None:
        """Services are asked whether they run."""
        self.running = int(not isinstance(state, Stopped))

    @property
    def reactor(self) -> Any:
        """What it connects by."""
        return self._reactor

    @property
    def settings(self) -> Settings:
        """What its connections have in common."""
        return self._settings

    @property
    def clock(self) -> IReactorTime:
        """What its timers run on."""
        return self._clock

    @property
    def unfinished(self) -> int:
        """How many messages are not sent yet, or wait for their reply."""
        return self._sending.unfinished

    @property
    def late_replies(self) -> int:
        """How many replies came when nobody waited for them any more, or to no request: they were dropped."""
        return self._settings.traffic.late_replies

    @property
    def failed_sends(self) -> int:
        """How many messages `send` failed for, with `NeverSent` or `MaybeSent`."""
        return self._settings.traffic.failed_sends

    @property
    def connection(self) -> MessageProtocol | None:
        """The connection it has now, prepared and open; `None` where it has none."""
        return self._life.connection

    def watch(self, watcher: Callable[[State], object]) -> Callable[[], None]:
        """Call `watcher` with each state from now on; returns a function that ends it."""
        return self._life.observed.watch(watcher)

    def states(self) -> States:
        """
        ``async for state in client.states()``: the state it is in, and each that follows, until it stops.

        Raises `Forked`.
        """
        check_fork(self._reactor, "states")
        return States(self._life.observed)

    def start(self) -> Deferred[Self]:
        """
        Start. Fires with the client when it is connected, or fails with the error for which it gave up.

        Cancelled, the client goes on connecting: `stop` ends that. Raises `Forked`.
        """
        self.startService()
        return self.when_connected().addCallback(lambda _: self)

    def startService(self) -> None:
        """Start, and connect in time. Twisted's services call it. Raises `Forked`."""
        check_fork(self._reactor, "start")
        super().startService()
        if not self._life.running:
            self._sending.draining = False
            self._life.begin()

    def stop(self) -> Deferred[None]:
        """
        Stop, and close the connection: what is written goes out, within ``timeouts.grace``; what waits is `NeverSent`.

        Fires when it is closed; fails with `Forked` alone. It may be started again.
        """
        if was_forked(self._reactor):
            return fail(Forked("stop"))
        super().stopService()
        connection = self._life.latest
        if self._life.running:
            self._life.end()
        return succeed(None) if connection is None else connection.close().addCallback(lambda _: None)

    def stopService(self) -> Deferred[None]:
        """The same as `stop`. Twisted's services call it."""
        return self.stop()

    def drain(self, deadline: float | None = None) -> Deferred[int]:
        """
        Take nothing more to send, wait until all that was taken is sent and each request answered, and stop.

        After `deadline` seconds (`None`: ``timeouts.drain``) it stops all the same. Fires when it has stopped, with how
        many messages were not sent, or not answered.
        """
        if was_forked(self._reactor):
            return fail(Forked("drain"))
        left: list[int] = []

        def over(_: object) -> Deferred[None]:
            left.append(self._sending.unfinished)
            return self.stop()

        seconds = self._settings.timeouts.drain if deadline is None else deadline
        return self._sending.rest(seconds).addCallback(over).addCallback(lambda _: left[0])

    def when_connected(self) -> Deferred[MessageProtocol]:
        """
        Fires with the connection as soon as there is one, prepared and open.

        Fails with the error for which the client gives up, or gave up, and with `NotConnected` where it is stopped, or
        was not started.
        """
        if was_forked(self._reactor):
            return fail(Forked("when_connected"))
        if self.connection is not None:
            return succeed(self.connection)
        return self._life.next_connection()

    async def __aenter__(self) -> Self:
        """Start, and wait for a connection. Where that fails or is cancelled, the client is stopped."""
        started = self.start()
        try:
            return await started
        except BaseException:  # cancelled, too: a block that was not entered is not left either
            self.stop()
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop, and wait until the connection is closed. Cancelled meanwhile, the client stops all the same."""
        await self.stop()

    # What it sends and receives.

    def send(self, message: Request) -> Deferred[None]:
        """
        Send `message`. The Deferred fires when it is below the write mark of a connection: it may be lost with it yet.

        While there is no connection, `while_down` says what becomes of it. Fails with `UnsendableMessage`, `NeverSent`
        or `MaybeSent`. Cancelled while it waits, it is not sent.
        """
        return fail(Forked("send")) if was_forked(self._reactor) else self._sending.send(message)

    def request(self, message: Request, timeout: float | None = None, *, idempotent: bool = False) -> Deferred[Reply]:
        """
        Send `message` and wait for its reply, for `timeout` seconds in all (`None`: ``timeouts.request``; 0: no limit).

        It waits for a connection, and for its turn where ``max_requests`` wait for replies. One that is `idempotent` is
        sent again where its connection is lost, while its time and the budget for that (`Recovery`) last. Fails with
        `TimedOut` where no reply came in time, with `NeverSent`, `MaybeSent`, or `UnsendableMessage`. Cancelled or
        timed out, its late reply is dropped.
        """
        if was_forked(self._reactor):
            return fail(Forked("request"))
        return self._sending.request(message, timeout, idempotent=idempotent)

    def receive(self) -> Deferred[Reply]:
        """
        The next message that no request waits for, from this connection or from the ones after it.

        What came on a connection before it was lost is given first. Fails with `NotConnected` where the client stops,
        and with the error for which it gives up. Cancelled, it takes none.
        """
        if was_forked(self._reactor):
            return fail(Forked("receive"))
        return unlogged(Deferred.fromCoroutine(self._receive()))

    def __aiter__(self) -> Self:
        """``async for message in client`` takes messages until the client stops."""
        return self

    async def __anext__(self) -> Reply:
        """The next message. Raises the error for which the client gave up."""
        try:
            return await self.receive()
        except NotConnected:
            raise StopAsyncIteration from None

    def undelivered(self) -> list[NeverSent | MaybeSent]:
        """
        What may not have been delivered, each told once: what waits now, and what was sent on connections since lost.

        A message that was sent before a request which was answered has been read, and is not among them. Of the others
        the last ``max_waiting`` are remembered.
        """
        return self._sending.undelivered()

    async def _receive(self) -> Any:
        life = self._life
        while True:
            source = life.unread[0] if life.unread else life.latest
            if source is None:
                await life.next_connection()
                continue
            try:
                return await source.receive()
            except NotConnected:
                if source is life.latest:
                    await life.next_connection()
            finally:
                if source in life.unread and not source.unread:
                    life.unread.remove(source)
