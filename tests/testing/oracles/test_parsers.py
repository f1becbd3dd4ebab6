"""`check_framing` and `check_app` hold parsers to the contract of every framing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import strategies as st

from tcpapp.framing import Body, Lines, exactly, parser, stream, until
from tcpapp.testing.oracles import check_app, check_framing
from tcpapp.testing.oracles.parsers import bodies_in, different, framed_by, size_of
from tests.framing.bodies import chunked, store
from tests.framing.generators import memcached, record

SET, GET = ([b"set", b"k", b"0", b"0", b"3"], b"abc"), ([b"get", b"k"], None)

WORDS = st.lists(st.sampled_from([b"get", b"k", b"gets"]), min_size=1, max_size=3).map(lambda words: (words, None))


@pytest.mark.usefixtures("little_flood")
def test_a_parser_keeps_every_promise():
    """`check_framing` passes a parser whose messages are tuples, with the costs."""
    check_framing(memcached, [SET, GET], examples=20)


def with_body(message: Any) -> bytes:
    """Return the bytes of a message of `store`, or of `chunked`, with its body."""
    words, body = message
    if isinstance(words, bytes):
        return words + b"\n%x\r\n%b\r\n0\r\n\r\n" % (len(bytes(body)), bytes(body))
    return b" ".join(words) + b"\r\n" + (b"" if body is None else bytes(body) + b"\r\n")


@pytest.mark.usefixtures("little_flood")
def test_a_parser_with_bodies_keeps_every_promise():
    """`check_framing` passes parsers whose messages have bodies, with a length or in chunks."""
    sets = [([b"set", b"%d" % size], Body.of(b"x" * size)) for size in (0, 5, 40)]
    check_framing(store, [([b"get"], None), *sets], frame=with_body, examples=20)
    check_framing(chunked, [(b"head", Body.of(b"hello"))], frame=with_body, examples=20, costs=False)


def test_a_body_that_is_not_whole_is_found():
    """A parser that returns another body than was sent is found."""

    @parser
    def shorter():
        words = (yield until(b"\r\n")).split()
        return words, (yield stream(int(words[1]) - 1, end=b"x\r\n"))

    with pytest.raises(AssertionError, match=r"give each message back unchanged"):
        check_framing(shorter, [([b"set", b"5"], Body.of(b"xxxxx"))], frame=with_body, examples=20, costs=False)


def test_bodies_are_found_in_messages():
    """The bodies of a message are found in tuples, in lists, and in attributes."""
    body = Body.of(b"x")
    assert bodies_in((1, [body, b"x"], SimpleNamespace(body=body, other=None))) == [body, body]
    assert bodies_in(b"x") == []


def test_messages_of_a_strategy():
    """The messages of a parser can come from a strategy, also if they cannot be hashed."""
    check_framing(memcached, WORDS, examples=20, costs=False)


def test_the_peer_frames_in_another_way():
    """`frame` is the function with which the peer frames its messages."""
    check_framing(lambda: record("client"), [b"", b"hi"], frame=record("client").frame, examples=20, costs=False)
    with pytest.raises(AssertionError, match=r"frame.. and receive.. give each message back unchanged"):
        check_framing(record, [b"", b"hi"], frame=record("client").frame, examples=20, costs=False)


def test_messages_of_a_parser_must_be_given():
    """Without messages, a parser cannot be checked, and the error says so."""
    with pytest.raises(TypeError, match="messages=None: takes some messages of memcached"):
        check_framing(memcached)


def test_other_framings_frame_their_messages_themselves():
    """`frame` is for parsers only."""
    with pytest.raises(TypeError, match="takes a parser, not Lines"):
        check_framing(Lines, frame=bytes)


def counted(message: Any) -> bytes:
    """Return a message with its number in front."""
    return b"%d:" % len(message) + message


def test_a_parser_that_remembers_is_found():
    """A parser that keeps something from one message to the next does not give the same messages for the same bytes."""
    last = []

    @parser(frame=counted)
    def remembering():
        """Read the message, and the one before."""
        size = yield until(b":")
        last.append((yield exactly(int(size))))
        return b"".join(last)

    with pytest.raises(AssertionError, match="breaks a promise"):
        check_framing(remembering, [b"a", b"bc"], examples=5, costs=False)


def test_a_parser_that_depends_on_the_cut_is_found():
    """A parser whose function reads another message than was sent is found."""

    @parser(frame=counted)
    def careless():
        """Forget the last byte."""
        size = yield until(b":")
        return (yield exactly(int(size)))[:-1]

    with pytest.raises(AssertionError, match="give each message back unchanged"):
        check_framing(careless, [b"a"], examples=5, costs=False)


def reply(message: Any, connection: Any) -> Any:
    """Repeat the message."""
    return message


def test_an_app_with_a_parser():
    """`check_app` passes an app that is served with a parser."""
    check_app(reply, memcached(), messages=[SET, GET], examples=20)
    check_app(reply, memcached(), messages=WORDS, examples=5)
    check_app(reply, record(), examples=5)


def test_an_app_whose_peer_frames_in_another_way():
    """The peer of an app frames its messages by `frame`, and the app its replies by the parser."""
    sent: list[bytes] = []

    def tag(message: bytes, side: str) -> bytes:
        sent.append(message)
        return b"?"

    @parser(frame=tag)
    def tagged(side: str = "server"):
        """Read a line."""
        return (yield until(b"\n"))

    check_app(lambda message, _: message, tagged(), messages=[b"ab"], frame=lambda line: line + b"\n", examples=5)
    assert set(sent) >= {b"ab"}


def test_an_app_that_fails_is_found():
    """An app that raises for some messages is found."""

    def failing(message: Any, connection: Any) -> None:
        raise LookupError("by the app")

    with pytest.raises(AssertionError, match="by the app"):
        check_app(failing, memcached(), messages=[GET], examples=5)


def test_sizes_and_order():
    """The size of a parser's message is its size on the wire, and messages are ordered by it."""
    assert size_of(memcached(), GET) == 7
    assert size_of(Lines(), b"hello") == 5
    assert different(memcached(), [SET, 5, GET, SET]) == [GET, SET]
    assert different(Lines(), [b"bb", b"\n", b"a", b"aa", b"a"]) == [b"a", b"aa", b"bb"]
    assert framed_by(memcached(max=50), None) == memcached(max=50)
    assert framed_by(memcached(max=50), bytes).max == 50
