"""The end of a connection is no unhandled error: it is counted, given to callers, and not logged for Deferreds."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.ssl import optionsForClientTLS

from tcpapp import Client, Connection, Pool, Timeouts, aio
from tcpapp.apps import echo
from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.unhandled import failed, unlogged
from tcpapp.errors import MaybeSent, NeverSent, NotConnected, TimedOut, UnsendableMessage
from tcpapp.telemetry import Closed
from tests.peers import Hosts, Peer, never, outcome, result_of, stalled

ENDED = NotConnected("the connection is not open", CloseReason(EndedBy.PEER, "end-of-stream", "the peer went"))
KINDS = [ENDED, NeverSent("no", ENDED.reason, b"x"), MaybeSent("no", ENDED.reason, b"x")]


# One Deferred ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", KINDS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("before", [True, False])
def test_the_end_of_a_connection_is_not_logged(error: NotConnected, before: bool, logged_errors: Any) -> None:
    """A Deferred that fails with the end of a connection is not logged, whether it is marked before or after."""
    deferred: Deferred[None] = Deferred()
    if before:
        unlogged(deferred).errback(error)
    else:
        deferred.errback(error)
        assert unlogged(deferred) is deferred
    del deferred
    assert logged_errors.take() == []


def test_an_error_that_is_reported_elsewhere_is_not_logged(logged_errors: Any) -> None:
    """The named error is not logged. Another error of its type is logged."""
    told, other = ValueError("told"), ValueError("other")
    for error in (told, other):
        unlogged(Deferred(), told).errback(error)
    assert [each.value for each in logged_errors.take()] == [other]


def test_the_failure_is_given_to_its_waiter(logged_errors: Any) -> None:
    """Early errbacks, late errbacks and awaiting coroutines all get the failure."""
    early: Deferred[Any] = Deferred()
    seen = outcome(early)
    unlogged(early).errback(ENDED)
    late = outcome(failed(ENDED))

    async def waits() -> Any:
        await failed(ENDED)

    awaited = outcome(Deferred.fromCoroutine(waits()))
    assert [seen, late, awaited] == [[ENDED], [ENDED], [ENDED]]
    assert logged_errors.take() == []


def test_a_callback_without_an_errback_takes_nothing_and_nothing_is_logged(logged_errors: Any) -> None:
    """A callback without an errback, added before the end or after, is not called, and nothing is logged."""
    called: list[Any] = []
    early: Deferred[Any] = Deferred()
    early.addCallback(called.append)
    unlogged(early).errback(ENDED)
    failed(ENDED).addCallback(called.append)
    del early
    assert (called, logged_errors.take()) == ([], [])


def test_an_exception_of_a_callback_is_logged(logged_errors: Any) -> None:
    """An exception in a callback is logged, because it is an error of the program."""
    for error in (ENDED, None):
        deferred: Deferred[Any] = unlogged(Deferred())
        deferred.addBoth(lambda _: 1 / 0)
        (deferred.callback if error is None else deferred.errback)(error)
    del deferred
    assert len(logged_errors.take(ZeroDivisionError)) == 2


def test_a_deferred_that_ends_well_is_not_logged(logged_errors: Any) -> None:
    """A Deferred with a result, or with a handled failure, logs nothing."""
    deferred: Deferred[Any] = unlogged(Deferred())
    deferred.callback(1)
    assert (result_of(deferred), result_of(failed(ENDED).addErrback(lambda _: 2))) == (1, 2)
    assert logged_errors.take() == []


def test_the_notes_of_set_debugging_are_kept(monkeypatch: pytest.MonkeyPatch, logged_errors: Any) -> None:
    """``setDebugging`` shows where a Deferred was made, even if its end is not logged."""
    monkeypatch.setattr(Deferred, "debug", True)
    deferred: Deferred[Any] = unlogged(Deferred())
    assert deferred._debugInfo is not None
    assert deferred._debugInfo.creator
    deferred.errback(ENDED)
    del deferred
    assert logged_errors.take() == []


# A connection ---------------------------------------------------------------------------------------------------------


def sends(connection: Connection) -> Deferred[Any]:
    return connection.send(b"x" * 200_000)


def receives(connection: Connection) -> Deferred[Any]:
    return connection.receive()


def requests(connection: Connection) -> Deferred[Any]:
    return connection.request(b"x")


@pytest.mark.parametrize("does", [sends, receives, requests])
@pytest.mark.parametrize("end", ["resets", "leaves", "abort"])
def test_nothing_is_logged_for_waiters_of_a_connection_that_ends(does: Any, end: str, logged_errors: Any) -> None:
    """Calls before and after the end of a connection log nothing, and their callers get the error."""
    peer: Any = stalled()
    asked = does(peer.connection)
    does(peer.connection)
    getattr(peer.connection if end == "abort" else peer, end)()
    peer.leaves()
    does(peer.connection)
    assert logged_errors.take() == []
    assert [type(result_of(each)) for each in (asked, does(peer.connection))] == [NotConnected, NotConnected]


def test_a_connection_that_never_opens_is_not_logged_for_its_waiters(logged_errors: Any) -> None:
    """Calls on a connection that has never opened log nothing."""
    peer = Peer()
    protocol: Any = peer.factory.buildProtocol(None)
    made = protocol.connection
    for each in (made.when_open(), made.send(b"x"), made.receive(), made.request(b"x"), made.start_tls(None)):
        del each
    peer.resets()
    assert logged_errors.take() == []


@pytest.mark.parametrize("end", ["resets", "abort"])
def test_failed_sends_are_counted(end: str) -> None:
    """Waiting sends and late sends are counted. A send that was sent or cancelled is not."""
    peer: Any = stalled()
    connection = peer.connection
    connection.send(b"gone")
    waiting = [connection.send(b"x" * 100_000) for _ in range(5)]
    waiting[-1].addErrback(lambda _: None).cancel()
    getattr(connection if end == "abort" else peer, end)()
    peer.leaves()
    [closed] = peer.told(Closed)
    assert (closed.failed_sends, peer.factory.info().failed_sends) == (4, 4)
    connection.send(b"late")
    assert peer.factory.info().failed_sends == 5


def test_messages_that_were_sent_are_not_counted() -> None:
    """Messages that were flushed before the end are with the transport, and are not counted."""
    peer: Any = Peer()
    sent = [peer.connection.send(b"x" * 100_000) for _ in range(3)]
    peer.connection.close()
    peer.leaves()
    assert ([result_of(each) for each in sent], peer.factory.info().failed_sends) == ([None] * 3, 0)


def test_errors_of_the_program_are_logged(logged_errors: Any) -> None:
    """An unsendable message and a reply that comes too late are logged, because nothing else reports them."""
    peer = Peer(timeouts=Timeouts(request=5))
    peer.connection.send("text")
    peer.connection.request(b"x")
    peer.clock.advance(5)
    gc.collect()
    assert [each.type for each in logged_errors.take()] == [UnsendableMessage, TimedOut]


# Clients, pools and futures -------------------------------------------------------------------------------------------


LONG = "line:max=20000000"
"""A framing for lines that are too long to be sent at once."""


def client_of(hosts: Hosts, kind: type[Any] = Client, **options: Any) -> Any:
    made = kind("tcp:server:7007", framing=LONG, reactor=hosts.client.reactor, **options)
    hosts.at_end.insert(0, made.stop)
    return made


def test_failed_sends_of_a_client_are_counted_and_not_logged(hosts: Hosts, logged_errors: Any) -> None:
    """Messages from before the start, messages that wait at the stop, and messages of a lost connection are counted."""
    client = client_of(hosts)
    client.send(b"before")  # it was not started
    client.startService()
    hosts.wait(0)
    client.send(b"waits")
    client.request(b"waits")
    client.receive()
    client.stop()
    hosts.wait()
    assert (client.failed_sends, logged_errors.take()) == (2, [])
    hosts.listen(never, framing=LONG)
    hosts.run(client.start())
    for _ in range(3):
        client.send(b"x" * 10_000_000)
    client.request(b"x")
    client.receive()
    client.connection.abort()
    hosts.wait()
    client.stop()
    hosts.wait()
    assert (client.failed_sends, logged_errors.take()) == (5, [])


def test_calls_of_a_client_before_its_start_are_not_logged(hosts: Hosts, logged_errors: Any) -> None:
    """If a client or a pool is not started, the callers get the error, and nothing is logged."""
    for client in (client_of(hosts), client_of(hosts, Pool)):
        for ask in (client.when_connected, client.receive, lambda client=client: client.request(b"x")):
            ask()
            assert isinstance(result_of(ask()), NotConnected)
    assert logged_errors.take() == []


def test_failed_sends_of_a_pool_are_counted_and_not_logged(hosts: Hosts, logged_errors: Any) -> None:
    """Messages that no member sent, and messages of a lost member, are counted. Requests are not counted."""
    pool = client_of(hosts, Pool, size=1)
    pool.startService()
    hosts.wait(0)
    pool.when_connected()
    pool.send(b"waits")
    pool.request(b"waits")
    pool.receive()
    pool.stop()
    hosts.wait()
    assert (pool.failed_sends, logged_errors.take()) == (1, [])
    hosts.listen(never, framing=LONG)
    hosts.run(pool.start())
    pool.send(b"x" * 10_000_000)
    pool.request(b"x")
    pool.members[0].connection.abort()
    hosts.wait()
    assert (pool.failed_sends, logged_errors.take()) == (2, [])
    pool.stop()
    hosts.wait()


def test_tls_that_fails_in_mid_conversation_is_not_logged_again(hosts: Hosts, logged_errors: Any) -> None:
    """A `start_tls()` that fails logs nothing, because the end of the connection has the reason."""
    hosts.listen(echo)
    connection = hosts.connect()
    connection.start_tls(optionsForClientTLS("server"))
    connection.abort()
    hosts.wait()
    assert logged_errors.take() == []


@pytest.mark.once
@pytest.mark.parametrize(("error", "count"), [(ENDED, 0), (ValueError("mine"), 1)])
def test_an_unawaited_future_does_not_report_the_end_of_a_connection(error: Exception, count: int) -> None:
    """A future without an awaiting task reports other errors, as asyncio does. An awaiting task gets each error."""
    told: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        aio.future(defer.fail(error))
        gc.collect()
        with pytest.raises(type(error)):
            await aio.future(defer.fail(error))

    asyncio.run(main())
    assert told == [error] * count
