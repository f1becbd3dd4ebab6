"""TLS from the endpoint string to the conversation, on real ports: certificates, trust, reloads and STARTTLS."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import WrappingFactory

from tcpapp import MessageServerFactory, MessageService, Telemetry, Timeouts, connect, conversation, listen
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import InvalidOption, NotConnected
from tcpapp.limits.fairness import StepScheduler
from tcpapp.telemetry import NeverOpened
from tcpapp.transport.tls.client import client_options
from tcpapp.transport.tls.contexts import ServerContexts, ServerSpec, TLSServerFactory
from tests.patience import PATIENCE
from tests.processes import program
from tests.transport.tls.contexts import first_of

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted's use of pyOpenSSL


def quoted(path: Any) -> str:
    made: str = quoteStringArgument(str(path))
    return made


def who(message: bytes, connection: Any) -> bytes:
    """Return what an app knows of the TLS of its connection."""
    tls = connection.tls
    return f"{tls.version} {tls.protocol} {tls.server_name} {tls.subject or '-'} {','.join(tls.names) or '-'}".encode()


@pytest.fixture
def serve(files: Any) -> Iterator[Any]:
    """Give ``serve(values, app)``: a TLS server on any port, with these values of an endpoint string."""
    servers: list[Any] = []

    def start(values: str = "certificate={server}", app: Any = who, **options: Any) -> Any:
        filled = values.format(
            server=quoted(files / "server.pem"),
            other=quoted(files / "other.pem"),
            roots=quoted(files / "roots.pem"),
            folder=quoted(files.folder),
        )
        return listen(f"tls:0:interface=127.0.0.1:{filled}", app, **options).addCallback(keep)

    def keep(server: Any) -> Any:
        servers.append(server)
        return server

    yield start
    for each in servers:
        pytest_twisted.blockon(each.close(0))


def to(files: Any, server: Any, values: str = "", **options: Any) -> Any:
    """Connect a client that trusts the authority."""
    filled = values.format(client=quoted(files / "client.pem"), strangers=quoted(files / "strangers.pem"))
    trust = "" if "trustRoots" in values else f":trustRoots={quoted(files / 'roots.pem')}"
    return connect(f"tls:127.0.0.1:{server.port}{trust}{filled}", **options)


@pytest_twisted.ensureDeferred
async def test_a_server_is_trusted_by_its_name(files: Any, serve: Any) -> None:
    """The client trusts a certificate for its address; both sides know the agreed TLS and the peer."""
    server = await serve()
    client = await to(files, server)
    assert await client.request(b"?") == b"TLSv1.3 None None - -"
    assert (client.tls.version, client.tls.names) == ("TLSv1.3", ("localhost", "127.0.0.1"))
    assert client.tls.cipher
    assert client.tls.certificate is not None
    await client.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        (":hostname=elsewhere.example", Exception, "elsewhere.example"),
        (":trustRoots={strangers}", SSL.Error, "."),
    ],
)
async def test_an_untrusted_server_gets_no_message(
    files: Any, serve: Any, values: str, error: type[Exception], says: str
) -> None:
    """A certificate for another name or of another authority makes `connect` fail before any message is sent."""
    seen: list[bytes] = []
    server = await serve(app=lambda message, connection: seen.append(message))
    with pytest.raises(error, match=says):
        await to(files, server, values)
    assert seen == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("asked", "shown"),
    [("localhost", "localhost"), ("other.example", "other.example"), ("a.wild.example", "other.example")],
)
async def test_the_server_shows_the_certificate_for_the_asked_name(
    files: Any, serve: Any, asked: str, shown: str
) -> None:
    """The server shows the certificate for the name that the client asks for, which can match by a star."""
    server = await serve("path={folder}")
    client = await to(files, server, f":hostname={asked}")
    assert client.tls.names[0] == shown
    assert asked.encode() in await client.request(b"?")
    await client.close()


@pytest_twisted.ensureDeferred
async def test_alpn_chooses_the_servers_first_protocol(files: Any, serve: Any) -> None:
    """With ALPN, both sides use the first protocol of the server's list that the client offers."""
    server = await serve("certificate={server}:alpn=two,one")
    client = await to(files, server, ":alpn=one,two")
    assert client.tls.protocol == "two"
    assert await client.request(b"?") == b"TLSv1.3 two None - -"
    await client.close()


