"""
Accept control: when the ports of a server accept clients. A closed gate keeps clients waiting in the backlog.

A port's gate (`Door`) can be closed for several reasons at one time. Clients over the accept rate are not rejected: all
gates close until the next client can be accepted. The same holds for clients without room, if the policy lets them
wait.

Twisted accepts up to a hundred clients in a turn, and a port cannot stop it within the turn. So each port asks for the
number of clients before the turn.

A port accepts by `tcpapp.server.accept_loop`, not by Twisted's own loop. Failed accepts are counted like rejected
clients. When the system cannot accept any client, all gates close for a while, because asking again and again would
keep the loop busy.
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
"""Seconds without accepts after the system could accept no client: the longest pause of Go's net/http."""


def _ignored(address: Any, said: str, nobody: bool = False) -> None: ...


class Door:
    """
    The gate of a listening `port`, with the reasons for which it is closed. A ``stdio:`` port cannot be closed.

    `most` gives the number of clients to accept in a turn, and `failed` is called for each failed accept. With
    `in_turn`, accepts take turns with TLS handshakes.
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
        """Whether it was suspended, whatever the accept rate allows."""
        return "suspended" in self._reasons

    def shut(self, reason: str) -> None:
        """Accept no client until `open` is called for the same `reason`."""
        if not self._gone and not self._reasons:
            self.port.stopReading()
            self._leave()
        self._reasons.add(reason)

    def open(self, reason: str) -> None:
        """The `reason` is over."""
        shut = bool(self._reasons)
        self._reasons.discard(reason)
        if not self._gone and shut and not self._reasons:
            self.port.startReading()

    def take_away(self) -> None:
        """The port is being closed: it is no longer controlled."""
        self._gone = True
        self._leave()

    def _leave(self) -> None:
        if self._accepting is not None:
            self._accepting.leave()


class Doors:
    """
    All gates of one server, and the `pace` of accepts by `clock` (`None`: no limit).

    `room` gives the number of free places, if further clients must wait for one. `failed` is called for each failed
    accept. Accepts of TLS connections take turns with other `steps`.
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
        """Whether clients came too fast, so that the next ones wait."""
        return self._timer is not None

    @property
    def addresses(self) -> list[IAddress]:
        """Where the ports listen."""
        return [door.port.getHost() for door in self._doors]

    @property
    def suspended(self) -> bool:
        """Whether there are gates, and each is suspended."""
        return bool(self._doors) and all(door.suspended for door in self._doors)

    def add(self, port: Any) -> Door:
        """Add a gate for this port; it is closed if the others are closed by the accept rate."""
        door = Door(port, self._most, self._not_taken_in, self)
        self._doors[door] = None
        if self.is_shut:
            door.shut("pace")
        if self._full:
            door.shut("full")
        return door

    def remove(self, door: Door) -> None:
        """The port is being closed."""
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
        """A client came or left: close all gates while there is no room, and open them when there is."""
        full = self._room() <= 0
        if full != self._full:
            self._full = full
            for door in self._doors:
                (door.shut if full else door.open)("full")

    def came(self) -> None:
        """A client was accepted: close all gates if the next client must wait."""
        if self.clock is None:
            return
        seconds = self.pace.wait(self.clock.seconds())
        if seconds:
            self._rest(self.clock, seconds)

    def _not_taken_in(self, address: IAddress | None, said: str, nobody: bool) -> None:
        """An accept failed; if the system can accept `nobody`, wait before the next accept."""
        self._failed(address, said)
        if nobody and self.clock is not None:
            self._rest(self.clock, REST)

    def _rest(self, clock: IReactorTime, seconds: float) -> None:
        """Accept no client for this many seconds, if there is a gate."""
        if self._doors:
            self._stop_timer()
            self._timer = clock.callLater(seconds, self._go_on)
            for door in self._doors:
                door.shut("pace")

    def _most(self) -> int:
        """How many clients can be accepted now."""
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
