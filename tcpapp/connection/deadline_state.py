"""
The deadlines of a connection as facts, from which the deadlines of another connection go on.

All times are relative: how many seconds a wait has left, and how long ago an event was. So another process goes on with
them on its own clock. The time between `dump_deadlines` and `load_deadlines` counts for no wait. The loaded timer fires
no later than the dumped one would have; where it fires earlier, it only looks earlier whose turn it is.

A wait that stands still because nothing is read is dumped as it stands, and runs when it is loaded. A connection that
is not read from there stops it again (`Deadlines.pause`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Final

from tcpapp.connection.deadlines import NEVER, PEER_WAITS, Deadlines, later
from tcpapp.connection.state_form import LONGEST_TIME, Facts
from tcpapp.limits import Timeouts, numbers_of

__all__ = [
    "MOVED_WAITS",
    "DeadlineState",
    "Wait",
    "dump_deadlines",
    "facts_of",
    "load_deadlines",
    "load_wait",
    "read_deadlines",
]

STARTED: Final = frozenset(
    each.name for each in numbers_of(Timeouts) if each.metadata["rule"] and not each.metadata["since"]
)
"""The waits that a part of a connection starts and stops. Beside them are ``ending`` and the waits for the rates."""

MOVED_WAITS: Final = (STARTED | {"message_rate", "byte_rate"}) - {"tls_handshake", "handler_timeout"}
"""The started waits that can run at a message boundary of an open connection."""


@dataclass(frozen=True)
class Wait:
    """A started wait: the seconds that it has `left`, of its whole length."""

    left: float
    of: float


@dataclass(frozen=True)
class DeadlineState:
    """
    The state of a connection's `Deadlines`, named as there. `None` stands for an event that never was.

    - `waits`: the started waits; `timer`: the seconds until the timer fires.
    - `unfinished`, `peer_silent`, `both_silent`, `received`, `sent`, `began`, `heartbeat` and `pressure`: ages in
      seconds.
    """

    waits: dict[str, Wait]
    timer: float | None
    unfinished: float | None
    peer_silent: float
    both_silent: float
    received: float
    sent: float | None
    began: float
    heartbeat: float
    missed: int
    read_paused: bool
    pressure: float | None
    was_handling: bool
    peer_spoke: bool
    wants_all: bool


def dump_deadlines(deadlines: Deadlines) -> DeadlineState:
    """The state of `deadlines`, which run on unchanged."""
    now, stopped, started = deadlines.seconds(), deadlines.stopped, deadlines.own_started() or {}
    received, sent = deadlines.last_received, deadlines.last_sent

    def cut(seconds: float) -> float:
        return min(max(0.0, seconds), LONGEST_TIME)

    def age(at: float) -> float:
        return cut(now - at)

    def left(wait: str) -> Wait:
        began, seconds = started[wait]
        if wait in PEER_WAITS:
            began = later(began, stopped, now)
        return Wait(cut(began + seconds - now), cut(seconds))

    unfinished, pressure = deadlines._unfinished, deadlines._pressure_until
    return DeadlineState(
        waits={wait: left(wait) for wait in sorted(MOVED_WAITS.intersection(deadlines.started))},
        timer=None if deadlines.timer_at == inf else cut(deadlines.timer_at - now),
        unfinished=None if unfinished is None else age(later(unfinished, deadlines._message_stopped, now)),
        peer_silent=age(later(max(received, deadlines._peer_silent_since), stopped, now)),
        both_silent=age(later(max(received, sent, deadlines._both_silent_since), stopped, now)),
        received=age(received),
        sent=None if sent == NEVER else age(sent),
        began=age(deadlines.opened),
        heartbeat=age(deadlines._last_beat),
        missed=deadlines._missed,
        read_paused=deadlines._read_paused,
        pressure=None if pressure == NEVER else age(min(pressure, now)),
        was_handling=deadlines._was_handling,
        peer_spoke=deadlines.peer_spoke,
        wants_all=deadlines.wants_all,
    )


def load_deadlines(deadlines: Deadlines, state: DeadlineState) -> None:
    """Go on from `state`, on the clock of `deadlines`, which `track` their waits already."""
    now = deadlines.seconds()
    deadlines._unset()
    deadlines._unfinished = None if state.unfinished is None else now - state.unfinished
    deadlines._peer_silent_since = now - state.peer_silent
    deadlines._both_silent_since = now - state.both_silent
    deadlines.last_received = now - state.received
    deadlines.last_sent = NEVER if state.sent is None else now - state.sent
    deadlines.opened = now - state.began
    deadlines._last_beat = now - state.heartbeat
    deadlines._missed = state.missed
    deadlines._read_paused = state.read_paused
    deadlines._pressure_until = NEVER if state.pressure is None else now - state.pressure
    deadlines._was_handling = state.was_handling
    deadlines.peer_spoke = state.peer_spoke
    deadlines.wants_all = state.wants_all
    for name, wait in state.waits.items():
        load_wait(deadlines, name, wait)
    if state.timer is not None:
        deadlines._wake_by(now + state.timer)
    deadlines._wake_for_first()


def load_wait(deadlines: Deadlines, name: str, wait: Wait) -> None:
    """Go on with one started wait. It is reported with its whole length."""
    deadlines.start(name, wait.left)
    started = deadlines.own_started()
    if started is not None:
        began, left = started[name]
        started[name] = (began + left - wait.of, wait.of)


def facts_of(state: DeadlineState) -> dict[str, Any]:
    """`state` as facts, which `read_deadlines` reads."""
    return asdict(state)


def read_deadlines(facts: Facts) -> DeadlineState:
    """The state that `facts_of` wrote. Raises `InvalidState` for other facts."""
    waits = facts.facts("waits")
    state = DeadlineState(
        waits={name: _read_wait(waits.facts(name)) for name in sorted(MOVED_WAITS) if waits.has(name)},
        timer=facts.seconds_or_none("timer"),
        unfinished=facts.seconds_or_none("unfinished"),
        peer_silent=facts.seconds("peer_silent"),
        both_silent=facts.seconds("both_silent"),
        received=facts.seconds("received"),
        sent=facts.seconds_or_none("sent"),
        began=facts.seconds("began"),
        heartbeat=facts.seconds("heartbeat"),
        missed=facts.count("missed"),
        read_paused=facts.flag("read_paused"),
        pressure=facts.seconds_or_none("pressure"),
        was_handling=facts.flag("was_handling"),
        peer_spoke=facts.flag("peer_spoke"),
        wants_all=facts.flag("wants_all"),
    )
    waits.end()
    facts.end()
    return state


def _read_wait(facts: Facts) -> Wait:
    wait = Wait(left=facts.seconds("left"), of=facts.seconds("of"))
    facts.end()
    return wait
