"""How long each wait may last."""

from __future__ import annotations

from dataclasses import dataclass

from tcpapp.limits.numbers import check, number

__all__ = ["Timeouts"]


@dataclass(frozen=True)
class Timeouts:
    """How long each wait may last, in seconds. Raises `InvalidOption` for a number that cannot be one."""

    connect: float = number(
        30.0,
        "connecting, name look-up included",
        unit="seconds",
        why="Twisted's connectTCP gives an attempt 30 s; the look-up is not in that",
        zero="no limit",
    )
    proxy_header: float = number(
        5.0,
        "the PROXY header of a connection, where a server listens for proxies",
        unit="seconds",
        why="our choice: the specification asks for 3 s at the least, in which a lost packet is sent again (RFC 6298)",
        zero="no limit",
    )
    tls_handshake: float = number(
        10.0,
        "setting up TLS, once the transport is connected",
        unit="seconds",
        why="Netty's handshakeTimeout; ranch has 5 s",
        zero="no limit",
    )
    first_message: float = number(
        60.0,
        "the first message to a server, of a client that the app has not spoken to first",
        unit="seconds",
        why="nginx's client_header_timeout, which bounds the first thing that an HTTP client has to say",
        zero="no limit",
    )
    frame: float = number(
        60.0,
        "the rest of a message, once its first byte has come",
        unit="seconds",
        why="our choice, as first_message: 1 MiB then has to come at 17 KiB a second",
        zero="no limit",
    )
    idle: float = number(
        600.0,
        "a server's connection on which nothing passes, either way",
        unit="seconds",
        why="nginx's proxy_timeout for streams, which counts both ways, too",
        zero="no limit",
    )
    idle_read: float = number(
        0.0,
        "a peer that sends nothing",
        unit="seconds",
        why="our choice: one who only listens is no fault; set it where peers have to go on sending",
        zero="no limit",
    )
    idle_write: float = number(
        0.0,
        "a peer to whom nothing is sent",
        unit="seconds",
        why="our choice: one who only tells is no fault; set it where the app has to go on sending",
        zero="no limit",
    )
    answer: float = number(
        60.0,
        "the app's Deferred, or coroutine, that answers a message",
        unit="seconds",
        why="nginx's proxy_read_timeout, which bounds how long a backend may think",
        zero="no limit",
    )
    blocked: float = number(
        1.0,
        "the process without a turn of its loop, before the log says where it stands (of twistd's service)",
        unit="seconds",
        why="our choice: ten times what asyncio's debug mode calls slow, and less than any client here waits",
        zero="no watch",
    )
    max_age: float = number(
        0.0,
        "a connection's life; then what is in hand is finished, and it is closed",
        unit="seconds",
        why="gRPC's MAX_CONNECTION_AGE: none unless asked for. Set it behind a balancer, so that load spreads anew",
        zero="no limit",
    )
    heartbeat: float = number(
        60.0,
        "a peer that sends nothing, before it is sent a heartbeat (where there is one to send)",
        unit="seconds",
        why="RabbitMQ's heartbeat; NATS pings every 120 s",
        zero="no heartbeat",
    )
    keepalive: float = number(
        60.0,
        "a quiet connection, before TCP asks the peer's system whether it is still there",
        unit="seconds",
        why="our choice: below the minutes after which firewalls forget a connection (RFC 5382: 2 h)",
        zero="no TCP keepalive",
        most=32767,
    )
    keepalive_interval: float = number(
        15.0,
        "between TCP's further questions (keepalive_count of them)",
        unit="seconds",
        why="Go's default for net.KeepAliveConfig",
        least=1,
        most=32767,
    )
    user_timeout: float = number(
        120.0,
        "data that the peer's system does not acknowledge, before TCP gives the connection up",
        unit="seconds",
        why="our choice: keepalive and its probes together; RFC 5482 describes it, and Linux alone has it",
        zero="as the system has it",
        most=2_000_000,
    )
    request: float = number(
        30.0,
        "the reply to a request, where the call gives no other",
        unit="seconds",
        why="Kafka clients' request.timeout.ms",
        zero="no limit",
    )
    send_progress: float = number(
        30.0,
        "a peer that takes nothing of what waits to be sent",
        unit="seconds",
        why="Thousand Island's send_timeout",
        zero="no limit",
    )
    half_close: float = number(
        30.0,
        "answers to what a peer sent before it closed its side",
        unit="seconds",
        why="our choice: as long as send_progress, for a peer that stays; HAProxy has such a timer (client-fin), unset",
        zero="no limit",
    )
    grace: float = number(
        5.0,
        "flushing, once close() is called; then the connection is cut",
        unit="seconds",
        why="our choice: nginx's lingering_timeout is 5 s, and bounds the reading side of the same moment",
        zero="cut at once",
    )
    drain: float = number(
        15.0,
        "finishing what is in hand when the server stops; then the rest is cut",
        unit="seconds",
        why="Thousand Island's shutdown_timeout",
        zero="cut at once",
    )
    drain_jitter: float = number(
        5.0,
        "within which connections are told that the server stops, at random, where they are many",
        unit="seconds",
        why="our choice: a third of drain; Envoy spreads its drains, too, so that clients do not all come back at once",
        zero="all at once",
    )

    def __post_init__(self) -> None:
        check(self, whole=False)
