"""A pool: several connections that are used as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.application.service import IService
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from tcpapp import Pool, Recovery, Timeouts
from tcpapp.apps import echo
from tcpapp.client.reconnecting import Stopped
from tcpapp.errors import GiveUp, InvalidOption, MaybeSent, NeverSent, NotConnected, TimedOut, UnsendableMessage
from tests.peers import Hosts, Switch, never, outcome, result_of


@pytest.fixture
def pool_of(hosts: Hosts) -> Callable[..., Pool[Any, Any]]:
    """Give ``pool_of(size, **options)``: a pool on ``hosts.client``, which is stopped after the test."""

    def make(size: int = 3, endpoint: Any = "tcp:server:7007", **options: Any) -> Pool[Any, Any]:
        pool: Pool[Any, Any] = Pool(endpoint, size, reactor=hosts.client.reactor, **options)

        def end() -> None:
            connections = [each.connection for each in pool.members]
            pool.stop()
            for each in connections:
                if each is not None:
                    each.abort()

        hosts.at_end.insert(0, end)
        return pool

    return make


def lose(server: Any, hosts: Hosts) -> None:
    """Abort all connections of `server`."""
    for each in server.connections:
        each.abort()
    hosts.wait(0.01)


def test_a_pool_is_a_service_whose_members_are_clients(hosts: Hosts, pool_of: Any) -> None:
    """A pool has started when its first member is connected. The other members connect, too."""
    server = hosts.listen(echo)
    pool = pool_of()
    assert verifyObject(IService, pool)
    assert isinstance(result_of(pool.when_connected()), NotConnected)
    assert hosts.run(pool.start()) is pool
    assert result_of(pool.when_connected()) is None
    hosts.wait()
    assert len(pool.connected) == len(server.connections) == 3
    stopped = outcome(pool.stopService())
    hosts.wait()
    assert (stopped, len(server.connections)) == ([None], 0)
    assert isinstance(result_of(pool.receive()), NotConnected)
    assert isinstance(result_of(pool.send(b"x")), NeverSent)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 0}, "size=0: takes a whole number of clients, 1 or more"),
        ({"size": True}, "size=True"),
        ({"check_every": 0}, "check_every=0: takes a number of seconds, more than 0"),
        ({"while_down": "wait"}, "while_down: a pool does not take it"),
    ],
)
def test_invalid_options_are_refused_when_a_pool_is_made(options: dict[str, Any], says: str, pool_of: Any) -> None:
    """An invalid option raises when the pool is made."""
    with pytest.raises(InvalidOption, match=says):
        pool_of(**options)


def test_requests_go_to_the_less_busy(hosts: Hosts, pool_of: Any) -> None:
    """Requests are spread nearly evenly, so that none waits behind a member that hangs while others are idle."""
    app = Switch()
    hosts.listen(app)
    pool = pool_of(4)
    hosts.run(pool.start())
    hosts.wait()
    for number in range(100):
        pool.request(b"%d" % number).addErrback(lambda _: None)
    busy = [each.unfinished for each in pool.members]
    assert sum(busy) == 100
    assert max(busy) - min(busy) <= 6


def test_a_pool_has_the_methods_of_a_client(hosts: Hosts, pool_of: Any) -> None:
    """Sends and requests have the same results and errors as on a client."""
    seen: list[bytes] = []

    def app(message: bytes, connection: Any) -> bytes | None:
        seen.append(message)
        return message if message != b"!" else None

    hosts.listen(app)
    pool = pool_of()
    hosts.run(pool.start())
    assert hosts.run(pool.request(b"hello")) == b"hello"
    assert hosts.run(pool.request(b"hello", 0)) == b"hello"
    assert result_of(pool.send(b"!")) is None
    hosts.wait()
    assert seen == [b"hello", b"hello", b"!"]
    assert isinstance(result_of(pool.request(b"late", -1)), TimedOut)
    assert isinstance(result_of(pool.request(b"a\nb")), UnsendableMessage)
    assert [each.message for each in pool.undelivered()] == []


def test_a_lost_member_is_replaced_and_others_serve_meanwhile(hosts: Hosts, pool_of: Any) -> None:
    """While a lost member reconnects, requests go to the other members."""
    hosts.listen(echo)
    pool = pool_of(2)
    hosts.run(pool.start())
    hosts.wait()
    pool.members[0].connection.abort()
    hosts.wait(0.001)
    assert len(pool.connected) == 1
    assert hosts.run(pool.request(b"hello")) == b"hello"
    hosts.wait(3)
    assert len(pool.connected) == 2


def test_while_no_member_is_connected_messages_wait_for_the_first(hosts: Hosts, pool_of: Any) -> None:
    """Messages wait for the first member as long as their timeouts allow, and up to `max_waiting` of them."""
    pool = pool_of(recovery=Recovery(max_waiting=2), timeouts=Timeouts(request=50))
    pool.startService()
    results = [outcome(pool.request(b"1", 0.5)), outcome(pool.send(b"2")), outcome(pool.send(b"3"))]
    assert "2 messages wait for a connection, which is the limit (max_waiting)" in str(results[2][0])
    hosts.wait(0.6)
    assert isinstance(results[0][0], NeverSent)
    server = hosts.listen(lambda message, _: None if message == b"2" else message)
    forever = outcome(pool.request(b"4", 0))
    hosts.wait(31)
    assert (results[1], forever, len(server.connections)) == ([None], [b"4"], 3)


def test_a_waiter_for_the_first_member_can_cancel_another(hosts: Hosts, pool_of: Any) -> None:
    """If a callback cancels another waiting call, that call gets only the cancellation."""
    pool = pool_of()
    pool.startService()
    one, other, third = (pool.when_connected() for _ in range(3))
    one.addCallback(lambda _: other.cancel())
    told = [outcome(each) for each in (one, other, third)]
    hosts.listen(echo)
    hosts.wait(31)
    assert [[type(error) for error in each] for each in told] == [[type(None)], [CancelledError], [type(None)]]


def test_an_idempotent_request_goes_to_another_member(hosts: Hosts, pool_of: Any) -> None:
    """If its connection is lost, an idempotent request is sent again, and any other request fails with `MaybeSent`."""
    app = Switch()
    server = hosts.listen(app)
    pool = pool_of(2)
    hosts.run(pool.start())
    hosts.wait()
    once, again = outcome(pool.request(b"once")), outcome(pool.request(b"again", idempotent=True))
    hosts.wait()
    lose(server, hosts)
    assert isinstance(once[0], MaybeSent)
    hosts.wait(3)
    assert app.seen.count(b"again") == 2
    app.pending[-1].callback(b"done")
    hosts.wait()
    assert again == [b"done"]


def test_a_message_that_a_lost_member_refuses_is_tried_again(hosts: Hosts, pool_of: Any) -> None:
    """A message is tried again if its member has lost its connection. If a connected member refuses it, it fails."""
    hosts.listen(echo)
    pool = pool_of(1)
    hosts.run(pool.start())
    member = pool.members[0]
    from tcpapp.close_reason import CloseReason, EndedBy

    reason = CloseReason(EndedBy.US, "closed", "no")
    tries: list[Any] = []

    def refuse(message: Any, *_: Any) -> Any:
        tries.append(message)
        if len(tries) == 1:
            member.connection.abort()
        raise NeverSent("no", reason, message)

    member.send = refuse
    result = outcome(pool.send(b"x"))
    assert result == []
    hosts.wait(3)
    assert isinstance(result[0], NeverSent)
    assert len(tries) == 2


def test_messages_are_received_from_any_member(hosts: Hosts, pool_of: Any) -> None:
    """Each waiting call takes one message of any member. Further messages are kept for the next calls."""
    server = hosts.listen()
    pool = pool_of(3)
    hosts.run(pool.start())
    hosts.wait()
    first, cancelled = pool.receive(), pool.receive()
    seen, gone = outcome(first), outcome(cancelled)
    cancelled.cancel()
    assert isinstance(gone[0], CancelledError)
    for number, each in enumerate(server.connections):
        each.send(b"%d" % number)
    hosts.wait()
    more = [hosts.run(pool.receive()) for _ in range(2)]
    assert sorted([*seen, *more]) == [b"0", b"1", b"2"]
    two = [outcome(pool.receive()), outcome(pool.receive())]
    for each in list(server.connections)[:1]:
        each.send(b"a")
        each.send(b"b")
    hosts.wait()
    assert two == [[b"a"], [b"b"]]
    waits = outcome(pool.receive())
    pool.stop()
    assert isinstance(waits[0], NotConnected)
    hosts.wait()


def test_checks_cut_a_member_that_fails_them(hosts: Hosts, pool_of: Any) -> None:
    """Every member is checked at its time. A member whose check raises is cut, and a healthy one is not."""

    def app(message: bytes, connection: Any) -> Any:
        return message if len(server.connections) > 2 or message != b"ping" else Deferred()

    server = hosts.listen(app)
    checked: list[Any] = []

    async def check(connection: Any) -> None:
        checked.append(connection)
        if len(checked) == 2:
            raise ValueError("unwell")
        await connection.request(b"ping")

    pool = pool_of(3, check=check, check_every=10, recovery=Recovery(prepare=2))
    hosts.run(pool.start())
    hosts.wait(9)
    assert checked == []
    hosts.wait(1.5)
    assert len(checked) == 3
    hosts.wait(1)
    assert checked[0].is_open
    assert not checked[1].is_open


def test_a_check_can_stop_another_member(hosts: Hosts, pool_of: Any) -> None:
    """If a check stops another member, the checks go on."""
    hosts.listen(echo)
    checked: list[Any] = []

    def check(connection: Any) -> None:
        checked.append(connection)
        for each in pool.members[1:]:
            each.stop()

    pool = pool_of(2, check=check, check_every=10)
    hosts.run(pool.start())
    hosts.wait(10)
    assert len(checked) == 1
    hosts.wait(10)
    assert len(checked) == 2


def test_a_check_has_its_time(hosts: Hosts, pool_of: Any) -> None:
    """A check that takes more than `prepare` seconds cuts its connection. With 0 a check has no time limit."""
    hosts.listen(never)
    for seconds in (2, 0):
        pool = pool_of(1, check=lambda connection: connection.request(b"ping", 0), recovery=Recovery(prepare=seconds))
        hosts.run(pool.start())
        connection = pool.members[0].connection
        hosts.wait(33)
        assert connection.is_open == (not seconds)
        pool.members[0].connection and pool.members[0].connection.abort()
        hosts.wait()
        pool.stop()
        hosts.wait()


def test_a_drain_answers_the_accepted_requests(hosts: Hosts, pool_of: Any) -> None:
    """A pool that drains answers all accepted requests, and accepts no more."""
    app = Switch()
    server = hosts.listen(app)
    pool = pool_of(2)
    hosts.run(pool.start())
    hosts.wait()
    asked = outcome(pool.request(b"one"))
    hosts.wait()
    drained = outcome(pool.drain())
    assert "the pool drains" in str(result_of(pool.send(b"two")))
    app.pending[0].callback(b"done")
    hosts.wait()
    assert (asked, drained, len(server.connections)) == ([b"done"], [0], 0)


def test_a_pool_whose_members_all_give_up_fails_its_calls(hosts: Hosts, pool_of: Any, logged_errors: Any) -> None:
    """If all members give up, the calls of the pool fail with the error of the members."""
    hosts.listen(echo)
    error = GiveUp("no")

    def refuse(connection: Any) -> None:
        raise error

    pool = pool_of(2, prepare=refuse)
    started, waits = outcome(pool.start()), outcome(pool.send(b"x"))
    hosts.wait()
    assert started == [error]
    assert str(waits[0]) == "there was no connection for it: no"
    assert outcome(pool.when_connected()) == [error]


def test_a_pool_runs_inside_a_with(hosts: Hosts, pool_of: Any) -> None:
    """A pool is connected inside its ``async with``, and stopped behind it."""
    server = hosts.listen(echo)

    async def use() -> Any:
        async with pool_of() as pool:
            return await pool.request(b"hello")

    assert hosts.run(Deferred.fromCoroutine(use())) == b"hello"
    hosts.wait()
    assert len(server.connections) == 0


@pytest.mark.parametrize("inside", [False, True])
def test_a_with_that_is_cancelled_stops_the_pool(inside: bool, hosts: Hosts, pool_of: Any) -> None:
    """An ``async with`` that is cancelled, inside or while it is entered, stops all members and the checks."""
    server = hosts.listen(echo)
    pool = pool_of(2, f"tcp:server:{7007 if inside else 1}", check=lambda connection: None, check_every=10)
    entered: list[Any] = []

    async def use() -> None:
        async with pool:
            entered.append(pool)
            await Deferred()

    using = Deferred.fromCoroutine(use())
    told = outcome(using)
    hosts.wait(3)
    assert entered == [pool] * inside
    using.cancel()
    hosts.wait(60)
    assert [CancelledError] == [type(each) for each in told]
    assert [each.state for each in pool.members] == [Stopped(), Stopped()]
    assert (pool.running, len(server.connections), hosts.client.reactor.getDelayedCalls()) == (0, 0, [])


def test_a_with_that_cannot_be_entered_stops_the_pool(hosts: Hosts, pool_of: Any, logged_errors: Any) -> None:
    """If all members give up, the ``async with`` raises the error, and no check is left."""
    hosts.listen(echo)
    error = GiveUp("no")

    def refuse(connection: Any) -> None:
        raise error

    async def use() -> None:
        async with pool_of(2, prepare=refuse, check=lambda connection: None):
            raise AssertionError

    assert hosts.run(Deferred.fromCoroutine(use()).addErrback(lambda failure: failure.value)) is error
    hosts.wait()
    assert hosts.client.reactor.getDelayedCalls() == []


def test_a_pool_is_started_and_stopped_once(hosts: Hosts, pool_of: Any) -> None:
    """A pool can be started and stopped several times. A member that is stopped alone is not reported."""
    hosts.listen(echo)
    pool = pool_of(2, check=lambda connection: None)
    waiting = outcome(pool.start())
    pool.startService()
    pool.members[0].stop()
    hosts.wait()
    assert waiting == [pool]
    pool.stop()
    pool.stop()
    hosts.wait()
    assert hosts.client.reactor.getDelayedCalls() == []


def test_a_member_that_gives_up_leaves_the_others(hosts: Hosts, pool_of: Any, logged_errors: Any) -> None:
    """A pool serves as long as one of its members does."""
    hosts.listen(echo)
    refused: list[Any] = []

    def refuse_first(connection: Any) -> None:
        if not refused:
            refused.append(connection)
            raise GiveUp("no")

    pool = pool_of(2, prepare=refuse_first)
    assert hosts.run(pool.start()) is pool
    received = outcome(pool.receive())
    assert (len(pool.connected), received) == (1, [])
