"""Stages that drop bytes, and then end the connection."""

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
    Drops all bytes. ``timeout`` seconds after the toxic was added to the connection, the connection is closed; with 0,
    it is not.

    The end of the stream and a reset pass at once. When the toxic is removed, it closes the connection, as in
    Toxiproxy: a stream that lacks bytes must not continue.
    """

    def __init__(self, clock: IReactorTime, attributes: Mapping[str, Any], chance: Random) -> None:
        super().__init__(clock, attributes, chance)
        self._started = clock.seconds()

    @override
    def start(self) -> None:
        """Count ``timeout`` seconds from now."""
        timeout: float = self._attributes["timeout"]
        if timeout:
            self._after(max(0.0, self._started + timeout - self._clock.seconds()), self._close)

    @override
    def take(self, item: Item) -> None:
        """Drop bytes, and pass on marks."""
        if isinstance(item, Mark):
            self.give(item)

    @override
    def changed(self) -> None:
        """Count the new ``timeout`` from the same start."""
        self._cancel()
        self.start()

    @override
    def release(self) -> None:
        """Close the connection, because the toxic is removed."""
        super().release()
        self._close()

    def _close(self) -> None:
        self.give(Mark.CLOSE)


class ResetPeer(Stage):
    """
    Resets the connection ``timeout`` seconds after the first item, which can be bytes or the end.

    The first item and all later items are dropped. When the toxic is removed after the first item, it resets the
    connection at once.
    """

    def __init__(self, clock: IReactorTime, attributes: Mapping[str, Any], chance: Random) -> None:
        super().__init__(clock, attributes, chance)
        self._set_off: float | None = None

    @override
    def take(self, item: Item) -> None:
        """Drop an item. The first one starts the timeout."""
        if self._set_off is None:
            self._set_off = self._clock.seconds()
            self._arm()

    @override
    def changed(self) -> None:
        """Count the new ``timeout`` from the first item."""
        self._cancel()
        self._arm()

    @override
    def release(self) -> None:
        """Reset the connection, if the first item has come."""
        super().release()
        if self._set_off is not None:
            self._reset()

    def _arm(self) -> None:
        """Schedule the reset, if the first item has come."""
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
    """Passes the first ``bytes`` bytes, then closes the connection. The other bytes are dropped."""

    def __init__(self, clock: IReactorTime, attributes: Mapping[str, Any], chance: Random) -> None:
        super().__init__(clock, attributes, chance)
        self._passed = 0

    @override
    def take(self, item: Item) -> None:
        """Pass on bytes up to the limit, then close; drop all later items."""
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
