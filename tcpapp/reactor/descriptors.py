"""
Descriptors that are read and written by their own ``doRead`` and ``doWrite``: ports, datagrams, pipes, a program's own.

This reactor's own epoll watches them, and uvloop's loop watches that epoll as one descriptor. So they get the same
events as on Twisted's epoll reactor: a hang-up, an error of the socket, a file. libuv cannot watch them: it ends the
process when a watched descriptor was closed, and drops the watch after an error of the socket.
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

    A descriptor has one reader and one writer. A second one is ignored, as on Twisted's epoll reactor. If a descriptor
    was closed, its reader and writer are replaced by those of the next descriptor with the same number.
    """

    _POLL_DISCONNECTED = ENDS
    _POLL_IN = IN
    _POLL_OUT = OUT

    def __init__(self, loop: Loop, turn: Callable[[], object], disconnect: Callable[..., object]) -> None:
        """
        Make one that a loop watches.

        ``turn`` is called by the loop when there is something to do; it calls `dispatch`. ``disconnect`` is called
        with a reader or writer, the reason, and whether it read, when it is lost.
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
        """Whether the descriptor has a reader."""
        return descriptor in self._reads

    def fileno(self) -> int:
        """Return the descriptor that is readable when one of these is to be read or written."""
        return self._epoll.fileno()

    def add_reader(self, reader: Any) -> None:
        """Call ``doRead`` whenever the descriptor is readable. Raises `OSError` if the system cannot watch it."""
        self._add(reader, self._reads, self._writes, IN)

    def add_writer(self, writer: Any) -> None:
        """Call ``doWrite`` whenever the descriptor is writable. Raises `OSError` if the system cannot watch it."""
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
            except FileNotFoundError:  # the descriptor was closed, and its number is reused
                self._epoll.register(descriptor, event)
                others.pop(descriptor, None)
            else:
                if known is not None:
                    return
        mine[descriptor] = which

    def remove_reader(self, reader: Any) -> None:
        """Stop watching a reader. It can be closed by now, and unknown."""
        self._remove(reader, self._reads, self._writes, OUT)

    def remove_writer(self, writer: Any) -> None:
        """Stop watching a writer. It can be closed by now, and unknown."""
        self._remove(writer, self._writes, self._reads, IN)

    def _remove(self, which: Any, mine: dict[int, Any], others: dict[int, Any], event: int) -> None:
        descriptor = which.fileno()
        if mine.get(descriptor) is not which:  # closed, or under another number
            for descriptor, each in mine.items():  # noqa: B007 - the one that is found
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
        """Drop the reader and the writer of a descriptor, because its connection has ended or the number is reused."""
        for mine in (self._reads, self._writes):
            if mine.pop(descriptor, None) is not None:
                with suppress(OSError):
                    self._epoll.unregister(descriptor)

    # Their work ------------------------------------------------------------------------------------------------------

    def dispatch(self) -> int:
        """Call ``doRead`` and ``doWrite`` where that is possible now. Return the number of ready descriptors."""
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

        Such a descriptor was closed while a copy of it stayed open, for example in another process. The kernel goes on
        to report it, and it cannot be removed.
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
