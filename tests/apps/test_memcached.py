"""The memcached server: its commands, what expires, what goes, and replies that are larger than a message."""

from __future__ import annotations

import time

import pytest

from tcpapp import Timeouts
from tcpapp.apps.cache import LARGEST, Cache
from tcpapp.apps.memcached import AT_ONCE, MONTH, Memcached, memcached
from tcpapp.framing import memcached as memcached_framing
from tcpapp.framing.memcached import MemcachedMessage
from tcpapp.telemetry import AppFailed
from tcpapp.testing.oracles import check_app
from tests.peers import Peer


class Client(Peer):
    """A client of a server with its own items."""

    def __init__(self, app: Memcached | None = None) -> None:
        timeouts = Timeouts(idle=0)  # so that the clock can go on for a month
        super().__init__(Memcached() if app is None else app, memcached_framing(), timeouts=timeouts)

    def asks(self, *lines: bytes) -> bytes:
        """Send these lines, and return what came in reply."""
        self.says(b"".join([line + b"\r\n" for line in lines]))
        return self.hears()


def test_one_app_serves_all_connections() -> None:
    """The app is an instance, so all connections have the same items."""
    assert isinstance(memcached, Memcached)
    app = Memcached()
    assert Client(app).asks(b"set a 0 0 1", b"x") == b"STORED\r\n"
    assert Client(app).asks(b"get a") == b"VALUE a 0 1\r\nx\r\nEND\r\n"


def test_items_are_stored_and_found() -> None:
    """``get`` replies with the items that are there, in the order of the keys; ``gets`` with their numbers, too."""
    client = Client()
    assert client.asks(b"set a 7 0 5", b"hello", b"set b 0 0 0", b"") == b"STORED\r\nSTORED\r\n"
    assert client.asks(b"get b c a") == b"VALUE b 0 0\r\n\r\nVALUE a 7 5\r\nhello\r\nEND\r\n"
    assert client.asks(b"gets a") == b"VALUE a 7 5 1\r\nhello\r\nEND\r\n"
    assert client.asks(b"get c") == b"END\r\n"


def test_add_and_replace_ask_whether_there_is_an_item() -> None:
    """``add`` keeps only a new item, and ``replace`` only another value of an item that is there."""
    client = Client()
    assert client.asks(b"replace a 0 0 1", b"x") == b"NOT_STORED\r\n"
    assert client.asks(b"add a 0 0 1", b"x") == b"STORED\r\n"
    assert client.asks(b"add a 0 0 1", b"y") == b"NOT_STORED\r\n"
    assert client.asks(b"replace a 0 0 1", b"z") == b"STORED\r\n"
    assert client.asks(b"get a") == b"VALUE a 0 1\r\nz\r\nEND\r\n"


def test_append_and_prepend_keep_the_flags() -> None:
    """Data is added to an item that is there; its flags and its expiry stay."""
    client = Client()
    assert client.asks(b"append a 0 0 1", b"x") == b"NOT_STORED\r\n"
    client.asks(b"set a 7 10 1", b"b")
    assert client.asks(b"append a 0 0 1", b"c", b"prepend a 0 0 1", b"a") == b"STORED\r\nSTORED\r\n"
    assert client.asks(b"get a") == b"VALUE a 7 3\r\nabc\r\nEND\r\n"
    client.clock.advance(10)
    assert client.asks(b"get a") == b"END\r\n"


def test_cas_keeps_a_value_if_the_item_has_not_changed() -> None:
    """``cas`` compares the number of the item with the one that ``gets`` gave."""
    client = Client()
    assert client.asks(b"cas a 0 0 1 1", b"x") == b"NOT_FOUND\r\n"
    client.asks(b"set a 0 0 1", b"x")
    assert client.asks(b"cas a 0 0 1 1", b"y") == b"STORED\r\n"
    assert client.asks(b"cas a 0 0 1 1", b"z") == b"EXISTS\r\n"
    assert client.asks(b"cas a 0 0 1 x", b"z") == b"EXISTS\r\n"
    assert client.asks(b"get a") == b"VALUE a 0 1\r\ny\r\nEND\r\n"


def test_counters_have_64_bits() -> None:
    """``incr`` begins again at 0 behind 2^64 - 1, and ``decr`` ends at 0 (protocol.txt)."""
    client = Client()
    assert client.asks(b"incr n 1") == b"NOT_FOUND\r\n"
    client.asks(b"set n 0 0 1", b"9")
    assert client.asks(b"incr n 5", b"decr n 4", b"decr n 11") == b"14\r\n10\r\n0\r\n"
    client.asks(b"set n 0 0 20", b"%d" % (2**64 - 1))
    assert client.asks(b"incr n 2") == b"1\r\n"
    assert client.asks(b"get n") == b"VALUE n 0 1\r\n1\r\nEND\r\n"


