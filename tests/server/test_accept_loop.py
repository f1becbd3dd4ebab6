"""The accept loop: the errors of accept(2), after which it goes on."""

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
    """The socket of a client."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Listening:
    """A listening socket: each `accept` gives the next of `answers`, an error or an address of a new `Client`."""

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
    """The transport of a connection."""

    lost: Any = None

    def __init__(self, client: Client, protocol: Any, address: Any, port: Any, number: int, reactor: Any) -> None:
        self.client, self.address, self.number = client, address, number

    def connectionLost(self, reason: Any) -> None:
        self.lost = reason


class Server(ServerFactory):
    """Notes the addresses that a protocol was asked for, and gives one."""

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
    """A port of Twisted's over a `Listening`, its accept loop, and its reports."""

    def __init__(self, *answers: Any, most: int = 1000, port: Any = tcp.Port, place: Any = 0) -> None:
        self.server = Server()
        self.port = port(place, self.server)
        self.port.numberAccepts = 100
        self.port.socket = self.listening = Listening(*answers)
        self.port.transport = Transport
        self.told: list[tuple[Any, str, bool]] = []
        self.loop = AcceptLoop(self.port, lambda: most, lambda *told: self.told.append(told))

    def turn(self) -> list[Any]:
        """Let it accept; returns the addresses of the served clients."""
        self.loop.turn()
        return [each.transport.address for each in self.server.made if each is not None and each.transport is not None]


def failing(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", sorted(CLIENT_ERRORS), ids=lambda number: errno.errorcode[number])
def test_trouble_of_one_client_keeps_no_other_waiting(number: int) -> None:
    """It is counted, and the next client is accepted in the same turn."""
    loop = Loop(failing(number), CLIENT, failing(number), ("192.0.2.8", 4712))
    assert loop.turn() == [CLIENT, ("192.0.2.8", 4712)]
    assert loop.told == [(None, errno.errorcode[number], False)] * 2


def test_the_list_of_accept_2_is_taken_for_the_trouble_of_one_client() -> None:
    """Its section on error handling, for Linux."""
    network = {"ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ENONET"}
    rest = {"EPROTO", "ENOPROTOOPT", "EOPNOTSUPP", "ECONNABORTED", "EPERM"}
    assert {getattr(errno, each) for each in network | rest if hasattr(errno, each)} <= CLIENT_ERRORS


def test_the_reactor_on_uvloop_takes_over_what_was_accepted_in_the_same_turn() -> None:
    """Once, after the protocols know; and not if no client was accepted."""
    taken: list[int] = []
    loop = Loop(CLIENT, ("192.0.2.8", 4712))
    openings = SimpleNamespace(now=lambda: taken.append(len(loop.server.made)))
    loop.port.reactor = SimpleNamespace(openings=openings)
    loop.turn()
    loop.turn()
    assert taken == [2]


def test_trouble_without_end_is_the_systems() -> None:
    """The loop is not kept busy for ever; a client that is accepted in between restarts the count."""
    loop = Loop(*[failing(errno.EOPNOTSUPP)] * 2 * MOST_IN_A_ROW)
    loop.turn()
    assert [told[2] for told in loop.told] == [False] * (MOST_IN_A_ROW - 1) + [True]
    loop = Loop(*([failing(errno.EPROTO)] * (MOST_IN_A_ROW - 1) + [CLIENT]) * 2)
    loop.port.numberAccepts = 2 * MOST_IN_A_ROW
    assert loop.turn() == [CLIENT, CLIENT]
    assert [told for told in loop.told if told[2]] == []


@pytest.mark.parametrize("number", [errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL])
def test_a_system_that_can_accept_nobody_ends_the_turn(number: int) -> None:
    loop = Loop(failing(number), CLIENT)
    assert loop.turn() == []
    assert loop.told == [(None, errno.errorcode[number], True)]


def test_an_error_without_a_name_is_told_as_it_is() -> None:
    loop = Loop(OSError("timed out"))
    loop.turn()
    assert loop.told == [(None, "timed out", True)]


@pytest.fixture
def reserved(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the descriptor that Twisted keeps for this, as if it were kept."""
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
    """With the reserved descriptor; each is reported by its address, and the descriptor is reserved again."""
    loop = Loop(failing(errno.EMFILE), accepted, accepted)
    assert loop.turn() == []
    assert loop.told == [(address, "EMFILE", False)] * 2
    assert [each.closed for each in loop.listening.clients] == [True, True]
    assert reserved.available()


def test_without_descriptors_a_turn_ends_all_the_same(reserved: Any) -> None:
    """However many wait."""
    loop = Loop(failing(errno.EMFILE), *[CLIENT] * 2 * MOST_IN_A_ROW)
    loop.turn()
    assert len(loop.told) == MOST_IN_A_ROW


def test_without_a_reserved_descriptor_the_system_can_accept_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "_reservedFD", tcp._FileDescriptorReservation(Client))  # type: ignore[arg-type]
    loop = Loop(failing(errno.EMFILE), CLIENT)
    assert loop.turn() == []
    assert loop.told == [(None, "EMFILE", True)]


def test_a_turn_has_so_many_clients() -> None:
    """As many as it is told, and at least one; and as in Twisted, more in the next turn if more can wait."""
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
    loop = Loop(CLIENT, CLIENT)
    loop.turn()
    assert [each.transport.number for each in loop.server.made] == [0, 1]


def test_an_address_has_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link-local address has no meaning without its interface."""
    monkeypatch.setattr(socket, "getnameinfo", lambda address, flags: (f"{address[0]}%eth0", str(address[1])))
    loop = Loop(("fe80::1", 4711, 0, 2), ("2001:db8::1", 4711, 0, 0), place=0)
    loop.port._addressType = IPv6Address
    loop.turn()
    assert [each.host for each in loop.server.came] == ["fe80::1%eth0", "2001:db8::1"]


def test_a_factory_may_refuse_a_client() -> None:
    """By giving no protocol, as in Twisted: the client is closed."""
    loop = Loop(CLIENT)
    loop.server.make = lambda: None
    loop.turn()
    assert (loop.listening.clients[0].closed, loop.told) == (True, [])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM])
