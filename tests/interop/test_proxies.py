"""curl gets a page through the SOCKS5 proxy and through the proxy by HTTP CONNECT."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

import tcpapp
from tcpapp.apps.connect_proxy import ConnectProxy
from tcpapp.apps.http_hello import http_hello
from tcpapp.apps.socks5 import Socks5, greeting
from tests.patience import PATIENCE

HERE = "tcp:0:interface=127.0.0.1"


class Proxies:
    """Two proxies to one page, and curl. ``await get("--proxy", "…{connect}…", …)`` returns its code and its output."""

    def __init__(self, path: str, reactor: Any) -> None:
        self.path = path
        self.page = self.listen(http_hello, "http1", reactor)
        allow = [f"localhost:{self.page.port}"]
        self.socks = self.listen(Socks5(allow, {"ann": "secret"}), greeting(), reactor)
        self.connect = self.listen(ConnectProxy(allow), "http1", reactor)

    def listen(self, app: Any, framing: Any, reactor: Any) -> tcpapp.Listening:
        listening: tcpapp.Listening = pytest_twisted.blockon(tcpapp.listen(HERE, app, framing=framing, reactor=reactor))
        return listening

    async def get(self, *arguments: str, host: str = "localhost", stdin: bytes = b"") -> tuple[int, bytes]:
        """Run curl for the page at `host`."""
        ports = {"socks": self.socks.port, "connect": self.connect.port}
        command = [self.path, "-q", "-sS", "--noproxy", "", "--max-time", f"{PATIENCE:.0f}"]
        command += [each.format(**ports) for each in arguments] + [f"http://{host}:{self.page.port}/"]
        done = await deferToThread(subprocess.run, command, input=stdin, capture_output=True, check=False)
        return done.returncode, done.stdout

    def close(self) -> None:
        for each in (self.socks, self.connect, self.page):
            pytest_twisted.blockon(each.close())


@pytest.fixture
def proxies(requires_program: Callable[[str], str], global_reactor: Any) -> Iterator[Proxies]:
    """Give the proxies, which are closed after the test."""
    made = Proxies(requires_program("curl"), global_reactor)
    yield made
    made.close()


@pytest_twisted.ensureDeferred
async def test_curl_gets_a_page_by_socks5(proxies: Proxies) -> None:
    """curl logs in, lets the proxy resolve the name, and gets the page."""
    got = await proxies.get("--socks5-hostname", "ann:secret@127.0.0.1:{socks}")
    assert got == (0, b"Hello\n")


@pytest_twisted.ensureDeferred
async def test_curl_sends_a_large_body_by_socks5(proxies: Proxies) -> None:
    """A body of a megabyte goes to the target and comes back, however the two ends wait for each other."""
    body = bytes(range(256)) * 3000
    got = await proxies.get(
        "--socks5-hostname", "ann:secret@127.0.0.1:{socks}", "--data-binary", "@-", "-H", "Expect:", stdin=body
    )
    assert got == (0, body)


@pytest_twisted.ensureDeferred
async def test_curl_is_refused_by_socks5(proxies: Proxies) -> None:
    """A wrong password, and a target by its address in place of its name, are refused."""
    wrong = await proxies.get("--socks5-hostname", "ann:wrong@127.0.0.1:{socks}")
    other = await proxies.get("--socks5-hostname", "ann:secret@127.0.0.1:{socks}", host="127.0.0.1")
    assert [code for code, _ in (wrong, other)] == [97, 97]  # CURLE_PROXY: the handshake with the proxy failed


@pytest_twisted.ensureDeferred
async def test_curl_gets_a_page_by_connect(proxies: Proxies) -> None:
    """curl asks for a tunnel, and gets the page through it."""
    got = await proxies.get("--proxytunnel", "--proxy", "http://127.0.0.1:{connect}")
    assert got == (0, b"Hello\n")


@pytest_twisted.ensureDeferred
async def test_curl_is_refused_by_connect(proxies: Proxies) -> None:
    """A target that is not allowed, and a request without a tunnel, are refused."""
    code, _ = await proxies.get("--proxytunnel", "--proxy", "http://127.0.0.1:{connect}", host="127.0.0.1")
    assert code == 56  # CURLE_RECV_ERROR: no tunnel
    plain = await proxies.get("-o", "/dev/null", "-w", "%{{http_code}}", "--proxy", "http://127.0.0.1:{connect}")
    assert plain == (0, b"405")
