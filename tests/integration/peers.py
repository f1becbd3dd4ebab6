"""Peers that are not of tcpapp's making, a bound for each test, and moments to wait for."""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.patience import PATIENCE


def bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
    """Run an async test under pytest-twisted, and fail it after `PATIENCE` seconds."""

    @pytest_twisted.ensureDeferred
    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        from twisted.internet import reactor

        await Deferred.fromCoroutine(test(*args, **kwargs)).addTimeout(PATIENCE, reactor)

    return run


async def until(reactor: Any, condition: Callable[[], bool]) -> None:
    """
    Give the reactor turns until `condition` holds; the test's bound is the bound.

    For what a connection tells nobody: what its inbox and outbox hold. For all else there is an app's `moment`.
    """
    while not condition():
        await deferLater(reactor, 0)


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """Bytes in, bytes out; keeps what came, and knows which of its two sides have ended."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self.read_ended = False
        self.lost: Deferred[BaseException] = Deferred()
        self._waiting: list[tuple[int, Deferred[bytes]]] = []

    @property
    def data(self) -> bytes:
        """What came."""
        return b"".join(self._parts)

    def say(self, data: bytes) -> None:
        self.transport.write(data)

    def end(self) -> None:
        """Say no more, and go on listening: the half-close of ``nc -N`` and ``socat``."""
        self.transport.loseWriteConnection()

    def reset(self) -> None:
        """Close with an RST in place of a FIN."""
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abortConnection()

    def heard(self, size: int) -> Deferred[bytes]:
        """What came, once it is `size` bytes or more."""
        told: Deferred[bytes] = Deferred()
        self._waiting.append((size, told))
        self._tell()
        return told

    def dataReceived(self, data: bytes) -> None:
        self.size += len(data)
        self._parts.append(data)
        self._tell()

    def readConnectionLost(self) -> None:
        self.read_ended = True
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(reason.value)

    def _tell(self) -> None:
        ready = [each for each in self._waiting if self.size >= each[0]]
        self._waiting = [each for each in self._waiting if each not in ready]
        for _, told in ready:
            told.callback(self.data)


class PeerFactory(ClientFactory):
    """Makes peers, silently."""

    noisy = False
    protocol = Peer

    def buildProtocol(self, addr: object) -> Peer:
        return Peer()


class Eventful:
    """An app of whose events the test waits for one."""

    def __init__(self) -> None:
        self._moments: list[tuple[Callable[[], object], Deferred[None]]] = []

    def moment(self, condition: Callable[[], object]) -> Deferred[None]:
        """Fires when `condition` holds: it is looked at now, and at each event."""
        told: Deferred[None] = Deferred()
        self._moments.append((condition, told))
        self._look()
        return told

    def happened(self, connection: Any) -> None:
        """There was an event; waiting calls fire in the reactor's next turn, not inside of the app."""
        connection.clock.callLater(0, self._look)

    def _look(self) -> None:
        come = [each for each in self._moments if each[0]()]
        self._moments = [each for each in self._moments if each not in come]
        for _, told in come:
            told.callback(None)

    def opened(self, connection: Any) -> None:
        self.happened(connection)

    def closed(self, connection: Any, reason: Any) -> None:
        self.happened(connection)


class InHand(Eventful):
    """An app that answers when the test says so: `messages` are in its hand, and what answers them."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []
        self.replies: list[Deferred[bytes]] = []
        self.answers_at_once = False

    def received(self, message: bytes, connection: Any) -> bytes | Deferred[bytes]:
        if self.answers_at_once:
            return message
        self.messages.append(message)
        self.replies.append(Deferred())
        self.happened(connection)
        return self.replies[-1]

    def answer_all(self) -> None:
        """Answer with the messages themselves; so are those answered that come from now on, in this turn or later."""
        self.answers_at_once = True
        while self.replies:
            self.replies.pop(0).callback(self.messages.pop(0))


class Noted(Eventful):
    """An app that echoes, and notes each connection and its end."""

    def __init__(self) -> None:
        super().__init__()
        self.opened_by: list[Any] = []
        self.reasons: list[Any] = []

    def opened(self, connection: Any) -> None:
        self.opened_by.append(connection)
        self.happened(connection)

    def received(self, message: bytes, connection: Any) -> bytes:
        return message

    def closed(self, connection: Any, reason: Any) -> None:
        self.reasons.append(reason)
        self.happened(connection)
