"""Each hostile peer is ended by its rule and counted, without harm to other clients."""

from __future__ import annotations

import errno
import io
import itertools
import os
import socket
import struct
import sys
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import globalLogPublisher, textFileLogObserver

from tcpapp import Limits, Timeouts, connect, listen
from tcpapp.apps import echo
from tcpapp.apps.middleware import authenticated
from tcpapp.codecs import Json, MessagePack
from tcpapp.codecs.peer_keys import json_guard, msgpack_guard
from tcpapp.framing import parser, stream, until
from tcpapp.limits.networks import Networks
from tcpapp.proxy_protocol import Command, Family, Header
from tcpapp.telemetry import Closed, LateReply, RateLimitedLog, Refused
from tcpapp.transport.addresses import describe
from tests.faults.times import SOON

HEADER = Header(2, Command.LOCAL, Family.UNSPEC)
"""The PROXY header of a connection that a proxy makes for itself."""

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted's use of pyOpenSSL


# What peers send ------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_slowloris(served: Any) -> None:
    """
    A peer that sends a byte now and then is ended by `message-timeout`, which runs from the first byte of a message.
    """
    await served.start(echo, then=Timeouts(message_timeout=4 * SOON))
    stranger = await served.stranger(b"h")
    drips = LoopingCall(lambda: stranger.transport.write(b"h"))
    drips.start(SOON / 2)
    await served.ended("message-timeout")
    drips.stop()


@pytest_twisted.ensureDeferred
async def test_message_that_stops_under_a_rate(served: Any) -> None:
    """
    A message that stops is ended by `message-timeout`; pauses for the byte rate neither count for it nor extend it.
    """
    await served.start(
        echo, framing="int32", limits=Limits(byte_rate=100_000), timeouts=Timeouts(message_timeout=4 * SOON)
    )
    await served.stranger(struct.pack(">I", 500_000) + b"x" * 120_000)
    await served.ended("message-timeout")


@parser(frame=lambda message: message + b"\n")
def lines_and_bodies() -> Any:
    """Read a line. The line ``body`` has a body of a million bytes."""
    line = yield until(b"\n")
    return (line, (yield stream(1_000_000))) if line == b"body" else line


async def read_bodies(message: Any, connection: Any) -> bytes:
    """Reply with the message, or with the length of its body."""
    if isinstance(message, bytes):
        return message
    length = 0
    async for piece in message[1]:
        length += len(piece)
    return b"%d" % length


@pytest_twisted.ensureDeferred
async def test_body_that_stops(served: Any) -> None:
    """A peer that stops in the middle of a body is ended by `body-timeout`, and nothing of the body is held then."""
    await served.start(read_bodies, framing=lines_and_bodies(), then=Timeouts(body_timeout=4 * SOON))
    await served.stranger(b"body\n" + b"x" * 1000)
    await served.ended("body-timeout")
    assert served.server.info().buffered == 0


@pytest_twisted.ensureDeferred
async def test_peer_that_never_sends_anything(served: Any) -> None:
    """A peer that sends nothing is ended by `first-message-timeout`."""
    await served.start(echo, then=Timeouts(first_message=2 * SOON))
    await served.stranger()
    await served.ended("first-message-timeout")


@pytest_twisted.ensureDeferred
async def test_slow_reader(served: Any) -> None:
    """A peer that asks for much and reads nothing is ended by `send-stalled`."""

    def app(message: bytes, connection: Any) -> bytes:
        return b"x" * 1_000_000 if message == b"more" else message

    await served.start(app, then=Timeouts(send_progress=4 * SOON))
    await served.stranger(b"more\n" * 50, reads=False)
    await served.ended("send-stalled")


@pytest_twisted.ensureDeferred
async def test_peer_that_is_sent_more_than_it_reads(served: Any) -> None:
    """When the app sends a peer more than `max_unsent` bytes that it does not read, the connection is cut."""

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
async def test_large_replies_behind_a_slow_one(served: Any) -> None:
    """
    Large replies that wait behind a slow one hold back the app, and the connection is cut when they exceed
    `max_unsent`.
    """
    slow: list[Deferred[bytes]] = []
    large: list[Deferred[bytes]] = []

    def app(message: bytes, connection: Any) -> Any:
        if message == b"slow":
            slow.append(Deferred())
            return slow[-1]
        if message == b"large":
            large.append(Deferred())
            return large[-1]
        return message

    await served.start(app, limits=Limits(max_unsent=1_000_000), concurrency=100)
    await served.stranger(b"slow\n" + b"large\n" * 200)
    while len(large) < 99:
        await served.turn()
    large[0].callback(b"x" * 70_000)
    await served.is_served()
    assert len(large) == 99
    for each in large[1:]:
        if not slow[0].called:  # else the connection is cut
            each.callback(b"x" * 70_000)
    await served.ended("too-much-unsent")
    assert served.server.info().buffered == 0