@pytest_twisted.ensureDeferred
async def test_alpn_without_a_common_protocol_fails(files: Any, serve: Any) -> None:
    """Without a common protocol, the handshake fails; a client that offers no protocol is accepted."""
    server = await serve("certificate={server}:alpn=one")
    with pytest.raises(Exception, match="no application protocol"):
        await to(files, server, ":alpn=two")
    client = await to(files, server)
    assert client.tls.protocol is None
    await client.close()


@pytest_twisted.ensureDeferred
async def test_alpn_without_a_common_protocol_sends_its_alert(files: Any, serve: Any) -> None:
    """Without a common protocol, the server sends the alert no_application_protocol (RFC 7301, section 3.2)."""
    server = await serve("path={folder}:alpn=one")
    context = ssl.create_default_context()
    context.set_alpn_protocols(["two"])
    hello = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="other.example").do_handshake()

    def answer() -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain:
            plain.sendall(hello.read())
            return plain.recv(100)

    assert await deferToThread(answer) == b"\x15\x03\x03\x00\x02\x02\x78"


@pytest_twisted.ensureDeferred
async def test_a_client_can_be_required_to_have_a_certificate(files: Any, serve: Any) -> None:
    """With clients=required, the app knows the client by its certificate; a client without one is rejected."""
    server = await serve("certificate={server}:clients=required:clientRoots={roots}")
    client = await to(files, server, ":certificate={client}")
    assert await client.request(b"?") == b"TLSv1.3 None None ann -"
    await client.close()
    nobody = await to(files, server)
    with pytest.raises(NotConnected):
        await nobody.request(b"?")
    assert not server.connections


@pytest_twisted.ensureDeferred
async def test_a_client_can_be_asked_for_a_certificate(files: Any, serve: Any) -> None:
    """With clients=wished, a client without a certificate is accepted; a client with an untrusted one is not."""
    server = await serve("certificate={server}:clients=wished:clientRoots={roots}")
    nobody = await to(files, server)
    assert await nobody.request(b"?") == b"TLSv1.3 None None - -"
    await nobody.close()
    files.issue("client.pem", "eve@example.org", common_name="eve", by=files.stranger)
    eve = await to(files, server, ":certificate={client}")
    with pytest.raises(NotConnected):
        await eve.request(b"?")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("side", ["server", "client"])
async def test_a_minimum_version_of_either_side_is_accepted(files: Any, serve: Any, side: str) -> None:
    """With minimum=1.3 on either side, both sides use TLS 1.3."""
    server = await serve("certificate={server}" + (":minimum=1.3" if side == "server" else ""))
    client = await to(files, server, ":minimum=1.3" if side == "client" else "")
    assert client.tls.version == "TLSv1.3"
    await client.close()


@pytest_twisted.ensureDeferred
async def test_tls_works_on_a_unix_socket(files: Any, serve: Any, tmp_path: Any) -> None:
    """``tls:`` with an ``endpoint=`` works on a UNIX socket, on both sides."""
    path = quoted(quoted(tmp_path / "socket"))
    server = await listen(rf"tls:endpoint=unix\:{path}:certificate={quoted(files / 'server.pem')}", who)
    roots = quoted(files / "roots.pem")
    client = await connect(rf"tls:localhost:1:endpoint=unix\:{path}:trustRoots={roots}")
    assert b"localhost" in await client.request(b"?")
    await client.close()
    await server.close(0)


# Renewed certificates -------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_renewed_certificate_is_shown_to_new_clients(files: Any, said: list[str]) -> None:
    """
    After a reload, new clients see the new certificate, and open connections go on.

    A reload of an invalid file fails, is logged, and changes nothing.
    """
    endpoint = f"tls:0:interface=127.0.0.1:certificate={quoted(files / 'server.pem')}"
    service = MessageService(MessageServerFactory(who), [endpoint, "tcp:0:interface=127.0.0.1"], reactor)
    service.startService()
    try:
        port = service.addresses[0].port  # type: ignore[attr-defined]

        class Server:
            pass

        server: Any = Server()
        server.port = port
        before = await to(files, server)
        files.issue("server.pem", "127.0.0.1", "renewed.example")
        assert service.reload_certificates()
        after = await to(files, server)
        assert (before.tls.names[0], after.tls.names[1]) == ("localhost", "renewed.example")
        assert await before.request(b"?") == await after.request(b"?")
        (files / "server.pem").write_text("junk")
        assert not service.reload_certificates()
        late = await to(files, server)
        assert late.tls.names[1] == "renewed.example"
        assert any(line.startswith("certificate not loaded: ") for line in said)
        for each in (before, after, late):
            await each.close()
    finally:
        await service.stopService()


