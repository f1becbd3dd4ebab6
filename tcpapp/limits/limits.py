"""Bounds on connections, messages, bytes and rates."""

from __future__ import annotations

from dataclasses import dataclass

from tcpapp.errors import InvalidOption
from tcpapp.limits.numbers import KIB, MIB, check, documented, number

__all__ = ["Limits"]


@documented
@dataclass(frozen=True)
class Limits:
    """Bounds on connections, messages, bytes and rates. Raises `InvalidOption` for a number out of its range."""

    max_connections: int = number(
        1000,
        "Accept at most this many connections at one time",
        unit="connections",
        why="our choice: it fits under Linux's usual soft limit of 1,024 descriptors with some to spare (ranch: 1,024)",
        side="server",
    )
    max_per_address: int = number(
        0,
        "Accept at most this many connections at one time from one address",
        unit="connections",
        why="our choice: many people share the address of a proxy or of a NAT; nginx's limit_conn is unset, too",
        zero="as many as max_connections",
        side="server",
    )
    max_per_network: int = number(
        0,
        "Accept at most this many connections at one time from one network (network_ipv4, network_ipv6)",
        unit="connections",
        why="our choice, as max_per_address",
        zero="as many as max_connections",
        side="server",
    )
    network_ipv4: int = number(
        24,
        "Count IPv4 addresses that share this many leading bits as one network",
        unit="bits",
        why="our choice: the longest prefix that providers route; the owner of one such address can own them all",
        zero="all addresses are one network",
        most=32,
        side="server",
    )
    network_ipv6: int = number(
        64,
        "Count IPv6 addresses that share this many leading bits as one network",
        unit="bits",
        why="the prefix of one subnet (RFC 4291, section 2.5.4): the owner of one such address owns them all",
        zero="all addresses are one network",
        most=128,
        side="server",
    )
    accept_rate: int = number(
        1000,
        "Accept at most this many clients a second, and as many at once after a quiet second. More wait in the backlog",
        unit="clients a second",
        why="our choice: as many as max_connections, so that all clients can reconnect within a second",
        zero="no limit",
        side="server",
    )
    inbox_high: int = number(
        64 * KIB,
        "Stop reading from a connection when more than this many bytes wait for the app",
        unit="bytes",
        why="Twisted's bufferSize, the most it reads at once, so one read can fill an inbox; Netty's high write mark",
    )
    inbox_low: int = number(
        32 * KIB,
        "Read from a connection again when at most this many bytes wait for the app",
        unit="bytes",
        why="half the high mark, as in Netty's marks for writing",
        least=0,
    )
    write_high: int = number(
        64 * KIB,
        "Hold back the app and the Deferreds of send() while more than this many bytes are unsent",
        unit="bytes",
        why="Netty's high mark; Twisted pauses producers above 64 KiB too (bufferSize). It resumes at 0: no low mark",
    )
    max_unsent: int = number(
        32 * MIB,
        "End a connection when more than this many bytes are unsent. Each waiting send() counts 512 bytes more",
        unit="bytes",
        why="Redis's hard limit for a subscriber (client-output-buffer-limit pubsub 32mb); NATS has 64 MiB",
    )
    max_requests: int = number(
        1024,
        "Allow at most this many requests to wait for a reply at one time",
        unit="requests",
        why="our choice: ten times the least that HTTP/2 recommends for streams (100, RFC 9113 section 6.5.2)",
    )
    max_tasks: int = number(
        100,
        "Allow at most this many tasks (spawn) of one connection at one time",
        unit="tasks",
        why="the least that HTTP/2 recommends for the streams of a connection (RFC 9113, section 6.5.2)",
        zero="no limit",
    )

    messages_per_turn: int = number(
        256,
        "Hand the app at most this many messages of one connection at once, then serve other connections",
        unit="messages",
        why="our choice: an app that only echoes takes 0.25 ms for them, while all other connections wait",
        zero="no limit",
    )
    work_per_turn: int = number(
        250,
        "Work at most this many microseconds on the messages of one connection, then serve other connections",
        unit="microseconds",
        why="our choice: an app that only echoes takes as long for messages_per_turn; one message can take longer",
        zero="no limit",
    )
    message_rate: int = number(
        0,
        "Read at most this many messages a second from one connection, and as many at once after a quiet second",
        unit="messages a second",
        why="our choice: only the app knows what is too much; nginx's limit_req is unset, too",
        zero="no limit",
    )
    byte_rate: int = number(
        0,
        "Read at most this many bytes a second from one connection, and as many at once after a quiet second",
        unit="bytes a second",
        why="our choice: only the owner of the network knows what is too much; nginx's limit_rate is unset, too",
        zero="no limit",
    )
    max_buffered: int = number(
        256 * MIB,
        "Hold at most this many bytes for all connections: unfinished, waiting and handled messages, and unsent bytes",
        unit="bytes",
        why="our choice: a quarter of the memory of a small machine (1 GiB); RabbitMQ's watermark is four tenths",
        zero="no limit",
    )
    heartbeats_missed: int = number(
        2,
        "Allow this many heartbeats without any data from the peer. End the connection when the next heartbeat is due",
        unit="heartbeats",
        why="NATS's ping_max",
        least=0,
    )
    age_jitter: int = number(
        10,
        "Vary the greatest age of each connection (max_age) at random by up to this many percent",
        unit="percent",
        why="gRPC's jitter of MAX_CONNECTION_AGE: connections that were opened together are not closed together",
        least=0,
        most=100,
    )
    keepalive_count: int = number(
        4,
        "End a connection after this many TCP keepalive probes without an answer",
        unit="probes",
        why="our choice: with keepalive and keepalive_interval, a vanished peer is detected within two minutes",
        most=127,
    )

    def __post_init__(self) -> None:
        check(self, whole=True)
        if self.inbox_low > self.inbox_high:
            raise InvalidOption(f"inbox_low={self.inbox_low}: takes at most inbox_high, which is {self.inbox_high}")
