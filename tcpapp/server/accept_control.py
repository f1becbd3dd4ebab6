"""
Accept control: decides when the ports of a server accept clients. The clients of a paused port wait in the backlog.

A port (`PausablePort`) can be paused for several reasons at one time. Clients over the accept rate are not rejected:
all ports are paused until the next client can be accepted. When ``max_connections`` is reached and
``over_max_connections`` is ``wait``, all ports are paused until a connection ends.

Twisted accepts up to a hundred clients in one turn of the event loop, and a port cannot be paused within the turn. So
before each turn a port asks how many clients it can accept.

A port accepts by `tcpapp.server.accept_loop`, not by Twisted's own loop. Failed accepts are counted like rejected
clients. When the system cannot accept any client, all ports are paused for a second: trying again at once would keep
the event loop busy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime

from tcpapp.limits.fairness import StepScheduler
from tcpapp.limits.token_bucket import TokenBucket
from tcpapp.server.accept_loop import AcceptLoop, Failed, StepRunner
from tcpapp.transport.layers import serves_tls

__all__ = ["AcceptControl", "PausablePort"]


PAUSE_AFTER_FAILURE = 1.0
"""Seconds to wait after the system could accept no client. Source: the longest pause of Go's net/http."""


def _none_inherited(_: Any) -> bool:
    return False


def _ignored(address: Any, error_name: str, system_wide: bool = False) -> None: ...


class PausablePort:
    """
    A listening `port` that can be paused. The port of a ``stdio:`` endpoint cannot be paused.

    `most` returns the number of clients to accept in a turn, and `failed` is called for each failed accept. With
    `step_runner`, accepts alternate with TLS handshakes.
    """

    def __init__(
        self,
        port: Any,
        most: Callable[[], int] = lambda: sys.maxsize,
        failed: Failed = _ignored,
        step_runner: StepRunner | None = None,
    ) -> None:
        self.port = port
        self._reasons: set[str] = set()
        self._forgotten = not hasattr(port, "stopReading") or not hasattr(port, "startReading")
        self._accepting: AcceptLoop | None = None
        if isinstance(port, tcp.Port):
            self._accepting = AcceptLoop(port, most, failed, step_runner if serves_tls(port) else None)
            port.doRead = self._accepting.turn  # type: ignore[method-assign]

    @property
    def suspended(self) -> bool:
        """Whether the port was suspended by the user. It can be paused for other reasons, too."""
        return "suspended" in self._reasons

    def pause(self, reason: str) -> None:
        """Accept no client until `resume` is called for the same `reason`."""
        if not self._forgotten and not self._reasons:
            self.port.stopReading()
            self._stop_accepting()
        self._reasons.add(reason)

    def resume(self, reason: str) -> None:
        """Remove this `reason`. The port accepts clients again when no reason is left."""
        was_paused = bool(self._reasons)
        self._reasons.discard(reason)
        if not self._forgotten and was_paused and not self._reasons:
            self.port.startReading()

    def set_options(self, set_on: Callable[[Any], bool]) -> None:
        """Set the options of connections on the port, by a function that returns whether connections inherit them."""
        if self._accepting is not None:
            self._accepting.options_set(set_on(self.port))

    def forget(self) -> None:
        """Stop controlling the port, because it is being closed."""
        self._forgotten = True
        self._stop_accepting()

    def _stop_accepting(self) -> None:
        if self._accepting is not None:
            self._accepting.leave()


