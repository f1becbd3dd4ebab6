"""RESP, the protocol of Redis, as servers and clients read and write it."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.errors import InvalidFraming, MalformedFrame, MessageTooLong, TruncatedMessage, UnsendableMessage
from tcpapp.framing import from_string, resp
from tcpapp.framing.resp import Attributed, ErrorReply, Map, Push, Set, SimpleString, VerbatimString
from tcpapp.testing.oracles import check_framing
from tests.framing.streams import Outcome, ends, read, same

SERVER, CLIENT = resp(), resp(side="client")
SERVER_3 = resp(version=3)

BOTH: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", SimpleString(b"OK")),
    (b"+\r\n", SimpleString(b"")),
    (b"-ERR unknown command\r\n", ErrorReply(b"ERR unknown command")),
    (b":0\r\n", 0),
    (b":-9223372036854775808\r\n", -(2**63)),
    (b":9223372036854775807\r\n", 2**63 - 1),
    (b"$5\r\nhello\r\n", b"hello"),
    (b"$0\r\n\r\n", b""),
    (b"$4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
    (b"*0\r\n", []),
    (b"*2\r\n$1\r\na\r\n:1\r\n", [b"a", 1]),
    (b"*2\r\n*2\r\n:1\r\n*0\r\n*1\r\n+OK\r\n", [[1, []], [SimpleString(b"OK")]]),
]
"""What both versions write in the same way."""

VERSION_2: list[tuple[bytes, Any, Any]] = [
    (b"$-1\r\n", None, None),
    (b":1\r\n", True, 1),
    (b":0\r\n", False, 0),
    (b"$3\r\n1.5\r\n", 1.5, b"1.5"),
    (b"$3\r\ninf\r\n", math.inf, b"inf"),
    (b"$19\r\n9223372036854775808\r\n", 2**63, b"9223372036854775808"),
    (b"$2\r\nhi\r\n", VerbatimString(b"txt", b"hi"), b"hi"),
    (b"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:2\r\n", Map([(b"a", 1), (b"b", 2)]), [b"a", 1, b"b", 2]),
    (b"*2\r\n$1\r\na\r\n:1\r\n", {b"a": 1}, [b"a", 1]),
    (b"*1\r\n$1\r\na\r\n", {b"a"}, [b"a"]),
    (b"*1\r\n$1\r\na\r\n", Set([b"a"]), [b"a"]),
    (b"*2\r\n+message\r\n$1\r\na\r\n", Push([SimpleString(b"message"), b"a"]), [b"message", b"a"]),
    (b":1\r\n", Attributed(Map([(b"ttl", 5)]), 1), 1),
    (b"*1\r\n$-1\r\n", (None,), [None]),
]
"""What version 2 has no type for: its bytes, the value that is sent, and the value that is received."""

VERSION_3: list[tuple[bytes, Any]] = [
    (b"_\r\n", None),
    (b"#t\r\n", True),
    (b"#f\r\n", False),
    (b",1.5\r\n", 1.5),
    (b",inf\r\n", math.inf),
    (b",-inf\r\n", -math.inf),
    (b",1e+300\r\n", 1e300),
    (b"(9223372036854775808\r\n", 2**63),
    (b"(-9223372036854775809\r\n", -(2**63) - 1),
    (b"!7\r\nERR a\r\n\r\n", ErrorReply(b"ERR a\r\n")),
    (b"=6\r\ntxt:hi\r\n", VerbatimString(b"txt", b"hi")),
    (b"=4\r\nmkd:\r\n", VerbatimString(b"mkd", b"")),
    (b"%0\r\n", Map()),
    (b"%2\r\n$1\r\na\r\n:1\r\n*1\r\n:2\r\n%0\r\n", Map([(b"a", 1), ([2], Map())])),
    (b"~2\r\n:1\r\n#t\r\n", Set([1, True])),
    (b">2\r\n+message\r\n$1\r\na\r\n", Push([SimpleString(b"message"), b"a"])),
    (b"|1\r\n$3\r\nttl\r\n:5\r\n*1\r\n|0\r\n:1\r\n", Attributed(Map([(b"ttl", 5)]), [Attributed(Map(), 1)])),
]
"""What version 3 has in addition."""


def types(value: Any) -> Any:
    """Return the types of a value and of all that it contains."""
    if isinstance(value, (list, tuple)):
        return type(value), [types(each) for each in value]
    return type(value)


@pytest.mark.parametrize(("stream", "value"), BOTH)
def test_both_versions_have_the_types_of_version_2(stream: bytes, value: Any) -> None:
    """A value is written in the same way in both versions, and received with its type."""
    [received] = same(CLIENT, stream).messages
    assert (received, types(received)) == (value, types(value))
    assert SERVER.frame(value) == SERVER_3.frame(value) == stream


@pytest.mark.parametrize(("stream", "value"), VERSION_3)
def test_version_3_has_a_type_for_each_value(stream: bytes, value: Any) -> None:
    """A value is written with its own type, and received with it."""
    [received] = same(CLIENT, stream).messages
    assert (received, types(received)) == (value, types(value))
    assert SERVER_3.frame(value) == stream


@pytest.mark.parametrize(("stream", "value", "received"), VERSION_2)
def test_version_2_sends_what_it_has_a_type_for(stream: bytes, value: Any, received: Any) -> None:
    """A value that version 2 has no type for is sent as Redis sends it: as a bulk string, an integer or an array."""
    assert SERVER.frame(value) == stream
    assert same(CLIENT, stream).messages == (received,)


def test_a_map_and_a_set_of_python_are_sent() -> None:
    """A `dict` is sent as a map, and a `set` as a set; they are received as pairs and members, in order."""
    stream = SERVER_3.frame([{b"b": 1, b"a": 2}, frozenset((b"x",)), (b"y",)])
    [[pairs, members, items]] = read(CLIENT, [stream]).messages
    assert (pairs, members, items) == ([(b"b", 1), (b"a", 2)], [b"x"], [b"y"])
    assert dict(pairs) == {b"b": 1, b"a": 2}


def test_other_forms_of_a_value_are_read() -> None:
    """The null array of version 2, a plus sign, a double without a fraction, and a short big number are accepted."""
    stream = b"*-1\r\n*1\r\n$-1\r\n:+5\r\n:007\r\n,10\r\n,1.\r\n,+1E5\r\n,-2.5e-3\r\n(-5\r\n!3\r\nERR\r\n"
    expected = (None, [None], 5, 7, 10.0, 1.0, 1e5, -0.0025, -5, ErrorReply(b"ERR"))
    assert same(CLIENT, stream).messages == expected
    [value] = read(CLIENT, [b",nan\r\n"]).messages
    assert math.isnan(value)


def test_the_types_that_equal_bytes_are_told_apart() -> None:
    """A simple string equals the same bytes, and says what it is; an error and a verbatim string equal no bytes."""
    assert repr(SimpleString(b"OK")) == "SimpleString(b'OK')"
    assert SimpleString(b"OK") == b"OK"
    assert ErrorReply(b"ERR x") != b"ERR x"


@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n",
        b"hello\r\n",
        b":\r\n",
        b":5 \r\n",
        b": 5\r\n",
        b":1_0\r\n",
        b":1.0\r\n",
        b":--5\r\n",
        b":\xd9\xa5\r\n",
        b":9223372036854775808\r\n",
        b":" + b"9" * 99 + b"\r\n",
        b"(\r\n",
        b"(1_0\r\n",
        b",1_0\r\n",
        b", 1\r\n",
        b",.5\r\n",
        b",infinity\r\n",
        b",0x1p3\r\n",
        b"#T\r\n",
        b"#\r\n",
        b"_x\r\n",
        b"$-2\r\n",
        b"$+5\r\n",
        b"$\r\n",
        b"$5\r\nhelloXX",
        b"!-1\r\n",
        b"=-1\r\n",
        b"=3\r\ntxt\r\n",
        b"=4\r\ntxt-\r\n",
        b"*-2\r\n",
        b"%-1\r\n",
        b"~-1\r\n",
        b">-1\r\n",
        b"|-1\r\n",
        b"*1_0\r\n",
        b"*?\r\n",
        b"$?\r\n",
        b"%?\r\n",
        b";0\r\n",
        b".\r\n",
        b"*1\r\n.\r\n",
    ],
)
def test_malformed_values(stream: bytes) -> None:
    """What `int` and `float` would read in addition is malformed, and so are streamed types, which no server sends."""
    assert same(CLIENT, b"+OK\r\n" + stream) == Outcome((b"OK",), MalformedFrame, 0)


def test_digits_are_bounded() -> None:
    """A big number has 4,300 digits at most, since the time of `int` grows with their square."""
    assert read(CLIENT, [b"(" + b"9" * 4300 + b"\r\n"]).messages == (10**4300 - 1,)
    assert "takes 1 to 4300 digits" in str(ends(CLIENT, [b"(" + b"9" * 4301 + b"\r\n"]))
    assert type(ends(CLIENT, [b"," + b"9" * 4301 + b"\r\n"])) is MalformedFrame
    with pytest.raises(UnsendableMessage, match="more than 4300 digits"):
        SERVER_3.frame(10**4300)
    assert read(CLIENT, [SERVER_3.frame(10**4300 - 1)]).messages == (10**4300 - 1,)


def nested(depth: int, kind: bytes = b"*1\r\n") -> bytes:
    """Return an integer in this many containers."""
    return kind * depth + b":1\r\n"


@pytest.mark.parametrize("kind", [b"*1\r\n", b">1\r\n", b"~1\r\n", b"%1\r\n:1\r\n", b"|0\r\n", b"|1\r\n:1\r\n:1\r\n"])
def test_depth_is_bounded(kind: bytes) -> None:
    """Up to 32 containers can be within each other; more are malformed, and no depth uses up Python's stack."""
    assert len(read(CLIENT, [nested(32, kind)]).messages) == 1
    assert "more than 32 containers" in str(ends(CLIENT, [nested(33, kind)]))
    assert "more than 32 containers" in str(ends(CLIENT, [nested(100_000, kind)]))


