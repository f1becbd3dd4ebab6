"""The contract at the end of the connection: closing, half-closing, aborting, failing."""

from __future__ import annotations

from typing import Final

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost

from tcpapp.testing.contract.carrier import Broken, Carrier, End, HalfCloseableEnd, Piecewise, Planted, needs, same

__all__ = ["CLOSING"]

BIG: Final = b"x" * 1_000_000
"""More bytes than are sent in one turn, whatever the kernel's buffers."""


def _reason(end: End, *expected: type[BaseException]) -> None:
    """Raise `Broken` unless ``connectionLost`` came once, as the last call, and with this reason."""
    if end.reason is None or not end.reason.check(*expected):
        raise Broken(f"the reason: expected {expected}, found {end.reason!r}")
    same("number of connectionLost calls", 1, sum(each.startswith("lost") for each in end.notes))
    same("the last call of the protocol", f"lost: {type(end.reason.value).__name__}", end.notes[-1])


async def lose_connection_flushes(carrier: Carrier) -> None:
    """
    All written bytes arrive before the end. Both ends get `ConnectionDone`, and not inside the call of
    ``loseConnection``.
    """
    client, server = await carrier.pair()
    with client.calling() as transport:
        transport.write(BIG)
        transport.loseConnection()
        transport.loseConnection()
    await carrier.lost(client, server)
    same("what arrived", len(BIG), len(server.data))
    _reason(client, ConnectionDone)
    _reason(server, ConnectionDone)
    same("calls of the peer's protocol", ["made", "data", "lost: ConnectionDone"], server.notes)


async def writes_after_lose_connection(carrier: Carrier) -> None:
    """Bytes written after ``loseConnection`` are sent over TCP, and dropped over TLS."""
    client, server = await carrier.pair()
    client.transport.write(b"before")
    client.transport.loseConnection()
    client.transport.write(b" after")
    await carrier.lost(client, server)
    same("what arrived", b"before" if carrier.drops_late_writes else b"before after", bytes(server.data))


async def writes_to_a_lost_connection_are_dropped(carrier: Carrier) -> None:
    """
    Writes to a lost connection raise nothing. A new producer is stopped. Calls that end the connection do nothing.
    """
    client, server = await carrier.pair()
    transport = client.transport
    transport.loseConnection()
    await carrier.lost(client, server)
    transport.write(b"x")
    transport.loseConnection()
    producer = Piecewise(transport)
    transport.registerProducer(producer, True)
    same("calls of the producer", ["stop"], producer.notes)
    await carrier.turn()
    _reason(client, ConnectionDone)


@needs("pulls", "flushes_on_close")
async def lose_connection_waits_for_a_pull_producer(carrier: Carrier) -> None:
    """``loseConnection`` waits until a pull producer unregisters."""
    client, server = await carrier.pair()
    client.transport.registerProducer(Piecewise(client.transport, b"a", b"b", b"c"), False)
    client.transport.loseConnection()
    await carrier.lost(client, server)
    same("what arrived", b"abc", bytes(server.data))
    _reason(client, ConnectionDone)


async def lose_connection_waits_for_a_paused_producer(carrier: Carrier) -> None:
    """A paused push producer is resumed, writes the rest, and unregisters. Then the connection is closed."""
    client, server = await carrier.pair()
    producer = Piecewise(client.transport, b"last")
    client.transport.registerProducer(producer, True)
    client.transport.write(BIG)
    client.transport.loseConnection()
    await carrier.until(lambda: not producer.pieces, "resumeProducing")
    await carrier.turn()  # TLS gathers the writes of a turn; see `Carrier.flushes_on_close`
    client.transport.unregisterProducer()
    await carrier.lost(client, server)
    same("what arrived", len(BIG) + 4, len(server.data))
    _reason(client, ConnectionDone)


async def lose_connection_and_an_idle_producer(carrier: Carrier) -> None:
    """TCP does not wait for a push producer that is not paused (whatever the docs say), and stops it. TLS waits."""
    client, server = await carrier.pair()
    producer = Piecewise(client.transport)
    client.transport.registerProducer(producer, True)
    client.transport.loseConnection()
    if carrier.waits_for_idle_producer:
        for _ in range(5):
            await carrier.turn()
        same("the reason of a loss while a producer is registered", None, client.reason)
        client.transport.unregisterProducer()
        await carrier.lost(client, server)
        return
    await carrier.lost(client, server)
    same("calls of the producer", ["stop"], producer.notes)


async def a_close_by_the_peer_ends_it(carrier: Carrier) -> None:
    """When the peer closes, a protocol without half-close gets `ConnectionDone`, and its producer is stopped."""
    client, server = await carrier.pair()
    producer = Piecewise(client.transport)
    client.transport.registerProducer(producer, True)
    server.transport.write(b"bye")
    server.transport.loseConnection()
    if carrier.waits_for_idle_producer:
        await carrier.until(lambda: client.data == b"bye", "the last word")
        client.transport.unregisterProducer()
    await carrier.lost(client, server)
    same("calls of the client's protocol", ["made", "data", "lost: ConnectionDone"], client.notes)
    if not carrier.waits_for_idle_producer:
        same("calls of the producer", ["stop"], producer.notes)


