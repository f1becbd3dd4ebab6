"""
One context for everything that a reactor calls: a context variable that a callback sets holds for later callbacks.

This is so on Twisted's epoll reactor, where everything runs in the context that called ``reactor.run()``. asyncio
instead copies the context for each callback, and so does uvloop for each connection.
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
        """Call a function in it. Only for calls from outside of it."""

    @property
    def is_entered(self) -> bool:
        """Whether this is called inside of it."""
        try:
            self.context.run(bool)
        except RuntimeError:
            return True
        return False

    def enter(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call a function in it, from inside or outside of it."""
        return call(*arguments) if self.is_entered else self.context.run(call, *arguments)

    @contextmanager
    def all_of_it(self) -> Iterator[None]:
        """
        Copy the variables of the current context into it, and copy what was set back when the block has ended.

        Inside of the shared context itself, it does nothing.
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
