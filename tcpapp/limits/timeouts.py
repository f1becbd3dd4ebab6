"""Timeouts: how long each wait can last."""

from __future__ import annotations

from dataclasses import dataclass

from tcpapp.limits.numbers import check, documented, timeout
from tcpapp.limits.renamed import says_new_names

__all__ = ["Timeouts"]


@documented
@says_new_names
@dataclass(frozen=True)
class Timeouts:
    """How long each wait can last, in seconds. Raises `InvalidOption` for a number out of its range."""

    connect: float = timeout(
        30.0,
        "Give up connecting after this time. It includes the look-up of the name",
        why="Twisted's connectTCP gives an attempt 30 s, without the look-up",
        side="client",
    )
    proxy_header: float = timeout(
        5.0,
        "Wait this long for the PROXY header of a connection, where a server listens for proxies",
        why="our choice: the specification asks for at least 3 s, in which a lost packet is sent again (RFC 6298)",
        side="server",
    )
    tls_handshake: float = timeout(
        10.0,
        "Wait this long for the TLS handshake, once the transport is connected",
        why="Netty's handshakeTimeout; ranch has 5 s",
        rule="tls-handshake-timeout",
        overdue="the TLS handshake was not finished in {seconds:g} s",
    )
    first_message: float = timeout(
        60.0,
        "Wait this long for the first message of a client, unless the app sends first",
        why="nginx's client_header_timeout, which bounds the first thing that an HTTP client sends",
        rule="first-message-timeout",
        overdue="no whole message came in the first {seconds:g} s",
        side="server",
    )
    message_timeout: float = timeout(
        60.0,
        "Wait this long for a whole message, from its first byte",
        why="our choice, as first_message: 1 MiB then has to arrive at 17 KiB a second",
        rule="message-timeout",
        overdue="a message was not whole {seconds:g} s after its first byte",
    )
    body_timeout: float = timeout(
        60.0,
        "Wait this long for more bytes of a message's body, which a parser passes on as it comes",
        why="nginx's client_body_timeout, which also counts between two reads, and not for the whole body",
        rule="body-timeout",
        overdue="no bytes of a body came for {seconds:g} s",
    )
    idle: float = timeout(
        600.0,
        "Close a server's connection after this long without data in either direction",
        why="nginx's proxy_timeout for streams, which also counts both directions",
        rule="idle",
        overdue="nothing passed, either way, for {seconds:g} s",
        since="passed",
        side="server",
    )
    idle_read: float = timeout(
        0.0,
        "Close a connection after this long without data from the peer",
        why="our choice: a peer that only receives does nothing wrong; set it where peers must keep sending",
        rule="idle",
        overdue="nothing came for {seconds:g} s",
        since="came",
    )
    idle_write: float = timeout(
        0.0,
        "Close a connection after this long without data to the peer",
        why="our choice: a peer that only sends does nothing wrong; set it where the app must keep sending",
        rule="idle",
        overdue="nothing was sent for {seconds:g} s",
        since="sent",
    )
    handler_timeout: float = timeout(
        60.0,
        "Wait this long for the app's Deferred or coroutine to handle a message",
        why="nginx's proxy_read_timeout, which bounds how long a backend can take",
        rule="handler-timeout",
        overdue="the app had not answered a message after {seconds:g} s",
    )
    loop_stall: float = timeout(
        1.0,
        "Log where the process is blocked when its event loop stalls for this long (only under twistd)",
        why="our choice: ten times asyncio's slow_callback_duration, and less than any timeout of a client",
        zero="no watch",
        side="server",
        fixed=True,
    )
    max_age: float = timeout(
        0.0,
        "Finish the current work of a connection and close it at this age",
        why="gRPC's MAX_CONNECTION_AGE is unset, too. Behind a load balancer, set it to spread the load again",
        rule="max-age",
        overdue="it has been open for {seconds:g} s, as long as a connection may be",
    )
    heartbeat: float = timeout(
        60.0,
        "Send a heartbeat after this long without data from the peer (where a heartbeat message is set)",
        why="RabbitMQ's heartbeat; NATS pings every 120 s",
        zero="no heartbeat",
        rule="heartbeat-missed",
        overdue="nothing came for {seconds:g} s, nor to the heartbeats after that",
        since="heartbeat",
    )
    keepalive: float = timeout(
        60.0,
        "Send TCP keepalive probes after this long without traffic",
        why="our choice: shorter than the time after which firewalls forget a connection (minutes; RFC 5382: 2 h)",
        zero="no TCP keepalive",
        most=32767,
    )
    keepalive_interval: float = timeout(
        15.0,
        "Wait this long between TCP keepalive probes (keepalive_count of them)",
        why="Go's default for net.KeepAliveConfig",
        zero="",
        least=1,
        most=32767,
    )
    user_timeout: float = timeout(
        120.0,
        "End a connection when the peer's system acknowledges no data for this long",
        why="our choice: as long as keepalive and its probes take together; described in RFC 5482, and only in Linux",
        zero="as the system sets it",
        most=2_000_000,
    )
    request: float = timeout(
        30.0,
        "Wait this long for the reply to a request, unless the call sets its own timeout",
        why="Kafka clients' request.timeout.ms",
    )
    send_progress: float = timeout(
        30.0,
        "End a connection whose peer accepts no unsent bytes for this long",
        why="Thousand Island's send_timeout",
        rule="send-stalled",
        overdue="the peer took (next to) nothing in {seconds:g} s",
    )
    half_close: float = timeout(
        30.0,
        "Wait this long for the replies to a peer that closed its side",
        why="our choice: as send_progress; HAProxy has such a timer (client-fin), unset by default",
    )
    grace: float = timeout(
        5.0,
        "Cut a connection that is not flushed this long after close()",
        why="our choice: as nginx's lingering_timeout, which bounds reading at the same moment",
        zero="cut at once",
    )
    drain: float = timeout(
        15.0,
        "Let connections finish their work for this long when the server stops, then cut them",
        why="Thousand Island's shutdown_timeout",
        zero="cut at once",
    )
    drain_jitter: float = timeout(
        5.0,
        "Spread the closing of many connections at random over this time when the server stops",
        why="our choice: a third of drain; Envoy also spreads its drains, so that clients do not all come back at once",
        zero="all at once",
        side="server",
    )

    def __post_init__(self) -> None:
        check(self, whole=False)
