"""
Calls the app of a connection with its messages, and gathers its replies.

The replies to one chunk are framed together and written in one write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from operator import length_hint
from types import CoroutineType
from typing import Any, Final

from twisted.internet.defer import fail
from twisted.python.failure import Failure
from typing_extensions import override

from tcpapp.codecs import Codec
from tcpapp.connection.coroutines import Runner, as_result, begun, new_runner, rest_of
from tcpapp.connection.handlers import AWAITABLE, Handlers, deferred_of, is_stream
from tcpapp.connection.inbox import Inbox
from tcpapp.connection.matching import Matching
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import NOTHING, Settler
from tcpapp.connection.pause_flags import HANDLING, NO_MORE_INPUT, RECEIVE_ONLY
from tcpapp.connection.replies import replies_of
from tcpapp.errors import UndecodableMessage
from tcpapp.framing import Framing
from tcpapp.framing.decoded import Decoded, as_bytes

__all__ = ["AppCalls"]

NO_HANDLERS = Handlers(None, None)
"""The app of a connection that is not open yet."""


END: Final[Any] = object()
"""Stands for the message behind the last one."""


class AppCalls(Matching):
    """
    The calls of the app of one connection, which gets the connection with each message.

    The subclass decides when the app is called. Messages that it is not ready for are left to the inbox.
    """

    __slots__ = (
        "_connection",
        "_handlers",
        "_inbox",
        "_received",
        "_received_all",
        "_taking",
    )

    def __init__(
        self,
        connection: Any,
        settler: Settler,
        framing: Framing,
        codec: Codec[Any] | None,
        inbox: Inbox,
        outbox: Outbox,
    ) -> None:
        super().__init__(settler, framing, codec, outbox)
        self._connection = connection
        self._handlers = NO_HANDLERS
        self._inbox = inbox
        self._received: Any = None
        self._received_all: Any = None
        self._taking: tuple[list[Any], Iterator[Any]] | None = None

    @property
    def started(self) -> bool:
        """Whether the app knows the connection."""
        return self._handlers is not NO_HANDLERS

    @property
    def working(self) -> bool:
        """Whether the app is being called right now."""
        return bool(self.pauses & HANDLING)

    @property
    def receive_only(self) -> bool:
        """Whether the app has no ``received``, so that messages wait for `receive`."""
        return bool(self.pauses & RECEIVE_ONLY)

    @property
    def takes_one(self) -> bool:
        """Whether the app takes one message after the other."""
        return self._received_all is None

    @property
    def left(self) -> int:
        """How many messages are being handed on, or sorted, right now, and are behind the message in hand."""
        return sum([length_hint(source) for _, source in self._lists()])

    def take_back(self) -> int:
        """Hand on none of these messages, which another framing reads again. Returns how many there were."""
        count = self.left
        for messages, source in self._lists():
            del messages[len(messages) - length_hint(source) :]
        return count

    def _lists(self) -> Iterator[tuple[list[Any], Iterator[Any]]]:
        """The lists of these messages, and where the loop over each of them is."""
        if self._taking is not None:
            yield self._taking
        if self._unsorted is not None and self._sorting is not None:
            yield self._unsorted, self._sorting

    @override
    def reply_taken(self) -> None:
        """The messages in the inbox came before the reply."""
        self._inbox.older = len(self._inbox)

    @override
    def reading(self) -> Codec[Any] | None:
        """The codec of the messages that come."""
        return self._inbox.codec

    @override
    def _use(self, framing: Framing, codec: Codec[Any] | None) -> None:
        if codec is not self._codec:
            self.use(self._handlers.with_codec(codec))
        super()._use(framing, codec)

    def use(self, handlers: Handlers) -> None:
        """Hand messages to the app, by its `handlers`, as soon as nothing holds them back."""
        self._handlers = handlers
        self._received = handlers.received
        self._received_all = handlers.received_all
        if handlers.received is not None or handlers.received_all is not None:
            self.pauses &= ~RECEIVE_ONLY

    def draining(self) -> None:
        """Tell the app that the connection will end soon. Its reply is sent at once, or when it is there."""
        if self._handlers.draining is None:
            return
        try:
            reply = self._handlers.draining(self._connection)
            waiting = deferred_of(reply)
            if waiting is None:
                self._send_reply(reply)
            else:
                waiting.addCallback(self._send_reply).addErrback(self._app_failed)
        except Exception:
            self._app_failed(Failure())

    def _handle_one(self, message: Any) -> int:
        """`handle` for one message, as most chunks hold. Its reply is framed and written at once."""
        outbox = self._outbox
        self.pauses = HANDLING
        outbox.cork()
        data = b""
        try:
            reply = self._received(message, self._connection)
            if type(reply) is CoroutineType:
                reply = self._result_of(reply)
            if type(reply) is bytes:
                data = self.framing.frame(reply)
            elif reply is not None:
                self._settle(reply, [message])
        except Exception:
            self._call_failed(Failure())
        if data:
            self.pauses &= ~HANDLING
            outbox.uncork(data, 1)
        else:
            self._end_handling()
        return self.continue_handling() if self.pauses or self._inbox.in_use else NOTHING

    def _handle_messages(self, messages: Iterable[Any]) -> Iterator[Any] | None:
        """Hand `messages` to the app, in the form it has. Returns the messages that are left."""
        if self._received_all is None:
            return self._handle_each(messages, self._received)
        self.pauses |= HANDLING
        self._outbox.cork()
        try:
            self._handle_batch(list(messages))
        except Exception:
            self._call_failed(Failure())
        return None

    def _handle_batch(self, messages: list[Any]) -> None:
        """Hand them on in one call, up to an undecodable one, which waits in the inbox for the next call."""
        values, codec = messages, self._codec
        if codec is not None:
            values = []
            for place, message in enumerate(messages):
                try:
                    values.append(message.value if type(message) is Decoded else codec.read(message))
                except UndecodableMessage:
                    if not place:
                        raise
                    self._settler.settle(self._inbox.put_back(as_bytes(messages[place:])))
                    messages = messages[:place]
                    break
        replies = self._received_all(values, self._connection)
        if type(replies) is CoroutineType:
            replies = begun(replies, AWAITABLE)
            if replies is None or isinstance(replies, list):
                self._encode(replies, self._replies)
                return
        if isinstance(replies, AWAITABLE) or is_stream(replies):
            self._settle(replies, messages, self._all_replied)
        else:
            self._replies += replies_of(replies)

    def _handle_each(self, messages: Iterable[Any], received: Callable[[Any, Any], Any]) -> Iterator[Any] | None:
        """Call `received` with message after message until something holds it back. Returns the messages left over."""
        connection, replies, mark = self._connection, self._replies, self._outbox.write_high
        unframed = 0
        source = iter(messages)
        left: Iterator[Any] | None = source
        self.pauses |= HANDLING
        self._outbox.cork()
        try:
            for message in source:
                reply = received(message, connection)
                if type(reply) is bytes:
                    replies.append(reply)
                    unframed += len(reply)
                elif type(reply) is CoroutineType:
                    left = self._run_each(reply, message, source, received, unframed)
                    break
                elif reply is not None:
                    unframed += self._settle(reply, [message])
                if unframed > mark:
                    self.flush()
                    unframed = 0
                if self.pauses != HANDLING and self.pauses & ~NO_MORE_INPUT != HANDLING:
                    break
            else:
                left = None
        except Exception:
            self._call_failed(Failure())
        return left

    def _run_each(  # noqa: C901 - the path of a message is one function
        self,
        reply: Any,
        message: Any,
        source: Iterator[Any],
        received: Callable[[Any, Any], Any],
        unframed: int,
    ) -> Iterator[Any] | None:
        """Go on as `_handle_each` with an app that gave a coroutine as the `reply` to `message`: it gives more."""
        connection, replies, mark, codec = self._connection, self._replies, self._outbox.write_high, self._codec
        runner: Runner | None = None
        while True:
            if type(reply) is CoroutineType:
                if runner is None:
                    runner = new_runner()
                context = copy_context()
                try:
                    reply = context.run(runner.send, reply)
                except BaseException:  # the app fails by what its coroutine raises, whatever that is
                    runner, reply = None, fail()
                else:
                    if runner.gi_yieldfrom is not None:
                        reply = rest_of(runner, context, reply)
                        runner = None
                    elif reply is not None and (codec is not None or type(reply) is not bytes):
                        reply = self._as_reply(as_result(reply, AWAITABLE))
            if type(reply) is bytes:
                replies.append(reply)
                unframed += len(reply)
            elif reply is not None:
                unframed += self._settle(reply, [message])
            if unframed > mark:
                self.flush()
                unframed = 0
            if self.pauses != HANDLING and self.pauses & ~NO_MORE_INPUT != HANDLING:
                return source
            message = next(source, END)
            if message is END:
                return None
            reply = received(message, connection)

    def _call_failed(self, failure: Failure) -> None:
        """A call of the app with a message raised, or the message cannot be decoded, or its reply cannot be sent."""
        self._app_failed(failure)

    def _end_handling(self) -> None:
        """Write what the app replied and sent. Messages left over must be in the inbox: a write can bring more."""
        messages = len(self._replies)
        data = self._framed(messages) if messages else b""
        self.pauses &= ~HANDLING
        self._outbox.uncork(data, messages)