def test_a_connection_that_the_loop_cannot_watch_is_closed(number: int) -> None:
    """``epoll_ctl`` fails while the transport is made: it is reported by its address, and the next client is served."""
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


def test_a_connection_whose_beginning_fails_is_ended(logged_errors: Any) -> None:
    """Its protocol learns of the loss, and the error is logged; the next client is served."""
    loop = Loop(CLIENT, CLIENT)
    loop.server.make = Failing
    loop.turn()
    transports = [each.transport for each in loop.server.made]
    assert [each.lost.value for each in transports] == [Failing.error] * 2
    assert [each.closed for each in loop.listening.clients] == [True, True]
    assert len(logged_errors.take(ValueError)) == 2


def test_an_error_of_the_system_in_the_beginning_is_counted() -> None:
    """No traceback for each client."""
    loop = Loop(CLIENT)
    loop.server.make = type("OutOfMemory", (Failing,), {"error": failing(errno.ENOMEM)})
    loop.turn()
    assert loop.told == [(IPv4Address("TCP", *CLIENT), "ENOMEM", False)]


class Queue:
    """Holds the steps that wait for their turn, until the test runs them."""

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def run_step(self, step: Any) -> None:
        self.steps.append(step)

    def cancel_step(self, step: Any) -> None:
        self.steps.remove(step)


def test_one_client_is_accepted_in_turn() -> None:
    """However many wait, and however often the port becomes readable meanwhile."""
    loop, queue = Loop(*[CLIENT] * 10), Queue()
    loop.loop._step_runner = queue
    for _ in range(3):
        loop.turn()
    assert (len(queue.steps), loop.server.came) == (1, [])
    queue.steps.pop()()
    assert len(loop.server.came) == 1
    loop.turn()
    assert len(queue.steps) == 1


def test_a_port_that_is_shut_leaves_its_turn() -> None:
    """It can be closed at any time, and waits again when it is open again."""
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
