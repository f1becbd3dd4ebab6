"""Peers that make no proper TLS connection, and how the server ends them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOProtocol

from tcpapp import Timeouts, conversation
from tcpapp.apps import echo
from tcpapp.limits.fairness import StepScheduler
from tcpapp.telemetry import Closed, NeverOpened
from tcpapp.transport.tls.protocol import ServerTLS
from tests.faults.times import SOON
from tests.patience import PATIENCE
from tests.processes import program
from tests.secret import Secret

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted's use of pyOpenSSL


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("says", [b"", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n"])
async def test_tls_handshake_that_never_ends(served: Any, certificate: str, says: bytes) -> None:
    """A TLS handshake that never ends is ended by its timeout, and one that is not TLS fails. The app is not called."""
    opened: list[Any] = []

    class App:
        def opened(self, connection: Any) -> None:
            opened.append(connection)

    endpoint = f"tls:0:interface=127.0.0.1:certificate={certificate}"
    fails = says.startswith(b"GET")
    await served.start(App, endpoint, then=None if fails else Timeouts(tls_handshake=2 * SOON))
    await served.stranger(says)
    await served.ended("tls-failed" if fails else "tls-handshake-timeout")
    assert opened == []


class TurnCounter:
    """
    A server's clock that stands still, so that nothing takes long. It counts the TLS work of each turn.

    A step of a handshake, or an accepted client, schedules a call for the next turn. That call marks the beginning of
    the turn.
    """

    def __init__(self, reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._reactor = reactor
        self.steps = 0
        self.most_in_a_turn = 0
        self._in_this = 0
        self._count(monkeypatch, TLSMemoryBIOProtocol, "_checkHandshakeStatus")
        self._count(monkeypatch, ServerTLS, "makeConnection")

    def seconds(self) -> float:
        return 0.0

    def callLater(self, seconds: float, call: Any, *given: Any) -> Any:
        if isinstance(getattr(call, "__self__", None), StepScheduler):
            return self._reactor.callLater(0, self._begin_turn, call, *given)
        return self._reactor.callLater(seconds, call, *given)

    def _begin_turn(self, call: Any, *given: Any) -> None:
        self._in_this = 0
        call(*given)

    def _count(self, monkeypatch: pytest.MonkeyPatch, kind: Any, name: str) -> None:
        method = getattr(kind, name)

        def counted(*given: Any) -> Any:
            self.steps += 1
            self._in_this += 1
            self.most_in_a_turn = max(self.most_in_a_turn, self._in_this)
            return method(*given)

        monkeypatch.setattr(kind, name, counted)


def client_hello() -> bytes:
    """Return the first bytes that a TLS client sends."""
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    return sent.read()


@pytest_twisted.ensureDeferred
async def test_tls_handshakes_begun_at_once_and_left(
    served: Any, certificate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A turn of the loop accepts one TLS client, or does one step of one handshake. The healthy client is served
    meanwhile.
    """
    turns = TurnCounter(served.reactor, monkeypatch)
    endpoint = ["tcp:0:interface=127.0.0.1", f"tls:0:interface=127.0.0.1:certificate={certificate}"]
    server = await served.start(echo, endpoint, clock=turns)
    hello, tls_port = client_hello(), server.addresses[1].port
    strangers = await gatherResults([Deferred.fromCoroutine(served.stranger(hello, to=tls_port)) for _ in range(50)])
    while not all(each.data for each in strangers):  # the server's first answer
        await served.is_served()
    assert (turns.most_in_a_turn, turns.steps) == (1, 2 * 50)
    for each in strangers:
        each.transport.abortConnection()
    while len(served.of(NeverOpened)) < 50:
        await served.is_served()
    assert len(server._factory.settings.step_scheduler) == 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("version", "answered"), [("1.3", b"DONE\n"), ("1.2", b"")])
async def test_half_close_over_tls(served: Any, certificate: str, version: str, answered: bytes) -> None:
    """Over TLS 1.3 a half-closed peer gets its reply. TLS 1.2 has no half-close, so unsent replies are dropped."""

    @conversation
    async def app(connection: Any) -> None:
        async for message in connection:
            last = message
        await connection.send(last.upper())

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain:
            stranger = Secret(plain, version)
            stranger.sendall(b"done\n")
            stranger.shutdown(socket.SHUT_WR)
            return stranger.recv(100)

    server = await served.start(app, f"tls:0:interface=127.0.0.1:certificate={certificate}")
    assert await deferToThread(talk) == answered
    await served.ended("end-of-stream")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("closes", "rule"), [(True, "closed"), (False, "lost")])
async def test_tls_that_ends_without_close_notify(served: Any, certificate: str, closes: bool, rule: str) -> None:
    """
    A peer that ends without close_notify is `lost`, since an attacker can have cut off the rest.

    After the server's own close the end is clean, since nothing was missing.
    """

    def app(message: bytes, connection: Any) -> bytes:
        if closes:
            connection.close()
        return message

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain:
            stranger = Secret(plain)
            stranger.sendall(b"done\n")
            return stranger.recv(100)

    server = await served.start(app, f"tls:0:interface=127.0.0.1:certificate={certificate}")
    assert await deferToThread(talk) == b"done\n"
    await served.ended(rule)
    assert served.of(Closed)[0].reason.clean is closes


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
async def test_old_tls(served: Any, certificate: str, version: str) -> None:
    """A handshake with TLS 1.0 or 1.1 fails: RFC 8996 has withdrawn both as broken."""
    server = await served.start(echo, f"tls:0:interface=127.0.0.1:certificate={certificate}")
    command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{server.port}", version]
    command += ["-cipher", "DEFAULT:@SECLEVEL=0"]
    shown = await deferToThread(subprocess.run, command, input=b"", capture_output=True, timeout=PATIENCE, check=False)
    assert shown.returncode != 0
    assert b"Cipher is (NONE)" in shown.stdout
    await served.ended("tls-failed")


@pytest_twisted.ensureDeferred
async def test_tls_renegotiation(served: Any, certificate: str) -> None:
    """The server refuses a renegotiation in TLS 1.2, since it is a cheap way to keep a server busy."""
    server = await served.start(echo, f"tls:0:interface=127.0.0.1:certificate={certificate}")
    command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_2"]

    def renegotiate() -> str:
        lines = []
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, text=True, **pipes) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            for line in client.stdout:
                lines.append(line)
                if "Extended master secret" in line:
                    client.stdin.write("R\n")
                    client.stdin.close()
        return "".join(lines)

    shown = await deferToThread(renegotiate)
    assert "RENEGOTIATING" in shown
    assert "no renegotiation" in shown or "handshake failure" in shown