@pytest_twisted.ensureDeferred
async def test_endless_reply_that_is_not_read(served: Any) -> None:
    """A reply without an end to a peer that does not read holds little memory. It is closed with the connection."""
    closed: list[bool] = []

    def app(message: bytes, connection: Any) -> Any:
        return endless() if message == b"all" else message

    def endless() -> Any:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            closed.append(True)

    await served.start(app, then=Timeouts(send_progress=4 * SOON))
    await served.stranger(b"all\n", reads=False)
    while not served.server.info().buffered:
        await served.turn()
    await served.is_served()
    assert served.server.info().buffered < 500_000
    await served.ended("send-stalled")
    while not closed:
        await served.turn()
    assert served.server.info().buffered == 0


@pytest_twisted.ensureDeferred
async def test_giant_length_prefix(served: Any) -> None:
    """A length prefix over the limit ends the connection at once, and none of the message is held."""
    await served.start(echo, framing="int32")
    await served.stranger(b"\xff\xff\xff\xff")
    await served.ended("message-too-long")
    assert served.server.info().buffered == 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("size", [1, 1460])
async def test_large_message_in_small_pieces(served: Any, size: int) -> None:
    """
    A large message in small pieces is joined once: only its bytes are held, and other clients are served meanwhile.
    """
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
    """The first bytes of another protocol are too large a length, and the log names the protocol."""
    await served.start(echo, framing="int32")
    await served.stranger(says)
    await served.ended("message-too-long")
    assert meaning in served.details[-1]


@pytest_twisted.ensureDeferred
async def test_flood_of_empty_messages(served: Any) -> None:
    """During a flood of empty messages, other connections are served between its shares, and no message is lost."""
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
    """A peer that does not reply to a heartbeat is ended by `heartbeat-missed`."""
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
    """
    When a peer resets inside a message, the connection is `lost`, and the app does not get the part of the message.
    """
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
    """After a peer's half-close, its message is answered and then the connection is closed, also behind a proxy."""
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
    """Of fifty clients of one address, all over `max_per_address` are rejected, and each is counted by its rule."""
    await served.start(echo, limits=Limits(max_connections=20, max_per_address=10))
    strangers = await gatherResults([Deferred.fromCoroutine(served.stranger()) for _ in range(50)])
    await served.refused("max-per-address")
    while len(served.refusals) < 41:
        await served.is_served()
    assert len(served.server.connections) == 10
    assert len(strangers) == 50


@pytest_twisted.ensureDeferred
async def test_network_that_is_denied(served: Any) -> None:
    """A client from a denied network is refused by `network-denied`."""
    await served.start(echo)
    served.server.change(networks=Networks(deny=["127.0.0.0/8"]))
    await served.stranger(b"hello\n")
    await served.refused("network-denied")
    served.server.change(networks=Networks())


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("written", ["::ffff:127.0.0.0/104", "127.0.0.0/8"])
async def test_ipv4_address_that_is_mapped_into_ipv6(served: Any, written: str) -> None:
    """
    On a socket for both families, an IPv4 client counts as its IPv4 address.

    This holds for `allow`, `deny`, `max_per_address` and trusted proxies, also when the network is written as mapped.
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
    """A listening socket whose `accept` first raises the `errors`, each for one client."""

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
    When `accept` fails for single clients, each failure is counted, the next client is accepted, and nothing pauses.
    """
    server = await served.start(echo)
    port = server._ports[0]
    troubled = port.socket = Troubled(port.socket, [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN])
    stranger = await served.stranger(b"hello\n")
    await served.heard(stranger, b"hello\n")
    assert (troubled.errors, served.refusals) == ([], ["not-accepted"] * 3)
    assert not server._factory.accept_control.is_paused


@pytest_twisted.ensureDeferred
async def test_proxy_header_that_never_ends(served: Any) -> None:
    """A PROXY header that never ends is refused by `proxy-header-timeout`, and an invalid one at once."""
    await served.start(echo, "haproxy:tcp:0:interface=127.0.0.1")
    await served.stranger(b"GET / HTTP/1.1\r\n")
    await served.refused("malformed-proxy-header")
    served.server.change(timeouts=Timeouts(proxy_header=SOON))
    await served.stranger(b"PROXY TCP4 192.0.2")
    await served.refused("proxy-header-timeout")


# What peers send in values --------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_nested_value(served: Any) -> None:
    """A hundred thousand nested brackets are an `undecodable-message`, and no crash."""
    await served.start(lambda value, connection: value, codec="json", message={"are you": "there?"})
    await served.stranger(b"[" * 100_000 + b"\n")
    await served.ended("undecodable-message")


def same_hash(count: int) -> bytes:
    """
    Return a MessagePack map with `count` keys, which are arrays of two integers. As tuples all of them have the same
    hash.
    """
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
    """A message whose keys make a dict or a set slow is refused before it is decoded."""
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
    """Control characters that a peer sends are escaped in the reason of the end, and long texts are cut."""
    await served.start(lambda value, _: value, codec="json", message={"are you": "there?"})
    await served.stranger(b'"\x1b[2J\r' + b"x" * 1000 + b"\n")
    await served.ended("undecodable-message")
    assert served.details[-1].isprintable()
    assert len(served.details[-1]) < 300


