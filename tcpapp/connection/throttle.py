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
from typing import Final

from twisted.internet.interfaces import IReactorTime

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.dispatcher import Dispatch
from tcpapp.connection.inbox import MESSAGE_COST
from tcpapp.connection.outcomes import ALL_LET_IN, HELD, NOTHING, TOO_MANY_BYTES, TOO_MANY_MESSAGES, Settler
from tcpapp.connection.pause_flags import OVER
from tcpapp.connection.read_control import FAST, KEPT, LEAST_SIP, METERED, Reading
from tcpapp.connection.settings import Settings
from tcpapp.limits.fairness import turn_of
from tcpapp.limits.token_bucket import Pace

__all__ = ["Intake", "too_fast"]

FEW = 0.25
"""
The part of its share below which a connection is no longer read in small chunks. Its messages have grown then, and
small reads cost more than they save.
"""

PIECES = 10
"""
Reads in a second of a connection that brings more bytes than its rate allows: it waits until it may read so much more.

Our choice: each read is a system call, and the peer waits a tenth of a second. There are fewer reads at a rate below
ten times `LEAST_SIP`, and more at a rate above ten times `METERED`. Where less than `LEAST_SIP` is left, the connection
waits, too. Twisted uses the size of a read as its write mark as well: below 1 KiB, each reply would hold back the app.
"""

FIRST: Final = 16
"""
Messages of a new connection that are let in before it is measured what they take. Our choice: few enough that those of
a costly app do not hold up others for long, and as many as most chunks hold.
"""

SMALL: Final = 4096
"""
Bytes of messages that are taken to be quick before one was measured. Our choice: they are decoded in a tenth of the
time that a turn has; what an app takes for them is measured at once.
"""

GROWTH: Final = 4
"""By how many times less a message can seem to cost from one measurement to the next. Our choice: one can mislead."""

ROUNDING = 1e-6
"""Of a message, that may be wanting to a whole one: sums of floats are not exact."""


