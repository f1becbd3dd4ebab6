"""
Replies that are not there yet: an app returns a Deferred, a coroutine or a Future, and gets no further message until
that has fired.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tcpapp.codecs import Codec
from tcpapp.connection.coroutines import begun
from tcpapp.connection.handlers import AWAITABLE, Reply, deferred_of, is_stream, value_of, without_codec
from tcpapp.connection.inbox import MESSAGE_COST
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import APP_ANSWERED, APP_WAITS, Settler
from tcpapp.connection.pause_flags import AWAITING_REPLY, CONNECTION_CLOSED, CONNECTION_CLOSING, HANDLING
from tcpapp.connection.replies import Replies, replies_of
from tcpapp.framing import Framing
from tcpapp.framing.decoded import as_bytes

__all__ = ["Answers"]


class Answers(Replies):
    """
    The reply of one connection's app that is not there yet.

    `handling_bytes` is an upper bound, in bytes of memory, for the messages that the app has yet to answer.
    """

    __slots__ = ("_reply", "handling_bytes")

    def __init__(self, settler: Settler, framing: Framing, codec: Codec[Any] | None, outbox: Outbox) -> None:
        super().__init__(settler, framing, codec, outbox)
        self._reply: Deferred[Any] | None = None
        self.handling_bytes = 0

    @property
    def in_flight(self) -> int:
        """How many messages the app has yet to answer."""
        return 1 if self.pauses & AWAITING_REPLY else 0

    def continue_handling(self) -> int:
        """Hand on the messages that wait. The subclass says how."""
        raise NotImplementedError

    def _result_of(self, coroutine: CoroutineType[Any, Any, Any]) -> Any:
        """
        Run a `coroutine` of the app up to its first wait.

        Returns its reply if it is there, encoded as the reply of a function is; otherwise a Deferred.
        """
        return self._as_reply(begun(coroutine, AWAITABLE))

    def _as_reply(self, reply: Any) -> Any:
        """`reply` itself, which a coroutine gave: encoded, unless it is a Deferred or a stream."""
        codec = self._codec
        if codec is None or reply is None or isinstance(reply, Deferred) or is_stream(reply):
            return reply
        return codec.encode(value_of(reply))

    def _settle(self, reply: Any, messages: list[Any], replied: Callable[[Any], None] | None = None) -> int:
        """
        Handle a reply that is not plain bytes: a Deferred, a `Reply`, or a value that `flush` will reject.

        Returns how many bytes of replies it added.

        While the reply is pending, the app still holds the `messages` that it answers.
        """
        before = len(self._replies)
        deferred = deferred_of(reply)
        if deferred is None:
            message = without_codec(reply)
            self._replies.append(message)
            return len(message) if isinstance(message, bytes) else 0
        self.pauses |= AWAITING_REPLY
        deferred.addCallbacks(replied or self._replied, self._reply_failed)
        if self.pauses & AWAITING_REPLY:
            self._reply = deferred
            self.handling_bytes = self._weight_of(messages)
            self._settler.settle(APP_WAITS)
            if (
                self.pauses & CONNECTION_CLOSED
            ):  # it ended while the app was called, and nothing else cancels this reply
                self.cancel_handler()
        return sum([len(each) for each in self._replies[before:] if isinstance(each, bytes)])

    def _weight_of(self, messages: list[Any]) -> int:
        """An upper bound, in bytes of memory, for the values of `messages`. A greeting answers no message."""
        codec = self._codec
        if codec is None:
            return sum([len(each) + MESSAGE_COST for each in messages if each is not None])
        return sum([codec.weight(each) for each in as_bytes(messages) if each is not None])

    def _replied(self, reply: Any) -> Any:
        return self._all_replied([] if reply is None else [reply])

    def _all_replied(self, replies: Any) -> Any:
        self._stop_waiting()
        if self.pauses & CONNECTION_CLOSED:
            return None
        working = self.pauses & HANDLING
        if working or not self.pauses & CONNECTION_CLOSING:
            try:
                self._encode(replies, self._replies)
            except Exception:
                self._app_failed(Failure())
            if not working:
                self.flush()
        if not working:
            self._settler.settle(self.continue_handling())
        return None

    def _encode(self, replies: Any, taken: list[Any]) -> None:
        """Add `replies` to `taken` as bytes. If the codec refuses a reply, the replies before it are added."""
        codec = self._codec
        for each in replies_of(replies):
            if type(each) is Reply:
                taken.append(without_codec(each) if codec is None else codec.encode(each.value))
            else:
                taken.append(each if codec is None else codec.encode(each))

    def _reply_failed(self, failure: Failure) -> None:
        self._stop_waiting()
        self._app_failed(failure)
        if not self.pauses & (HANDLING | CONNECTION_CLOSED):
            self._settler.settle(self.continue_handling())

    def _stop_waiting(self) -> None:
        self.pauses &= ~AWAITING_REPLY
        self.handling_bytes = 0
        if self._reply is not None:
            self._reply = None
            self._settler.settle(APP_ANSWERED)

    def cancel_handler(self, *, at_end: bool = True) -> None:
        """
        Cancel the pending reply of the app, if there is one.

        This does not stop a coroutine that is running right now. Without `at_end` it is cancelled again at the end.
        """
        answer, self._reply = self._reply, None
        if answer is not None:
            try:
                answer.cancel()
            except Exception:  # the app's own canceller
                self._app_failed(Failure())
            if not at_end and self.pauses & AWAITING_REPLY:
                self._reply = answer
