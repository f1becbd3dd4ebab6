"""How much of each thing there may be."""

from __future__ import annotations

from dataclasses import dataclass

from tcpapp.errors import InvalidOption
from tcpapp.limits.numbers import KIB, MIB, check, documented, number

__all__ = ["Limits"]


@documented
@dataclass(frozen=True)
class Limits:
    """How much of each thing there may be. Raises `InvalidOption` for a number that cannot be one."""

    max_connections: int = number(
        1000,
        "connections at one time; further ones are refused",
        unit="connections",
        why="our choice: it fits under Linux's usual soft limit of 1,024 descriptors with some to spare (ranch: 1,024)",
        side="server",
    )
    max_per_address: int = number(
        0,
        "connections at one time from one address",
        unit="connections",
        why="our choice: behind a proxy, or a network's one address, are many people; nginx's limit_conn is unset, too",
        zero="as many as max_connections",
        side="server",
    )
    max_per_network: int = number(
        0,
        "connections at one time from one network (network_ipv4, network_ipv6)",
        unit="connections",
        why="our choice, as max_per_address",
        zero="as many as max_connections",
        side="server",
    )
    network_ipv4: int = number(
        24,
        "bits that the IPv4 addresses of one network share",
        unit="bits",
        why="our choice: the longest prefix that providers route; whoever has one such address may have all of them",
        zero="all addresses are one network",
        most=32,
        side="server",
    )
    network_ipv6: int = number(
        64,
        "bits that the IPv6 addresses of one network share",
        unit="bits",
        why="what one subnet has (RFC 4291, section 2.5.4): whoever has one such address has all of them",
        zero="all addresses are one network",
        most=128,
        side="server",
    )
    accept_rate: int = number(
        1000,
        "clients taken in each second, and at once after a quiet one; further ones wait in the backlog",
        unit="clients a second",
        why="our choice: as many as max_connections, so that all may come back within a second",
        zero="no limit",
        side="server",
    )
    inbox_high: int = number(
        64 * KIB,
        "messages not yet taken by the app stop reading above this",
        unit="bytes",
        why="Twisted's bufferSize, the most it reads at once: one read may fill an inbox; Netty's high write mark",
    )
    inbox_low: int = number(
        32 * KIB,
        "reading goes on at this or below",
        unit="bytes",
        why="half the high mark, as Netty has its marks for writing",
        least=0,
    )
    write_high: int = number(
        64 * KIB,
        "unsent bytes above this hold back the app and the Deferreds of send",
        unit="bytes",
        why="Netty's high mark; Twisted pauses producers above 64 KiB too (bufferSize). It resumes at 0: no low mark",
    )
    max_unsent: int = number(
        32 * MIB,
        "unsent bytes above this end the connection; each send that waits counts for 512 more",
        unit="bytes",
        why="Redis's hard limit for a subscriber (client-output-buffer-limit pubsub 32mb); NATS has 64 MiB",
    )
    max_requests: int = number(
        1024,
        "requests that wait for a reply at one time",
        unit="requests",
        why="our choice: ten times the least that HTTP/2 recommends for streams (100, RFC 9113 section 6.5.2)",
    )

    messages_per_turn: int = number(
        256,
        "messages of one connection that the app is given at once; others have their turn before the next ones",
        unit="messages",
        why="our choice: a quarter of a millisecond of an app that does nothing but echo, which all others wait",
        zero="no limit",
    )
    work_per_turn: int = number(
        250,
        "time that the messages of one connection take in one turn; others have their turn before the next ones",
        unit="microseconds",
        why="our choice: what messages_per_turn takes of an app that only echoes; one message can always take longer",
        zero="no limit",
    )
    message_rate: int = number(
        0,
        "messages a second from one connection, and at once after a quiet second",
        unit="messages a second",
        why="our choice: only the app knows what is too much; nginx's limit_req is unset, too",
        zero="no limit",
    )
    byte_rate: int = number(
        0,
        "bytes a second from one connection, and at once after a quiet second",
        unit="bytes a second",
        why="our choice: only the network's owner knows what is too much; nginx's limit_rate is unset, too",
        zero="no limit",
    )
    max_buffered: int = number(
        256 * MIB,
        "bytes that all connections hold: messages unfinished, waiting or in the app's hands, and what is unsent",
        unit="bytes",
        why="our choice: a quarter of the smallest machine that is rented out; RabbitMQ's watermark is four tenths",
        zero="no limit",
    )
    heartbeats_missed: int = number(
        2,
        "heartbeats to which nothing may come; when the next one is due, the connection ends",
        unit="heartbeats",
        why="NATS's ping_max",
        least=0,
    )
    age_jitter: int = number(
        10,
        "percent that the greatest age of a connection (max_age) differs by, up or down, at random",
        unit="percent",
        why="gRPC's for its MAX_CONNECTION_AGE: those that were opened together are not closed together",
        least=0,
        most=100,
    )
    keepalive_count: int = number(
        4,
        "TCP keepalive probes without an answer that end a connection",
        unit="probes",
        why="our choice: with the other two numbers, a peer that vanished is found out in two minutes",
        most=127,
    )

    def __post_init__(self) -> None:
        check(self, whole=True)
        if self.inbox_low > self.inbox_high:
            raise InvalidOption(f"inbox_low={self.inbox_low}: takes at most inbox_high, which is {self.inbox_high}")
