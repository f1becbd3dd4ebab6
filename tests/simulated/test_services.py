"""
Whole services over networks with many faults, and what must hold in every run, with every seed.

Each scenario is one run. It ends when no fault is left, everything is closed, and nothing is left open.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import ConnectError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.task import deferLater

import tcpapp
from tcpapp import Limits, MessageServerFactory, MessageService, State, Telemetry, Timeouts
from tcpapp.errors import NotConnected, TimedOut
from tcpapp.telemetry import Closed, Event, LateReply, Opened, Refused
from tcpapp.testing.simulation import faults, simulate
from tests.peers import outcome

if TYPE_CHECKING:
    from tcpapp.testing.simulation import Simulation
    from tcpapp.testing.simulation.host import Host

DELAYS = ("partition", "slow", "line")
"""Faults that only delay: no sent byte is lost by them."""

ENDS = (*DELAYS, "reset", "half-open", "jump")
"""Faults that can also end connections."""

SETTLED = 86_400.0
"""Seconds after the last fault in which all delayed bytes arrive. Clocks were set back by some hours at most."""

MOST_EVENTS = 20_000
"""Events of a run at most: ten times as many as a run takes."""

PATIENT = Timeouts(connect=0, request=0)
"""Timeouts of clients that wait without a limit."""


def hold(scenario: Any, runs: int) -> None:
    """
    Run the scenario with this many seeds, or with as many as RUNS in the environment says.

    A run that fails or never comes to rest is reported within seconds.
    """
    runs = int(os.environ.get("RUNS", runs))
    assert simulate(scenario, seeds=range(runs), keep=2000, at_most=MOST_EVENTS, shrinks=30) == runs


def clients_of(sim: Simulation, count: int) -> list[Host]:
    return [sim.host(f"client{number}") for number in range(count)]


def connect(client: Host, **options: Any) -> Deferred[Any]:
    return tcpapp.connect("tcp:server:7007", reactor=client.reactor, **options)


async def nothing_is_left(sim: Simulation, *servers: Any) -> None:
    """Close the servers, and check that no connection, no port and no timer is left."""
    await gatherResults([each.close() for each in servers])
    await sim.sleep(SETTLED)
    assert sim.left() == []


# A drain under load ---------------------------------------------------------------------------------------------------

DEADLINE = 5.0


async def a_drain_under_load(sim: Simulation) -> None:
    """Let clients send requests one at a time to a slow app, and drain the server in the middle."""
    server = sim.host("server")
    answered: dict[Any, list[bytes]] = {}
    reasons: dict[Any, tcpapp.CloseReason] = {}

    class Slow:
        async def received(self, message: bytes, connection: Any) -> bytes:
            await deferLater(server.reactor, 100.0 if sim.chance(0.05) else sim.between(0.0, 3.0))
            answered.setdefault(connection.peer, []).append(message)
            return message

        def closed(self, connection: Any, reason: tcpapp.CloseReason) -> None:
            reasons[connection.peer] = reason

    listening = await tcpapp.listen("tcp:7007", Slow, reactor=server.reactor)
    told: dict[Any, list[bytes]] = {}

    async def ask(client: Host) -> None:
        connection = await connect(client, timeouts=PATIENT)
        replies = told.setdefault(connection.host, [])
        try:
            while True:
                replies.append(await connection.request(b"request %d" % len(replies), timeout=300))
        except (NotConnected, TimedOut):  # when the reset was lost, the client does not learn of the cut
            connection.abort()

    asking = [Deferred.fromCoroutine(ask(each)) for each in clients_of(sim, 8)]
    faults(sim, until=30.0, every=1.0, kinds=DELAYS)
    await sim.sleep(sim.between(5.0, 20.0))
    began = sim.now
    cut = await listening.drain(DEADLINE)
    assert sim.now - began < DEADLINE + 0.001
    assert cut == sum(not reason.clean for reason in reasons.values() if reason.rule == "drain-over")
    await gatherResults(asking)
    for peer, reason in reasons.items():
        if reason.rule == "drained":
            assert told[peer] == answered.get(peer, [])
    await nothing_is_left(sim)


def test_a_drain_loses_no_request_that_was_answered_and_ends_within_its_deadline() -> None:
    """
    A drain ends by its deadline. Each reply that the app gave on a drained connection reaches its client, however late.
    """
    hold(a_drain_under_load, runs=8)


# Deferreds ------------------------------------------------------------------------------------------------------------


class Waiting:
    """A client that waits for everything possible, and cancels some of it."""

    def __init__(self, sim: Simulation, connection: Any) -> None:
        self.sim = sim
        self.connection = connection
        self.told: list[list[Any]] = [outcome(connection.when_closed())]

    def go_on(self, until: float) -> None:
        """Do something now and then, until this moment."""
        if self.sim.now < until:
            self.do_something()
            self.sim.call_later(self.sim.between(0.0, 2.0), self.go_on, until)

    def do_something(self) -> None:
        connection, sim = self.connection, self.sim
        deferred: Deferred[Any] = sim.pick(
            (
                partial(connection.request, b"request", 5),
                partial(connection.send, b"message"),
                partial(connection.send, b"x" * 300_000),
                connection.receive,
                connection.when_closed,
                partial(connection.request, b"request"),
            )
        )()
        self.told.append(outcome(deferred))
        if sim.chance(0.2):
            sim.call_later(sim.between(0.0, 3.0), deferred.cancel)
        if sim.chance(0.02):
            self.told.append(outcome(connection.close(sim.between(0.0, 5.0))))
        elif sim.chance(0.01):
            connection.abort()


async def everything_is_waited_for(sim: Simulation) -> None:
    """Let clients and the server wait for many things, and close all connections at the end."""
    waiting: list[Waiting] = []

    class Asking:
        """An app that also waits on its own connection, and is sometimes slow."""

        def opened(self, connection: Any) -> None:
            waiting.append(Waiting(sim, connection))
            waiting[-1].go_on(30.0)

        def received(self, message: bytes, connection: Any) -> Any:
            return deferLater(server.reactor, sim.between(0.0, 3.0), bytes, message) if sim.chance(0.3) else message

    server = sim.host("server")
    listening = await tcpapp.listen("tcp:7007", Asking, reactor=server.reactor)
    for client in clients_of(sim, 4):
        waiting.append(Waiting(sim, await connect(client)))
        waiting[-1].go_on(30.0)
    faults(sim, until=40.0, every=1.0, kinds=ENDS)
    await sim.sleep(60.0)
    await gatherResults([each.connection.close() for each in waiting])
    await nothing_is_left(sim, listening)
    for each in waiting:
        assert {1} == {len(told) for told in each.told}, each.told


def test_every_deferred_fires_once_whatever_happens() -> None:
    """Each Deferred of both sides fires exactly once, in use and at the end."""
    hold(everything_is_waited_for, runs=6)


# Suspended ------------------------------------------------------------------------------------------------------------


async def a_server_that_is_suspended_now_and_then(sim: Simulation) -> None:
    """Let clients come, send one request and leave, while the server is suspended and resumed."""
    server = sim.host("server")
    suspended = False
    taken_in: list[bool] = []

    def note(event: Event) -> None:
        if isinstance(event, Opened):
            taken_in.append(suspended)

    listening = await tcpapp.listen("tcp:7007", lambda m, c: m, reactor=server.reactor, telemetry=Telemetry(note))
    replies: list[bytes] = []

    async def visit(client: Host, number: int) -> None:
        await sim.sleep(sim.between(0.0, 30.0))
        connection = await connect(client, timeouts=PATIENT)
        replies.append(await connection.request(b"%d" % number))
        await connection.close()

    visits = [Deferred.fromCoroutine(visit(each, number)) for number, each in enumerate(clients_of(sim, 15))]
    faults(sim, until=30.0, every=2.0, kinds=DELAYS)
    for _ in range(6):
        listening.suspend()
        suspended = True
        await sim.sleep(sim.between(0.0, 6.0))
        suspended = False
        listening.resume()
        await sim.sleep(sim.between(0.0, 3.0))
    await gatherResults(visits)
    assert sorted(map(int, replies)) == list(range(15))
    assert taken_in == [False] * 15
    await nothing_is_left(sim, listening)


def test_clients_of_a_suspended_service_wait_and_are_served() -> None:
    """While the server is suspended no client is accepted, and in the end every client is served."""
    hold(a_server_that_is_suspended_now_and_then, runs=8)


# Stopped and started --------------------------------------------------------------------------------------------------


def visits_until_served(sim: Simulation, client: Host, done: list[bool]) -> Deferred[int]:
    """Reconnect again and again until a request was answered after all was `done`. Return the number of answers."""

    async def come_back() -> int:
        count = 0
        while True:
            last = bool(done)
            try:
                connection = await connect(client, timeouts=Timeouts(connect=3, request=3))
                while True:
                    assert await connection.request(b"%d" % count) == b"%d" % count
                    count += 1
                    if last:
                        await connection.close()
                        return count
                    await sim.sleep(sim.between(0.0, 1.0))
                    last = bool(done)
            except (NotConnected, ConnectError, ConnectTimeout):
                await sim.sleep(sim.between(0.1, 1.0))
            except TimedOut:
                connection.abort()

    return Deferred.fromCoroutine(come_back())


async def a_service_that_stops_and_starts(sim: Simulation) -> None:
    """Stop the service and start it on its port five times, while clients reconnect each time."""
    server = sim.host("server")
    factory = MessageServerFactory(lambda message, connection: message, timeouts=Timeouts(drain=2))
    service = MessageService(factory, ["tcp:7007"], server.reactor)
    done: list[bool] = []
    visits = [visits_until_served(sim, each, done) for each in clients_of(sim, 5)]
    faults(sim, until=25.0, every=2.0, kinds=ENDS)
    for _ in range(5):
        service.startService()
        await sim.sleep(sim.between(1.0, 5.0))
        await service.stopService()
        assert (service.addresses, len(factory.connections)) == ([], 0)
        await sim.sleep(sim.between(0.0, 2.0))
    service.startService()
    done.append(True)
    assert all(count > 0 for count in await gatherResults(visits))
    await service.stopService()
    await nothing_is_left(sim)


def test_a_service_that_stops_and_starts_serves_returning_clients() -> None:
    """A stopped service has no connection and no port. After each start, clients that reconnect are served."""
    hold(a_service_that_stops_and_starts, runs=6)


async def a_service_whose_host_goes_down(sim: Simulation) -> None:
    """Crash the server's process or machine now and then, and start the service when it runs again."""
    services: list[MessageService] = []

    def boot(host: Host) -> None:
        factory = MessageServerFactory(lambda message, connection: message, timeouts=Timeouts(drain=2))
        services.append(MessageService(factory, ["tcp:7007"], host.reactor))
        services[-1].startService()

    server = sim.host("server", boot)
    done: list[bool] = []
    visits = [visits_until_served(sim, each, done) for each in clients_of(sim, 5)]
    faults(sim, until=25.0, every=2.0, hosts=[server], kinds=("crash", "exit", "partition"))
    await sim.sleep(25.0)
    done.append(True)
    assert all(count > 0 for count in await gatherResults(visits))
    await services[-1].stopService()
    await nothing_is_left(sim)


