"""The client's side of the framing ``nats`` talks with nats-server, and its server's side with a client of tcpapp."""

from __future__ import annotations

import json
from typing import Any

import pytest_twisted

import tcpapp
from tcpapp.framing import nats
from tcpapp.framing.nats import NatsMessage
from tests.interop.services import Services

CONNECT = NatsMessage((b"CONNECT", b'{"verbose":true,"pedantic":true,"headers":true,"no_responders":true}'))
OK = NatsMessage((b"+OK",))
HEADERS = b"NATS/1.0\r\nA: b\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_a_client_of_tcpapp_publishes_and_subscribes(services: Services, global_reactor: Any) -> None:
    """The client is greeted, connects, and receives its own messages, with headers and without, and large ones."""
    endpoint = f"tcp:127.0.0.1:{services.nats()}"
    client = await tcpapp.connect(endpoint, framing=nats(side="client", max=2 << 20), reactor=global_reactor)
    verb, info = (await client.receive()).words
    assert verb == b"INFO"
    assert json.loads(info)["headers"] is True
    assert await client.request(CONNECT) == OK
    assert await client.request(NatsMessage((b"PING",))) == NatsMessage((b"PONG",))
    assert await client.request(NatsMessage((b"SUB", b"greet.*", b"9"))) == OK
    large = bytes(1 << 20)
    for words, payload, headers in (
        ((b"PUB", b"greet.a"), b"hello", None),
        ((b"PUB", b"greet.a", b"reply"), b"", None),
        ((b"PUB", b"greet.b"), large, None),
        ((b"HPUB", b"greet.c"), b"hello", HEADERS),
        ((b"HPUB", b"greet.c", b"reply"), b"\r\n", HEADERS),
    ):
        await client.send(NatsMessage(words, payload, headers))
        verb, subject, *reply = words
        expected = {b"PUB": b"MSG", b"HPUB": b"HMSG"}[verb], subject, b"9", *reply
        assert {await client.receive(), await client.receive()} == {OK, NatsMessage(expected, payload, headers)}
    assert await client.request(NatsMessage((b"UNSUB", b"9"))) == OK
    await client.close()


@pytest_twisted.ensureDeferred
async def test_nats_server_refuses_what_it_does_not_permit(services: Services, global_reactor: Any) -> None:
    """An error of nats-server is a message, and then nats-server closes the connection."""
    endpoint = f"tcp:127.0.0.1:{services.nats()}"
    client = await tcpapp.connect(endpoint, framing=nats(side="client", max=8 << 20), reactor=global_reactor)
    await client.receive()
    assert await client.request(CONNECT) == OK
    client.send(NatsMessage((b"PUB", b"a"), bytes((1 << 20) + 1))).addErrback(lambda _: None)
    assert await client.receive() == NatsMessage((b"-ERR", b"'Maximum Payload Violation'"))
    assert (await client.when_closed()).rule in ("end-of-stream", "lost", "reset")


class Broker:
    """A server that greets a client, and gives each message back to it."""

    def opened(self, connection: tcpapp.Connection) -> NatsMessage:
        return NatsMessage((b"INFO", b'{"server_id":"tcpapp"}'))

    def received(self, message: NatsMessage, connection: tcpapp.Connection) -> NatsMessage:
        words, payload, headers = message
        if payload is None:
            return NatsMessage((b"PONG",)) if words[0] == b"PING" else OK
        return NatsMessage((b"MSG" if headers is None else b"HMSG", words[1], b"1"), payload, headers)


@pytest_twisted.ensureDeferred
async def test_a_server_of_tcpapp_serves_the_same_client(global_reactor: Any) -> None:
    """A server with the framing reads what the client's side sends."""
    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", Broker, framing=nats(), reactor=global_reactor)
    client = await tcpapp.connect(f"tcp:127.0.0.1:{server.port}", framing=nats(side="client"), reactor=global_reactor)
    assert (await client.receive()).words[0] == b"INFO"
    assert await client.request(CONNECT) == OK
    assert await client.request(NatsMessage((b"PING",))) == NatsMessage((b"PONG",))
    assert await client.request(NatsMessage((b"PUB", b"a"), b"x")) == NatsMessage((b"MSG", b"a", b"1"), b"x")
    sent = NatsMessage((b"HPUB", b"a"), b"x", HEADERS)
    assert await client.request(sent) == NatsMessage((b"HMSG", b"a", b"1"), b"x", HEADERS)
    await client.close()
    await server.close()
