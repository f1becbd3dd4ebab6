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
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from typing_extensions import Self

from tcpapp.client.loop_calls import Caller
from tcpapp.client.reconnecting import Client
from tcpapp.client.reconnecting.states import State
from tcpapp.connection.many import in_one_write
from tcpapp.errors import InvalidOption, MaybeSent, NeverSent, NotConnected, UndecodableMessage
from tcpapp.framing import Framing
from tcpapp.transport.fork_check import check_fork

__all__ = ["BlockingClient", "connect"]

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Result = TypeVar("Result")

CONNECT = 30.0
"""The default timeout of `connect` in seconds: the same as ``timeouts.connect``."""

AT_HAND: Final = 64
"""Messages that are taken ahead of `receive` at most. Then a switch of threads takes a small part of the time."""

AT_HAND_BYTES: Final = 65_536
"""Bytes of the inbox after which no further message is taken ahead: the default of ``write_high``."""

UNCHANGING: Final = frozenset({bytes, str, int, float, bool, type(None)})
"""Types of messages that can be sent later than ``send`` returns, because no program can change them until then."""

SEND_COST: Final = 64
"""Bytes that count for a message on its way to the reactor's thread besides its own: it is in a tuple or two."""

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


class BlockingClient(Generic[Request, Reply]):
    """
    A `Client` whose methods block. `connect` returns it. Several threads can use it at once.

    `timeout` is always in seconds, and `None` is no limit unless a method says otherwise. The methods raise the errors
    of `Client`'s methods, `TimedOut` after the timeout, and `Forked` in a forked child of the process that connected. A
    call that times out or is interrupted is cancelled.

    A message that `send` has taken can fail later. Then the next call, of `send`, `receive`, `request` or `close`,
    raises that error.
    """

    def __init__(self, client: Client[Request, Reply], caller: Caller) -> None:
        self._client = client
        self._caller = caller
        self._framing = client.settings.framing.fresh()  # which no other thread uses
        self._at_hand: deque[Any] = deque()
        self._sending = threading.Lock()  # the threads' own: the reactor's thread never waits for it
        self._outgoing: deque[tuple[Any, int]] = deque()
        self._is_posted = False
        self._handed_over = 0  # bytes that threads have handed over, and that are done: each side writes its own
        self._done = 0
        self._failed: deque[Exception] = deque()

    @property
    def state(self) -> State:
        """The state of the client. See `Client.state`."""
        return self._client.state

    def send(self, message: Request, timeout: float | None = None) -> None:
        """
        Send `message`. Waits while ``write_high`` bytes or more are unsent, or there is no connection. The message can
        still be lost with the connection.

        A message that a program can change, such as a list, is waited for until a connection has it.
        """
        self._raise_failed()
        if type(message) in UNCHANGING and self._hands_over(message):
            return
        self._caller.call("send", lambda: self._client.send(message), timeout)

    def receive(self, timeout: float | None = None) -> Reply:
        """
        Wait for the next message and return it. Raises `TimedOut` if none comes in time, and `NotConnected` if the
        client is closed.
        """
        self._raise_failed()
        self._caller.check("receive")
        try:
            message = self._at_hand.popleft()
        except IndexError:
            message = self._caller.call("receive", self._receive, timeout, self._at_hand.appendleft)
        if isinstance(message, UndecodableMessage):
            raise message
        return message  # type: ignore[no-any-return]

    def request(self, message: Request, timeout: float | None = None, *, idempotent: bool = False) -> Reply:
        """
        Send `message`, wait for its reply and return it (`timeout` `None`: ``timeouts.request``). See `Client.request`.
        """
        self._raise_failed()
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
        self._raise_failed()
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
        """Close. If the block raised an exception, close without waiting, and raise no error of an earlier `send`."""
        if kind is not None:
            self._failed.clear()
        self.close(None if kind is None else 0)

    def _raise_failed(self) -> None:
        """Raise the error of an earlier ``send``, if there is one."""
        if self._failed:
            raise self._failed.popleft()

    # In the reactor's thread, but for the first.

    def _hands_over(self, message: Any) -> bool:
        """Hand `message` over, unless too much is unsent. Returns whether it did. Raises `UnsendableMessage`."""
        self._caller.check("send")
        settings = self._client.settings
        most = settings.limits.write_high
        size = SEND_COST + (len(message) if type(message) is bytes else most // AT_HAND)
        if self._client.connection is None:
            return False
        with self._sending:
            if settings.codec is None:
                self._framing.frame(message)
            if self._handed_over - self._done + size > most:
                return False
            self._handed_over += size
            self._outgoing.append((message, size))
            if not self._is_posted:  # else `_send_all` has not begun, and will find it
                self._is_posted = True
                self._caller.post(self._send_all)
        return True

    def _send_all(self) -> None:
        self._is_posted = False  # first: a message that comes from now on is posted again
        connection = self._client.connection
        if connection is None:
            self._send_each()
        else:
            in_one_write(connection, self._send_each)

    def _send_each(self) -> None:
        for _ in range(len(self._outgoing)):
            message, size = self._outgoing.popleft()
            try:
                sent = self._client.send(message)
            except Exception as error:  # noqa: BLE001 - the codec is the user's code
                self._done += size
                self._failed.append(error)
                continue
            if sent.called and sent.result is None:
                self._done += size
            else:
                sent.addCallbacks(self._sent, self._send_failed, callbackArgs=(size,), errbackArgs=(size,))

    def _sent(self, _: object, size: int) -> None:
        self._done += size

    def _send_failed(self, failure: Failure, size: int) -> None:
        self._done += size
        self._failed.append(failure.value)  # type: ignore[arg-type]  # the error that the thread gets

    def _receive(self) -> Any:
        """The next message, or its Deferred. The messages that are there with it are taken ahead."""
        if self._at_hand:  # another thread's call has taken it ahead
            return self._at_hand.popleft()
        return self._client.receive().addCallback(self._take_ahead)

    def _take_ahead(self, message: Any) -> Any:
        self._at_hand.extend(self._client._take_at_hand(AT_HAND, AT_HAND_BYTES))
        return message


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
