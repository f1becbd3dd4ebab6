"""Bodies of HTTP/1.1 that come after their message."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.errors import MalformedFrame, TruncatedMessage, UnsendableMessage
from tcpapp.framing import Body
from tcpapp.framing.http1 import Request, Response, http1
from tests.framing.bodies import content
from tests.framing.streams import single

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.0\r\n\r\n"


def received(framing: Any, chunks: list[bytes]) -> list[tuple[Any, bytes]]:
    """Return the methods or statuses of a stream's messages, each with its body."""
    messages = [message for chunk in chunks for message in framing.receive(chunk)]
    framing.finish()
    return [(message[0], content(message.body)) for message in messages]


@pytest.mark.parametrize("cut", [False, True])
def test_a_body_comes_after_its_request(cut: bool) -> None:
    """A request comes with its head. Its body follows, by its length or in chunks, and then the next request."""
    stream = (
        GET + HEAD + b"Content-Length: 5\r\n\r\nhello" + CHUNKED + b"2;a\r\nhi\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n" + GET
    )
    found = received(http1(bodies="stream"), single(stream) if cut else [stream])
    assert found == [("GET", b""), ("POST", b"hello"), ("POST", b"hi!"), ("GET", b"")]


def test_a_request_comes_before_its_body() -> None:
    """A request that waits for 100 Continue is there before its body, so that it can be answered."""
    framing = http1(bodies="stream")
    [request] = framing.receive(HEAD + b"Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n")
    assert (request.header("expect"), request.body.size, request.body.received) == ("100-continue", 2_000_000, 0)


def test_a_body_can_end_with_the_connection() -> None:
    """A response without a length has a body to the end of the stream, whatever its bytes are."""
    framing = http1(side="client", bodies="stream")
    [response] = framing.receive(b"HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 ")
    framing.receive(b"200 OK\r\n\r\n")
    framing.finish()
    assert content(response.body) == b"HTTP/1.1 200 OK\r\n\r\n"


def test_a_response_to_head_has_no_body_to_stream() -> None:
    """The response to HEAD has an empty body, and the next response is read behind its head."""
    framing = http1(side="client", bodies="stream")
    framing.frame_all([Request(method, "/", (("Host", "a"),)) for method in ("HEAD", "GET", "GET")])
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    none = b"HTTP/1.1 204 No Content\r\n\r\n"
    found = received(framing, [head + early + head + b"hello" + none])
    assert found == [(200, b""), (103, b""), (200, b"hello"), (204, b"")]


@pytest.mark.parametrize("body", [b"x\r\n", b"2\r\nhi!!", b"1\na", b"2\r\nhi\r\n0\r\n X: y\r\n\r\n"])
def test_a_malformed_body_ends_the_stream(body: bytes) -> None:
    """A body with malformed chunks fails, and so does the stream."""
    framing = http1(bodies="stream")
    [request] = framing.receive(CHUNKED)
    with pytest.raises(MalformedFrame):
        framing.receive(body)
    while request.body.held:
        request.body.take()
    with pytest.raises(MalformedFrame):
        request.body.take()


def test_a_stream_that_ends_inside_a_body_is_truncated() -> None:
    """A body that is announced must come."""
    framing = http1(bodies="stream")
    framing.receive(HEAD + b"Content-Length: 5\r\n\r\nhel")
    with pytest.raises(TruncatedMessage):
        framing.finish()


@pytest.mark.parametrize(("side", "head"), [("server", HEAD), ("client", b"HTTP/1.1 200 OK\r\n")])
def test_where_there_is_a_codec_a_body_is_a_fault(side: str, head: bytes) -> None:
    """A codec decodes whole messages, so a body that comes after its message is a fault that says so, on both sides."""
    with pytest.raises(MalformedFrame, match="serve this framing without a codec"):
        http1(side=side, bodies="stream").of_bytes().receive(head + b"Content-Length: 2\r\n\r\nhi")


def test_a_message_with_a_stream_cannot_be_sent() -> None:
    """A message is framed as a whole. A longer body is sent by `send_stream`, behind a head that has its length."""
    with pytest.raises(UnsendableMessage):
        http1().frame(Response(200, "OK", (), Body.of(b"hello")))
