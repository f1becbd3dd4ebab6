"""The Redis server: its commands in both versions of RESP, transactions and subscriptions."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.apps.cache import LARGEST, Cache
from tcpapp.apps.redis import MOST_WATCHED, Redis, redis
from tcpapp.apps.redis_channels import LONGEST_NAME, Channels
from tcpapp.apps.redis_transaction import MOST_BYTES
from tcpapp.framing import resp
from tcpapp.framing.resp import ErrorReply, Map, Push
from tcpapp.telemetry import AppFailed, Closed
from tcpapp.testing.oracles import check_app
from tests.peers import Peer

SYNTAX = ErrorReply(b"ERR syntax error")


def server(**options: Any) -> type[Redis]:
    """Return an app with its own items and channels."""
    return type("RedisHere", (Redis,), {"cache": Cache(**options), "channels": Channels()})


class Client(Peer):
    """A client of a server with its own items, which sends requests and reads values."""

    def __init__(self, app: type[Redis] | None = None) -> None:
        super().__init__(server() if app is None else app, resp())
        self.framing = resp(side="client")

    def asks(self, *words: bytes | str) -> Any:
        """Send a command, and return its reply."""
        [reply] = self.asks_all(words)
        return reply

    def asks_all(self, *commands: tuple[bytes | str, ...] | list[bytes | str]) -> list[Any]:
        """Send commands in one chunk, and return what came."""
        requests = [[each.encode() if isinstance(each, str) else each for each in words] for words in commands]
        self.says(b"".join(map(self.framing.frame, requests)))
        return self.reads()

    def reads(self) -> list[Any]:
        """Return what came since the last call."""
        return self.framing.receive(self.hears())


@pytest.fixture
def client() -> Client:
    """Give a client of its own server."""
    return Client()


def test_the_app_is_the_class() -> None:
    """Each connection has its own object, and all have the same items and channels."""
    assert redis is Redis
    app = server()
    assert Client(app).asks("SET", "a", "1") == b"OK"
    assert Client(app).asks("GET", "a") == b"1"


# The connection


def test_a_client_begins_in_version_2(client: Client) -> None:
    """Without ``HELLO`` a null is a null of version 2, and a map an array."""
    client.says(b"GET a\r\n")
    assert client.hears() == b"$-1\r\n"
    assert client.asks("HELLO")[:2] == [b"server", b"redis"]


def test_hello_goes_on_in_another_version(client: Client) -> None:
    """The reply to ``HELLO 3`` and all after it have types of version 3, in one chunk, too; ``HELLO 2`` goes back."""
    about, null = client.asks_all(("hello", "3", "SETNAME", "me"), ("GET", "a"))
    assert type(about) is Map
    assert (b"proto", 3) in about
    assert (b"id", client.connection.id) in about
    assert null is None
    assert client.asks("CLIENT", "GETNAME") == b"me"
    client.says(b"GET a\r\n")
    assert client.hears() == b"_\r\n"
    assert type(client.asks("HELLO")) is Map
    assert type(client.asks("HELLO", "2")) is list
    client.says(b"GET a\r\n")
    assert client.hears() == b"$-1\r\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("4",), b"NOPROTO"),
        (("x",), b"NOPROTO"),
        (("3", "AUTH", "default", "secret"), b"ERR"),
        (("3", "SETNAME"), b"ERR"),
        (("3", "HELLO"), b"ERR"),
    ],
)
def test_a_hello_that_is_refused_changes_nothing(client: Client, words: tuple[str, ...], code: bytes) -> None:
    """Another version, a password and other options are refused."""
    assert client.asks("HELLO", *words).text.startswith(code)
    client.says(b"GET a\r\n")
    assert client.hears() == b"$-1\r\n"


def test_the_version_keeps_the_limits_of_the_framing() -> None:
    """After ``HELLO`` a message has at most as many bytes as before."""
    client = Peer(server(), resp(max=200))
    client.says(b"HELLO 3\r\n*1\r\n$201\r\n")
    client.transport.turn()
    [closed] = [each for each in client.events if isinstance(each, Closed)]
    assert closed.reason.rule == "message-too-long"


def test_a_client_says_what_it_is(client: Client) -> None:
    """The server takes the names of clients and their libraries, and refuses other subcommands."""
    assert client.asks("CLIENT", "SETINFO", "LIB-NAME", "redis-py") == b"OK"
    assert client.asks("CLIENT", "GETNAME") is None
    assert client.asks("CLIENT", "SETNAME", "me") == b"OK"
    assert client.asks("CLIENT", "GETNAME") == b"me"
    assert client.asks("CLIENT", "ID") == client.connection.id
    assert client.asks("CLIENT", "SETNAME", "x" * 251) == ErrorReply(b"ERR too long a name")
    for words in (("KILL",), ("SETNAME",), ("GETNAME", "x"), ("ID", "x"), ("SETINFO", "x")):
        assert client.asks("CLIENT", *words).text.startswith(b"ERR unknown subcommand")


def test_small_commands(client: Client) -> None:
    """``PING``, ``ECHO``, ``SELECT`` and ``COMMAND`` reply as Redis does; there is no password, and one database."""
    assert client.asks_all(("PING",), ("ping", "x"), ("ECHO", "y")) == [b"PONG", b"x", b"y"]
    assert client.asks("SELECT", "0") == b"OK"
    assert client.asks("SELECT", "1") == ErrorReply(b"ERR DB index is out of range")
    assert client.asks("COMMAND", "DOCS") == []
    assert client.asks("AUTH", "secret").text.startswith(b"ERR AUTH called without any password")


def test_quit_closes_the_connection(client: Client) -> None:
    """``QUIT`` has a reply, and then the connection is closed."""
    assert client.asks_all(("QUIT",), ("PING",)) == [b"OK"]
    assert client.transport.disconnecting


def test_other_commands_are_refused(client: Client) -> None:
    """An unknown command, and another number of words, are errors in one line, and the connection goes on."""
    assert client.asks("LPUSH", "a", "b") == ErrorReply(b"ERR unknown command 'LPUSH'")
    assert client.asks(b"a\r\nb") == ErrorReply(b"ERR unknown command 'A\\r\\nB'")
    assert client.asks("GET") == ErrorReply(b"ERR wrong number of arguments for 'get' command")
    assert client.asks("PING", "a", "b") == ErrorReply(b"ERR wrong number of arguments for 'ping' command")
    assert client.asks("PING") == b"PONG"


# Strings


def test_values_are_kept(client: Client) -> None:
    """A value is any bytes, and is there until it is deleted."""
    assert client.asks("SET", "a", b"\r\n\0\xff") == b"OK"
    assert client.asks_all(("GET", "a"), ("GET", "b"), ("STRLEN", "a"), ("STRLEN", "b")) == [b"\r\n\0\xff", None, 4, 0]
    assert client.asks_all(("TYPE", "a"), ("TYPE", "b"), ("EXISTS", "a", "b", "a"), ("DBSIZE",)) == [
        b"string",
        b"none",
        2,
        1,
    ]
    assert client.asks_all(("DEL", "a", "b"), ("UNLINK", "a"), ("GET", "a")) == [1, 0, None]


def test_set_has_conditions(client: Client) -> None:
    """``NX`` keeps only a new key, ``XX`` only one that is there, and ``GET`` replies with the value before."""
    assert client.asks("SET", "a", "1", "XX") is None
    assert client.asks("SET", "a", "1", "nx") == b"OK"
    assert client.asks("SET", "a", "2", "NX") is None
    assert client.asks("SET", "a", "2", "XX", "GET") == b"1"
    assert client.asks("SET", "a", "3", "NX", "GET") == b"2"
    assert client.asks("SET", "b", "3", "GET") is None
    assert client.asks_all(("GET", "a"), ("GET", "b")) == [b"2", b"3"]
    assert client.asks_all(("SETNX", "a", "x"), ("SETNX", "c", "x"), ("GETSET", "c", "y")) == [0, 1, b"x"]
    assert client.asks_all(("GETDEL", "c"), ("GETDEL", "c")) == [b"y", None]


def test_values_expire(client: Client) -> None:
    """``EX`` is in seconds and ``PX`` in milliseconds; a value that is set without them does not expire."""
    client.asks_all(("SET", "a", "1", "EX", "10"), ("SET", "b", "1", "PX", "1500"), ("SETEX", "c", "5", "1"))
    client.asks_all(("PSETEX", "d", "500", "1"), ("SET", "e", "1"))
    assert [client.asks("TTL", key) for key in "abcdef"] == [10, 2, 5, 1, -1, -2]
    assert [client.asks("PTTL", key) for key in "abcdef"] == [10000, 1500, 5000, 500, -1, -2]
    client.clock.advance(2)
    assert client.asks("MGET", *"abcdef") == [b"1", None, b"1", None, b"1", None]
    client.asks_all(("SET", "a", "2", "KEEPTTL"), ("SET", "c", "2"), ("SET", "f", "2", "KEEPTTL"))
    assert client.asks_all(("TTL", "a"), ("TTL", "c"), ("TTL", "f")) == [8, -1, -1]


def test_the_expiry_of_a_key_can_change(client: Client) -> None:
    """``EXPIRE`` and ``PEXPIRE`` set it, ``PERSIST`` takes it away, and other commands keep it."""
    client.asks("SET", "a", "1")
    assert client.asks_all(("EXPIRE", "a", "10"), ("EXPIRE", "b", "10"), ("PEXPIRE", "b", "10")) == [1, 0, 0]
    client.asks_all(("INCR", "a"), ("APPEND", "a", "0"))
    assert client.asks_all(("TTL", "a"), ("GET", "a")) == [10, b"20"]
    assert client.asks_all(("PERSIST", "a"), ("PERSIST", "a"), ("PERSIST", "b"), ("TTL", "a")) == [1, 0, 0, -1]
    assert client.asks_all(("PEXPIRE", "a", "5000"), ("TTL", "a"), ("EXPIRE", "a", "-1"), ("GET", "a")) == [
        1,
        5,
        1,
        None,
    ]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("EX",), b"ERR syntax error"),
        (("XY",), b"ERR syntax error"),
        (("NX", "XX"), b"ERR syntax error"),
        (("EX", "1", "PX", "1"), b"ERR syntax error"),
        (("EX", "1", "KEEPTTL"), b"ERR syntax error"),
        (("EX", "x"), b"ERR value is not an integer or out of range"),
        (("EX", "1_0"), b"ERR value is not an integer or out of range"),
        (("EX", "99999999999999999999"), b"ERR value is not an integer or out of range"),
        (("EX", "0"), b"ERR invalid expire time in 'set' command"),
        (("PX", "-1"), b"ERR invalid expire time in 'set' command"),
    ],
)
def test_a_set_that_is_refused_keeps_nothing(client: Client, options: tuple[str, ...], error: bytes) -> None:
    """Options that do not fit each other, and times that are none, are errors."""
    assert client.asks("SET", "a", "1", *options) == ErrorReply(error)
    assert client.asks("GET", "a") is None


def test_many_keys_at_once(client: Client) -> None:
    """``MSET`` keeps pairs, and ``MGET`` replies with the values of keys."""
    assert client.asks("MSET", "a", "1", "b", "2") == b"OK"
    assert client.asks("MGET", "a", "x", "b") == [b"1", None, b"2"]
    assert client.asks("MSET", "a", "1", "b").text.startswith(b"ERR wrong number")
    assert client.asks_all(("FLUSHDB",), ("FLUSHALL", "ASYNC"), ("DBSIZE",)) == [b"OK", b"OK", 0]


def test_counters_have_64_bits(client: Client) -> None:
    """A counter is an integer with a sign, which begins at 0 and does not overflow."""
    assert client.asks_all(("INCR", "n"), ("INCRBY", "n", "10"), ("DECR", "n"), ("DECRBY", "n", "20")) == [
        1,
        11,
        10,
        -10,
    ]
    client.asks("SET", "n", str(2**63 - 1))
    assert client.asks("INCR", "n") == ErrorReply(b"ERR increment or decrement would overflow")
    client.asks("SET", "n", "text")
    for words in (("INCR", "n"), ("INCRBY", "m", "1.5"), ("INCRBY", "m", str(2**63))):
        assert client.asks(*words) == ErrorReply(b"ERR value is not an integer or out of range")


def test_values_and_replies_are_bounded(client: Client) -> None:
    """A value over the limit is refused, when it is set and when it grows, and so is a list of values over it."""
    large = b"x" * LARGEST
    assert client.asks("SET", "a", large) == b"OK"
    assert client.asks("APPEND", "a", "x").text.startswith(b"ERR a value or reply is over")
    assert client.asks("APPEND", "b", "x") == 1
    assert client.asks("MGET", "a", "a").text.startswith(b"ERR a value or reply is over")
    assert client.asks("GET", "a") == large


# Transactions


def test_the_commands_of_a_transaction_are_run_together(client: Client) -> None:
    """Between ``MULTI`` and ``EXEC`` commands are queued, and ``EXEC`` replies with all their replies."""
    assert client.asks_all(("MULTI",), ("SET", "a", "1"), ("incr", "a"), ("LPUSH",), ("PING",))[:3] == [
        b"OK",
        b"QUEUED",
        b"QUEUED",
    ]
    assert client.asks("EXEC").text.startswith(b"EXECABORT")
    client.asks_all(("MULTI",), ("SET", "a", "x"), ("INCR", "a"), ("GET", "a"), ("ECHO", "hi"))
    error = ErrorReply(b"ERR value is not an integer or out of range")
    assert client.asks("EXEC") == [b"OK", error, b"x", b"hi"]
    assert client.asks("GET", "a") == b"x"


def test_a_transaction_can_be_discarded(client: Client) -> None:
    """``DISCARD`` forgets the commands."""
    assert client.asks_all(("MULTI",), ("SET", "a", "1"), ("DISCARD",), ("GET", "a")) == [b"OK", b"QUEUED", b"OK", None]


def test_transactions_do_not_nest(client: Client) -> None:
    """``MULTI`` in a transaction is refused, and the end of none."""
    assert client.asks("EXEC") == ErrorReply(b"ERR EXEC without MULTI")
    assert client.asks("DISCARD") == ErrorReply(b"ERR DISCARD without MULTI")
    assert client.asks_all(("MULTI",), ("MULTI",))[1] == ErrorReply(b"ERR MULTI calls can not be nested")
    assert client.asks("WATCH", "a") == ErrorReply(b"ERR WATCH inside MULTI is not allowed")
    assert client.asks("EXEC") == []


@pytest.mark.parametrize("words", [("SUBSCRIBE", "a"), ("HELLO", "3"), ("GET",), ("WHAT",)])
def test_a_command_that_cannot_be_queued_ends_the_transaction(client: Client, words: tuple[str, ...]) -> None:
    """After a command that was refused, none of the transaction is run."""
    client.asks_all(("MULTI",), ("SET", "a", "1"))
    assert client.asks(*words).text.startswith(b"ERR")
    assert client.asks("EXEC").text.startswith(b"EXECABORT")
    assert client.asks("GET", "a") is None


def test_a_transaction_is_bounded(client: Client) -> None:
    """A transaction has so many bytes of commands, and its reply as many as a value."""
    client.asks("MULTI")
    value = b"x" * 1_000_000
    for _ in range(MOST_BYTES // len(value)):
        assert client.asks("SET", "a", value) == b"QUEUED"
    assert client.asks("SET", "a", value) == ErrorReply(b"ERR too many commands in a transaction")
    assert client.asks("EXEC").text.startswith(b"EXECABORT")
    client.asks_all(("SET", "a", value), ("MULTI",), ("GET", "a"), ("MGET", "a"), ("PING",))
    first, *others = client.asks("EXEC")
    assert first == value
    assert [type(each) for each in others] == [ErrorReply, ErrorReply]


@pytest.mark.parametrize(
    "change", [("SET", "a", "1"), ("APPEND", "a", ""), ("DEL", "a"), ("FLUSHALL",), ("INCR", "a"), ("SET", "b", "1")]
)
def test_a_watched_key_stops_the_transaction_if_it_changes(change: tuple[str, ...]) -> None:
    """After a change by another client, or of a key that was not there, ``EXEC`` runs nothing and replies with null."""
    app = server()
    client, other = Client(app), Client(app)
    client.asks_all(("SET", "a", "1"), ("WATCH", "a", "b"))
    other.asks(*change)
    assert client.asks_all(("MULTI",), ("SET", "c", "1"), ("EXEC",)) == [b"OK", b"QUEUED", None]
    assert client.asks_all(("MULTI",), ("SET", "c", "1"), ("EXEC",)) == [b"OK", b"QUEUED", [b"OK"]]


def test_keys_are_watched_until_the_end_of_a_transaction(client: Client) -> None:
    """Keys that do not change stop nothing, and ``UNWATCH`` and ``DISCARD`` forget them."""
    client.asks_all(("SET", "a", "1"), ("WATCH", "a"), ("SET", "b", "1"), ("MULTI",))
    assert client.asks("EXEC") == []
    for words in (("UNWATCH",), ("MULTI",)):
        client.asks_all(("WATCH", "a"), ("SET", "a", "2"), words)
        assert client.asks("DISCARD" if words == ("MULTI",) else "MULTI") == b"OK"
    assert client.asks_all(("MULTI",), ("PING",), ("EXEC",))[-1] == [b"PONG"]


def test_watched_keys_are_bounded(client: Client) -> None:
    """A connection watches so many keys and no more; a key that it watches already is no more."""
    names = [str(each) for each in range(MOST_WATCHED)]
    assert client.asks("WATCH", *names) == b"OK"
    assert client.asks("WATCH", "0") == b"OK"
    error = ErrorReply(b"ERR too many watched keys, or too long a key")
    assert client.asks("WATCH", "x") == error
    assert client.asks_all(("UNWATCH",), ("WATCH", b"k" * 251), ("WATCH", b"k" * 250)) == [b"OK", error, b"OK"]


# Channels


def test_a_subscriber_hears_what_is_published() -> None:
    """A message goes to the subscribers of its channel, and the reply says to how many."""
    app = server()
    subscriber, publisher = Client(app), Client(app)
    assert subscriber.asks_all(("SUBSCRIBE", "a", "b")) == [[b"subscribe", b"a", 1], [b"subscribe", b"b", 2]]
    assert subscriber.asks("PSUBSCRIBE", "a*") == [b"psubscribe", b"a*", 3]
    assert publisher.asks("PUBLISH", "a", "hello") == 2
    assert subscriber.reads() == [[b"message", b"a", b"hello"], [b"pmessage", b"a*", b"a", b"hello"]]
    assert subscriber.asks("UNSUBSCRIBE", "a") == [b"unsubscribe", b"a", 2]
    assert subscriber.asks("UNSUBSCRIBE", "x") == [b"unsubscribe", b"x", 2]
    assert subscriber.asks("PUNSUBSCRIBE") == [b"punsubscribe", b"a*", 1]
    assert subscriber.asks("UNSUBSCRIBE") == [b"unsubscribe", b"b", 0]
    assert subscriber.asks("UNSUBSCRIBE") == [b"unsubscribe", None, 0]
    assert publisher.asks("PUBLISH", "a", "hello") == 0
    assert subscriber.reads() == []


def test_a_subscriber_of_version_2_is_only_that(client: Client) -> None:
    """A client of version 2 with subscriptions can do little else, because messages look like replies."""
    client.asks("SUBSCRIBE", "a")
    assert client.asks("GET", "a").text.startswith(b"ERR only (P)SUBSCRIBE")
    assert client.asks_all(("PING",), ("PING", "x")) == [[b"pong", b""], [b"pong", b"x"]]
    client.asks("UNSUBSCRIBE", "a")
    assert client.asks_all(("GET", "a"), ("PING",)) == [None, b"PONG"]


def test_a_subscriber_of_version_3_can_do_everything(client: Client) -> None:
    """In version 3 messages are of their own type, so other commands can be sent between them."""
    client.asks("HELLO", "3")
    [subscribed] = client.asks_all(("SUBSCRIBE", "a"))
    assert type(subscribed) is Push
    message, reply = client.asks_all(("PUBLISH", "a", "x"))
    assert (type(message), message, reply) == (Push, [b"message", b"a", b"x"], 1)
    assert client.asks("PING") == b"PONG"


def test_a_connection_that_ends_has_no_subscriptions() -> None:
    """After the end of a connection, its channels have no trace of it."""
    app = server()
    client = Client(app)
    client.asks_all(("SUBSCRIBE", "a"), ("PSUBSCRIBE", "a*"))
    client.transport.reset()
    assert vars(app.channels) == vars(Channels())


def test_subscriptions_are_bounded(client: Client) -> None:
    """A name that is too long is refused, and so is a message that is too long."""
    assert client.asks("SUBSCRIBE", "x" * (LONGEST_NAME + 1)).text.startswith(b"ERR too many subscriptions")
    assert client.asks("PUBLISH", "a", b"x" * (LARGEST + 1)).text.startswith(b"ERR a value or reply is over")


def test_a_message_that_a_subscriber_cannot_get_is_not_sent() -> None:
    """A message over the ``max`` of one subscriber is sent to none, and harms nobody."""
    app = server()
    subscriber = Peer(app, resp(max=100))
    subscriber.says(b"PSUBSCRIBE *\r\n")
    subscriber.hears()
    assert Client(app).asks("PUBLISH", "a", b"x" * 100) == 0
    assert subscriber.hears() == b""


def test_another_framing_is_named() -> None:
    """With another framing, the error names the framing that the app takes."""
    peer = Peer(server(), "line")
    peer.says(b"PING\n")
    [failed] = [each for each in peer.events if isinstance(each, AppFailed)]
    assert "--framing resp" in failed.failure.getErrorMessage()


def test_the_app_leaves_nothing() -> None:
    """Whatever a client sends, and however its connection ends, the app leaves no call behind and raises nothing."""
    lines = (
        "PING|HELLO 3|HELLO 2|SET a 1 EX 5|GET a|INCR a|MULTI|EXEC|WATCH a|SUBSCRIBE a|PSUBSCRIBE a*|PUBLISH a x|QUIT|X"
    )
    messages = [line.encode().split() for line in lines.split("|")]
    check_app(server(), resp(), messages=messages, frame=resp(side="client").frame)
