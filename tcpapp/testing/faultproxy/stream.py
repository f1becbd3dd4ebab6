"""One direction of a connection: from its source, through the toxics, to its sink."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tcpapp.testing.faultproxy.pipe import Pipe
from tcpapp.testing.faultproxy.stages import Item, Mark

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from tcpapp.testing.faultproxy.side import Side

__all__ = ["Stream"]


class Stream:
    """
    Passes bytes from `source` to `sink`, and calls `on_mark` with each mark that comes out.

    While more than `bound` bytes are held, `source` is not read. `passed` counts the bytes that came out, and
    `on_passed` is called with their number. `ended` says whether the end came out.
    """

    def __init__(
        self,
        clock: IReactorTime,
        bound: int,
        source: Side,
        sink: Side,
        on_mark: Callable[[Stream, Mark], None],
        on_passed: Callable[[Stream, int], None],
    ) -> None:
        self.source = source
        self.sink = sink
        self.passed = 0
        self.ended = False
        self._bound = bound
        self._paused = False
        self._on_mark = on_mark
        self._on_passed = on_passed
        self.pipe = Pipe(clock, self._deliver, self.balance)
        source.on_item = self._take

    def balance(self) -> None:
        """Pause reading from the source above the bound, and resume below it."""
        full = self.pipe.held > self._bound
        if full is not self._paused:
            self._paused = full
            if full:
                self.source.pause()
            else:
                self.source.resume()

    def _take(self, item: Item) -> None:
        self.pipe.take(item)
        self.balance()

    def _deliver(self, item: Item) -> None:
        if isinstance(item, Mark):
            self._on_mark(self, item)
        else:
            self.passed += len(item)
            self._on_passed(self, len(item))
            self.sink.write(item)
