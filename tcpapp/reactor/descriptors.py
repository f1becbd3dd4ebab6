"""
Descriptors with their own ``doRead`` and ``doWrite``: ports, datagrams, pipes, and descriptors of the program.

The reactor's own epoll watches them, and uvloop's loop watches that epoll as one descriptor. So they get the same
events as on Twisted's epoll reactor: for a hang-up, an error of the socket, a file. libuv cannot watch them: it ends
the process when a watched descriptor was closed, and drops the watch after an error of the socket.
"""

from __future__ import annotations

import select
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.posixbase import _PollLikeMixin
from twisted.python.log import callWithLogger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcpapp.reactor.loop import Loop

__all__ = ["Descriptors"]

IN, OUT, ENDS = 1, 4, 8 | 16
"""``EPOLLIN``, ``EPOLLOUT``, ``EPOLLERR`` and ``EPOLLHUP``: the kernel's numbers, the same on every machine."""


class Descriptors(_PollLikeMixin):
    """
    Readers and writers by their descriptor, as in `twisted.internet.interfaces.IReactorFDSet`.

    A descriptor has one reader and one writer. A second reader or writer is ignored, as on Twisted's epoll reactor.
    After a descriptor was closed, the reader and the writer of the next descriptor with the same number replace the old
    ones.
    """

    _POLL_DISCONNECTED = ENDS
    _POLL_IN = IN
    _POLL_OUT = OUT

    def __init__(self, loop: Loop, turn: Callable[[], object], disconnect: Callable[..., object]) -> None:
        """
        Begin to watch descriptors on a loop.

        The loop calls ``turn`` when a descriptor is ready; ``turn`` must call `dispatch`. When a reader or writer is
        lost, ``disconnect`` is called with it, the reason, and whether it was reading.
        """
        self._loop = loop
        self._turn = turn
        self._disconnectSelectable = disconnect  # called by Twisted's mixin
        self._reads: dict[int, Any] = {}
        self._writes: dict[int, Any] = {}
        self._begin()

    def _begin(self) -> None:
        self._epoll = select.epoll()
        self._loop.watch(self._epoll.fileno(), self._turn)

    # The watched descriptors -----------------------------------------------------------------------------------------

    @property
    def readers(self) -> list[Any]:
        """Return the readers."""
        return list(self._reads.values())

    @property
    def writers(self) -> list[Any]:
        """Return the writers."""
        return list(self._writes.values())

    def is_read(self, descriptor: int) -> bool:
        """Return whether the descriptor has a reader."""
        return descriptor in self._reads

    def fileno(self) -> int:
        """Return the epoll's own descriptor, which is readable when a watched descriptor is ready."""
        return self._epoll.fileno()

    def add_reader(self, reader: Any) -> None:
        """
        Call ``doRead`` of the reader whenever its descriptor is readable. Raises `OSError` if the system cannot watch
        it.
        """
        self._add(reader, self._reads, self._writes, IN)

    def add_writer(self, writer: Any) -> None:
        """
        Call ``doWrite`` of the writer whenever its descriptor is writable. Raises `OSError` if the system cannot watch
        it.
        """
        self._add(writer, self._writes, self._reads, OUT)

    def _add(self, which: Any, mine: dict[int, Any], others: dict[int, Any], event: int) -> None:
        descriptor = which.fileno()
        known = mine.get(descriptor)
        if known is which:
            return
        if known is None and descriptor not in others:
            self._epoll.register(descriptor, event)
        else:
            try:
                self._epoll.modify(descriptor, IN | OUT if descriptor in others else event)
            except FileNotFoundError:  # the descriptor was closed, and its number was used again
                self._epoll.register(descriptor, event)
                others.pop(descriptor, None)
            else:
                if known is not None:
                    return
        mine[descriptor] = which

    def remove_reader(self, reader: Any) -> None:
        """Stop watching a reader. Does nothing for an unknown reader; its descriptor can be closed already."""
        self._remove(reader, self._reads, self._writes, OUT)

    def remove_writer(self, writer: Any) -> None:
        """Stop watching a writer. Does nothing for an unknown writer; its descriptor can be closed already."""
        self._remove(writer, self._writes, self._reads, IN)

    def _remove(self, which: Any, mine: dict[int, Any], others: dict[int, Any], event: int) -> None:
        descriptor = which.fileno()
        if mine.get(descriptor) is not which:  # the descriptor is closed, or has another number
            for descriptor, each in mine.items():  # noqa: B007 - used after the loop
                if each is which:
                    break
            else:
                return
        del mine[descriptor]
        with suppress(OSError):  # closed
            if descriptor in others:
                self._epoll.modify(descriptor, event)
            else:
                self._epoll.unregister(descriptor)

    def forget(self, descriptor: int) -> None:
        """
        Drop the reader and the writer of a descriptor, because its connection has ended or its number is used again.
        """
        for mine in (self._reads, self._writes):
            if mine.pop(descriptor, None) is not None:
                with suppress(OSError):
                    self._epoll.unregister(descriptor)

    # Reading and writing ---------------------------------------------------------------------------------------------

    def dispatch(self) -> int:
        """Call ``doRead`` and ``doWrite`` of all ready descriptors. Return their number."""
        events = self._epoll.poll(0, len(self._reads) + len(self._writes) + 1)
        unknown = False
        for descriptor, event in events:
            reader, writer = self._reads.get(descriptor), self._writes.get(descriptor)
            if reader is None and writer is None:
                unknown = True
            elif writer is None or reader is writer:
                callWithLogger(reader, self._doReadOrWrite, reader, descriptor, event)
            elif reader is None:
                callWithLogger(writer, self._doReadOrWrite, writer, descriptor, event)
            else:
                self._both(reader, writer, descriptor, event)
        if unknown:
            self._begin_anew()
        return len(events)

    def _both(self, reader: Any, writer: Any, descriptor: int, event: int) -> None:
        """Serve a descriptor whose reader and writer are different objects."""
        if event & (IN | ENDS):
            callWithLogger(reader, self._doReadOrWrite, reader, descriptor, event & ~OUT)
        if event & (OUT | ENDS) and self._writes.get(descriptor) is writer:
            callWithLogger(writer, self._doReadOrWrite, writer, descriptor, event & ~IN)

    def _begin_anew(self) -> None:
        """
        Replace the epoll if it reports a descriptor that has no reader and no writer.

        Such a descriptor was closed while a copy of it stayed open, for example in another process. The kernel keeps
        reporting it, and it cannot be removed.
        """
        if all(each in self._reads or each in self._writes for each, _ in self._epoll.poll(0)):
            return
        before = self._epoll
        self._loop.unwatch(before.fileno())
        before.close()
        self._begin()
        for descriptor in {*self._reads, *self._writes}:
            with suppress(OSError):  # closed, too
                wanted = (IN if descriptor in self._reads else 0) | (OUT if descriptor in self._writes else 0)
                self._epoll.register(descriptor, wanted)
