"""How a client connects, the first time and after a loss."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError

from tcpapp import Recovery
from tcpapp.apps import echo
from tcpapp.client.reconnecting import Connected, Connecting, Stopped, Waiting
from tcpapp.errors import GiveUp, InvalidAddress, InvalidOption, NotConnected, TimedOut
from tcpapp.testing.simulation import RunFailed
from tests.peers import Hosts, outcome


def kinds(states: list[Any]) -> list[str]:
    return [type(each).__name__ for each in states]


def seen_by(client: Any) -> list[Any]:
    """Return a list to which the states of the client are added from now on."""
    states: list[Any] = []
    client.watch(states.append)
    return states


def test_a_client_connects_and_shows_its_states(hosts: Hosts, client_of: Any) -> None:
    """`start` gives the client and `when_connected` the connection, and the states show both steps."""
    hosts.listen(echo)
    client = client_of()
    states = seen_by(client)
    assert (client.state, client.connection) == (Stopped(), None)
    assert hosts.run(client.start()) is client
    connection = hosts.run(client.when_connected())
    assert states == [Connecting(1, "tcp:server:7007"), Connected(connection)]
    assert client.connection is connection
    assert hosts.run(client.start()) is client
    assert len(states) == 2


def test_a_client_reconnects(hosts: Hosts, client_of: Any) -> None:
    """A client reconnects whenever its connection is lost, and its waits grow while it fails."""
    hosts.listen(echo)
    client = client_of()
    hosts.run(client.start())
    states = seen_by(client)
    hosts.server.crash()
    hosts.wait(60)
    waits = [each for each in states if isinstance(each, Waiting)]
    assert kinds(states[:4]) == ["Waiting", "Connecting", "Waiting", "Connecting"]
    assert [each.attempt for each in waits] == list(range(2, len(waits) + 2))
    assert isinstance(waits[0].error, NotConnected)
    assert {type(each.error) for each in waits[1:]} == {ConnectionRefusedError}
    assert all(each.seconds <= min(30, 2 * 2**number) for number, each in enumerate(waits))
    assert max(each.seconds for each in waits) > 2
    hosts.server.restart()
    hosts.listen(echo)
    opened = outcome(client.when_connected())
    hosts.wait(31)
    assert kinds(states)[-1] == "Connected"
    assert opened == [client.connection]


class Drops:
    """An app that ends each connection at once."""

    def opened(self, connection: Any) -> None:
        connection.abort()

    def received(self, message: bytes, connection: Any) -> None:
        pass


def drops_after_login(message: bytes, connection: Any) -> bytes:
    """An app that answers one message, and ends the connection."""
    connection.close()
    return message


async def login(connection: Any) -> None:
    await connection.request(b"user")


@pytest.mark.parametrize(("app", "prepare"), [(Drops, None), (drops_after_login, login)])
def test_a_server_that_accepts_and_drops_is_met_with_growing_waits(
    app: Any, prepare: Any, hosts: Hosts, client_of: Any
) -> None:
    """A connection counts as a success after it has lasted, and not as soon as it is prepared, so the waits grow."""
    hosts.listen(app)
    client = client_of(prepare=prepare)
    client.startService()
    states = seen_by(client)
    hosts.wait(200)
    waits = [each.seconds for each in states if isinstance(each, Waiting)]
    assert len(waits) < 30
    assert max(waits) > 8
    assert max(each.attempt for each in states if isinstance(each, Waiting)) == len(waits) + 1


@pytest.mark.parametrize("prepare", [None, login])
def test_waits_begin_small_again_after_a_healthy_connection(prepare: Any, hosts: Hosts, client_of: Any) -> None:
    """A connection is healthy after ``healthy_after`` seconds, whether it was prepared or not."""
    hosts.listen(echo)
    client = client_of(prepare=prepare)
    hosts.run(client.start())
    hosts.server.crash()
    hosts.wait(40)
    hosts.server.restart()
    hosts.listen(echo)
    hosts.wait(30)
    states = seen_by(client)
    hosts.wait(11)
    client.connection.abort()
    hosts.wait(0.001)
    assert states[0].attempt == 1
    assert states[0].seconds <= 2


@pytest.mark.parametrize("prepare", [None, login])
def test_with_healthy_after_0_each_usable_connection_is_healthy(prepare: Any, hosts: Hosts, client_of: Any) -> None:
    """With ``healthy_after=0`` no connection has to last for the waits to begin small again."""
    hosts.listen(echo)
    client = client_of(prepare=prepare, recovery=Recovery(healthy_after=0))
    for _ in range(10):
        hosts.run(client.start())
        states = seen_by(client)
        client.connection.abort()
        hosts.wait(2)
        assert states[0].attempt == 1
        assert states[0].seconds <= 2
        hosts.wait(2)


def test_several_endpoints_are_tried_in_turn(hosts: Hosts, client_of: Any) -> None:
    """All endpoints are tried before there is a wait. After a loss, the first one is tried first."""
    hosts.listen(echo, "tcp:2")
    client = client_of(["tcp:server:1", "tcp:server:2", "tcp:server:3"])
    states = seen_by(client)
    hosts.run(client.start())
    assert [each.endpoint for each in states if isinstance(each, Connecting)] == ["tcp:server:1", "tcp:server:2"]
    client.connection.abort()
    hosts.wait(2)
    tried = [each.endpoint for each in states if isinstance(each, Connecting)]
    assert tried[2] == "tcp:server:3"  # the connection was too young to be a success
    hosts.wait(20)
    hosts.listen(echo, "tcp:1")
    client.connection.abort()
    hosts.wait(2)
    assert next(each.endpoint for each in reversed(states) if isinstance(each, Connecting)) == "tcp:server:1"


# Preparing ------------------------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_connection_is_prepared(hosts: Hosts, client_of: Any) -> None:
    """Messages that waited for the connection, or come while it is prepared, are sent after `prepare`."""
    seen: list[bytes] = []

    def app(message: bytes, connection: Any) -> bytes:
        seen.append(message)
        return message

    async def login_in_two(connection: Any) -> None:
        await connection.request(b"user")
        await connection.request(b"password")

    hosts.listen(app)
    client = client_of(prepare=login_in_two)
    early = client.send(b"early")
    assert isinstance(outcome(early)[0], NotConnected)
    started = client.start()
    waits = client.send(b"waits")
    hosts.run(started)
    hosts.run(waits)
    hosts.wait()
    assert seen == [b"user", b"password", b"waits"]


def test_giving_up_in_prepare_ends_the_client_at_once(hosts: Hosts, client_of: Any, logged_errors: Any) -> None:
    """If `prepare` raises `GiveUp`, the client stops, and all its calls fail with that error."""
    hosts.listen(echo)
    refused = GiveUp("the password is wrong")

    def refuse(connection: Any) -> None:
        raise refused

    client = client_of(prepare=refuse)
    started, waiting = outcome(client.start()), outcome(client.request(b"hello"))
    hosts.wait()
    assert started == [refused]
    assert client.state == Stopped(refused)
    assert str(waiting[0]) == ("it was not sent: closed (by us): the client gave up: the password is wrong")
    assert outcome(client.when_connected()) == [refused]
    assert "the password is wrong" in str(outcome(client.send(b"x"))[0])
    hosts.wait(100)


def test_a_prepare_that_awaits_asyncio_ends_the_client_at_once(
    hosts: Hosts, client_of: Any, logged_errors: Any
) -> None:
    """
    If `prepare` awaits asyncio, the client stops, because no attempt can succeed, and the error names what to write.
    """
    hosts.listen(echo)

    async def sleeps(connection: Any) -> None:
        await asyncio.sleep(1)

    client = client_of(prepare=sleeps)
    started = outcome(client.start())
    hosts.wait()
    assert isinstance(started[0], InvalidOption)
    assert "tcpapp.aio" in str(started[0])
    assert client.state == Stopped(started[0])


def test_a_failed_prepare_is_tried_again(hosts: Hosts, client_of: Any) -> None:
    """If `prepare` fails, the connection is cut, and the client connects again."""
    server = hosts.listen(echo)
    count = [0]

    def fails_twice(connection: Any) -> None:
        count[0] += 1
        if count[0] < 3:
            raise ValueError(count[0])

    client = client_of(prepare=fails_twice)
    states = seen_by(client)
    hosts.run(client.start())
    assert [str(each.error) for each in states if isinstance(each, Waiting)] == ["1", "2"]
    hosts.wait()
    assert len(server.connections) == 1


def test_prepare_has_its_time(hosts: Hosts, client_of: Any) -> None:
    """When the time for `prepare` is over, its Deferred is cancelled."""
    hosts.listen(echo)
    cancelled: list[Any] = []
    client = client_of(prepare=lambda connection: Deferred(cancelled.append), recovery=Recovery(prepare=5))
    states = seen_by(client)
    client.startService()
    hosts.wait(7)
    error = next(each.error for each in states if isinstance(each, Waiting))
    assert isinstance(error, TimedOut)
    assert str(error) == "prepare timed out after 5 s"
    assert len(cancelled) == 1


def test_a_loss_ends_the_wait_for_prepare(hosts: Hosts, client_of: Any) -> None:
    """If the connection is lost in `prepare`, the client waits no longer for `prepare`, also without a time limit."""
    server = hosts.listen(echo)
    client = client_of(prepare=lambda connection: Deferred(), recovery=Recovery(prepare=0))
    states = seen_by(client)
    client.startService()
    hosts.wait()
    for each in server.connections:
        each.abort()
    hosts.wait(0.5)
    error = next(each.error for each in states if isinstance(each, Waiting))
    assert isinstance(error, NotConnected)
    assert not isinstance(error, CancelledError)


# Ending ---------------------------------------------------------------------------------------------------------------


def test_a_client_can_fail_at_its_first_round(hosts: Hosts, client_of: Any) -> None:
    """With `connect_now` the client fails with the last error of its first round. Once connected, it reconnects."""
    client = client_of(["tcp:server:1", "tcp:server:2"], connect_now=True)
    started = outcome(client.start())
    hosts.wait()
    assert [ConnectionRefusedError] == [type(each) for each in started]
    assert client.state == Stopped(started[0])
    hosts.listen(echo, "tcp:2")
    hosts.run(client.start())
    hosts.server.crash()
    hosts.wait(20)
    assert not isinstance(client.state, Stopped)


@pytest.mark.parametrize("seconds", [0, 0.0005, 0.5])
def test_a_client_can_be_stopped_in_each_state(seconds: float, hosts: Hosts, client_of: Any) -> None:
    """A client can be stopped before its start, while it connects, and connected. Then it can be started again."""
    server = hosts.listen(echo)
    client = client_of()
    assert outcome(client.stop()) == [None]
    started = outcome(client.start())
    hosts.wait(seconds)
    stopped = outcome(client.stop())
    hosts.wait()
    assert (stopped, client.state, len(server.connections)) == ([None], Stopped(), 0)
    assert started == [client] if seconds > 0.1 else isinstance(started[0], NotConnected)
    hosts.run(client.start())


def test_a_client_can_be_stopped_while_it_waits(hosts: Hosts, client_of: Any) -> None:
    """If a client is stopped while it waits, no timer is left."""
    client = client_of()
    client.startService()
    hosts.wait()
    waiting = outcome(client.when_connected())
    client.stopService()
    assert isinstance(waiting[0], NotConnected)
    assert hosts.client.reactor.getDelayedCalls() == []


def test_a_client_can_be_stopped_while_it_prepares(hosts: Hosts, client_of: Any) -> None:
    """If a client is stopped in `prepare`, the Deferred of `prepare` is cancelled, and the connection is cut."""
    server = hosts.listen(echo)
    cancelled: list[Any] = []
    client = client_of(prepare=lambda connection: Deferred(cancelled.append))
    client.startService()
    hosts.wait()
    client.stop()
    hosts.wait()
    assert (len(cancelled), len(server.connections)) == (1, 0)


@pytest.mark.parametrize("kind", [Connecting, Connected, Waiting])
def test_a_watcher_can_stop_the_client(kind: type, hosts: Hosts, client_of: Any) -> None:
    """A watcher can stop the client, or stop it and start it again, while the client works."""
    hosts.listen(echo)
    client = client_of(["tcp:server:1"] if kind is Waiting else "tcp:server:7007")
    stop = client.watch(lambda state: client.stop() if isinstance(state, kind) else None)
    client.startService()
    hosts.wait(3)
    assert client.state == Stopped()
    stop()
    again = [True]

    def anew(state: Any) -> None:
        if isinstance(state, kind) and again:
            again.clear()
            client.stop()
            client.startService()

    client.watch(anew)
    client.startService()
    hosts.wait(3)
    assert client.running
    assert again == []


def test_a_refused_certificate_of_the_client_ends_it(hosts: Hosts, client_of: Any) -> None:
    """With TLS 1.3 a server rejects a certificate after the connection is open: that is the reason of its end."""
    hosts.listen(echo)
    fatal = ValueError("alert certificate required")
    client = client_of(is_fatal=lambda error: error is fatal)
    hosts.run(client.start())
    connection = client.connection
    from tcpapp.close_reason import CloseReason, EndedBy

    connection.abort(CloseReason(EndedBy.PEER, "tls-failed", "no", error=fatal))
    hosts.wait()
    assert client.state == Stopped(fatal)


@pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted passes such objects to pyOpenSSL
def test_a_certificate_that_is_being_renewed_does_not_end_the_client(
    hosts: Hosts, client_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged_errors: Any
) -> None:
    """While key and certificate do not match, the client tries again, and reads the files from their first paths."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "roots.pem"))
    authority.issue_cert("server").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))

    def renew(*suffixes: str) -> None:
        made = authority.issue_cert("ann@example.org")
        blobs = {"key": made.private_key_pem.bytes(), "cert": made.cert_chain_pems[0].bytes()}
        for each in suffixes:
            (tmp_path / f"{each}.pem").write_bytes(blobs[each])

    renew("key", "cert")
    path = str(tmp_path).replace(":", r"\:")
    hosts.listen(echo, f"tls:7007:certificate={path}/server.pem:clients=required:clientRoots={path}/roots.pem")
    monkeypatch.chdir(tmp_path)
    client = client_of("tls:server:7007:trustRoots=roots.pem:certificate=cert.pem:privateKey=key.pem")
    monkeypatch.chdir("/")
    hosts.run(client.start())
    client.connection.abort()
    renew("key")
    hosts.wait(30)
    assert isinstance(client.state, Waiting)
    assert isinstance(client.state.error, InvalidAddress)
    assert "the private key does not belong to the certificate" in str(client.state.error)
    renew("key", "cert")
    hosts.wait(60)
    assert isinstance(client.state, Connected)
    client.connection.abort()
    (tmp_path / "cert.pem").unlink()
    hosts.wait(30)
    assert isinstance(client.state.error, InvalidAddress)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidAddress, match=r"cert\.pem"):  # a client with such files is not made
        client_of("tls:server:7007:trustRoots=roots.pem:certificate=cert.pem:privateKey=key.pem")


def test_an_is_fatal_that_raises_does_not_end_the_client(hosts: Hosts, client_of: Any, logged_errors: Any) -> None:
    """The exception of `is_fatal` is logged, and the client tries again."""

    def is_fatal(error: BaseException) -> bool:
        raise ZeroDivisionError

    client = client_of(is_fatal=is_fatal)
    client.startService()
    with pytest.raises(RunFailed, match="ZeroDivisionError"):
        hosts.wait(5)
    assert isinstance(client.state, Waiting)
    assert len(logged_errors.take(ZeroDivisionError)) == 1
    hosts.listen(echo)
    hosts.wait(31)
    assert isinstance(client.state, Connected)
