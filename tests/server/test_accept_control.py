"""Accept control: a port is paused while any reason holds; all ports are paused while clients come too fast."""

from __future__ import annotations

import errno
import socket

import pytest
from twisted.internet import tcp
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory

from tcpapp.limits.fairness import StepScheduler
from tcpapp.limits.token_bucket import TokenBucket
from tcpapp.server.accept_control import AcceptControl, PausablePort
from tests.peers import TurnClock


class Port:
    """A port that records the calls of startReading and stopReading."""

    def __init__(self):
        self.told = []

    def startReading(self):
        self.told.append("start")

    def stopReading(self):
        self.told.append("stop")


def test_a_port_accepts_again_when_no_reason_is_left():
    """A port is paused by its first reason and resumed after its last; giving the same reason twice changes nothing."""
    pausable = PausablePort(Port())
    pausable.pause("suspended")
    pausable.pause("suspended")
    pausable.pause("accept_rate")
    assert pausable.port.told == ["stop"]
    pausable.resume("suspended")
    assert pausable.port.told == ["stop"]
    pausable.resume("accept_rate")
    pausable.resume("accept_rate")
    assert pausable.port.told == ["stop", "start"]


def test_a_closed_port_is_neither_paused_nor_resumed():
    """After `forget`, `pause` and `resume` do not call the port, whether it was paused before or not."""
    paused, pausable = PausablePort(Port()), PausablePort(Port())
    paused.pause("accept_rate")
    for each in (paused, pausable):
        each.forget()
        each.resume("accept_rate")
        each.pause("suspended")
        each.resume("suspended")
    assert (paused.port.told, pausable.port.told) == (["stop"], [])


def test_a_port_that_cannot_be_paused_stays_open():
    """`pause` and `resume` do nothing for the transport that a ``stdio:`` endpoint gives in place of a port."""
    pausable = PausablePort(object())
    pausable.pause("suspended")
    pausable.resume("suspended")


def test_all_ports_are_paused_while_clients_connect_over_the_rate():
    """At two clients a second, a third client pauses all ports for a second; a suspended port stays paused after it."""
    clock = Clock()
    accept_control = AcceptControl(TokenBucket(2), clock)
    one, other = accept_control.add(Port()), accept_control.add(Port())
    other.pause("suspended")
    accept_control.client_accepted()
    assert one.port.told == []
    accept_control.client_accepted()
    accept_control.client_accepted()
    assert one.port.told == ["stop"]
    clock.advance(0.9)
    assert one.port.told == ["stop"]
    clock.advance(0.1)
    assert one.port.told == ["stop", "start"]
    assert other.port.told == ["stop"]
    other.resume("suspended")
    assert other.port.told == ["stop", "start"]
    assert clock.getDelayedCalls() == []


def test_a_new_port_is_paused_with_the_others():
    """A port that is added while all ports are paused is paused, and resumed with them."""
    clock = Clock()
    accept_control = AcceptControl(TokenBucket(1), clock)
    accept_control.add(Port())
    accept_control.client_accepted()
    new = accept_control.add(Port())
    assert new.port.told == ["stop"]
    clock.advance(1)
    assert new.port.told == ["stop", "start"]


def test_no_timer_is_left_when_the_last_port_is_gone():
    """Removing the last port cancels the timer; a client that is accepted without a port sets no timer."""
    clock = Clock()
    accept_control = AcceptControl(TokenBucket(1), clock)
    one, other = accept_control.add(Port()), accept_control.add(Port())
    accept_control.client_accepted()
    accept_control.remove(one)
    assert len(clock.getDelayedCalls()) == 1
    accept_control.remove(other)
    accept_control.remove(other)
    accept_control.client_accepted()
    assert clock.getDelayedCalls() == []


def test_without_a_clock_there_is_no_rate():
    """Without a clock, the accept rate pauses no port."""
    accept_control = AcceptControl(TokenBucket(1), None)
    pausable = accept_control.add(Port())
    for _ in range(10):
        accept_control.client_accepted()
    assert pausable.port.told == []


class Taking(tcp.Port):
    """A port of Twisted's that records its calls, and how many clients it would accept in each turn."""

    def __init__(self):
        super().__init__(0, ServerFactory())
        self.numberAccepts = 100
        self.told = []
        self.taken = []
        self.socket = self
        self.error = BlockingIOError(errno.EAGAIN, "nobody waits")

    def startReading(self):
        self.told.append("start")

    def stopReading(self):
        self.told.append("stop")

    def accept(self):
        raise self.error

    def turn(self):
        """Make one turn of the accept loop, and record how many clients it accepted."""
        self.most = 0
        self.accept = self.count
        self.doRead()
        self.taken.append(self.most)
        self.numberAccepts = 100

    def count(self):
        self.most += 1
        return socket.socket(), ("192.0.2.7", 4711)


