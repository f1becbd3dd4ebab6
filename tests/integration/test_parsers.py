"""A framing that is written as a generator, on real loopback ports, with every client that runs on the reactor."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.threads import deferToThread

from tcpapp import Client, Pool
from tests.framing.generators import Command, memcached

from .peers import bounded

SET, GET = ([b"set", b"k", b"0", b"0", b"5"], b"a\r\nbc"), ([b"get", b"k"], None)


class Store:
    """Keeps the data block of a set, and gives it back."""

    def received(self, message: Command, connection: Any) -> Command:
        """Answer one command."""
        data = message[1]
        if data is None:
            return [b"set", b"k", b"0", b"0", b"%d" % len(self.data)], self.data
        self.data = data
        return [b"STORED"], None


@bounded
async def test_a_connection_and_a_client_and_a_pool(serve: Any, join: Any, global_reactor: Any) -> None:
    """`connect`, `Client` and `Pool` send and receive what the generator returns, and a long block in many pieces."""
    server = await serve(Store, framing=memcached(max=1 << 22))
    endpoint = f"tcp:127.0.0.1:{server.port}"
    long = bytes(range(256)) * 8000
    connection = await join(server, framing=memcached(max=1 << 22))
    assert await connection.request(SET) == ([b"STORED"], None)
    assert await connection.request(GET) == SET
    assert await connection.request(([b"set", b"k", b"0", b"0", b"%d" % len(long)], long)) == ([b"STORED"], None)
    assert (await connection.request(GET))[1] == long
    for made in (
        Client(endpoint, framing=memcached(), reactor=global_reactor),
        Pool(endpoint, 1, framing=memcached(), reactor=global_reactor),
    ):
        async with made as client:
            assert await client.request(SET) == ([b"STORED"], None)
            assert await client.request(GET) == SET


@bounded
async def test_a_peer_that_sends_byte_by_byte(serve: Any) -> None:
    """A peer that sends each byte alone gets the same replies."""
    server = await serve(Store, framing=memcached())

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", server.port)) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"set k 0 0 5\r\na\r\nbc\r\nget k\r\n":
                peer.sendall(bytes([byte]))
            peer.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: peer.recv(4096), b""))

    assert await deferToThread(talk) == b"STORED\r\nset k 0 0 5\r\na\r\nbc\r\n"
