"""Accept control: ports closed for as long as any reason holds; and all of them while clients come too fast."""

from __future__ import annotations

import errno
import socket

import pytest
from twisted.internet import tcp
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory

from tcpapp.limits.fairness import Steps
from tcpapp.limits.token_bucket import Pace
from tcpapp.server.accept_control import Door, Doors
from tests.peers import TurnClock


class Port:
    """A port that notes whether it is told to read."""

    def __init__(self):
        self.told = []

    def startReading(self):
        self.told.append("start")

    def stopReading(self):
        self.told.append("stop")


def test_a_door_is_open_again_when_no_reason_is_left():
    """Each reason can be given and taken back any number of times; the port learns of changes."""
    door = Door(Port())
    door.shut("suspended")
    door.shut("suspended")
    door.shut("pace")
    assert door.port.told == ["stop"]
    door.open("suspended")
    assert door.port.told == ["stop"]
    door.open("pace")
    door.open("pace")
    assert door.port.told == ["stop", "start"]


def test_nothing_is_asked_of_a_port_that_is_closed():
    """A closed port stays closed; an open one cannot be closed any more."""
    shut, door = Door(Port()), Door(Port())
    shut.shut("pace")
    for each in (shut, door):
        each.take_away()
        each.open("pace")
        each.shut("suspended")
        each.open("suspended")
    assert (shut.port.told, door.port.told) == (["stop"], [])


def test_a_port_that_cannot_be_shut_stays_open():
    """A ``stdio:`` endpoint gives its one connection's transport."""
    door = Door(object())
    door.shut("suspended")
    door.open("suspended")


def test_all_doors_are_shut_while_clients_come_too_fast():
    """For as long as the accepted clients need at this rate; a suspended port stays closed."""
    clock = Clock()
    doors = Doors(Pace(2), clock)
    one, other = doors.add(Port()), doors.add(Port())
    other.shut("suspended")
    doors.came()
    assert one.port.told == []
    doors.came()
    doors.came()
    assert one.port.told == ["stop"]
    clock.advance(0.9)
    assert one.port.told == ["stop"]
    clock.advance(0.1)
    assert one.port.told == ["stop", "start"]
    assert other.port.told == ["stop"]
    other.open("suspended")
    assert other.port.told == ["stop", "start"]
    assert clock.getDelayedCalls() == []


def test_a_door_that_is_new_is_shut_with_the_others():
    clock = Clock()
    doors = Doors(Pace(1), clock)
    doors.add(Port())
    doors.came()
    new = doors.add(Port())
    assert new.port.told == ["stop"]
    clock.advance(1)
    assert new.port.told == ["stop", "start"]


def test_no_timer_is_left_when_the_last_door_is_gone():
    """Nor is one set without a port: the client then came through a port that was not added."""
    clock = Clock()
    doors = Doors(Pace(1), clock)
    one, other = doors.add(Port()), doors.add(Port())
    doors.came()
    doors.remove(one)
    assert len(clock.getDelayedCalls()) == 1
    doors.remove(other)
    doors.remove(other)
    doors.came()
    assert clock.getDelayedCalls() == []


def test_without_a_clock_there_is_no_pace():
    doors = Doors(Pace(1), None)
    door = doors.add(Port())
    for _ in range(10):
        doors.came()
    assert door.port.told == []


class Taking(tcp.Port):
    """A port of Twisted's that notes how many clients it must accept, and its calls."""

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
        """Accept, without a client; note how many would have been allowed."""
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
    """Give a function that makes a port whose factory refuses all clients."""

    def make():
        port = Taking()
        port.factory.buildProtocol = lambda _: None
        return port

    return make


def test_no_more_are_taken_in_in_a_turn_than_the_pace_allows(taking):
    """At least one: a port that reads has a client to accept."""
    clock = Clock()
    doors = Doors(Pace(5), clock)
    port = doors.add(taking()).port
    port.turn()
    for _ in range(4):
        doors.came()
    port.turn()
    doors.came()
    port.turn()
    assert port.taken == [5, 1, 1]


def test_no_more_are_taken_in_in_a_turn_than_there_is_room_for(taking):
    """At any rate; and while there is no room, all ports are closed, new ones too."""
    room = 3
    doors = Doors(Pace(0), Clock(), lambda: room)
    port = doors.add(taking()).port
    doors.look()
    port.turn()
    room = 0
    doors.look()
    doors.look()
    new = doors.add(Port())
    assert (port.taken, port.told, new.port.told) == ([3], ["stop"], ["stop"])
    room = 1
    doors.look()
    assert (port.told, new.port.told) == (["stop", "start"], ["stop", "start"])


def test_without_a_clock_room_counts_all_the_same(taking):
    doors = Doors(Pace(5), None, lambda: 2)
    port = doors.add(taking()).port
    port.turn()
    assert port.taken == [2]


def test_trouble_of_one_client_is_told_and_shuts_no_door(taking):
    """The next one is accepted at once."""
    told = []
    port = Doors(Pace(0), Clock(), failed=lambda address, said: told.append((address, said))).add(taking()).port
    port.numberAccepts = 1
    port.error = OSError(errno.ECONNABORTED, "it left")
    port.doRead()
    assert (told, port.told) == ([(None, "ECONNABORTED")], [])


def test_a_system_that_can_take_nobody_in_is_not_asked_again_at_once(taking):
    """The ports are closed for a second: the client waits, and the loop is not kept busy with it."""
    clock, told = Clock(), []
    port = Doors(Pace(0), clock, failed=lambda address, said: told.append((address, said))).add(taking()).port
    port.error = OSError(errno.ENFILE, "too many open files")
    port.doRead()
    assert (told, port.told) == ([(None, "ENFILE")], ["stop"])
    clock.advance(1)
    assert port.told == ["stop", "start"]


def test_a_door_of_its_own_tells_nobody(taking):
    """Nor do ports without a clock pause."""
    door, timeless = Door(taking()), Doors(Pace(0), None).add(taking())
    for each in (door, timeless):
        each.port.error = OSError(errno.ENFILE, "too many open files")
        each.port.doRead()
    assert (door.port.told, timeless.port.told) == ([], [])


def test_clients_with_whom_tls_is_set_up_are_taken_in_one_in_a_turn(taking):
    """In turn with other steps; while the port is closed, and after its end, none is done."""
    clock, steps, done = TurnClock(), Steps(), []
    door = Doors(Pace(0), clock, steps=steps).add(serving_tls(taking()))
    port = door.port
    steps.take(lambda: done.append("step"), clock)
    steps.take(lambda: done.append("other"), clock)
    port.turn()
    clock.give_turn()
    assert (done, port.most) == (["step", "other"], 0)
    clock.give_turn()
    assert port.most == 1
    port.turn()
    door.shut("suspended")
    assert len(steps) == 0
    door.open("suspended")
    port.turn()
    door.take_away()
    clock.give_turn()
    assert (len(steps), port.most) == (0, 0)


def test_without_a_clock_they_are_taken_in_at_once(taking):
    port = Doors(Pace(0), None).add(serving_tls(taking())).port
    port.turn()
    assert port.taken == [1]


def serving_tls(port):
    """Let the factory of a port set up TLS."""
    factory = TLSMemoryBIOFactory.__new__(TLSMemoryBIOFactory)
    factory.wrappedFactory, factory.buildProtocol = port.factory, port.factory.buildProtocol
    port.factory = factory
    return port