@pytest.mark.parametrize("amount", [b"-1", b"x", b"+1", b"1_0", b"%d" % 2**64])
def test_an_amount_is_a_number_of_64_bits(amount: bytes) -> None:
    """Another amount is refused, and so is a counter that is no number."""
    client = Client()
    client.asks(b"set n 0 0 1", b"9", b"set t 0 0 4", b"text")
    assert client.asks(b"incr n " + amount) == b"CLIENT_ERROR invalid numeric delta argument\r\n"
    assert client.asks(b"decr t 1") == b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"


def test_items_are_deleted() -> None:
    """``delete`` takes no time but 0, which old clients send."""
    client = Client()
    client.asks(b"set a 0 0 1", b"x")
    assert client.asks(b"delete a 5") == b"CLIENT_ERROR bad command line format\r\n"
    assert client.asks(b"delete a 0", b"delete a") == b"DELETED\r\nNOT_FOUND\r\n"


def test_items_expire() -> None:
    """An expiry is in seconds from now, or a time of the UNIX clock; 0 is never, and a negative one is at once."""
    client = Client()
    in_a_minute = b"%d" % (time.time() + 60)
    for key, expiry in ((b"a", b"60"), (b"b", b"%d" % MONTH), (b"c", in_a_minute), (b"d", b"0"), (b"e", b"-1")):
        assert client.asks(b"set %b 0 %b 0" % (key, expiry), b"") == b"STORED\r\n"
    assert client.asks(b"get a b c d e").count(b"VALUE") == 4
    client.clock.advance(59)
    assert client.asks(b"get a").count(b"VALUE") == 1
    client.clock.advance(2)
    assert client.asks(b"get a b c d") == b"VALUE b 0 0\r\n\r\nVALUE d 0 0\r\n\r\nEND\r\n"
    client.clock.advance(MONTH)
    assert client.asks(b"get b d") == b"VALUE d 0 0\r\n\r\nEND\r\n"


def test_the_expiry_of_an_item_can_change() -> None:
    """``touch`` changes it, and ``gat`` and ``gats`` do and reply with the items."""
    client = Client()
    client.asks(b"set a 0 10 1", b"x")
    assert client.asks(b"touch a 100", b"touch b 100") == b"TOUCHED\r\nNOT_FOUND\r\n"
    client.clock.advance(99)
    assert client.asks(b"gat 100 a b") == b"VALUE a 0 1\r\nx\r\nEND\r\n"
    client.clock.advance(99)
    assert client.asks(b"gats 0 a") == b"VALUE a 0 1 1\r\nx\r\nEND\r\n"
    client.clock.advance(1e9)
    assert client.asks(b"get a", b"gat -1 a", b"get a") == b"VALUE a 0 1\r\nx\r\nEND\r\n" * 2 + b"END\r\n"


def test_all_items_are_removed_now_or_later() -> None:
    """``flush_all`` removes all items, now or after a delay."""
    client = Client()
    client.asks(b"set a 0 0 1", b"x")
    assert client.asks(b"flush_all", b"get a") == b"OK\r\nEND\r\n"
    client.asks(b"set a 0 0 1", b"x")
    assert client.asks(b"flush_all 10", b"set b 0 0 1", b"x") == b"OK\r\nSTORED\r\n"
    client.clock.advance(9)
    assert client.asks(b"get a b").count(b"VALUE") == 2
    client.clock.advance(1)
    assert client.asks(b"get a b") == b"END\r\n"
    assert client.asks(b"set a 0 0 1", b"x", b"get a").count(b"VALUE") == 1


def test_no_reply_is_sent_to_noreply() -> None:
    """A command that ends with ``noreply`` is carried out silently."""
    client = Client()
    assert client.asks(b"set n 0 0 1 noreply", b"1", b"incr n 1 noreply", b"cas n 0 0 1 9 noreply", b"x") == b""
    assert client.asks(b"get n") == b"VALUE n 0 1\r\n2\r\nEND\r\n"
    assert client.asks(b"delete n noreply", b"flush_all noreply", b"get n") == b"END\r\n"


