"""A connection: how it opens, the forms of app it serves, and its state before and after."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tcpapp.client.factory import MessageClientFactory
from tcpapp.close_reason import CloseReason
from tcpapp.connection.connection import Connection, State
from tcpapp.connection.protocol import MessageProtocol, protocol_of
from tcpapp.connection.settings import Settings
from tcpapp.errors import InvalidOption, NotConnected, UnsendableMessage
from tcpapp.limits import Policies
from tcpapp.server.factory import MessageServerFactory
from tcpapp.telemetry import AppFailed, Closed, LateReply, MessagesSkipped, Opened, Telemetry
from tcpapp.testing.transport import FakeTransport
from tests.peers import AbruptTransport, NotedTransport, Peer, result_of

# The forms of app -----------------------------------------------------------------------------------------------------


class Told:
    """An app with all three parts, which notes its calls."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []

    def opened(self, connection: Any) -> bytes:
        self.log.append(("opened", connection))
        return b"hello"

    def received(self, message: bytes, connection: Any) -> bytes:
        self.log.append(("received", message))
        return message

    def closed(self, connection: Any, reason: CloseReason) -> None:
        self.log.append(("closed", reason))


def test_a_function_is_an_app() -> None:
    """A function gets each message and returns the reply. `None` is no reply."""
    peer = Peer(lambda message, connection: message if message != b"quiet" else None)
    peer.says(b"a\nquiet\nb\n")
    assert peer.hears() == b"a\nb\n"


def test_an_async_function_is_an_app() -> None:
    """An async function can wait before it replies."""
    waited: Deferred[bytes] = Deferred()

    async def app(message: bytes, connection: Any) -> bytes:
        return message + await waited

    peer = Peer(app)
    peer.says(b"a\n")
    assert peer.hears() == b""
    waited.callback(b"!")
    assert peer.hears() == b"a!\n"


def test_the_methods_of_an_object_are_called_in_order() -> None:
    """The methods of an object are called in the order `opened`, `received`, `closed`."""
    app = Told()
    peer = Peer(app)
    assert peer.hears() == b"hello\n"
    peer.says(b"a\n")
    peer.leaves()
    assert app.log == [("opened", peer.connection), ("received", b"a"), ("closed", peer.reason)]


def test_a_class_is_made_anew_for_each_connection() -> None:
    """Each connection has its own instance of a class, so `self` is the state of one connection."""
    made: list[Any] = []

    class App(Told):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    peer = Peer(App)
    FakeTransport(protocol=peer.factory.buildProtocol(None))
    first, second = made
    assert len(first.log) == len(second.log) == 1


def test_a_class_whose_constructor_raises_closes_that_connection_alone() -> None:
    """If the constructor of a class raises, the app has failed, and no part of the app is called."""

    class App(Told):
        def __init__(self) -> None:
            raise ZeroDivisionError

    peer = Peer(App)
    assert peer.closing
    assert [type(event) for event in peer.events] == [Opened, AppFailed]
    peer.slips_in(b"a\n")
    peer.leaves()
    assert peer.reason.rule == "app-failed"
    assert peer.hears() == b""


def test_messages_wait_for_an_opened_that_waits() -> None:
    """While the Deferred of `opened` waits, messages wait. Its result is the first message sent."""
    greeting: Deferred[bytes] = Deferred()

    class App(Told):
        def opened(self, connection: Any) -> Any:
            return greeting

    app = App()
    peer = Peer(app)
    peer.says(b"a\n")
    assert app.log == []
    greeting.callback(b"hello")
    assert peer.hears() == b"hello\na\n"


@pytest.mark.parametrize("part", ["opened", "closed"])
@pytest.mark.parametrize("later", [False, True])
def test_an_exception_in_opened_or_closed_is_reported(part: str, later: bool) -> None:
    """A failure of `opened` closes the connection. A failure of `closed` comes after the end, and is reported."""

    async def fails(*args: Any) -> None:
        raise ZeroDivisionError

    def raises(*args: Any) -> None:
        raise ZeroDivisionError

    app = Told()
    setattr(app, part, fails if later else raises)
    peer = Peer(app)
    peer.leaves()
    [failed] = peer.told(AppFailed)
    assert failed.failure.check(ZeroDivisionError)
    assert peer.reason.rule == {"opened": "app-failed", "closed": "end-of-stream"}[part]


