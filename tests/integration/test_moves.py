"""
A connection whose descriptor and state are moved from factory to factory over real sockets. Its peer notices nothing.
"""

from __future__ import annotations

import itertools
import os
import socket
from typing import Any

import pytest
from twisted.internet.protocol import ServerFactory

from tcpapp import MessageServerFactory
from tcpapp.connection.protocol import protocol_of

from .peers import bounded, until

pytestmark = pytest.mark.once  # it lets go of a socket of Twisted's, which each reactor does in its own way

MOVES = 20


def shout(message: bytes, connection: Any) -> bytes:
    """Reply in capitals."""
    return message.upper()


class Adopting(ServerFactory):
    """A factory that gives its connection to `factory`, and loads the state into it."""

    noisy = False

    def __init__(self, factory: MessageServerFactory, state: bytes) -> None:
        self.factory = factory
        self.state = state

    def buildProtocol(self, addr: Any) -> Any:
        protocol: Any = self.factory.buildProtocol(addr)
        protocol.load(self.state)
        return protocol


def move(reactor: Any, old: MessageServerFactory, new: MessageServerFactory) -> None:
    """Move the connection of `old` to `new` by its descriptor and its state, as to another process."""
    [connection] = old.connections
    protocol: Any = protocol_of(connection)
    protocol.pause_at_boundary()
    assert protocol.obstacles() == []
    transport, state = protocol.transport, protocol.dump()
    protocol.release()
    descriptor = os.dup(transport.fileno())
    transport.stopReading()
    transport.stopWriting()
    transport.socket.close()  # without a shutdown
    reactor.adoptStreamConnection(descriptor, socket.AF_INET, Adopting(new, state))
    os.close(descriptor)


@bounded
async def test_each_request_is_answered_before_and_behind_a_move(global_reactor: Any, serve: Any, join: Any) -> None:
    """Each request before and after a move is answered once, and each factory counts its own messages."""
    server = await serve(shout)
    factories = [server.factory, *[MessageServerFactory(shout) for _ in range(MOVES)]]
    client = await join(server)
    for place, (old, new) in enumerate(itertools.pairwise(factories)):
        assert await client.request(b"before %d" % place) == b"BEFORE %d" % place
        behind = client.request(b"behind %d" % place)
        move(global_reactor, old, new)
        assert await behind == b"BEHIND %d" % place
    infos = [each.info() for each in factories]
    assert (sum(each.accepted for each in infos), sum(each.messages for each in infos)) == (1, 2 * MOVES)
    assert [each.connections for each in infos] == [0] * MOVES + [1]
    client.close()
    await client.when_closed()
    await until(global_reactor, lambda: not factories[-1].connections)
    assert dict(factories[-1].info().closed) == {"end-of-stream": 1}


@bounded
async def test_half_a_message_is_completed_after_a_move(global_reactor: Any, serve: Any, dial: Any) -> None:
    """The old factory has the beginning of a message, and the new one reads the rest and answers."""
    server = await serve(shout)
    factory = MessageServerFactory(shout)
    peer = await dial(server.port)
    peer.say(b"hel")
    await until(global_reactor, lambda: server.factory.info().bytes == 3)
    move(global_reactor, server.factory, factory)
    peer.say(b"lo\n")
    assert await peer.heard(6) == b"HELLO\n"
    peer.transport.loseConnection()
    await until(global_reactor, lambda: not factory.connections)
