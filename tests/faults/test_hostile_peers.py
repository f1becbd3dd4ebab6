"""Hostile peers: each is ended by its rule and counted, without harm to other clients."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher, textFileLogObserver
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from tcpapp import Client, Limits, MessageClientFactory, Pool, Timeouts, blocking, connect, conversation, listen
from tcpapp.apps import echo
from tcpapp.client.reconnecting import Waiting
from tcpapp.codecs import Json, MessagePack
from tcpapp.codecs.peer_keys import json_guard, msgpack_guard
from tcpapp.limits.fairness import Steps
from tcpapp.limits.networks import Networks
from tcpapp.proxy_protocol import Command, Family, Header
from tcpapp.telemetry import CalmLog, Closed, LateReply, NeverOpened, Refused
from tcpapp.transport.addresses import describe
from tcpapp.transport.tls.protocol import ServerTLS
from tests.patience import PATIENCE
from tests.processes import program
from tests.secret import Secret

HEADER = Header(2, Command.LOCAL, Family.UNSPEC)
"""What a proxy says that comes for itself."""

SOON = 0.05
"""Seconds: each of these waits is one that nothing ends but its time."""

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* is deprecated:DeprecationWarning"
)  # what Twisted does with pyOpenSSL


@pytest_twisted.ensureDeferred
async def test_slowloris(served: Any) -> None:
    """A byte now and then resets no timer: the timeout of a message runs from its first byte."""
    await served.start(echo, then=Timeouts(frame=4 * SOON))
    stranger = await served.stranger(b"h")
    drips = LoopingCall(lambda: stranger.transport.write(b"h"))
    drips.start(SOON / 2)
    await served.ended("frame-timeout")
    drips.stop()


@pytest_twisted.ensureDeferred
async def test_message_that_stops_under_a_rate(served: Any) -> None:
    """Pauses for the rate do not count for the message's timeout, and do not extend it."""
    await served.start(echo, framing="int32", limits=Limits(byte_rate=100_000), timeouts=Timeouts(frame=4 * SOON))
    await served.stranger(struct.pack(">I", 500_000) + b"x" * 120_000)
    await served.ended("frame-timeout")


@pytest_twisted.ensureDeferred
async def test_one_that_never_says_anything(served: Any) -> None:
    """The first message has its timeout, too."""
    await served.start(echo, then=Timeouts(first_message=2 * SOON))
    await served.stranger()
    await served.ended("first-message-timeout")


@pytest_twisted.ensureDeferred
async def test_slow_reader(served: Any) -> None:
    """The app waits for it, reading stops, and a peer that reads nothing is cut."""

    def app(message: bytes, connection: Any) -> bytes:
        return b"x" * 1_000_000 if message == b"more" else message

    await served.start(app, then=Timeouts(send_progress=4 * SOON))
    await served.stranger(b"more\n" * 50, reads=False)
    await served.ended("send-stalled")


@pytest_twisted.ensureDeferred
async def test_one_that_is_sent_more_than_it_takes(served: Any) -> None:
    """There is a bound for the bytes that wait for one peer, whatever the app sends."""

    def app(message: bytes, connection: Any) -> bytes | None:
        if message != b"flood me":
            return message
        for _ in range(20):
            connection.send(b"x" * 1_000_000).addErrback(lambda _: None)
        return None

    await served.start(app, limits=Limits(max_unsent=5_000_000))
    await served.stranger(b"flood me\n", reads=False)
    await served.ended("too-much-unsent")


@pytest_twisted.ensureDeferred
async def test_giant_length_prefix(served: Any) -> None:
    """It is refused after the prefix: none of it is waited for, and none held."""
    await served.start(echo, framing="int32")
    await served.stranger(b"\xff\xff\xff\xff")
    await served.ended("message-too-long")
    assert served.server.info().buffered == 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("size", [1, 1460])
