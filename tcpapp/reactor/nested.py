"""
``reactor.iterate()`` inside a callback of the reactor.

uvloop's loop cannot run inside itself. So this module handles timers, calls from threads, descriptors and connections
as Twisted's other reactors do. It waits until a descriptor can be read or written, then calls ``doRead`` and
``doWrite`` of its object. The work of asyncio's libraries waits until the callback has returned.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from twisted.python import log

from tcpapp.reactor.descriptors import ENDS, IN, OUT

__all__ = ["go_round", "write"]


class Stream(Protocol):
    """The methods of a connection that a turn inside a callback uses."""

    _is_plain: bool
    _reading: bool
    _writing: bool
    _blocked: bool

    def fileno(self) -> int:
        """Return the descriptor of its socket; -1 if the program has closed it."""

    def doRead(self) -> Any:  # noqa: N802 - Twisted's name
        """Read. Returns the reason if the connection is lost."""

    def doWrite(self) -> Any:  # noqa: N802 - as above
        """Write. Returns the reason if the connection is lost."""

    def leave_nested(self) -> None:
        """Note the end of the turn inside a callback."""

    def _lose(self, why: Any, by_reading: bool) -> None: ...


class Unwritten(Protocol):
    """The methods of a connection with unwritten bytes."""

    _tempDataBuffer: list[bytes]  # noqa: N815 - Twisted's name
    _tempDataLen: int  # noqa: N815 - Twisted's name

    def writeSomeData(self, data: bytes) -> Any:  # noqa: N802 - Twisted's name
        """Write to the socket. Returns the number of written bytes, or the reason if the connection is lost."""

    def _has_written(self) -> Any: ...


class Connections(Protocol):
    """The connections on uvloop."""

    def __iter__(self) -> Iterator[Stream]: ...

    def get(self, descriptor: int) -> Stream | None:
        """Return the connection whose socket has this descriptor."""


class Ports(Protocol):
    """The ports that are listened on."""

    def __iter__(self) -> Iterator[Any]: ...

    def __contains__(self, port: object) -> bool: ...


class Reactor(Protocol):
    """The parts of the reactor that a turn inside a callback uses."""

    inside: int
    descriptors: Any
    threadCallQueue: list[Any]  # noqa: N815 - Twisted's name

    @property
    def connections(self) -> Connections:
        """The connections on uvloop."""

    @property
    def ports(self) -> Ports:
        """The ports that are listened on."""

    def runUntilCurrent(self) -> None:  # noqa: N802 - Twisted's name
        """Run the calls that are due."""

    def accept(self, port: Any) -> None:
        """Accept the clients that wait at a `port`."""


def go_round(reactor: Reactor, delay: float) -> None:
    """Run the calls that are due, wait at most `delay` seconds for events, and handle the events."""
    reactor.inside += 1
    for stream in reactor.connections:
        stream._is_plain = False
    try:
        delay = 0 if reactor.threadCallQueue else delay
        reactor.runUntilCurrent()
        for which, event in ready(reactor, delay):
            if which is None:
                reactor.descriptors.dispatch()
            elif reactor.connections.get(which.fileno()) is which:
                log.callWithLogger(which, step, which, event)
            elif which in reactor.ports:
                reactor.accept(which)
    finally:
        reactor.inside -= 1
        if not reactor.inside:
            for stream in reactor.connections:
                stream.leave_nested()


def ready(reactor: Reactor, delay: float) -> list[tuple[Any, int]]:
    """
    Wait, and return the connections and ports that can be read or written; `None` stands for the other descriptors.
    """
    waiting = select.poll()
    found: dict[int, Any] = {}
    if reactor.descriptors is not None:
        found[reactor.descriptors.fileno()] = None
        waiting.register(reactor.descriptors.fileno(), IN)
    for port in reactor.ports:
        found[port.watched()] = port
        waiting.register(port.watched(), IN)
    for stream in reactor.connections:
        wanted = (IN if stream._reading else 0) | (OUT if stream._writing and not stream._blocked else 0)
        if wanted and stream.fileno() >= 0:  # otherwise the program has closed its socket
            found[stream.fileno()] = stream
            waiting.register(stream.fileno(), wanted)
    return [(found[descriptor], event) for descriptor, event in waiting.poll(delay * 1000)]


def step(stream: Stream, event: int) -> None:
    """Read and write a connection as Twisted's reactors do."""
    why: Any = None
    reads = False
    try:
        if stream._reading and event & (IN | ENDS):
            reads, why = True, stream.doRead()
        if not why and stream._writing and event & (OUT | ENDS):
            reads, why = False, stream.doWrite()
    except BaseException:  # noqa: BLE001 - whatever it is, it is an error of this connection, as in Twisted's reactors
        why = sys.exc_info()[1]
        log.err()
    if why:
        stream._lose(why, reads)


def write(stream: Unwritten) -> Any:
    """
    Write the unwritten bytes directly to the socket, as many as the kernel accepts: uvloop writes nothing meanwhile.
    """
    if stream._tempDataLen:
        data = b"".join(stream._tempDataBuffer)
        sent = stream.writeSomeData(data)
        if not isinstance(sent, int):
            return sent
        stream._tempDataBuffer[:] = [data[sent:]] if sent < len(data) else []
        stream._tempDataLen -= sent
        if stream._tempDataLen:
            return None
    return stream._has_written()
