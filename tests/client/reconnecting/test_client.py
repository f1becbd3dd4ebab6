"""The client as its user sees it: made, received from, iterated, typed values, TLS."""

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


def test_it_is_one_of_twisteds_services(hosts: Hosts, client_of: Any) -> None:
    """It starts and stops with its parent."""
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
def test_what_cannot_be_is_said_when_it_is_made(endpoint: Any, options: Any, error: Any, client_of: Any) -> None:
    """And not when it connects."""
    with pytest.raises(error):
        client_of(endpoint, **options)


def test_the_reactor_is_the_global_one_unless_it_is_given() -> None:
    """It is looked for when a client is made."""
    from twisted.internet import reactor

    client: Client[Any, Any] = Client("tcp:localhost:7007")
    assert client._reactor is default_reactor() is reactor


def test_it_may_run_on_a_clock_of_its_own(hosts: Hosts) -> None:
    """As connections may."""
    clock = Clock()
    client: Client[Any, Any] = Client("tcp:server:7007", reactor=hosts.client.reactor, clock=clock)
    client.startService()
    hosts.wait()
    assert len(clock.getDelayedCalls()) == 1
    client.stop()


@pytest.mark.parametrize(("seconds", "where"), [(0.0005, 7007), (0.5, 7007), (3, 1)])
def test_a_with_that_is_cancelled_while_it_is_entered_stops_it(
    seconds: float, where: int, hosts: Hosts, client_of: Any
) -> None:
    """There is no exit from that block: while it connects, prepares, or waits before another attempt."""
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


def test_a_with_that_is_cancelled_inside_stops_it(hosts: Hosts, client_of: Any) -> None:
    """As any exception there does; also where it is cancelled again while it stops."""
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


def test_a_with_that_cannot_be_entered_stops_it(hosts: Hosts, client_of: Any, logged_errors: Any) -> None:
    """The error for which it gave up is raised, and is still its state."""
    client = client_of(connect_now=True)

    async def use() -> None:
        async with client:
            raise AssertionError

    told = outcome(Deferred.fromCoroutine(use()))
    hosts.wait()
    assert client.state == Stopped(told[0])


def test_messages_are_received_from_whichever_connection_there_is(hosts: Hosts, client_of: Any) -> None:
    """A waiting receive goes on waiting; messages that came before a loss are given first."""
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


def test_what_nobody_takes_of_many_lost_connections_is_bounded(hosts: Hosts, client_of: Any) -> None:
    """The oldest are dropped, and the log says how many messages they had."""

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


def test_it_is_iterated_until_it_stops(hosts: Hosts, client_of: Any) -> None:
    """Over any number of connections; where it gives up, that is raised."""
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


def test_the_error_it_gives_up_for_ends_the_iteration(hosts: Hosts, client_of: Any, logged_errors: Any) -> None:
    """The error is raised there, as in all waiting calls."""
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
    """As with any connection that has a codec."""
    hosts.listen(lambda value, _: {"you said": value}, codec="json")
    client = client_of(codec="json")
    hosts.run(client.start())
    assert hosts.run(client.request([1, 2])) == {"you said": [1, 2]}


def test_a_server_may_ask_its_client(hosts: Hosts, client_of: Any) -> None:
    """Its app answers, on whichever connection it is asked."""
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
    """It does not wait for a further one."""

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


def test_its_states_may_be_iterated(hosts: Hosts, client_of: Any) -> None:
    """From the one it is in to its end."""
    hosts.listen(echo)
    client, seen = client_of(), []

    async def watch() -> None:
        seen.extend([type(state) async for state in client.states()])

    Deferred.fromCoroutine(watch())
    hosts.run(client.start())
    client.stop()
    hosts.wait()
    assert seen == [Stopped, Connecting, Connected, Stopped]
