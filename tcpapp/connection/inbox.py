"""
The messages of one connection that wait for the app.

They wait as bytes: a decoded value can take thirty times the memory, so a message is decoded when it is taken. Over the
high-water mark the inbox pauses reading, and at the low-water mark it resumes it. The connection fails its
waiters at the end. Twisted's ``DeferredQueue`` does not fit: it cannot fail its waiters, and raises when it is full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, fail

from tcpapp.codecs import Codec
from tcpapp.connection.fired import given
from tcpapp.connection.lifecycle import Lifecycle
from tcpapp.connection.outcomes import NOTHING, REFUSED
from tcpapp.connection.read_control import ReadControl
from tcpapp.connection.unhandled import failed, unlogged
from tcpapp.errors import NotConnected, UndecodableMessage
from tcpapp.framing.decoded import Decoded, as_bytes
from tcpapp.limits import Limits

__all__ = ["ABSENT", "INBOX_FULL", "MESSAGE_COST", "Inbox"]

MESSAGE_COST: Final = 64
"""Bytes that count for a waiting message in addition to its own bytes. So empty messages fill an inbox, too."""


INBOX_FULL: Final = 1
"""The reason to stop reading while the inbox is over its high-water mark."""


ABSENT: Final[Any] = object()
"""Stands for a message where none can be given at once."""


class Inbox:
    """
    First in, first out. It holds either messages or waiters, never both. Its `codec` decodes a message that is taken.

    `size` counts the bytes that it holds. It is `in_use` while it holds a message or a waiter: further messages must
    pass through it then. Where it is `watched`, `taken` counts the memory of the last value that `receive` gave, until
    the next `receive`. It makes its queues only when a message or a waiter has to wait.

    When the codec refuses a message, it has a `refusal`: the error of every `receive` from then on. No message after
    that one is taken, and `lost` counts them. `older` counts the messages that came before the last reply to a request.
    """

    __slots__ = (
        "_lifecycle",
        "_messages",
        "_over_high_mark",
        "_read_control",
        "_waiters",
        "codec",
        "in_use",
        "limits",
        "lost",
        "older",
        "refusal",
        "size",
        "taken",
        "watched",
    )

    def __init__(
        self,
        limits: Limits,
        reading: ReadControl,
        lifecycle: Lifecycle,
        codec: Codec[Any] | None = None,
    ) -> None:
        self.limits = limits
        self._read_control = reading
        self.codec = codec
        self._messages: deque[Any] | None = None
        self._waiters: deque[Deferred[Any]] | None = None
        self._lifecycle = lifecycle
        self.refusal: NotConnected | None = None
        self.lost = 0
        self._over_high_mark = False
        self.in_use = False
        self.older = 0
        self.size = 0
        self.taken = 0
        self.watched = False

    def __len__(self) -> int:
        return len(self._messages) if self._messages else 0

    @property
    def waiting(self) -> bool:
        """Whether a message waits. Compiled code asks for this, and not for the truth of an inbox."""
        return bool(self._messages)

    @property
    def _error(self) -> NotConnected | None:
        """The error of `receive` once no message is left; `None` while a message can still come."""
        if self.refusal is not None:
            return self.refusal.again()
        return None if self._lifecycle.stage.brings else self._lifecycle.error

    @property
    def awaited(self) -> bool:
        """Whether a `receive` waits for a message."""
        return bool(self._waiters)

    def dump(self) -> list[Any]:
        """The messages that wait, in order, for `put` of another inbox. This inbox keeps them."""
        return as_bytes(list(self._messages or ()))

    @property
    def newer(self) -> int:
        """How many messages came behind the last message or reply that was taken."""
        return len(self) - self.older

    def take_back(self) -> int:
        """Remove these messages, which another framing reads again. Returns how many there were."""
        count = self.newer
        for _ in range(count):
            assert self._messages
            self.size -= len(self._messages.pop()) + MESSAGE_COST
        if not self._messages:
            self._messages = None
        self.in_use = bool(self._messages or self._waiters)
        self._check_low_mark()
        return count

    def put(self, messages: Sequence[Any]) -> int:
        """Add `messages`, and fire the waiters that get one of them. Returns the outcome."""
        if self._messages is None:
            self._messages = deque()
        self._messages.extend(messages)
        outcome = self._added(messages)
        self._keep_bytes(len(messages))
        return outcome

    def _keep_bytes(self, count: int) -> None:
        """Those of the `count` newest messages that still wait do so as their bytes."""
        messages = self._messages
        if messages and type(messages[-1]) is Decoded:
            newest = [messages.pop() for _ in range(min(count, len(messages)))]
            messages.extend(as_bytes(newest[::-1]))

    def put_back(self, messages: Sequence[Any]) -> int:
        """As `put`, but in front of the messages that came in the meantime."""
        if self._messages is None:
            self._messages = deque()
        self._messages.extendleft(reversed(messages))
        return self._added(messages)

    def _added(self, added: Sequence[Any]) -> int:
        outcome = NOTHING
        if self.refusal is not None:
            self.lost += self.drop()
            return REFUSED
        self.size += sum(map(len, added)) + MESSAGE_COST * len(added)
        while self._waiters and self._messages:
            outcome |= self._deliver(self._waiters.popleft(), self.take())
        self.in_use = bool(self._messages or self._waiters)
        if self.size > self.limits.inbox_high and not self._over_high_mark:
            self._over_high_mark = True
            self._read_control.pause(INBOX_FULL)
        return outcome

    def take(self) -> Any:
        """Take the oldest message. There must be one."""
        assert self._messages
        message = self._messages.popleft()
        if self.older:
            self.older -= 1
        self.size -= len(message) + MESSAGE_COST
        if not self._messages:
            self._messages = None
            self.in_use = bool(self._waiters)
        if self._over_high_mark:
            self._check_low_mark()
        return message

    def _check_low_mark(self) -> None:
        if self._over_high_mark and self.size <= self.limits.inbox_low:
            self._over_high_mark = False
            self._read_control.resume(INBOX_FULL)

    def drain(self) -> Iterator[Any]:
        """Take the messages one by one until none is left."""
        while self._messages:
            yield self.take()

    def receive(self) -> Deferred[Any]:
        """
        The next message, decoded, now or when it comes. A cancelled `receive` takes no message.

        Fails with `NotConnected` once no message is left and none can come. Fails with an `UndecodableMessage` that the
        codec delivers in a message's place; the messages after it can be received. An error that the codec does not
        deliver becomes the `refusal`, which the caller reports to the connection.
        """
        self.taken = 0
        value = self.take_now()
        if value is not ABSENT:
            return fail(value) if isinstance(value, UndecodableMessage) else given(value)
        if (over := self._error) is not None:
            return failed(over)
        waiter: Deferred[Any] = Deferred(self.forget_waiter)
        self._wait(waiter)
        return waiter

    def take_now(self) -> Any:
        """
        The next message, decoded, if it is there; otherwise `ABSENT`, and `receive` gives it, or fails.

        An `UndecodableMessage` that the codec delivers is returned.
        """
        messages = self._messages
        if not messages or self._waiters:
            return ABSENT
        if self.codec is None and not self.older:  # as below, in one step
            message = messages.popleft()
            size = len(message) + MESSAGE_COST
            self.size -= size
            if not messages:
                self._messages = None
                self.in_use = False
            if self._over_high_mark:
                self._check_low_mark()
            if self.watched:
                self.taken = size
            return message
        try:
            return self._read(self.take())
        except UndecodableMessage as error:
            self._refuse(error)
            return ABSENT

    def give(self, waiter: Deferred[Any]) -> int:
        """Fire `waiter` with the next message, as `receive` does; its canceller calls `forget_waiter`."""
        self.taken = 0
        if self._messages and not self._waiters:
            return self._deliver(waiter, self.take())
        if (error := self._error) is not None:
            unlogged(waiter).errback(error)
        else:
            self._wait(waiter)
        return NOTHING

    def _wait(self, waiter: Deferred[Any]) -> None:
        if self._waiters is None:
            self._waiters = deque()
        self._waiters.append(waiter)
        self.in_use = True

    def _deliver(self, waiter: Deferred[Any], message: Any) -> int:
        try:
            value = self._read(message)
        except UndecodableMessage as error:
            if self._waiters is None:
                self._waiters = deque()
            self._waiters.appendleft(waiter)  # it fails with all others, by the error that ended the input
            self._refuse(error)
            self.in_use = True
            return REFUSED
        if isinstance(value, UndecodableMessage):
            waiter.errback(value)
        else:
            waiter.callback(value)
        return NOTHING

    def _read(self, message: Any) -> Any:
        """Decode `message`, which the app has from now on."""
        codec = self.codec
        if type(message) is Decoded:
            if self.watched and codec is not None:
                self.taken = codec.weight(message.message)
            return message.value
        if self.watched:
            self.taken = len(message) + MESSAGE_COST if codec is None else codec.weight(message)
        return message if codec is None else codec.read(message)

    def _refuse(self, error: UndecodableMessage) -> None:
        """Take no further message: every `receive` fails with `error` from now on."""
        self.lost += self.drop()
        cause = error.close_reason()
        self.refusal = NotConnected(f"the connection is not open: {cause}", cause)

    def forget_waiter(self, waiter: Deferred[Any]) -> None:
        """`waiter` was cancelled while it waited: it gets no message."""
        if self._waiters is not None and waiter in self._waiters:  # false once `take_waiters` has emptied it
            self._waiters.remove(waiter)
            self.in_use = bool(self._waiters or self._messages)

    def take_waiters(self) -> Sequence[Deferred[Any]]:
        """No message will come any more: remove and return the waiters, which the caller fails."""
        waiting, self._waiters = self._waiters or (), None
        self.in_use = bool(self._messages)
        return tuple(waiting)

    def drop(self) -> int:
        """Drop all messages. Returns how many there were."""
        count = len(self)
        self._messages = None
        self.in_use = bool(self._waiters)
        self.size = self.taken = self.older = 0
        return count
