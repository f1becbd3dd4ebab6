"""
Replies to wait for: an app gives a Deferred, a coroutine or a Future, and no further message until that has fired.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tcpapp.codecs import Codec
from tcpapp.connection.handlers import Reply, deferred_of, without_codec
from tcpapp.connection.inbox import MESSAGE_COST
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import APP_ANSWERED, APP_WAITS, Settler
from tcpapp.connection.pause_flags import AWAITING, GONE, OVER, WORKING
from tcpapp.connection.replies import Replies, all_of, as_they_came
from tcpapp.framing import Framing

__all__ = ["Answers"]


class Answers(Replies):
    """
    The reply of one connection's app that is not there yet.

    `in_hand` is an upper bound, in bytes of memory, for the messages that the app has yet to answer.
    """

    __slots__ = ("_answer", "in_hand")

    def __init__(self, connection: Settler, framing: Framing, codec: Codec[Any] | None, outbox: Outbox) -> None:
        super().__init__(connection, framing, codec, outbox)
        self._answer: Deferred[Any] | None = None
        self.in_hand = 0

    def go_on(self) -> int:
        """Hand on what waits; the class below says how."""
        raise NotImplementedError

    def _settle(self, reply: Any, messages: list[Any], answered: Callable[[Any], None] | None = None) -> int:
        """
        A reply that is not bytes alone: one to wait for, a `Reply`, or one that `flush` finds to be none.

        Returns how many bytes it has given.

        While it is waited for, the `messages` that it answers are in the app's hands.
        """
        before = len(self._replies)
        deferred = deferred_of(reply)
        if deferred is None:
            message = without_codec(reply)
            self._replies.append(message)
            return len(message) if isinstance(message, bytes) else 0
        self.hold |= AWAITING
        deferred.addCallbacks(answered or self._answered, self._answer_failed)
        if self.hold & AWAITING:
            self._answer = deferred
            self.in_hand = self._weight_of(messages)
            self._connection.settle(APP_WAITS)
            if self.hold & GONE:  # it ended while the app was called, and nobody else cancels what came of that
                self.cancel_answer()
        return sum(len(each) for each in self._replies[before:] if isinstance(each, bytes))

    def _weight_of(self, messages: list[Any]) -> int:
        """An upper bound, in bytes of memory, for the values of `messages`. A greeting answers no message."""
        codec = self._codec
        if codec is None:
            return sum([len(each) + MESSAGE_COST for each in messages if each is not None])
        return sum([codec.weight(each) for each in as_they_came(messages) if each is not None])

    def _answered(self, reply: Any) -> None:
        self._all_answered([] if reply is None else [reply])

    def _all_answered(self, replies: Any) -> None:
        self._wait_no_more()
        if self.hold & GONE:
            return
        working = self.hold & WORKING
        if working or not self.hold & OVER:
            try:
                codec, taken = self._codec, self._replies
                for each in all_of(replies):  # those before one that the codec refuses are sent
                    if type(each) is Reply:
                        taken.append(without_codec(each) if codec is None else codec.encode(each.value))
                    else:
                        taken.append(each if codec is None else codec.encode(each))
            except Exception:
                self._app_failed(Failure())
            if not working:
                self.flush()
        if not working:
            self._connection.settle(self.go_on())

    def _answer_failed(self, failure: Failure) -> None:
        self._wait_no_more()
        self._app_failed(failure)
        if not self.hold & (WORKING | GONE):
            self._connection.settle(self.go_on())

    def _wait_no_more(self) -> None:
        self.hold &= ~AWAITING
        self.in_hand = 0
        if self._answer is not None:
            self._answer = None
            self._connection.settle(APP_ANSWERED)

    def cancel_answer(self, *, at_end: bool = True) -> None:
        """
        The reply that the app has yet to give, if there is one, is not wanted any more.

        A coroutine that is running right now is not stopped by it: before the end it is asked again `at_end`.
        """
        answer, self._answer = self._answer, None
        if answer is not None:
            try:
                answer.cancel()
            except Exception:  # the app's own canceller
                self._app_failed(Failure())
            if not at_end and self.hold & AWAITING:
                self._answer = answer
