"""
The ports of a server, as doors: each may be shut for more than one reason, and those who come then wait in its backlog.

Clients that come faster than `Pace` allows are not turned away: all doors are shut for as long as it takes. Nor are,
where they are to wait, those for whom there is no room. Twisted takes in up to a hundred clients in a turn, whatever
its port is told meanwhile, unless it is told how many before the turn: so each port asks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tcpapp.pace import Pace

__all__ = ["Door", "Doors"]


class Door:
    """A listening `port`, and why nobody is taken in through it just now. A ``stdio:`` port cannot be shut."""

    def __init__(self, port: Any, most: Callable[[], int] = lambda: sys.maxsize) -> None:
        self.port = port
        self._reasons: set[str] = set()
        self._gone = not hasattr(port, "stopReading") or not hasattr(port, "startReading")
        if hasattr(port, "numberAccepts"):
            self._ask_before_reading(most)

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

    def take_away(self) -> None:
        """The port is being closed: nothing is asked of it any more."""
        self._gone = True


class Doors:
    """
    All doors of one server, and the `pace` at which clients may come through them, by `clock` (`None`: any).

    `room` says for how many more there is room, where further ones are to wait for it.
    """

    def __init__(self, pace: Pace, clock: IReactorTime | None, room: Callable[[], int] = lambda: sys.maxsize) -> None:
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
        door = Door(port, self._most)
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
        if seconds and self._doors:
            self._stop_timer()
            self._timer = self.clock.callLater(seconds, self._go_on)
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
