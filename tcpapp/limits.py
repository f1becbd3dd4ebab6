"""
Every number that bounds a connection or a server: default, unit, and where the number comes from.

Each ``why`` names software or a standard that has this number, or says that it is our choice, and by what measure.

All are on by default and all are options of ``twistd tcpapp``. The longest message is the framing's (``max=``), since
it belongs to what is on the wire.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from typing import Any

from tcpapp.errors import InvalidOption
from tcpapp.spec import suggest

__all__ = ["Limits", "Policies", "Recovery", "Timeouts", "numbers_of"]

KIB = 1024
MIB = 1024 * KIB


def _number(
    default: float, what: str, *, unit: str, why: str, least: float = 1, most: float | None = None, zero: str = ""
) -> Any:
    """A field that carries its own documentation; `zero` says what 0 means where 0 is allowed."""
    return field(
        default=default,
        metadata={"what": what, "unit": unit, "why": why, "least": 0 if zero else least, "most": most, "zero": zero},
    )


def _choice(default: str, choices: tuple[str, ...], what: str) -> Any:
    """A field that is one of a few words."""
    return field(default=default, metadata={"what": what, "choices": choices})


def _switch(default: bool, what: str) -> Any:
    """A field that is on (`True`) or off."""
    return field(default=default, metadata={"what": what, "choices": (True, False)})


def _check(numbers: Limits | Timeouts | Recovery, whole: bool) -> None:
    for each in fields(numbers):
        value, least, most = getattr(numbers, each.name), each.metadata["least"], each.metadata["most"]
        kinds = (int,) if whole else (int, float)
        # the comparison with infinity holds for no NaN either, and for an int of any length
        fits = not isinstance(value, bool) and isinstance(value, kinds) and least <= value < math.inf
        if not fits or (most is not None and value > most):
            kind = "a whole number" if whole else "a number"
            bounds = f"{least} or more" if most is None else f"{least} to {most}"
            off = f" (0: {each.metadata['zero']})" if each.metadata["zero"] else ""
            raise InvalidOption(f"{each.name}={value!r}: takes {kind} of {each.metadata['unit']}, {bounds}{off}")


@dataclass(frozen=True)
class Limits:
    """How much of each thing there may be. Raises `InvalidOption` for a number that cannot be one."""

    max_connections: int = _number(
        1000,
        "connections at one time; further ones are refused",
        unit="connections",
        why="our choice: it fits under Linux's usual soft limit of 1,024 descriptors with some to spare (ranch: 1,024)",
    )
    max_per_address: int = _number(
        0,
        "connections at one time from one address",
        unit="connections",
        why="our choice: behind a proxy, or a network's one address, are many people; nginx's limit_conn is unset, too",
        zero="as many as max_connections",
    )
    max_per_network: int = _number(
        0,
        "connections at one time from one network (network_ipv4, network_ipv6)",
        unit="connections",
        why="our choice, as max_per_address",
        zero="as many as max_connections",
    )
    network_ipv4: int = _number(
        24,
        "bits that the IPv4 addresses of one network share",
        unit="bits",
        why="our choice: the longest prefix that providers route; whoever has one such address may have all of them",
        zero="all addresses are one network",
        most=32,
    )
    network_ipv6: int = _number(
        64,
        "bits that the IPv6 addresses of one network share",
        unit="bits",
        why="what one subnet has (RFC 4291, section 2.5.4): whoever has one such address has all of them",
        zero="all addresses are one network",
        most=128,
    )
    accept_rate: int = _number(
        1000,
        "clients taken in each second, and at once after a quiet one; further ones wait in the backlog",
        unit="clients a second",
        why="our choice: as many as max_connections, so that all may come back within a second",
        zero="no limit",
    )
    inbox_high: int = _number(
        64 * KIB,
        "messages not yet taken by the app stop reading above this",
        unit="bytes",
        why="Twisted's bufferSize, the most it reads at once: one read may fill an inbox; Netty's high write mark",
    )
    inbox_low: int = _number(
        32 * KIB,
        "reading goes on at this or below",
        unit="bytes",
        why="half the high mark, as Netty has its marks for writing",
        least=0,
    )
    write_high: int = _number(
        64 * KIB,
        "unsent bytes above this hold back the app and the Deferreds of send",
        unit="bytes",
        why="Netty's high mark; Twisted pauses producers above 64 KiB too (bufferSize). It resumes at 0: no low mark",
    )
    max_unsent: int = _number(
        32 * MIB,
        "unsent bytes above this end the connection; each send that waits counts for 512 more",
        unit="bytes",
        why="Redis's hard limit for a subscriber (client-output-buffer-limit pubsub 32mb); NATS has 64 MiB",
    )
    max_requests: int = _number(
        1024,
        "requests that wait for a reply at one time",
        unit="requests",
        why="our choice: ten times the least that HTTP/2 recommends for streams (100, RFC 9113 section 6.5.2)",
    )

    messages_per_turn: int = _number(
        256,
        "messages of one connection that the app is given at once; others have their turn before the next ones",
        unit="messages",
        why="our choice: a quarter of a millisecond of an app that does nothing but echo, which all others wait",
        zero="no limit",
    )
    work_per_turn: int = _number(
        250,
        "time that the messages of one connection take in one turn; others have their turn before the next ones",
        unit="microseconds",
        why="our choice: what messages_per_turn takes of an app that only echoes; one message can always take longer",
        zero="no limit",
    )
    message_rate: int = _number(
        0,
        "messages a second from one connection, and at once after a quiet second",
        unit="messages a second",
        why="our choice: only the app knows what is too much; nginx's limit_req is unset, too",
        zero="no limit",
    )
    byte_rate: int = _number(
        0,
        "bytes a second from one connection, and at once after a quiet second",
        unit="bytes a second",
        why="our choice: only the network's owner knows what is too much; nginx's limit_rate is unset, too",
        zero="no limit",
    )
    max_buffered: int = _number(
        256 * MIB,
        "bytes that all connections hold: messages unfinished, waiting or in the app's hands, and what is unsent",
        unit="bytes",
        why="our choice: a quarter of the smallest machine that is rented out; RabbitMQ's watermark is four tenths",
        zero="no limit",
    )
    heartbeats_missed: int = _number(
        2,
        "heartbeats to which nothing may come; when the next one is due, the connection ends",
        unit="heartbeats",
        why="NATS's ping_max",
        least=0,
    )
    age_jitter: int = _number(
        10,
        "percent that the greatest age of a connection (max_age) differs by, up or down, at random",
        unit="percent",
        why="gRPC's for its MAX_CONNECTION_AGE: those that were opened together are not closed together",
        least=0,
        most=100,
    )
    keepalive_count: int = _number(
        4,
        "TCP keepalive probes without an answer that end a connection",
        unit="probes",
        why="our choice: with the other two numbers, a peer that vanished is found out in two minutes",
        most=127,
    )

    def __post_init__(self) -> None:
        _check(self, whole=True)
        if self.inbox_low > self.inbox_high:
            raise InvalidOption(f"inbox_low={self.inbox_low}: takes at most inbox_high, which is {self.inbox_high}")


@dataclass(frozen=True)
class Timeouts:
    """How long each wait may last, in seconds. Raises `InvalidOption` for a number that cannot be one."""

    connect: float = _number(
        30.0,
        "connecting, name look-up included",
        unit="seconds",
        why="Twisted's connectTCP gives an attempt 30 s; the look-up is not in that",
        zero="no limit",
    )
    proxy_header: float = _number(
        5.0,
        "the PROXY header of a connection, where a server listens for proxies",
        unit="seconds",
        why="our choice: the specification asks for 3 s at the least, in which a lost packet is sent again (RFC 6298)",
        zero="no limit",
    )
    tls_handshake: float = _number(
        10.0,
        "setting up TLS, once the transport is connected",
        unit="seconds",
        why="Netty's handshakeTimeout; ranch has 5 s",
        zero="no limit",
    )
    first_message: float = _number(
        60.0,
        "the first message to a server, of a client that the app has not spoken to first",
        unit="seconds",
        why="nginx's client_header_timeout, which bounds the first thing that an HTTP client has to say",
        zero="no limit",
    )
    frame: float = _number(
        60.0,
        "the rest of a message, once its first byte has come",
        unit="seconds",
        why="our choice, as first_message: 1 MiB then has to come at 17 KiB a second",
        zero="no limit",
    )
    idle: float = _number(
        600.0,
        "a server's connection on which nothing passes, either way",
        unit="seconds",
        why="nginx's proxy_timeout for streams, which counts both ways, too",
        zero="no limit",
    )
    idle_read: float = _number(
        0.0,
        "a peer that sends nothing",
        unit="seconds",
        why="our choice: one who only listens is no fault; set it where peers have to go on sending",
        zero="no limit",
    )
    idle_write: float = _number(
        0.0,
        "a peer to whom nothing is sent",
        unit="seconds",
        why="our choice: one who only tells is no fault; set it where the app has to go on sending",
        zero="no limit",
    )
    answer: float = _number(
        60.0,
        "the app's Deferred, or coroutine, that answers a message",
        unit="seconds",
        why="nginx's proxy_read_timeout, which bounds how long a backend may think",
        zero="no limit",
    )
    blocked: float = _number(
        1.0,
        "the process without a turn of its loop, before the log says where it stands (of twistd's service)",
        unit="seconds",
        why="our choice: ten times what asyncio's debug mode calls slow, and less than any client here waits",
        zero="no watch",
    )
    max_age: float = _number(
        0.0,
        "a connection's life; then what is in hand is finished, and it is closed",
        unit="seconds",
        why="gRPC's MAX_CONNECTION_AGE: none unless asked for. Set it behind a balancer, so that load spreads anew",
        zero="no limit",
    )
    heartbeat: float = _number(
        60.0,
        "a peer that sends nothing, before it is sent a heartbeat (where there is one to send)",
        unit="seconds",
        why="RabbitMQ's heartbeat; NATS pings every 120 s",
        zero="no heartbeat",
    )
    keepalive: float = _number(
        60.0,
        "a quiet connection, before TCP asks the peer's system whether it is still there",
        unit="seconds",
        why="our choice: below the minutes after which firewalls forget a connection (RFC 5382: 2 h)",
        zero="no TCP keepalive",
        most=32767,
    )
    keepalive_interval: float = _number(
        15.0,
        "between TCP's further questions (keepalive_count of them)",
        unit="seconds",
        why="Go's default for net.KeepAliveConfig",
        least=1,
        most=32767,
    )
    user_timeout: float = _number(
        120.0,
        "data that the peer's system does not acknowledge, before TCP gives the connection up",
        unit="seconds",
        why="our choice: keepalive and its probes together; RFC 5482 describes it, and Linux alone has it",
        zero="as the system has it",
        most=2_000_000,
    )
    request: float = _number(
        30.0,
        "the reply to a request, where the call gives no other",
        unit="seconds",
        why="Kafka clients' request.timeout.ms",
        zero="no limit",
    )
    send_progress: float = _number(
        30.0,
        "a peer that takes nothing of what waits to be sent",
        unit="seconds",
        why="Thousand Island's send_timeout",
        zero="no limit",
    )
    half_close: float = _number(
        30.0,
        "answers to what a peer sent before it closed its side",
        unit="seconds",
        why="our choice: as long as send_progress, for a peer that stays; HAProxy has such a timer (client-fin), unset",
        zero="no limit",
    )
    grace: float = _number(
        5.0,
        "flushing, once close() is called; then the connection is cut",
        unit="seconds",
        why="our choice: nginx's lingering_timeout is 5 s, and bounds the reading side of the same moment",
        zero="cut at once",
    )
    drain: float = _number(
        15.0,
        "finishing what is in hand when the server stops; then the rest is cut",
        unit="seconds",
        why="Thousand Island's shutdown_timeout",
        zero="cut at once",
    )
    drain_jitter: float = _number(
        5.0,
        "within which connections are told that the server stops, at random, where they are many",
        unit="seconds",
        why="our choice: a third of drain; Envoy spreads its drains, too, so that clients do not all come back at once",
        zero="all at once",
    )

    def __post_init__(self) -> None:
        _check(self, whole=False)


@dataclass(frozen=True)
class Policies:
    """
    What is done where there is a choice: about a peer that is over a limit, what cannot be, and small writes.

    Raises `InvalidOption` for what is none.
    """

    full: str = _choice(
        "refuse",
        ("refuse", "reset", "wait"),
        "who comes when max_connections are open: closed at once, reset, or left waiting in the backlog",
    )
    crowded: str = _choice(
        "refuse",
        ("refuse", "reset"),
        "who comes when max_per_address or max_per_network are open: closed at once, or reset",
    )
    too_fast: str = _choice(
        "wait",
        ("wait", "refuse", "reset"),
        "who sends more than message_rate or byte_rate: read no faster, closed when what came is handled, or reset",
    )

    missing_family: str = _choice(
        "refuse",
        ("refuse", "skip"),
        "an endpoint of an address family that this machine does not have, IPv6 say: listen nowhere, or on the others",
    )
    no_delay: bool = _switch(
        True,
        "small writes: on, they are sent at once (TCP_NODELAY); off, the system may hold each back for some 40 ms",
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value, choices = getattr(self, each.name), each.metadata["choices"]
            if value not in choices or isinstance(value, bool) is not isinstance(each.default, bool):
                words = [str(word) for word in choices]
                raise InvalidOption(f"{each.name}={value!r}: takes {' or '.join(words)}{suggest(str(value), words)}")


@dataclass(frozen=True)
class Recovery:
    """How a `Client` comes back, and what may wait meanwhile. Raises `InvalidOption` for what cannot be."""

    first_wait: float = _number(
        2.0,
        "the longest that the first wait for another attempt may be; each is drawn at random from 0 on (full jitter)",
        unit="seconds",
        why="gRPC's INITIAL_BACKOFF, 1 s, in the mean; thousands that are cut off at once come back over two seconds",
        least=0.001,
    )
    longest_wait: float = _number(
        30.0,
        "the longest that any wait may be; each may be twice as long as the one before it",
        unit="seconds",
        why="our choice: all are back within half a minute of the server",
        least=0.001,
    )
    healthy_after: float = _number(
        10.0,
        "how long a connection has to be usable, prepared if it is to be, before the next waits begin small again",
        unit="seconds",
        why="systemd's interval for starts that come too often (StartLimitIntervalSec)",
        zero="as soon as it is usable",
    )
    prepare: float = _number(
        10.0,
        "prepare, from a connection that is open to one that may be used",
        unit="seconds",
        why="as the TLS handshake has: Netty's handshakeTimeout",
        zero="no limit",
    )
    max_waiting: float = _number(
        1024,
        "messages that wait for a connection, and messages without a reply that are remembered",
        unit="messages",
        why="our choice, as max_requests",
    )
    max_waiting_bytes: float = _number(
        8 * MIB,
        "bytes of them",
        unit="bytes",
        why="NATS's reconnect buffer (DefaultReconnectBufSize)",
    )
    retry_percent: float = _number(
        20,
        "of 100 requests, how many may be sent again, over the last ones",
        unit="percent",
        why="Finagle's retry budget: a server that fails is asked a fifth more, and not twice as much",
        least=0,
        most=1000,
    )
    retries_least: float = _number(
        10,
        "how many may be sent again in each second, however few requests there are",
        unit="requests a second",
        why="Finagle's minRetriesPerSec",
        least=0,
    )

    def __post_init__(self) -> None:
        _check(self, whole=False)
        if self.first_wait > self.longest_wait:
            raise InvalidOption(
                f"first_wait={self.first_wait!r}: takes at most longest_wait, which is {self.longest_wait!r}"
            )


def numbers_of(kind: type[Limits | Timeouts | Recovery]) -> tuple[Field[Any], ...]:
    """The fields of `Limits` or `Timeouts`; metadata: ``what``, ``unit``, ``why``, ``least``, ``most`` and ``zero``."""
    return fields(kind)
