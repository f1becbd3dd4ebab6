"""
Stages of a stream, without a socket. Each takes items, and passes them on: later, in pieces, or not at all.

A stage has a clock and the next stage, and keeps the order of items. The stages here drop nothing; the stages in
`breaking` do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.internet.interfaces import IPushProducer
from typing_extensions import override
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Bandwidth", "Gate", "Item", "Latency", "Mark", "Queue", "Slicer", "SlowClose", "Stage", "size_of"]


class Mark(Enum):
    """An item of a stream that is not bytes. It keeps its place among the bytes."""

    END = "end"
    """No more bytes come in this direction (a FIN). The other direction can continue."""
    CLOSE = "close"
    """The connection is closed in both directions when the bytes before this mark are written."""
    RESET = "reset"
    """The connection is reset in both directions."""


Item = bytes | Mark

PIECE: Final = 0.1
"""The most seconds that `Bandwidth` takes for one piece. Source: Toxiproxy, which also splits longer pieces."""


def size_of(item: Item) -> int:
    """Return the number of bytes in an item; 0 for a mark."""
    return len(item) if isinstance(item, bytes) else 0


def discard(item: Item) -> None:
    """Drop an item."""


def nothing() -> None:
    """Do nothing."""


class Stage:
    """
    One active toxic on one stream.

    `attributes` are read when they are needed. Code that changes them calls `changed`. `chance` is the source of random
    values. `give` is called with each item that this stage passes on. `moved` is called after a timer of this stage has
    passed on items.
    """

    def __init__(self, clock: IReactorTime, attributes: Mapping[str, Any], chance: Random) -> None:
        self._clock = clock
        self._attributes = attributes
        self._chance = chance
        self._timer: IDelayedCall | None = None
        self.held = 0
        self.give: Callable[[Item], None] = discard
        self.moved: Callable[[], None] = nothing

    def start(self) -> None:
        """Begin to count time. It is called when the stage is in its place."""

    def take(self, item: Item) -> None:
        """Take an item, which is passed on, held or dropped."""
        raise NotImplementedError

    def changed(self) -> None:
        """Apply changed attributes, also to held items."""

    def release(self) -> None:
        """Pass on the held items now, because the stage is removed."""
        self._cancel()

    def stop(self) -> None:
        """Pass nothing on any more, because the connection is over. No timer is left."""
        self._cancel()
        self.held = 0
        self.give = discard

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call `call` after this time. A stage has one timer."""
        self._timer = self._clock.callLater(seconds, self._ring, call)

    def _ring(self, call: Callable[[], None]) -> None:
        self._timer = None
        call()
        self.moved()

    def _cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class Entry(NamedTuple):
    """A held item, the time in seconds when it came, and its random value."""

    item: Item
    arrived: float
    luck: float


class Queue(Stage):
    """A stage that holds items in order until they are due."""

    def __init__(self, clock: IReactorTime, attributes: Mapping[str, Any], chance: Random) -> None:
        super().__init__(clock, attributes, chance)
        self._queue: deque[Entry] = deque()

    def due(self, first: Entry) -> float:
        """
        Return the time on the clock at which the first piece of the first item is passed on; infinity if it is never
        passed on.
        """
        return first.arrived

    def cut(self, data: bytes) -> int:
        """Return how many bytes of `data` are its first piece: by default, all."""
        return len(data)

    def draw(self) -> float:
        """Draw the random value for an item: by default, 0.0."""
        return 0.0

    def gone(self, piece: Item, due: float) -> None:
        """Note that `piece`, which was `due` at this time, is passed on now."""

    @override
    def take(self, item: Item) -> None:
        """Hold an item until it is due."""
        self._queue.append(Entry(item, self._clock.seconds(), self.draw()))
        self.held += size_of(item)
        self._go_on()

    @override
    def changed(self) -> None:
        """Compute anew when the held items are due."""
        self._cancel()
        self._go_on()

    @override
    def release(self) -> None:
        """Pass on all held items."""
        super().release()
        while self._queue:
            item = self._queue.popleft().item
            self.held -= size_of(item)
            self.give(item)

    @override
    def stop(self) -> None:
        """Drop all held items, and stop the timer."""
        super().stop()
        self._queue.clear()

    def _go_on(self) -> None:
        """Pass on due items, and wait for the next item."""
        while self._queue and self._timer is None:
            due, now = self.due(self._queue[0]), self._clock.seconds()
            if due > now:
                if due < math.inf:
                    self._after(due - now, self._go_on)
                return
            self._give_first(due)

    def _give_first(self, due: float) -> None:
        """Pass on the first piece of the first item."""
        first = self._queue.popleft()
        item = first.item
        if isinstance(item, bytes) and (size := self.cut(item)) < len(item):
            self._queue.appendleft(first._replace(item=item[size:]))
            item = item[:size]
        self.held -= size_of(item)
        self.gone(item, due)
        self.give(item)


