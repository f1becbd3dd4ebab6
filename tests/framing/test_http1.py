"""HTTP/1.1: requests and responses, their bodies, and what is refused because two readers could disagree on it."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.errors import MalformedFrame, MessageTooLong, TruncatedMessage, UnsendableMessage
from tcpapp.framing import parser
from tcpapp.framing.http1 import Request, Response, http1
from tcpapp.framing.reader import Parse
from tcpapp.testing.oracles import check_framing

HOST, FIVE = ("Host", "a"), ("Content-Length", "5")


def received(stream: bytes, side: Any = "server") -> list[Any]:
    """Return the messages of a stream that ends well."""
    framing = http1(side=side)
    messages = framing.receive(stream)
    framing.finish()
    return messages


REQUESTS = {
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n": Request("GET", "/", (HOST,)),
    b"GET / HTTP/1.0\r\n\r\n": Request("GET", "/", version="HTTP/1.0"),
    b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n": Request("OPTIONS", "*", (("Host", ""),)),
    b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n": Request("CONNECT", "a:443", (("Host", "a:443"),)),
    b"M-SEARCH http://a/?b=c#d HTTP/1.1\r\nHost: a\r\n\r\n": Request("M-SEARCH", "http://a/?b=c#d", (HOST,)),
    b"GET /gr\xfc\xdfe HTTP/1.1\r\nHost: a\r\n\r\n": Request("GET", "/grüße", (HOST,)),
    b"GET / HTTP/1.1\r\nhOST:\t a \t\r\nX-A:b:c d\te\r\nX-A: \xff\r\n\r\n": Request(
        "GET", "/", (("hOST", "a"), ("X-A", "b:c d\te"), ("X-A", "\xff"))
    ),
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello": Request(
        "POST", "/", (HOST, ("Content-Length", "5")), b"hello"
    ),
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n": Request("POST", "/", (HOST, ("Content-Length", "0"))),
    b"POST / HTTP/1.1\r\nHost: a\r\n\r\n": Request("POST", "/", (HOST,)),
    b"POST / HTTP/1.0\r\nContent-Length: 4\r\n\r\n\r\n\r\n": Request(
        "POST", "/", (("Content-Length", "4"),), b"\r\n\r\n", "HTTP/1.0"
    ),
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n": Request(
        "POST", "/", (HOST, ("Transfer-Encoding", "Chunked")), b"hello"
    ),
}

RESPONSES = {
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello": Response(200, "OK", (("Content-Length", "5"),), b"hello"),
    b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n": Response(
        404, "Not Found", (("Content-Length", "0"),), version="HTTP/1.0"
    ),
    b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n": Response(200, "", (("Content-Length", "0"),)),
    b"HTTP/1.1 100 Continue\r\n\r\n": Response(100, "Continue"),
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n": Response(103, "Early Hints", (("Link", "</a>"),)),
    b"HTTP/1.1 204 No Content\r\n\r\n": Response(204, "No Content"),
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n": Response(304, "Not Modified", (FIVE,)),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n": Response(
        200, "OK", (("Transfer-Encoding", "chunked"),), b"hi", trailers=(("X-Sum", "1"),)
    ),
}

MESSAGES = [("server", stream) for stream in REQUESTS] + [("client", stream) for stream in RESPONSES]


@pytest.mark.parametrize(("side", "stream"), MESSAGES)
def test_a_stream_gives_its_messages(side: str, stream: bytes) -> None:
    """A head, and the body that belongs to it, are a message; the next one can follow at once (pipelining)."""
    assert received(stream * 2, side) == [(REQUESTS | RESPONSES)[stream]] * 2


@pytest.mark.parametrize(("side", "stream"), MESSAGES)
def test_a_message_is_received_as_it_was_sent(side: str, stream: bytes) -> None:
    """The bytes that are made of a message give this message again."""
    message = (REQUESTS | RESPONSES)[stream]
    assert received(http1().frame(message), side) == [message]


def test_the_reason_can_be_missing() -> None:
    """A status line that ends with its status is read, as other clients do, too."""
    assert received(b"HTTP/1.1 204\r\n\r\n", "client") == [Response(204)]


def test_an_empty_line_before_a_request_is_left_out() -> None:
    """An empty line before a request is ignored (RFC 9112, section 2.2)."""
    assert received(b"\r\nGET / HTTP/1.0\r\n\r\n") == [Request("GET", "/", version="HTTP/1.0")]


def chunked(body: bytes) -> bytes:
    """Return a request with this `body`, which is written in chunks already."""
    return b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body


CHUNKS = {
    b"0\r\n\r\n": (b"", ()),
    b"00\r\n\r\n": (b"", ()),
    b"1\r\na\r\n2\r\nbc\r\n000\r\n\r\n": (b"abc", ()),
    b"A\r\n0123456789\r\na\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n": (b"0123456789\r\n\r\n\r\n\r\n\r\n", ()),
    b'1;a;b=c;d="e f"\r\na\r\n0;x\r\n\r\n': (b"a", ()),
    b"1\r\na\r\n0\r\nA: b\r\nC:d\r\n\r\n": (b"a", (("A", "b"), ("C", "d"))),
}


@pytest.mark.parametrize("body", CHUNKS)
def test_chunks_are_joined(body: bytes) -> None:
    """A body in chunks is joined, their extensions are dropped, and trailers are not among the headers."""
    [request] = received(chunked(body))
    assert (request.body, request.trailers) == CHUNKS[body]
    assert request.headers == (HOST, ("Transfer-Encoding", "chunked"))


MALFORMED_CHUNKS = [
    b"\r\n",
    b"g\r\n",
    b" 1\r\na\r\n",
    b"1 \r\na\r\n",
    b"+1\r\na\r\n",
    b"-1\r\na\r\n",
    b"0x1\r\na\r\n",
    b"1_0\r\n",
    b";a\r\n",
    b"1\na\r\n",
    b"1\r\na\n0\r\n\r\n",
    b"1\r\nabc\r\n",
    b"1\r\na0\r\n\r\n",
    b"1;a\rb\r\na\r\n",
    b"1;a\nb\r\na\r\n",
    b"1\r\r\na\r\n",
    b"1000000000000000\r\n",
    b"0\r\nA b\r\n\r\n",
    b"0\r\n A: b\r\n\r\n",
    b"0\r\nA: b\n\r\n",
    b"0\r\n" + b"A: b\r\n" * 101 + b"\r\n",
]


@pytest.mark.parametrize("body", MALFORMED_CHUNKS)
def test_malformed_chunks_are_refused(body: bytes) -> None:
    """A size that is no hexadecimal number, a chunk of another size, and a malformed trailer end the stream."""
    with pytest.raises(MalformedFrame):
        http1().receive(chunked(body))


def test_chunks_are_bounded() -> None:
    """The line of a chunk is bounded, a chunk that is announced, and all chunks together with their sizes."""
    with pytest.raises(MessageTooLong):
        http1().receive(chunked(b"1;" + b"a" * 8192))
    with pytest.raises(MessageTooLong):
        http1().receive(chunked(b"fffffffffffffff\r\n"))
    with pytest.raises(MessageTooLong):
        http1(max=1000).receive(chunked(b"1\r\na\r\n" * 200))
    with pytest.raises(MessageTooLong):
        http1(max=1000).receive(chunked(b"1;aaaaaaaaaa\r\na\r\n" * 100))


def post(*headers: bytes, version: bytes = b"1.1") -> bytes:
    """Return a request with these headers, and bytes behind its head."""
    return b"\r\n".join([b"POST / HTTP/" + version, b"Host: a", *headers, b"", b"0\r\n\r\nhello"])


LENGTH, CHUNKED = b"Content-Length: 5", b"Transfer-Encoding: chunked"
SMUGGLED = {
    "a length and chunks": post(LENGTH, CHUNKED),
    "chunks and a length": post(CHUNKED, LENGTH),
    "two lengths": post(LENGTH, b"Content-Length: 6"),
    "the same length twice": post(LENGTH, LENGTH),
    "a list of lengths": post(b"Content-Length: 5, 5"),
    "a length with a sign": post(b"Content-Length: +5"),
    "a negative length": post(b"Content-Length: -5"),
    "a hexadecimal length": post(b"Content-Length: 0x5"),
    "a length with a space": post(b"Content-Length: 1 0"),
    "an empty length": post(b"Content-Length:"),
    "a length with a dot": post(b"Content-Length: 5.0"),
    "another coding": post(b"Transfer-Encoding: gzip"),
    "chunked is not all": post(b"Transfer-Encoding: gzip, chunked"),
    "chunked is not last": post(b"Transfer-Encoding: chunked, identity"),
    "chunked twice": post(CHUNKED, CHUNKED),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"'),
    "chunked with a vertical tab": post(b"Transfer-Encoding: \x0bchunked"),
    "xchunked": post(b"Transfer-Encoding: xchunked"),
    "an empty coding": post(b"Transfer-Encoding:"),
    "chunks in HTTP/1.0": post(CHUNKED, version=b"1.0"),
    "a space before the colon": post(b"Transfer-Encoding : chunked"),
    "a tab before the colon": post(b"Content-Length\t: 5"),
    "a folded header": post(b"Content-Length:", b" 5"),
    "a folded header with a tab": post(b"X: a", b"\tb"),
    "a space before the first header": b"POST / HTTP/1.1\r\n Content-Length: 5\r\nHost: a\r\n\r\n",
    "a header without a colon": post(b"Content-Length"),
    "a header without a name": post(b": 5"),
    "a name with a space": post(b"Content Length: 5"),
    "a name with a bracket": post(b"Content(Length: 5"),
    "a name in other letters": post(b"Content-L\xe9ngth: 5"),
    "a CR in a header": post(b"X: a\rContent-Length: 5"),
    "an LF in a header": post(b"X: a\nContent-Length: 5"),
    "a NUL in a header": post(b"X: a\0b"),
    "a DEL in a header": post(b"X: a\x7fb"),
    "an LF for the end of a line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "an LF for the end of the head": b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n",
    "LF for all ends": b"GET / HTTP/1.1\nHost: a\n\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": post(b"host: b"),
    "two Hosts in HTTP/1.0": post(b"Host: a", version=b"1.0"),
    "two spaces": b"GET  / HTTP/1.0\r\n\r\n",
    "a tab for a space": b"GET\t/ HTTP/1.0\r\n\r\n",
    "a space behind the line": b"GET / HTTP/1.0 \r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "HTTP/0.9": b"GET / HTTP/0.9\r\n\r\n",
    "HTTP/1.2": post(version=b"1.2"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.10": post(version=b"1.10"),
    "http/1.1": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "no method": b" / HTTP/1.0\r\n\r\n",
    "a method with a colon": b"GET: / HTTP/1.0\r\n\r\n",
    "a target with a NUL": b"GET /\0 HTTP/1.0\r\n\r\n",
    "a target with a CR": b"GET /\r HTTP/1.0\r\n\r\n",
    "101 headers": post(*[b"X: y"] * 100),
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
    "two empty lines": b"\r\n\r\n",
}
"""Requests that another reader could read otherwise, and would find the next request at another place."""


@pytest.mark.parametrize("case", SMUGGLED)
def test_an_ambiguous_request_is_refused(case: str) -> None:
    """A request is refused if another reader could find another end of it (RFC 9112, sections 2.2, 5, 6 and 11)."""
    with pytest.raises(MalformedFrame):
        http1().receive(SMUGGLED[case])


@pytest.mark.parametrize(
    "stream",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n Content-Length: 5\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_an_ambiguous_response_is_refused(stream: bytes) -> None:
    """What is no response, or has two ends, ends the stream."""
    with pytest.raises(MalformedFrame):
        http1(side="client").receive(stream)


def test_the_head_is_bounded() -> None:
    """A head has at most 32 KiB, and is refused before its end has come."""
    longest = b"GET / HTTP/1.0\r\nX: " + b"a" * (32_768 - 19)
    assert len(received(longest + b"\r\n\r\n")) == 1
    with pytest.raises(MessageTooLong):
        http1().receive(longest + b"aaaaaaaa")
    with pytest.raises(MessageTooLong):
        http1().receive(b"POST / HTTP/1.0\r\nContent-Length: 999999999999999999\r\n\r\n")


def test_a_head_with_many_spaces_takes_no_time() -> None:
    """A header of many spaces with a wrong end is refused by one look at each byte."""
    with pytest.raises(MalformedFrame):
        http1().receive(b"GET / HTTP/1.0\r\nX: " + b" \t" * 16_000 + b"\0\r\n\r\n")


def test_a_stream_that_ends_inside_a_body_is_truncated() -> None:
    """A stream that ends before the announced end of a body ends with an error."""
    for stream in (post(b"Content-Length: 50"), chunked(b"5\r\nhel"), chunked(b"0\r\n"), b"GET / HTTP/1.0\r\n"):
        framing = http1()
        assert framing.receive(stream) == []
        with pytest.raises(TruncatedMessage):
            framing.finish()


def test_a_content_length_is_added() -> None:
    """A message with a body gets its length, and so does a response without a body that can have one."""
    frame = http1().frame
    assert frame(Response(200, "OK", (), b"hello")) == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    assert frame(Response(404)) == b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"
    assert frame(Request("PUT", "/", (HOST,), b"x")) == b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
    assert frame(Request("GET", "/", (HOST,))) == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert frame(Response(100, "Continue")) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert frame(Response(204, "No Content")) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert frame(Response(304, "Not Modified")) == b"HTTP/1.1 304 Not Modified\r\n\r\n"


def test_a_response_to_head_has_the_length_of_the_body_that_it_has_not() -> None:
    """A response can have a length and no body."""
    assert http1().frame(Response(200, "OK", (("Content-Length", "5"),))) == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    )


def test_a_body_is_sent_in_chunks_where_the_headers_say_so() -> None:
    """A message with the header of chunks is sent as one chunk with its trailers."""
    response = Response(200, "OK", (("Transfer-Encoding", "chunked"),), b"x" * 26, trailers=(("A", "b"),))
    assert http1().frame(response).endswith(b"\r\n\r\n1a\r\n" + b"x" * 26 + b"\r\n0\r\nA: b\r\n\r\n")


BAD = ("X", "a\r\nB: c")
UNSENDABLE = [
    Request("GET", "/ HTTP/1.1\r\nX: y", (HOST,)),
    Request("GET", "/a b", (HOST,)),
    Request("GET /", "/", (HOST,)),
    Request("", "/", (HOST,)),
    Request("GET", "", (HOST,)),
    Request("GET", "/", (HOST,), version="HTTP/2"),
    Request("GET", "/\u0100", (HOST,)),
    Request("GET", "/", (HOST, BAD)),
    Request("GET", "/", (HOST, ("X", "a\nb"))),
    Request("GET", "/", (HOST, ("X", "a\rb"))),
    Request("GET", "/", (HOST, ("X", "a\0b"))),
    Request("GET", "/", (HOST, ("X", "\u0100"))),
    Request("GET", "/", (HOST, ("X:", "a"))),
    Request("GET", "/", (HOST, ("X: a\r\nY", "b"))),
    Request("GET", "/", (HOST, ("X ", "a"))),
    Request("GET", "/", (HOST, ("", "a"))),
    Request("GET", "/", (HOST, ("X", 5))),  # type: ignore[arg-type]  # what an app can do wrong
    Request("GET", "/", (HOST, *[("X", "y")] * 100)),
    Request("GET", "/"),
    Request("GET", "/", (HOST, HOST)),
    Request("PUT", "/", (HOST, ("Content-Length", "4")), b"hello"),
    Request("PUT", "/", (HOST, ("Content-Length", "4"))),
    Request("PUT", "/", (HOST, ("Content-Length", "5"), ("Transfer-Encoding", "chunked")), b"hello"),
    Request("PUT", "/", (HOST, ("Content-Length", "5"), ("Content-Length", "5")), b"hello"),
    Request("PUT", "/", (("Transfer-Encoding", "chunked"),), b"hello", "HTTP/1.0"),
    Request("PUT", "/", (HOST, ("Transfer-Encoding", "gzip, chunked")), b"hello"),
    Request("PUT", "/", (HOST,), b"hello", trailers=(("A", "b"),)),
    Request("PUT", "/", (HOST, ("Transfer-Encoding", "chunked")), b"hello", trailers=(BAD,)),
    Request("PUT", "/", (HOST,), "hello"),  # type: ignore[arg-type]
    Response(200, "OK\r\nX: y"),
    Response(200, "OK", (BAD,)),
    Response(99),
    Response(600),
    Response("200"),  # type: ignore[arg-type]
    Response(200, "OK", (("Content-Length", "4"),), b"hello"),
    Response(204, "", (), b"hello"),
    Response(204, "", (("Content-Length", "0"),)),
    Response(100, "", (("Transfer-Encoding", "chunked"),)),
    Response(304, "", (), b"hello"),
    Response(200, "", (), None),  # type: ignore[arg-type]
    "GET / HTTP/1.1",
    b"GET / HTTP/1.1\r\n\r\n",
    None,
]


@pytest.mark.parametrize("message", UNSENDABLE)
def test_a_message_that_would_be_another_one_is_not_sent(message: Any) -> None:
    """A message that its peer would read as another one, or as two, cannot be sent: nothing can be injected."""
    with pytest.raises(UnsendableMessage):
        http1().frame(message)


def test_a_header_is_found_in_any_case() -> None:
    """`header` gives the values of all headers of a name, whatever the case of its letters."""
    request = Request("GET", "/", (("Accept", "a"), ("accept", "b"), ("Accept-Language", "c")))
    assert request.header("ACCEPT") == "a, b"
    assert request.header("host") == ""
    assert Response(200, headers=(("ETag", '"x"'),)).header("etag") == '"x"'


@pytest.mark.parametrize(
    ("version", "connection", "goes_on"),
    [
        ("HTTP/1.1", "", True),
        ("HTTP/1.1", "close", False),
        ("HTTP/1.1", "Upgrade, CLOSE", False),
        ("HTTP/1.1", "Upgrade", True),
        ("HTTP/1.0", "", False),
        ("HTTP/1.0", "Keep-Alive", True),
        ("HTTP/1.0", "keep-alive, close", False),
    ],
)
def test_a_message_says_whether_the_connection_goes_on(version: str, connection: str, goes_on: bool) -> None:
    """By its version and its Connection header, a message says whether another one can follow."""
    headers = (("Connection", connection),) if connection else ()
    assert Request("GET", "/", headers, version=version).keeps_alive is goes_on
    assert Response(200, headers=headers, version=version).keeps_alive is goes_on


def test_a_request_can_be_read_inside_another_message() -> None:
    """The generator of a parser can read a request by ``yield from``."""

    @parser
    def pair() -> Parse:
        """Read two requests."""
        return (yield from http1()), (yield from http1())

    stream = b"GET / HTTP/1.0\r\n\r\n"
    request = Request("GET", "/", version="HTTP/1.0")
    assert pair().receive(stream * 2) == [(request, request)]


CHUNKED_RESPONSE = Response(200, "OK", (("Transfer-Encoding", "chunked"), ("X", "y")), b"hello", trailers=(("A", "b"),))


def test_a_response_answers_head_with_its_length() -> None:
    """The response to HEAD has the length of its body in place of the body, and no trailers."""
    head = Request("HEAD", "/", (HOST,))
    assert Response(200, "OK", (("X", "y"),), b"hello").answering(head) == Response(200, "OK", (("X", "y"), FIVE))
    assert Response(200, "OK", (FIVE,), b"hello").answering(head) == Response(200, "OK", (FIVE,))
    assert CHUNKED_RESPONSE.answering(head) == Response(200, "OK", (("X", "y"), FIVE))
    assert Response(304).answering(head) == Response(304)


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        ("HTTP/1.1", (), ()),
        ("HTTP/1.1", (("Connection", "close"),), (("Connection", "close"),)),
        ("HTTP/1.0", (), (("Connection", "close"),)),
        ("HTTP/1.0", (("Connection", "keep-alive"),), (("Connection", "keep-alive"),)),
    ],
)
def test_a_response_says_whether_the_connection_goes_on(version: str, connection: Any, expected: Any) -> None:
    """The response to a request has a Connection header where the client could expect something else."""
    request = Request("GET", "/", (HOST, *connection), version=version)
    assert Response(200, "OK", (), b"hello").answering(request) == Response(200, "OK", expected, b"hello")
    assert CHUNKED_RESPONSE.answering(Request("GET", "/", (HOST,))) == CHUNKED_RESPONSE


@pytest.mark.exhaustive
@pytest.mark.parametrize(("side", "streams"), [("server", REQUESTS), ("client", RESPONSES)])
def test_the_promises_of_every_framing_hold(side: Any, streams: dict[bytes, Any]) -> None:
    """Both sides keep the promises of every framing, with and without bodies, by length and in chunks."""
    check_framing(lambda: http1(side=side), streams.values(), examples=20)
