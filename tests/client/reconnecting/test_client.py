"""The client as its user sees it: making, receiving, iterating, and typed values."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.application.service import IService, MultiService
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tcpapp import Client, Recovery, conversation
from tcpapp.apps import echo
from tcpapp.client.reconnecting import Connected, Connecting, Stopped
from tcpapp.client.reconnecting.client import default_reactor
from tcpapp.errors import GiveUp, InvalidAddress, InvalidFraming, InvalidOption, NotConnected
from tests.peers import Hosts, outcome


def test_a_client_is_a_service_of_twisted(hosts: Hosts, client_of: Any) -> None:
    """A client starts and stops with its parent service."""
    hosts.listen(echo)
    client, parent = client_of(), MultiService()
    assert verifyObject(IService, client)
    client.setServiceParent(parent)
    parent.startService()
    hosts.run(client.when_connected())
    stopped = outcome(parent.stopService())
    hosts.wait()
    assert (len(stopped), client.state) == (1, Stopped())


@pytest.mark.parametrize(
    ("endpoint", "options", "error"),
    [
        ("tcp:server:65536", {}, InvalidAddress),
        (["tcp:server:7007", "pigeon:1"], {}, InvalidAddress),
        ([], {}, InvalidOption),
        ("tcp:server:7007", {"framing": "framnig"}, InvalidFraming),
        ("tcp:server:7007", {"codec": "josn"}, InvalidOption),
        ("tcp:server:7007", {"recovery": 5}, InvalidOption),
        ("tcp:server:7007", {"prepare": b"login"}, InvalidOption),
        ("tcp:server:7007", {"is_fatal": True}, InvalidOption),
    ],
)
def test_invalid_options_are_refused_when_a_client_is_made(
    endpoint: Any, options: Any, error: Any, client_of: Any
) -> None:
    """An invalid option raises when the client is made, and not when it connects."""
    with pytest.raises(error):
        client_of(endpoint, **options)


def test_the_reactor_is_the_global_one_unless_it_is_given() -> None:
    """A client without a reactor takes the global one when it is made."""
    from twisted.internet import reactor

    client: Client[Any, Any] = Client("tcp:localhost:7007")
    assert client._reactor is default_reactor() is reactor


def test_a_client_can_run_on_a_clock_of_its_own(hosts: Hosts) -> None:
    """The timers of a client run on the clock that it gets."""
    clock = Clock()
    client: Client[Any, Any] = Client("tcp:server:7007", reactor=hosts.client.reactor, clock=clock)
    client.startService()
    hosts.wait()
    assert len(clock.getDelayedCalls()) == 1
    client.stop()


@pytest.mark.parametrize(("seconds", "where"), [(0.0005, 7007), (0.5, 7007), (3, 1)])
def test_a_with_that_is_cancelled_while_it_is_entered_stops_the_client(
    seconds: float, where: int, hosts: Hosts, client_of: Any
) -> None:
    """If the ``async with`` is cancelled while the client connects, prepares or waits, the client stops."""
    server = hosts.listen(echo)
    preparing: list[Any] = []
    client = client_of(f"tcp:server:{where}", prepare=lambda connection: Deferred(preparing.append))

    async def use() -> None:
        async with client:
            raise AssertionError

    using = Deferred.fromCoroutine(use())
    told = outcome(using)
    hosts.wait(seconds)
    using.cancel()
    assert [CancelledError] == [type(each) for each in told]
    assert (client.state, client.running) == (Stopped(), 0)
    hosts.wait(60)
    assert (client.state, len(server.connections), len(preparing)) == (Stopped(), 0, int(seconds == 0.5))
    assert hosts.client.reactor.getDelayedCalls() == []


def test_a_with_that_is_cancelled_inside_stops_the_client(hosts: Hosts, client_of: Any) -> None:
    """An ``async with`` that is cancelled inside stops the client, even if it is cancelled a second time."""
    server = hosts.listen(echo)

    async def use(client: Any) -> None:
        async with client:
            await Deferred()

    for times in (1, 2):
        client = client_of()
        using = Deferred.fromCoroutine(use(client))
        told = outcome(using)
        hosts.wait()
        for _ in range(times):
            using.cancel()
        hosts.wait(60)
        assert [CancelledError] == [type(each) for each in told]
        assert (client.state, len(server.connections)) == (Stopped(), 0)


def test_a_with_that_cannot_be_entered_stops_the_client(hosts: Hosts, client_of: Any, logged_errors: Any) -> None:
    """If the client gives up, the ``async with`` raises the error, which is also in the client's state."""
    client = client_of(connect_now=True)

    async def use() -> None:
        async with client:
            raise AssertionError

    told = outcome(Deferred.fromCoroutine(use()))
    hosts.wait()
    assert client.state == Stopped(told[0])


