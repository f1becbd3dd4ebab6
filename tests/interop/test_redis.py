"""
The framing ``resp`` and the app ``redis``, with the programs of others.

Each test is run with the app and with Redis itself, so what it expects is what Redis does.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
import redis

import tcpapp
from tcpapp.framing import resp
from tcpapp.framing.resp import Attributed, ErrorReply, Map, Push, SimpleString
from tests.interop.services import Services
from tests.patience import PATIENCE
from tests.processes import Run, ends, program

pytestmark = pytest.mark.once

SERVED = ("--app", "redis", "--framing", "resp", "--listen")

Connect = Callable[..., redis.Redis]


@pytest.fixture(scope="module", params=["app", "program"])
def served(request: pytest.FixtureRequest, kept_services: Services, twistd: list[str]) -> str:
    """Give the path of a socket at which the app listens, and then Redis itself. Each serves all tests."""
    return kept_services.redis() if request.param == "program" else kept_services.app(twistd, "redis", "resp")


@pytest.fixture
def path(served: str) -> str:
    """Give the path of the socket of a server without keys."""
    with redis.Redis(unix_socket_path=served, socket_timeout=PATIENCE) as client:
        client.flushall()
    return served


@pytest.fixture(params=[2, 3])
def connect(path: str, request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Give a function that makes a client of redis-py, in version 2 of RESP, and then in version 3."""
    made: list[redis.Redis] = []

    def start(**options: Any) -> redis.Redis:
        client = redis.Redis(unix_socket_path=path, protocol=request.param, socket_timeout=PATIENCE, **options)
        made.append(client)
        return client

    yield start
    for each in made:
        each.close()


@pytest.fixture
def client(connect: Connect) -> redis.Redis:
    """Give a client of redis-py."""
    return connect()


def test_redis_py_stores_and_finds_values(client: redis.Redis) -> None:
    """Each command of redis-py on strings and keys has the same result."""
    assert client.ping() is True
    assert client.echo("hello") == b"hello"
    assert client.set("a", b"\r\n\0\xff") is True
    assert client.get("a") == b"\r\n\0\xff"
    assert client.get("b") is None
    assert client.set("a", "x", nx=True) is None
    assert client.set("b", "x", xx=True) is None
    assert client.set("a", "1", get=True) == b"\r\n\0\xff"
    assert client.setnx("c", "1") in (True, 1)
    assert client.mset({"d": "4", "e": "5"}) is True
    assert client.mget(["a", "x", "d", "e"]) == [b"1", None, b"4", b"5"]
    assert client.append("d", "2") == 2
    assert client.strlen("d") == 2
    assert client.getdel("d") == b"42"
    assert client.getset("e", "6") == b"5"
    assert client.exists("a", "e", "x", "a") == 3
    assert client.type("a") == b"string"
    assert client.type("x") == b"none"
    assert client.dbsize() == 3
    assert client.delete("a", "x") == 1
    assert client.unlink("c") == 1
    assert client.flushdb() is True
    assert client.dbsize() == 0


def test_redis_py_counts(client: redis.Redis) -> None:
    """Counters begin at 0, and refuse what is no number and what is too large."""
    assert (client.incr("n"), client.incr("n", 10), client.decr("n"), client.decr("n", 20)) == (1, 11, 10, -10)
    client.set("n", 2**63 - 1)
    with pytest.raises(redis.ResponseError, match="overflow"):
        client.incr("n")
    client.set("n", "text")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        client.incr("n")