def test_closed_can_return_a_deferred() -> None:
    """`closed` can return a Deferred, as the other parts can."""
    app = Told()
    app.closed = lambda *_: succeed(None)  # type: ignore[method-assign,assignment]
    peer = Peer(app)
    peer.leaves()
    assert peer.told(AppFailed) == []


def test_an_app_without_received_leaves_the_messages_to_receive() -> None:
    """If an object has no `received`, `receive()` gets the messages."""

    class App:
        def opened(self, connection: Any) -> None: ...

    peer = Peer(App())
    peer.says(b"a\n")
    assert result_of(peer.connection.receive()) == b"a"


@pytest.mark.parametrize("call", ["close", "abort", "drain"])
def test_opened_can_end_the_connection(call: str) -> None:
    """`opened` can close, abort or drain the connection. The greeting is sent, unless the connection is aborted."""

    class App(Told):
        def opened(self, connection: Any) -> bytes:
            getattr(connection, call)()
            return b"goodbye"

    peer = Peer(App)
    assert peer.closing
    assert peer.hears() == b"goodbye\n" or call == "abort"
    peer.leaves()
    assert peer.reason.rule == {"close": "closed", "abort": "aborted", "drain": "drained"}[call]


def test_opened_can_send_pause_and_request() -> None:
    """Inside `opened`, the connection can already send, pause and request."""
    replies: list[bytes] = []

    class App(Told):
        def opened(self, connection: Any) -> None:
            connection.send(b"sent")
            connection.pause()
            connection.request(b"question").addCallback(replies.append)

    app = App()
    peer = Peer(app)
    assert peer.transport.writes == [b"sent\nquestion\n"]
    peer.says(b"answer\nmessage\n")
    assert replies == [b"answer"]
    assert app.log == []
    peer.connection.resume()
    assert app.log == [("received", b"message")]


def test_closed_can_call_everything() -> None:
    """Inside `closed`, calls fail with the reason or do nothing, and no timer is left."""
    results: list[Any] = []

    class App:
        def closed(self, connection: Any, reason: CloseReason) -> None:
            results.extend([result_of(connection.send(b"x")), result_of(connection.request(b"x"))])
            results.append(result_of(connection.receive()))
            assert result_of(connection.close(5.0)) is result_of(connection.when_closed()) is reason
            connection.abort()
            connection.drain(5.0)
            connection.pause()
            connection.resume()
            protocol_of(connection).connectionLost()

    peer = Peer(App())
    peer.leaves()
    assert [error.reason for error in results] == [peer.reason] * 3
    assert peer.clock.getDelayedCalls() == []


# Before and after -----------------------------------------------------------------------------------------------------


@pytest.fixture
def unopened() -> Connection:
    """Return a connection that has no transport yet."""
    protocol: Any = MessageServerFactory(None).buildProtocol(None)
    return protocol.connection


@pytest.mark.parametrize("call", ["send", "receive", "request", "close"])
def test_before_it_is_connected_a_connection_fails_with_not_connected(unopened: Connection, call: str) -> None:
    """Before the transport is connected, send, receive, request and close fail with `NotConnected`."""
    arguments = [b"x"] if call in {"send", "request"} else []
    error = result_of(getattr(unopened, call)(*arguments))
    assert isinstance(error, NotConnected)
    assert error.reason.rule == "unopened"
    assert unopened.state is State.UNOPENED


def test_before_it_is_connected_a_connection_takes_every_other_call(unopened: Connection) -> None:
    """Before the transport is connected, abort, drain, pause and resume do nothing, and `when_closed()` waits."""
    unopened.abort()
    unopened.drain()
    unopened.pause()
    unopened.resume()
    closed = unopened.when_closed()
    assert unopened.state is State.UNOPENED
    with pytest.raises(NotConnected):
        unopened.__anext__().send(None)
    FakeTransport(protocol=protocol_of(unopened)).lose()
    assert result_of(closed).rule == "end-of-stream"