class AcceptControl:
    """
    Controls all ports of one server. `token_bucket` limits the accepts, by `clock`; with `None` there is no limit.

    `room` returns the number of clients that can still be accepted, if further clients must wait. `failed` is called
    for each failed accept. Accepts of TLS connections alternate with other steps of `step_scheduler`. `set_options`
    sets options on the socket of a port, and returns whether its connections inherit them.
    """

    def __init__(
        self,
        token_bucket: TokenBucket,
        clock: IReactorTime | None,
        room: Callable[[], int] = lambda: sys.maxsize,
        failed: Callable[[IAddress | None, str], None] = _ignored,
        step_scheduler: StepScheduler | None = None,
        set_options: Callable[[Any], bool] = _none_inherited,
    ) -> None:
        self._failed = failed
        self._set_options = set_options
        self._step_scheduler = StepScheduler() if step_scheduler is None else step_scheduler
        self.token_bucket = token_bucket
        self.clock = clock
        self._room = room
        self._is_full = False
        self._ports: dict[PausablePort, None] = {}
        self._timer: IDelayedCall | None = None

    @property
    def is_paused(self) -> bool:
        """Whether clients came faster than the accept rate, or could not be accepted, so that the next clients wait."""
        return self._timer is not None

    @property
    def addresses(self) -> list[IAddress]:
        """The addresses where the ports listen."""
        return [pausable.port.getHost() for pausable in self._ports]

    @property
    def suspended(self) -> bool:
        """Whether there are ports, and all of them are suspended."""
        return bool(self._ports) and all(pausable.suspended for pausable in self._ports)

    def add(self, port: Any) -> PausablePort:
        """Control this port, too, and return it. It is paused if the other ports are paused by the accept rate."""
        pausable = PausablePort(port, self._acceptable, self._accept_failed, self)
        self._ports[pausable] = None
        pausable.set_options(self._set_options)
        if self.is_paused:
            pausable.pause("accept_rate")
        if self._is_full:
            pausable.pause("max_connections")
        return pausable

    def remove(self, pausable: PausablePort) -> None:
        """Stop controlling this port, because it is being closed."""
        pausable.forget()
        self._ports.pop(pausable, None)
        if not self._ports:
            self._stop_timer()

    def set_options(self) -> None:
        """Set the options of connections on all ports again, because the settings have changed."""
        for pausable in self._ports:
            pausable.set_options(self._set_options)

    def run_step(self, step: Callable[[], None]) -> None:
        """Call `step` in this turn of the event loop, or in a later one. See `tcpapp.limits.fairness.StepScheduler`."""
        if self.clock is None:
            step()
        else:
            self._step_scheduler.run(step, self.clock)

    def cancel_step(self, step: Callable[[], None]) -> None:
        """Remove `step`, if it still waits for its turn."""
        self._step_scheduler.cancel(step)

    def check_room(self) -> None:
        """Pause or resume all ports after a client came or left, as the number of connections requires."""
        full = self._room() <= 0
        if full != self._is_full:
            self._is_full = full
            for pausable in self._ports:
                (pausable.pause if full else pausable.resume)("max_connections")

    def client_accepted(self) -> None:
        """Count an accepted client, and pause all ports if the next client must wait."""
        if self.clock is None:
            return
        seconds = self.token_bucket.take(self.clock.seconds())
        if seconds:
            self._pause_all(self.clock, seconds)

    def _accept_failed(self, address: IAddress | None, error_name: str, system_wide: bool) -> None:
        """Report a failed accept. After a `system_wide` error, wait before the next accept."""
        self._failed(address, error_name)
        if system_wide and self.clock is not None:
            self._pause_all(self.clock, PAUSE_AFTER_FAILURE)

    def _pause_all(self, clock: IReactorTime, seconds: float) -> None:
        """Accept no client for this many seconds, if there is a port."""
        if self._ports:
            self._stop_timer()
            self._timer = clock.callLater(seconds, self._resume_all)
            for pausable in self._ports:
                pausable.pause("accept_rate")

    def _acceptable(self) -> int:
        """Return how many clients can be accepted now."""
        if self.clock is None or not self.token_bucket.rate:
            return self._room()
        return min(self._room(), int(self.token_bucket.available(self.clock.seconds())))

    def _resume_all(self) -> None:
        self._timer = None
        for pausable in self._ports:
            pausable.resume("accept_rate")

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
