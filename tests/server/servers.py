"""A server's factory with clients in memory, for the tests of the server."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from tcpapp import (
    MessageServerFactory,
    Telemetry,
)
from tcpapp.apps import echo
from tcpapp.telemetry import Event
from tests.peers import NotedTransport, joined


class Server:
    """A factory with clients over fake transports, and a clock that the test advances."""

    def __init__(self, app: Any = echo, **options: Any) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        telemetry = Telemetry(self.events.append)
        self.factory = MessageServerFactory(app, clock=self.clock, telemetry=telemetry, **options)

    def connect(self, **options: Any) -> NotedTransport:
        """Connect a new client, and return its transport; the server's connection is its ``connection``."""
        return joined(self.factory, **options)


def rules(*transports: NotedTransport) -> list[str]:
    """Return the rules by which the connections of these transports ended."""
    return [each.connection.when_closed().result.rule for each in transports]
