"""The accept loop: which errors of accept(2) it continues after, and how many clients it accepts in a turn."""

from __future__ import annotations

import errno
import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Protocol, ServerFactory

from tcpapp.server.accept_loop import CLIENT_ERRORS, MOST_IN_A_ROW, AcceptLoop

NOBODY = OSError(errno.EAGAIN, "nobody waits")
CLIENT = ("192.0.2.7", 4711)


class Client:
    """The socket of a client, which records that it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Listening:
    """A listening socket: `accept` takes the next of `answers`: an error, or the address of a new `Client`."""

    def __init__(self, *answers: Any) -> None:
        self.answers = [*answers, NOBODY]
        self.clients: list[Client] = []

    def accept(self) -> tuple[Client, Any]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        self.clients.append(Client())
        return self.clients[-1], answer


class Transport:
    """The transport of a connection, which records why the connection was lost."""

    lost: Any = None

    def __init__(self, client: Client, protocol: Any, address: Any, port: Any, number: int, reactor: Any) -> None:
        self.client, self.address, self.number = client, address, number

    def connectionLost(self, reason: Any) -> None:
        self.lost = reason


class Server(ServerFactory):
    """A factory that records the addresses of the clients and the protocols that it makes."""

    noisy = False
    make: Any = Protocol

    def __init__(self) -> None:
        self.came: list[Any] = []
        self.made: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        self.came.append(addr)
        self.made.append(self.make())
        return self.made[-1]


class Loop:
    """An accept loop on a port of Twisted's, over a `Listening`, with the failed accepts in `told`."""

    def __init__(self, *answers: Any, most: int = 1000, port: Any = tcp.Port, place: Any = 0) -> None:
        self.server = Server()
        self.port = port(place, self.server)
        self.port.numberAccepts = 100
        self.port.socket = self.listening = Listening(*answers)
        self.port.transport = Transport
        self.told: list[tuple[Any, str, bool]] = []
        self.loop = AcceptLoop(self.port, lambda: most, lambda *told: self.told.append(told))

    def turn(self) -> list[Any]:
        """Make one turn, and return the addresses of the connected clients so far."""
        self.loop.turn()
        return [each.transport.address for each in self.server.made if each is not None and each.transport is not None]