def test_messages_are_received_from_whichever_connection_there_is(hosts: Hosts, client_of: Any) -> None:
    """A waiting receive goes on waiting after a loss. Messages from before the loss are received first."""
    server = hosts.listen()
    client = client_of()
    first = outcome(client.receive())
    assert isinstance(first[0], NotConnected)
    client.startService()
    first = outcome(client.receive())
    hosts.wait(7)
    for each in server.connections:
        for message in (b"one", b"two", b"three"):
            each.send(message)
    hosts.wait()
    assert first == [b"one"]
    for each in server.connections:
        each.close()
    hosts.wait(7)
    for each in server.connections:
        each.send(b"four")
    hosts.wait()
    assert [hosts.run(client.receive()) for _ in range(3)] == [b"two", b"three", b"four"]
    waits = client.receive()
    seen = outcome(waits)
    for each in server.connections:
        each.abort()
    hosts.wait(7)
    for each in server.connections:
        each.send(b"five")
    hosts.wait()
    assert seen == [b"five"]
    waits = client.receive()
    seen = outcome(waits)
    waits.cancel()
    assert isinstance(seen[0], CancelledError)


def test_the_unread_messages_of_lost_connections_are_bounded(hosts: Hosts, client_of: Any) -> None:
    """The client keeps the unread messages of 16 lost connections, and drops the oldest ones."""

    class Tells:
        def opened(self, connection: Any) -> None:
            connection.send(b"news")
            connection.close()

        def received(self, message: bytes, connection: Any) -> None:
            pass

    hosts.listen(Tells)
    client = client_of(recovery=Recovery(healthy_after=0))
    client.startService()
    hosts.wait(30)
    assert len(client._connector.unread) == 16


def test_a_client_is_iterated_until_it_stops(hosts: Hosts, client_of: Any) -> None:
    """The iteration goes on over several connections, and ends when the client stops."""
    server = hosts.listen()
    client = client_of()
    seen: list[Any] = []

    async def take() -> None:
        async with client:
            async for message in client:
                seen.append(message)
                if message == b"last":
                    await client.stop()
        seen.append("over")

    done = outcome(Deferred.fromCoroutine(take()))
    hosts.wait()
    for message in (b"first", b"last"):
        for each in server.connections:
            each.send(message)
            each.close()
        hosts.wait(7)
    assert (seen, done) == ([b"first", b"last", "over"], [None])


def test_the_error_of_a_client_that_gives_up_ends_the_iteration(
    hosts: Hosts, client_of: Any, logged_errors: Any
) -> None:
    """If the client gives up, the iteration raises the error."""
    hosts.listen(echo)
    error = GiveUp("no")

    def refuse(connection: Any) -> None:
        raise error

    client = client_of(prepare=refuse)

    async def take() -> None:
        client.startService()
        async for _ in client:
            pass

    done = outcome(Deferred.fromCoroutine(take()))
    hosts.wait()
    assert done == [error]


def test_values_go_both_ways(hosts: Hosts, client_of: Any) -> None:
    """A client with a codec sends and receives values."""
    hosts.listen(lambda value, _: {"you said": value}, codec="json")
    client = client_of(codec="json")
    hosts.run(client.start())
    assert hosts.run(client.request([1, 2])) == {"you said": [1, 2]}


def test_a_server_can_ask_its_client(hosts: Hosts, client_of: Any) -> None:
    """The app of a client answers the server's requests, on each connection."""
    answers: list[Any] = []

    @conversation
    async def asks(connection: Any) -> None:
        answers.append(await connection.request(b"how are you?"))

    hosts.listen(asks)
    client = client_of(app=lambda message, _: b"fine, thank you")
    client.startService()
    hosts.wait(2)
    assert answers[0] == b"fine, thank you"
    hosts.wait(5)
    assert len(answers) > 1


def test_a_receive_on_an_older_connection_moves_to_the_last_one(hosts: Hosts, client_of: Any) -> None:
    """If an older connection is lost, its waiting receive takes a message of the latest connection."""

    class Other:
        unread = 0

        def receive(self) -> Deferred[bytes]:
            return succeed(b"from the other")

    hosts.listen()
    client = client_of()
    hosts.run(client.start())
    connection = client.connection
    received = outcome(client.receive())
    client._connector.latest = Other()
    connection.abort()
    hosts.wait(0.001)
    assert received == [b"from the other"]
    client._connector.latest = connection


def test_the_states_of_a_client_can_be_iterated(hosts: Hosts, client_of: Any) -> None:
    """The iteration gives the states from the current one to the end of the client."""
    hosts.listen(echo)
    client, seen = client_of(), []

    async def watch() -> None:
        seen.extend([type(state) async for state in client.states()])

    Deferred.fromCoroutine(watch())
    hosts.run(client.start())
    client.stop()
    hosts.wait()
    assert seen == [Stopped, Connecting, Connected, Stopped]
