"""
uvloop's loop, with the changes that a reactor needs.

``add_reader`` and ``add_writer`` work as in asyncio: a closed descriptor is forgotten, and a descriptor with an error
is reported again and again. libuv would end the process for a closed descriptor, and report no more events after an
error.
"""

from __future__ import annotations

import selectors
from asyncio import Handle
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvloop
from typing_extensions import TypeVarTuple, Unpack, override

from tcpapp.reactor.pieces import NotReading

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Loop"]

Ts = TypeVarTuple("Ts")

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Loop(uvloop.Loop):
    """uvloop's loop. Libraries of asyncio run on it together with the reactor."""

    def __init__(self) -> None:
        super().__init__()
        self._selector: selectors.BaseSelector | None = None
        self.processes = 0
        """
        The number of running processes that asyncio started. While there is one, libuv gets the signals of all
        processes.
        """
        self.on_processes: Callable[[], object] = int
        """The function that is called when that number has changed."""

    @override
    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Handle an error of a callback as asyncio does, but ignore `NotReading`, which is no error."""
        if not isinstance(context.get("exception"), NotReading):
            super().call_exception_handler(context)

    @override
    def close(self) -> None:
        """Close the loop, and its watch on descriptors."""
        if self._selector is not None and not self.is_running():
            self.unwatch(self._selector.fileno())  # type: ignore[attr-defined]  # each kind of the systems uvloop is for
            self._selector.close()
            self._selector = None
        super().close()

    # Descriptors -------------------------------------------------------------------------------------------------

    def watch(self, descriptor: int, call: Callable[[], object]) -> None:
        """Call `call` whenever a descriptor is readable. libuv watches it: it must not be closed before `unwatch`."""
        super().add_reader(descriptor, call)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching a descriptor that `watch` was called for."""
        super().remove_reader(descriptor)

    @override
    def add_reader(self, fd: Any, callback: Callable[[Unpack[Ts]], object], *args: Unpack[Ts]) -> None:
        """Do as `asyncio.loop.add_reader` does."""
        super().remove_reader(fd)  # raises for a transport's descriptor, or an invalid one
        self._add(fd, READ, Handle(callback, args, self, None))

    @override
    def remove_reader(self, fd: Any) -> bool:  # type: ignore[override]  # as asyncio has it, not as uvloop declares it
        """Do as `asyncio.loop.remove_reader` does."""
        super().remove_reader(fd)
        return self._remove(fd, READ)

    @override
    def add_writer(self, fd: Any, callback: Callable[[Unpack[Ts]], object], *args: Unpack[Ts]) -> None:
        """Do as `asyncio.loop.add_writer` does."""
        super().remove_writer(fd)
        self._add(fd, WRITE, Handle(callback, args, self, None))

    @override
    def remove_writer(self, fd: Any) -> bool:  # type: ignore[override]  # likewise
        """Do as `asyncio.loop.remove_writer` does."""
        super().remove_writer(fd)
        return self._remove(fd, WRITE)

    def _add(self, fd: Any, event: int, handle: Handle) -> None:
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
            self.watch(self._selector.fileno(), self._select)
        known = self._selector.get_map().get(fd)
        handles = {event: handle}
        if known is not None:  # registered again, in case it was closed and its number was used again
            self._cancel(known, event)
            handles = {**known.data, **handles}
            self._selector.unregister(fd)
        self._selector.register(fd, sum(handles), handles)

    def _remove(self, fd: Any, event: int) -> bool:
        known = None if self._selector is None else self._selector.get_map().get(fd)
        if self._selector is None or known is None or not self._cancel(known, event):
            return False
        handles = {each: handle for each, handle in known.data.items() if each != event}
        self._selector.unregister(fd)
        if handles:
            with suppress(OSError):  # it was closed
                self._selector.register(fd, sum(handles), handles)
        return True

    @staticmethod
    def _cancel(known: selectors.SelectorKey, event: int) -> bool:
        """Cancel the handle of an event, even if the event was found already. Return whether there was a handle."""
        if event in known.data:
            known.data[event].cancel()
        return event in known.data

    def _select(self) -> None:
        assert self._selector is not None
        for key, events in self._selector.select(0):
            for event, handle in list(key.data.items()):
                if events & event and not handle.cancelled():
                    handle._run()

    # Processes ---------------------------------------------------------------------------------------------------

    @override
    async def subprocess_exec(self, *given: Any, **named: Any) -> Any:
        """Do as `asyncio.loop.subprocess_exec` does, and count the process."""
        return await self._started(super().subprocess_exec(*given, **named))

    @override
    async def subprocess_shell(self, *given: Any, **named: Any) -> Any:
        """Do as `asyncio.loop.subprocess_shell` does, and count the process."""
        return await self._started(super().subprocess_shell(*given, **named))

    async def _started(self, starting: Any) -> Any:
        self._count(1)
        try:
            transport, protocol = await starting
        except BaseException:
            self._count(-1)
            raise
        transport._wait().add_done_callback(lambda _: self._count(-1))
        return transport, protocol

    def _count(self, more: int) -> None:
        self.processes += more
        self.on_processes()
