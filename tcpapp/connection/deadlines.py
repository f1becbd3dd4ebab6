"""
Every wait of one connection, on one timer.

Some waits begin and end (`start`, `stop`); others are reckoned from what happened last, which the path of a message
only notes: a time is written down, and no timer is touched. When the timer fires and all is well, it is set anew for
the wait that ends first. A timer that is set is moved only to be sooner.

The waits are the fields of `Timeouts` that have a rule, and ``ending``: closing, draining, or answering after a
half-close comes to an end. A field's ``since`` says what is waited for again and again, and from when. The parts of a
connection start the other waits, for they know when these begin.

While the connection is not read from, the peer cannot be heard. So the waits for its bytes (``tls_handshake``,
``first_message``, ``frame``, ``idle`` and ``idle_read``) stand still, and go on from where they stood. Heartbeats are
still sent, but an unanswered heartbeat does not count as missed then. All other waits go on. So a peer cannot keep a
connection open by making us stop reading:

=============================== ======================== ==========================================================
not read from, because          what stands still        what ends it
=============================== ======================== ==========================================================
of ``byte_rate``                the five                 the rate: the bytes of one read, divided by it
of ``message_rate``             the five                 the rate: the messages of one read, divided by it
of ``messages_per_turn``        the five                 the turns that the messages of one read take
a step of its handshake waits   the five                 the turns that the steps before it take
the inbox is full: a slow app   the five                 ``answer``; of a conversation, ``idle_write``, ``max_age``
the inbox is full: no reading   the five                 ``send_progress``: the peer does not take its replies
memory is short                 the five without         ``frame``, for an unfinished message (rule ``memory-short``);
                                ``frame``                ``send_progress``, for replies that are not taken
=============================== ======================== ==========================================================

Under ``byte_rate`` a message has ``frame`` seconds, and in addition the seconds that the rate costs: at most the
framing's ``max`` divided by the rate. With ``frame=0`` only ``max_buffered`` bounds an unfinished message. In all cases
TCP keepalive ends the connection of a machine that vanished.

The time of a stalled event loop does not count either: when a timer fires late, sockets are read before anything ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from math import inf
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tcpapp.connection.outcomes import HEARTBEAT, OVERDUE, Settler
from tcpapp.limits import Timeouts, numbers_of

__all__ = ["Deadlines", "waits_of"]

STALL = 1.0
"""Seconds by which a late timer says that the loop stood still. Our choice: the default of ``blocked``."""

NEVER: Final = -inf
"""A time before all others."""

LOOKS = 2
"""Turns to wait then. One is not enough: uvloop makes a call that is due at once before it reads the sockets."""

PEERS = frozenset(("tls_handshake", "first_message"))
"""The waits that are started, and that end well only by what the peer sends."""

RESOLUTION = 0.001
"""Seconds that a timer may fire early: epoll waits in whole milliseconds, and sums of floats are not exact."""

_ROWS: Final = {each.name: each.metadata for each in numbers_of(Timeouts)}

SINCE: Final[dict[str, str]] = {name: about["since"] for name, about in _ROWS.items() if about["since"]}
"""What is waited for again and again on an open connection, and what each wait is reckoned from."""

OF_SERVERS: Final = frozenset(name for name, about in _ROWS.items() if about["side"] == "server")
"""The waits of servers alone."""


def waits_of(timeouts: Timeouts, *, serves: bool, beats: bool) -> dict[str, float]:
    """
    What is waited for again and again on an open connection, in seconds, as `Deadlines.reckon` takes it.

    A server's (`serves`) peer may not be idle, a client's may; where it `beats`, there are heartbeats to be sent.
    """
    return {
        wait: getattr(timeouts, wait)
        for wait, since in SINCE.items()
        if (serves or wait not in OF_SERVERS) and (beats or since != "heartbeat")
    }


class Deadlines:
    """
    The waits of one connection. They run on a clock from `run_on`; without one they never end.

    The receiver sets `heard` when bytes come. The outbox sets `said` when it gives bytes to the transport; until then
    `said` is `NEVER`. Where `watchful` is set, the receiver must call `came` for the next bytes in any case.
    `spoken_to` is set by each call of `came`.

    `unread` says that the overdue message is late because we stopped reading for a time, to save memory.

    A wait that stood still is stored as a wait that began later, by the time in which nothing was read. `_unfinished`
    is when the first byte of the message came. `_silent` is when the peer became silent, `_quiet` when both sides did.
    """

    __slots__ = (
        "_beats",
        "_began",
        "_call",
        "_clock",
        "_deaf",
        "_frame",
        "_frame_stopped",
        "_last_beat",
        "_looks",
        "_our_turn",
        "_quiet",
        "_reckoned",
        "_settler",
        "_short_until",
        "_silent",
        "_started",
        "_stopped",
        "_unfinished",
        "_wake",
        "heard",
        "said",
        "seconds",
        "spoken_to",
        "unread",
        "watchful",
    )

    def __init__(self, settler: Settler) -> None:
        self._settler = settler
        self._clock: IReactorTime | None = None
        self._frame = inf
        self._reckoned: tuple[tuple[str, float], ...] = ()
        self._started: dict[str, tuple[float, float]] | None = None
        self._call: IDelayedCall | None = None
        self._wake = inf
        self._looks = 0
        self._beats = 0
        self._last_beat = 0.0
        self._deaf = False
        self._unfinished: float | None = None
        self._stopped = inf
        self._frame_stopped = inf
        self._short_until = NEVER
        self._our_turn = False
        self._began = 0.0
        self._silent = 0.0
        self._quiet = 0.0
        self.heard = 0.0
        self.said = NEVER
        self.watchful = True
        self.unread = False
        self.spoken_to = False
        self.seconds: Callable[[], float] = _clockless

    def run_on(self, clock: IReactorTime | None) -> None:
        """Have all waits end by this clock, from now on."""
        self._clock = clock
        if clock is not None:
            self.seconds = clock.seconds

    # What begins and ends.

    def start(self, wait: str, seconds: float) -> None:
        """Have `wait` overdue in `seconds`, unless it is stopped before. One that is waited for begins anew."""
        if self._clock is None:
            return
        if self._started is None:
            self._started = {}
        at = self.seconds() + seconds
        self._started[wait] = (at, seconds)
        self._wake_by(at)

    def stop(self, wait: str) -> None:
        """`wait` ended well. Nothing is done for what is not waited for."""
        if self._started is not None:
            self._started.pop(wait, None)
            if not self._started:
                self._started = None

    def ends(self, wait: str) -> float:
        """When `wait` is overdue, by the clock; infinity where it was not started."""
        return self._started[wait][0] if self._started is not None and wait in self._started else inf

    @property
    def started(self) -> tuple[str, ...]:
        """The waits that were started, and are neither stopped nor overdue."""
        return tuple(self._started or ())

    # What is reckoned from what happened last.

    def reckon(self, frame: float, **waits: float) -> None:
        """From now on, reckon the waits for what happens again and again; seconds each, 0: there is no such wait."""
        self._frame = frame or inf
        self._reckoned = _one_for_all(tuple((wait, seconds) for wait, seconds in waits.items() if seconds))
        self._began = self.heard = self.seconds()
        self._wake_for_first()

    def came(self, whole: bool, unfinished: bool) -> None:
        """
        Bytes came, as `heard` says: whether they completed a message (`whole`), and ended inside one (`unfinished`).

        It need not be told where they did the one and not the other, unless it is `watchful`.
        """
        self.spoken_to = True
        if whole and self._started is not None:
            self.stop("first_message")
        if not unfinished:
            self._unfinished = None
        elif whole or self._unfinished is None:
            self._unfinished = self.heard
            self._wake_by(self.heard + self._frame)
        self.watchful = unfinished or not whole

    def pause(self) -> None:
        """Nothing is read from now on: the waits for what the peer sends stand still."""
        self._stopped = self._frame_stopped = self.seconds()
        self._deaf = True

    def press(self) -> None:
        """Reading has stopped to save memory. An unfinished message holds memory, so its time runs all the same."""
        self._short_until = inf
        self._run_frame(self.seconds())

    def unpress(self) -> None:
        """Nothing is read for other reasons only."""
        self._short_until = self._frame_stopped = self.seconds()

    def resume(self) -> None:
        """The connection is read from again: the waits for what the peer sends go on from where they stood."""
        now, stopped = self.seconds(), self._stopped
        self._silent = _later(max(self.heard, self._silent), stopped, now)
        self._quiet = _later(max(self.heard, self.said, self._quiet), stopped, now)
        started = self._started
        for wait in PEERS:
            if started is not None and wait in started:
                at, seconds = started[wait]
                started[wait] = (_later(at - seconds, stopped, now) + seconds, seconds)
        self._stopped = inf
        self._short_until = min(self._short_until, now)
        self._run_frame(now)
        self._look()
        self._wake_for_first()

    def _run_frame(self, now: float) -> None:
        if self._unfinished is not None:
            self._unfinished = _later(self._unfinished, self._frame_stopped, now)
            self._wake_by(self._unfinished + self._frame)
        self._frame_stopped = inf

    def peers_turn(self) -> None:
        """Nothing is in our hands any more: what the peer owes us is reckoned from here."""
        self._silent = self._quiet = self.seconds()
        self._our_turn = False
        if self._wake == inf:
            self._wake_for_first()

    def no_more_input(self) -> None:
        """The peer owes us no bytes any more."""
        self._reckoned = ()
        self._unfinished = None
        self._frame = inf
        self.stop("first_message")
        self.stop("max_age")

    def end(self) -> None:
        """Nothing is waited for any more, ever."""
        self.no_more_input()
        self._started = None
        self._clock = None
        self._settler = _NOBODY
        self._unset()

    # The timer.

    def _due(self) -> Iterator[tuple[float, str, float]]:
        """What is waited for: when it is overdue, its name, and how long it is in all."""
        for wait, (at, seconds) in (self._started or {}).items():
            if self._stopped == inf or wait not in PEERS:
                yield at, wait, seconds
        if self._unfinished is not None and self._frame_stopped == inf:
            yield self._unfinished + self._frame, "frame", self._frame
        for wait, seconds in self._reckoned:
            since = self._since(wait)
            if since < inf:
                yield since + seconds, wait, seconds

    def _since(self, wait: str) -> float:
        """From when `wait` is reckoned; infinity where it stands still until `resume`."""
        since = SINCE[wait]
        if since == "heartbeat":
            return max(self.heard, self._last_beat)
        if since == "sent":  # what the app takes for an answer has a bound of its own
            return self.seconds() if self.ends("answer") < inf else max(self.said, self._began)
        if self._stopped < inf:
            return inf
        if self._settler.has_the_turn:  # nobody need say when it is over: it is looked at again
            return self.seconds()
        return max(self.heard, self._silent) if since == "came" else max(self.heard, self.said, self._quiet)

    def _wake_by(self, at: float) -> None:
        if at < self._wake and self._clock is not None:
            self._unset()
            self._wake = at
            self._call = self._clock.callLater(max(0.0, at - self.seconds()), self._woken)

    def _wake_for_first(self) -> None:
        self._wake_by(min((at for at, _, _ in self._due()), default=inf))

    def _unset(self) -> None:
        call, self._call = self._call, None
        self._wake = inf
        if call is not None:
            call.cancel()

    def _woken(self) -> None:
        late = self.seconds() - self._wake
        self._call, self._wake = None, inf
        if self._looks or late > STALL:  # what came while the loop stood still is read before anybody is judged
            self._looks = (self._looks or LOOKS + 1) - 1
            if self._looks:
                self._wake_by(self.seconds())
                return
        self._look()
        now = self.seconds() + RESOLUTION
        for at, wait, seconds in sorted(self._due()):
            if at <= now and self._clock is not None:
                self._over(wait, seconds)
        self._wake_for_first()

    def _look(self) -> None:
        """Find out whose turn it is: once it is the peer's again, what it owes us is reckoned from here."""
        before, self._our_turn = self._our_turn, self._settler.has_the_turn
        if before and not self._our_turn:
            self.peers_turn()

    def _over(self, wait: str, seconds: float) -> None:
        self.stop(wait)
        if wait == "frame":
            self.unread, self._unfinished = self._short_until > (self._unfinished or 0.0), None
        if wait == "heartbeat":
            self._beat()
        elif wait != "first_message" or self.said == -inf:  # who was spoken to may well have nothing to say
            self._settler.settle(OVERDUE, (wait, seconds))

    def _beat(self) -> None:
        """One is due. The last one is missed where nothing came since, although the connection was read from."""
        if self.heard >= self._last_beat:
            self._beats = 0
        elif not self._deaf:
            self._beats += 1
        self._deaf = self._stopped < inf
        self._last_beat = self.seconds()
        self._settler.settle(HEARTBEAT, self._beats)


def _later(since: float, stopped: float, now: float) -> float:
    """What began at `since`, where the time from `stopped` to `now` does not count."""
    return now - max(0.0, stopped - since) if stopped < inf else since


class _Nobody:
    """Whose waits those of an ended connection are, which is held by nothing of its own."""

    @property
    def has_the_turn(self) -> bool:
        return False

    def settle(self, outcome: int, detail: Any = None) -> None: ...


_NOBODY: Final = _Nobody()


def _clockless() -> float:
    return 0.0


@lru_cache(maxsize=64)
def _one_for_all(waits: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """The first tuple that equals `waits`: a server's connections have the same waits, and share one tuple."""
    return waits
