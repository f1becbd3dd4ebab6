"""Time: the server says the time each second, until the client leaves or the server stops."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure

from tcpapp import MessageProtocol, MessageServerFactory, State, Telemetry, Timeouts
from tcpapp.apps import time
from tcpapp.telemetry import AppFailed

LINE = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\n"


def connected(**options: Any) -> tuple[MessageProtocol, Clock, list[Any]]:
    clock, events = Clock(), []
    factory = MessageServerFactory(time, clock=clock, telemetry=Telemetry(events.append), **options)
    connection = factory.buildProtocol(None)
    transport = StringTransportWithDisconnection()
    transport.protocol = connection
    connection.makeConnection(transport)
    return connection, clock, events


def told(connection: MessageProtocol) -> int:
    """How often the time was told; nothing else may have been."""
    assert re.fullmatch(rb"(%s)*" % LINE, connection.transport.value())
    return connection.transport.value().count(b"\n")


def test_the_time_is_told_at_once_and_each_second() -> None:
    """A line comes at the start, and one a second; what the clock does not say is not sent."""
    connection, clock, _ = connected()
    assert told(connection) == 1
    clock.advance(0.99)
    assert told(connection) == 1
    clock.advance(0.01)
    assert told(connection) == 2
    clock.pump([1, 1, 1])
    assert told(connection) == 5


def test_what_the_client_says_is_passed_over() -> None:
    """A client that talks neither hurries the clock nor fills memory."""
    connection, clock, _ = connected()
    connection.dataReceived(b"what time is it?\n" * 100_000)
    assert told(connection) == 1
    assert connection.transport.producerState == "producing"
    clock.advance(1)
    assert told(connection) == 2


def test_a_slow_client_is_told_less_often() -> None:
    """While the transport asks for no more, no line is added; then the next second's comes."""
    connection, clock, _ = connected(timeouts=Timeouts(send_progress=0))
    connection.transport.producer.pauseProducing()
    clock.pump([1] * 10)
    assert told(connection) == 1
    connection.transport.producer.resumeProducing()
    assert told(connection) == 2
    clock.advance(1)
    assert told(connection) == 3


def ended(connection: MessageProtocol, clock: Clock, events: list[Any]) -> str:
    """The rule by which it ended; no timer is left, and the app did not fail."""
    assert connection.state is State.CLOSED
    assert clock.getDelayedCalls() == []
    assert not [event for event in events if isinstance(event, AppFailed)]
    return connection.when_closed().result.rule


def test_it_ends_when_the_client_leaves() -> None:
    """A client that closes its side, or both, is told no more."""
    connection, clock, events = connected()
    connection.readConnectionLost()
    assert ended(connection, clock, events) == "end-of-stream"
    connection, clock, events = connected()
    connection.connectionLost(Failure(ConnectionDone()))
    assert ended(connection, clock, events) == "end-of-stream"


def test_it_ends_when_the_network_fails() -> None:
    """A reset is nobody's failure but the network's."""
    connection, clock, events = connected()
    connection.connectionLost(Failure(ConnectionLost()))
    assert ended(connection, clock, events) == "lost"


def test_it_ends_when_the_network_fails_while_the_client_is_slow() -> None:
    """A line that waits to be sent keeps nothing alive."""
    connection, clock, events = connected()
    connection.transport.producer.pauseProducing()
    clock.pump([1, 1])
    connection.connectionLost(Failure(ConnectionLost()))
    assert ended(connection, clock, events) == "lost"


def test_it_is_served_without_a_codec() -> None:
    """Its messages are bytes: with a codec it fails at once, and no client waits for nothing."""
    connection, _, events = connected(codec="text")
    assert connection.when_closed().result.rule == "app-failed"
    assert [AppFailed] == [type(event) for event in events if isinstance(event, AppFailed)]


def test_it_does_not_hold_up_a_drain() -> None:
    """When the server stops, the conversation ends at once: nothing is in hand."""
    connection, clock, events = connected()
    clock.advance(1)
    connection.drain()
    assert ended(connection, clock, events) == "drained"