def test_files_are_checked_while_the_server_listens(files: Any) -> None:
    """A changed file is read after `watch` seconds; a missing one changes nothing. No timer is left at the end."""
    contexts, clock = ServerContexts(ServerSpec(certificate=files / "server.pem", directory=files.folder)), Clock()
    factory = TLSServerFactory(contexts, WrappingFactory(MessageServerFactory(who)), clock, 60)
    factory.doStart()
    first = first_of(contexts)
    clock.advance(60)
    assert first_of(contexts) is first
    files.issue("server.pem", "localhost")
    os.utime(files / "server.pem", (1, 1))
    clock.advance(60)
    assert first_of(contexts) is not first
    second = first_of(contexts)
    (files / "server.pem").unlink()
    clock.pump([60, 60])
    assert first_of(contexts) is second
    factory.doStop()
    assert clock.getDelayedCalls() == []


def test_without_a_watch_no_timer_is_set(files: Any) -> None:
    """With watch=0, no timer checks the files."""
    clock = Clock()
    factory = TLSServerFactory(
        ServerContexts(ServerSpec(certificate=files / "server.pem")), WrappingFactory(None), clock, 0
    )
    factory.startFactory()
    assert clock.getDelayedCalls() == []
    factory.stopFactory()


# STARTTLS -------------------------------------------------------------------------------------------------------------


def upgrading(files: Any) -> Any:
    """Return an app that starts TLS on request, and sends messages back in capitals."""
    contexts = ServerContexts(ServerSpec(certificate=files / "server.pem"))

    class App:
        def received(self, message: bytes, connection: Any) -> Any:
            if message == b"STARTTLS":
                return connection.start_tls(contexts, last=b"go ahead").addCallbacks(lambda _: None, lambda _: None)
            return message.upper()

    return App


@pytest_twisted.ensureDeferred
async def test_start_tls_encrypts_the_rest_of_a_conversation(files: Any) -> None:
    """Messages before `start_tls` are plain, and later ones are encrypted; a second `start_tls` raises."""
    server = await listen("tcp:0:interface=127.0.0.1", upgrading(files))
    client = await connect(f"tcp:127.0.0.1:{server.port}")
    assert await client.request(b"plain") == b"PLAIN"
    assert client.tls is None
    assert await client.request(b"STARTTLS") == b"go ahead"
    session = await client.start_tls(client_options("localhost", trust=files / "roots.pem"))
    assert (session.names[0], client.tls) == ("localhost", session)
    assert await client.request(b"secret") == b"SECRET"
    with pytest.raises(InvalidOption, match="takes a connection without TLS"):
        await client.start_tls(None)
    await client.close()
    await server.close(0)


