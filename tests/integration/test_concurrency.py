"""Several messages at once, and replies of many messages, over real ports: of programs, clients and `twistd`."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

import tcpapp
from tcpapp import Timeouts
from tcpapp.connection.protocol import protocol_of
from tests.processes import TCP, Run, ends, hear
from tests.processes import dial as dial_process

from .peers import InHand, bounded, until

LOOPBACK = "tcp:0:interface=127.0.0.1"
BOTH = pytest.mark.parametrize("replies", ["in-order", "as-ready"])


@BOTH
@bounded
async def test_an_app_has_a_thousand_messages_of_one_connection_at_once(global_reactor: Any, replies: str) -> None:
    """A server hands a thousand messages of a connection to its app before the first is answered; all are answered."""
    app = InHand()
    server = await tcpapp.listen(LOOPBACK, app, concurrency=1000, replies=replies, reactor=global_reactor)
    client = await tcpapp.connect(f"tcp:127.0.0.1:{server.port}", reactor=global_reactor)
    messages = [b"%d" % number for number in range(1000)]
    requests = [client.request(each) for each in messages]
    await app.moment(lambda: len(app.messages) == 1000)
    [connection] = server.connections
    assert protocol_of(connection).info().in_flight == 1000
    for each, message in reversed(list(zip(app.replies, app.messages, strict=True))):
        each.callback(message)
    heard = await gatherResults(requests)
    assert heard == (messages if replies == "in-order" else messages[::-1])
    assert server.info().buffered == 0
    await client.close()
    await server.close()


@bounded
async def test_the_app_of_a_client_works_on_several_messages(global_reactor: Any) -> None:
    """The app of a client takes a concurrency as well: a server that asks gets its answers in order."""
    app = InHand()
    answers: Deferred[list[bytes]] = Deferred()

    @tcpapp.conversation
    async def asks(connection: Any) -> None:
        gatherResults([connection.request(b"%d" % number) for number in range(3)]).chainDeferred(answers)
        await connection.when_closed()

    server = await tcpapp.listen(LOOPBACK, asks, reactor=global_reactor)
    client = await tcpapp.connect(f"tcp:127.0.0.1:{server.port}", app, concurrency=3, reactor=global_reactor)
    await app.moment(lambda: len(app.messages) == 3)
    for place in (2, 0, 1):
        app.replies[place].callback(app.messages[place])
    assert await answers == [b"0", b"1", b"2"]
    await client.close()
    await server.close()


@BOTH
@bounded
async def test_a_drain_waits_for_all_messages_in_flight(global_reactor: Any, replies: str) -> None:
    """A server that drains answers all messages in flight, and cuts no connection."""
    app = InHand()
    server = await tcpapp.listen(LOOPBACK, app, concurrency=10, replies=replies, reactor=global_reactor)
    client = await tcpapp.connect(f"tcp:127.0.0.1:{server.port}", reactor=global_reactor)
    requests = [client.request(b"%d" % number) for number in range(10)]
    await app.moment(lambda: len(app.messages) == 10)
    drained = server.drain(deadline=60)
    app.answer_all()
    assert await gatherResults(requests) == [b"%d" % number for number in range(10)]
    assert await drained == 0
    await server.close()


@bounded
async def test_a_reply_of_many_messages_waits_for_a_slow_peer(global_reactor: Any) -> None:
    """A generator gives its next message only while the peer reads. At the end the peer has all of them."""
    taken: list[int] = []
    count, size = 400, 50_000

    def rows(message: bytes, connection: Any) -> Iterator[bytes]:
        for number in range(count):
            taken.append(number)
            yield b"x" * size

    server = await tcpapp.listen(LOOPBACK, rows, timeouts=Timeouts(idle=0), reactor=global_reactor)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.sendall(b"go\n")
        await until(global_reactor, lambda: bool(server.connections))
        [connection] = server.connections
        await until(global_reactor, lambda: "write-blocked" in [e.reason for e in protocol_of(connection).info().holds])
        assert 0 < len(taken) < count
        assert protocol_of(connection).info().buffered < 1_000_000
        heard = await deferToThread(hear, client, count * (size + 1))
    assert (len(heard), len(taken)) == (count * (size + 1), count)
    await server.close()


AT_ONCE = """
from twisted.internet.defer import Deferred

waiting = []

def app(message, connection):
    if message == b"answer":
        while waiting:
            waiting.pop().callback(b"late")
        return b"done"
    waiting.append(Deferred())
    return waiting[-1]

def rows(message, connection):
    for number in range(int(message)):
        yield b"row %d" % number
"""


@pytest.mark.once
@BOTH
def test_twistd_serves_an_app_that_works_on_several_messages(replies: str, run: Run, tmp_path: Path) -> None:
    """With ``--concurrency`` the third message of a connection reaches the app, and answers the two before it."""
    (tmp_path / "mine.py").write_text(AT_ONCE)
    process = run("--listen", TCP, "--app", "mine:app", "--concurrency", "3", "--replies", replies)
    with dial_process(process.port()) as client:
        client.sendall(b"a\nb\nanswer\n")
        assert hear(client, 15) == b"late\nlate\ndone\n"
    ends(process)


@pytest.mark.once
def test_twistd_serves_a_generator(run: Run, tmp_path: Path) -> None:
    """An app that is a generator function replies with each of its messages."""
    (tmp_path / "mine.py").write_text(AT_ONCE)
    process = run("--listen", TCP, "--app", "mine:rows")
    with dial_process(process.port()) as client:
        client.sendall(b"2\n1\n")
        assert hear(client, 18) == b"row 0\nrow 1\nrow 0\n"
    ends(process)
