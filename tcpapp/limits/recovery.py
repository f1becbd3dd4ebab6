"""How a client comes back."""

from __future__ import annotations

from dataclasses import dataclass

from tcpapp.errors import InvalidOption
from tcpapp.limits.numbers import MIB, check, documented, number

__all__ = ["Recovery"]


@documented
@dataclass(frozen=True)
class Recovery:
    """How a `Client` comes back, and what may wait meanwhile. Raises `InvalidOption` for what cannot be."""

    first_wait: float = number(
        2.0,
        "the longest that the first wait for another attempt may be; each is drawn at random from 0 on (full jitter)",
        unit="seconds",
        why="gRPC's INITIAL_BACKOFF, 1 s, in the mean; thousands that are cut off at once come back over two seconds",
        least=0.001,
    )
    longest_wait: float = number(
        30.0,
        "the longest that any wait may be; each may be twice as long as the one before it",
        unit="seconds",
        why="our choice: all are back within half a minute of the server",
        least=0.001,
    )
    healthy_after: float = number(
        10.0,
        "how long a connection has to be usable, prepared if it is to be, before the next waits begin small again",
        unit="seconds",
        why="systemd's interval for starts that come too often (StartLimitIntervalSec)",
        zero="as soon as it is usable",
    )
    prepare: float = number(
        10.0,
        "prepare, from a connection that is open to one that may be used",
        unit="seconds",
        why="as the TLS handshake has: Netty's handshakeTimeout",
        zero="no limit",
    )
    max_waiting: float = number(
        1024,
        "messages that wait for a connection, and messages without a reply that are remembered",
        unit="messages",
        why="our choice, as max_requests",
    )
    max_waiting_bytes: float = number(
        8 * MIB,
        "bytes of them",
        unit="bytes",
        why="NATS's reconnect buffer (DefaultReconnectBufSize)",
    )
    retry_percent: float = number(
        20,
        "of 100 requests, how many may be sent again, over the last ones",
        unit="percent",
        why="Finagle's retry budget: a server that fails is asked a fifth more, and not twice as much",
        least=0,
        most=1000,
    )
    retries_least: float = number(
        10,
        "how many may be sent again in each second, however few requests there are",
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
