"""
The ports of a server, as doors: each may be shut for more than one reason, and those who come then wait in its backlog.

Clients that come faster than `Pace` allows are not turned away: all doors are shut for as long as it takes. Twisted
takes in up to 100 clients in a turn, whatever its port is told meanwhile; those are reckoned up.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tcpapp.admission import Pace

__all__ = ["Door", "Doors"]


class Door:
    """A listening `port`, and why nobody is taken in through it just now. A ``stdio:`` port cannot be shut."""

    def __init__(self, port: Any) -> None:
        self.port = port
        self._reasons: set[str] = set()
        self._gone = not hasattr(port, "stopReading") or not hasattr(port, "startReading")

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

    def take_away(self) -> None:
        """The port is being closed: nothing is asked of it any more."""
        self._gone = True


class Doors:
    """All doors of one server, and the `pace` at which clients may come through them, by `clock` (`None`: any)."""

    def __init__(self, pace: Pace, clock: IReactorTime | None) -> None:
        self.pace = pace
        self.clock = clock
        self._doors: dict[Door, None] = {}
        self._timer: IDelayedCall | None = None

    @property
    def is_shut(self) -> bool:
        """Whether clients came too fast, and the next ones wait."""
        return self._timer is not None

    def add(self, port: Any) -> Door:
        """A door for this port; it is shut where the others are for the pace's sake."""
        door = Door(port)
        self._doors[door] = None
        if self.is_shut:
            door.shut("pace")
        return door

    def remove(self, door: Door) -> None:
        """Its port is being closed."""
        door.take_away()
        self._doors.pop(door, None)
        if not self._doors:
            self._stop_timer()

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

    def _go_on(self) -> None:
        self._timer = None
        for door in self._doors:
            door.open("pace")

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
