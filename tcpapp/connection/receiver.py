"""
The way in of one connection, up to its app: what is done with each chunk of bytes that comes.

One call for a chunk, in which its messages are cut out of it and let in, and what the guards are to know is noted.
"""

from __future__ import annotations

from tcpapp.connection.buffered_bytes import Load
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.dispatcher import Dispatch
from tcpapp.connection.outcomes import LEFT_OUT, NOTHING
from tcpapp.connection.pause_flags import DEAF
from tcpapp.connection.throttle import Intake
from tcpapp.errors import UnreadableStream, without_frames
from tcpapp.framing import Framing
from tcpapp.telemetry.counters import Traffic

__all__ = ["Arrival"]


class Arrival:
    """Takes the chunks of one connection."""

    __slots__ = ("_deadlines", "_dispatch", "_framing", "_intake", "_load", "_traffic")

    def __init__(
        self,
        framing: Framing,
        intake: Intake,
        dispatch: Dispatch,
        deadlines: Deadlines,
        traffic: Traffic,
        load: Load,
    ) -> None:
        self._framing = framing
        self._intake = intake
        self._dispatch = dispatch
        self._deadlines = deadlines
        self._traffic = traffic
        self._load = load

    def take(self, data: bytes) -> int:
        """
        These bytes came: hand the messages that are whole to the app. Returns the outcome.

        Raises nothing of the peer's making.
        """
        dispatch, framing, deadlines = self._dispatch, self._framing, self._deadlines
        if dispatch.hold & DEAF:
            return NOTHING
        outcome = NOTHING
        deadlines.heard = now = deadlines.seconds()
        try:
            messages = framing.receive(data)
        except UnreadableStream as error:
            messages, framing.failure = [], without_frames(error)
        intake, unfinished, skipped = self._intake, framing.unfinished, framing.skipped
        traffic = self._traffic
        if now >= traffic.until:
            traffic.mark(now)
        count = len(messages) + skipped
        traffic.messages += count
        traffic.bytes += len(data)
        if unfinished or deadlines.watchful or not messages:
            deadlines.came(bool(messages), unfinished)
        if count > intake.share or intake.kept or (count and intake.turns.used):
            outcome = intake.take(messages, skipped, len(data))
        elif messages:
            outcome = dispatch.arrive(messages)
        # The reply to a single message is the last that is done for it, and the time of that was noted already.
        worked = (deadlines.said if count == 1 and deadlines.said > now else deadlines.seconds()) - now
        if intake.watches or worked > intake.budget:
            outcome |= intake.look_back(len(data), count, worked)
        if skipped or framing.failure is not None:
            outcome |= LEFT_OUT
        if unfinished or intake.kept or dispatch.hold or self._load.noted:  # else nothing is held
            self._load.note()
        return outcome