class Intake:
    """
    Lets in the messages of one connection.

    `share` is how many messages the receiver can hand on at once while none is `kept`. It is 0 where each message must
    be counted, or must wait for a turn. The receiver gives larger chunks to `take`. It calls `look_back` after each
    chunk that took more seconds than `budget`, and after every chunk where this `watches`. `kept` are the messages that
    are not let in yet, of `size` bytes. Without a clock there are no turns and no rates.

    A wait for a rate is a deadline: when it is over, the connection calls `go_on` for ``message_rate``, and `read_on`
    for ``byte_rate``. One read takes no more bytes than ``byte_rate`` allows. TLS decrypts a record (16 KiB) at once,
    and the pause after it is longer.
    """

    __slots__ = (
        "_busy",
        "_bytes",
        "_cheap",
        "_clock",
        "_cost",
        "_deadlines",
        "_dispatch",
        "_dropped",
        "_least",
        "_limits",
        "_messages",
        "_most",
        "_new",
        "_piece",
        "_reading",
        "_settler",
        "_waiting",
        "_waits",
        "budget",
        "kept",
        "share",
        "size",
        "turns",
        "watches",
    )

    def __init__(
        self,
        settler: Settler,
        dispatch: Dispatch,
        reading: Reading,
        settings: Settings,
        deadlines: Deadlines,
        clock: IReactorTime | None,
    ) -> None:
        limits, timed = settings.limits, clock is not None
        self._settler = settler
        self._dispatch = dispatch
        self._reading = reading
        self._limits = limits
        self.turns = settings.turns
        self._deadlines = deadlines
        self._clock = clock
        self._waits = settings.policies.too_fast == "wait"
        self._dropped = 0
        self._most = limits.messages_per_turn if timed and limits.messages_per_turn else sys.maxsize
        self._messages = Pace(limits.message_rate) if timed and limits.message_rate else None
        self._bytes = Pace(limits.byte_rate) if timed and limits.byte_rate else None
        second = limits.byte_rate
        self._least = max(1, min(second // PIECES, LEAST_SIP))
        self._piece = max(min(second, LEAST_SIP), min(second // PIECES, METERED))
        self._busy = False
        self._cheap = SMALL
        self._waiting = False
        self.budget = turn_of(limits.work_per_turn) if timed else inf
        self._cost = _first_cost(limits.work_per_turn)
        self._new = True
        self.share = 0
        self.watches = self._bytes is not None
        self.size = 0
        self.kept: list[bytes] = []
        if self._bytes is not None and self._waits:
            reading.allow(limits.byte_rate)

    def look_back(self, size: int, messages: int, seconds: float) -> int:
        """
        A chunk of so many bytes and messages, left out or not, took so many `seconds`. Returns the outcome.

        Where that was long, no message is let in before its turn from now on. Nothing is read before its rate allows.
        """
        if seconds > self.budget and not self._busy:
            self._slow(messages, seconds)
        if self._busy and self.turns and not self._goes_on:
            self._wait_to_read()
        if self._reading.sips and messages < self._most * FEW:
            self._reading.gulp()
            self.watches = self._busy or self._bytes is not None
        return NOTHING if self._bytes is None else self._meter(self._bytes, size)

    def _meter(self, rate: Pace, size: int) -> int:
        """So many bytes came: wait for as long as they take at the rate."""
        seconds = rate.wait(self._deadlines.seconds(), size)
        if not self._waits:
            return TOO_MANY_BYTES if seconds else NOTHING
        if rate.until_next(self._least):
            self._reading.hold(FAST)
            self._deadlines.start("byte_rate", rate.until_next(self._piece))
        else:
            self._reading.allow(self._credit(rate))
        return NOTHING

    def read_on(self) -> None:
        """The rate allows more bytes."""
        assert self._bytes is not None
        self._reading.allow(max(1, self._credit(self._bytes)))
        self._reading.let(FAST)

    def take(self, messages: list[bytes], skipped: int, size: int) -> int:
        """
        Let in of these `messages`, which came in `size` bytes, what can be let in now, and the others later.

        Returns the outcome.

        So many more were `skipped`: the rate counts them, and for their number, too, smaller pieces are read.
        """
        count = len(messages) + skipped
        if count > self._most and self._messages is None:
            self._reading.sip(size * self._most // count)
            self.watches = self._busy or self._reading.sips or self._bytes is not None
        if skipped and self._messages is not None:
            self._messages.wait(self._deadlines.seconds(), skipped)
        goes_on_already = self._goes_on
        self.kept += messages
        self.size += _size(messages)
        if goes_on_already:
            return NOTHING
        used = self.turns.used
        if self._busy or used > 1 or (used and self.size > self._cheap):
            return self._rest()
        return self.go_on()

    def _slow(self, count: int, seconds: float) -> None:
        if count and not self._goes_on:  # else it was measured as they were let in
            self._learn(count, seconds)
        self._set_busy(True, 0)

    def take_turn(self) -> None:
        """Its turn has come."""
        self._settler.settle(self.go_on())

    def go_on(self) -> int:
        """Let in the next ones, for as long as the turn's budget lasts. Returns the outcome."""
        self._waiting = False
        outcome = self._let_in_some()
        if not self.kept and not self._in_debt:
            self._reading.let(KEPT)
            outcome |= ALL_LET_IN
        elif not self._dispatch.hold & OVER:
            outcome |= self._rest()
        return outcome

    def let_in_last(self) -> int:
        """
        The transport is lost, and there will be no turn: let in what one turn has time for.

        What the app fetches itself costs no time here: all of it can be received after the end. Returns the outcome.
        """
        if self.kept and self._dispatch.pulled:
            messages, self.kept, self.size = self.kept, [], 0
            return self._dispatch.arrive(messages)
        return self._let_in_some() if self.kept else NOTHING

    def _let_in_some(self) -> int:
        outcome = HELD
        began = now = self._deadlines.seconds()
        size = self.size
        count, left = max(1, self._fitting(self.budget)), self._most
        if self._new and size > SMALL:
            count = max(1, min(count, len(self.kept) * SMALL // size))
        self._dispatch.gather_on(True)
        while self.kept and (count := self._allowed(min(count, left))):
            before, messages = now, self._next(count)
            outcome |= self._dispatch.arrive(messages)
            left -= (count := len(messages))
            now = self._deadlines.seconds()
            self._learn(count, now - before)
            count = self._fitting(self.budget - (now - began))
        self._dispatch.gather_on(False)
        if left < self._most:
            self._set_busy(now - began > self.budget, size - self.size)
        return outcome

    def drop(self) -> int:
        """Let go of what is kept: nothing more is let in. How many messages never were."""
        if self._waiting:
            self._waiting = False
            self.turns.leave(self.take_turn)
        count = self._dropped + len(self.kept)
        self._dropped, self.size = 0, 0
        self.kept.clear()
        return count

    @property
    def _goes_on(self) -> bool:
        """Whether its turn will come, or is running."""
        return bool(self.kept) or self._waiting

    @property
    def _in_debt(self) -> bool:
        """Whether more messages came than the rate allows. Skipped messages count as well."""
        return self._messages is not None and self._messages.credit(self._deadlines.seconds()) < 0

    def _next(self, count: int) -> list[bytes]:
        """Take the first `count` messages that are kept, or all of them if there are fewer."""
        messages = self.kept[:count]
        del self.kept[:count]
        self.size -= _size(messages)
        if self._messages is not None:
            self._messages.wait(self._deadlines.seconds(), len(messages))
        return messages

    def _allowed(self, count: int) -> int:
        """How many of so many messages the rate allows now."""
        return count if self._messages is None else min(count, self._credit(self._messages))

    def _learn(self, count: int, seconds: float) -> None:
        """So many messages took so many `seconds`."""
        self._cost = max(seconds / count, min(self._cost, self.budget) / GROWTH) if seconds > 0 else 0.0

    def _fitting(self, seconds: float) -> int:
        """How many messages fit into `seconds`, by the cost of the last ones: at most ``messages_per_turn``."""
        return self._most if seconds >= self._cost * self._most else max(0, int(seconds / self._cost))

    def _set_busy(self, busy: bool, size: int) -> None:
        """So many bytes took longer than a turn lasts, or did not."""
        self._busy = busy
        self._new = False
        self._cheap = 0 if busy else max(self._cheap, size)
        self.watches = busy or self._reading.sips or self._bytes is not None
        if busy:
            self._dispatch.costly = True  # the dispatcher lets messages in the inbox wait for a turn, too
            assert self._clock is not None
            self.turns.use(self._clock)
        self.share = 0 if busy or self._messages is not None else self._fitting(self.budget)

    def _rest(self) -> int:
        """Read nothing, and go on in another turn, or when the rate allows it; or do not. Returns the outcome."""
        self._reading.hold(KEPT)
        if self._messages is None or self._credit(self._messages):
            assert self._clock is not None
            self._waiting = True
            lasts = self.budget if self.budget < inf else 0.0  # where nothing is measured, one has its turn
            if self._busy:
                self.turns.wait(self.take_turn, self._clock)
            elif self.size > self._cheap:
                self.turns.wait_as_new(self.take_turn, self._clock, lasts)
            else:
                self.turns.wait_as_quick(self.take_turn, self._clock, lasts)
        elif self._waits:
            self._deadlines.start("message_rate", self._messages.until_next())
        else:
            self._dropped += len(self.kept)
            self.kept.clear()
            self.size = 0
            return TOO_MANY_MESSAGES
        return NOTHING

    def _wait_to_read(self) -> None:
        """Others wait, too: its next chunk, which takes time as well, is read in a turn."""
        assert self._clock is not None
        self._reading.hold(KEPT)
        self._waiting = True
        self.turns.wait_to_read(self.take_turn, self._clock)

    def _credit(self, pace: Pace) -> int:
        return max(0, int(pace.credit(self._deadlines.seconds()) + ROUNDING))


@lru_cache(maxsize=64)
def _first_cost(microseconds: int) -> float:
    """What a message is taken to cost before one was measured, where a turn has so many microseconds."""
    return microseconds / 1e6 / FIRST


def _size(messages: list[bytes]) -> int:
    return sum(map(len, messages)) + MESSAGE_COST * len(messages)


def too_fast(what: str, limit: int) -> CloseReason:
    """Why it ends where more `what` (``messages``, or ``bytes``) came than a rate allows."""
    rule = f"{what.removesuffix('s')}-rate"
    text = f"more than {limit} {what} a second came ({rule.replace('-', '_')})"
    return CloseReason(EndedBy.US, rule, text, limit=limit)
