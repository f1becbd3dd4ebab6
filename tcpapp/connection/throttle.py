"""
The throttle between a connection's framing and its app: how many of the received messages are let in, and when.

A chunk can hold sixty thousand messages, or a single one that takes a second to decode and to answer. All connections
wait for that time. So a turn of the event loop has a budget for each connection: a number of messages
(``messages_per_turn``), and the time they take (``work_per_turn``), which is measured. Other connections have their
turns before the next messages are let in. Where there is a rate, no more messages are let in than it allows. The rest
is kept, and nothing is read meanwhile: so no more messages are kept than came with one chunk.

A connection that exceeded its time is busy. The messages of its next chunk wait for a turn, too, until a chunk takes
less time. While other connections wait, its next chunk is read in a turn. The cost of a new connection's messages is
unknown, and so is the cost of messages larger than those before. Such messages wait for a turn where another
connection exceeded its time already. Only one of all these connections has its turn between two polls of the sockets
(`tcpapp.limits.fairness`). To cut a chunk into messages takes time as well. So a connection whose chunks hold too many
messages is read in small chunks from then on. Messages that are skipped for their length (``oversize=skip``) count as
all others do.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from math import inf
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.dispatcher import Dispatcher
from tcpapp.connection.inbox import MESSAGE_COST
from tcpapp.connection.outcomes import (
    ALL_RELEASED,
    BUFFERED_CHANGED,
    NOTHING,
    TOO_MANY_BYTES,
    TOO_MANY_MESSAGES,
    Settler,
)
from tcpapp.connection.pause_flags import CONNECTION_CLOSING
from tcpapp.connection.read_control import (
    LARGEST_METERED_READ,
    MESSAGES_PENDING,
    OVER_BYTE_RATE,
    SMALLEST_READ,
    ReadControl,
)
from tcpapp.connection.settings import Settings
from tcpapp.framing.decoded import Decoded, as_bytes
from tcpapp.limits.fairness import turn_seconds
from tcpapp.limits.token_bucket import TokenBucket

__all__ = ["Throttle", "over_rate"]

SMALL_READS_BELOW = 0.25
"""
The part of its share below which a connection is no longer read in small chunks. Its messages have grown then, and
small reads cost more than they save.
"""

READS_PER_SECOND = 10
"""
Reads in a second of a connection that brings more bytes than its rate allows: it waits until it can read a whole piece.

