"""
Messages of a wrapped conversation: a stand-in for its connection, whose ``receive`` gives what a function passes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from typing_extensions import Self, override

from tcpapp.connection.handlers import outcome_of, value_of
from tcpapp.connection.waiters import fail_all
from tcpapp.errors import NotConnected, UndecodableMessage, drop_frames, without_frames

__all__ = ["Relay"]


class Relay:
    """
    Stands in for the `connection` of one conversation. Every message goes through `hook` before ``receive`` gives it.

    The hook gets the message, the connection, and the function that passes a message on. What it returns is sent. The
    hook gets one message at a time. All other calls go to the connection itself, which equals its stand-in.

    `_asked` are the calls of ``receive`` that wait, and `_passed` the messages that no call has taken yet. `_handled`
    fires when the conversation is done with its last message.
    """

    def __init__(self, connection: Any, hook: Callable[..., Any]) -> None:
        self._connection = connection
        self._hook = hook
        self._asked: deque[Deferred[Any]] = deque()
        self._passed: deque[tuple[Any, Deferred[None]]] = deque()
        self._handled: Deferred[None] | None = None
        self._fetching = False
        self._running: Deferred[None] | None = None
        self._error: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the connection."""
        return getattr(self._connection, name)

    @override
    def __eq__(self, other: object) -> bool:
        return bool(self._connection == (other._connection if isinstance(other, Relay) else other))

    @override
    def __hash__(self) -> int:
        return hash(self._connection)

    def receive(self) -> Deferred[Any]:
        """The next message that the hook passes on. It fails as ``receive`` of the connection or the hook does."""
        asked: Deferred[Any] = Deferred(self._forget)
        self._asked.append(asked)
        self._done_with_last()
        if self._error is not None:
            self._fail_asked(self._error)
            self._error = None
        elif self._passed:
            self._give(*self._passed.popleft())
        elif not self._fetching:
            self._fetching = True  # before it runs: it calls the conversation, which calls this again
            self._running = Deferred.fromCoroutine(self._fetch())
            self._running.addBoth(self._stopped)
        return asked

    def __aiter__(self) -> Self:
        """Iterate over the messages, until the connection ends well."""
        return self

    async def __anext__(self) -> Any:
        """Return the next message. Raise `NotConnected` if the connection did not end well."""
        try:
            return await self.receive()
        except NotConnected as error:
            if error.reason.clean:
                without_frames(error)  # Python 3.12 keeps them, and this connection, in memory
                raise StopAsyncIteration from None
            raise

    def end(self) -> None:
        """The conversation has ended: it takes no more messages. Raises the error of a hook that it did not get."""
        self._done_with_last()
        if self._running is not None:
            self._running.cancel()
        if self._error is not None:
            raise self._error

    def _stopped(self, result: Failure | None) -> None:
        self._fetching = False
        self._running = None
        if not isinstance(result, Failure):
            return
        error: Any = result.value
        ended = isinstance(error, (NotConnected, CancelledError))
        if ended:
            drop_frames(result)  # they would keep this, and the connection, in memory
        if self._asked:
            self._fail_asked(error)
        elif not ended:
            self._error = error

    def _fail_asked(self, error: BaseException) -> None:
        asked, self._asked = self._asked, deque()
        fail_all(asked, error)

    async def _fetch(self) -> None:
        """Give messages to the hook, one at a time, while the conversation waits for one."""
        while self._asked:
            try:
                message = await self._connection.receive()
            except UndecodableMessage as error:
                self._asked.popleft().errback(error)
                continue
            reply = await outcome_of(self._hook, message, self._connection, self._pass_on)
            if reply is not None:
                await self._connection.send(value_of(reply))

    def _pass_on(self, message: Any, _: Any = None) -> Deferred[None]:
        """Give `message` to the conversation. Fires when it is done with the message."""
        handled: Deferred[None] = Deferred()
        if self._asked:
            self._give(message, handled)
        else:
            self._passed.append((message, handled))
        return handled

    def _give(self, message: Any, handled: Deferred[None]) -> None:
        asked = self._asked.popleft()
        if self._asked:  # it waits for more messages at the same time
            handled.callback(None)
        else:
            self._handled = handled
        asked.callback(message)

    def _done_with_last(self) -> None:
        handled, self._handled = self._handled, None
        if handled is not None and not handled.called:
            handled.callback(None)

    def _forget(self, asked: Deferred[Any]) -> None:
        """`asked` was cancelled. A message on its way is kept for the next call."""
        if asked in self._asked:
            self._asked.remove(asked)
