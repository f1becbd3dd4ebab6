"""The server's factory: its connections, their limits, and how all connections end."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, FirstError
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocolFactory
from zope.interface.verify import verifyObject

from tcpapp import (
    Limits,
    MessageClientFactory,
    MessageProtocol,
    MessageServerFactory,
    State,
    Telemetry,
    Timeouts,
)
from tcpapp.apps import echo
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import InvalidFraming, InvalidOption
from tcpapp.limits.admission import Refusal
from tcpapp.server.factory import RefusedProtocol
from tcpapp.telemetry import Closed, Event, Opened, Refused
from tests.peers import PEER, Switch, joined, never, outcome
from tests.server.servers import Server, rules

# The factory ----------------------------------------------------------------------------------------------------------


def test_the_factory_is_a_factory_of_twisted() -> None:
    """The factory provides Twisted's `IProtocolFactory`, and Twisted logs no line when it starts."""
    factory = MessageServerFactory(echo)
    assert verifyObject(IProtocolFactory, factory)
    assert not factory.noisy


def test_a_connection_is_known_from_beginning_to_end() -> None:
    """The connection is in `factory.connections` from `connectionMade` to `connectionLost`."""
    server = Server()
    client = server.connect()
    assert {client.connection} == server.factory.connections
    assert protocol_of(client.connection).factory is server.factory
    client.lose(ConnectionLost())
    assert set() == server.factory.connections
    assert [Opened, Closed] == [type(event) for event in server.events]


@pytest.mark.parametrize(
    ("said", "reason", "probe"),
    [
        (b"", ConnectionLost(), True),
        (b"", None, True),
        (b"h", ConnectionLost(), False),
        (b"hello\n", None, False),
    ],
)
def test_a_connection_that_ends_without_a_byte_was_a_probe(said: bytes, reason: Any, probe: bool) -> None:
    """A connection that the peer closes or resets without a byte is a probe, and is counted like any other."""
    server = Server()
    client = server.connect()
    client.receive(said)
    client.lose(reason)
    closed = server.events[-1]
    assert isinstance(closed, Closed)
    assert closed.probe == probe
    assert server.factory.connection_counts.closed.total() == 1


def test_a_connection_that_the_server_ends_is_no_probe() -> None:
    """A connection that ends by a timeout of the server is no probe, even if the peer sent no byte."""
    server = Server(timeouts=Timeouts(first_message=1))
    client = server.connect()
    server.clock.advance(1.1)
    client.turn()
    closed = server.events[-1]
    assert isinstance(closed, Closed)
    assert (closed.reason.rule, closed.probe) == ("first-message-timeout", False)


def test_a_client_has_no_probes() -> None:
    """On a client, a connection that ends without a byte is no probe: the client must learn that the server left."""
    events: list[Event] = []
    factory = MessageClientFactory(telemetry=Telemetry(events.append))
    transport = joined(factory)
    transport.lose(ConnectionLost())
    closed = events[-1]
    assert isinstance(closed, Closed)
    assert not closed.probe


def test_a_connection_that_is_built_and_never_made_is_not_counted() -> None:
    """A protocol whose transport never connects takes no place of `max_connections`."""
    server = Server(limits=Limits(max_connections=1))
    server.factory.buildProtocol(PEER)
    assert isinstance(server.factory.buildProtocol(PEER), MessageProtocol)


def test_connections_do_not_share_state() -> None:
    """The first half of a message on one connection is not joined to bytes of another connection."""
    server = Server()
    one, other = server.connect(), server.connect()
    one.receive(b"on")
    other.receive(b"two\n")
    one.receive(b"e\n")
    assert (one.value(), other.value()) == (b"one\n", b"two\n")


def test_a_client_over_the_limit_is_refused() -> None:
    """A client over `max_connections` is closed at once, counted and reported; open connections stay open."""
    server = Server(limits=Limits(max_connections=2))
    there = [server.connect(), server.connect()]
    over = server.connect()
    server.clock.advance(0)
    assert isinstance(over.connection, RefusedProtocol)
    assert (over.connected, over.finished, over.was_abrupt) == (False, True, False)
    assert {each.connection for each in there} == server.factory.connections
    assert server.factory.refused == 1
    assert Refused(PEER, 2, Refusal("max-connections", 2, 2)) == server.events[-1]


@pytest.mark.parametrize(("said", "hint"), [("EMFILE", True), ("ENFILE", False)])
def test_a_failed_accept_is_counted_and_reported(said: str, hint: bool) -> None:
    """A failed accept is counted and reported. On EMFILE, the report also says what to check."""
    told: list[Event] = []
    factory = MessageServerFactory(echo, telemetry=Telemetry(told.append))
    factory._accept_failed(PEER, said)
    [refused] = [each for each in told if isinstance(each, Refused)]
    assert (refused.address, refused.refusal.rule, factory.refused) == (PEER, "not-accepted", 1)
    assert str(refused.refusal).startswith(f"the system could not accept it ({said})")
    assert ("check what besides connections uses them" in str(refused.refusal)) == hint


def test_refusing_needs_no_listener() -> None:
    """A client over the limit is counted also when no listener is registered with the telemetry."""
    factory = MessageServerFactory(echo, limits=Limits(max_connections=1), telemetry=Telemetry())
    joined(factory)
    assert isinstance(joined(factory).connection, RefusedProtocol)
    assert factory.refused == 1


