"""
The bodies of one connection's messages: they hold what has come, and make the peer wait while nobody reads.

A framing feeds a body inside its ``receive``. Readers go on only afterwards, by the outcome `BODY_CAME`, because they
are the user's code. A reader that waits is fired without a result, and then looks again at what its body has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any, Final

from twisted.internet.defer import Deferred
from typing_extensions import override

from tcpapp.connection.buffered_bytes import BufferedBytes
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.lifecycle import Lifecycle
from tcpapp.connection.read_control import BODY_FULL, ReadControl
from tcpapp.connection.settings import Settings
from tcpapp.connection.unhandled import failed
from tcpapp.connection.waiters import Waiters
from tcpapp.errors import UnreadableStream
from tcpapp.framing import Body

__all__ = ["BODY_COST", "Bodies", "ReceivedBody"]

BODY_COST: Final = 512
"""Bytes that count for a body besides its pieces: the body, its queue and its place in the framing."""


class ReceivedBody(Body):
    """A body that comes over a connection."""

    __slots__ = ("_bodies",)

    def __init__(self, size: int | None, bodies: Bodies) -> None:
        super().__init__(size)
        self._bodies = bodies

    # The framing writes.

    @override
    def feed(self, piece: bytes) -> None:
        before = self.held
        super().feed(piece)
        self._bodies.came(self.held - before)

    @override
    def finish(self) -> None:
        super().finish()
        self._bodies.ended(self)

    @override
    def fail(self, failure: UnreadableStream) -> None:
        """The connection ends for this failure. Readers get the `CloseReason` of that end."""

    # The app reads.

    @override
    def take(self, most: int | None = None) -> bytes:
        piece = super().take(most)
        if piece:
            self._bodies.taken(self, len(piece))
        return piece

    @override
    def discard(self) -> None:
        before = self.held
        super().discard()
        self._bodies.taken(self, before)

    @override
    async def _more(self) -> None:
        await _awaitable(self._bodies.wait())

    def drop(self) -> None:
        """Memory is short: drop what has come. Readers get the end of the connection, and not the end of the body."""
        self._pieces.clear()
        self._offset = self.held = 0
        self._whole = False


class Bodies:
    """
    The bodies of one connection that are not over: their bytes have not all come, or not all been taken.

    `coming` is the body whose bytes come now. `woken` says that readers have something to look at. `then` is called
    once no body is coming.
    """

    __slots__ = (
        "_buffered",
        "_deadlines",
        "_full",
        "_lifecycle",
        "_open",
        "_read_control",
        "_settings",
        "_size",
        "_waiters",
        "coming",
        "then",
        "woken",
    )

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        deadlines: Deadlines,
        read_control: ReadControl,
        buffered: BufferedBytes,
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._deadlines = deadlines
        self._read_control = read_control
        self._buffered = buffered
        self._open: dict[ReceivedBody, None] = {}
        self._waiters: Waiters[None] = Waiters()
        self._full = False
        self._size = 0
        self.coming: ReceivedBody | None = None
        self.then: Callable[[], None] | None = None
        self.woken = False

    def __len__(self) -> int:
        """How many bodies are not over."""
        return len(self._open)

    @property
    def awaited(self) -> bool:
        """Whether a reader waits."""
        return bool(self._waiters)

    @property
    def held(self) -> int:
        """The bytes that are held for bodies."""
        return self._size + BODY_COST * len(self._open)

    # What the framing reports, inside its ``receive``.

    def make(self, size: int | None) -> ReceivedBody:
        """Make the body of the next message. Its time begins."""
        body = self.coming = ReceivedBody(size, self)
        self._open[body] = None
        self._deadlines.start("body_timeout", self._settings.timeouts.body_timeout or inf)
        return body

    def came(self, size: int) -> None:
        """
        Bytes have come, of which `size` are held: the time of the body begins again.

        Stop reading if more are held than an inbox can hold.
        """
        self._size += size
        self._deadlines.start("body_timeout", self._settings.timeouts.body_timeout or inf)
        self.woken = self.woken or self.awaited
        if not self._full and self._size > self._settings.limits.inbox_high:
            self._full = True
            self._read_control.pause(BODY_FULL)

    def ended(self, body: ReceivedBody) -> None:
        """All bytes of `body` have come."""
        self._deadlines.stop("body_timeout")
        self.coming = None
        self.woken = self.woken or self.awaited or self.then is not None
        if body.is_over:
            self._open.pop(body, None)

    # What readers do.

    def taken(self, body: ReceivedBody, size: int) -> None:
        """
        `size` bytes of `body` were taken, or dropped. The app's time for a reply begins again: a long body takes long.
        """
        self._size -= size
        timeout = self._settings.timeouts.handler_timeout
        if timeout and self._deadlines.began("handler_timeout") < inf:
            self._deadlines.start("handler_timeout", timeout)
        if body.is_over:
            self._open.pop(body, None)
        self._buffered.update()
        self._read_on()

    def _read_on(self) -> None:
        if self._full and self._size <= self._settings.limits.inbox_low:
            self._full = False
            self._read_control.resume(BODY_FULL)

    def wait(self) -> Deferred[None]:
        """Fires when more has come. Fails with `NotConnected` where nothing comes any more."""
        if not self._lifecycle.stage.reads:
            return failed(self._lifecycle.error)
        waiter = self._waiters.wait()
        self._buffered.update()  # from now on its bytes count, so that the receiver looks for readers
        return waiter

    def discard_given(self) -> None:
        """The app asks for the next message, or its handler has ended: discard the bodies that it got and left."""
        for body in list(self._open):
            if body.is_given and not body.is_kept:
                body.discard()

    # What the connection does.

    def fire(self) -> None:
        """Let the readers that wait look at their bodies."""
        self.woken = False
        if not self._lifecycle.stage.reads:
            self._deadlines.stop("body_timeout")
        self._waiters.fire(None)
        if self.then is not None and self.coming is None:
            then, self.then = self.then, None
            then()

    def take_back(self) -> None:
        """Another framing reads the bodies again that the app has not got."""
        for body in [each for each in self._open if not each.is_in_hand]:
            self._size -= body.held
            body.drop()
            del self._open[body]
            if body is self.coming:
                self.coming = None
                self._deadlines.stop("body_timeout")
                self.woken = self.woken or self.then is not None
        self._read_on()

    def end(self, no_account: Any) -> None:
        """The connection has ended. A body that is still read keeps no part of it in memory."""
        self._buffered = no_account
        self._open.clear()  # each of them refers to this
        self.coming = self.then = None

    def drop(self) -> None:
        """Drop all bytes, because memory is short."""
        for body in self._open:
            body.drop()
        self._open.clear()
        self._size = 0


def _awaitable(waiter: Deferred[None]) -> Any:
    """What a coroutine can await: the Deferred, or a future in a task of asyncio."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop of asyncio runs
        return waiter
    return waiter if task is None else waiter.asFuture(task.get_loop())