async def abort_cuts(carrier: Carrier) -> None:
    """After an abort, `ConnectionAborted` comes once, in a later turn. Unsent bytes are lost."""
    client, server = await carrier.pair()
    server.transport.pauseProducing()
    with client.calling() as transport:
        transport.write(BIG)
        transport.abortConnection()
        transport.abortConnection()
        transport.loseConnection()
    await carrier.lost(client)
    _reason(client, ConnectionAborted if carrier.reports_causes else ConnectionLost)
    server.transport.resumeProducing()
    await carrier.lost(server)
    _reason(server, *(() if carrier.resets else (ConnectionDone,)), ConnectionLost)
    if len(server.data) >= len(BIG):
        raise Broken("bytes that were unsent at the abort were sent")


@needs("half_close")
async def half_close_by_either(carrier: Carrier) -> None:
    """An end that has closed its writing side can still receive. The other end can still send, and then close."""
    for first in (0, 1):
        ends = await carrier.pair(HalfCloseableEnd)
        asks, answers = ends[first], ends[1 - first]
        with asks.calling() as transport:
            transport.write(BIG)
            transport.loseWriteConnection()
        await carrier.until(lambda: "read lost" in answers.notes, "the end of the question")  # noqa: B023 - awaited
        same("the question", len(BIG), len(answers.data))
        asks.transport.write(b"dropped")
        answers.transport.write(b"answer")
        answers.transport.loseConnection()
        await carrier.lost(answers)
        await carrier.until(lambda: asks.data == b"answer", "the answer")  # noqa: B023 - as above
        await carrier.until(lambda: "read lost" in asks.notes, "the end of the answer")  # noqa: B023 - as above
        same("calls of the asking end", ["made", "write lost", "data", "read lost"], asks.notes)
        same("calls of the answering end", ["made", "data", "read lost", "lost: ConnectionDone"], answers.notes)
        asks.transport.loseConnection()
        await carrier.lost(asks)


@needs("half_close")
async def lose_connection_after_half_close(carrier: Carrier) -> None:
    """`ConnectionDone` comes inside the call of ``loseConnection``, which is Twisted's only exception to the rule."""
    client, server = await carrier.pair(HalfCloseableEnd)
    client.transport.loseWriteConnection()
    await carrier.until(lambda: "write lost" in client.notes, "writeConnectionLost")
    with client.calling() as transport:
        transport.loseConnection()
    same("calls of the protocol", ["made", "write lost", "lost: ConnectionDone inside a call"], client.notes)
    await carrier.until(lambda: "read lost" in server.notes, "readConnectionLost of the peer")
    server.transport.loseConnection()
    await carrier.lost(server)


@needs("half_close")
async def half_close_ends_a_protocol_without_it(carrier: Carrier) -> None:
    """When one end half-closes, a protocol without half-close at the other end gets `ConnectionDone`."""
    client, server = await carrier.pair()
    client.transport.write(b"question")
    client.transport.loseWriteConnection()
    await carrier.lost(server)
    same("calls of the protocol", ["made", "data", "lost: ConnectionDone"], server.notes)
    await carrier.lost(client)


async def an_error_of_the_protocol_ends_it(carrier: Carrier) -> None:
    """An exception that `dataReceived` raises is the reason, which comes once. The peer gets the end."""
    client, server = await carrier.pair()
    server.fails = True
    client.transport.write(b"x")
    await carrier.lost(client, server)
    _reason(server, Planted if carrier.reports_causes else ConnectionLost)
    _reason(client, ConnectionDone, ConnectionLost)


async def closing_inside_data_received(carrier: Carrier) -> None:
    """`connectionLost` comes after `dataReceived` has returned, and bytes written inside it arrive."""
    client, server = await carrier.pair()
    received = server.dataReceived

    def answer_and_close(data: bytes) -> None:
        received(data)
        with server.calling() as transport:
            transport.write(b"answer")
            transport.loseConnection()

    server.dataReceived = answer_and_close  # type: ignore[method-assign] # of this server only
    client.transport.write(b"question")
    await carrier.lost(client, server)
    same("the answer", b"answer", bytes(client.data))
    _reason(server, ConnectionDone)
    _reason(client, ConnectionDone)


CLOSING = (
    lose_connection_flushes,
    writes_after_lose_connection,
    writes_to_a_lost_connection_are_dropped,
    lose_connection_waits_for_a_pull_producer,
    lose_connection_waits_for_a_paused_producer,
    lose_connection_and_an_idle_producer,
    a_close_by_the_peer_ends_it,
    abort_cuts,
    half_close_by_either,
    lose_connection_after_half_close,
    half_close_ends_a_protocol_without_it,
    an_error_of_the_protocol_ends_it,
    closing_inside_data_received,
)
"""The checks of this module."""
