"""How long each wait may last."""

from __future__ import annotations

from dataclasses import dataclass

from tcpapp.limits.numbers import check, documented, timeout

__all__ = ["Timeouts"]


@documented
@dataclass(frozen=True)
class Timeouts:
    """How long each wait may last, in seconds. Raises `InvalidOption` for a number that cannot be one."""

    connect: float = timeout(
        30.0,
        "connecting, name look-up included",
        why="Twisted's connectTCP gives an attempt 30 s; the look-up is not in that",
        side="client",
    )
    proxy_header: float = timeout(
        5.0,
        "the PROXY header of a connection, where a server listens for proxies",
        why="our choice: the specification asks for 3 s at the least, in which a lost packet is sent again (RFC 6298)",
        side="server",
    )
    tls_handshake: float = timeout(
        10.0,
        "setting up TLS, once the transport is connected",
        why="Netty's handshakeTimeout; ranch has 5 s",
        rule="tls-handshake-timeout",
        overdue="the TLS handshake was not finished in {seconds:g} s",
    )
    first_message: float = timeout(
        60.0,
        "the first message to a server, of a client that the app has not spoken to first",
        why="nginx's client_header_timeout, which bounds the first thing that an HTTP client has to say",
        rule="first-message-timeout",
        overdue="no whole message came in the first {seconds:g} s",
        side="server",
    )
    frame: float = timeout(
        60.0,
        "the rest of a message, once its first byte has come",
        why="our choice, as first_message: 1 MiB then has to come at 17 KiB a second",
        rule="frame-timeout",
        overdue="a message was not whole {seconds:g} s after its first byte",
    )
    idle: float = timeout(
        600.0,
        "a server's connection on which nothing passes, either way",
        why="nginx's proxy_timeout for streams, which counts both ways, too",
        rule="idle",
        overdue="nothing passed, either way, for {seconds:g} s",
        since="passed",
        side="server",
    )
    idle_read: float = timeout(
        0.0,
        "a peer that sends nothing",
        why="our choice: one who only listens is no fault; set it where peers have to go on sending",
        rule="idle",
        overdue="nothing came for {seconds:g} s",
        since="came",
    )
    idle_write: float = timeout(
        0.0,
        "a peer to whom nothing is sent",
        why="our choice: one who only tells is no fault; set it where the app has to go on sending",
        rule="idle",
        overdue="nothing was sent for {seconds:g} s",
        since="sent",
    )
    answer: float = timeout(
        60.0,
        "the app's Deferred, or coroutine, that answers a message",
        why="nginx's proxy_read_timeout, which bounds how long a backend may think",
        rule="answer-timeout",
        overdue="the app had not answered a message after {seconds:g} s",
    )
    blocked: float = timeout(
        1.0,
        "the process without a turn of its loop, before the log says where it stands (of twistd's service)",
        why="our choice: ten times what asyncio's debug mode calls slow, and less than any client here waits",
        zero="no watch",
        side="server",
        fixed=True,
    )
    max_age: float = timeout(
        0.0,
        "a connection's life; then what is in hand is finished, and it is closed",
        why="gRPC's MAX_CONNECTION_AGE: none unless asked for. Set it behind a balancer, so that load spreads anew",
        rule="max-age",
        overdue="it has been open for {seconds:g} s, as long as a connection may be",
    )
    heartbeat: float = timeout(
        60.0,
        "a peer that sends nothing, before it is sent a heartbeat (where there is one to send)",
        why="RabbitMQ's heartbeat; NATS pings every 120 s",
        zero="no heartbeat",
        rule="heartbeat-missed",
        overdue="nothing came for {seconds:g} s, nor to the heartbeats after that",
        since="heartbeat",
    )
    keepalive: float = timeout(
        60.0,
        "a quiet connection, before TCP asks the peer's system whether it is still there",
        why="our choice: below the minutes after which firewalls forget a connection (RFC 5382: 2 h)",
        zero="no TCP keepalive",
        most=32767,
    )
    keepalive_interval: float = timeout(
        15.0,
        "between TCP's further questions (keepalive_count of them)",
        why="Go's default for net.KeepAliveConfig",
        zero="",
        least=1,
        most=32767,
    )
    user_timeout: float = timeout(
        120.0,
        "data that the peer's system does not acknowledge, before TCP gives the connection up",
        why="our choice: keepalive and its probes together; RFC 5482 describes it, and Linux alone has it",
        zero="as the system has it",
        most=2_000_000,
    )
    request: float = timeout(
        30.0,
        "the reply to a request, where the call gives no other",
        why="Kafka clients' request.timeout.ms",
    )
    send_progress: float = timeout(
        30.0,
        "a peer that takes nothing of what waits to be sent",
        why="Thousand Island's send_timeout",
        rule="send-stalled",
        overdue="the peer took (next to) nothing in {seconds:g} s",
    )
    half_close: float = timeout(
        30.0,
        "answers to what a peer sent before it closed its side",
        why="our choice: as long as send_progress, for a peer that stays; HAProxy has such a timer (client-fin), unset",
    )
    grace: float = timeout(
        5.0,
        "flushing, once close() is called; then the connection is cut",
        why="our choice: nginx's lingering_timeout is 5 s, and bounds the reading side of the same moment",
        zero="cut at once",
    )
    drain: float = timeout(
        15.0,
        "finishing what is in hand when the server stops; then the rest is cut",
        why="Thousand Island's shutdown_timeout",
        zero="cut at once",
    )
    drain_jitter: float = timeout(
        5.0,
        "within which connections are told that the server stops, at random, where they are many",
        why="our choice: a third of drain; Envoy spreads its drains, too, so that clients do not all come back at once",
        zero="all at once",
        side="server",
    )

    def __post_init__(self) -> None:
        check(self, whole=False)
