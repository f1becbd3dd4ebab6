"""The reconnecting client: a service that keeps a connection open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from typing_extensions import Self, Unpack

from tcpapp.client.async_with import StartedInBlock
from tcpapp.client.factory import MessageClientFactory
from tcpapp.client.reconnecting import fatal_errors
from tcpapp.client.reconnecting.backoff import Attempts
from tcpapp.client.reconnecting.connector import Connector, Plan
from tcpapp.client.reconnecting.delivery import Delivery
from tcpapp.client.reconnecting.states import State, States, Stopped
from tcpapp.connection.connection import Connection
from tcpapp.connection.many import take_at_hand
from tcpapp.connection.settings import Options, Settings
from tcpapp.connection.unhandled import unlogged
from tcpapp.errors import Forked, InvalidOption, MaybeSent, NeverSent, NotConnected
from tcpapp.framing import Framing
from tcpapp.limits import Recovery
from tcpapp.transport.endpoint_strings import client_endpoint, client_string
from tcpapp.transport.fork_check import check_fork, was_forked
from tcpapp.transport.proxy_header import ProxyHeaderSource

__all__ = ["Client"]

Request = TypeVar("Request")
Reply = TypeVar("Reply")


def default_reactor() -> Any:
    """Return the global reactor, imported late: a program chooses its reactor first."""
    from twisted.internet import reactor

    return reactor


def _check(recovery: object, prepare: object, is_fatal: object) -> None:
    """Check the types of arguments now, and not when they are first used."""
    if not isinstance(recovery, Recovery):
        raise InvalidOption(f"recovery={recovery!r}: takes a Recovery")
    if prepare is not None and not callable(prepare):
        raise InvalidOption(f"prepare={prepare!r}: takes a function of the connection")
    if not callable(is_fatal):
        raise InvalidOption(f"is_fatal={is_fatal!r}: takes a function of the error")


class Client(StartedInBlock, Service, Generic[Request, Reply]):
    """
    A reconnecting client of one server, or of several equivalent servers: `endpoint` is an endpoint, or a sequence of
    them.

    ::

        async with Client("tcp:localhost:7007", codec="json") as client:
            print(await client.request({"get": "weather"}))

    It is a Twisted service, and can also be started and stopped by itself. While it runs it has a connection, or tries
    to connect. Waits between rounds of attempts are random, and grow up to a bound. They begin small again only after a
    connection has been open and prepared for ``recovery.healthy_after`` seconds. `state` tells what the client is
    doing. ``async with`` starts and stops it, also when the block is cancelled.

    - `app`: handles the messages, as with `connect`.
    - `prepare`: a function that is called with each new connection, and whose result is awaited: for a login, a hello
      or subscriptions. No other message is sent before it is done. It raises `GiveUp` if another attempt cannot
      succeed.
    - `while_down`: what `send` does without a connection: ``"wait"`` for a connection, ``"fail"`` at once, or
      ``"buffer"`` the message and fire at once. Requests wait, unless it is ``"fail"``.
    - `random_order`: whether several endpoints are tried in random order. All are tried before each wait.
    - `connect_now`: whether the client stops, with the error, if the first round of attempts fails.
    - `recovery`: the numbers for reconnecting (`tcpapp.limits.Recovery`).
    - `is_fatal`: a function that tells whether an error ends the client; see `tcpapp.client.reconnecting.fatal_errors`.
    - `proxy_header`, `reactor`, `framing` and the `options` are as for `connect`.

    Every message has a definite result. `send` and `request` fail with `NeverSent` if no connection was given the
    message, and with `MaybeSent` if the connection was lost before a reply came. `undelivered` returns other messages
    that are possibly lost. Call the methods only in the reactor's thread. In a process that was forked while the
    reactor ran, they fail with `Forked`, because nothing runs the reactor there. Raises `InvalidAddress`,
    `InvalidFraming` and `InvalidOption`, the caller's fault.
    """

    def __init__(
        self,
        endpoint: str | IStreamClientEndpoint | Sequence[str | IStreamClientEndpoint],
        app: Any = None,
        *,
        framing: Framing | str = "line",
        prepare: Callable[[Connection], Any] | None = None,
        while_down: str = "wait",
        random_order: bool = False,
        connect_now: bool = False,
        recovery: Recovery | None = None,
        is_fatal: Callable[[BaseException], bool] = fatal_errors.is_fatal,
        proxy_header: ProxyHeaderSource | None = None,
        reactor: Any = None,
        **options: Unpack[Options],
    ) -> None:
        self._reactor = default_reactor() if reactor is None else reactor
        options.setdefault("clock", self._reactor)
        endpoints = list(endpoint) if isinstance(endpoint, (list, tuple)) else [endpoint]
        if not endpoints:
            raise InvalidOption("endpoint=[]: takes at least one endpoint")
        for each in endpoints:
            client_endpoint(self._reactor, each, 1)  # raises now if it is invalid
        factory = MessageClientFactory(app, framing, **options)
        self._settings = settings = factory.settings
        clock = self._clock = settings.clock or self._reactor
        numbers = Recovery() if recovery is None else recovery
        _check(numbers, prepare, is_fatal)
        attempts = Attempts(list(map(client_string, endpoints)), numbers, settings.random, random_order=random_order)
        plan = Plan(numbers, attempts, prepare, is_fatal, connect_now=connect_now, proxy_header=proxy_header)
        self._delivery = Delivery(settings, numbers, clock, while_down)
        self._connector = self._delivery.connector = Connector(factory, self._reactor, clock, plan, self._delivery)
        self._connector.observed.watch(self._note)

    # Starting and stopping.

    @property
    def state(self) -> State:
        """The current state: `Connecting`, `Connected`, `Waiting` or `Stopped`."""
        return self._connector.observed.state

    def _note(self, state: State) -> None:
        """Keep `running` of Twisted's services up to date."""
        self.running = int(not isinstance(state, Stopped))

    @property
    def reactor(self) -> Any:
        """The reactor that it connects with."""
        return self._reactor

    @property
    def settings(self) -> Settings:
        """The settings of all its connections."""
        return self._settings

    @property
    def clock(self) -> IReactorTime:
        """The clock of its timers."""
        return self._clock

    @property
    def unfinished(self) -> int:
        """The number of messages that are not sent yet, and of requests that wait for their reply."""
        return self._delivery.unfinished

    @property
    def late_replies(self) -> int:
        """The number of replies that were dropped because no request waited for them, or waited for them any longer."""
        return self._settings.counters.late_replies

    @property
    def failed_sends(self) -> int:
        """The number of messages whose `send` failed with `NeverSent` or `MaybeSent`."""
        return self._settings.counters.failed_sends

    @property
    def connection(self) -> Connection | None:
        """The current connection, if it is open and prepared; otherwise `None`."""
        return self._connector.connection

    def watch(self, watcher: Callable[[State], object]) -> Callable[[], None]:
        """Call `watcher` with each new state from now on. Returns a function that removes the watcher again."""
        return self._connector.observed.watch(watcher)

    def states(self) -> States:
        """
        Return an iterator of states for ``async for``: the current state, and each new state until the client stops.

        Raises `Forked`.
        """
        check_fork(self._reactor, "states")
        return States(self._connector.observed)

    def start(self) -> Deferred[Self]:
        """
        Start connecting. Fires with the client when it is connected, or fails with the error for which it gave up.

        Cancelling the Deferred does not stop the client: call `stop`. Raises `Forked` in a forked child.
        """
        self.startService()
        return self.when_connected().addCallback(lambda _: self)

    def startService(self) -> None:
        """Start connecting, and return at once. Twisted's services call it. Raises `Forked`."""
        check_fork(self._reactor, "start")
        super().startService()
        if not self._connector.running:
            self._delivery.draining = False
            self._connector.begin()

    def stop(self) -> Deferred[None]:
        """
        Stop, and close the connection. Written messages are flushed within ``timeouts.grace`` seconds. Waiting messages
        fail with `NeverSent`.

        Fires when the connection is closed; fails only with `Forked`. The client can be started again.
        """
        if was_forked(self._reactor):
            return fail(Forked("stop"))
        super().stopService()
        connection = self._connector.latest
        if self._connector.running:
            self._connector.end()
        return succeed(None) if connection is None else connection.close().addCallback(lambda _: None)

    def stopService(self) -> Deferred[None]:
        """Do the same as `stop`. Twisted's services call it."""
        return self.stop()

    def drain(self, deadline: float | None = None) -> Deferred[int]:
        """
        Accept no more messages, wait until all accepted messages are sent and all requests are answered, and stop.

        After `deadline` seconds (`None`: ``timeouts.drain``) it stops in any case. Fires when it has stopped, with the
        number of messages that were not sent or not answered.
        """
        if was_forked(self._reactor):
            return fail(Forked("drain"))
        left: list[int] = []

        def over(_: object) -> Deferred[None]:
            left.append(self._delivery.unfinished)
            return self.stop()

        seconds = self._settings.timeouts.drain if deadline is None else deadline
        return self._delivery.drained(seconds).addCallback(over).addCallback(lambda _: left[0])

    def when_connected(self) -> Deferred[Connection]:
        """
        Return a Deferred that fires with the connection as soon as it is open and prepared.

        Fails with the error for which the client gives up or gave up, and with `NotConnected` if the client is stopped
        or was not started.
        """
        if was_forked(self._reactor):
            return fail(Forked("when_connected"))
        if self.connection is not None:
            return succeed(self.connection)
        return self._connector.next_connection()

    # Messages.

    def send(self, message: Request) -> Deferred[None]:
        """
        Send `message`. The Deferred fires when fewer than `write_high` bytes of a connection are unsent.

        That does not confirm receipt: the message can still be lost with the connection. Without a connection,
        `while_down` applies. Fails with `UnsendableMessage`, `NeverSent` or `MaybeSent`. If the Deferred is cancelled
        while the message waits, the message is not sent.
        """
        return fail(Forked("send")) if was_forked(self._reactor) else self._delivery.send(message)

    def request(self, message: Request, timeout: float | None = None, *, idempotent: bool = False) -> Deferred[Reply]:
        """
        Send `message` and wait for its reply, for at most `timeout` seconds in total (`None`: ``timeouts.request``; 0:
        no limit).

        The request waits for a connection, and for its turn while ``max_requests`` requests wait for replies. An
        `idempotent` request is sent again if its connection is lost, within its time and the retry budget (`Recovery`).
        Fails with `TimedOut` if no reply comes in time, or with `NeverSent`, `MaybeSent` or `UnsendableMessage`. After
        a cancellation or a timeout, a late reply is dropped.
        """
        if was_forked(self._reactor):
            return fail(Forked("request"))
        return self._delivery.request(message, timeout, idempotent=idempotent)

    def receive(self) -> Deferred[Reply]:
        """
        Return a Deferred of the next message that is not the reply to a request, from this connection or later ones.

        Messages that came before a connection was lost come first. Fails with `NotConnected` when the client stops, and
        with the error for which it gives up. A cancelled call takes no message.
        """
        if was_forked(self._reactor):
            return fail(Forked("receive"))
        return unlogged(Deferred.fromCoroutine(self._receive()))

    def __aiter__(self) -> Self:
        """Return the client itself: ``async for message in client`` takes messages until the client stops."""
        return self

    async def __anext__(self) -> Reply:
        """Return the next message. Raises the error for which the client gave up."""
        try:
            return await self.receive()
        except NotConnected:
            raise StopAsyncIteration from None

    def undelivered(self) -> list[NeverSent | MaybeSent]:
        """
        Return messages that were possibly not delivered: waiting messages, and messages that were sent on lost
        connections. A message of a lost connection is returned only once.

        A message that was sent before an answered request was read by the peer, and is not in the list. Of the other
        messages, the last ``max_waiting`` are remembered.
        """
        return self._delivery.undelivered()

    def _take_at_hand(self, most: int, size: int) -> list[Any]:
        """
        Take messages that `receive` would give at once, up to `most`, and until they had `size` bytes in the inbox.

        An undecodable message is given as its error.
        """
        connector = self._connector
        latest = connector.latest
        return [] if latest is None or connector.unread else take_at_hand(latest, most, size)

    async def _receive(self) -> Any:
        connector = self._connector
        while True:
            source = connector.unread[0] if connector.unread else connector.latest
            if source is None:
                await connector.next_connection()
                continue
            try:
                return await source.receive()
            except NotConnected:
                if source is connector.latest:
                    await connector.next_connection()
            finally:
                if source in connector.unread and not source.unread:
                    connector.unread.remove(source)
