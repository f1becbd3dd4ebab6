"""curl, and Python's own client and server, talk HTTP/1.1 with tcpapp."""

from __future__ import annotations

import http.client
import http.server
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

import tcpapp
from tcpapp.apps.http_hello import http_hello
from tcpapp.framing.http1 import Request, Response, http1
from tests.patience import PATIENCE


class Asked:
    """The app `http_hello`, with the requests that it got."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[Request] = []

    def opened(self, connection: tcpapp.Connection) -> None:
        self.connections += 1

    def received(self, request: Request, connection: tcpapp.Connection) -> Response:
        self.requests.append(request)
        return http_hello(request, connection)


class Curl:
    """curl and a server for it. ``await curl("-I", "/a")`` returns what curl prints."""

    def __init__(self, path: str, reactor: Any) -> None:
        self.path = path
        self.app = Asked()
        listening = tcpapp.listen("tcp:0:interface=127.0.0.1", self.app, framing="http1", reactor=reactor)
        self.server: tcpapp.Listening = pytest_twisted.blockon(listening)

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> bytes:
        url = f"http://127.0.0.1:{self.server.port}"
        command = [self.path, "-q", "-sS", "--noproxy", "*", "--max-time", f"{PATIENCE:.0f}"]
        command += [f"{url}{each}" if each.startswith("/") else each for each in arguments]
        done = await deferToThread(subprocess.run, command, input=stdin, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        out: bytes = done.stdout
        return out


@pytest.fixture
def curl(requires_program: Callable[[str], str], global_reactor: Any) -> Iterator[Curl]:
    """Give curl and a server, which is stopped after the test."""
    made = Curl(requires_program("curl"), global_reactor)
    yield made
    pytest_twisted.blockon(made.server.close())


@pytest_twisted.ensureDeferred
async def test_curl_gets_a_greeting(curl: Curl) -> None:
    """curl gets the body of the response to its GET."""
    assert await curl("/") == b"Hello\n"
    assert curl.app.requests[0].header("user-agent").startswith("curl/")


@pytest_twisted.ensureDeferred
async def test_curl_asks_for_the_head_only(curl: Curl) -> None:
    """To HEAD curl gets the length of the body and no body, and asks again on the same connection."""
    assert b"Content-Length: 6" in await curl("-I", "/", "/again")
    assert [each.method for each in curl.app.requests] == ["HEAD", "HEAD"]
    assert curl.app.connections == 1


@pytest_twisted.ensureDeferred
async def test_curl_keeps_its_connection(curl: Curl) -> None:
    """Several requests of curl come on one connection."""
    assert await curl("/1", "/2", "/3") == b"Hello\n" * 3
    assert [each.target for each in curl.app.requests] == ["/1", "/2", "/3"]
    assert curl.app.connections == 1


@pytest.mark.parametrize("size", [0, 1, 1000, 200_000])
@pytest_twisted.ensureDeferred
async def test_curl_posts_a_body_with_its_length(curl: Curl, size: int) -> None:
    """The body that curl sends with a length comes back."""
    body = bytes(each % 251 for each in range(size))
    assert await curl("--data-binary", "@-", "/", stdin=body) == body
    assert curl.app.requests[0].header("content-length") == str(size)


@pytest.mark.parametrize("size", [0, 1, 200_000])
@pytest_twisted.ensureDeferred
async def test_curl_uploads_a_body_in_chunks(curl: Curl, size: int) -> None:
    """The body that curl sends in chunks, since it does not know its length, comes back."""
    body = bytes(each % 251 for each in range(size))
    assert await curl("-T", "-", "-H", "Expect:", "/", stdin=body) == body
    assert [each.header("transfer-encoding") for each in curl.app.requests] == ["chunked"]


@pytest_twisted.ensureDeferred
async def test_curl_sends_its_body_where_no_100_comes(curl: Curl) -> None:
    """curl asks for 100 Continue, and sends the body without it when its time is over, as RFC 9110 wants."""
    arguments = ("-H", "Expect: 100-continue", "--expect100-timeout", "0.1")
    assert await curl(*arguments, "--data-binary", "@-", "/", stdin=b"hello") == b"hello"
    assert [each.header("expect") for each in curl.app.requests] == ["100-continue"]


@pytest_twisted.ensureDeferred
async def test_curl_speaks_http_1_0(curl: Curl) -> None:
    """A request of HTTP/1.0 is answered, and the connection is closed behind each response."""
    assert await curl("-0", "/", "/") == b"Hello\n" * 2
    assert curl.app.connections == 2


@pytest_twisted.ensureDeferred
async def test_curl_wants_the_connection_closed(curl: Curl) -> None:
    """A request with Connection: close gets a response with the same, and then the end of the connection."""
    assert b"\r\nConnection: close\r\n" in await curl("-i", "-H", "Connection: close", "/")


@pytest_twisted.ensureDeferred
async def test_curl_gets_an_error_for_another_method(curl: Curl) -> None:
    """A method that the app does not know gets status 405."""
    assert (await curl("-i", "-X", "DELETE", "/")).startswith(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET,")


@pytest_twisted.ensureDeferred
async def test_ncat_pipelines_requests(requires_program: Callable[[str], str], global_reactor: Any) -> None:
    """Requests that ncat sends at once are answered in order."""
    path = requires_program("ncat")
    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", http_hello, framing="http1", reactor=global_reactor)
    requests = [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%d" % (len(str(n)), n) for n in range(200)]
    command = [path, "127.0.0.1", str(server.port)]
    done = await deferToThread(
        subprocess.run, command, input=b"".join(requests), capture_output=True, timeout=PATIENCE, check=True
    )
    await server.close()
    responses = http1(side="client").receive(done.stdout)
    assert [each.body for each in responses] == [b"%d" % n for n in range(200)]


@pytest_twisted.ensureDeferred
async def test_pythons_client_asks_a_server_of_tcpapp(global_reactor: Any) -> None:
    """http.client gets the responses to HEAD, GET and POST, with a length and in chunks, on one connection."""
    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", http_hello, framing="http1", reactor=global_reactor)

    def ask() -> list[tuple[int, bytes]]:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        found = []
        for method, body in (("HEAD", None), ("GET", None), ("POST", b"hello"), ("POST", iter([b"a", b"bc"]))):
            client.request(method, "/", body)
            response = client.getresponse()
            found.append((response.status, response.read()))
        client.close()
        return found

    assert await deferToThread(ask) == [(200, b""), (200, b"Hello\n"), (200, b"hello"), (200, b"abc")]
    await server.close()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the method, and the body that came."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.command.encode() + b" " + self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_HEAD = answer

    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""


@pytest_twisted.ensureDeferred
async def test_a_client_of_tcpapp_asks_a_server_of_python(global_reactor: Any) -> None:
    """A client gets a response to each request that it sends to Python's http.server, also to HEAD, all at once."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        client = await tcpapp.connect(
            f"tcp:127.0.0.1:{server.server_port}", framing="http1:side=client", reactor=global_reactor
        )
        host = (("Host", "127.0.0.1"),)
        waiting = [
            client.request(Request(method, "/", host, body))
            for method, body in [("GET", b""), ("HEAD", b""), ("POST", b"hello"), ("HEAD", b""), ("GET", b"")]
        ]
        bodies = [(await each).body for each in waiting]
        await client.close()
        server.shutdown()
        serving.join(PATIENCE)
    assert bodies == [b"GET ", b"", b"POST hello", b"", b"GET "]


