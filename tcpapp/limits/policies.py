"""Policies: what a server does where more than one reaction is possible."""

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
    Policies: the reaction to a peer that is over a limit or to a missing address family, and the sending of small
    writes.

    Raises `InvalidOption` for a value that is no choice.
    """

    over_max_connections: str = choice(
        "refuse",
        ("refuse", "reset", "wait"),
        "When max_connections is reached: close new connections at once, reset them, or leave them in the backlog",
        side="server",
    )
    over_per_address: str = choice(
        "refuse",
        ("refuse", "reset"),
        "When max_per_address or max_per_network is reached: close new connections at once, or reset them",
        side="server",
    )
    over_rate: str = choice(
        "wait",
        ("wait", "refuse", "reset"),
        "Over message_rate or byte_rate: read no faster, close once the received messages are handled, or reset",
    )

    missing_family: str = choice(
        "refuse",
        ("refuse", "skip"),
        "When this machine lacks the address family of an endpoint, such as IPv6: listen nowhere, or on the others",
        side="server",
    )
    no_delay: bool = switch(
        True,
        "Send small writes at once (TCP_NODELAY). If off, the system can hold each back for about 40 ms",
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value, choices = getattr(self, each.name), each.metadata["choices"]
            if value not in choices or isinstance(value, bool) is not isinstance(each.default, bool):
                words = [str(word) for word in choices]
                raise InvalidOption(f"{each.name}={value!r}: takes {' or '.join(words)}{suggest(str(value), words)}")