Our choice: each read is a system call, and the peer waits a tenth of a second. There are fewer reads at a rate below
ten times `SMALLEST_READ`, and more at a rate above ten times `LARGEST_METERED_READ`. Where less than `SMALLEST_READ` is
left, the connection waits, too. Twisted uses the size of a read as its write mark as well: below 1 KiB, each reply
would hold back the app.
"""

FIRST_MESSAGES: Final = 16
"""
Messages of a new connection that are let in before their cost is measured. Our choice: few enough that a costly app
does not delay other connections for long, and as many as most chunks hold.
"""

QUICK_BYTES: Final = 4096
"""
Bytes of messages that count as quick before the first measurement. Our choice: decoding them takes a tenth of a turn.
The app's time for them is measured at once.
"""

COST_DECAY: Final = 4
"""The factor by which the cost of a message can fall in one measurement. Our choice: one measurement can mislead."""

ROUNDING = 1e-6
"""The part of a message that the credit can lack for a whole one: sums of floats are not exact."""


class Throttle:
    """
    Lets in the messages of one connection.

    `free_share` is how many messages the receiver can hand on at once while none is `pending`. It is 0 where each
    message must be counted, or must wait for a turn. The receiver gives larger chunks to `receive`. It calls
    `note_chunk` after each chunk that took more seconds than `budget`, and after every chunk where this `measures`.
    `pending` are the messages that are not let in yet, of `size` bytes; `dropped` counts those over the rate. Without a
    clock there are no turns and no rates.

    A wait for a rate is a deadline: when it is over, the connection calls `release` for ``message_rate``, and
    `resume_reading` for ``byte_rate``. One read takes no more bytes than ``byte_rate`` allows. TLS decrypts a record
    (16 KiB) at once, and the pause after it is longer.
    """

    __slots__ = (
        "_busy",
        "_byte_rate",
        "_clock",
        "_cost",
        "_deadlines",
        "_dispatcher",
        "_least_read",
        "_limits",
        "_message_rate",
        "_messages_per_turn",
        "_new",
        "_quick_bytes",
        "_read_control",
        "_settler",
        "_usual_read",
        "_waiting",
        "_waits_for_rate",
        "budget",
        "dropped",
        "fair_share",
        "free_share",
        "measures",
        "pending",
        "size",
    )

    def __init__(
        self,
        settler: Settler,
        dispatcher: Dispatcher,
        read_control: ReadControl,
        settings: Settings,
        deadlines: Deadlines,
        clock: IReactorTime | None,
    ) -> None:
        limits, timed = settings.limits, clock is not None
        self._settler = settler
        self._dispatcher = dispatcher
        self._read_control = read_control
        self._limits = limits
        self.fair_share = settings.fair_share
        self._deadlines = deadlines
        self._clock = clock
        self._waits_for_rate = settings.policies.over_rate == "wait"
        self.dropped = 0
        self._messages_per_turn = limits.messages_per_turn if timed and limits.messages_per_turn else sys.maxsize
        self._message_rate = TokenBucket(limits.message_rate) if timed and limits.message_rate else None
        self._byte_rate = TokenBucket(limits.byte_rate) if timed and limits.byte_rate else None
        second = limits.byte_rate
        self._least_read = max(1, min(second // READS_PER_SECOND, SMALLEST_READ))
        self._usual_read = max(min(second, SMALLEST_READ), min(second // READS_PER_SECOND, LARGEST_METERED_READ))
        self._busy = False
        self._quick_bytes = QUICK_BYTES
        self._waiting = False
        self.budget = turn_seconds(limits.work_per_turn) if timed else inf
        self._cost = _first_cost(limits.work_per_turn)
        self._new = True
        self.free_share = 0
        self.measures = self._byte_rate is not None
        self.size = 0
        self.pending: list[Any] = []
        if self._byte_rate is not None and self._waits_for_rate:
            read_control.limit_next_read(limits.byte_rate)

    def note_chunk(self, size: int, messages: int, seconds: float) -> int:
        """
        A chunk of `size` bytes and `messages`, skipped ones too, took `seconds`. Returns the outcome.

        If that was long, later messages wait for a turn. Nothing is read before the byte rate allows it.
        """
        if seconds > self.budget and not self._busy:
            self._note_slow_chunk(messages, seconds)
        if self._busy and self.fair_share and not self._will_release:
            self._wait_to_read()
        if self._read_control.reads_small and messages < self._messages_per_turn * SMALL_READS_BELOW:
            self._read_control.read_normal()
            self.measures = self._busy or self._byte_rate is not None
        return NOTHING if self._byte_rate is None else self._charge_bytes(self._byte_rate, size)

    def _charge_bytes(self, rate: TokenBucket, size: int) -> int:
        """`size` bytes came: wait for as long as they take at the rate."""
        seconds = rate.take(self._deadlines.seconds(), size)
        if not self._waits_for_rate:
            return TOO_MANY_BYTES if seconds else NOTHING
        if rate.until_next(self._least_read):
            self._read_control.pause(OVER_BYTE_RATE)
            self._deadlines.start("byte_rate", rate.until_next(self._usual_read))
        else:
            self._read_control.limit_next_read(self._available(rate))
        return NOTHING

    def resume_reading(self) -> None:
        """The rate allows more bytes."""
        assert self._byte_rate is not None
        self._read_control.limit_next_read(max(1, self._available(self._byte_rate)))
        self._read_control.resume(OVER_BYTE_RATE)

    def receive(self, messages: list[Any], skipped: int, size: int) -> int:
        """
        Let in as many of these `messages`, which came in `size` bytes, as possible, and the others later.

        Returns the outcome.

        The rate counts the `skipped` messages, too. Their number can also lead to small reads.
        """
        count = len(messages) + skipped
        if count > self._messages_per_turn and self._message_rate is None:
            self._read_control.read_small(size * self._messages_per_turn // count)
            self.measures = self._busy or self._read_control.reads_small or self._byte_rate is not None
        if skipped and self._message_rate is not None:
            self._message_rate.take(self._deadlines.seconds(), skipped)
        goes_on_already = self._will_release
        self.pending += as_bytes(messages) if goes_on_already else messages
        self.size += size_of(messages)
        if goes_on_already:
            return NOTHING
        used = self.fair_share.contention
        if self._busy or used > 1 or (used and self.size > self._quick_bytes):
            return self.wait()
        return self.release()

    def _note_slow_chunk(self, count: int, seconds: float) -> None:
        if count and not self._will_release:  # else it was measured when they were let in
            self._measure(count, seconds)
        self._set_busy(True, 0)

    def take_turn(self) -> None:
        """The turn of this connection has come."""
        self._settler.settle(self.release())

    def release(self) -> int:
        """Let in the next messages, for as long as the turn's budget lasts. Returns the outcome."""
        self._waiting = False
        outcome = self._release_some()
        if not self.pending and not self._is_over_rate:
            self._read_control.resume(MESSAGES_PENDING)
            outcome |= ALL_RELEASED
        elif not self._dispatcher.pauses & CONNECTION_CLOSING:
            outcome |= self.wait()
        return outcome

    def release_last(self) -> int:
        """
        The transport is lost, and no turn follows: let in as many messages as one turn has time for.

        Messages that the app fetches cost no time here: all can be received after the end. Returns the outcome.
        """
        if self.pending and self._dispatcher.receive_only:
            messages, self.pending, self.size = self.pending, [], 0
            return self._dispatcher.dispatch(messages)
        return self._release_some() if self.pending else NOTHING

    def _release_some(self) -> int:
        outcome = BUFFERED_CHANGED
        began = now = self._deadlines.seconds()
        size = self.size
        count, left = max(1, self._fits(self.budget)), self._messages_per_turn
        if self._new and size > QUICK_BYTES:
            count = max(1, min(count, len(self.pending) * QUICK_BYTES // size))
        self._dispatcher.cork_chunk(True)
        while self.pending and (count := self._allowed(min(count, left))):
            before, messages = now, self._next(count)
            outcome |= self._dispatcher.dispatch(messages)
            left -= (count := len(messages))
            now = self._deadlines.seconds()
            self._measure(count, now - before)
            count = self._fits(self.budget - (now - began))
        self._dispatcher.cork_chunk(False)
        if left < self._messages_per_turn:
            self._set_busy(now - began > self.budget, size - self.size)
        return outcome

    def recount(self, count: int) -> None:
        """Keep no message, because another framing reads them again; count `count` more messages that are let in."""
        self.dropped = self.size = 0
        self.pending.clear()
        if self._message_rate is not None:
            self._message_rate.take(self._deadlines.seconds(), count)

    def drop(self) -> int:
        """Drop the kept messages. Returns how many messages were never let in."""
        if self._waiting:
            self._waiting = False
            self.fair_share.cancel(self.take_turn)
        count = self.dropped + len(self.pending)
        self.dropped, self.size = 0, 0
        self.pending.clear()
        return count

    @property
    def waits_for_turn(self) -> bool:
        """Whether it waits for a turn."""
        return self._waiting

    @property
    def _will_release(self) -> bool:
        """Whether it waits for a turn, or has one now."""
        return bool(self.pending) or self._waiting

    @property
    def _is_over_rate(self) -> bool:
        """Whether more messages came than the rate allows. Skipped messages count as well."""
        return self._message_rate is not None and self._message_rate.available(self._deadlines.seconds()) < 0

    def _next(self, count: int) -> list[Any]:
        """Take the first `count` messages that are kept, or all of them if there are fewer."""
        messages = self.pending[:count]
        del self.pending[:count]
        self.size -= size_of(messages)
        if self._message_rate is not None:
            self._message_rate.take(self._deadlines.seconds(), len(messages))
        return messages

    def _allowed(self, count: int) -> int:
        """How many of `count` messages the rate allows now."""
        return count if self._message_rate is None else min(count, self._available(self._message_rate))

    def _measure(self, count: int, seconds: float) -> None:
        """`count` messages took `seconds`: update the cost of a message."""
        self._cost = max(seconds / count, min(self._cost, self.budget) / COST_DECAY) if seconds > 0 else 0.0

    def _fits(self, seconds: float) -> int:
        """How many messages fit into `seconds`, by the cost of the last ones: at most ``messages_per_turn``."""
        return (
            self._messages_per_turn
            if seconds >= self._cost * self._messages_per_turn
            else max(0, int(seconds / self._cost))
        )

    def _set_busy(self, busy: bool, size: int) -> None:
        """Messages of `size` bytes took longer than a turn (`busy`), or not."""
        self._busy = busy
        self._new = False
        self._quick_bytes = 0 if busy else max(self._quick_bytes, size)
        self.measures = busy or self._read_control.reads_small or self._byte_rate is not None
        if busy:
            self._dispatcher.slow = True  # the dispatcher lets messages in the inbox wait for a turn, too
            assert self._clock is not None
            self.fair_share.note_overrun(self._clock)
        self.free_share = 0 if busy or self._message_rate is not None else self._fits(self.budget)

    def wait(self) -> int:
        """Stop reading, and go on in a later turn or when the rate allows it, or drop the rest. Returns the outcome."""
        self._read_control.pause(MESSAGES_PENDING)
        if self.pending and type(self.pending[-1]) is Decoded:
            self.pending = as_bytes(self.pending)
        if self._message_rate is None or self._available(self._message_rate):
            assert self._clock is not None
            self._waiting = True
            lasts = self.budget if self.budget < inf else 0.0  # where no time is measured, one connection has the turn
            if self._busy:
                self.fair_share.wait(self.take_turn, self._clock)
            elif self.size > self._quick_bytes:
                self.fair_share.wait_as_new(self.take_turn, self._clock, lasts)
            else:
                self.fair_share.wait_as_quick(self.take_turn, self._clock, lasts)
        elif self._waits_for_rate:
            self._deadlines.start("message_rate", self._message_rate.until_next())
        else:
            self.dropped += len(self.pending)
            self.pending.clear()
            self.size = 0
            return TOO_MANY_MESSAGES
        return NOTHING

    def _wait_to_read(self) -> None:
        """Other connections wait, too: read the next chunk in a turn, because that takes time as well."""
        assert self._clock is not None
        self._read_control.pause(MESSAGES_PENDING)
        self._waiting = True
        self.fair_share.wait_to_read(self.take_turn, self._clock)

    def _available(self, bucket: TokenBucket) -> int:
        return max(0, int(bucket.available(self._deadlines.seconds()) + ROUNDING))


@lru_cache(maxsize=64)
def _first_cost(microseconds: int) -> float:
    """The assumed cost of a message before the first measurement, for a turn of so many microseconds."""
    return microseconds / 1e6 / FIRST_MESSAGES


def size_of(messages: list[Any]) -> int:
    return sum(map(len, messages)) + MESSAGE_COST * len(messages)


def over_rate(what: str, limit: int) -> CloseReason:
    """The reason when more `what` (``messages`` or ``bytes``) came than a rate allows."""
    rule = f"{what.removesuffix('s')}-rate"
    text = f"more than {limit} {what} a second came ({rule.replace('-', '_')})"
    return CloseReason(EndedBy.US, rule, text, limit=limit)