@pytest_twisted.ensureDeferred
async def test_replies_that_nobody_waits_for(served: Any) -> None:
    """A reply to a cancelled request, a second reply, and a reply to no request are ignored and counted."""
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
async def test_clients_that_all_reconnect_at_once(served: Any) -> None:
    """
    When 230 clients connect at once, they are accepted at the accept rate. The others wait in the backlog, and none is
    rejected.
    """
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
    """
    When the app does not answer within `handler_timeout`, the connection ends, and the app's Deferred is cancelled.
    """
    cancelled: list[Any] = []

    def app(message: bytes, connection: Any) -> Any:
        return Deferred(cancelled.append) if message == b"hard" else message

    await served.start(app, then=Timeouts(handler_timeout=SOON))
    await served.stranger(b"hard\n")
    await served.ended("handler-timeout")
    assert len(cancelled) == 1


@pytest_twisted.ensureDeferred
async def test_app_that_raises(served: Any, logged_errors: Any) -> None:
    """When the app raises, only the connection of that message ends."""

    def app(message: bytes, connection: Any) -> bytes:
        return message if message != b"boom" else message[100:100] + bytes(1 // 0)

    await served.start(app)
    await served.stranger(b"boom\n")
    await served.ended("app-failed")
    assert logged_errors.take() == []  # the test's own telemetry gets the event, and not the log


@pytest_twisted.ensureDeferred
async def test_app_that_is_made_to_fail_again_and_again(served: Any, logged_errors: Any) -> None:
    """
    Of many failures, one traceback a second is logged, with the peer's text escaped and cut. Each failure is counted.
    """

    def app(message: str, connection: Any) -> str:
        if message.startswith("are you"):
            return message
        raise ValueError(f"no such command: {message}")

    lines = io.StringIO()
    observer = textFileLogObserver(lines)
    await served.start(app, codec="json", message="are you there?")
    served.server._factory.settings.telemetry.listen(RateLimitedLog(lambda: 100.0))
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
    """Sends without an errback fail when their connection is cut: each is counted, and none logs a traceback."""

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


def behind_a_login(handled: list[bytes]) -> Any:
    """Return an app that notes its messages, behind a login. The request of the healthy client is its password."""
    password = b"are you there?"

    def app(message: bytes, connection: Any) -> bytes:
        handled.append(message)
        return message

    def check(message: bytes, connection: Any) -> bool:
        return message == password

    return authenticated(app, check, within=8 * SOON, welcome=password, denied=b"denied")


@pytest_twisted.ensureDeferred
async def test_passwords_that_are_guessed(served: Any) -> None:
    """A peer that guesses passwords has three tries. None of its messages reaches the app."""
    handled: list[bytes] = []
    await served.start(behind_a_login(handled))
    stranger = await served.stranger(b"1\n2\n3\nare you there?\nhello\n")
    await served.ended("login-failed")
    await served.heard(stranger, b"denied\n" * 3)
    assert set(handled) == {b"are you there?"}


@pytest_twisted.ensureDeferred
async def test_login_that_never_comes(served: Any) -> None:
    """A peer that does not log in is closed in time."""
    handled: list[bytes] = []
    await served.start(behind_a_login(handled))
    await served.stranger(b"hello\n")
    await served.ended("login-failed")
    assert b"hello" not in handled


@pytest_twisted.ensureDeferred
async def test_tasks_that_messages_start_and_that_do_not_end(served: Any) -> None:
    """A peer cannot make an app start more than `max_tasks` tasks on its connection. They end with the connection."""
    cancelled: list[bytes] = []

    async def works(message: bytes) -> None:
        await Deferred(lambda _: cancelled.append(message))

    def app(message: bytes, connection: Any) -> bytes | None:
        if message.isdigit():
            connection.spawn(works(message))
            return None
        return message

    await served.start(app, limits=Limits(max_tasks=3))
    await served.stranger(b"1\n2\n3\n4\n5\n")
    await served.ended("app-failed")
    assert cancelled == [b"1", b"2", b"3"]
    assert [str(each.reason.error) for each in served.of(Closed)] == [
        "3 tasks of this connection run, which is the limit (max_tasks)"
    ]


@pytest_twisted.ensureDeferred
async def test_tasks_of_a_peer_that_leaves(served: Any) -> None:
    """The tasks of a peer that leaves end, also a task that takes time for it. A task that stays is left, and noted."""
    log: list[str] = []

    async def stays() -> None:
        while len(log) < 2:
            try:
                await Deferred()
            except CancelledError:
                log.append("cancelled")

    def app(message: bytes, connection: Any) -> bytes | None:
        if message == b"work":
            connection.spawn(stays(), background=True)
            return None
        return message

    await served.start(app, then=Timeouts(grace=2 * SOON))
    stranger = await served.stranger(b"work\n")
    stranger.transport.loseConnection()
    await served.ended("end-of-stream")
    assert log == ["cancelled", "cancelled"]


# A drain --------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_requests_under_a_drain(served: Any) -> None:
    """A drain answers every request that was read, and then closes its connection."""
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
