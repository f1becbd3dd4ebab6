"""A client of any kind in an ``async with`` block."""

from __future__ import annotations

from abc import abstractmethod

from twisted.internet.defer import Deferred
from typing_extensions import Self

__all__ = ["StartedInBlock"]


class StartedInBlock:
    """It is started where an ``async with`` block is entered, and stopped where the block is left."""

    @abstractmethod
    def start(self) -> Deferred[Self]:
        """Start; fires as soon as it is connected."""

    @abstractmethod
    def stop(self) -> Deferred[None]:
        """Stop; fires when all of it is closed."""

    async def __aenter__(self) -> Self:
        """Start, and wait until it is connected. Where that fails or is cancelled, it is stopped."""
        started = self.start()
        try:
            return await started
        except BaseException:  # cancelled, too: a block that was not entered is not left either
            self.stop()
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop, and wait until all is closed. Cancelled meanwhile, it stops all the same."""
        await self.stop()