def test_a_service_whose_host_goes_down_serves_returning_clients() -> None:
    """
    A client of a crashed process learns of it, at the latest by its own timeouts, and is served by the next process.
    """
    hold(a_service_whose_host_goes_down, runs=6)


# Limits ---------------------------------------------------------------------------------------------------------------

MOST = 4


async def many_clients(sim: Simulation) -> None:
    """Let more clients come than the limit allows. Each sends one request, stays a little, and leaves."""
    server = sim.host("server")
    events: list[Event] = []
    listening = await tcpapp.listen(
        "tcp:7007",
        lambda message, connection: message,
        reactor=server.reactor,
        limits=Limits(max_connections=MOST),
        telemetry=Telemetry(events.append),
    )
    served: list[bool] = []

    async def visit(client: Host) -> None:
        await sim.sleep(sim.between(0.0, 10.0))
        connection = await connect(client, timeouts=PATIENT)
        try:
            served.append(await connection.request(b"here") == b"here")
            await sim.sleep(sim.between(0.0, 3.0))
            await connection.close()
        except NotConnected:
            served.append(False)

    faults(sim, until=15.0, every=1.0, kinds=DELAYS)
    await gatherResults([Deferred.fromCoroutine(visit(each)) for each in clients_of(sim, 20)])
    await sim.sleep(SETTLED)
    steps = [{Opened: 1, Closed: -1}.get(type(each), 0) for each in events]
    assert max(accumulate(steps)) <= MOST
    turned_away = sum(isinstance(each, Refused) for each in events)
    assert listening.refused == turned_away == served.count(False)
    assert steps.count(1) == served.count(True) == 20 - turned_away
    await nothing_is_left(sim, listening)


