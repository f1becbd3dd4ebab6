"""
Deferreds that have fired when they are made, and cost little while nobody adds a callback.

Most calls of ``send`` and ``receive`` are done at once. Their Deferreds are awaited, or looked at by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from typing_extensions import override

__all__ = ["Fired", "fired", "given"]

NOTHING_TO_WAIT_FOR: Final[Any] = iter(())
"""An iterator that is at its end: what awaits it goes on at once, with `None`."""


class Fired(Deferred[Any]):
    """
    A Deferred that has fired with its `result`, by default with `None`. It is a `Deferred` in every respect.

    What `Deferred` sets for each object is the same for all of these until the first callback is added.
    """

    called = True
    result: Any = None
    _canceller = None

    def __getattr__(self, name: str) -> Any:
        """Make the list of callbacks when it is used first. Python calls this for a name that is not there."""
        if name != "_callbacks":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        callbacks: list[Any] = []
        self._callbacks = callbacks
        return callbacks

    @override
    def __await__(self) -> Generator[Deferred[Any], None, Any]:
        """Go on at once. Callbacks can have changed the result by now."""
        if self.result is None and not self.paused:
            return NOTHING_TO_WAIT_FOR  # type: ignore[no-any-return]
        return super().__await__()


fired: Final[Callable[[], Deferred[Any]]] = partial(object.__new__, Fired)
"""Makes a Deferred that has fired with `None`, without the ``__init__`` of `Deferred`."""


def given(result: Any) -> Deferred[Any]:
    """A Deferred that has fired with `result`."""
    made = fired()
    made.result = result
    return made
