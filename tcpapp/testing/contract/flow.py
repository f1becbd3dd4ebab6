"""The contract of an open connection: delivery, backpressure, addresses."""

from __future__ import annotations

from typing import Final

from tcpapp.testing.contract.carrier import Broken, Carrier, Piecewise, needs, same

__all__ = ["FLOW"]

MOST_IN_KERNELS: Final = 64 * 1024 * 1024
"""More bytes than any kernel buffers for one connection: Linux's limits are 6 MiB and 4 MiB."""


async def delivers_in_order(carrier: Carrier) -> None:
    """Bytes written by `write` and `writeSequence` arrive whole and in order, in both directions at once."""
    ends = await carrier.pair()
    pieces = [bytes([65 + i % 26]) * size for i, size in enumerate((1, 10, 1000, 100_000, 7))]
    for each in ends:
        for piece in pieces:
            each.transport.write(piece)
        each.transport.writeSequence([b"last ", b"words"])
    expected = b"".join(pieces) + b"last words"
    await carrier.until(lambda: all(len(each.data) >= len(expected) for each in ends), "all that was written")
    for each in ends:
        same("what arrived", expected, bytes(each.data))
        same("calls of the protocol", ["made", "data"], each.notes)


async def delivers_nothing_inside_write(carrier: Carrier) -> None:
    """The protocol is never called inside `write`, even if the peer answers at once."""
    client, server = await carrier.pair()
    for count in range(3):
        with client.calling() as transport, server.calling():
            transport.write(b"x")
        same("bytes that arrived inside write", count, len(server.data))
        await carrier.until(lambda: len(server.data) == count + 1, "the byte")  # noqa: B023 - awaited here
    same("calls of the peer's protocol", ["made", "data"], server.notes)


async def refuses_text(carrier: Carrier) -> None:
    """`write` and `writeSequence` of text raise `TypeError`, and the connection stays open."""
    client, server = await carrier.pair()
    for call in (lambda: client.transport.write("text"), lambda: client.transport.writeSequence(["text"])):
        try:
            call()
        except TypeError:
            continue
        raise Broken("text was accepted as bytes")
    client.transport.write(b"bytes")
    await carrier.until(lambda: server.data == b"bytes", "the bytes")


async def pauses_a_push_producer(carrier: Carrier) -> None:
    """
    A push producer is paused over `bufferSize`, inside `write`. When all is sent it is resumed, and not inside a call.
    """
    client, server = await carrier.pair()
    producer = Piecewise(client.transport, b"next")
    client.transport.registerProducer(producer, True)
    client.transport.write(b"x" * 300_000)
    same("calls of the producer inside write", ["pause"], producer.notes[-1:])
    await carrier.until(lambda: "resume" in producer.notes, "resumeProducing")
    await carrier.until(lambda: len(server.data) == 300_004, "all bytes")
    same("the last bytes that arrived", b"xxnext", bytes(server.data[-6:]))


@needs("pulls")
async def asks_a_pull_producer_again(carrier: Carrier) -> None:
    """A pull producer is resumed each time all is sent, and is never paused."""
    client, server = await carrier.pair()
    producer = Piecewise(client.transport, b"a", b"b", b"c")
    client.transport.registerProducer(producer, False)
    await carrier.until(lambda: server.data == b"abc", "all three pieces")
    await carrier.until(lambda: len(producer.notes) == 4, "the fourth resumeProducing")
    same("calls of the producer", ["resume"] * 4, producer.notes)


async def a_slow_reader_holds_the_writer(carrier: Carrier) -> None:
    """While the peer does not read, the producer is paused at some point and stays paused. Later all bytes arrive."""
    client, server = await carrier.pair()
    server.transport.pauseProducing()
    piece = b"x" * 300_000
    producer = Piecewise(client.transport, *[piece] * (MOST_IN_KERNELS // len(piece)))
    client.transport.registerProducer(producer, True)
    producer.resumeProducing()
    quiet, before = 0, 0
    while quiet < 20 and producer.pieces:
        await carrier.turn()
        quiet, before = (quiet + 1, before) if len(producer.notes) == before else (0, len(producer.notes))
    if not producer.pieces:
        raise Broken("the producer was never paused")
    sent = MOST_IN_KERNELS // len(piece) - len(producer.pieces)
    producer.pieces.clear()
    server.transport.resumeProducing()
    await carrier.until(lambda: len(server.data) == sent * len(piece), "all that was written")


async def one_producer_at_a_time(carrier: Carrier) -> None:
    """A second registration raises `RuntimeError`. After `unregisterProducer` another producer can register."""
    client, _ = await carrier.pair()
    client.transport.registerProducer(Piecewise(client.transport), True)
    try:
        client.transport.registerProducer(Piecewise(client.transport), True)
    except RuntimeError:
        pass
    else:
        raise Broken("a second producer was accepted")
    client.transport.unregisterProducer()
    client.transport.registerProducer(Piecewise(client.transport), True)
    client.transport.unregisterProducer()


async def pauses_reading(carrier: Carrier) -> None:
    """Between `pauseProducing` and `resumeProducing`, and inside these calls, nothing is delivered. Nothing is lost."""
    client, server = await carrier.pair()
    server.transport.pauseProducing()
    client.transport.write(b"hello")
    for _ in range(5):
        await carrier.turn()
    same("bytes that arrived while paused", b"", bytes(server.data))
    with server.calling() as transport:
        transport.resumeProducing()
    await carrier.until(lambda: server.data == b"hello", "the bytes that came while paused")
    same("calls of the protocol", ["made", "data"], server.notes)


@needs("direct")
async def the_ends_know_each_other(carrier: Carrier) -> None:
    """``getPeer`` of each end is ``getHost`` of the other end."""
    client, server = await carrier.pair()
    same("the client's peer", server.transport.getHost(), client.transport.getPeer())
    same("the server's peer", client.transport.getHost(), server.transport.getPeer())


@needs("tcp_options")
async def keeps_tcp_options(carrier: Carrier) -> None:
    """A TCP option that was set can be read back."""
    client, _ = await carrier.pair()
    for enabled in (True, False):
        client.transport.setTcpNoDelay(enabled)
        client.transport.setTcpKeepAlive(enabled)
        same("TCP_NODELAY", enabled, client.transport.getTcpNoDelay())
        same("SO_KEEPALIVE", enabled, client.transport.getTcpKeepAlive())


FLOW = (
    delivers_in_order,
    delivers_nothing_inside_write,
    refuses_text,
    pauses_a_push_producer,
    asks_a_pull_producer_again,
    a_slow_reader_holds_the_writer,
    one_producer_at_a_time,
    pauses_reading,
    the_ends_know_each_other,
    keeps_tcp_options,
)
"""The checks of this module."""
