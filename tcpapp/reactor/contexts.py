"""
One context for all calls of a reactor, so that a context variable that one callback sets holds for later callbacks.

Twisted's epoll reactor works the same way: it runs everything in the context that called ``reactor.run()``. asyncio
copies the context for each callback, and uvloop for each connection.
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
    """A `context` that is entered for each callback. It shares its variables with the code around the reactor."""

    def __init__(self) -> None:
        self.context = Context()
        self.run: Callable[..., Any] = self.context.run
        """Call a function in the context. Only for calls from outside the context."""

    @property
    def is_entered(self) -> bool:
        """Whether the caller runs inside the context."""
        try:
            self.context.run(bool)
        except RuntimeError:
            return True
        return False

    def enter(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call a function in the context, from inside or outside the context."""
        return call(*arguments) if self.is_entered else self.context.run(call, *arguments)

    @contextmanager
    def all_of_it(self) -> Iterator[None]:
        """
        Copy the variables of the current context into the shared one, and copy them back at the end of the block.

        Inside the shared context it does nothing.
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
