"""`MessageClientFactory`: the connections of a client."""

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
    A `ClientFactory` whose connections send and receive messages, for any endpoint or ``reactor.connectTCP``.

    See `Settings` for the arguments and their errors. Without an `app` you take the messages with
    `Connection.receive`. An endpoint's ``connect(factory)`` gives you a `MessageProtocol`, whose ``connection`` it is;
    after ``connectTCP``, `when_connected` gives you the connection.
    """

    noisy = False
    protocol = MessageProtocol
    serves = False

    def __init__(self, app: Any = None, framing: Framing | str = "line", **options: Unpack[Options]) -> None:
        self.settings = Settings(app, framing, **options)
        self._waiters: Waiters[Connection] = Waiters()

    def when_connected(self) -> Deferred[Connection]:
        """
        The next connection of this factory, once it is open.

        Fails with Twisted's own error if ``reactor.connectTCP`` cannot connect. Fails with the cause if a connection
        ends before it is open, such as a failed TLS handshake. Waits without a time limit; it can be cancelled.
        """
        return self._waiters.wait()

    def buildProtocol(self, addr: IAddress | None) -> MessageProtocol:
        """A new connection's protocol. Twisted calls it."""
        return MessageProtocol(self.settings, self)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Nobody answered. Twisted's ``connectTCP`` calls it; endpoints do not."""
        self._waiters.fail(reason)

    def connection_made(self, connection: Connection) -> None:
        """`connection` has a transport."""

    def connection_opened(self, connection: Connection) -> None:
        """`connection` is open."""
        self._waiters.fire(connection)

    def connection_moved_here(self, connection: Connection, age: float) -> None:
        """`connection` is open, and was opened `age` seconds ago in another process."""
        self.connection_opened(connection)

    def connection_closed(self, connection: Connection, reason: CloseReason) -> None:
        """`connection` has ended; calls that wait for it to be open fail here, all others in the connection."""
        connection.when_open().addErrback(self._waiters.fail)
