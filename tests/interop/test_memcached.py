"""
The framing and the app ``memcached``, with the programs of others.

Each test is run with the app and with memcached itself, so what it expects is what memcached does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheClientError

import tcpapp
from tcpapp.framing import memcached
from tcpapp.framing.memcached import MemcachedMessage
from tests.interop.services import Services
from tests.patience import PATIENCE
from tests.processes import Run, ends

pytestmark = pytest.mark.once

SERVED = ("--app", "memcached", "--framing", "memcached", "--listen")


@pytest.fixture(scope="module", params=["app", "program"])
def path(request: pytest.FixtureRequest, kept_services: Services, twistd: list[str]) -> str:
    """Give the path of a socket at which the app listens, and then memcached itself. Each serves all tests."""
    if request.param == "program":
        return kept_services.memcached()
    return kept_services.app(twistd, "memcached", "memcached")


@pytest.fixture
def client(path: str) -> Iterator[Client]:
    """Give a client of pymemcache, whose server has no items."""
    made = Client(path, timeout=PATIENCE, connect_timeout=PATIENCE, default_noreply=False)
    made.flush_all()
    yield made
    made.close()


def test_pymemcache_stores_and_finds_items(client: Client) -> None:
    """Each command of pymemcache that stores items or gets them has the same result."""
    assert client.set("a", b"hello", flags=7)
    assert client.get("a") == b"hello"
    assert client.get("b", "none") == "none"
    assert client.add("a", b"x") is False
    assert client.add("b", b"x") is True
    assert client.replace("c", b"x") is False
    assert client.replace("b", b"y") is True
    assert client.append("b", b"z") is client.prepend("b", b"x") is True
    assert client.append("c", b"z") is False
    assert client.set_many({"d": b"1", "e": b"\r\n\0\xff", "f": b""}) == []
    assert client.get_many(["a", "b", "c", "d", "e", "f"]) == {
        "a": b"hello",
        "b": b"xyz",
        "d": b"1",
        "e": b"\r\n\0\xff",
        "f": b"",
    }
    assert client.delete("d") is True
    assert client.delete("d") is False
    assert client.delete_many(["e", "f"])
    assert client.get_many(["d", "e", "f"]) == {}


def test_pymemcache_compares_and_stores(client: Client) -> None:
    """``gets`` gives the number of an item, and ``cas`` takes it once."""
    client.set("a", b"1")
    value, unique = client.gets("a")
    assert value == b"1"
    assert client.cas("a", b"2", unique) is True
    assert client.cas("a", b"3", unique) is False
    assert client.cas("b", b"3", unique) is None
    assert client.gets_many(["a", "b"])["a"][0] == b"2"


def test_pymemcache_counts(client: Client) -> None:
    """``incr`` and ``decr`` count in 64 bits, and refuse what is no number."""
    assert client.incr("n", 1) is None
    client.set("n", b"9")
    assert (client.incr("n", 3), client.decr("n", 2), client.decr("n", 50)) == (12, 10, 0)
    client.set("n", b"18446744073709551615")
    assert client.incr("n", 1) == 0
    client.set("n", b"text")
    with pytest.raises(MemcacheClientError, match="cannot increment or decrement non-numeric value"):
        client.incr("n", 1)


def test_pymemcache_lets_items_expire(client: Client) -> None:
    """Items that have expired are not there, and ``touch`` changes when that is."""
    client.set("a", b"1", expire=-1)
    assert client.get("a") is None
    client.set("a", b"1", expire=1000)
    assert client.touch("a", 500) is True
    assert client.touch("b", 500) is False
    client.set("b", b"1")
    assert client.touch("b", -1) is True
    assert client.get("b") is None
    client.set("c", b"1")
    assert client.flush_all() is True
    assert client.get("c") is None


def test_pymemcache_without_replies(client: Client) -> None:
    """Commands with ``noreply`` are carried out, and the replies to the others stay in step."""
    for number in range(100):
        client.set("a", b"%d" % number, noreply=True)
        assert client.get("a") == b"%d" % number
    client.set("n", b"0")
    client.incr("n", 5, noreply=True)
    client.delete("a", noreply=True)
    client.touch("n", 100, noreply=True)
    assert client.get_many(["a", "n"]) == {"n": b"5"}
    client.flush_all(noreply=True)
    assert client.get("n") is None


def test_pymemcache_and_large_values(client: Client) -> None:
    """A value of 1,000,000 bytes and a thousand values of one reply come back; a value of 2 MB is refused."""
    client.set("large", b"x" * 1_000_000)
    assert client.get("large") == b"x" * 1_000_000
    values = {f"key{number}": b"v" * number for number in range(1000)}
    assert client.set_many(values) == []
    assert client.get_many(values) == values


def test_pymemcache_asks_for_numbers(client: Client) -> None:
    """``stats`` has the number of items, and ``version`` something. memcached also counts items that were flushed."""
    client.set("a", b"1")
    assert client.stats()[b"curr_items"] >= 1
    assert client.version()


def line(text: bytes, data: bytes | None = None) -> MemcachedMessage:
    """Return a line without items."""
    return MemcachedMessage(tuple(text.split()), data)


@pytest_twisted.ensureDeferred
async def test_a_client_of_tcpapp_asks_for_items(path: str, global_reactor: Any) -> None:
    """The client's side of the framing sends requests, and each reply is one message, whatever lines it has."""
    client = await tcpapp.connect(f"unix:{path}", framing=memcached(side="client"), reactor=global_reactor)
    assert await client.request(b"flush_all") == line(b"OK")
    assert await client.request(line(b"set a 7 0", b"hello")) == line(b"STORED")
    assert await client.request(line(b"set b 0 0", b"\r\nEND\r\n")) == line(b"STORED")
    found = await client.request(line(b"get a c b"))
    assert found == MemcachedMessage(
        (b"END",), None, (line(b"VALUE a 7", b"hello"), line(b"VALUE b 0", b"\r\nEND\r\n"))
    )
    assert await client.request(b"get c") == line(b"END")
    assert await client.request(b"incr a 1") == line(b"CLIENT_ERROR cannot increment or decrement non-numeric value")
    assert (await client.request(b"gat 100 b")).items == (line(b"VALUE b 0", b"\r\nEND\r\n"),)
    [item] = (await client.request(b"gats -1 b")).items
    assert item.words[:3] == (b"VALUE", b"b", b"0")
    assert await client.request(b"get b") == line(b"END")
    assert await client.request(b"delete a") == line(b"DELETED")
    stats = await client.request(b"stats")
    assert (stats.words, stats.items[0].words[0]) == ((b"END",), b"STAT")
    assert await client.request(b"mn") == line(b"MN")
    assert await client.request(b"nonsense") == line(b"ERROR")
    await client.close()