@pytest.fixture
def taking():
    """Give a function that makes a `Taking` port whose factory rejects all clients."""

    def make():
        port = Taking()
        port.factory.buildProtocol = lambda _: None
        return port

    return make


def test_a_turn_accepts_no_more_clients_than_the_rate_allows(taking):
    """A turn accepts as many clients as the accept rate leaves, and at least one."""
    clock = Clock()
    accept_control = AcceptControl(TokenBucket(5), clock)
    port = accept_control.add(taking()).port
    port.turn()
    for _ in range(4):
        accept_control.client_accepted()
    port.turn()
    accept_control.client_accepted()
    port.turn()
    assert port.taken == [5, 1, 1]


def test_a_turn_accepts_no_more_clients_than_there_is_room_for(taking):
    """A turn accepts as many clients as there is room for; without room, all ports are paused, new ports too."""
    room = 3
    accept_control = AcceptControl(TokenBucket(0), Clock(), lambda: room)
    port = accept_control.add(taking()).port
    accept_control.check_room()
    port.turn()
    room = 0
    accept_control.check_room()
    accept_control.check_room()
    new = accept_control.add(Port())
    assert (port.taken, port.told, new.port.told) == ([3], ["stop"], ["stop"])
    room = 1
    accept_control.check_room()
    assert (port.told, new.port.told) == (["stop", "start"], ["stop", "start"])


def test_without_a_clock_room_still_limits_a_turn(taking):
    """Without a clock there is no accept rate, and a turn accepts as many clients as there is room for."""
    accept_control = AcceptControl(TokenBucket(5), None, lambda: 2)
    port = accept_control.add(taking()).port
    port.turn()
    assert port.taken == [2]


def test_an_error_of_one_client_is_reported_and_pauses_no_port(taking):
    """When accept(2) fails with ECONNABORTED, the error is reported, and the port is not paused."""
    told = []
    port = (
        AcceptControl(TokenBucket(0), Clock(), failed=lambda address, error_name: told.append((address, error_name)))
        .add(taking())
        .port
    )
    port.numberAccepts = 1
    port.error = OSError(errno.ECONNABORTED, "it left")
    port.doRead()
    assert (told, port.told) == ([(None, "ECONNABORTED")], [])


def test_an_error_of_the_system_pauses_all_ports_for_a_second(taking):
    """When accept(2) fails with ENFILE, the port is paused for a second: failing accepts would keep the loop busy."""
    clock, told = Clock(), []
    port = (
        AcceptControl(TokenBucket(0), clock, failed=lambda address, error_name: told.append((address, error_name)))
        .add(taking())
        .port
    )
    port.error = OSError(errno.ENFILE, "too many open files")
    port.doRead()
    assert (told, port.told) == ([(None, "ENFILE")], ["stop"])
    clock.advance(1)
    assert port.told == ["stop", "start"]


def test_without_accept_control_or_clock_an_error_pauses_no_port(taking):
    """After an error of the system, a port without accept control or without a clock is not paused."""
    pausable, timeless = PausablePort(taking()), AcceptControl(TokenBucket(0), None).add(taking())
    for each in (pausable, timeless):
        each.port.error = OSError(errno.ENFILE, "too many open files")
        each.port.doRead()
    assert (pausable.port.told, timeless.port.told) == ([], [])


def test_tls_clients_are_accepted_one_in_a_turn(taking):
    """A TLS client is accepted after the steps that wait before it; a paused or forgotten port has no step waiting."""
    clock, step_scheduler, done = TurnClock(), StepScheduler(), []
    pausable = AcceptControl(TokenBucket(0), clock, step_scheduler=step_scheduler).add(serving_tls(taking()))
    port = pausable.port
    step_scheduler.run(lambda: done.append("step"), clock)
    step_scheduler.run(lambda: done.append("other"), clock)
    port.turn()
    clock.give_turn()
    assert (done, port.most) == (["step", "other"], 0)
    clock.give_turn()
    assert port.most == 1
    port.turn()
    pausable.pause("suspended")
    assert len(step_scheduler) == 0
    pausable.resume("suspended")
    port.turn()
    pausable.forget()
    clock.give_turn()
    assert (len(step_scheduler), port.most) == (0, 0)


def test_without_a_clock_a_tls_client_is_accepted_at_once(taking):
    """Without a clock, the accept of a TLS client is not a step that waits."""
    port = AcceptControl(TokenBucket(0), None).add(serving_tls(taking())).port
    port.turn()
    assert port.taken == [1]


def serving_tls(port):
    """Give the port a factory that sets up TLS, and return the port."""
    factory = TLSMemoryBIOFactory.__new__(TLSMemoryBIOFactory)
    factory.wrappedFactory, factory.buildProtocol = port.factory, port.factory.buildProtocol
    port.factory = factory
    return port