def failing(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", sorted(CLIENT_ERRORS), ids=lambda number: errno.errorcode[number])
def test_an_error_of_one_client_delays_no_other_client(number: int) -> None:
    """An error that concerns one client is reported, and the next client is accepted in the same turn."""
    loop = Loop(failing(number), CLIENT, failing(number), ("192.0.2.8", 4712))
    assert loop.turn() == [CLIENT, ("192.0.2.8", 4712)]
    assert loop.told == [(None, errno.errorcode[number], False)] * 2


def test_the_errors_listed_by_accept_2_concern_one_client() -> None:
    """`CLIENT_ERRORS` has every error that the section "Error handling" of accept(2) lists for Linux."""
    network = {"ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ENONET"}
    rest = {"EPROTO", "ENOPROTOOPT", "EOPNOTSUPP", "ECONNABORTED", "EPERM"}
    assert {getattr(errno, each) for each in network | rest if hasattr(errno, each)} <= CLIENT_ERRORS


def test_the_reactor_on_uvloop_takes_over_clients_in_the_same_turn() -> None:
    """A turn with clients calls `openings.now()` once, after it has made the protocols; a turn without does not."""
    taken: list[int] = []
    loop = Loop(CLIENT, ("192.0.2.8", 4712))
    openings = SimpleNamespace(now=lambda: taken.append(len(loop.server.made)))
    loop.port.reactor = SimpleNamespace(openings=openings)
    loop.turn()
    loop.turn()
    assert taken == [2]


def test_many_errors_of_clients_in_a_row_are_an_error_of_the_system() -> None:
    """The last of `MOST_IN_A_ROW` errors in a row is an error of the system; an accepted client restarts the count."""
    loop = Loop(*[failing(errno.EOPNOTSUPP)] * 2 * MOST_IN_A_ROW)
    loop.turn()
    assert [told[2] for told in loop.told] == [False] * (MOST_IN_A_ROW - 1) + [True]
    loop = Loop(*([failing(errno.EPROTO)] * (MOST_IN_A_ROW - 1) + [CLIENT]) * 2)
    loop.port.numberAccepts = 2 * MOST_IN_A_ROW
    assert loop.turn() == [CLIENT, CLIENT]
    assert [told for told in loop.told if told[2]] == []


@pytest.mark.parametrize("number", [errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL])
def test_an_error_of_the_system_ends_the_turn(number: int) -> None:
    """After an error of the system, the turn accepts no further client, and the error is reported as system-wide."""
    loop = Loop(failing(number), CLIENT)
    assert loop.turn() == []
    assert loop.told == [(None, errno.errorcode[number], True)]


def test_an_error_without_a_number_is_reported_by_its_text() -> None:
    """An `OSError` without an errno is reported by its text."""
    loop = Loop(OSError("timed out"))
    loop.turn()
    assert loop.told == [(None, "timed out", True)]


@pytest.fixture
def reserved(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the descriptor that Twisted reserves for the time when no other is left, as a fake."""
    reserved = tcp._FileDescriptorReservation(Client)  # type: ignore[arg-type]  # it is closed, no more
    reserved.reserve()
    monkeypatch.setattr(tcp, "_reservedFD", reserved)
    return reserved


@pytest.mark.parametrize(
    ("accepted", "address"),
    [
        (CLIENT, IPv4Address("TCP", "192.0.2.7", 4711)),
        (("2001:db8::1", 4711, 0, 0), IPv6Address("TCP", "2001:db8::1", 4711)),
        ("", UNIXAddress(None)),
    ],
)
def test_without_descriptors_waiting_clients_are_closed(reserved: Any, accepted: Any, address: Any) -> None:
    """On EMFILE, the loop closes each waiting client with the reserved descriptor, and reports its address."""
    loop = Loop(failing(errno.EMFILE), accepted, accepted)
    assert loop.turn() == []
    assert loop.told == [(address, "EMFILE", False)] * 2
    assert [each.closed for each in loop.listening.clients] == [True, True]
    assert reserved.available()


def test_without_descriptors_a_turn_closes_a_limited_number_of_clients(reserved: Any) -> None:
    """Without descriptors, a turn closes at most `MOST_IN_A_ROW` of the waiting clients."""
    loop = Loop(failing(errno.EMFILE), *[CLIENT] * 2 * MOST_IN_A_ROW)
    loop.turn()
    assert len(loop.told) == MOST_IN_A_ROW


def test_without_a_reserved_descriptor_emfile_is_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a reserved descriptor, EMFILE ends the turn and is reported as system-wide."""
    monkeypatch.setattr(tcp, "_reservedFD", tcp._FileDescriptorReservation(Client))  # type: ignore[arg-type]
    loop = Loop(failing(errno.EMFILE), CLIENT)
    assert loop.turn() == []
    assert loop.told == [(None, "EMFILE", True)]


def test_a_turn_accepts_a_limited_number_of_clients() -> None:
    """A turn accepts at most `most` clients and at least one; as in Twisted, `numberAccepts` grows after a full one."""
    loop = Loop(*[CLIENT] * 10, most=3)
    loop.turn()
    assert (len(loop.server.came), loop.port.numberAccepts) == (3, 120)
    loop.loop._most = lambda: -1
    loop.turn()
    assert len(loop.server.came) == 4
    loop.loop._most = lambda: 1000
    loop.turn()
    assert (len(loop.server.came), loop.port.numberAccepts) == (10, 6)
    loop.turn()
    assert loop.port.numberAccepts == 1


def test_connections_are_numbered() -> None:
    """The transports are numbered from 0 in the order in which the clients were accepted."""
    loop = Loop(CLIENT, CLIENT)
    loop.turn()
    assert [each.transport.number for each in loop.server.made] == [0, 1]


def test_a_link_local_address_names_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link-local address has no meaning without its interface, so the address of the client names it."""
    monkeypatch.setattr(socket, "getnameinfo", lambda address, flags: (f"{address[0]}%eth0", str(address[1])))
    loop = Loop(("fe80::1", 4711, 0, 2), ("2001:db8::1", 4711, 0, 0), place=0)
    loop.port._addressType = IPv6Address
    loop.turn()
    assert [each.host for each in loop.server.came] == ["fe80::1%eth0", "2001:db8::1"]


def test_a_factory_can_reject_a_client() -> None:
    """When the factory makes no protocol, the client is closed, as in Twisted."""
    loop = Loop(CLIENT)
    loop.server.make = lambda: None
    loop.turn()
    assert (loop.listening.clients[0].closed, loop.told) == (True, [])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM])
def test_a_connection_that_the_loop_cannot_watch_is_closed(number: int) -> None:
    """When ``epoll_ctl`` fails for a client, this client is closed and reported, and the next client is served."""
    loop = Loop(CLIENT, ("192.0.2.8", 4712))

    def make(client: Any, protocol: Any, address: Any, *more: Any) -> Any:
        if address == CLIENT:
            raise failing(number)
        return Transport(client, protocol, address, *more)

    loop.port.transport = make
    assert loop.turn() == [("192.0.2.8", 4712)]
    assert [each.closed for each in loop.listening.clients] == [True, False]
    assert loop.told == [(IPv4Address("TCP", *CLIENT), errno.errorcode[number], False)]


class Failing(Protocol):
    """A protocol that raises in connectionMade."""

    error: Exception = ValueError("a bug")

    def connectionMade(self) -> None:
        raise self.error


def test_a_connection_whose_protocol_raises_at_its_start_is_closed(logged_errors: Any) -> None:
    """When `connectionMade` raises, the error is logged, its connection is lost, and the next client is served."""
    loop = Loop(CLIENT, CLIENT)
    loop.server.make = Failing
    loop.turn()
    transports = [each.transport for each in loop.server.made]
    assert [each.lost.value for each in transports] == [Failing.error] * 2
    assert [each.closed for each in loop.listening.clients] == [True, True]
    assert len(logged_errors.take(ValueError)) == 2


def test_an_error_of_the_system_at_the_start_is_only_counted() -> None:
    """When `connectionMade` raises an `OSError`, the failed accept is reported without a traceback in the log."""
    loop = Loop(CLIENT)
    loop.server.make = type("OutOfMemory", (Failing,), {"error": failing(errno.ENOMEM)})
    loop.turn()
    assert loop.told == [(IPv4Address("TCP", *CLIENT), "ENOMEM", False)]


class Queue:
    """A step runner that holds the steps until the test runs them."""

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def run_step(self, step: Any) -> None:
        self.steps.append(step)

    def cancel_step(self, step: Any) -> None:
        self.steps.remove(step)


def test_with_a_step_runner_one_client_is_accepted_in_each_step() -> None:
    """One step waits, even if the port becomes readable several times, and this step accepts one client."""
    loop, queue = Loop(*[CLIENT] * 10), Queue()
    loop.loop._step_runner = queue
    for _ in range(3):
        loop.turn()
    assert (len(queue.steps), loop.server.came) == (1, [])
    queue.steps.pop()()
    assert len(loop.server.came) == 1
    loop.turn()
    assert len(queue.steps) == 1


def test_a_paused_port_has_no_step_that_waits() -> None:
    """`leave` cancels the waiting step, if there is one; when the port is readable again, a new step waits."""
    loop, queue = Loop(CLIENT), Queue()
    loop.loop.leave()
    loop.loop._step_runner = queue
    loop.loop.leave()
    loop.turn()
    loop.loop.leave()
    assert queue.steps == []
    loop.turn()
    queue.steps.pop()()
    assert len(loop.server.came) == 1