async def test_large_message_in_small_pieces(served: Any, size: int) -> None:
    """It is joined once: only the received bytes are held, and other clients are served meanwhile."""
    length = 4000 * size
    await served.start(lambda message, _: message[:20], framing=f"int32:max={length}")
    stranger = await served.stranger(struct.pack(">I", length))
    stranger.transport.setTcpNoDelay(True)
    for part in range(4000):
        stranger.transport.write(b"x" * size)
        if part % 400 == 0:
            await served.is_served()
            assert served.server.info().buffered <= length + 4
    await served.heard(stranger, struct.pack(">I", 20) + b"x" * 20)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("says", "meaning"),
    [
        (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS"),
        (b"AMQP\x00\x00\x09\x01", "AMQP"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 5 6\r\n", "haproxy:"),
    ],
)
async def test_another_protocol_on_our_port(served: Any, says: bytes, meaning: str) -> None:
    """Its first bytes are no length of ours; the log says which protocol they are."""
    await served.start(echo, framing="int32")
    await served.stranger(says)
    await served.ended("message-too-long")
    assert meaning in served.details[-1]


@pytest_twisted.ensureDeferred
async def test_flood_of_empty_messages(served: Any) -> None:
    """Other connections have their turn between two shares of it, and it loses nothing."""
    counts = {"handled": 0}

    def app(message: bytes, connection: Any) -> bytes | None:
        counts["handled"] += not message
        return message or None

    await served.start(app, limits=Limits(messages_per_turn=500))
    floods = [await served.stranger(b"\n" * 200_000) for _ in range(3)]
    while counts["handled"] < 600_000:
        await served.is_served()
    assert counts["handled"] == 600_000
    assert all(each.connected for each in floods)


@pytest_twisted.ensureDeferred
async def test_vanished_peer(served: Any) -> None:
    """A peer that sends nothing, not even in reply to heartbeats, is given up."""
    await served.start(
        echo, heartbeat=b"are you there?", then=Timeouts(heartbeat=SOON), limits=Limits(heartbeats_missed=1)
    )
    stranger = await served.stranger()
    await served.ended("heartbeat-missed")
    await stranger.lost
    assert stranger.data.startswith(b"are you there?\n")
    stranger.lost = Deferred()
    served.strangers.clear()


@pytest_twisted.ensureDeferred
async def test_reset_inside_a_message(served: Any) -> None:
    """A waiting call fails once; the part of a message is given to nobody."""
    seen: list[bytes] = []

    def app(message: bytes, connection: Any) -> bytes:
        seen.append(message)
        return message

    await served.start(app)
    stranger = await served.stranger(b"whole\npart")
    while b"whole" not in seen:
        await served.is_served()
    stranger.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stranger.transport.abortConnection()
    await served.ended("lost")
    assert b"part" not in seen


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("header", [b"", b"PROXY TCP4 192.0.2.7 192.0.2.1 5 6\r\n"])
async def test_half_close(served: Any, header: bytes) -> None:
    """Received messages are answered, then it is closed; behind a proxy, too."""
    pending: list[Deferred[bytes]] = []

    def app(message: bytes, connection: Any) -> Any:
        if message != b"work":
            return message
        pending.append(Deferred())
        return pending[-1]

    await served.start(app, ("haproxy:" if header else "") + "tcp:0:interface=127.0.0.1")
    stranger = await served.stranger(header + b"work\n")
    stranger.transport.loseWriteConnection()
    await served.server.wait_for(at_most=5)
    while not pending:
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)  # type: ignore[attr-defined]
        await turn
    pending[0].callback(b"done")
    await stranger.lost
    assert stranger.data == b"done\n"
    assert served.ends[-1] == "end-of-stream"
    stranger.lost = Deferred()
    served.strangers.clear()


@pytest_twisted.ensureDeferred
async def test_connection_flood(served: Any) -> None:
    """In all, from one address, and from one network: the others are rejected, each counted by its rule."""
    await served.start(echo, limits=Limits(max_connections=20, max_per_address=10))
    strangers = await gatherResults([Deferred.fromCoroutine(served.stranger()) for _ in range(50)])
    await served.refused("max-per-address")
    while len(served.refusals) < 41:
        await served.is_served()
    assert len(served.server.connections) == 10
    assert len(strangers) == 50