async def count(request: Request, connection: tcpapp.Connection) -> Response:
    """Ask for the body, if the client waits for that, and reply with its length."""
    if request.header("expect") == "100-continue":
        await connection.send(Response(100, "Continue"))
    size = 0
    async for piece in request.body:
        size += len(piece)
    return Response(200, "OK", (), b"%d" % size)


@pytest.mark.parametrize("body", [["--data-binary", "@-"], ["-T", "-"]], ids=["length", "chunks"])
@pytest_twisted.ensureDeferred
async def test_curl_waits_for_100_and_sends_a_body_as_a_stream(
    body: list[str], requires_program: Callable[[str], str], global_reactor: Any
) -> None:
    """With bodies=stream, curl gets 100 Continue before it sends its body; without it, curl would wait too long."""
    server = await tcpapp.listen(
        "tcp:0:interface=127.0.0.1", count, framing="http1:bodies=stream", reactor=global_reactor
    )
    command = [requires_program("curl"), "-q", "-sS", "--noproxy", "*", "--max-time", f"{PATIENCE:.0f}", *body]
    command += ["-H", "Expect: 100-continue", "--expect100-timeout", f"{10 * PATIENCE:.0f}"]
    command += [f"http://127.0.0.1:{server.port}/"]
    done = await deferToThread(subprocess.run, command, input=b"x" * 5_000_000, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"5000000", b"")
    await server.close()


class Endless(http.server.BaseHTTPRequestHandler):
    """Answers in HTTP/1.0, with a body that ends with the connection."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"x" * 1_000_000)

    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""


@pytest_twisted.ensureDeferred
async def test_a_client_reads_a_body_that_ends_with_the_connection(global_reactor: Any) -> None:
    """With bodies=stream, a client reads a response of Python's server that has no length."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        client = await tcpapp.connect(
            f"tcp:127.0.0.1:{server.server_port}", framing="http1:side=client:bodies=stream", reactor=global_reactor
        )
        await client.send(Request("GET", "/", (("Host", "a"),)))
        response = await client.receive()
        size = 0
        async for piece in response.body:
            size += len(piece)
        await client.close()
        server.shutdown()
        serving.join(PATIENCE)
    assert (response.status, size) == (200, 1_000_000)
