"""Clients with typed values, which type checkers read in `test_typing`; this module is never run."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
from typing_extensions import assert_type

from tcpapp import Client, Connection, Listening, MessageServerFactory, Pool, Reply, codecs
from tcpapp.client.blocking import BlockingClient


class Question(msgspec.Struct):
    text: str


class Answer(msgspec.Struct):
    text: str


client: Client[Question, Answer] = Client("tcp:localhost:7007", codec=codecs.Json(Answer))
pool: Pool[Question, Answer] = Pool("tcp:localhost:7007", codec=codecs.Json(Answer))


async def asks() -> None:
    async with client as entered:
        assert_type(entered, Client[Question, Answer])
        assert_type(await client.request(Question("how?")), Answer)
        assert_type(await client.receive(), Answer)
        assert_type(await client.send(Question("why?")), None)
        assert_type(await client.drain(), int)
        assert_type(await client.when_connected(), Connection)
        assert_type(client.connection, Connection | None)
        async for message in client:
            assert_type(message, Answer)
    assert_type(await pool.request(Question("how?")), Answer)


def answers(question: Question, connection: Connection) -> Reply[Answer | None]:
    return Reply(Answer("so") if question.text else None)


def changes(server: Listening) -> None:
    assert_type(server.factory, MessageServerFactory)
    assert_type(answers(Question(""), next(iter(server.connections))).value, Answer | None)
    server.change(max_connections=50, idle=0.5, over_max_connections="wait")


async def counts(start: int) -> int:
    return start + 1


async def runs_beside(connection: Connection) -> None:
    assert_type(await connection.spawn(counts(1)), int)
    assert_type(connection.data, SimpleNamespace)
    async for skipped in connection.every(0.5, now=True):
        assert_type(skipped, int)
    connection.data.user = "ann"


def waits(blocking: BlockingClient[Question, Answer]) -> None:
    with blocking as entered:
        assert_type(entered.request(Question("how?")), Answer)
        for message in entered:
            assert_type(message, Answer)


async def is_wrong() -> None:
    await client.request("how?")  # wrong
    await client.send(Answer("so"))  # wrong
    assert (await client.receive()).number  # wrong
    await pool.request(Answer("so"))  # wrong
    Client("tcp:localhost:7007", framnig="line")  # wrong
    Client(7007)  # wrong
    connection = await client.when_connected()
    connection.spawn(counts)  # wrong
    connection.every("5")  # wrong
