"""
The stages of a stream, without a socket: each takes items, and passes them on; later, in pieces, or not at all.

A stage knows a clock and the next stage, and keeps the order of items. The stages here lose nothing; those in
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
    """An item of a stream that is no bytes, in order with the bytes."""

    END = "end"
    """No more bytes come this way: a FIN. The other direction can go on."""
    CLOSE = "close"
    """The connection is closed, both ways, once the bytes before it are written."""
    RESET = "reset"
    """The connection is reset, both ways."""


Item = bytes | Mark

PIECE: Final = 0.1
"""Seconds that `Bandwidth` takes for one piece at most: Toxiproxy also splits longer pieces into pieces of 100 ms."""


def size_of(item: Item) -> int:
    """Bytes in it; a mark has none."""
    return len(item) if isinstance(item, bytes) else 0


def discard(item: Item) -> None:
    """Drop it."""


def nothing() -> None:
    """Do nothing."""


class Stage:
    """
    One active toxic on one stream.

    `attributes` are read when they are needed; code that changes them calls `changed`. `chance` is the source of random
    values. `give` is called with each item that this stage passes on. `moved` is called after a timer of this stage has
    passed something on.
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
        """It is in its place: time begins."""

    def take(self, item: Item) -> None:
        """Take an item."""
        raise NotImplementedError

    def changed(self) -> None:
        """The attributes have changed; they also hold for held items."""

    def release(self) -> None:
        """It is removed: held items are passed on now."""
        self._cancel()

    def stop(self) -> None:
        """The connection is over: nothing is passed on any more, and no timer is left."""
        self._cancel()
        self.held = 0
        self.give = discard

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        """Make `call` after this time; a stage has one timer."""
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
    """A held item, the time (seconds) when it came, and its random values."""

    item: Item
    arrived: float
    luck: float


class Queue(Stage):
    """A stage that holds items, in order, until the first of them is due."""

    def __init__(self, clock: IReactorTime, attributes: Mapping[str, Any], chance: Random) -> None:
        super().__init__(clock, attributes, chance)
        self._queue: deque[Entry] = deque()

    def due(self, first: Entry) -> float:
        """
        When the first piece of the first item is passed on, in seconds of the clock; infinity: never, by the current
        attributes.
        """
        return first.arrived

    def cut(self, data: bytes) -> int:
        """How many bytes of `data` are its first piece. All."""
        return len(data)

    def draw(self) -> float:
        """The random values for an item. None."""
        return 0.0

    def gone(self, piece: Item, due: float) -> None:
        """`piece` is about to be passed on, as was `due`."""

    @override
    def take(self, item: Item) -> None:
        self._queue.append(Entry(item, self._clock.seconds(), self.draw()))
        self.held += size_of(item)
        self._go_on()

    @override
    def changed(self) -> None:
        self._cancel()
        self._go_on()

    @override
    def release(self) -> None:
        super().release()
        while self._queue:
            item = self._queue.popleft().item
            self.held -= size_of(item)
            self.give(item)

    @override
    def stop(self) -> None:
        super().stop()
        self._queue.clear()

    def _go_on(self) -> None:
        """Pass on due items, and wait for the next."""
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
    The last stage of a stream: while its transport accepts no more, it holds the rest.

    It is that transport's push producer. A reset passes it, and so does a close, with all bytes before it.
    """

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(clock, {}, Random(0))  # noqa: S311  # never drawn from
        self.open = True

    @override
    def due(self, first: Entry) -> float:
        return first.arrived if self.open else math.inf

    @override
    def take(self, item: Item) -> None:
        if item is Mark.RESET:
            self._queue.clear()
            self.held = 0
            self.give(item)
            return
        super().take(item)
        if item is Mark.CLOSE:
            self.release()

    def pauseProducing(self) -> None:
        """The transport is full."""
        self.open = False

    def resumeProducing(self) -> None:
        """The transport has sent all."""
        self.open = True
        self._go_on()
        self.moved()

    def stopProducing(self) -> None:
        """The transport is gone: later items are lost, and nothing is held for it."""
        self.resumeProducing()


class Latency(Queue):
    """``latency``, plus or minus up to ``jitter``, seconds for each item; the order is kept."""

    @override
    def draw(self) -> float:
        return self._chance.uniform(-1.0, 1.0)

    @override
    def due(self, first: Entry) -> float:
        delay: float = self._attributes["latency"] + self._attributes["jitter"] * first.luck
        return first.arrived + max(0.0, delay)


class Bandwidth(Queue):
    """``rate`` bytes a second; with 0, nothing passes, and nothing is lost. Marks wait for the bytes before them."""

    def __init__(self, clock: IReactorTime, attributes: Mapping[str, Any], chance: Random) -> None:
        super().__init__(clock, attributes, chance)
        self._free = -math.inf  # when the line has carried the last item that was passed on

    @override
    def cut(self, data: bytes) -> int:
        return max(1, min(len(data), int(self._attributes["rate"] * PIECE)))

    @override
    def due(self, first: Entry) -> float:
        rate: float = self._attributes["rate"]
        if not rate:
            return math.inf
        size = self.cut(first.item) if isinstance(first.item, bytes) else 0
        return max(first.arrived, self._free) + size / rate

    @override
    def gone(self, piece: Item, due: float) -> None:
        self._free = due

    @override
    def changed(self) -> None:
        self._free = self._clock.seconds()  # or the time under the old rate would count under the new one
        super().changed()


class SlowClose(Queue):
    """The end of the connection, or of one direction, passes ``delay`` seconds later; bytes pass at once."""

    @override
    def due(self, first: Entry) -> float:
        delay: float = 0.0 if isinstance(first.item, bytes) else self._attributes["delay"]
        return first.arrived + delay


class Slicer(Queue):
    """
    Bytes pass in pieces of ``average_size``, plus or minus up to ``size_variation``, ``delay`` seconds apart.

    With a delay of 0 the next piece still waits for the next turn of the reactor: written in one turn, they would be
    sent as one.
    """

    @override
    def cut(self, data: bytes) -> int:
        variation = self._attributes["size_variation"]
        size: int = self._attributes["average_size"] + self._chance.randint(-variation, variation)
        return size

    @override
    def gone(self, piece: Item, due: float) -> None:
        if isinstance(piece, bytes):
            self._after(self._attributes["delay"], self._go_on)
