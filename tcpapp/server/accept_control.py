"""
The ports of a server, as doors: each may be shut for more than one reason, and those who come then wait in its backlog.

Clients that come faster than `Pace` allows are not turned away: all doors are shut for as long as it takes. Nor are,
where they are to wait, those for whom there is no room. Twisted takes in up to a hundred clients in a turn, whatever
its port is told meanwhile, unless it is told how many before the turn: so each port asks.

A port accepts by `tcpapp.server.accept_loop`, not by Twisted's own loop. Clients that cannot be accepted are counted
like all others that are turned away. Where the system cannot accept any, all doors are shut for a while: to ask it
again and again would keep the loop busy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime

from tcpapp.limits.fairness import Steps
from tcpapp.limits.token_bucket import Pace
from tcpapp.server.accept_loop import Accepting, Failed, InTurn
from tcpapp.transport.layers import serves_tls

__all__ = ["Door", "Doors"]


REST = 1.0
"""Seconds for which nobody is taken in where the system could not: as long as Go's net/http rests at the most."""


def _ignored(address: Any, said: str, nobody: bool = False) -> None: ...


class Door:
    """
    A listening `port`, and why nobody is taken in through it just now. A ``stdio:`` port cannot be shut.

    `most` says how many may be taken in in a turn, and `failed` is told of those whom the system could not take in.
    Where TLS is to be set up with them, they are taken in `in_turn`.
    """

    def __init__(
        self,
        port: Any,
        most: Callable[[], int] = lambda: sys.maxsize,
        failed: Failed = _ignored,
        in_turn: InTurn | None = None,
    ) -> None:
        self.port = port
        self._reasons: set[str] = set()
        self._gone = not hasattr(port, "stopReading") or not hasattr(port, "startReading")
        self._accepting: Accepting | None = None
        if isinstance(port, tcp.Port):
            self._accepting = Accepting(port, most, failed, in_turn if serves_tls(port) else None)
            port.doRead = self._accepting.turn  # type: ignore[method-assign]

    @property
    def suspended(self) -> bool:
        """Whether nobody is taken in until that is undone, whatever the pace."""
        return "suspended" in self._reasons

    def shut(self, reason: str) -> None:
        """Take nobody in until `open` of the same `reason`."""
        if not self._gone and not self._reasons:
            self.port.stopReading()
            self._leave()
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
        self._leave()

    def _leave(self) -> None:
        if self._accepting is not None:
            self._accepting.leave()


class Doors:
    """
    All doors of one server, and the `pace` at which clients may come through them, by `clock` (`None`: any).

    `room` says for how many more there is room, where further ones are to wait for it; `failed` is told of each whom
    the system could not take in. Those with whom TLS is to be set up take turns with other `steps`.
    """

    def __init__(
        self,
        pace: Pace,
        clock: IReactorTime | None,
        room: Callable[[], int] = lambda: sys.maxsize,
        failed: Callable[[IAddress | None, str], None] = _ignored,
        steps: Steps | None = None,
    ) -> None:
        self._failed = failed
        self._steps = Steps() if steps is None else steps
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

    @property
    def addresses(self) -> list[IAddress]:
        """Where the ports listen."""
        return [door.port.getHost() for door in self._doors]

    @property
    def suspended(self) -> bool:
        """Whether there are doors, and each is suspended."""
        return bool(self._doors) and all(door.suspended for door in self._doors)

    def add(self, port: Any) -> Door:
        """A door for this port; it is shut where the others are for the pace's sake."""
        door = Door(port, self._most, self._not_taken_in, self)
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

    def take_turn(self, step: Callable[[], None]) -> None:
        """Call `step` in this turn of the loop, or in a later one. See `tcpapp.limits.fairness.Steps`."""
        if self.clock is None:
            step()
        else:
            self._steps.take(step, self.clock)

    def leave_turn(self, step: Callable[[], None]) -> None:
        """Call `step` no more."""
        self._steps.leave(step)

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

    def _not_taken_in(self, address: IAddress | None, said: str, nobody: bool) -> None:
        """A client could not be accepted; where the system can accept `nobody`, it is not asked again at once."""
        self._failed(address, said)
        if nobody and self.clock is not None:
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