def test_commands_of_the_server() -> None:
    """The server says its version and its numbers, and takes what clients send to be polite."""
    client = Client(Memcached(Cache(1000)))
    client.asks(b"set a 0 0 1", b"x", b"get a b")
    assert client.asks(b"version", b"verbosity 1", b"mn") == b"VERSION tcpapp\r\nOK\r\nMN\r\n"
    lines = client.asks(b"stats").splitlines()
    assert lines[-1] == b"END"
    assert {b"STAT curr_items 1", b"STAT get_hits 1", b"STAT get_misses 1", b"STAT limit_maxbytes 1000"} < {*lines}
    assert client.asks(b"stats items") == b"END\r\n"


def test_quit_closes_the_connection() -> None:
    """``quit`` has no reply."""
    client = Client()
    assert client.asks(b"quit") == b""
    assert client.transport.disconnecting


@pytest.mark.parametrize(
    "line",
    [
        b"get",
        b"gat 60",
        b"gat x a",
        b"touch a",
        b"touch a x",
        b"touch a 99999999999999999999",
        b"incr a",
        b"delete",
        b"flush_all x",
        b"flush_all -1",
        b"quit now",
        b"set a x 0 0\r\n",
        b"set a 4294967296 0 0\r\n",
        b"set a 0 x 0\r\n",
        b"set a 0 0 0 more\r\n",
    ],
)
def test_other_words_are_refused(line: bytes) -> None:
    """A command with other words than it takes is an error of the client, and the connection goes on."""
    client = Client()
    client.asks(b"set a 0 0 1", b"x")
    assert client.asks(line, b"mn") == b"CLIENT_ERROR bad command line format\r\nMN\r\n"


@pytest.mark.parametrize("lines", [[b"GET a"], [b"hello"], [b"mg a v"], [b"ms a 1", b"x"], [b"shutdown"]])
def test_unknown_commands_are_refused(lines: list[bytes]) -> None:
    """A command that is not there, of the meta commands, too, is an error, and its data is no command."""
    assert Client().asks(*lines, b"mn") == b"ERROR\r\nMN\r\n"


def test_a_value_that_is_too_large_is_refused() -> None:
    """A value over the limit is refused, when it is stored and when it grows, and the connection goes on."""
    client = Client()
    large = b"x" * LARGEST
    assert client.asks(b"set a 0 0 %d" % LARGEST, large) == b"STORED\r\n"
    assert client.asks(b"append a 0 0 1", b"x") == b"SERVER_ERROR object too large for cache\r\n"
    assert client.asks(b"get a").endswith(b"x\r\nEND\r\n")
    assert client.asks(b"set a 0 0 %d" % (LARGEST + 1), large + b"x") == b"SERVER_ERROR object too large for cache\r\n"


def test_the_items_of_a_large_reply_are_sent_as_the_client_takes_them() -> None:
    """A reply of any length is sent, and at most the connection's write mark and one item of it are in memory."""
    client = Client()
    value = b"x" * (AT_ONCE // 2 + 1)
    client.asks(b"set a 0 0 %d" % len(value), value)
    item = b"VALUE a 0 %d\r\n%b\r\n" % (len(value), value)
    assert client.asks(b"get a a", b"mn") == item * 2 + b"END\r\nMN\r\n"
    client.transport.stall()
    client.says(b"get" + b" a" * 1000 + b"\r\n")
    assert client.transport.unsent + client.protocol._outbox.unsent < 64 * 1024 + 2 * len(item)
    client.transport.go_on()
    assert client.hears() == item * 1000 + b"END\r\n"


def test_another_framing_is_named() -> None:
    """With another framing, the error names the framing that the app takes."""
    peer = Peer(Memcached(), "line")
    peer.says(b"get a\n")
    [failed] = [each for each in peer.events if isinstance(each, AppFailed)]
    assert "--framing memcached" in failed.failure.getErrorMessage()


def test_the_app_leaves_nothing() -> None:
    """Whatever a client sends, and however its connection ends, the app leaves no call behind and raises nothing."""
    requests = [[b"set", b"a", b"0", b"5"], [b"append", b"a", b"0", b"0"], [b"ms", b"a"]]
    lines = [b"get a b", b"gat 5 a", b"incr a 1", b"touch a 5", b"delete a", b"flush_all 1", b"stats", b"quit", b"x"]
    messages = [MemcachedMessage(tuple(words), b"12") for words in requests]
    messages += [MemcachedMessage(tuple(line.split())) for line in lines]
    check_app(Memcached(), memcached_framing(), messages=messages, frame=memcached_framing(side="client").frame)