def test_the_depth_of_a_sent_value_is_bounded() -> None:
    """A value that contains itself is refused, and so is one that a client would refuse."""
    endless: list[Any] = []
    endless.append(endless)
    for framing in (SERVER, SERVER_3):
        with pytest.raises(UnsendableMessage, match="more than 32 containers"):
            framing.frame(endless)
    chain: Any = 1
    for _ in range(33):
        chain = Attributed(Map(), chain)
    with pytest.raises(UnsendableMessage, match="more than 32 containers"):
        SERVER_3.frame(chain)
    [deepest] = read(CLIENT, [nested(32)]).messages
    assert SERVER.frame(deepest) == nested(32)


def test_a_declared_count_reserves_nothing() -> None:
    """A count of a billion makes a container wait for its values, and reserves no memory for them."""
    for kind in (b"*", b"%", b"~", b">", b"|"):
        state = CLIENT.fresh()
        assert state.receive(kind + b"1000000000\r\n:1\r\n") == []
        assert state.held == len(kind + b"1000000000\r\n:1\r\n")
    assert type(ends(CLIENT, [b"*1000000000\r\n" + b":1\r\n" * 300_000])) is MessageTooLong
    assert type(ends(CLIENT, [b"$1048576\r\n"])) is MessageTooLong


def test_keys_that_a_peer_chooses_are_not_hashed() -> None:
    """A map of numbers with the same hash, or with lists as keys, is read in linear time: it is a list of pairs."""
    keys = [each * (2**61 - 1) for each in range(3000)]
    stream = b"%%%d\r\n" % len(keys) + b"".join([SERVER_3.frame(key) + b"_\r\n" for key in keys])
    [pairs] = read(CLIENT, [stream]).messages
    assert pairs == [(key, None) for key in keys]
    assert type(pairs) is Map


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b"*1\r\n$4\r\nPING\r\n", [b"PING"]),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", [b"SET", b"k", b""]),
        (b"*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\0\xff\r\n", [b"ECHO", b"\r\n\0\xff"]),
        (b"*2\r\n$4\r\nECHO\r\n$300\r\n" + b"x" * 300 + b"\r\n", [b"ECHO", b"x" * 300]),
    ],
)
def test_a_request_is_an_array_of_bulk_strings(stream: bytes, words: list[bytes]) -> None:
    """A server receives a list of bytes; a client sends it as the same bytes."""
    assert same(SERVER, stream) == Outcome((words,), None, 0)
    assert CLIENT.frame(words) == CLIENT.frame(tuple(words)) == stream


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"PING\r\n", [b"PING"]),
        (b"  set k  v \n", [b"set", b"k", b"v"]),
        (b'set k "a b"\r\n', [b"set", b"k", b"a b"]),
        (b"set 'it\\'s' \"\"\r\n", [b"set", b"it's", b""]),
        (b'set k "\\x41\\n\\"\\\\\\q"\r\n', [b"set", b"k", b'A\n"\\q']),
        (b"set 'a\\n' \tx\r\n", [b"set", b"a\\n", b"x"]),
    ],
)
def test_a_request_can_be_a_line(line: bytes, words: list[bytes]) -> None:
    """A request that does not begin with an asterisk is a line of words, with quotes as in Redis."""
    assert same(SERVER, line + b"*1\r\n$4\r\nPING\r\n").messages == (words, [b"PING"])