def test_the_state_follows_the_connection() -> None:
    """The state of a connection is open, closing after `close()`, and closed after the end."""
    peer = Peer()
    states = [peer.connection.state]
    peer.connection.close()
    states.append(peer.connection.state)
    peer.leaves()
    assert [*states, peer.connection.state] == [State.OPEN, State.CLOSING, State.CLOSED]


def test_the_addresses_are_the_transports() -> None:
    """The addresses `peer` and `host` come from the transport."""
    host, peer = IPv4Address("TCP", "192.0.2.1", 1), IPv4Address("TCP", "192.0.2.2", 2)
    connection = Peer(transport=NotedTransport(hostAddress=host, peerAddress=peer)).connection
    assert (connection.peer, connection.host) == (peer, host)


def test_an_address_that_is_gone_raises_not_connected() -> None:
    """Transports of Twisted drop their own address at the end. Then `host` raises `NotConnected`."""

    class Dropping(NotedTransport):
        def getHost(self) -> Any:
            return self.socket.getsockname()

    peer = Peer(transport=Dropping())
    peer.leaves()
    with pytest.raises(NotConnected) as failed:
        _ = peer.connection.host
    assert failed.value.reason is peer.reason
    assert peer.connection.peer == peer.transport.getPeer()


def test_the_factory_knows_the_connection_from_its_opening_to_its_end() -> None:
    """The factory's `connections` contain the connection in `opened`, and no longer in `closed`."""
    known: list[bool] = []

    class App:
        def opened(self, connection: Any) -> None:
            known.append(connection in protocol_of(connection).factory.connections)

        def closed(self, connection: Any, reason: CloseReason) -> None:
            known.append(connection in protocol_of(connection).factory.connections)

    peer = Peer(App())
    peer.leaves()
    assert known == [True, False]


def test_a_connection_needs_no_factory_and_no_listener() -> None:
    """A protocol without a factory works, and events without listeners are no error."""
    protocol = MessageProtocol(Settings(lambda *_: b"long", "line:max=3:oversize=skip", telemetry=Telemetry()))
    connection, transport = protocol.connection, FakeTransport(protocol=protocol)
    connection.request(b"ask").addErrback(lambda _: None).cancel()
    transport.receive(b"long\nlate\nabc\nabc\n")
    transport.turn()
    assert transport.value() == b"ask\n"
    assert transport.disconnecting
    assert result_of(connection.when_closed()).rule == "app-failed"


def test_without_a_clock_and_a_reactor_no_timer_runs() -> None:
    """Over a plain `StringTransport`, which has no reactor, all calls work and no timer runs."""
    factory = MessageServerFactory(lambda *_: Deferred(), telemetry=Telemetry())
    protocol: Any = factory.buildProtocol(None)
    connection, transport = protocol.connection, StringTransport()
    protocol.makeConnection(transport)
    with pytest.raises(InvalidOption):
        protocol.clock  # noqa: B018 - to ask is the test
    request = connection.request(b"x", timeout=5)
    protocol.dataReceived(b"reply\nmessage\n")
    assert result_of(request) == b"reply"
    protocol.readConnectionLost()
    connection.drain(1)
    connection.close(1)
    protocol.connectionLost()


@pytest.mark.parametrize("at_once", [True, False])
def test_tcp_nodelay_is_set_unless_the_policy_leaves_it(at_once: bool) -> None:
    """TCP_NODELAY is set when a connection opens, unless the policy `no_delay` is false."""
    asked: list[object] = []
    transport = NotedTransport()
    transport.setTcpNoDelay = asked.append
    Peer(transport=transport, policies=Policies(no_delay=at_once))
    assert asked == [True] * at_once


def test_the_clock_is_the_transports_reactor_unless_another_is_given() -> None:
    """The timers of a connection run on the reactor of its transport, unless a clock is given."""
    reactor, other = Clock(), Clock()
    assert Peer(transport=NotedTransport(clock=reactor), clock=None).protocol.clock is reactor
    assert Peer(transport=NotedTransport(clock=reactor), clock=other).protocol.clock is other


