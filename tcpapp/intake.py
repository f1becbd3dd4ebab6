"""
What lies between a connection's framing and its app: how much of what has come is let in, and when.

A chunk may hold sixty thousand messages, and the app's time for them is everybody's time. So no more than a share of
them (``messages_per_turn``) is let in before the others have theirs; and where there is a rate, no more than it allows.
The rest is kept, and nothing is read meanwhile: there is never more of it than came with one chunk. To cut a chunk into
its messages takes time as well, so one whose chunks hold too many is read from in sips from then on.
"""

from __future__ import annotations

import sys
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.deadlines import Deadlines
from tcpapp.dispatch import Dispatch
from tcpapp.holds import OVER
from tcpapp.inbox import MESSAGE_COST
from tcpapp.pace import Pace
from tcpapp.reading import FAST, KEPT, LEAST_SIP, METERED, Reading
from tcpapp.settings import Settings

__all__ = ["Intake", "Reader"]

FEW = 0.25
"""The part of its share that one is read from in sips for: below it, its messages have grown, and sips cost more."""

PIECES = 10
"""
Reads in a second of a connection that brings more bytes than its rate allows: it waits until it may read so much more.

Our choice: a call of the system for each, and a peer that waits a tenth of a second. There are fewer at a rate below
ten times `LEAST_SIP`, and more at one above ten times `METERED`. Where less than that is left, it waits, too: the size
of a read is the mark for what is unsent as well, and below 1 KiB it would hold back the app for each reply.
"""

ROUNDING = 1e-6
"""Of a message, that may be wanting to a whole one: sums of floats are not exact."""


class Reader(Protocol):
    """The connection whose messages they are."""

    def all_let_in(self) -> None:
        """Nothing is kept any more."""

    def load_changed(self) -> None:
        """More is held than was, or less."""

    def too_fast(self, cause: CloseReason) -> None:
        """It sends faster than it may, and is not to be made to wait."""


class Intake:
    """
    Lets in the messages of one connection.

    `share` is how many may be let in at once by whoever has them: 0 where each is to be counted, which `keep` does.
    `watches` says that `read` is to be called for each chunk. `kept` is what is not let in yet, of `size` bytes.
    Without a clock there are no turns and no rates.

    Where one has to wait for its rate, the deadlines say when it is over: for ``message_rate``, `go_on` is to be called
    then, and `read_on` for ``byte_rate``. No more bytes are read at once than that rate allows; TLS decrypts a record
    (16 KiB) at once, and the pause after it is the longer.
    """

    __slots__ = (
        "_bytes",
        "_clock",
        "_deadlines",
        "_dispatch",
        "_dropped",
        "_least",
        "_limits",
        "_messages",
        "_most",
        "_piece",
        "_reader",
        "_reading",
        "_turns",
        "_waits",
        "kept",
        "share",
        "size",
        "watches",
    )

    def __init__(
        self,
        reader: Reader,
        dispatch: Dispatch,
        reading: Reading,
        settings: Settings,
        deadlines: Deadlines,
        clock: IReactorTime | None,
    ) -> None:
        limits, timed = settings.limits, clock is not None
        self._reader = reader
        self._dispatch = dispatch
        self._reading = reading
        self._limits = limits
        self._turns = settings.turns
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
        self.share = self._most if self._messages is None else 0
        self.watches = self._bytes is not None
        self.size = 0
        self.kept: list[bytes] = []
        if self._bytes is not None and self._waits:
            reading.allow(limits.byte_rate)

    def read(self, count: int, messages: int) -> None:
        """So many bytes came, with so many messages: have nothing read for as long as they take at the rate."""
        if self._reading.sips and messages < self._most * FEW:
            self._reading.gulp()
            self.watches = self._bytes is not None
        rate = self._bytes
        if rate is None:
            return
        seconds = rate.wait(self._deadlines.seconds(), count)
        if not self._waits:
            if seconds:
                self._reader.too_fast(_too_fast("bytes", self._limits.byte_rate))
        elif rate.until_next(self._least):
            self._reading.hold(FAST)
            self._deadlines.start("byte_rate", rate.until_next(self._piece))
        else:
            self._reading.allow(self._credit(rate))

    def read_on(self) -> None:
        """The rate allows more bytes."""
        assert self._bytes is not None
        self._reading.allow(max(1, self._credit(self._bytes)))
        self._reading.let(FAST)

    def keep(self, messages: list[bytes], count: int) -> None:
        """Let in of these `messages`, which came in `count` bytes, what may be let in now, and the others later."""
        goes_on_already = bool(self.kept)
        self.kept += messages
        self.size += _size(messages)
        if self._messages is None:
            self._reading.sip(count * self._most // len(messages))
            self.watches = self._reading.sips or self._bytes is not None
        if not goes_on_already:
            self.go_on()

    def go_on(self) -> None:
        """Let in the next ones."""
        count = self._most if self._messages is None else min(self._most, self._credit(self._messages))
        messages, self.kept = self.kept[:count], self.kept[count:]
        if messages:
            self.size -= _size(messages)
            if self._messages is not None:
                self._messages.wait(self._deadlines.seconds(), len(messages))
            self._dispatch.arrive(messages)
            self._reader.load_changed()
        if not self.kept:
            self._reading.let(KEPT)
            self._reader.all_let_in()
        elif not self._dispatch.hold & OVER:
            self._reading.hold(KEPT)
            self._wait()

    def drop(self) -> int:
        """Let go of what is kept: nothing more is let in. How many messages never were."""
        if self.kept:
            self._turns.leave(self.go_on)
        count = self._dropped + len(self.kept)
        self._dropped, self.kept, self.size = 0, [], 0
        return count

    def _credit(self, pace: Pace) -> int:
        return max(0, int(pace.credit(self._deadlines.seconds()) + ROUNDING))

    def _wait(self) -> None:
        """Go on in another turn, or when the rate allows it; or do not."""
        if self._messages is None or self._credit(self._messages):
            assert self._clock is not None
            self._turns.wait(self.go_on, self._clock)
        elif self._waits:
            self._deadlines.start("message_rate", self._messages.until_next())
        else:
            self._dropped, self.kept, self.size = len(self.kept), [], 0
            self._reader.too_fast(_too_fast("messages", self._limits.message_rate))


def _size(messages: list[bytes]) -> int:
    return sum(map(len, messages)) + MESSAGE_COST * len(messages)


def _too_fast(what: str, limit: int) -> CloseReason:
    rule = f"{what.removesuffix('s')}-rate"
    text = f"more than {limit} {what} a second came ({rule.replace('-', '_')})"
    return CloseReason(EndedBy.US, rule, text, limit=limit)