@pytest.mark.parametrize("line", [b'set "a', b"set 'a", b'set a"b"', b'set "a"b', b'set "a\\"', b"'"])
def test_quotes_are_around_words(line: bytes) -> None:
    """A quote that does not begin or end a word is malformed."""
    assert same(SERVER, b"PING\r\n" + line + b"\r\n") == Outcome(([b"PING"],), MalformedFrame, 0)


def test_requests_without_words_are_no_messages() -> None:
    """An empty line and an array of nothing are left out, as Redis does."""
    assert same(SERVER, b"\r\nPING\r\n*0\r\n\n  \r\nPING\r\n").messages == ([b"PING"], [b"PING"])


@pytest.mark.parametrize(
    "stream",
    [
        b"*-1\r\n",
        b"*x\r\n",
        b"*\r\n",
        b"*1048577\r\n",
        b"*1000000000\r\n",
        b"*1\r\n:5\r\n",
        b"*1\r\n*1\r\n$1\r\na\r\n",
        b"*1\r\n\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$1_0\r\n",
        b"*1\r\n$4\r\nPINGXX",
    ],
)
def test_malformed_requests(stream: bytes) -> None:
    """A request of over 1,048,576 words, or with other values than bulk strings, is malformed."""
    assert same(SERVER, b"PING\r\n" + stream) == Outcome(([b"PING"],), MalformedFrame, 0)


