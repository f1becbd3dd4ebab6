"""
Replies that are iterators or async iterators: while one of them is sent, its message counts as one that is not
answered yet.
"""

from __future__ import annotations

from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from tcpapp.connection.app_calls import AppCalls
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.handlers import is_stream, value_of, without_codec
from tcpapp.connection.inbox import Inbox
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import APP_WAITS, Settler
from tcpapp.connection.pause_flags import CONNECTION_CLOSED, HANDLING
from tcpapp.connection.reply_stream import ReplyStream
from tcpapp.connection.settings import Settings
from tcpapp.framing import Framing
from tcpapp.limits.fairness import turn_seconds

__all__ = ["StreamedReplies"]


class StreamedReplies(AppCalls):
    """
    The calls of the app of one connection, whose replies can be streams of messages.

    The app's time for a reply is counted from one message of a stream to the next.
    """

    __slots__ = ("_budget", "_deadlines", "_fair_share", "_streams")

    def __init__(
        self,
        connection: Any,
        settler: Settler,
        framing: Framing,
        settings: Settings,
        inbox: Inbox,
        outbox: Outbox,
        deadlines: Deadlines,
        clock: IReactorTime | None,
    ) -> None:
        limits = settings.limits
        super().__init__(connection, settler, framing, settings.codec, inbox, outbox)
        self._deadlines = deadlines
        self._fair_share = settings.fair_share
        self._budget = turn_seconds(limits.work_per_turn) if clock is not None else inf
        self._streams: dict[ReplyStream, None] | None = None  # an idle connection holds no container

    def _settle(self, reply: Any, messages: list[Any], replied: Any = None) -> int:
        """As for any reply. A stream is the Deferred of its end."""
        if is_stream(reply):
            reply = self._start(self._new_stream(reply))
        added = super()._settle(reply, messages, replied)
        for stream in self._streams or ():
            if stream.waits:
                self.stream_waits(stream)
        return added

    def _replied(self, reply: Any) -> Any:
        return self._stream_on(reply) if is_stream(reply) else super()._replied(reply)

    def _all_replied(self, replies: Any) -> Any:
        return self._stream_on(replies) if is_stream(replies) else super()._all_replied(replies)

    def _stream_on(self, source: Any) -> Deferred[Any]:
        """The app's Deferred fired with a stream: it goes on with the Deferred of the end of that."""
        return self._start(self._new_stream(source)).addCallbacks(self._replied, self._reply_failed)

    def _new_stream(self, source: Any) -> ReplyStream:
        deadlines = self._deadlines
        return ReplyStream(
            source,
            self,
            self._outbox,
            self._fair_share,
            deadlines.clock,
            deadlines.seconds,
            self._budget,
            self._outbox.write_high,
        )

    def _start(self, stream: ReplyStream) -> Deferred[Any]:
        """Let `stream` begin. Returns the Deferred of its end."""
        if self._streams is None:
            self._streams = {}
        self._streams[stream] = None
        started: list[Deferred[Any]] = []
        self._as_call(lambda: started.append(stream.start()))
        return started[0].addBoth(self._ended, stream)

    def _ended(self, result: Any, stream: ReplyStream) -> Any:
        if self._streams is not None:  # it is once the connection has ended
            self._streams.pop(stream, None)
            if not self._streams:
                self._streams = None
        stream.slot = None  # each of the two refers to the other
        return result

    # What a stream calls.

    def add_reply(self, reply: Any) -> int:
        """Put a message of a stream behind the replies that are not written yet. Returns its size in bytes."""
        codec = self._codec
        message: Any = without_codec(reply) if codec is None else codec.encode(value_of(reply))
        self._replies.append(message)
        return len(message) if isinstance(message, bytes) else 0

    def go_on(self, stream: ReplyStream) -> None:
        """Let `stream` go on."""
        self._as_call(stream.open)

    def stream_waits(self, stream: ReplyStream) -> None:
        """`stream` waits for the peer or for its turn: the app's time stands still."""
        if self._reply is not None:
            self._deadlines.start("handler_timeout", inf)

    def stream_runs(self, stream: ReplyStream) -> None:
        """`stream` has made progress: the app's time for the next message begins."""
        if self._reply is not None:
            self._settler.settle(APP_WAITS)

    def _continue_streams(self) -> None:
        """The peer takes bytes again."""
        for stream in list(self._streams or ()):
            if stream.can_go_on:
                self.go_on(stream)

    def _as_call(self, step: Any) -> None:
        """Do `step`, which runs code of the app, as a call of the app: what it sends is one write."""
        if self.pauses & (HANDLING | CONNECTION_CLOSED):
            step()
            return
        self.pauses |= HANDLING
        self._outbox.cork()
        step()
        self._end_handling()
        self._settler.settle(self.continue_handling())
