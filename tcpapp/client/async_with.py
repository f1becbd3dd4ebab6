"""Starting and stopping a client by ``async with``."""

from __future__ import annotations

from abc import abstractmethod

from twisted.internet.defer import Deferred
from typing_extensions import Self

__all__ = ["StartedInBlock"]


class StartedInBlock:
    """A mixin for clients: ``async with`` starts the client, and stops it at the end of the block."""

    @abstractmethod
    def start(self) -> Deferred[Self]:
        """Start the client. Fires with it as soon as it is connected."""

    @abstractmethod
    def stop(self) -> Deferred[None]:
        """Stop the client. Fires when all its connections are closed."""

    async def __aenter__(self) -> Self:
        """Start, and wait until the client is connected. On failure or cancellation, stop it."""
        started = self.start()
        try:
            return await started
        except BaseException:  # on cancellation, too: Python does not call __aexit__ then
            self.stop()
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop, and wait until all is closed. If the wait is cancelled, the client still stops."""
        await self.stop()
