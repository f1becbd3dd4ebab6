"""Operating a server in use, on real sockets: drain, suspend, resume and close."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.error import ConnectionRefusedError as Refused

from tcpapp import MessageServerFactory, MessageService, Timeouts, connect
from tcpapp.apps import echo, time
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import NotConnected

from .peers import InHand, Noted, bounded, until


@bounded
async def test_a_drain_loses_no_request_in_flight(serve: Any, join: Any, global_reactor: Any) -> None:
    """A drain answers all messages that have arrived, pipelined or not; then each client gets a clean end."""
    app = InHand()
    server = await serve(app)
    clients = [await join(server) for _ in range(10)]
    requests = [client.request(b"request %d" % number) for client in clients for number in range(5)]
    await until(global_reactor, lambda: sum(map(held, server.connections)) == len(requests))
    drained = server.drain(10)
    app.answer_all()
    assert await gatherResults(requests) == [b"request %d" % number for number in range(5)] * 10
    assert await drained == 0
    assert {(await client.when_closed()).rule for client in clients} == {"end-of-stream"}


def held(connection: Any) -> int:
    """Return how many messages of a connection are unanswered: one with the app, the others in the inbox."""
    return len(protocol_of(connection)._inbox) + (not protocol_of(connection)._dispatcher.done)


@bounded
async def test_no_client_is_accepted_during_a_drain(serve: Any, join: Any, global_reactor: Any) -> None:
    """During a drain, a new client is refused. A connected client gets its reply, and then its next request fails."""
    app = InHand()
    server = await serve(app)
    client = await join(server)
    request = client.request(b"work")
    await app.moment(lambda: app.messages)
    drained = server.drain(10)
    with pytest.raises(Refused):
        await join(server)
    app.answer_all()
    assert await request == b"work"
    await client.when_closed()
    with pytest.raises(NotConnected):
        await client.request(b"more work")
    assert await drained == 0


@bounded
async def test_a_drain_ends_at_its_deadline(serve: Any, join: Any, global_reactor: Any) -> None:
    """At the deadline of a drain, a connection with unfinished work is cut, and the client's request fails."""
    app = InHand()
    server = await serve(app)
    busy = await join(server)
    request = busy.request(b"endless work")
    await app.moment(lambda: app.messages)
    drained = server.drain(0.05)
    with pytest.raises(NotConnected):
        await request
    assert await drained == 1
    assert (await busy.when_closed()).rule == "lost"


@bounded
async def test_a_conversation_does_not_delay_a_drain(serve: Any, join: Any) -> None:
    """A drain ends the ``time`` app of tcpapp, a conversation that would go on for ever, at once and cleanly."""
    server = await serve(time)
    client = await join(server)
    await client.receive()
    assert await server.drain(10) == 0
    assert (await client.when_closed()).rule == "end-of-stream"


@bounded
async def test_clients_of_a_suspended_server_wait(serve: Any, join: Any, global_reactor: Any) -> None:
    """
    While a server is suspended, new clients wait in the backlog and old ones are served. After `resume()` all are
    served.
    """
    server = await serve(Noted())
    old = await join(server)
    assert await old.request(b"before") == b"before"
    server.suspend()
    new = [await join(server) for _ in range(5)]
    requests = [each.request(b"let me in") for each in new]
    for _ in range(10):
        assert await old.request(b"meanwhile") == b"meanwhile"
    assert (len(server.connections), any(each.called for each in requests)) == (1, False)
    server.resume()
    assert await gatherResults(requests) == [b"let me in"] * 5
    assert len(server.connections) == 6


@bounded
async def test_a_suspended_server_can_close(serve: Any, join: Any) -> None:
    """When a suspended server closes, clients in the backlog are reset, and connected clients are closed cleanly."""
    server = await serve(Noted())
    old = await join(server)
    await old.request(b"before")
    server.suspend()
    new = await join(server)
    await server.close()
    assert [(await each.when_closed()).rule for each in (old, new)] == ["end-of-stream", "lost"]


@bounded
async def test_several_calls_of_close_and_drain_all_fire(serve: Any, join: Any) -> None:
    """Several calls of `close()` and `drain()` all fire when the server is closed."""
    server = await serve(Noted())
    await (await join(server)).request(b"hello")
    ends = [server.close(), server.close(), server.drain(), server.close()]
    assert await gatherResults(ends) == [None, None, 0, None]
    assert await server.drain() == 0


# The service ----------------------------------------------------------------------------------------------------------


@bounded
async def test_a_service_stops_and_starts_on_the_same_port(global_reactor: Any, join: Any) -> None:
    """A service with a connected client stops, starts again on the same port, and serves, three times."""
    factory = MessageServerFactory(echo, timeouts=Timeouts(drain=5))
    first = MessageService(factory, ["tcp:0:interface=127.0.0.1"], global_reactor)
    first.startService()
    port = first.addresses[0].port
    await first.stopService()
    service = MessageService(factory, [f"tcp:{port}:interface=127.0.0.1"], global_reactor)
    for _ in range(3):
        service.startService()
        client = await join(f"tcp:127.0.0.1:{port}")
        assert await client.request(b"hello") == b"hello"
        await service.stopService()
        assert (await client.when_closed()).rule == "end-of-stream"
        with pytest.raises(Refused):
            await connect(f"tcp:127.0.0.1:{port}", reactor=global_reactor)


@bounded
async def test_one_busy_endpoint_keeps_all_endpoints_closed(global_reactor: Any, serve: Any, join: Any) -> None:
    """When the second of two ports is in use, the service does not start, and the first port is closed again."""
    taken, other = await serve(Noted()), await serve(Noted())
    free = other.port
    await other.close()
    endpoints = [f"tcp:{port}:interface=127.0.0.1" for port in (free, taken.port)]
    service = MessageService(MessageServerFactory(echo), endpoints, global_reactor)
    with pytest.raises(CannotListenError):
        service.startService()
    with pytest.raises(Refused):
        await join(f"tcp:127.0.0.1:{free}")
    assert await (await join(taken)).request(b"hello") == b"hello"
