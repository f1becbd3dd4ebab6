"""
A reply that is many messages: an iterator or an async iterator of the app, whose messages are sent one by one.

The next message is taken only while the peer reads what was sent, and only for as long as a turn of the event loop
lasts. So at most ``write_high`` bytes of messages are held, however many messages there are, and other connections are
served meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from math import inf
from types import coroutine
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from tcpapp.connection.outbox import Outbox
from tcpapp.connection.pause_flags import CONNECTION_CLOSED, CONNECTION_CLOSING
from tcpapp.limits.fairness import FairShare

__all__ = ["ReplyStream", "StreamSender"]


class StreamSender(Protocol):
    """What sends the messages of a stream: the dispatcher of its connection."""

    pauses: int

    def add_reply(self, reply: Any) -> int:
        """Put a message behind the replies that are not written yet. Returns its size in bytes."""
        ...

    def flush(self) -> None:
        """Write the replies so far."""
        ...

    def go_on(self, stream: ReplyStream) -> None:
        """Let `stream` go on, as a call of the app, by its method `open`."""
        ...

    def stream_waits(self, stream: ReplyStream) -> None:
        """`stream` waits for the peer, for its turn, or for its place. This is not the app's time."""
        ...

    def stream_runs(self, stream: ReplyStream) -> None:
        """`stream` has made progress: the app's time for the next message begins."""
        ...


class ReplyStream:
    """
    The messages of one reply, from its `source` to the `sender`.

    `in_place` says that all replies before it are sent, so that it can send. It `waits` for that, for the peer, or for
    its turn, which lasts for `budget` seconds. It writes its messages when they exceed `mark` bytes. `slot` belongs to
    the sender.
    """

    __slots__ = (
        "_budget",
        "_clock",
        "_ends",
        "_fair_share",
        "_gate",
        "_has_turn",
        "_mark",
        "_outbox",
        "_seconds",
        "_sender",
        "_source",
        "_unwritten",
        "in_place",
        "slot",
    )

    def __init__(
        self,
        source: Any,
        sender: StreamSender,
        outbox: Outbox,
        fair_share: FairShare,
        clock: IReactorTime | None,
        seconds: Callable[[], float],
        budget: float,
        mark: int,
    ) -> None:
        self._source = source
        self._sender = sender
        self._outbox = outbox
        self._fair_share = fair_share
        self._clock = clock
        self._seconds = seconds
        self._budget = budget
        self._mark = mark
        self._ends = inf
        self._gate: Deferred[None] | None = None
        self._has_turn = True
        self._unwritten = 0
        self.in_place = True
        self.slot: Any = None

    def start(self) -> Deferred[None]:
        """
        Send the messages from now on. The Deferred fires after the last one; to cancel it closes the source.

        It fails with what the source raises. It fails with `CancelledError` when the connection closes meanwhile.
        """
        return Deferred.fromCoroutine(self._run())

    @property
    def waits(self) -> bool:
        """Whether it takes no message just now."""
        return self._gate is not None

    @property
    def _is_free(self) -> bool:
        """Whether the next message can be taken."""
        return self.in_place and self._has_turn and not self._outbox.behind

    @property
    def can_go_on(self) -> bool:
        """Whether what it waited for has come."""
        return self.waits and self._is_free

    def open(self) -> None:
        """Go on: what it waited for has come."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.callback(None)

    def take_turn(self) -> None:
        """The turn has come."""
        self._has_turn = True
        if self.can_go_on:
            self._sender.go_on(self)

    async def _run(self) -> None:
        try:
            await self._wait()
            await (self._send_async() if isinstance(self._source, AsyncIterator) else self._send_all())
        except GeneratorExit:  # it is freed: nothing can be awaited any more
            raise
        except BaseException:
            await self._end()
            raise
        await self._end()

    async def _send_all(self) -> None:
        for message in self._source:
            self._put(message)
            if not self._goes_on:
                await self._wait()

    async def _send_async(self) -> None:
        """The app can take any time for the next message, so each one is written at once."""
        while True:
            try:
                message = await _following(self._source, self._begin_turn)
            except StopAsyncIteration:
                break
            self._put(message)
            self._write()
            if self._goes_on:
                self._sender.stream_runs(self)
            else:
                await self._wait()

    async def _end(self) -> None:
        self._gate = None
        self._fair_share.cancel(self.take_turn)
        self._write()
        await _close(self._source)

    @property
    def _goes_on(self) -> bool:
        """Whether it can take another message at once."""
        return not self._outbox.behind and self._seconds() < self._ends

    def _put(self, message: Any) -> None:
        self._check_open()
        self._unwritten += self._sender.add_reply(message)
        if self._unwritten > self._mark:
            self._write()

    def _write(self) -> None:
        self._unwritten = 0
        if not self._sender.pauses & CONNECTION_CLOSED:
            self._sender.flush()

    async def _wait(self) -> None:
        """Wait until the next message can be taken. Then a turn begins."""
        self._check_open()
        self._write()
        if self._clock is not None and self._seconds() >= self._ends:
            self._has_turn = False
            self._fair_share.wait(self.take_turn, self._clock)
        while not self._is_free:
            self._gate = Deferred()
            self._sender.stream_waits(self)
            await self._gate
        self._check_open()
        self._begin_turn()
        self._sender.stream_runs(self)

    def _begin_turn(self) -> None:
        self._ends = self._seconds() + self._budget

    def _check_open(self) -> None:
        if self._sender.pauses & CONNECTION_CLOSING:
            raise CancelledError


@coroutine
def _following(source: AsyncIterator[Any], waited: Callable[[], None]) -> Generator[Any, Any, Any]:
    """The next message of `source`. Calls `waited` each time that the source has waited for something."""
    step: Any = source.__anext__().__await__()
    resume, result = step.send, None
    while True:
        try:
            awaited = resume(result)
        except StopIteration as end:
            return end.value
        finally:
            result = None  # an error holds this frame
        try:
            resume, result = step.send, (yield awaited)
        except GeneratorExit:
            step.close()
            raise
        except BaseException as error:  # noqa: BLE001 - the source gets it where it waits
            resume, result = step.throw, error
        waited()


async def _close(source: Any) -> None:
    """Close `source`, as a generator can be closed, so that it can clean up. Other iterators have no end."""
    aclose = getattr(source, "aclose", None)
    if aclose is not None:
        await aclose()
    elif (close := getattr(source, "close", None)) is not None:
        close()
