"""A client of HTTP/1.1 reads each response by the method of the request that it is for."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.connection.parsing import parts_of
from tcpapp.errors import InvalidState, MalformedFrame, UnsendableMessage
from tcpapp.framing.http1 import Request, Response, http1
from tcpapp.framing.http_asked import MOST_ASKED
from tcpapp.framing.state import StateWriter, pack
from tests.framing.streams import moved, single

HOST = (("Host", "a"),)
LENGTH = (("Content-Length", "5"),)
HEAD_ONLY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
WHOLE = HEAD_ONLY + b"hello"
FULL, EMPTY = Response(200, "OK", LENGTH, b"hello"), Response(200, "OK", LENGTH)


def client(*methods: str) -> Any:
    """Return the framing of a client that has sent requests of these methods."""
    framing = http1(side="client")
    for method in methods:
        framing.frame(Request(method, "/", HOST))
    return framing


def test_a_response_to_head_has_no_body() -> None:
    """The same head has a body behind GET, and none behind HEAD; the responses come in the order of the requests."""
    framing = client("GET", "HEAD", "HEAD", "POST", "HEAD")
    assert framing.receive(WHOLE + HEAD_ONLY + HEAD_ONLY + WHOLE + HEAD_ONLY) == [FULL, EMPTY, EMPTY, FULL, EMPTY]
    framing.finish()


def test_what_is_no_request_asks_nothing() -> None:
    """A response that a client sends, and a request that cannot be sent, are not noted."""
    framing = client()
    framing.frame(Response(200))
    with pytest.raises(UnsendableMessage):
        framing.frame(Request("HEAD", "/ /", HOST))
    assert framing.receive(WHOLE) == [FULL]


def test_a_method_is_noted_in_its_case() -> None:
    """Methods are case-sensitive (RFC 9110, section 9.1): "head" is not HEAD."""
    assert client("head").receive(WHOLE) == [FULL]


def test_an_interim_response_is_not_the_answer() -> None:
    """Responses of status 1xx come before the response that the request waits for."""
    framing = client("HEAD", "GET")
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
    messages = framing.receive(early + HEAD_ONLY + early + WHOLE)
    assert [each.status for each in messages] == [100, 103, 200, 100, 103, 200]
    assert [each.body for each in messages if each.status == 200] == [b"", b"hello"]


def test_a_response_to_connect_has_no_body() -> None:
    """A successful response to CONNECT has no body, whatever its headers say (RFC 9112, section 6.3)."""
    assert client("CONNECT").receive(HEAD_ONLY) == [EMPTY]
    assert client("CONNECT").receive(WHOLE.replace(b"200", b"407")) == [FULL._replace(status=407)]


def test_requests_are_noted_however_they_are_sent() -> None:
    """Requests that are framed together are noted in their order."""
    framing = http1(side="client")
    framing.frame_all([Request("HEAD", "/", HOST), Request("GET", "/", HOST)])
    assert framing.receive(HEAD_ONLY + WHOLE) == [EMPTY, FULL]


def test_each_stream_has_notes_of_its_own() -> None:
    """A fresh framing knows of no request of another stream."""
    framing = client("HEAD")
    assert framing.fresh().receive(WHOLE) == [FULL]
    assert framing.receive(HEAD_ONLY) == [EMPTY]


def test_a_server_notes_nothing() -> None:
    """A server reads requests, whatever it frames."""
    framing = http1()
    framing.frame(Request("HEAD", "/", HOST))
    assert framing.dump() == http1().dump()


def test_the_notes_are_bounded() -> None:
    """A client that has as many requests without a response as are noted cannot send another one."""
    framing = client()
    for _ in range(MOST_ASKED):
        framing.frame(Request("HEAD", "/", HOST))
    with pytest.raises(UnsendableMessage, match="10000 requests"):
        framing.frame(Request("HEAD", "/", HOST))
    assert framing.receive(HEAD_ONLY) == [EMPTY]
    framing.frame(Request("HEAD", "/", HOST))


def test_the_notes_are_in_the_state() -> None:
    """A stream that is moved to another process after any of its bytes goes on with what was asked."""
    stream = WHOLE + HEAD_ONLY + WHOLE + HEAD_ONLY
    for chunks in [single(stream), *([stream[:at], stream[at:]] for at in range(len(stream)))]:
        framing, messages = client("GET", "HEAD", "GET", "HEAD"), []
        for chunk in chunks:
            messages += framing.receive(chunk)
            framing = moved(framing)
        framing.finish()
        assert messages == [FULL, EMPTY, FULL, EMPTY]


@pytest.mark.parametrize(("side", "kinds"), [("client", b"\3"), ("server", b"\1")])
def test_a_state_with_impossible_notes_is_refused(side: Any, kinds: bytes) -> None:
    """A state with a method that is not noted, or of a server that has asked, is refused."""
    own = StateWriter()
    own.write_bytes(kinds)
    own.write_number(0)
    framing = http1(side=side)
    with pytest.raises(InvalidState, match="methods of requests"):
        framing.load(pack(repr(framing), own.joined(), b""))


def test_a_response_that_waited_is_read_again_as_it_was() -> None:
    """A response is the same when it is read again from its bytes alone, also one to HEAD."""
    framing, codec = parts_of(http1(side="client"), None)
    assert codec is not None
    framing.frame_all([codec.encode(Request(method, "/", HOST)) for method in ("HEAD", "GET")])
    messages: list[Any] = framing.receive(HEAD_ONLY + WHOLE)
    assert [each.value for each in messages] == [EMPTY, FULL]
    assert [codec.decode(each.message) for each in messages] == [EMPTY, FULL]


def test_a_body_that_ends_with_the_connection_is_refused() -> None:
    """A response without a length, which could have a body to the end of the stream, is refused."""
    with pytest.raises(MalformedFrame, match="ends with the connection"):
        client("GET").receive(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert client("HEAD").receive(b"HTTP/1.1 200 OK\r\n\r\n") == [Response(200, "OK")]


@pytest.mark.parametrize("cut", [False, True])
def test_what_is_behind_a_response_is_found_by_what_was_asked(cut: bool) -> None:
    """The bytes behind the response to HEAD, which another framing reads, are found as the response was read."""
    framing = client("GET", "HEAD")
    assert framing.receive(WHOLE) == [FULL]
    begun = HEAD_ONLY[:9] if cut else b""
    framing.receive(begun)
    mark = framing.mark()
    data = HEAD_ONLY[len(begun) :] + b"hello"
    assert framing.receive(data) == [EMPTY]
    assert framing.behind(mark, data, 1) == b"hello"


def test_the_connections_of_a_factory_share_no_notes() -> None:
    """A factory's clients can send any number of requests: each connection notes its own, and the factory none."""
    made = http1(side="client")
    framing, codec = parts_of(made, None)
    assert codec is not None
    for _ in range(3):
        connection: Any = framing.fresh()
        for _ in range(MOST_ASKED):
            connection.frame(codec.encode(Request("HEAD", "/", HOST)))
        with pytest.raises(UnsendableMessage):
            connection.frame(codec.encode(Request("HEAD", "/", HOST)))
    assert made.dump() == made.fresh().dump()
