"""
The client for programs without a reactor: scripts, notebooks, threads.

::

    from tcpapp import blocking

    with blocking.connect("tcp:localhost:7007", codec="json") as client:
        print(client.request({"get": "weather"}))

Every call waits until it is done, and can be interrupted (Ctrl-C). Under it is a reconnecting `tcpapp.Client` on
Twisted's reactor in a thread of its own. The first `connect` starts the thread, and it ends with the program. If a
program runs the reactor itself, that reactor is used, from its other threads.

A process that is forked later has no such thread: there, every call raises `Forked`. Fork, or spawn, first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from typing_extensions import Self

from tcpapp.client.reconnecting import Client
from tcpapp.client.reconnecting.states import State
from tcpapp.errors import InvalidOption, MaybeSent, NeverSent, NotConnected, TimedOut
from tcpapp.framing import Framing
from tcpapp.transport.fork_check import check_fork

__all__ = ["BlockingClient", "connect"]

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Result = TypeVar("Result")

CONNECT = 30.0
"""Default of `connect`'s timeout in seconds: as ``timeouts.connect``."""

_lock = threading.Lock()


def running_reactor() -> Any:
    """
    The global reactor, running in another thread than this one. It is started there if it does not run.

    Raises `InvalidOption` in the reactor's own thread, and after the reactor was stopped. Raises `Forked` in a child of
    the process in which it ran. Each is the program's fault.
    """
    from twisted.internet import reactor as global_reactor  # late: a program chooses its reactor first
    from twisted.python.threadable import isInIOThread

    reactor: Any = global_reactor
    check_fork(reactor, "connect")
    with _lock:
        if not reactor.running:
            if reactor._startedBefore:
                raise InvalidOption("blocking: Twisted's reactor was stopped, and cannot be started again")
            runs = threading.Event()
            reactor.callWhenRunning(runs.set)
            run = lambda: reactor.run(installSignalHandlers=False)  # noqa: E731 - the thread's own
            threading.Thread(target=run, name="tcpapp-reactor", daemon=True).start()
            runs.wait()
    if isInIOThread():
        raise InvalidOption("blocking: this is the reactor's own thread, which cannot wait; use tcpapp.Client here")
    return reactor


class Caller:
    """Calls functions in the thread of `reactor`, and waits for their results."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def call(self, name: str, function: Callable[[], Any], timeout: float | None = None) -> Any:
        """
        The result of `function`, or of the Deferred that it returns.

        Raises its errors, and `TimedOut` of `name` after `timeout` seconds (`None`: no limit). A call that times out or
        is interrupted cancels the Deferred. Raises `Forked` in a child of the process in which the reactor runs.
        """
        check_fork(self._reactor, name)
        future: Future[Any] = Future()
        running: list[Deferred[Any]] = []

        def done(result: Any) -> None:
            if isinstance(result, Failure):
                future.set_exception(result.value)
            else:
                future.set_result(result)

        def run() -> None:
            running.append(maybeDeferred(function).addBoth(done))

        self._reactor.callFromThread(run)
        try:
            return future.result(timeout)
        except FutureTimeout:
            if future.done():  # it is the error of the function, or the result came at the last moment
                return future.result()
            raise TimedOut(name, timeout or 0) from None
        finally:
            if not future.done():
                self._reactor.callFromThread(_cancel, running)


def _cancel(running: list[Deferred[Any]]) -> None:
    """Cancel the running call. It is looked up in the reactor's thread, where it began earlier."""
    running[0].cancel()


class BlockingClient(Generic[Request, Reply]):
    """
    A `Client` whose methods block. `connect` makes it; several threads can use it at once.

    `timeout` is in seconds everywhere, and `None` is no limit unless a method says otherwise. Methods raise the errors
    of `Client`'s methods, `TimedOut` after the timeout, and `Forked` in a child of the process that connected. A call
    that times out or is interrupted is cancelled.
    """

    def __init__(self, client: Client[Request, Reply], caller: Caller) -> None:
        self._client = client
        self._caller = caller

    @property
    def state(self) -> State:
        """The client's state: see `Client.state`."""
        return self._client.state

    def send(self, message: Request, timeout: float | None = None) -> None:
        """
        Send `message`, and wait until it is below the write mark of a connection. It can still be lost with the
        connection.
        """
        self._caller.call("send", lambda: self._client.send(message), timeout)

    def receive(self, timeout: float | None = None) -> Reply:
        """The next message. Raises `TimedOut` if none comes in time, and `NotConnected` if the client is closed."""
        received: Reply = self._caller.call("receive", self._client.receive, timeout)
        return received

    def request(self, message: Request, timeout: float | None = None, *, idempotent: bool = False) -> Reply:
        """Send `message` and wait for its reply (`timeout` `None`: ``timeouts.request``). See `Client.request`."""
        reply: Reply = self._caller.call(
            "request", lambda: self._client.request(message, timeout, idempotent=idempotent)
        )
        return reply

    def undelivered(self) -> list[NeverSent | MaybeSent]:
        """Messages that were possibly not delivered: see `Client.undelivered`."""
        found: list[NeverSent | MaybeSent] = self._caller.call("undelivered", self._client.undelivered)
        return found

    def close(self, deadline: float | None = None) -> int:
        """
        Send the waiting messages, wait for outstanding replies, and close: see `Client.drain`.

        Returns the number of messages that were not sent, or not answered, after `deadline` seconds (`None`:
        ``timeouts.drain``). It can be called again. Raises `Forked`.
        """
        left: int = self._caller.call("close", lambda: self._client.drain(deadline))
        return left

    def __iter__(self) -> Iterator[Reply]:
        """The messages, as they come, until the client is closed. Raises the error for which the client gave up."""
        while True:
            try:
                yield self.receive()
            except NotConnected:
                return

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        """Close; without waiting if an exception is being raised."""
        self.close(None if kind is None else 0)


def connect(
    endpoint: str | IStreamClientEndpoint | list[str | IStreamClientEndpoint],
    *,
    framing: Framing | str = "line",
    timeout: float | None = CONNECT,
    reactor: Any = None,
    **options: Any,
) -> BlockingClient[Any, Any]:
    """
    Connect to `endpoint`, or to the first of several that answers. Waits for at most `timeout` seconds.

    `options` are the options of `Client`. ``connect_now`` is true by default: if no endpoint can be connected to, that
    error is raised. `reactor` is a reactor that runs in another thread. `None` is the global one, which is started if
    it does not run. Raises the errors of `Client`, `TimedOut`, and Twisted's own errors.
    """
    options.setdefault("connect_now", True)
    chosen = running_reactor() if reactor is None else reactor
    caller = Caller(chosen)

    def start() -> Deferred[Client[Any, Any]]:
        client: Client[Any, Any] = Client(endpoint, framing=framing, reactor=chosen, **options)

        def give_up(failure: Failure) -> Failure:
            client.stop()
            return failure

        return client.start().addErrback(give_up)

    return BlockingClient(caller.call("connect", start, timeout), caller)