def test_a_request_is_bounded() -> None:
    """A line has 64 KiB at most, and a whole request ``max`` bytes."""
    assert read(SERVER, [b"set k " + b"v" * 65529 + b"\r\n"]).failure is None
    assert type(ends(SERVER, [b"set k " + b"v" * 65530 + b"\r\n"])) is MessageTooLong
    assert type(ends(SERVER, [b"*1\r\n$1048576\r\n"])) is MessageTooLong
    assert type(ends(SERVER, [b"*300000\r\n" + b"$0\r\n\r\n" * 300_000])) is MessageTooLong
    assert same(SERVER, b"*2\r\n$4\r\nECHO\r\n") == Outcome((), TruncatedMessage, 0)


@pytest.mark.parametrize("value", ["text", [b"a", "text"], object(), bytearray(b"x"), {"a": 1}, [[object()]]])
def test_a_value_of_another_type_is_not_sent(value: Any) -> None:
    """A text, which could be any of three types, and other objects are refused."""
    with pytest.raises(UnsendableMessage, match="a value of RESP is bytes"):
        SERVER.frame(value)


@pytest.mark.parametrize(
    "value", [SimpleString(b"a\r\nb"), SimpleString(b"a\n"), [SimpleString(b"\r")], ErrorReply("a")]
)  # type: ignore[arg-type]
def test_a_simple_string_is_one_line(value: Any) -> None:
    """A simple string with a line end would be read as two values, and is refused; the text of an error is bytes."""
    for framing in (SERVER, SERVER_3):
        with pytest.raises(UnsendableMessage):
            framing.frame(value)


