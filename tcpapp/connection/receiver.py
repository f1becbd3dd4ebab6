"""
The path of received bytes, from the transport to the app.

One call for each chunk: it cuts the chunk into messages, hands them on, and notes what the limits and deadlines need.
"""

from __future__ import annotations

from tcpapp.connection.buffered_bytes import BufferedBytes
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.dispatcher import Dispatcher
from tcpapp.connection.outcomes import MESSAGES_SKIPPED, NOTHING
from tcpapp.connection.pause_flags import NOT_RECEIVING
from tcpapp.connection.throttle import Throttle
from tcpapp.errors import UnreadableStream, without_frames
from tcpapp.framing import Framing
from tcpapp.telemetry.counters import MessageCounter, Throughput

__all__ = ["Receiver"]


class Receiver(MessageCounter):
    """
    Takes the chunks of one connection, and counts their `bytes` and `messages`, skipped messages too.

    All messages arrive through `framing`, in `receive`.
    """

    __slots__ = ("_buffered", "_deadlines", "_dispatcher", "_throttle", "framing")

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

    def receive(self, data: bytes) -> int:
        """
        Bytes came: hand their whole messages to the app. Returns the outcome.

        No bytes of a peer make it raise an error.
        """
        dispatcher, framing, deadlines = self._dispatcher, self.framing, self._deadlines
        if dispatcher.pauses & NOT_RECEIVING:
            return NOTHING
        outcome = NOTHING
        deadlines.last_received = now = deadlines.seconds()
        try:
            messages = framing.receive(data)
        except UnreadableStream as error:
            messages, framing.failure = [], without_frames(error)
        throttle, unfinished, skipped = self._throttle, framing.unfinished, framing.skipped
        if now >= self.until:
            self.begin_second(now)
        count = len(messages) + skipped
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
            outcome |= self._buffered.note_chunk()
        return outcome
