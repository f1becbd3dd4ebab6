"""`MessageClientFactory`, which makes the connections of a client."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from typing_extensions import Unpack

from tcpapp.close_reason import CloseReason
from tcpapp.connection.connection import Connection
from tcpapp.connection.protocol import MessageProtocol
from tcpapp.connection.settings import Options, Settings
from tcpapp.connection.waiters import Waiters
from tcpapp.framing import Framing

__all__ = ["MessageClientFactory"]


class MessageClientFactory(ClientFactory):
    """
    A Twisted `ClientFactory` whose connections carry messages, for any endpoint or ``reactor.connectTCP``.

    See `Settings` for the arguments and their errors. Without an `app`, take the messages with `Connection.receive`.
    The ``connect(factory)`` of an endpoint fires with a `MessageProtocol`, which has the `Connection` as
    ``connection``. After ``connectTCP``, use `when_connected` to get the connection.
    """

    noisy = False
    protocol = MessageProtocol
    serves = False

    def __init__(self, app: Any = None, framing: Framing | str = "line", **options: Unpack[Options]) -> None:
        self.settings = Settings(app, framing, **options)
        self._waiters: Waiters[Connection] = Waiters()

    def when_connected(self) -> Deferred[Connection]:
        """
        Return a Deferred that fires with the next connection of this factory when it is open.

        Fails with Twisted's own error if ``reactor.connectTCP`` cannot connect. Fails with the cause if a connection
        ends before it is open, for example by a failed TLS handshake. It has no time limit, and can be cancelled.
        """
        return self._waiters.wait()

    def buildProtocol(self, addr: IAddress | None) -> MessageProtocol:
        """Return a new connection's protocol. Twisted calls it."""
        return MessageProtocol(self.settings, self)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Fail the waiting calls, because connecting failed. Twisted's ``connectTCP`` calls it; endpoints do not."""
        self._waiters.fail(reason)

    def connection_made(self, connection: Connection) -> None:
        """Do nothing: `connection` has a transport, and is not open yet."""

    def connection_opened(self, connection: Connection) -> None:
        """Fire the waiting calls with `connection`, which is open now."""
        self._waiters.fire(connection)

    def connection_moved_here(self, connection: Connection, age: float) -> None:
        """Fire the waiting calls with `connection`, which another process opened `age` seconds ago."""
        self.connection_opened(connection)

    def connection_closed(self, connection: Connection, reason: CloseReason) -> None:
        """
        Fail the calls that wait for an open connection, because `connection` has ended. Its own calls fail by
        themselves.
        """
        connection.when_open().addErrback(self._waiters.fail)
