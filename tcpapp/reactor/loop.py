"""
The loop: uvloop's, with changes that a reactor needs.

``add_reader`` and ``add_writer`` are as in asyncio: a closed descriptor is forgotten, and a descriptor with an error is
reported again and again. libuv ends the process for a closed one, and reports no more events after an error.
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
    """uvloop's loop. asyncio's libraries run in it beside the reactor."""

    def __init__(self) -> None:
        super().__init__()
        self._selector: selectors.BaseSelector | None = None
        self.processes = 0
        """
        How many processes started by asyncio run now: while there is one, libuv receives the signals of all processes.
        """
        self.on_processes: Callable[[], object] = int
        """Called when their number has changed."""

    @override
    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Handle an error of a callback, as asyncio does; but ignore `NotReading`, which is no error."""
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
        """Call this whenever a descriptor is readable, by libuv itself: it must not be closed before `unwatch`."""
        super().add_reader(descriptor, call)

    def unwatch(self, descriptor: int) -> None:
        """Call it no more."""
        super().remove_reader(descriptor)

    @override
    def add_reader(self, fd: Any, callback: Callable[[Unpack[Ts]], object], *args: Unpack[Ts]) -> None:
        """See `asyncio.loop.add_reader`."""
        super().remove_reader(fd)  # raises for a transport's descriptor, or an invalid one
        self._add(fd, READ, Handle(callback, args, self, None))

    @override
    def remove_reader(self, fd: Any) -> bool:  # type: ignore[override]  # as asyncio has it, not as uvloop declares it
        """See `asyncio.loop.remove_reader`."""
        super().remove_reader(fd)
        return self._remove(fd, READ)

    @override
    def add_writer(self, fd: Any, callback: Callable[[Unpack[Ts]], object], *args: Unpack[Ts]) -> None:
        """See `asyncio.loop.add_writer`."""
        super().remove_writer(fd)
        self._add(fd, WRITE, Handle(callback, args, self, None))

    @override
    def remove_writer(self, fd: Any) -> bool:  # type: ignore[override]  # likewise
        """See `asyncio.loop.remove_writer`."""
        super().remove_writer(fd)
        return self._remove(fd, WRITE)

    def _add(self, fd: Any, event: int, handle: Handle) -> None:
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
            self.watch(self._selector.fileno(), self._select)
        known = self._selector.get_map().get(fd)
        handles = {event: handle}
        if known is not None:  # registered again, in case it was closed and its number is reused
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
        """Cancel a handle, even if its event was already found. Return whether there was one."""
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
        """See `asyncio.loop.subprocess_exec`."""
        return await self._started(super().subprocess_exec(*given, **named))

    @override
    async def subprocess_shell(self, *given: Any, **named: Any) -> Any:
        """See `asyncio.loop.subprocess_shell`."""
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
