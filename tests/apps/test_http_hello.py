"""The app that answers by HTTP/1.1: a greeting, bodies that come back, and the end of the connection."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tcpapp import MessageServerFactory
from tcpapp.apps.http_hello import http_hello
from tcpapp.framing.http1 import Request, Response, http1
from tests.peers import NotedTransport, joined

HOST = ("Host", "a")


class Client:
    """A client of the app, which sends requests and reads responses."""

    def __init__(self) -> None:
        self.transport: NotedTransport = joined(MessageServerFactory(http_hello, framing="http1", clock=Clock()))
        self.framing = http1(side="client")

    def ask(self, *requests: Request) -> list[Response]:
        """Send requests at once, and return the responses."""
        self.transport.receive(b"".join([self.framing.frame(each) for each in requests]))
        data = self.transport.value()
        self.transport.clear()
        responses: list[Response] = self.framing.receive(data)
        return responses


def test_get_and_head_get_a_greeting() -> None:
    """GET gets a text, and HEAD its headers; the connection goes on."""
    got, head = (Client().ask(Request(method, "/", (HOST,)))[0] for method in ("GET", "HEAD"))
    assert (got.status, got.body, got.header("content-length")) == (200, b"Hello\n", "6")
    assert head == got._replace(body=b"")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_comes_back(method: str) -> None:
    """The body of a POST or a PUT comes back, with its type."""
    text = Request(method, "/", (HOST, ("Content-Type", "text/html")), b"<b>")
    chunked = Request(method, "/", (HOST, ("Transfer-Encoding", "chunked")), b"\0")
    responses = Client().ask(text, chunked)
    assert [(each.body, each.header("content-type")) for each in responses] == [
        (b"<b>", "text/html"),
        (b"\0", "application/octet-stream"),
    ]


def test_another_method_is_not_allowed() -> None:
    """Another method gets status 405, with the methods that are allowed."""
    [response] = Client().ask(Request("DELETE", "/", (HOST,)))
    assert (response.status, response.header("allow")) == (405, "GET, HEAD, POST, PUT")


def test_requests_that_come_together_are_answered_in_order() -> None:
    """Requests of one chunk (pipelining) get their responses in order, also where one is a HEAD."""
    requests = [Request("HEAD" if n % 3 == 0 else "POST", "/", (HOST,), b"%d" % n) for n in range(9)]
    assert [each.body for each in Client().ask(*requests)] == [b"" if n % 3 == 0 else b"%d" % n for n in range(9)]


@pytest.mark.parametrize(
    ("request_", "goes_on"),
    [
        (Request("GET", "/", (HOST,)), True),
        (Request("GET", "/", (HOST, ("Connection", "close"))), False),
        (Request("GET", "/", version="HTTP/1.0"), False),
        (Request("GET", "/", (("Connection", "keep-alive"),), version="HTTP/1.0"), True),
    ],
)
def test_the_connection_ends_where_the_request_says_so(request_: Any, goes_on: bool) -> None:
    """Behind the response the connection is closed, if the request says so."""
    client = Client()
    [response] = client.ask(request_)
    assert response.keeps_alive is goes_on
    assert client.transport.connection.is_open is goes_on


def test_a_request_that_is_no_http_ends_the_connection() -> None:
    """Bytes that are no request close the connection with the rule of the framing."""
    client = Client()
    client.transport.receive(b"hello\r\n\r\n")
    assert not client.transport.connection.is_open
