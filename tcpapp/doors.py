"""
The ports of a server, as doors: each may be shut for more than one reason, and those who come then wait in its backlog.

Clients that come faster than `Pace` allows are not turned away: all doors are shut for as long as it takes. Nor are,
where they are to wait, those for whom there is no room. Twisted takes in up to a hundred clients in a turn, whatever
its port is told meanwhile, unless it is told how many before the turn: so each port asks.

Where the system has no descriptor left for a client, Twisted has one that it kept for that, and closes the client
with it; it logs three lines for each. Here they are counted as all others who are turned away. Where the system cannot
take clients in at all, all doors are shut for a while, for to ask it again and again would keep the loop busy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, Logger

from tcpapp.pace import Pace

__all__ = ["Door", "Doors"]


REST = 1.0
"""Seconds for which nobody is taken in where the system could not: as long as Go's net/http rests at the most."""

Failed = Callable[[Any, str], None]
"""Told of a client who could not be taken in: the address, `None` where it is not known, and what the system said."""


def _ignored(address: Any, said: str) -> None: ...


class Door:
    """
    A listening `port`, and why nobody is taken in through it just now. A ``stdio:`` port cannot be shut.

    `most` says how many may be taken in in a turn, and `failed` is told of those whom the system could not take in.
    """

    def __init__(self, port: Any, most: Callable[[], int] = lambda: sys.maxsize, failed: Failed = _ignored) -> None:
        self.port = port
        self._failed = failed
        self._reasons: set[str] = set()
        self._gone = not hasattr(port, "stopReading") or not hasattr(port, "startReading")
        if hasattr(port, "numberAccepts"):
            self._ask_before_reading(most)
        if isinstance(getattr(port, "_logger", None), Logger):  # Twisted's, which has no other way to be heard
            port._logger = Logger(port._logger.namespace, observer=cast(ILogObserver, self._heard))

    def shut(self, reason: str) -> None:
        """Take nobody in until `open` of the same `reason`."""
        if not self._gone and not self._reasons:
            self.port.stopReading()
        self._reasons.add(reason)

    def open(self, reason: str) -> None:
        """The `reason` is gone."""
        shut = bool(self._reasons)
        self._reasons.discard(reason)
        if not self._gone and shut and not self._reasons:
            self.port.startReading()

    def _ask_before_reading(self, most: Callable[[], int]) -> None:
        """Have the port take in no more clients in a turn than `most` says: one at the least."""
        take_in = self.port.doRead

        def take_in_at_most() -> None:
            self.port.numberAccepts = max(1, min(self.port.numberAccepts, most()))
            take_in()

        self.port.doRead = take_in_at_most

    def _heard(self, event: Any) -> None:
        """The port says that a client was not taken in, or that it is about to close one, or has."""
        if "address" in event:
            self._failed(_address(event["address"]), "EMFILE")
        elif "acceptError" in event:
            self._failed(None, event["acceptError"])

    def take_away(self) -> None:
        """The port is being closed: nothing is asked of it any more."""
        self._gone = True


def _address(accepted: Any) -> IAddress:
    """What the system calls an address, as Twisted has it."""
    if not isinstance(accepted, tuple):
        return UNIXAddress(None)
    return (IPv6Address if ":" in accepted[0] else IPv4Address)("TCP", *accepted[:2])


class Doors:
    """
    All doors of one server, and the `pace` at which clients may come through them, by `clock` (`None`: any).

    `room` says for how many more there is room, where further ones are to wait for it; `failed` is told of each whom
    the system could not take in.
    """

    def __init__(
        self,
        pace: Pace,
        clock: IReactorTime | None,
        room: Callable[[], int] = lambda: sys.maxsize,
        failed: Failed = _ignored,
    ) -> None:
        self._failed = failed
        self.pace = pace
        self.clock = clock
        self._room = room
        self._full = False
        self._doors: dict[Door, None] = {}
        self._timer: IDelayedCall | None = None

    @property
    def is_shut(self) -> bool:
        """Whether clients came too fast, and the next ones wait."""
        return self._timer is not None

    def add(self, port: Any) -> Door:
        """A door for this port; it is shut where the others are for the pace's sake."""
        door = Door(port, self._most, self._not_taken_in)
        self._doors[door] = None
        if self.is_shut:
            door.shut("pace")
        if self._full:
            door.shut("full")
        return door

    def remove(self, door: Door) -> None:
        """Its port is being closed."""
        door.take_away()
        self._doors.pop(door, None)
        if not self._doors:
            self._stop_timer()

    def look(self) -> None:
        """Somebody came in, or went: shut all doors while there is no room, open them when there is."""
        full = self._room() <= 0
        if full != self._full:
            self._full = full
            for door in self._doors:
                (door.shut if full else door.open)("full")

    def came(self) -> None:
        """A client has come through one of the doors: shut all of them where the next one is to wait."""
        if self.clock is None:
            return
        seconds = self.pace.wait(self.clock.seconds())
        if seconds:
            self._rest(self.clock, seconds)

    def _not_taken_in(self, address: Any, said: str) -> None:
        """The system could not: where it does not even know whom, it would be asked again at once."""
        self._failed(address, said)
        if address is None and self.clock is not None:
            self._rest(self.clock, REST)

    def _rest(self, clock: IReactorTime, seconds: float) -> None:
        """Take nobody in for so long, if there is a door."""
        if self._doors:
            self._stop_timer()
            self._timer = clock.callLater(seconds, self._go_on)
            for door in self._doors:
                door.shut("pace")

    def _most(self) -> int:
        """How many clients may be taken in now."""
        if self.clock is None or not self.pace.rate:
            return self._room()
        return min(self._room(), int(self.pace.credit(self.clock.seconds())))

    def _go_on(self) -> None:
        self._timer = None
        for door in self._doors:
            door.open("pace")

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