def test_redis_py_lets_keys_expire(client: redis.Redis) -> None:
    """The time until a key expires is set, read and taken away."""
    client.set("a", "1", ex=100)
    assert client.ttl("a") in (99, 100)
    assert 99_000 < client.pttl("a") <= 100_000
    client.set("a", "2", keepttl=True)
    assert client.ttl("a") in (99, 100)
    assert client.persist("a") in (True, 1)
    assert (client.ttl("a"), client.ttl("x")) == (-1, -2)
    assert client.expire("a", 50) in (True, 1)
    assert client.ttl("a") in (49, 50)
    assert client.pexpire("a", 20_000) in (True, 1)
    assert client.ttl("a") in (19, 20)
    assert client.execute_command("SETEX", "b", 100, "1") is True
    assert client.ttl("b") in (99, 100)
    assert client.execute_command("PSETEX", "b", 50_000, "1") in (True, b"OK")
    assert client.ttl("b") in (49, 50)
    assert client.expire("a", -1) in (True, 1)
    assert client.get("a") is None


@pytest.mark.parametrize("transaction", [True, False])
def test_redis_py_sends_a_thousand_commands_at_once(client: redis.Redis, transaction: bool) -> None:
    """A pipeline of 1,000 commands has 1,000 results in their order, with ``MULTI`` and without."""
    with client.pipeline(transaction=transaction) as pipeline:
        for number in range(500):
            pipeline.set(f"key{number}", number).get(f"key{number}")
        results = pipeline.execute()
    assert results == [each for number in range(500) for each in (True, b"%d" % number)]


def test_redis_py_runs_transactions(connect: Connect) -> None:
    """A transaction stops if a watched key has changed, and its errors are among its results."""
    first, second = connect(), connect()
    with first.pipeline() as pipeline:
        pipeline.watch("a")
        second.set("a", "1")
        pipeline.multi()
        pipeline.incr("a")
        with pytest.raises(redis.WatchError):
            pipeline.execute()
    assert second.get("a") == b"1"
    with first.pipeline() as pipeline:
        results = pipeline.set("a", "x").incr("a").get("a").execute(raise_on_error=False)
    assert (results[0], type(results[1]), results[2]) == (True, redis.ResponseError, b"x")


def test_redis_py_publishes_and_subscribes(connect: Connect) -> None:
    """A subscriber hears what is published in its channels, and in channels that match its patterns."""
    publisher, listener = connect(), connect().pubsub()
    listener.subscribe("news", "sport")
    listener.psubscribe("n*")
    assert [listener.get_message(timeout=PATIENCE)["type"] for _ in range(3)] == [
        "subscribe",
        "subscribe",
        "psubscribe",
    ]
    assert publisher.publish("news", "hello") == 2
    assert publisher.publish("other", "hello") == 0
    heard = [listener.get_message(timeout=PATIENCE) for _ in range(2)]
    assert [(each["type"], each["pattern"], each["channel"], each["data"]) for each in heard] == [
        ("message", None, b"news", b"hello"),
        ("pmessage", b"n*", b"news", b"hello"),
    ]
    listener.ping()
    assert listener.get_message(timeout=PATIENCE)["type"] == "pong"
    listener.unsubscribe("news")
    listener.punsubscribe()
    assert [listener.get_message(timeout=PATIENCE)["data"] for _ in range(2)] == [2, 1]
    assert publisher.publish("news", "again") == 0
    listener.close()


def test_redis_py_hears_a_thousand_messages(connect: Connect) -> None:
    """A subscriber hears all messages in their order, while another thread publishes them."""
    publisher, listener = connect(), connect().pubsub(ignore_subscribe_messages=True)
    listener.subscribe("news")
    assert listener.get_message(timeout=PATIENCE) is None
    publishing = threading.Thread(target=lambda: [publisher.publish("news", number) for number in range(1000)])
    publishing.start()
    heard = [listener.get_message(timeout=PATIENCE)["data"] for _ in range(1000)]
    publishing.join()
    assert heard == [b"%d" % number for number in range(1000)]
    listener.close()


def test_redis_py_says_what_it_is(connect: Connect) -> None:
    """A client has a name and a number, uses database 0, and gets errors for what is not there."""
    client = connect(client_name="me", db=0)
    assert client.client_getname() in (b"me", "me")
    assert client.client_id() > 0
    with pytest.raises(redis.ResponseError, match="unknown command"):
        client.execute_command("NONSENSE", "a\r\nb")
    with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
        client.execute_command("GET")
    with pytest.raises(redis.ResponseError, match="DB index is out of range"):
        client.select(99)


