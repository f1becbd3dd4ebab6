"""Peers that are not part of tcpapp, a time limit for each test, and apps with events to wait for."""

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

from tcpapp.connection.protocol import protocol_of
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
    Run turns of the reactor until `condition` holds; the test's time limit applies.

    Use it for states without an event, such as the contents of an inbox or an outbox. In all other cases use an app's
    `moment`.
    """
    while not condition():
        await deferLater(reactor, 0)


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """A peer of plain bytes. It keeps the received bytes, and notes which directions have ended."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self.read_ended = False
        self.lost: Deferred[BaseException] = Deferred()
        self._waiting: list[tuple[int, Deferred[bytes]]] = []

    @property
    def data(self) -> bytes:
        """Return the received bytes."""
        return b"".join(self._parts)

    def say(self, data: bytes) -> None:
        self.transport.write(data)

    def end(self) -> None:
        """Stop sending, and go on reading: the half-close of ``nc -N`` and ``socat``."""
        self.transport.loseWriteConnection()

    def reset(self) -> None:
        """Close with an RST in place of a FIN."""
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abortConnection()

    def heard(self, size: int) -> Deferred[bytes]:
        """Return a Deferred that fires with the received bytes, once there are `size` bytes or more."""
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
    """A factory of peers, which logs nothing."""

    noisy = False
    protocol = Peer

    def buildProtocol(self, addr: object) -> Peer:
        return Peer()


class Eventful:
    """An app with events that a test can wait for."""

    def __init__(self) -> None:
        self._moments: list[tuple[Callable[[], object], Deferred[None]]] = []

    def moment(self, condition: Callable[[], object]) -> Deferred[None]:
        """Return a Deferred that fires when `condition` holds, which is checked now and after each event."""
        told: Deferred[None] = Deferred()
        self._moments.append((condition, told))
        self._look()
        return told

    def happened(self, connection: Any) -> None:
        """
        Note an event. Deferreds whose condition holds fire in the next turn of the reactor, and not inside the app.
        """
        protocol_of(connection).clock.callLater(0, self._look)

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
    """An app that replies when the test says so. `messages` are unanswered, and `replies` are their Deferreds."""

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
        """Reply to each message with the message itself, also to later ones."""
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
