"""
Finds the replies among the messages of the peer. Each goes to the request that waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.python.failure import Failure

from tcpapp.codecs import Codec
from tcpapp.connection.answers import Answers
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import LATE_REPLY, NOTHING, UNANSWERED, Settler
from tcpapp.connection.pending_requests import LATE, Requests, fire_reply
from tcpapp.framing import Framing
from tcpapp.framing.decoded import Decoded, Streamed

__all__ = ["Matching"]


class Matching(Answers):
    """
    Sorts the messages of a connection with requests into replies and other messages.

    `requests` are the requests that wait for replies; `None` where there were none.
    """

    __slots__ = ("_sorting", "_unsorted", "requests")

    def __init__(self, settler: Settler, framing: Framing, codec: Codec[Any] | None, outbox: Outbox) -> None:
        super().__init__(settler, framing, codec, outbox)
        self._unsorted: list[Any] | None = None
        self._sorting: Iterator[Any] | None = None
        self.requests: Requests | None = None

    @property
    def sorts_replies(self) -> bool:
        """Whether received messages are being sorted right now, as in the callback of a request's reply."""
        return self._unsorted is not None

    @property
    def fires_reply(self) -> bool:
        """Whether a reply was found, and waits until the app has the messages before it."""
        return self._unsorted is not None and self._sorting is None

    def reading(self) -> Codec[Any] | None:
        """The codec of the messages that come. The subclass has it."""
        raise NotImplementedError

    def reply_taken(self) -> None:
        """A reply was found: the messages that wait came before it. The subclass notes that."""
        raise NotImplementedError

    def handle(self, messages: list[Any]) -> int:
        """Hand `messages` to the app. The subclass says how."""
        raise NotImplementedError

    def _sort(self, messages: list[Any]) -> int:
        """`dispatch` for a connection with requests. It keeps the order of the messages."""
        if self._unsorted is not None:  # a nested call: the loop of the outer call takes them
            self._unsorted += messages
            return NOTHING
        outcome = NOTHING
        self._unsorted = messages
        source = self._sorting = iter(messages)
        others: list[Any] = []
        failure: Failure | None = None
        taken = 0
        try:
            for message in source:
                taken += 1
                other = self._take_reply(message, others)
                if other is not None:
                    others.append(other)
        except Exception:  # an undecodable message, or the user's key function; nothing after it is taken
            failure = Failure()
        else:
            self._unsorted = None
        if others:
            outcome = self.handle(others)
        self._unsorted = self._sorting = None
        if failure is None:
            return outcome | self.continue_handling()
        self._settler.settle(UNANSWERED, (failure, len(messages) - taken))
        failure = None  # it holds this frame
        return outcome

    def _take_reply(self, message: Any, before: list[Any]) -> Any:
        """Fire the request that `message` answers, after the app got the messages `before`. Otherwise return it."""
        requests, codec = self.requests, self.reading()
        if requests is None or not requests.expected:  # the connection ended in the callback of an earlier reply
            return message
        if codec is None:
            value: Any = message
        elif isinstance(message, Decoded):
            value = message.value
        else:
            value = codec.read(message)
        reply = requests.take(value)
        if reply is None:
            return message if codec is None or isinstance(message, Decoded) else Decoded(message, value)
        if reply is LATE:
            self._settler.settle(LATE_REPLY)
            if isinstance(message, Streamed):
                message.body.discard()
        if before:
            others = before.copy()
            before.clear()
            sorting, self._sorting = self._sorting, None
            self._settler.settle(self.handle(others))
            self._sorting = sorting
        self.reply_taken()
        fire_reply(reply, value)
        return None