def test_redis_cli(path: str) -> None:
    """redis-cli sends commands, and shows the replies as Redis's."""
    command = [program("redis-cli"), "-s", path]
    commands = "SET a 1\nINCR a\nGET a\nGET b\nMULTI\nINCR a\nEXEC\nPUBLISH c x\n"
    ran = subprocess.run(command, input=commands, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert ran.stdout.split("\n") == ["OK", "2", "2", "", "OK", "QUEUED", "3", "0", ""]
    ran = subprocess.run([*command, "-3", "GET", "a"], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert ran.stdout == "3\n"


@pytest_twisted.ensureDeferred
async def test_a_client_of_tcpapp_asks_for_values(path: str, global_reactor: Any) -> None:
    """The client's side of the framing sends requests, and reads the replies in both versions."""
    client = await tcpapp.connect(f"unix:{path}", framing=resp(side="client"), reactor=global_reactor)
    assert await client.request([b"SET", b"a", b"1"]) == SimpleString(b"OK")
    assert await client.request([b"GET", b"a"]) == b"1"
    assert await client.request([b"GET", b"x"]) is None
    assert await client.request([b"MGET", b"a", b"x"]) == [b"1", None]
    assert type(await client.request([b"NONSENSE"])) is ErrorReply
    about = await client.request([b"HELLO", b"3"])
    assert type(about) is Map
    assert dict(about)[b"proto"] == 3
    assert await client.request([b"GET", b"x"]) is None
    await client.send([b"SUBSCRIBE", b"news"])
    subscribed = await client.receive()
    assert (type(subscribed), subscribed) == (Push, [b"subscribe", b"news", 1])
    await client.close()


@pytest_twisted.ensureDeferred
async def test_the_types_of_redis_are_read(services: Services, global_reactor: Any) -> None:
    """Redis sends a value of each type of version 3 (``DEBUG PROTOCOL``), and each is read as what it is."""
    path = services.redis("--enable-debug-command", "yes")
    client = await tcpapp.connect(f"unix:{path}", framing=resp(side="client"), reactor=global_reactor)
    await client.request([b"HELLO", b"3"])
    kinds = (
        b"string",
        b"integer",
        b"double",
        b"null",
        b"array",
        b"set",
        b"map",
        b"verbatim",
        b"true",
        b"false",
        b"bignum",
    )
    found = {kind: await client.request([b"DEBUG", b"PROTOCOL", kind]) for kind in kinds}
    assert found == {
        b"string": b"Hello World",
        b"integer": 12345,
        b"double": 3.141,
        b"null": None,
        b"array": [0, 1, 2],
        b"set": [0, 1, 2],
        b"map": [(0, False), (1, True), (2, False)],
        b"verbatim": (b"txt", b"This is a verbatim\nstring"),
        b"true": True,
        b"false": False,
        b"bignum": 1234567999999999999999999999999999999,
    }
    reply = b"Some real reply following the attribute"
    attributes = Map([(b"key-popularity", [b"key:123", 90])])
    assert await client.request([b"DEBUG", b"PROTOCOL", b"attrib"]) == Attributed(attributes, reply)
    pushed = await client.request([b"DEBUG", b"PROTOCOL", b"push"])
    assert (type(pushed), pushed) == (Push, [b"server-cpu-usage", 42])
    await client.close()


def test_the_app_is_served_over_tcp(run: Run) -> None:
    """``twistd tcpapp --app redis --framing resp`` serves redis-py at a port."""
    process = run(*SERVED, "tcp:0:interface=127.0.0.1")
    with redis.Redis(port=process.port(), socket_timeout=PATIENCE) as client:
        assert client.set("a", "1") is True
        assert client.get("a") == b"1"
    ends(process)
