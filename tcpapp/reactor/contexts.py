"""
One context for all that a reactor calls: a context variable that a callback sets holds for later ones.

It is so on Twisted's epoll reactor, where all runs in the context that ``reactor.run()`` was called in. asyncio has a
copy of the context for each callback instead, and so has uvloop for each connection.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SharedContext"]

T = TypeVar("T")
MISSING = object()


class SharedContext:
    """A `context` that is entered for each callback, and that shares its variables with the code around the reactor."""

    def __init__(self) -> None:
        self.context = Context()
        self.run: Callable[..., Any] = self.context.run
        """Call a function in it. To be called outside of it only."""

    @property
    def is_entered(self) -> bool:
        """Whether this is called inside of it."""
        try:
            self.context.run(bool)
        except RuntimeError:
            return True
        return False

    def enter(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call a function in it, whether this is called inside of it or not."""
        return call(*arguments) if self.is_entered else self.context.run(call, *arguments)

    @contextmanager
    def all_of_it(self) -> Iterator[None]:
        """
        Take the variables of the context that this is called in, and give it what was set, when the block has ended.

        Inside of the shared context itself there is nothing to do.
        """
        if self.is_entered:
            yield
            return
        for variable, value in copy_context().items():
            self.context.run(variable.set, value)
        try:
            yield
        finally:
            for variable, value in self.context.items():
                if variable.get(MISSING) is not value:
                    variable.set(value)
