"""tcpapp's framings work with Twisted's own receivers: each side is once the client and once the server."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint

import tcpapp

from .peers import PEERS, PeerFactory

MESSAGES = [
    b"hello",
    b"x",
    b"",
    b"a message of some length " * 8,
    b"\0\1\2\xff",
    *[b"number %d" % n for n in range(200)],
]
"""Messages of at most 200 bytes, so that they fit into the smallest length field."""


def upper(message: bytes, connection: tcpapp.Connection) -> bytes:
    return message.upper()


@pytest.mark.parametrize("spec", PEERS)
@pytest_twisted.ensureDeferred
async def test_a_tcpapp_server_answers_twisteds_client(spec: str, global_reactor: Any) -> None:
    """Twisted's receiver sends messages to a tcpapp server, and gets each back in capitals, in order."""
    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", upper, framing=spec, reactor=global_reactor)
    factory = PeerFactory(PEERS[spec], upper=False, expected=len(MESSAGES))
    peer = await TCP4ClientEndpoint(global_reactor, "127.0.0.1", server.port).connect(factory)
    for message in MESSAGES:
        peer.say(message)
    assert await peer.all_came.addTimeout(30, global_reactor) == [message.upper() for message in MESSAGES]
    await server.close()
    await peer.ended


@pytest.mark.parametrize("spec", PEERS)
@pytest_twisted.ensureDeferred
async def test_twisteds_server_answers_a_tcpapp_client(spec: str, global_reactor: Any) -> None:
    """Twisted's receiver answers the requests of a tcpapp client, and each reply belongs to its request."""
    factory = PeerFactory(PEERS[spec], upper=True, expected=len(MESSAGES))
    port = await TCP4ServerEndpoint(global_reactor, 0, interface="127.0.0.1").listen(factory)
    client = await tcpapp.connect(f"tcp:127.0.0.1:{port.getHost().port}", framing=spec, reactor=global_reactor)
    asked = gatherResults([client.request(message) for message in MESSAGES])
    assert await asked.addTimeout(30, global_reactor) == [message.upper() for message in MESSAGES]
    assert factory.made[0].came == MESSAGES
    await client.close()
    await factory.made[0].ended
    await port.stopListening()