@pytest_twisted.ensureDeferred
async def test_network_that_may_not_come_in(served: Any) -> None:
    """It is reset before any of its bytes are read."""
    await served.start(echo)
    served.server.change(networks=Networks(deny=["127.0.0.0/8"]))
    await served.stranger(b"hello\n")
    await served.refused("network-denied")
    served.server.change(networks=Networks())


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("written", ["::ffff:127.0.0.0/104", "127.0.0.0/8"])
async def test_ipv4_address_that_is_mapped_into_ipv6(served: Any, written: str) -> None:
    """
    Through a socket for both families it counts as its IPv4 address: to allow, deny, count and trust, in any spelling.
    """
    server = await served.start(echo, r"tcp:0:interface=\:\:", limits=Limits(max_per_address=2))
    stranger = await served.stranger(b"hello\n")
    await served.heard(stranger, b"hello\n")
    await served.stranger()
    await served.refused("max-per-address")
    for networks, comes_in in (
        (Networks(allow=[written]), True),
        (Networks(allow=["192.0.2.0/24"]), False),
        (Networks(deny=[written]), False),
    ):
        server.change(networks=networks, limits=Limits())
        before = len(served.refusals)
        stranger = await served.stranger(b"hello\n")
        if comes_in:
            await served.heard(stranger, b"hello\n")
        else:
            await stranger.lost
            assert served.refusals[before:] == ["network-denied"]
    refused = served.of(Refused)[-1]
    assert describe(refused.address).startswith("127.0.0.1:")
    server.change(networks=Networks())
    proxied = await listen(r"haproxy:tcp:0:interface=\:\:", echo, proxies=Networks(allow=[written]))
    behind = await connect(f"tcp:127.0.0.1:{proxied.port}", proxy_header=HEADER)
    assert await behind.request(b"hello") == b"hello"
    await behind.close()
    await proxied.close()


class Troubled:
    """A listening socket whose ``accept`` first raises the `errors`, each an error of one client."""

    def __init__(self, listening: socket.socket, errors: list[int]) -> None:
        self._listening = listening
        self.errors = errors

    def accept(self) -> Any:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return self._listening.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)


@pytest_twisted.ensureDeferred
async def test_accept_that_fails_for_one_client(served: Any) -> None:
    """
    The next client is accepted in the same turn, and each failure is counted; nothing pauses, and there is no
    traceback.
    """
    server = await served.start(echo)
    port = server._ports[0]
    troubled = port.socket = Troubled(port.socket, [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN])
    stranger = await served.stranger(b"hello\n")
    await served.heard(stranger, b"hello\n")
    assert (troubled.errors, served.refusals) == ([], ["not-accepted"] * 3)
    assert not server._factory.doors.is_shut