@implementer(IPushProducer)
class Gate(Queue):
    """
    The last stage of a stream. It holds items while its transport accepts no more bytes.

    It is the push producer of that transport. A reset passes the gate, and so does a close, with all bytes before it.
    """

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(clock, {}, Random(0))  # noqa: S311  # never drawn from
        self.open = True

    @override
    def due(self, first: Entry) -> float:
        """Return the time when the item came; infinity while the transport is full."""
        return first.arrived if self.open else math.inf

    @override
    def take(self, item: Item) -> None:
        """Pass on an item, or hold it while the transport is full."""
        if item is Mark.RESET:
            self._queue.clear()
            self.held = 0
            self.give(item)
            return
        super().take(item)
        if item is Mark.CLOSE:
            self.release()

    def pauseProducing(self) -> None:
        """Hold items, because the transport is full."""
        self.open = False

    def resumeProducing(self) -> None:
        """Pass on the held items, because the transport has sent all bytes."""
        self.open = True
        self._go_on()
        self.moved()

    def stopProducing(self) -> None:
        """Hold no items any more, because the transport is gone. Its side drops all items."""
        self.resumeProducing()


class Latency(Queue):
    """Delays each item by ``latency`` seconds, plus or minus up to ``jitter``. The order is kept."""

    @override
    def draw(self) -> float:
        """Draw a value for the jitter of an item."""
        return self._chance.uniform(-1.0, 1.0)

    @override
    def due(self, first: Entry) -> float:
        """Return the time when the item came, plus its latency."""
        delay: float = self._attributes["latency"] + self._attributes["jitter"] * first.luck
        return first.arrived + max(0.0, delay)


class Bandwidth(Queue):
    """
    Passes ``rate`` bytes a second. With 0, nothing passes, and nothing is lost. Marks wait for the bytes before them.
    """

    def __init__(self, clock: IReactorTime, attributes: Mapping[str, Any], chance: Random) -> None:
        super().__init__(clock, attributes, chance)
        self._free = -math.inf  # the time at which the line has carried the last item

    @override
    def cut(self, data: bytes) -> int:
        """Return the bytes that the line carries within `PIECE` seconds."""
        return max(1, min(len(data), int(self._attributes["rate"] * PIECE)))

    @override
    def due(self, first: Entry) -> float:
        """Return the time at which the line has carried the first piece."""
        rate: float = self._attributes["rate"]
        if not rate:
            return math.inf
        size = self.cut(first.item) if isinstance(first.item, bytes) else 0
        return max(first.arrived, self._free) + size / rate

    @override
    def gone(self, piece: Item, due: float) -> None:
        """Note until when the line is busy."""
        self._free = due

    @override
    def changed(self) -> None:
        """Use the new rate for all held bytes."""
        self._free = self._clock.seconds()  # otherwise time under the old rate would count as time under the new rate
        super().changed()


class SlowClose(Queue):
    """Delays the end of the connection, or of one direction, by ``delay`` seconds. Bytes pass at once."""

    @override
    def due(self, first: Entry) -> float:
        """Return the time when the item came; for a mark, ``delay`` seconds later."""
        delay: float = 0.0 if isinstance(first.item, bytes) else self._attributes["delay"]
        return first.arrived + delay


class Slicer(Queue):
    """
    Passes bytes in pieces of ``average_size``, plus or minus up to ``size_variation``, ``delay`` seconds apart.

    With a delay of 0, the next piece still waits for the next turn of the reactor. If two pieces were written in one
    turn, the transport would join them.
    """

    @override
    def cut(self, data: bytes) -> int:
        """Return a random size for the next piece."""
        variation = self._attributes["size_variation"]
        size: int = self._attributes["average_size"] + self._chance.randint(-variation, variation)
        return size

    @override
    def gone(self, piece: Item, due: float) -> None:
        """Wait ``delay`` seconds before the next piece."""
        if isinstance(piece, bytes):
            self._after(self._attributes["delay"], self._go_on)
