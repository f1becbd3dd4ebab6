"""The stages that lose bytes, and then end the connection."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tcpapp.testing.faultproxy.stages import Item, Mark, Stage

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["LimitData", "ResetPeer", "Timeout"]


class Timeout(Stage):
    """
    Bytes are dropped; ``timeout`` seconds after the toxic was added to the connection, it is closed. With 0, it is not.

    The end of the stream, or a reset, passes at once. When removed, it closes the connection, as Toxiproxy's does: a
    stream with a hole in it must not go on.
    """

    def __init__(self, clock: IReactorTime, attributes: Mapping[str, Any], chance: Random) -> None:
        super().__init__(clock, attributes, chance)
        self._started = clock.seconds()

    @override
    def start(self) -> None:
        timeout: float = self._attributes["timeout"]
        if timeout:
            self._after(max(0.0, self._started + timeout - self._clock.seconds()), self._close)

    @override
    def take(self, item: Item) -> None:
        if isinstance(item, Mark):
            self.give(item)

    @override
    def changed(self) -> None:
        self._cancel()
        self.start()

    @override
    def release(self) -> None:
        super().release()
        self._close()

    def _close(self) -> None:
        self.give(Mark.CLOSE)


class ResetPeer(Stage):
    """
    The first item, bytes or the end, triggers it: ``timeout`` seconds later the connection is reset.

    That item is dropped, and so are all later ones. When removed after the trigger, it resets the connection at once.
    """

    def __init__(self, clock: IReactorTime, attributes: Mapping[str, Any], chance: Random) -> None:
        super().__init__(clock, attributes, chance)
        self._set_off: float | None = None

    @override
    def take(self, item: Item) -> None:
        if self._set_off is None:
            self._set_off = self._clock.seconds()
            self._arm()

    @override
    def changed(self) -> None:
        self._cancel()
        self._arm()

    @override
    def release(self) -> None:
        super().release()
        if self._set_off is not None:
            self._reset()

    def _arm(self) -> None:
        """Reset at the given time, if it was triggered."""
        if self._set_off is None:
            return
        wait = self._set_off + self._attributes["timeout"] - self._clock.seconds()
        if wait > 0:
            self._after(wait, self._reset)
        else:
            self._reset()

    def _reset(self) -> None:
        self.give(Mark.RESET)


class LimitData(Stage):
    """The first ``bytes`` bytes pass; with the last of them the connection is closed, and the rest is dropped."""

    def __init__(self, clock: IReactorTime, attributes: Mapping[str, Any], chance: Random) -> None:
        super().__init__(clock, attributes, chance)
        self._passed = 0

    @override
    def take(self, item: Item) -> None:
        if isinstance(item, Mark):
            self.give(item)
            return
        limit: int = self._attributes["bytes"]
        piece = item[: max(0, limit - self._passed)]
        self._passed += len(piece)
        if piece:
            self.give(piece)
        if self._passed >= limit:
            self.give(Mark.CLOSE)
