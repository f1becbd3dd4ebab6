"""One direction of a connection, without sockets: its stages in order, and the gate at the end."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tcpapp.testing.faultproxy.stages import Gate, Item, Stage, discard

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["Pipe"]


class Pipe:
    """
    Passes items from `take` through the stages, first to last, to `deliver`.

    Stages can be added and removed, each in the place of its number. A removed stage passes on the items that it holds.
    `moved` is called whenever `held`, the number of held bytes, has possibly fallen by itself.
    """

    def __init__(
        self, clock: IReactorTime, deliver: Callable[[Item], None], moved: Callable[[], None] = lambda: None
    ) -> None:
        self.gate = Gate(clock)
        self.gate.give = deliver
        self.gate.moved = self._moved = moved
        self._stages: list[tuple[int, Stage]] = []
        self._first: Callable[[Item], None] = self.gate.take

    @property
    def held(self) -> int:
        """The number of bytes that the stages hold."""
        return self.gate.held + sum(stage.held for _, stage in self._stages)

    def take(self, item: Item) -> None:
        """Pass an item to the first stage."""
        self._first(item)

    def stage(self, number: int) -> Stage | None:
        """Return the stage of this number, if there is one."""
        return dict(self._stages).get(number)

    def insert(self, number: int, stage: Stage) -> None:
        """Put `stage` in the place of its `number`, and start it."""
        self._stages.insert(self._place(number), (number, stage))
        stage.moved = self._moved
        self._link()
        stage.start()
        self._moved()

    def remove(self, number: int) -> None:
        """Remove the stage of this number. The items that it holds are passed on."""
        _, stage = self._stages.pop(self._place(number))
        self._link()
        stage.release()
        self._moved()

    def stop(self) -> None:
        """Stop: drop the held items, and all later ones."""
        for each in (*(stage for _, stage in self._stages), self.gate):
            each.stop()
        self._stages.clear()
        self._first = discard

    def _place(self, number: int) -> int:
        key: Callable[[Any], int] = lambda numbered: numbered[0]  # noqa: E731  # typed, or it is Any
        return bisect_left(self._stages, number, key=key)

    def _link(self) -> None:
        """Connect each stage to the next."""
        chain = [*(stage for _, stage in self._stages), self.gate]
        for stage, following in pairwise(chain):
            stage.give = following.take
        self._first = chain[0].take
