"""Numbers for a client that reconnects."""

from __future__ import annotations

from dataclasses import dataclass

from tcpapp.errors import InvalidOption
from tcpapp.limits.numbers import MIB, check, documented, number

__all__ = ["Recovery"]


@documented
@dataclass(frozen=True)
class Recovery:
    """
    How a `Client` reconnects, and how many messages can wait meanwhile. Raises `InvalidOption` for a number out of its
    range.
    """

    first_wait: float = number(
        2.0,
        "Wait at most this long before the second round of attempts. Each wait is random, from 0 (full jitter)",
        unit="seconds",
        why="gRPC's INITIAL_BACKOFF, 1 s, on average; thousands that are cut off at once return over two seconds",
        least=0.001,
    )
    longest_wait: float = number(
        30.0,
        "Wait at most this long between rounds of attempts. The bound doubles with each wait, up to this number",
        unit="seconds",
        why="our choice: all clients are connected again half a minute after the server is back",
        least=0.001,
    )
    healthy_after: float = number(
        10.0,
        "Begin with first_wait again after a connection was usable for this long (after its prepare, if any)",
        unit="seconds",
        why="systemd's interval for limiting starts (StartLimitIntervalSec)",
        zero="as soon as it is usable",
    )
    prepare: float = number(
        10.0,
        "Wait this long for prepare to finish, from an open connection on",
        unit="seconds",
        why="as for the TLS handshake: Netty's handshakeTimeout",
        zero="no limit",
    )
    max_waiting: float = number(
        1024,
        "Keep at most this many messages that wait for a connection, and as many requests that wait for a reply",
        unit="messages",
        why="our choice, as max_requests",
    )
    max_waiting_bytes: float = number(
        8 * MIB,
        "Keep at most this many bytes of waiting messages",
        unit="bytes",
        why="NATS's reconnect buffer (DefaultReconnectBufSize)",
    )
    retry_percent: float = number(
        20,
        "Send at most this many of 100 requests again, counted over the last requests",
        unit="percent",
        why="Finagle's retry budget: a failing server gets a fifth more requests, not twice as many",
        least=0,
        most=1000,
    )
    retries_least: float = number(
        10,
        "Always allow this many requests a second to be sent again",
        unit="requests a second",
        why="Finagle's minRetriesPerSec",
        least=0,
    )

    def __post_init__(self) -> None:
        check(self, whole=False)
        if self.first_wait > self.longest_wait:
            raise InvalidOption(
                f"first_wait={self.first_wait!r}: takes at most longest_wait, which is {self.longest_wait!r}"
            )