def test_an_error_of_version_2_is_one_line() -> None:
    """Version 2 has no bulk error, so an error with a line end is refused there."""
    for text in (b"ERR a\r\nb", b"ERR a\n"):
        with pytest.raises(UnsendableMessage, match="takes text without CR and LF"):
            SERVER.frame(ErrorReply(text))
        assert read(CLIENT, [SERVER_3.frame(ErrorReply(text))]).messages == (ErrorReply(text),)


def test_the_format_of_a_verbatim_string_has_three_bytes() -> None:
    """Another format is refused in version 3; version 2 sends the text only."""
    with pytest.raises(UnsendableMessage, match="has 3 bytes, not 4"):
        SERVER_3.frame(VerbatimString(b"text", b"x"))
    assert SERVER.frame(VerbatimString(b"text", b"x")) == b"$1\r\nx\r\n"


@pytest.mark.parametrize("request_", [[], [b"GET", 5], [b"GET", "k"], b"GET", [None], [[b"GET"]], None, "GET k"])
def test_a_client_sends_only_requests(request_: Any) -> None:
    """A client sends a list of one word or more; another value is refused, since Redis would close the connection."""
    with pytest.raises(UnsendableMessage, match="a request is a list of bytes"):
        CLIENT.frame(request_)


def test_options() -> None:
    """The side is ``server`` or ``client``, and the version of what a server sends 2 or 3."""
    assert from_string("resp") == SERVER
    assert from_string("resp:side=client:max=2000") == resp(side="client", max=2000)
    assert from_string("resp:version=3") == SERVER_3
    assert str(resp(side="client")) == "resp:side=client"
    with pytest.raises(InvalidFraming):
        from_string("resp:version=4")


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.binary(max_size=20),
    st.binary(max_size=9).map(lambda text: SimpleString(text.translate(None, b"\r\n"))),
    st.binary(max_size=9).map(ErrorReply),
    st.binary(max_size=9).map(lambda text: VerbatimString(b"txt", text)),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(Set),
        st.lists(inner, max_size=3).map(Push),
        st.lists(st.tuples(inner, inner), max_size=3).map(Map),
        st.builds(Attributed, st.lists(st.tuples(inner, inner), max_size=2).map(Map), inner),
    ),
    max_leaves=8,
)
requests = st.lists(st.binary(max_size=9), min_size=1, max_size=4)


@given(values)
def test_what_is_sent_is_received(value: Any) -> None:
    """Each value that version 3 sends is received as it was sent, with its type."""
    [received] = read(CLIENT, [SERVER_3.frame(value)]).messages
    assert (received, types(received)) == (value, types(value))


def parts(value: Any) -> list[Any]:
    """Return a value that version 2 has sent, and all that it contains."""
    return [value, *(part for each in value for part in parts(each))] if type(value) is list else [value]


@given(values)
def test_version_2_sends_any_value_as_its_own_types(value: Any) -> None:
    """What version 2 sends consists of strings, errors, integers, nulls and arrays."""
    with suppress(UnsendableMessage):
        [received] = read(CLIENT, [SERVER.frame(value)]).messages
        assert {*map(type, parts(received))} <= {bytes, SimpleString, ErrorReply, int, type(None), list}


@pytest.mark.exhaustive
def test_the_server_side_keeps_the_promises_of_a_framing() -> None:
    """The kit's check holds for requests."""
    check_framing(resp, requests, frame=CLIENT.frame, examples=20)


@pytest.mark.exhaustive
def test_the_client_side_keeps_the_promises_of_a_framing() -> None:
    """The kit's check holds for values."""
    check_framing(lambda: resp(side="client"), values, frame=SERVER_3.frame, examples=20)
