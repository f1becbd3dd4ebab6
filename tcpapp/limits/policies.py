"""What is done where there is a choice."""

from __future__ import annotations

from dataclasses import dataclass, fields

from tcpapp.errors import InvalidOption
from tcpapp.limits.numbers import choice, switch
from tcpapp.spec import suggest

__all__ = ["Policies"]


@dataclass(frozen=True)
class Policies:
    """
    What is done where there is a choice: about a peer that is over a limit, what cannot be, and small writes.

    Raises `InvalidOption` for what is none.
    """

    full: str = choice(
        "refuse",
        ("refuse", "reset", "wait"),
        "who comes when max_connections are open: closed at once, reset, or left waiting in the backlog",
    )
    crowded: str = choice(
        "refuse",
        ("refuse", "reset"),
        "who comes when max_per_address or max_per_network are open: closed at once, or reset",
    )
    too_fast: str = choice(
        "wait",
        ("wait", "refuse", "reset"),
        "who sends more than message_rate or byte_rate: read no faster, closed when what came is handled, or reset",
    )

    missing_family: str = choice(
        "refuse",
        ("refuse", "skip"),
        "an endpoint of an address family that this machine does not have, IPv6 say: listen nowhere, or on the others",
    )
    no_delay: bool = switch(
        True,
        "small writes: on, they are sent at once (TCP_NODELAY); off, the system may hold each back for some 40 ms",
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value, choices = getattr(self, each.name), each.metadata["choices"]
            if value not in choices or isinstance(value, bool) is not isinstance(each.default, bool):
                words = [str(word) for word in choices]
                raise InvalidOption(f"{each.name}={value!r}: takes {' or '.join(words)}{suggest(str(value), words)}")
