"""Our framings talk with Twisted's own receivers, each of the two as the client and as the server."""

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
"""Up to 200 bytes each, so that the smallest length field can tell them."""


def upper(message: bytes, connection: tcpapp.Connection) -> bytes:
    return message.upper()


@pytest.mark.parametrize("spec", PEERS)
@pytest_twisted.ensureDeferred
async def test_our_server_answers_twisteds_client(spec: str, global_reactor: Any) -> None:
    """Twisted's receiver sends the messages, and receives each in capitals, in order."""
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
async def test_our_client_is_answered_by_twisteds_server(spec: str, global_reactor: Any) -> None:
    """Our client's requests are answered by Twisted's receiver, and matched in order."""
    factory = PeerFactory(PEERS[spec], upper=True, expected=len(MESSAGES))
    port = await TCP4ServerEndpoint(global_reactor, 0, interface="127.0.0.1").listen(factory)
    client = await tcpapp.connect(f"tcp:127.0.0.1:{port.getHost().port}", framing=spec, reactor=global_reactor)
    asked = gatherResults([client.request(message) for message in MESSAGES])
    assert await asked.addTimeout(30, global_reactor) == [message.upper() for message in MESSAGES]
    assert factory.made[0].came == MESSAGES
    await client.close()
    await factory.made[0].ended
    await port.stopListening()