@pytest_twisted.ensureDeferred
async def test_the_handshake_of_a_conversation_takes_turns(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's handshake of `start_tls` is a step of its step scheduler; the client's handshake is not."""
    taken: list[Any] = []
    take = StepScheduler.run

    def noted(steps: StepScheduler, step: Any, clock: Any) -> None:
        taken.append(steps)
        take(steps, step, clock)

    monkeypatch.setattr(StepScheduler, "run", noted)
    server = await listen("tcp:0:interface=127.0.0.1", upgrading(files))
    client = await connect(f"tcp:127.0.0.1:{server.port}")
    await client.request(b"STARTTLS")
    await client.start_tls(client_options("localhost", trust=files / "roots.pem"))
    assert await client.request(b"secret") == b"SECRET"
    assert set(taken) == {server._factory.settings.step_scheduler}
    await client.close()
    await server.close(0)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("more", [b"injected\n", b"inj"])
async def test_plain_bytes_before_tls_end_the_connection(files: Any, more: bytes) -> None:
    """
    Plain bytes behind the message that asks for TLS end the connection with "plain-before-tls".

    The app never gets these bytes, which an attacker can have injected.
    """
    reasons: Deferred[Any] = Deferred()
    seen: list[bytes] = []
    made = upgrading(files)

    class App(made):  # type: ignore[misc]
        def received(self, message: bytes, connection: Any) -> Any:
            seen.append(message)
            return super().received(message, connection)

        def closed(self, connection: Any, reason: Any) -> None:
            reasons.callback(reason)

    server = await listen("tcp:0:interface=127.0.0.1", App)
    client = await connect(f"tcp:127.0.0.1:{server.port}", framing="raw")
    client.send(b"STARTTLS\n" + more)
    if more.endswith(b"\n"):
        await client.receive()
        client.start_tls(client_options("localhost", trust=files / "roots.pem")).addErrback(lambda _: None)
    assert (await reasons).rule == "plain-before-tls"
    assert seen == [b"STARTTLS"]
    await client.when_closed()
    await server.close(0)


@pytest_twisted.ensureDeferred
async def test_an_unfinished_upgrade_is_cut(files: Any) -> None:
    """The server cuts an unfinished upgrade at `tls_handshake`; cancelling `start_tls` aborts the client's side."""
    server = await listen("tcp:0:interface=127.0.0.1", upgrading(files), timeouts=Timeouts(tls_handshake=0.05))
    client = await connect(f"tcp:127.0.0.1:{server.port}")
    await client.request(b"STARTTLS")
    assert (await client.when_closed()).rule == "lost"
    other = await connect(f"tcp:127.0.0.1:{server.port}")
    waiting = other.start_tls(client_options("localhost", trust=files / "roots.pem"))
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    assert (await other.when_closed()).rule == "aborted"
    await server.close(0)


@pytest_twisted.ensureDeferred
async def test_a_conversation_awaits_its_upgrade(files: Any) -> None:
    """A `conversation` can await `start_tls` and use the session that it returns."""
    contexts = ServerContexts(ServerSpec(certificate=files / "server.pem", minimum="1.3"))

    @conversation
    async def talk(connection: Any) -> None:
        await connection.receive()
        session = await connection.start_tls(contexts, last=b"ready")
        await connection.send(session.version.encode())
        await connection.receive()

    server = await listen("tcp:0:interface=127.0.0.1", talk)
    client = await connect(f"tcp:127.0.0.1:{server.port}")
    assert await client.request(b"tls, please") == b"ready"
    await client.start_tls(client_options("localhost", trust=files / "roots.pem"))
    assert await client.receive() == b"TLSv1.3"
    await client.close()
    await server.close(0)


# Other programs -------------------------------------------------------------------------------------------------------


def s_client(server: Any, *options: str, says: str = "") -> Any:
    """Run ``openssl s_client`` to this server in another thread, and return its result."""
    command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{server.port}", *options]
    return deferToThread(
        lambda: subprocess.run(command, input=says, capture_output=True, text=True, timeout=PATIENCE, check=False)
    )


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("options", "shows"),
    [
        (["-servername", "other.example"], "Verify return code: 0 (ok)"),
        (["-alpn", "one"], "ALPN protocol: one"),
        (["-cert", "{client}", "-key", "{client}"], "Verify return code: 0 (ok)"),
        (["-tls1_2"], "Protocol  : TLSv1.2"),
    ],
)
async def test_openssl_can_connect(files: Any, serve: Any, options: list[str], shows: str) -> None:
    """``openssl s_client`` can use names, ALPN, a client's certificate and TLS 1.2 with our server."""
    server = await serve("path={folder}:alpn=two,one:clients=wished:clientRoots={roots}")
    filled = [each.format(client=files / "client.pem") for each in options]
    shown = await s_client(server, "-CAfile", str(files / "roots.pem"), *filled)
    assert shows in shown.stdout


@pytest_twisted.ensureDeferred
async def test_socat_can_connect(files: Any, serve: Any) -> None:
    """socat with a certificate sends a message, half-closes, and gets the reply."""
    server = await serve(
        "certificate={server}:clients=required:clientRoots={roots}", app=lambda message, _: message.upper()
    )
    options = f"cafile={files / 'roots.pem'},cert={files / 'client.pem'},commonname=localhost"
    command = [program("socat"), "-t5", "-", f"OPENSSL:127.0.0.1:{server.port},{options}"]
    shown = await deferToThread(
        lambda: subprocess.run(command, input=b"hello\n", capture_output=True, timeout=PATIENCE, check=False)
    )
    assert (shown.stdout, shown.stderr) == (b"HELLO\n", b"")


# Probes ---------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize(
    ("says", "probe"),
    [
        pytest.param(b"", True, id="nothing"),
        pytest.param(b"\x16", False, id="a-byte"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", False, id="http"),
    ],
)
async def test_a_peer_that_sends_nothing_to_tls_is_a_probe(
    files: Any, serve: Any, reset: bool, says: bytes, probe: bool
) -> None:
    """A peer that ends without a byte, such as a balancer's check, is a probe; after one byte, it is not."""
    ended: Deferred[Any] = Deferred()
    server = await serve(telemetry=Telemetry(ended.callback))
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(says)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    event = await ended
    assert isinstance(event, NeverOpened)
    assert event.probe == probe
    assert "dataReceived" not in vars(protocol_of(event.connection).transport)
    assert sum(server.info().closed.values()) == 1
