"""Doors: shut for as long as any reason holds; and shut, all of them, while clients come too fast."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import Logger

from tcpapp.doors import Door, Doors
from tcpapp.pace import Pace


class Port:
    """A port that is told to read, or not to; it notes what it is told."""

    def __init__(self):
        self.told = []

    def startReading(self):
        self.told.append("start")

    def stopReading(self):
        self.told.append("stop")


def test_a_door_is_open_again_when_no_reason_is_left():
    """Each reason is given and taken back as often as one likes; the port is told of what changes."""
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
    """One that was shut stays so; one that was open cannot be shut any more."""
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
    """For as long as those who came need at the pace; a suspended one stays shut."""
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
    """Nor is one set where there is no door: who comes then came through a port of nobody's telling."""
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


class Taking(Port):
    """A port that takes in clients, as many in a turn as Twisted has it."""

    def __init__(self):
        super().__init__()
        self.numberAccepts = 100
        self.taken = []

    def doRead(self):
        self.taken.append(self.numberAccepts)
        self.numberAccepts += 20


def test_no_more_are_taken_in_in_a_turn_than_the_pace_allows():
    """One at the least: a port that reads has somebody to take in."""
    clock = Clock()
    doors = Doors(Pace(5), clock)
    port = doors.add(Taking()).port
    port.doRead()
    for _ in range(4):
        doors.came()
    port.doRead()
    doors.came()
    port.doRead()
    assert port.taken == [5, 1, 1]


def test_no_more_are_taken_in_in_a_turn_than_there_is_room_for():
    """By any pace; and while there is no room, all doors are shut, new ones too."""
    room = 3
    doors = Doors(Pace(0), Clock(), lambda: room)
    port = doors.add(Taking()).port
    doors.look()
    port.doRead()
    room = 0
    doors.look()
    doors.look()
    new = doors.add(Port())
    assert (port.taken, port.told, new.port.told) == ([3], ["stop"], ["stop"])
    room = 1
    doors.look()
    assert (port.told, new.port.told) == (["stop", "start"], ["stop", "start"])


def test_without_a_clock_room_counts_all_the_same():
    doors = Doors(Pace(5), None, lambda: 2)
    port = doors.add(Taking()).port
    port.doRead()
    assert port.taken == [2]


class Logging(Port):
    """A port that says what it cannot do, as Twisted's does."""

    def __init__(self):
        super().__init__()
        self._logger = Logger("twisted.internet.tcp.Port")


def test_a_client_for_whom_there_is_no_descriptor_is_told_of_in_one_way():
    """Twisted closes it, and says so in three lines; a port without such a log is left alone."""
    told = []
    doors = Doors(Pace(0), Clock(), failed=lambda address, said: told.append((address, said)))
    door = doors.add(Logging())
    doors.add(Port())
    port = door.port
    port._logger.info("EMFILE encountered; releasing reserved file descriptor.")
    for address in [("192.0.2.7", 4711), ("2001:db8::1", 4711, 0, 0), ""]:
        port._logger.info("EMFILE recovery: Closed socket from {address}", address=address)
    assert told == [
        (IPv4Address("TCP", "192.0.2.7", 4711), "EMFILE"),
        (IPv6Address("TCP", "2001:db8::1", 4711), "EMFILE"),
        (UNIXAddress(None), "EMFILE"),
    ]
    assert port.told == []


def test_a_system_that_can_take_nobody_in_is_not_asked_again_at_once():
    """The doors are shut for a second: the client waits, and the loop is not kept busy with it."""
    clock, told = Clock(), []
    doors = Doors(Pace(0), clock, failed=lambda address, said: told.append((address, said)))
    port = doors.add(Logging()).port
    port._logger.info("Could not accept new connection ({acceptError})", acceptError="ENFILE")
    assert (told, port.told) == ([(None, "ENFILE")], ["stop"])
    clock.advance(1)
    assert port.told == ["stop", "start"]


def test_a_door_of_its_own_tells_nobody():
    """Nor does one of doors that run by no clock rest."""
    door = Door(Logging())
    door.port._logger.info("Could not accept new connection ({acceptError})", acceptError="ENFILE")
    timeless = Doors(Pace(0), None).add(Logging()).port
    timeless._logger.info("Could not accept new connection ({acceptError})", acceptError="ENFILE")
    assert (door.port.told, timeless.told) == ([], [])
