"""The base of the contract's checks: the two ends, which note their calls, and the carrier that connects them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Broken", "Carrier", "Check", "End", "HalfCloseableEnd", "Piecewise", "Planted", "needs", "same"]


class Broken(AssertionError):
    """The transport does not keep the contract."""


class Planted(Exception):
    """An error that a protocol raises for a check. Twisted logs it."""


def same(what: str, expected: object, actual: object) -> None:
    """Raise `Broken` unless `expected` and `actual` are equal."""
    if expected != actual:
        raise Broken(f"{what}: expected {expected!r:.200}, found {actual!r:.200}")


class End(Protocol):
    """One end of the connection. It notes all calls in `notes`, and keeps the received bytes in `data`."""

    transport: Any

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.data = bytearray()
        self.reason: Failure | None = None
        self.busy = False
        self.fails = False

    @contextmanager
    def calling(self) -> Iterator[Any]:
        """Give the transport for calls inside which the protocol must not be called."""
        before, self.busy = self.busy, True
        try:
            yield self.transport
        finally:
            self.busy = before

    def told(self, note: str) -> None:
        """Note a call of the protocol, and whether it came inside another call."""
        self.notes.append(f"{note} inside a call" if self.busy else note)

    def connectionMade(self) -> None:
        """Note that it is connected."""
        self.told("made")

    def dataReceived(self, data: bytes) -> None:
        """Keep received bytes, and note them; consecutive chunks are noted once."""
        self.data += data
        if self.notes[-1] != "data":
            self.told("data")
        if self.fails:
            raise Planted(bytes(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note that the connection is lost, and the reason."""
        self.reason = reason
        self.told(f"lost: {type(reason.value).__name__}")


@implementer(IHalfCloseableProtocol)
class HalfCloseableEnd(End):
    """An end that supports half-close."""

    def readConnectionLost(self) -> None:
        """Note that the peer has closed its side."""
        self.told("read lost")

    def writeConnectionLost(self) -> None:
        """Note that our side is closed."""
        self.told("write lost")


@implementer(IPushProducer, IPullProducer)
class Piecewise:
    """A producer that writes the next of its `pieces` when it is resumed, and unregisters after the last."""

    def __init__(self, transport: Any, *pieces: bytes) -> None:
        self.transport = transport
        self.pieces = list(pieces)
        self.notes: list[str] = []

    def pauseProducing(self) -> None:
        """Note that it must pause."""
        self.notes.append("pause")

    def resumeProducing(self) -> None:
        """Note the call, and write the next piece."""
        self.notes.append("resume")
        if self.pieces:
            self.transport.write(self.pieces.pop(0))
        else:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        """Note that it must stop."""
        self.notes.append("stop")


class Carrier:
    """
    Connects two ends, and lets time pass. Each kind of transport has a subclass, with flags for its features.

    `half_close`: one direction can be closed, as with TCP and UNIX sockets. With TLS it cannot.

    `resets`: an abort reaches the peer as `ConnectionLost`. Over a UNIX socket it looks like a clean end.

    `drops_late_writes`: bytes written after ``loseConnection`` are dropped, as with TLS. TCP sends them.

    `waits_for_idle_producer`: ``loseConnection`` waits for every producer, as with TLS. TCP does not wait for a push
    producer that is not paused.

    `pulls`: pull producers work. Over TLS they need the global reactor, so with a `Clock` they do not.

    `tcp_options`: ``setTcpNoDelay`` and ``setTcpKeepAlive`` have an effect. On a UNIX socket they have no effect.

    `flushes_on_close`: bytes that a producer writes after ``loseConnection``, in the turn in which it unregisters, are
    sent. Twisted's TLS gathers small writes for a turn, and drops these bytes.

    `direct`: ``getPeer`` of each end is ``getHost`` of the other end. Through a proxy it is the proxy's address.

    `reports_causes`: the reason is `ConnectionAborted` after our own abort, and the error itself after an error of the
    protocol. With TLS both are `ConnectionLost`.
    """

    half_close = True
    resets = True
    drops_late_writes = False
    waits_for_idle_producer = False
    pulls = True
    tcp_options = True
    flushes_on_close = True
    reports_causes = True
    direct = True

    async def connect(self, server: End, client: End) -> None:
        """Connect the two ends, and return when both are connected and can send."""
        raise NotImplementedError

    async def turn(self) -> None:
        """Let some time pass, so that bytes under way arrive. With a reactor, these are a few turns."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close everything that was opened."""
        raise NotImplementedError

    async def until(self, predicate: Callable[[], object], what: str) -> None:
        """Let time pass until `predicate` returns true. Raises `Broken`, which names `what`, after 2,000 turns."""
        for _ in range(2000):
            if predicate():
                return
            await self.turn()
        raise Broken(f"waited in vain for: {what}")

    async def lost(self, *ends: End) -> None:
        """Let time pass until these ends have lost the connection."""
        await self.until(lambda: all(each.reason for each in ends), "connectionLost")

    async def pair(self, kind: type[End] = End) -> tuple[End, End]:
        """Return the client's and the server's end of a new connection."""
        client, server = kind(), kind()
        await self.connect(server, client)
        return client, server


Check = Callable[[Carrier], Awaitable[None]]
_C = TypeVar("_C", bound=Check)


def needs(*what: str) -> Callable[[_C], _C]:
    """Mark a check as a check only for carriers that have all of these features."""

    def marked(check: _C) -> _C:
        check.needs = what  # type: ignore[attr-defined] # functions take attributes
        return check

    return marked