def test_a_client_gets_the_place_of_an_ended_connection() -> None:
    """With `max_connections=1`, the next client is accepted once the first connection has ended."""
    server = Server(limits=Limits(max_connections=1))
    server.connect().connection.abort()
    server.clock.advance(0)
    assert State.OPEN is server.connect().connection.state
    assert server.factory.refused == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"app": 5}, InvalidOption),
        ({"app": echo, "framing": "morse"}, InvalidFraming),
        ({"app": echo, "codec": "yaml"}, InvalidOption),
        ({"app": echo, "limits": 5}, InvalidOption),
        ({"app": echo, "timeouts": Limits()}, InvalidOption),
        ({"app": echo, "limit": Limits()}, TypeError),
    ],
)
def test_wrong_settings_are_refused_at_once(arguments: dict[str, Any], error: type[Exception]) -> None:
    """An invalid argument raises when the factory is made."""
    with pytest.raises(error):
        MessageServerFactory(**arguments)


# The end of all connections -------------------------------------------------------------------------------------------


def test_draining_without_connections_is_done_at_once() -> None:
    """Without connections, the Deferreds of `drain` and `close` have fired when these return."""
    assert outcome(Server().factory.drain()) == [0]
    assert outcome(Server().factory.close()) == [None]


def test_draining_lets_each_connection_finish_its_work() -> None:
    """A drain closes an idle connection at once and a busy one after its reply, and then fires with 0 cut ones."""
    app = Switch()
    server = Server(app)
    idle, busy = server.connect(), server.connect()
    busy.receive(b"work\n")
    drained = outcome(server.factory.drain())
    server.clock.advance(0)
    assert (idle.connection.state, busy.connection.state) == (State.CLOSED, State.INPUT_CLOSED)
    assert drained == []
    app.pending[0].callback(b"done")
    server.clock.advance(0)
    assert busy.value() == b"done\n"
    assert drained == [0]
    assert server.clock.getDelayedCalls() == []


def test_a_connection_with_half_a_message_is_not_counted_as_cut() -> None:
    """A drain closes a connection that has received half a message properly, and does not count it as cut."""
    server = Server()
    client = server.connect()
    client.receive(b"hal")
    drained = outcome(server.factory.drain())
    server.clock.advance(0)
    assert (drained, rules(client)) == ([0], ["drained"])


@pytest.mark.parametrize(("deadline", "seconds"), [(None, 7), (3, 3), (0, 0)])
def test_after_the_deadline_the_open_connections_are_cut(deadline: float | None, seconds: float) -> None:
    """Connections that are still busy at the deadline (by default ``timeouts.drain``) are cut and counted."""
    server = Server(never, timeouts=Timeouts(drain=7))
    for each in [server.connect(), server.connect()]:
        each.receive(b"work\n")
    server.connect()
    drained = outcome(server.factory.drain(deadline))
    server.clock.advance(seconds - 0.01 if seconds else 0)
    assert ([] if seconds else [2]) == drained
    server.clock.advance(0.01)
    assert drained == [2]
    assert set() == server.factory.connections


def test_draining_twice_keeps_the_sooner_deadline() -> None:
    """A second drain with an earlier deadline shortens the first; both Deferreds fire when the drain is over."""
    server = Server(never)
    server.connect().receive(b"work\n")
    first, second = outcome(server.factory.drain(10)), outcome(server.factory.drain(2))
    server.clock.advance(2)
    assert [first, second] == [[1], [1]]


def test_a_drain_continues_after_its_deferred_is_cancelled() -> None:
    """Cancelling the Deferred of `drain` ends only the waiting: the connections are still cut at the deadline."""
    server = Server(never)
    client = server.connect()
    client.receive(b"work\n")
    drained = server.factory.drain(5)
    drained.cancel()
    [error] = outcome(drained)
    assert type(error) is FirstError
    assert error.subFailure.check(CancelledError)
    server.clock.advance(5)
    assert rules(client) == ["drain-over"]


def test_closing_waits_for_no_app() -> None:
    """`close` flushes and closes a connection although its app still handles a message."""
    server = Server(never)
    client = server.connect()
    client.receive(b"work\n")
    closed = outcome(server.factory.close())
    server.clock.advance(0)
    assert (closed, rules(client)) == ([None], ["closed"])


def test_closing_is_bounded_by_its_grace() -> None:
    """`close(2)` cuts a connection whose peer does not read after two seconds."""
    server = Server()
    client = server.connect(peer_reads=False)
    client.receive(b"hello\n")
    closed = outcome(server.factory.close(2))
    server.clock.advance(1.99)
    assert closed == []
    server.clock.advance(0.01)
    assert (closed, rules(client)) == ([None], ["grace-over"])


def test_aborting_cuts_all_connections_at_once() -> None:
    """`abort` cuts every connection at once, and waits for no handler."""
    server = Server(never)
    clients = [server.connect(), server.connect()]
    server.factory.abort()
    assert all(each.aborted for each in clients)
    server.clock.advance(0)
    assert rules(*clients) == ["aborted", "aborted"]