def test_clients_over_the_limit_are_refused_and_counted() -> None:
    """
    There are never more connections than the limit. Each accepted client is served; each other one is closed and
    counted.
    """
    hold(many_clients, runs=8)


# Replies -------------------------------------------------------------------------------------------------------------


async def replies_are_matched(sim: Simulation, *, key: Any, app: Any) -> None:
    """Let clients have many requests in flight to a slow server, and give up some of them."""
    server = sim.host("server")
    options: dict[str, Any] = {"reactor": server.reactor, "timeouts": Timeouts(idle=0)}
    listening = await tcpapp.listen("tcp:7007", partial(app, sim, server.reactor), **options)
    asked: list[tuple[bytes, list[Any], bool]] = []
    events: list[Event] = []

    def ask(connection: Any, number: int) -> None:
        message = b"%d of %d" % (number, connection.host.port)
        may_fail = sim.chance(0.3)
        reply = connection.request(message, sim.between(0.1, 5.0) if may_fail else 0)
        asked.append((message, outcome(reply), may_fail))
        if may_fail and sim.chance(0.5):
            sim.call_later(sim.between(0.0, 5.0), reply.cancel)

    options = {"key": key, "telemetry": Telemetry(events.append)}
    connections = [await connect(each, **options) for each in clients_of(sim, 3)]
    for connection in connections:
        for number in range(25):
            sim.call_later(sim.between(0.0, 10.0), ask, connection, number)
    faults(sim, until=20.0, every=1.0, kinds=DELAYS)
    await sim.sleep(20.0 + SETTLED)
    assert len(asked) == 75
    given_up = 0
    for message, told, may_fail in asked:
        failed = may_fail and isinstance(told[0], (TimedOut, CancelledError))
        given_up += failed
        assert failed or told == [message + b" answered"], (message, told)
    assert sum(isinstance(each, LateReply) for each in events) == given_up
    assert all(each.state is State.OPEN for each in connections)
    await nothing_is_left(sim, *connections, listening)


def answer_in_any_order(sim: Simulation, reactor: Any, message: bytes, connection: Any) -> None:
    """Answer each message after a random time, many at a time. It is the app of the server."""
    reactor.callLater(sim.between(0.0, 5.0), connection.send, message + b" answered")


def answer_in_order(sim: Simulation, reactor: Any, message: bytes, connection: Any) -> Deferred[bytes]:
    """Answer one message at a time, each after a random time. It is the app of the server."""
    return deferLater(reactor, sim.between(0.0, 1.0), bytes, message + b" answered")


def test_each_request_is_given_its_own_reply_in_whatever_order_they_come() -> None:
    """
    With a `key`, each request gets its own reply in any order. The late reply to a cancelled request goes to none.
    """
    hold(partial(replies_are_matched, key=lambda message: message.split()[0], app=answer_in_any_order), runs=5)


def test_each_request_is_given_its_own_reply_in_order() -> None:
    """
    Without a `key`, each request gets its own reply. The late reply to one that was given up does not go to the next.
    """
    hold(partial(replies_are_matched, key=None, app=answer_in_order), runs=5)
