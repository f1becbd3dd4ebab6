"""memcached's text protocol, as servers and clients read and write it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.errors import MalformedFrame, MessageTooLong, TruncatedMessage, UnsendableMessage
from tcpapp.framing import from_string, memcached
from tcpapp.framing.memcached import MemcachedMessage
from tcpapp.testing.oracles import check_framing
from tests.framing.streams import Outcome, ends, read, same

SERVER, CLIENT = memcached(), memcached(side="client")


def line(text: bytes, data: bytes | None = None) -> MemcachedMessage:
    """Return a line without items."""
    return MemcachedMessage(tuple(text.split()), data)


REQUESTS = {
    b"get a\r\n": line(b"get a"),
    b"gets a b c\r\n": line(b"gets a b c"),
    b"gat 60 a b\r\n": line(b"gat 60 a b"),
    b"set a 0 60 5\r\nhello\r\n": line(b"set a 0 60", b"hello"),
    b"set a 0 60 5 noreply\r\nhello\r\n": line(b"set a 0 60 noreply", b"hello"),
    b"add a 4294967295 -1 0\r\n\r\n": line(b"add a 4294967295 -1", b""),
    b"replace a 0 0 2\r\n\r\n\r\n": line(b"replace a 0 0", b"\r\n"),
    b"append a 0 0 1\r\nx\r\n": line(b"append a 0 0", b"x"),
    b"prepend a 0 0 1\r\nx\r\n": line(b"prepend a 0 0", b"x"),
    b"cas a 0 0 1 17 noreply\r\nx\r\n": line(b"cas a 0 0 17 noreply", b"x"),
    b"incr a 5\r\n": line(b"incr a 5"),
    b"decr a 5 noreply\r\n": line(b"decr a 5 noreply"),
    b"touch a 60\r\n": line(b"touch a 60"),
    b"delete a noreply\r\n": line(b"delete a noreply"),
    b"flush_all 10\r\n": line(b"flush_all 10"),
    b"stats items\r\n": line(b"stats items"),
    b"version\r\n": line(b"version"),
    b"quit\r\n": line(b"quit"),
    b"mg a t f v\r\n": line(b"mg a t f v"),
    b"ms a 5 T90 F1\r\nhello\r\n": line(b"ms a T90 F1", b"hello"),
    b"ms a 0\r\n\r\n": line(b"ms a", b""),
    b"md a I T30 q\r\n": line(b"md a I T30 q"),
    b"ma a D5 v\r\n": line(b"ma a D5 v"),
    b"mn\r\n": line(b"mn"),
    b"me a\r\n": line(b"me a"),
}
"""Requests of protocol.txt, classic and meta, and what a server receives."""

REPLIES = {
    b"STORED\r\n": line(b"STORED"),
    b"NOT_FOUND\r\n": line(b"NOT_FOUND"),
    b"END\r\n": line(b"END"),
    b"VALUE a 0 5\r\nhello\r\nEND\r\n": MemcachedMessage((b"END",), None, (line(b"VALUE a 0", b"hello"),)),
    b"VALUE a 1 0 9\r\n\r\nVALUE b 2 5\r\nEND\r\n\r\nEND\r\n": MemcachedMessage(
        (b"END",), None, (line(b"VALUE a 1 9", b""), line(b"VALUE b 2", b"END\r\n"))
    ),
    b"VALUE a 0 1\r\nx\r\nSERVER_ERROR out of memory\r\n": MemcachedMessage(
        (b"SERVER_ERROR", b"out", b"of", b"memory"), None, (line(b"VALUE a 0", b"x"),)
    ),
    b"STAT pid 1\r\nSTAT version 1.6.18\r\nEND\r\n": MemcachedMessage(
        (b"END",), None, (line(b"STAT pid 1"), line(b"STAT version 1.6.18"))
    ),
    b"17\r\n": line(b"17"),
    b"VERSION 1.6.18\r\n": line(b"VERSION 1.6.18"),
    b"CLIENT_ERROR bad data chunk\r\n": line(b"CLIENT_ERROR bad data chunk"),
    b"ERROR\r\n": line(b"ERROR"),
    b"HD t78 f1\r\n": line(b"HD t78 f1"),
    b"VA 5 t78 f1\r\nhello\r\n": line(b"VA t78 f1", b"hello"),
    b"EN\r\n": line(b"EN"),
    b"MN\r\n": line(b"MN"),
    b"ME a exp=-1 la=3\r\n": line(b"ME a exp=-1 la=3"),
}
"""Replies of protocol.txt, and what a client receives."""


@pytest.mark.parametrize(("stream", "message"), REQUESTS.items())
def test_a_server_receives_each_request(stream: bytes, message: MemcachedMessage) -> None:
    """A request is its words without the length of its data, and its data; a client sends it as the same bytes."""
    assert same(SERVER, stream) == Outcome((message,), None, 0)
    assert CLIENT.frame(message) == stream


@pytest.mark.parametrize(("stream", "message"), REPLIES.items())
def test_a_client_receives_each_reply(stream: bytes, message: MemcachedMessage) -> None:
    """A reply of any number of lines is one message; a server sends it as the same bytes."""
    assert same(CLIENT, stream) == Outcome((message,), None, 0)
    assert SERVER.frame(message) == stream


def test_requests_and_replies_can_come_one_after_the_other() -> None:
    """Pipelined requests and their replies are cut where they end."""
    assert read(SERVER, [b"".join(REQUESTS)]).messages == tuple(REQUESTS.values())
    assert read(CLIENT, [b"".join(REPLIES)]).messages == tuple(REPLIES.values())


def test_a_line_ends_with_lf_and_words_with_spaces() -> None:
    """As memcached does, the framing accepts LF without CR, and more than one space."""
    assert same(SERVER, b"get  a\nset a 0 0 1\nx\r\n").messages == (line(b"get a"), line(b"set a 0 0", b"x"))


@pytest.mark.parametrize(
    "size",
    [b"+5", b"-1", b"1_0", b" ", b"0x5", b"5.0", b"\xd9\xa5", b"five", b"9" * 19, b"9" * 5000],
)
def test_a_length_is_a_few_digits(size: bytes) -> None:
    """A length is 1 to 18 digits: what else `int` reads is malformed, and long digits cost nothing."""
    assert same(SERVER, b"set a 0 0 " + size[:200] + b"\r\nhello\r\n") == Outcome((), MalformedFrame, 0)
    assert type(ends(SERVER, [b"ms a " + size + b"\r\nhello\r\n"])) is MalformedFrame
    assert type(ends(CLIENT, [b"VALUE a 0 " + size + b"\r\nhello\r\n"])) is MalformedFrame


@pytest.mark.parametrize("stream", [b"set\r\n", b"set a 0 0\r\n", b"cas a 0 0\r\n", b"ms a\r\n"])
def test_a_request_without_its_length_is_malformed(stream: bytes) -> None:
    """A line that misses the length of its data is malformed, since nobody knows where the next line begins."""
    assert "takes 1 to 18 decimal digits" in str(ends(SERVER, [stream]))
    assert same(SERVER, stream) == Outcome((), MalformedFrame, 0)


def test_a_length_over_max_is_refused_before_the_data() -> None:
    """A length that does not fit into ``max`` is refused when it comes, and nothing is reserved for it."""
    for size in (b"1048577", b"999999999999999999"):
        assert type(ends(SERVER, [b"set a 0 0 " + size + b"\r\n"])) is MessageTooLong


def test_keys_have_250_bytes() -> None:
    """A key of 250 bytes is accepted, and a longer one is malformed in a request."""
    assert read(SERVER, [b"get " + b"k" * 250 + b"\r\n"]).messages == (line(b"get " + b"k" * 250),)
    assert "a word of 251 bytes; takes at most 250" in str(ends(SERVER, [b"get a " + b"k" * 251 + b"\r\n"]))
    assert read(CLIENT, [b"STAT path " + b"k" * 251 + b"\r\nEND\r\n"]).failure is None


def test_a_line_has_64_kibibytes() -> None:
    """A ``get`` of many keys is accepted up to 65,536 bytes, and a longer line is refused before its end."""
    keys = b" ".join([b"%0249d" % each for each in range(262)])
    assert read(SERVER, [b"get " + keys + b"\r\n"]).messages == (line(b"get " + keys),)
    assert type(ends(SERVER, [b"a " * 32769])) is MessageTooLong


@pytest.mark.parametrize(
    "stream", [b"\r\n", b"  \r\n", b"get a\tb\r\n", b"get a\rb\r\n", b"get \0\r\n", b"\x80\x01\0\0\n"]
)
def test_a_line_has_words_without_control_characters(stream: bytes) -> None:
    """An empty line, a control character, and a request of the binary protocol are malformed."""
    assert same(SERVER, b"mn\r\n" + stream) == Outcome((line(b"mn"),), MalformedFrame, 0)


def test_data_ends_where_its_length_says() -> None:
    """Data without CR LF behind it is malformed, so a false length does not turn data into commands."""
    assert same(SERVER, b"set a 0 0 3\r\nhello\r\n") == Outcome((), MalformedFrame, 0)
    assert same(SERVER, b"set a 0 0 5\r\nhel") == Outcome((), TruncatedMessage, 0)


def test_a_reply_ends_with_its_last_line() -> None:
    """A stream that ends between the items of a reply is truncated."""
    assert same(CLIENT, b"STAT a 1\r\n") == Outcome((), TruncatedMessage, 0)
    assert same(CLIENT, b"EN\r\nVALUE a 0 1\r\nx\r\n") == Outcome((line(b"EN"),), TruncatedMessage, 0)


def test_bytes_are_sent_as_a_line() -> None:
    """`bytes` are a line without data."""
    assert SERVER.frame(b"SERVER_ERROR out of memory") == b"SERVER_ERROR out of memory\r\n"


def test_the_lines_of_a_reply_can_be_sent_one_by_one() -> None:
    """A large reply need not be in memory as one message: its items can be sent as messages before its last line."""
    whole = REPLIES[b"VALUE a 1 0 9\r\n\r\nVALUE b 2 5\r\nEND\r\n\r\nEND\r\n"]
    assert SERVER.frame(whole) == SERVER.frame_all([*whole.items, MemcachedMessage((b"END",))])


@pytest.mark.parametrize(
    "message",
    [
        MemcachedMessage(()),
        MemcachedMessage((), b"data"),
        MemcachedMessage((b"set", b"a", b"0", b"0")),
        MemcachedMessage((b"set", b"a", b"0"), b"data"),
        MemcachedMessage((b"get", b"a"), b"data"),
        MemcachedMessage((b"set", b"a", b"0", b"0"), "data"),  # type: ignore[arg-type]
        MemcachedMessage((b"get", b"a\r\nflush_all")),
        MemcachedMessage((b"get", b"a b")),
        MemcachedMessage((b"END",), None, (MemcachedMessage((b"STORED",)),)),
        MemcachedMessage((b"END",), None, (MemcachedMessage((b"STAT",), None, (MemcachedMessage((b"STAT",)),)),)),
        b"VALUE a 0",
        b"",
        b"STORED\r\nEND",
        "STORED",
        (b"get", b"a"),
        None,
    ],
)
def test_a_message_that_a_peer_would_read_otherwise_is_not_sent(message: Any) -> None:
    """A message is sent only if the peer reads the same message."""
    for framing in (SERVER, CLIENT):
        with pytest.raises(UnsendableMessage):
            framing.frame(message)


words = st.binary(min_size=1, max_size=9).map(lambda each: bytes(33 + byte % 94 for byte in each))
lines = st.lists(words, min_size=1, max_size=5).map(lambda each: MemcachedMessage((b"x" + each[0], *each[1:])))
stores = st.builds(lambda key, data: MemcachedMessage((b"set", key, b"0", b"0"), data), words, st.binary(max_size=20))
values = st.builds(lambda key, data: MemcachedMessage((b"VALUE", key, b"0"), data), words, st.binary(max_size=20))
replies = st.lists(values, max_size=3).map(lambda items: MemcachedMessage((b"END",), None, tuple(items)))


@given(st.one_of(lines, stores, replies))
def test_what_is_sent_is_received(message: MemcachedMessage) -> None:
    """Each request and each reply is received as it was sent."""
    assert read(CLIENT, [SERVER.frame(message)]).messages == (message,) or message.words[0] == b"set"
    assert message.items or read(SERVER, [CLIENT.frame(message)]).messages == (message,)


@pytest.mark.exhaustive
def test_the_server_side_keeps_the_promises_of_a_framing() -> None:
    """The kit's check holds for requests."""
    check_framing(memcached, st.one_of(lines, stores), frame=CLIENT.frame, examples=20)


@pytest.mark.exhaustive
def test_the_client_side_keeps_the_promises_of_a_framing() -> None:
    """The kit's check holds for replies."""
    check_framing(lambda: memcached(side="client"), st.one_of(lines, replies), frame=SERVER.frame, examples=20)


def test_specs() -> None:
    """The spec has the side; a server's is the default."""
    assert from_string("memcached") == SERVER
    assert from_string("memcached:side=client:max=2000") == memcached(side="client", max=2000)
    assert str(CLIENT) == "memcached:side=client"
