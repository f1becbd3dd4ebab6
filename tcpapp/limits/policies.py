"""Policies: which reaction a server chooses where more than one is possible."""

from __future__ import annotations

from dataclasses import dataclass, fields

from tcpapp.errors import InvalidOption
from tcpapp.limits.numbers import choice, documented, switch
from tcpapp.limits.renamed import says_new_names
from tcpapp.spec import suggest

__all__ = ["Policies"]


@documented
@says_new_names
@dataclass(frozen=True)
class Policies:
    """
    The chosen reactions to a peer over a limit and to a missing address family, and whether small writes are sent at
    once.

    Raises `InvalidOption` for a value that is not one of the choices.
    """

    over_max_connections: str = choice(
        "refuse",
        ("refuse", "reset", "wait"),
        "Close new connections at once (refuse), reset them (reset), or leave them in the backlog (wait)"
        " when max_connections is reached",
        side="server",
    )
    over_per_address: str = choice(
        "refuse",
        ("refuse", "reset"),
        "Close new connections at once (refuse) or reset them (reset)"
        " when max_per_address or max_per_network is reached",
        side="server",
    )
    over_rate: str = choice(
        "wait",
        ("wait", "refuse", "reset"),
        "Read no faster (wait), close once the received messages are handled (refuse), or reset (reset) a connection"
        " that is over message_rate or byte_rate",
    )

    missing_family: str = choice(
        "refuse",
        ("refuse", "skip"),
        "Listen nowhere (refuse) or only on the other endpoints (skip)"
        " when this machine lacks the address family of an endpoint, such as IPv6",
        side="server",
    )
    no_delay: bool = switch(
        True,
        "Send small writes at once (TCP_NODELAY): on or off. If off, the system can delay each for about 40 ms",
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value, choices = getattr(self, each.name), each.metadata["choices"]
            if value not in choices or isinstance(value, bool) is not isinstance(each.default, bool):
                words = [str(word) for word in choices]
                raise InvalidOption(f"{each.name}={value!r}: takes {' or '.join(words)}{suggest(str(value), words)}")