@pytest_twisted.ensureDeferred
async def test_proxy_header_that_never_ends(served: Any) -> None:
    """It has a timeout; an invalid header ends the connection at once."""
    await served.start(echo, "haproxy:tcp:0:interface=127.0.0.1")
    await served.stranger(b"GET / HTTP/1.1\r\n")
    await served.refused("malformed-proxy-header")
    served.server.change(timeouts=Timeouts(proxy_header=SOON))
    await served.stranger(b"PROXY TCP4 192.0.2")
    await served.refused("proxy-header-timeout")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("says", [b"", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n"])
async def test_tls_handshake_that_never_ends(served: Any, certificate: str, says: bytes) -> None:
    """It has a timeout, or fails; the app learns nothing of it."""
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
    A server's clock that stands still, so nothing takes long. It counts the TLS work of each turn.

    A step of a handshake, or an accepted client, schedules a call for the next turn, which marks the beginning of that
    turn.
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
        if isinstance(getattr(call, "__self__", None), Steps):
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
    """The first bytes of a TLS client."""
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    return sent.read()


@pytest_twisted.ensureDeferred
async def test_tls_handshakes_begun_at_once_and_left(
    served: Any, certificate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn of the loop accepts one client, or does one step of one handshake; all other clients are served."""
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
    assert len(server._factory.settings.steps) == 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("version", "answered"), [("1.3", b"DONE\n"), ("1.2", b"")])
async def test_half_close_over_tls(served: Any, certificate: str, version: str, answered: bytes) -> None:
    """TLS 1.3 supports it, and received messages are answered; over TLS 1.2, unsent replies are discarded."""

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
async def test_tls_that_ends_without_a_word(served: Any, certificate: str, closes: bool, rule: str) -> None:
    """Before our own close, an attacker may have cut off the rest; after it, nothing was missing."""

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
    """Versions below 1.2 have been broken for years (RFC 8996)."""
    server = await served.start(echo, f"tls:0:interface=127.0.0.1:certificate={certificate}")
    command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{server.port}", version]
    command += ["-cipher", "DEFAULT:@SECLEVEL=0"]
    shown = await deferToThread(subprocess.run, command, input=b"", capture_output=True, timeout=PATIENCE, check=False)
    assert shown.returncode != 0
    assert b"Cipher is (NONE)" in shown.stdout
    await served.ended("tls-failed")


@pytest_twisted.ensureDeferred
async def test_tls_that_is_negotiated_anew(served: Any, certificate: str) -> None:
    """A request for it in TLS 1.2 is refused: it is a cheap way to keep a server busy."""
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


@pytest_twisted.ensureDeferred
async def test_nested_value(served: Any) -> None:
    """A hundred thousand brackets are invalid input, and no crash."""
    await served.start(lambda value, connection: value, codec="json", message={"are you": "there?"})
    await served.stranger(b"[" * 100_000 + b"\n")
    await served.ended("undecodable-message")


def same_hash(count: int) -> bytes:
    """A MessagePack map with this many keys, arrays of two integers; the tuples made of these have one hash."""
    whole, prime1, prime2, prime5 = 2**64, 11400714785074694791, 14029467366897019727, 2870177450012600261

    def step(sum_: int, hash_: int) -> int:  # of CPython's tuple hash, which is xxHash without a seed
        sum_ = (sum_ + hash_ * prime2) % whole
        return (sum_ << 31 | sum_ >> 33) * prime1 % whole

    turned = step(step(prime5, 1), 2) * pow(prime1, -1, whole) % whole
    wanted = (turned >> 31 | turned << 33) % whole
    pairs = ((first, (wanted - step(prime5, first)) * pow(prime2, -1, whole) % whole) for first in itertools.count())
    keys = list(itertools.islice((pair for pair in pairs if pair[1] < 2**61 - 1), count))
    assert len({hash(each) for each in keys}) == 1
    return (
        b"\xdf"
        + count.to_bytes(4, "big")
        + b"".join(b"\x92" + msgspec.msgpack.encode(each)[1:] + b"\xc0" for each in keys)
    )


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_keys_with_one_hash(served: Any, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message whose keys make a dict or a set slow is refused, and never decoded."""
    decoded: list[bytes] = []

    def watch(guard: Any) -> Any:
        def watched(kind: Any, most: int, decode: Any) -> Any:
            return guard(kind, most, lambda message: decoded.append(message) or decode(message))

        return staticmethod(watched)

    monkeypatch.setattr(Json, "_guard", watch(json_guard))
    monkeypatch.setattr(MessagePack, "_guard", watch(msgpack_guard))
    if codec == "msgpack":
        made: Any = MessagePack()
        bad = same_hash(2000)
    else:
        made = Json(dict[str, str] | set[int])
        bad = b"[" + b",".join(b"%d" % (each * sys.hash_info.modulus) for each in range(2000)) + b"]"
    await served.start(lambda value, _: value, codec=made, framing="int32", message={"are you": "there?"})
    await served.stranger(struct.pack(">I", len(bad)) + bad)
    await served.ended("undecodable-message")
    assert decoded
    assert bad not in decoded


@pytest_twisted.ensureDeferred
async def test_control_characters(served: Any) -> None:
    """A peer's bytes stand in every text escaped, and cut: they make no line of a log."""
    await served.start(lambda value, _: value, codec="json", message={"are you": "there?"})
    await served.stranger(b'"\x1b[2J\r' + b"x" * 1000 + b"\n")
    await served.ended("undecodable-message")
    assert served.details[-1].isprintable()
    assert len(served.details[-1]) < 300


@pytest_twisted.ensureDeferred
async def test_replies_that_nobody_waits_for(served: Any) -> None:
    """A reply to a cancelled request, a doubled one, and one to no request: each is ignored and counted."""
    asked: list[Any] = []

    def app(message: bytes, connection: Any) -> bytes | None:
        if message.startswith(b"are you"):
            return message
        asked.extend(connection.request(each).addErrback(lambda _: None) for each in (b"1", b"2"))
        asked[0].cancel()
        return None

    await served.start(app, key=lambda message: message[:1] if message[:1].isdigit() else None)
    stranger = await served.stranger(b"ask me\n")
    await served.heard(stranger, b"1\n2\n")
    stranger.transport.write(b"1 late\n2 in time\n2 again\n3 to nothing\n")
    assert await asked[1] == b"2 in time"
    while len(served.of(LateReply)) < 3:
        await served.is_served()
    assert served.server.info().late_replies == 3
    assert stranger.connected


@pytest_twisted.ensureDeferred
async def test_all_come_back_at_once(served: Any) -> None:
    """No more are accepted than the rate allows; the next ones wait in the backlog, and nobody is rejected."""
    times: list[float] = []

    class App:
        def opened(self, connection: Any) -> None:
            times.append(reactor.seconds())  # type: ignore[attr-defined]

        def received(self, message: bytes, connection: Any) -> bytes:
            return message

    await served.start(App(), limits=Limits(accept_rate=200))
    strangers = await gatherResults([Deferred.fromCoroutine(served.stranger(b"hello\n")) for _ in range(230)])
    for each in strangers:
        await served.heard(each, b"hello\n")
    assert (served.refusals, len(times)) == ([], 231)
    assert times[-1] - times[0] >= 0.9 * (len(times) - 1 - 200) / 200


@pytest_twisted.ensureDeferred
async def test_app_that_never_answers(served: Any) -> None:
    """Its peer does not wait for ever: the connection ends, and the app's work is cancelled."""
    cancelled: list[Any] = []

    def app(message: bytes, connection: Any) -> Any:
        return Deferred(cancelled.append) if message == b"hard" else message

    await served.start(app, then=Timeouts(answer=SOON))
    await served.stranger(b"hard\n")
    await served.ended("answer-timeout")
    assert len(cancelled) == 1


@pytest_twisted.ensureDeferred
async def test_app_that_raises(served: Any, logged_errors: Any) -> None:
    """Its own connection ends; no other notices."""

    def app(message: bytes, connection: Any) -> bytes:
        return message if message != b"boom" else message[100:100] + bytes(1 // 0)

    await served.start(app)
    await served.stranger(b"boom\n")
    await served.ended("app-failed")
    assert logged_errors.take() == []  # telemetry of one's own is told instead of the log


@pytest_twisted.ensureDeferred
async def test_app_that_is_made_to_fail_again_and_again(served: Any, logged_errors: Any) -> None:
    """One traceback a second, with the peer's bytes only escaped and cut; every failure is counted."""

    def app(message: str, connection: Any) -> str:
        if message.startswith("are you"):
            return message
        raise ValueError(f"no such command: {message}")

    lines = io.StringIO()
    observer = textFileLogObserver(lines)
    await served.start(app, codec="json", message="are you there?")
    served.server._factory.settings.telemetry.listen(CalmLog(lambda: 100.0))
    globalLogPublisher.addObserver(observer)
    for _ in range(50):
        stranger = await served.stranger(b'"\\u001b]0;owned\\u0007\\u001b[2J\\r\\nforged' + b"A" * 10_000 + b'"\n')
        await stranger.lost
        stranger.lost = Deferred()
        stranger.lost.callback(None)
    globalLogPublisher.removeObserver(observer)
    text = lines.getvalue()
    assert text.count("Traceback") == len(logged_errors.take(ValueError)) == 1
    assert "ValueError: no such command: \\x1b]0;owned\\x07\\x1b[2J\\r\\nforgedAAA" in text
    assert all(each.isprintable() and len(each) < 400 for each in text.replace("\t", "").split("\n"))
    assert len(text.split("\n")) < 50
    assert served.server.info().closed["app-failed"] == 50


@pytest_twisted.ensureDeferred
async def test_sends_that_nobody_waits_for(served: Any, logged_errors: Any) -> None:
    """They fail with their connections: each is counted, and none logs a traceback."""

    def app(message: bytes, connection: Any) -> bytes | None:
        if message != b"feed me":
            return message
        for _ in range(20):
            connection.send(b"x" * 500_000)
        return None

    await served.start(app, limits=Limits(max_unsent=5_000_000))
    for _ in range(10):
        await served.stranger(b"feed me\n", reads=False)
    while len(served.ends) < 10:
        await served.turn()
    assert set(served.ends) == {"too-much-unsent"}
    assert 100 <= served.server.info().failed_sends <= 10 * 20
    assert sum(each.failed_sends for each in served.of(Closed)) >= 100
    assert logged_errors.take() == []


@pytest_twisted.ensureDeferred
async def test_memory_short(served: Any) -> None:
    """The largest holders are cut; the bound holds, and connections that hold little are served."""

    def app(message: bytes, connection: Any) -> bytes:
        return b"x" * 500_000 if message == b"more" else message

    await served.start(app, limits=Limits(max_buffered=2_000_000), timeouts=Timeouts(send_progress=0))
    for _ in range(10):
        await served.stranger(b"more\n" * 40, reads=False)
    await served.ended("memory-short")
    await served.is_served()
    assert served.server.info().buffered <= 2_000_000


@pytest_twisted.ensureDeferred
async def test_half_messages_while_memory_is_short(served: Any) -> None:
    """They are not read on, and still have their timeout: none is left, and no byte of them."""
    limits, timeouts = Limits(max_buffered=1_000_000), Timeouts(frame=10 * SOON)
    await served.start(echo, framing="int32", limits=limits, timeouts=timeouts)
    for _ in range(40):
        await served.stranger(struct.pack(">I", 100_000) + b"x" * 50_000)
    while len(served.ends) < 40:
        await served.turn()
    assert (set(served.ends) <= {"memory-short", "frame-timeout"}, served.server.info().buffered) == (True, 0)


@pytest_twisted.ensureDeferred
async def test_work_that_goes_on_after_the_end(served: Any) -> None:
    """Late sends of an app, and cancelled sends, add nothing to the account of an ended connection."""

    async def app(message: bytes, connection: Any) -> bytes:
        if message == b"stream":
            sends = [connection.send(b"x" * 300_000) for _ in range(20)]
            for each in sends:
                each.addErrback(lambda _: [other.cancel() for other in sends])
            for _ in range(20):
                await connection.send(b"x" * 300_000)
        return message

    await served.start(app)
    for _ in range(5):
        stranger = await served.stranger(b"stream\n", reads=False)
        while not served.server.info().buffered:
            await served.turn()
        stranger.transport.abortConnection()
        await stranger.lost
    while len(served.ends) < 5:
        await served.turn()
    assert (set(served.ends), served.server.info().buffered) == ({"lost"}, 0)


@pytest_twisted.ensureDeferred
async def test_replies_that_are_unsent_when_it_closes(served: Any) -> None:
    """Bytes that a half-closed peer does not read still count: the bound holds, and the largest holders are cut."""

    def app(message: bytes, connection: Any) -> bytes:
        return b"x" * 10_000_000 if message == b"more" else message

    limits = Limits(max_buffered=20_000_000)
    await served.start(app, framing="line:max=10000000", limits=limits, timeouts=Timeouts(send_progress=0))
    for _ in range(6):
        stranger = await served.stranger(b"more\n", reads=False)
        stranger.transport.loseWriteConnection()
        await served.turn()
        assert served.server.info().buffered <= 20_000_000
    await served.ended("memory-short")


@pytest_twisted.ensureDeferred
async def test_tiny_sends_to_one_that_does_not_read(served: Any) -> None:
    """Each message counts with the memory it takes, which is hundreds of times its byte."""

    def app(message: bytes, connection: Any) -> bytes | None:
        if message != b"more":
            return message
        connection.send(b"x" * 10_000_000).addErrback(lambda _: None)
        for _ in range(1000):
            connection.send(b"x").addErrback(lambda _: None)
        return None

    await served.start(app, framing="line:max=10000000", timeouts=Timeouts(send_progress=0))
    stranger = await served.stranger(b"more\n", reads=False)
    while not (held := served.server.info().buffered):
        await served.turn()
    [other] = [each for each in served.server.connections if each._outbox.unsent]
    assert held - other._outbox.unsent > 500_000
    stranger.transport.abortConnection()
    await stranger.lost


@pytest_twisted.ensureDeferred
async def test_values_that_take_more_than_their_bytes(served: Any) -> None:
    """Messages in the app's hands count with their decoded size; waiting messages count as bytes."""

    async def app(value: Any, connection: Any) -> Any:
        if isinstance(value, list):
            await Deferred()
        return value

    message = b"[" + b"[]," * 10_000 + b"1]\n"
    limits = Limits(max_buffered=8_000_000, inbox_high=200_000)
    await served.start(app, message="are you there?", codec="json", limits=limits)
    await served.stranger(message * 3)
    while (held := served.server.info().buffered) < 800_000:
        await served.turn()
    assert held < 3_000_000  # one value, and two messages
    for _ in range(6):
        await served.stranger(message)
    await served.ended("memory-short")
    await served.is_served()
    assert served.server.info().buffered <= 8_000_000


@pytest_twisted.ensureDeferred
async def test_messages_that_are_few_and_costly(served: Any) -> None:
    """A turn has a budget of time: after one costly connection has had its turn, the others have theirs."""
    handled = [0]

    def app(message: bytes, connection: Any) -> bytes | None:
        handled[0] += not message
        return message or None

    await served.start(app, limits=Limits(work_per_turn=1))
    for _ in range(5):
        await served.stranger(b"\n" * 2000)
    most = 0
    while handled[0] < 10_000:
        before = handled[0]
        await served.is_served()
        most = max(most, handled[0] - before)
    assert most < 500  # of 256 messages in a turn of each of the five, some thousands


@pytest_twisted.ensureDeferred
async def test_requests_under_a_drain(served: Any) -> None:
    """No request that was read goes unanswered; the system refuses later clients."""
    pending: list[tuple[bytes, Deferred[bytes]]] = []

    def app(message: bytes, connection: Any) -> Any:
        if message.startswith(b"are"):
            return message
        pending.append((message, Deferred()))
        return pending[-1][1]

    await served.start(app)
    strangers = [await served.stranger(b"%d\n" % number) for number in range(30)]
    while len(pending) < 30:
        await served.is_served()
    served.healthy = None
    drained = served.server.drain(20)
    for message, answer in pending:
        answer.callback(message)
    assert await drained == 0
    for number, stranger in enumerate(strangers):
        await stranger.lost
        assert stranger.data == b"%d\n" % number
    served.strangers.clear()


# What happens to a client ---------------------------------------------------------------------------------------------


WAYS = ["connect", "Client", "Pool", "blocking"]
"""The kinds of clients, except for asyncio programs, which have their own tests."""


@implementer(IHostnameResolver)
class Names:
    """A resolver that gives each name its addresses in `known`."""

    def __init__(self, known: dict[str, list[str]]) -> None:
        self.known = known

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, *given: Any) -> Any:  # noqa: N803
        receiver.resolutionBegan(None)
        for host in self.known[name]:
            receiver.addressResolved((IPv6Address if ":" in host else IPv4Address)("TCP", host, portNumber))
        receiver.resolutionComplete()


@pytest.fixture
def names() -> Iterator[dict[str, list[str]]]:
    """Give the names that the reactor finds, to be filled by the test, with their addresses."""
    known: dict[str, list[str]] = {}
    before = reactor.installNameResolver(Names(known))  # type: ignore[attr-defined]  # every reactor has it
    yield known
    reactor.installNameResolver(before)  # type: ignore[attr-defined]  # as above


def asked_by_a_thread(endpoint: str) -> bytes:
    """The same, by a program without its own reactor."""
    with blocking.connect(endpoint, timeout=PATIENCE) as client:
        answer: bytes = client.request(b"hello", PATIENCE)
    return answer


async def asked(endpoint: str, way: str) -> bytes:
    """The answer of a server to a client of this kind."""
    if way == "connect":
        connection = await connect(endpoint)
        answer: bytes = await connection.request(b"hello")
        await connection.close()
        return answer
    if way == "blocking":
        return await deferToThread(asked_by_a_thread, endpoint)
    async with Client(endpoint) if way == "Client" else Pool(endpoint, size=1) as client:
        return await client.request(b"hello")  # type: ignore[no-any-return]  # bytes, without a codec


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", WAYS)
async def test_name_whose_first_address_is_dead(served: Any, names: dict[str, list[str]], way: str) -> None:
    """All addresses of a name are tried, of both families; a server of only one family is found."""
    server = await served.start(echo)
    v6 = await listen(r"tcp:0:interface=\:\:1", echo)
    names.update(dead=["127.0.0.2", "127.0.0.1"], both=["127.0.0.2", "::1"], six=["::1"])
    for name, port in (("dead", server.port), ("both", v6.port), ("six", v6.port)):
        assert await asked(f"tcp:{name}:{port}", way) == b"hello"
    await v6.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["tls", "ssl"])
async def test_tls_name_whose_first_address_is_dead(
    served: Any, names: dict[str, list[str]], kind: str, way: str, tmp_path: Path
) -> None:
    """As without TLS; the certificate is checked for the name, whichever address shows it."""
    authority, path, roots = trustme.CA(), tmp_path / "cert.pem", tmp_path / "roots"
    roots.mkdir()
    authority.issue_cert("right.test").private_key_and_cert_chain_pem.write_to_path(str(path))
    authority.cert_pem.write_to_path(str(roots / "root.pem"))
    server = await served.start(echo, f"tls:0:interface=127.0.0.1:certificate={path}")
    names.update({"right.test": ["127.0.0.2", "127.0.0.1"], "wrong.test": ["127.0.0.2", "127.0.0.1"]})

    def endpoint(name: str) -> str:
        trust = f"trustRoots={roots}" if kind == "tls" else f"caCertsDir={roots}:hostname={name}"
        return f"{kind}:{name}:{server.port}:{trust}"

    assert await asked(endpoint("right.test"), way) == b"hello"
    with pytest.raises(Exception, match=r"VerificationError|certificate|TLS"):
        await asked(endpoint("wrong.test"), way)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_client_that_connects_to_itself(served: Any, host: str) -> None:
    """Nobody listens where it connects to: it is refused, and takes no request of its own as a reply."""
    await served.start(echo)
    opened: list[Any] = []
    refused: Deferred[Exception] = Deferred()

    class App:
        def opened(self, connection: Any) -> None:
            opened.append(connection)

    def free() -> int:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
            found.bind((host, 0))
            return int(found.getsockname()[1])

    def itself() -> TCP4ClientEndpoint:
        """A connection from a port to the same port, which is what happens there."""
        port = free()
        return TCP4ClientEndpoint(reactor, host, port, bindAddress=(host, port))

    def told(state: Any) -> None:
        if isinstance(state, Waiting) and not refused.called:
            refused.callback(state.error)  # type: ignore[arg-type]  # it is an Exception

    with pytest.raises(ConnectionRefusedError, match="connected to itself"):
        await connect(itself(), App())
    with pytest.raises(ConnectionRefusedError, match="connected to itself"):
        await Client(itself(), App(), connect_now=True).start()
    with pytest.raises(ConnectionRefusedError, match="connected to itself"):
        await deferToThread(blocking.connect, itself(), app=App())
    pool: Pool[bytes, bytes] = Pool(itself(), 1, app=App())
    pool.members[0].watch(told)
    pool.startService()
    assert "connected to itself" in str(await refused)
    await pool.stop()
    port, factory = free(), MessageClientFactory(App())
    reactor.connectTCP(host, port, factory, bindAddress=(host, port))  # type: ignore[attr-defined]
    with pytest.raises(ConnectionRefusedError, match="connected to itself"):
        await factory.when_connected()
    assert opened == []
