"""
The path of received bytes, from the transport to the app.

One call for each chunk: it cuts the chunk into messages, hands them on, and notes what the limits and deadlines need.
"""

from __future__ import annotations

from typing import Any

from tcpapp.connection.buffered_bytes import BufferedBytes
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.dispatcher import Dispatcher
from tcpapp.connection.outcomes import BUFFERED_CHANGED, MESSAGES_SKIPPED, NOTHING
from tcpapp.connection.pause_flags import NOT_RECEIVING
from tcpapp.connection.throttle import Throttle
from tcpapp.errors import UnreadableStream, without_frames
from tcpapp.framing import Framing
from tcpapp.telemetry.counters import MessageCounter, Throughput

__all__ = ["Receiver"]


class Receiver(MessageCounter):
    """
    Takes the chunks of one connection, and counts their `bytes` and `messages`, skipped messages too.

    All messages arrive through `framing`, in `receive`. The bytes of the present chunk are kept until its messages are
    handed on, and for another framing while the app has one of them in hand. Bytes behind the end of the input go to
    the `successor`, if there is one.
    """

    __slots__ = (
        "_buffered",
        "_chunk",
        "_count",
        "_deadlines",
        "_dispatcher",
        "_throttle",
        "framing",
        "successor",
    )

    def __init__(
        self,
        framing: Framing,
        throttle: Throttle,
        dispatcher: Dispatcher,
        deadlines: Deadlines,
        buffered: BufferedBytes,
        throughput: Throughput,
    ) -> None:
        super().__init__(throughput)
        self.framing = framing
        self._throttle = throttle
        self._dispatcher = dispatcher
        self._deadlines = deadlines
        self._buffered = buffered
        self.successor: Any = None
        self._chunk = b""
        self._count = 0

    def receive(self, data: bytes) -> int:  # noqa: C901 - the path of a message is one function
        """Bytes came: hand their whole messages to the app. Returns the outcome. No bytes make it raise an error."""
        dispatcher, framing, deadlines = self._dispatcher, self.framing, self._deadlines
        if dispatcher.pauses & NOT_RECEIVING:
            return self._ignore(data)
        if self._chunk:  # this call comes from inside the call for that chunk
            self.keep_chunk()
        self._chunk = data
        outcome = NOTHING
        deadlines.last_received = now = deadlines.seconds()
        try:
            messages = framing.receive(data)
        except UnreadableStream as error:
            messages, framing.failure = [], without_frames(error)
        throttle, unfinished, skipped = self._throttle, framing.unfinished, framing.skipped
        if now >= self.until:
            self.begin_second(now)
        self._count = whole = len(messages)
        count = whole + skipped
        self.messages += count
        self.bytes += len(data)
        if unfinished or deadlines.wants_all or not messages:
            deadlines.bytes_came(bool(messages), unfinished)
        if count > throttle.free_share or throttle.pending or (count and throttle.fair_share.contention):
            outcome = throttle.receive(messages, skipped, len(data))
        elif messages:
            outcome = dispatcher.dispatch(messages)
        # The reply to a single message is the last step of its work, and the time of that was noted already.
        worked = (deadlines.last_sent if count == 1 and deadlines.last_sent > now else deadlines.seconds()) - now
        if throttle.measures or worked > throttle.budget:
            outcome |= throttle.note_chunk(len(data), count, worked)
        if skipped or framing.failure is not None:
            outcome |= MESSAGES_SKIPPED
        if unfinished or throttle.pending or dispatcher.pauses or self._buffered.reported:  # else nothing is held
            self._note_chunk(unfinished)
            outcome |= self._buffered.note_chunk()
        self._chunk = b""
        return outcome

    def keep_chunk(self) -> None:
        """Keep the present chunk for another framing, if the app has a message in hand."""
        chunk, self._chunk = self._chunk, b""
        if chunk:
            self._buffered.own_rewind().note(chunk, self._count, self.bytes)

    def _note_chunk(self, unfinished: bool) -> None:
        """The messages of the present chunk are handed on: keep it if one is in hand, or note only where it ends."""
        if self._dispatcher.pauses or self._throttle.pending:
            self.keep_chunk()
        elif self._chunk:
            (self._buffered.rewind or self._buffered.own_rewind()).note_state(unfinished, self.bytes)

    @property
    def in_chunk(self) -> bool:
        """Whether the messages of a chunk are being handed on right now."""
        return bool(self._chunk)

    def _ignore(self, data: bytes) -> int:
        """Bytes came behind the end of the input: keep them for another protocol, or framing, that can read them."""
        if self.successor is not None:
            self.successor.receive(data)
        elif self.framing.failure is not None and self._buffered.own_rewind().in_hand:
            self.bytes += len(data)
            self._buffered.own_rewind().note(data, 0, self.bytes)
            self._buffered.update()
        return NOTHING

    def receive_again(self, data: bytes) -> int:
        """Bytes came before, and are cut by the framing that is there now. Returns the outcome."""
        framing, deadlines = self.framing, self._deadlines
        try:
            messages = framing.receive(data)
        except UnreadableStream as error:
            messages, framing.failure = [], without_frames(error)
        self._chunk, self._count = data, len(messages)
        self.messages += self._count + framing.skipped
        self.bytes += len(data)
        deadlines.bytes_came(bool(messages), framing.unfinished)
        self._throttle.recount(self._count)
        outcome = self._dispatcher.dispatch(messages) if messages else NOTHING
        if framing.skipped or framing.failure is not None:
            outcome |= MESSAGES_SKIPPED
        self.keep_chunk()
        return outcome | BUFFERED_CHANGED