@pytest.mark.source
def test_an_idle_connection_holds_no_container_and_no_dict() -> None:
    """An idle connection has only its fixed parts in memory, about 1,000 bytes, so that many of them are cheap."""
    peer = Peer(lambda message, _: message)
    peer.says(b"a\nb\n")
    connection, protocol = peer.connection, peer.protocol
    assert (hasattr(connection, "__dict__"), vars(protocol)) == (False, {})
    parts = [protocol._inbox, protocol._outbox, protocol._dispatcher, protocol._lifecycle]
    assert [part for part in parts if hasattr(part, "__dict__")] == []
    held = [
        getattr(part, name) for part in parts for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ())
    ]
    assert [
        value for value in held if isinstance(value, (dict, set, bytearray)) or type(value).__name__ == "deque"
    ] == []
    assert [value for value in held if isinstance(value, list)] == [[]]  # the list of the replies, which is kept
    assert sum(sys.getsizeof(part) for part in [connection, protocol, *parts]) < 1050


# The client's side ----------------------------------------------------------------------------------------------------


def test_a_waiter_for_a_client_can_end_it_at_once() -> None:
    """A callback of `when_connected()` can close, abort or drain the connection before the app opens."""
    for call, rule in [("close", "closed"), ("abort", "aborted"), ("drain", "drained")]:
        app = Told()
        factory = MessageClientFactory(app, telemetry=Telemetry())
        factory.when_connected().addCallback(lambda connection, call=call: getattr(connection, call)() and None)
        transport = FakeTransport(protocol=factory.buildProtocol(None))
        assert transport.disconnecting
        transport.turn()
        assert [entry[0] for entry in app.log][-1] == "closed"
        assert app.log[-1][1].rule == rule


def test_a_transport_that_ends_at_once_is_no_trouble() -> None:
    """If `close()` or `abort()` loses the transport before returning, the connection ends as any other."""
    for call, rule in [("close", "closed"), ("abort", "aborted")]:
        for message in [b"", b"a\n"]:
            peer = Peer(
                lambda _, connection, call=call: getattr(connection, call)() and b"", transport=AbruptTransport()
            )
            peer.says(message)
            if not message:
                getattr(peer.connection, call)()
            assert peer.reason.rule == rule
            assert peer.clock.getDelayedCalls() == []


def test_events_come_in_the_order_of_what_happened() -> None:
    """The events come in the order of what happened: `Opened` first, `Closed` last, each once."""
    peer = Peer(None, "line:max=3:oversize=skip", key=lambda message: message)
    peer.connection.request(b"a").addErrback(lambda _: None).cancel()
    peer.says(b"too long\nabc\nb")
    peer.leaves()
    assert [type(event) for event in peer.events] == [Opened, LateReply, MessagesSkipped, Closed]
    assert peer.reason.rule == "truncated-message"


@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_listener_can_end_a_connection_as_it_opens(end: str) -> None:
    """If a listener of `Opened` ends the connection, and its transport is lost at once, the app is not called."""
    app, events = Told(), []

    def listen(event: Any) -> None:
        events.append(type(event))
        if isinstance(event, Opened):
            getattr(event.connection, end)()

    factory = MessageServerFactory(app, telemetry=Telemetry(listen), clock=Clock())
    AbruptTransport().connect(factory.buildProtocol(None))
    assert (events, app.log, len(factory.connections)) == ([Opened, Closed], [], 0)


def test_an_unsendable_message_fails_alone() -> None:
    """A message that cannot be sent fails its own call, and the connection stays open."""
    peer = Peer(codec="text")
    for bad in (b"bytes", "two\nlines", "\ud800"):
        assert isinstance(result_of(peer.connection.send(bad)), UnsendableMessage)
        assert isinstance(result_of(peer.connection.request(bad)), UnsendableMessage)
    assert result_of(peer.connection.send("good")) is None
    assert peer.hears() == b"good\n"
    assert peer.connection.state is State.OPEN
