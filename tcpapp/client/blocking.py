"""
The client for programs without a reactor: scripts, notebooks, threads.

::

    from tcpapp import blocking

    with blocking.connect("tcp:localhost:7007", codec="json") as client:
        print(client.request({"get": "weather"}))

Every call waits until it is done, and can be interrupted (Ctrl-C). It uses a reconnecting `tcpapp.Client` on Twisted's
reactor in a thread of its own. The first `connect` starts that thread, which ends with the program. If a program runs
the reactor itself, its other threads can use these clients.

A process that is forked later has no such thread: there, every call raises `Forked`. Fork or spawn processes before you
connect.
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
"""The default timeout of `connect` in seconds: the same as ``timeouts.connect``."""

_lock = threading.Lock()


def running_reactor() -> Any:
    """
    Return the global reactor, which runs in another thread than this one. If it does not run, start it in a new thread.

    Raises `InvalidOption` in the reactor's own thread, and after the reactor was stopped. Raises `Forked` in a forked
    child of the process in which it ran. All are the program's fault.
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
            run = lambda: reactor.run(installSignalHandlers=False)  # noqa: E731 - the function of the thread
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
        Call `function` in the reactor's thread. Return its result, or the result of the Deferred that it returns.

        Raises the errors of `function`, and `TimedOut` with `name` after `timeout` seconds (`None`: no limit). A call
        that times out or is interrupted cancels the Deferred. Raises `Forked` in a forked child of the process in which
        the reactor runs.
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
            if future.done():  # the function itself raised TimeoutError, or the result came at the last moment
                return future.result()
            raise TimedOut(name, timeout or 0) from None
        finally:
            if not future.done():
                self._reactor.callFromThread(_cancel, running)


def _cancel(running: list[Deferred[Any]]) -> None:
    """Cancel the running call. This runs in the reactor's thread, where the call began earlier."""
    running[0].cancel()


class BlockingClient(Generic[Request, Reply]):
    """
    A `Client` whose methods block. `connect` returns it. Several threads can use it at once.

    `timeout` is always in seconds, and `None` is no limit unless a method says otherwise. The methods raise the errors
    of `Client`'s methods, `TimedOut` after the timeout, and `Forked` in a forked child of the process that connected. A
    call that times out or is interrupted is cancelled.
    """

    def __init__(self, client: Client[Request, Reply], caller: Caller) -> None:
        self._client = client
        self._caller = caller

    @property
    def state(self) -> State:
        """The state of the client. See `Client.state`."""
        return self._client.state

    def send(self, message: Request, timeout: float | None = None) -> None:
        """
        Send `message`, and wait until fewer than ``write_high`` bytes of a connection are unsent. The message can still
        be lost with the connection.
        """
        self._caller.call("send", lambda: self._client.send(message), timeout)

    def receive(self, timeout: float | None = None) -> Reply:
        """
        Wait for the next message and return it. Raises `TimedOut` if none comes in time, and `NotConnected` if the
        client is closed.
        """
        received: Reply = self._caller.call("receive", self._client.receive, timeout)
        return received

    def request(self, message: Request, timeout: float | None = None, *, idempotent: bool = False) -> Reply:
        """
        Send `message`, wait for its reply and return it (`timeout` `None`: ``timeouts.request``). See `Client.request`.
        """
        reply: Reply = self._caller.call(
            "request", lambda: self._client.request(message, timeout, idempotent=idempotent)
        )
        return reply

    def undelivered(self) -> list[NeverSent | MaybeSent]:
        """Return messages that were possibly not delivered. See `Client.undelivered`."""
        found: list[NeverSent | MaybeSent] = self._caller.call("undelivered", self._client.undelivered)
        return found

    def close(self, deadline: float | None = None) -> int:
        """
        Send the waiting messages, wait for outstanding replies, and close. See `Client.drain`.

        Returns the number of messages that were not sent or not answered within `deadline` seconds (`None`:
        ``timeouts.drain``). It can be called again. Raises `Forked` in a forked child.
        """
        left: int = self._caller.call("close", lambda: self._client.drain(deadline))
        return left

    def __iter__(self) -> Iterator[Reply]:
        """
        Yield the messages as they come, until the client is closed. Raises the error for which the client gave up.
        """
        while True:
            try:
                yield self.receive()
            except NotConnected:
                return

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        """Close. If the block raised an exception, close without waiting."""
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
    Connect to `endpoint`, or to the first of several endpoints that accepts. Waits for at most `timeout` seconds.

    `options` are the options of `Client`. ``connect_now`` is true by default: if no endpoint can be connected to,
    `connect` raises the error. `reactor` is a reactor that runs in another thread. `None` is the global reactor, which
    is started if it does not run. Raises the errors of `Client`, `TimedOut`, and Twisted's own errors.
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
