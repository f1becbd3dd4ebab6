"""An app whose messages take time, and its server."""

from __future__ import annotations

from typing import Any

from tcpapp import MessageServerFactory, Telemetry, Timeouts
from tcpapp.connection.throttle import QUICK_BYTES
from tcpapp.framing import Framing
from tests.peers import NotedTransport, TurnClock

QUIET = Timeouts(first_message=0, idle=0, message_timeout=0, handler_timeout=0)
BUDGET = 250e-6


class Costly:
    """An app that works as many microseconds on a message as the message says."""

    def __init__(self, clock: TurnClock) -> None:
        self.clock = clock
        self.messages: list[bytes] = []

    def received(self, message: bytes, connection: Any) -> bytes:
        self.clock.rightNow += int(message) / 1e6
        self.messages.append(message)
        return message


class Server:
    """A server with an app whose messages take time, and peers of it."""

    def __init__(self, app: Any = None, framing: Framing | str = "line", **options: Any) -> None:
        self.clock = TurnClock()
        self.app = Costly(self.clock) if app is None else app(self.clock)
        self.events: list[Any] = []
        options = {"timeouts": QUIET, "telemetry": Telemetry(self.events.append), **options}
        self.factory = MessageServerFactory(self.app, framing, **options)

    def peer(self, **options: Any) -> NotedTransport:
        transport = NotedTransport(clock=self.clock, **options)
        transport.connect(self.factory.buildProtocol(None))
        return transport

    def answered(self, *peers: NotedTransport) -> list[int]:
        """Return how many lines each peer has received."""
        return [each.value().count(b"\n") for each in peers]

    def turns(self, most: int = 1000) -> int:
        """Make turns of the loop until nothing is left to do, and return their number."""
        for count in range(most):
            if not self.clock.getDelayedCalls():
                return count
            self.clock.give_turn()
        raise AssertionError


def costs(count: int, each: int) -> bytes:
    return b"%d\n" % each * count


def large(each: int) -> bytes:
    """Return a message that takes this many microseconds, and is longer than the messages that count as cheap."""
    return b"%*d\n" % (QUICK_BYTES + 1, each)


def paused(peer: NotedTransport) -> bool:
    return peer.producerState == "paused"