@pytest_twisted.ensureDeferred
async def test_a_client_of_tcpapp_uses_meta_commands(services: Services, global_reactor: Any) -> None:
    """memcached's replies to meta commands are read, with data and without, and it counts its items."""
    client = await tcpapp.connect(
        f"unix:{services.memcached()}", framing=memcached(side="client"), reactor=global_reactor
    )
    assert await client.request(line(b"ms a T90 F1", b"hello")) == line(b"HD")
    assert await client.request(b"mg a f v") == line(b"VA f1", b"hello")
    assert await client.request(b"mg a f") == line(b"HD f1")
    assert await client.request(b"mg b v") == line(b"EN")
    assert line(b"STAT curr_items 1") in (await client.request(b"stats")).items
    assert (await client.request(b"me a")).words[:2] == (b"ME", b"a")
    assert await client.request(b"md a") == line(b"HD")
    assert await client.request(b"ma a N0 J5 v") == line(b"VA", b"5")
    await client.close()


def test_the_app_is_served_over_tcp(run: Run) -> None:
    """``twistd tcpapp --app memcached --framing memcached`` serves pymemcache at a port."""
    process = run(*SERVED, "tcp:0:interface=127.0.0.1")
    client = Client(("127.0.0.1", process.port()), timeout=PATIENCE)
    client.set("a", b"1", noreply=False)
    assert client.get("a") == b"1"
    assert client.stats()[b"curr_items"] == 1
    client.quit()
    ends(process)
