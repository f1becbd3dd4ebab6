"""The base of the contract's checks: the two ends that take notes, and the carrier that connects them."""

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
    """An error that a protocol raises in a check. Twisted logs it."""


def same(what: str, expected: object, actual: object) -> None:
    """Raise `Broken` unless the two are equal."""
    if expected != actual:
        raise Broken(f"{what}: expected {expected!r:.200}, found {actual!r:.200}")


class End(Protocol):
    """One end of the connection: it notes all calls in `notes`, and keeps the received `data`."""

    transport: Any

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.data = bytearray()
        self.reason: Failure | None = None
        self.busy = False
        self.fails = False

    @contextmanager
    def calling(self) -> Iterator[Any]:
        """The transport, for calls inside which the protocol must not be called."""
        before, self.busy = self.busy, True
        try:
            yield self.transport
        finally:
            self.busy = before

    def told(self, note: str) -> None:
        """Note a call, and whether it came inside another call."""
        self.notes.append(f"{note} inside a call" if self.busy else note)

    def connectionMade(self) -> None:
        """It is connected."""
        self.told("made")

    def dataReceived(self, data: bytes) -> None:
        """Bytes came; consecutive chunks are noted once."""
        self.data += data
        if self.notes[-1] != "data":
            self.told("data")
        if self.fails:
            raise Planted(bytes(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self.reason = reason
        self.told(f"lost: {type(reason.value).__name__}")


@implementer(IHalfCloseableProtocol)
class HalfCloseableEnd(End):
    """An end that knows half-close."""

    def readConnectionLost(self) -> None:
        """The peer sends no more."""
        self.told("read lost")

    def writeConnectionLost(self) -> None:
        """We send no more."""
        self.told("write lost")


@implementer(IPushProducer, IPullProducer)
class Piecewise:
    """A producer that writes the next of its `pieces` when it is resumed, and unregisters after the last."""

    def __init__(self, transport: Any, *pieces: bytes) -> None:
        self.transport = transport
        self.pieces = list(pieces)
        self.notes: list[str] = []

    def pauseProducing(self) -> None:
        """Wait."""
        self.notes.append("pause")

    def resumeProducing(self) -> None:
        """Go on."""
        self.notes.append("resume")
        if self.pieces:
            self.transport.write(self.pieces.pop(0))
        else:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        """It is over."""
        self.notes.append("stop")


class Carrier:
    """
    Connects two ends, and lets time pass. Each kind of transport has a subclass, with flags for missing features.

    `half_close`: it can close one direction, as TCP and UNIX sockets can and TLS cannot.

    `resets`: an abort reaches the peer as `ConnectionLost`. Over a UNIX socket it looks like an orderly end.

    `drops_late_writes`: bytes written after ``loseConnection`` are dropped, as in TLS; TCP sends them.

    `waits_for_idle_producer`: ``loseConnection`` waits for every producer, as in TLS; TCP does not wait for a push
    producer that is not paused.

    `pulls`: pull producers work. Over TLS they need the global reactor, so with a `Clock` they do not.

    `tcp_options`: ``setTcpNoDelay`` and ``setTcpKeepAlive`` have an effect. On a UNIX socket they have none.

    `flushes_on_close`: bytes that a producer writes in the turn in which it unregisters, after ``loseConnection``,
    are sent. Twisted's TLS gathers small writes for a turn, and drops these.

    `direct`: each end's peer is the other's host. Through a proxy, it is the proxy's.

    `reports_causes`: the reason is `ConnectionAborted` after our own abort, and an error of the protocol is the reason;
    TLS makes `ConnectionLost` of both.
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
        """Connect them, and return when both are connected and can talk."""
        raise NotImplementedError

    async def turn(self) -> None:
        """Let some time pass, so that everything under way arrives; with a reactor, a few turns of it."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close all that was opened."""
        raise NotImplementedError

    async def until(self, predicate: Callable[[], object], what: str) -> None:
        """Let time pass until `predicate` is true. Raises `Broken` after 2,000 turns."""
        for _ in range(2000):
            if predicate():
                return
            await self.turn()
        raise Broken(f"waited in vain for: {what}")

    async def lost(self, *ends: End) -> None:
        """Let time pass until these ends have lost the connection."""
        await self.until(lambda: all(each.reason for each in ends), "connectionLost")

    async def pair(self, kind: type[End] = End) -> tuple[End, End]:
        """Return a client's end and a server's, connected."""
        client, server = kind(), kind()
        await self.connect(server, client)
        return client, server


Check = Callable[[Carrier], Awaitable[None]]
_C = TypeVar("_C", bound=Check)


def needs(*what: str) -> Callable[[_C], _C]:
    """Mark a check as one for carriers that have all of these features."""

    def marked(check: _C) -> _C:
        check.needs = what  # type: ignore[attr-defined] # functions take attributes
        return check

    return marked
