"""
What a connection does on a socket of the system: it sends the replies to a chunk at once, and ends at once.

Twisted's transport would do both in the next turn of the reactor.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from tcpapp import CloseReason, EndedBy, MessageServerFactory, State
from tcpapp.apps import echo
from tcpapp.framing import parser, stream, until
from tests.peers import outcome


class Rig:
    """A connection of a server, over a TCP connection of the system and Twisted's transport, without a reactor."""

    def __init__(self, app: Any = echo, framing: Any = "line") -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.peer = socket.create_connection(listening.getsockname(), timeout=10)
            ours, address = listening.accept()
        ours.setblocking(False)
        self.factory = MessageServerFactory(app, framing, clock=Clock())
        self.protocol: Any = self.factory.buildProtocol(None)
        self.transport: Any = tcp.Server(ours, self.protocol, address, None, 0, MemoryReactorClock())  # type: ignore[arg-type]
        self.protocol.makeConnection(self.transport)
        self.connection = self.protocol.connection
        self.reasons: list[CloseReason] = []
        self.connection.when_closed().addCallback(self.reasons.append)

    def says(self, data: bytes) -> None:
        """Send a chunk, and read the reply."""
        self.protocol.dataReceived(data)
        self.transport.doWrite()


@pytest.fixture
def made() -> Iterator[Callable[..., Rig]]:
    """Make rigs, whose sockets are closed after the test."""
    rigs: list[Rig] = []

    def make(*args: Any) -> Rig:
        rigs.append(Rig(*args))
        return rigs[-1]

    yield make
    for rig in rigs:
        if hasattr(rig.transport, "socket"):
            rig.transport.connectionLost(connectionDone)
        rig.peer.close()


# The replies ---------------------------------------------------------------------------------------------------------


def test_the_replies_to_a_chunk_are_sent_before_the_next_turn(made: Any) -> None:
    """The peer has all replies, in order, when the chunk was handled, and the transport watches for nothing."""
    rig = made()
    for chunk in (b"a\n", b"b\nc\n"):
        rig.protocol.dataReceived(chunk)
        assert rig.peer.recv(100) == chunk
    assert rig.transport.reactor.getWriters() == []
    assert (rig.protocol.info().sent_messages, rig.protocol.info().sent_bytes) == (3, 6)


def test_a_reply_behind_unsent_bytes_waits_for_them(made: Any) -> None:
    """Bytes that the transport still holds come first."""
    rig = made()
    rig.connection.send(b"before")
    rig.protocol.dataReceived(b"a\n")
    rig.transport.doWrite()
    assert rig.peer.recv(100) == b"before\na\n"


def test_a_reply_that_the_system_takes_in_part_is_sent_on(made: Any) -> None:
    """Where the socket is full, the transport has the rest, and the connection is blocked."""
    rig = made(lambda message, connection: bytes(60_000))
    replies = 0
    while not rig.transport.reactor.getWriters():
        rig.protocol.dataReceived(b"a\n")
        replies += 1
    got = 0
    while got < replies * 60_001:
        got += len(rig.peer.recv(1 << 20))
        rig.transport.doWrite()
    assert (got, rig.protocol.info().sent_messages) == (replies * 60_001, replies)


# The end -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("app", [echo, None], ids=["app", "no-app"])
def test_a_connection_at_rest_ends_with_its_peer(made: Any, app: Any) -> None:
    """It is closed as soon as it learns that its peer closed, and the peer has its end, too."""
    rig = made(app)
    rig.says(b"hello\n")
    if app is None:
        assert outcome(rig.connection.receive()) == [b"hello"]
    else:
        assert rig.peer.recv(100) == b"hello\n"
    rig.transport.readConnectionLost(None)
    assert [(each.by, each.rule) for each in rig.reasons] == [(EndedBy.PEER, "end-of-stream")]
    assert (rig.connection.state, rig.factory.connections, rig.peer.recv(100)) == (State.CLOSED, set(), b"")
    assert rig.factory.info().messages == 1


def test_half_a_message_owes_nothing(made: Any) -> None:
    """Half a message cannot be answered: the connection ends at once, as truncated."""
    rig = made()
    rig.says(b"a\nhalf")
    rig.transport.readConnectionLost(None)
    assert [each.rule for each in rig.reasons] == ["truncated-message"]


@parser(max=100)
def with_body() -> Any:
    """A line, and a body behind it."""
    return (yield until(b"\n")), (yield stream(5))


async def waits() -> None:
    """Wait for ever."""
    await Deferred()


OWED: dict[str, tuple[Any, Any, Callable[[Rig], Any]]] = {
    "nothing-came": (echo, "line", lambda rig: None),
    "unsent": (echo, "line", lambda rig: (rig.says(b"a\n"), rig.connection.send(b"unsent").addErrback(str))),
    "waits-for-the-app": (lambda *_: Deferred(), "line", lambda rig: rig.says(b"a\n")),
    "unread": (None, "line", lambda rig: rig.says(b"a\n")),
    "receive": (None, "line", lambda rig: (rig.protocol.info(), rig.connection.receive().addErrback(lambda _: None))),
    "request": (None, "line", lambda rig: rig.connection.request(b"a").addErrback(lambda _: None)),
    "pause": (echo, "line", lambda rig: (rig.says(b"a\n"), rig.connection.pause())),
    "task": (echo, "line", lambda rig: (rig.says(b"a\n"), rig.connection.spawn(waits()))),
    "body": (lambda *_: None, with_body(), lambda rig: rig.says(b"a\nhel")),
}


@pytest.mark.parametrize("name", OWED)
def test_a_connection_that_owes_something_ends_by_its_stages(made: Any, name: str) -> None:
    """What is left to do is done, or fails, first, and the transport closes when it has sent all."""
    app, framing, owe = OWED[name]
    rig = made(app, framing)
    owe(rig)
    rig.transport.readConnectionLost(None)
    assert hasattr(rig.transport, "socket")
    assert rig.reasons == []
