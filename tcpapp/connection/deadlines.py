"""
Every wait of one connection, on the timer that all connections of its factory share (`tcpapp.connection.shared_timer`).

Some waits begin and end (`start`, `stop`). Others are counted from the last event of their kind. For these, the path
of a message only stores a time: no timer is touched. When the timer fires and no wait is overdue, it is set again for
the wait that ends first. A running timer is moved only to an earlier time.

The waits are the fields of `Timeouts` that have a rule, and ``ending``: the time to close, to drain, or to answer after
a half-close. A field with ``since`` is a wait that begins again and again, after the event that ``since`` names. The
parts of a connection start the other waits, because they know when these begin.

While the connection is not read from, the peer cannot be heard. So the waits for its bytes (``tls_handshake``,
``first_message``, ``message_timeout``, ``body_timeout``, ``idle``, ``idle_read``) stand still, and go on from there.
Heartbeats are still sent, but an unanswered heartbeat does not count as missed then. All other waits go on. So a peer
cannot keep a connection open by making us stop reading:

=============================== ======================== ==========================================================
not read from, because          what stands still        what ends it
=============================== ======================== ==========================================================
of ``byte_rate``                the six                  the rate: the bytes of one read, divided by it
of ``message_rate``             the six                  the rate: the messages of one read, divided by it
of ``messages_per_turn``        the six                  the turns that the messages of one read take
a step of its handshake waits   the six                  the turns that the steps before it take
full inbox or body: a slow app  the six                  ``handler_timeout``; conversation: ``idle_write``, ``max_age``
the inbox is full: no reading   the six                  ``send_progress``: the peer does not take its replies
memory is short                 the six without          ``message_timeout``, for an unfinished message;
                                ``message_timeout``      ``send_progress``, for replies that are not taken
=============================== ======================== ==========================================================

Under ``byte_rate`` a message has ``message_timeout`` seconds, and in addition the seconds that the rate costs: at most
the framing's ``max`` divided by the rate. With ``message_timeout=0`` only ``max_buffered`` bounds an unfinished
message. In all cases TCP keepalive ends the connection of a machine that vanished.

The time of a stalled event loop does not count either: when a timer fires late, sockets are read before anything ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Final

from twisted.internet.interfaces import IReactorTime

from tcpapp.connection.open_waits import NO_WAITS, SINCE, OpenWaits
from tcpapp.connection.outcomes import ENDED, HEARTBEAT, OVERDUE, Settler
from tcpapp.connection.shared_timer import SharedTimer

__all__ = ["Deadlines"]

STALL = 1.0
"""A timer that is late by more seconds shows a stall of the event loop. Our choice: the default of ``loop_stall``."""

NEVER: Final = -inf
"""A time before all others."""

POLLS_AFTER_STALL = 2
"""Turns to wait after a stall. One is not enough: uvloop makes a call that is due before it reads the sockets."""

PEER_WAITS = frozenset(("tls_handshake", "first_message", "body_timeout"))
"""The started waits that only bytes of the peer can end well."""

RESOLUTION = 0.001
"""Seconds by which a timer can fire early: epoll waits in whole milliseconds, and sums of floats are not exact."""


class Deadlines:
    """
    The waits of one connection. They run on the timer that `share` gets; without a timer they never end.

    The receiver sets `last_received` when bytes come. The outbox sets `last_sent` when it gives bytes to the transport;
    until then `last_sent` is `NEVER`. Where `wants_all` is set, the receiver must call `bytes_came` for the next bytes
    in any case. `peer_spoke` is set by each call of `bytes_came`.

    `paused_for_memory` says that the overdue message is late because we stopped reading for a time, to save memory.

    A wait that stood still is stored as a wait that began later, by the time in which nothing was read. `_unfinished`
    is when the first byte of the message came. `_peer_silent_since` is when the peer became silent,
    `_both_silent_since` when both sides did. `opened` is when the connection opened, and `stopped` when reading
    stopped: infinity while the connection is read from.
    """

    __slots__ = (
        "_both_silent_since",
        "_first_since",
        "_last_beat",
        "_message_stopped",
        "_missed",
        "_peer_silent_since",
        "_polls",
        "_pressure_until",
        "_read_paused",
        "_settler",
        "_started",
        "_timer",
        "_unfinished",
        "_waits",
        "_was_handling",
        "last_received",
        "last_sent",
        "opened",
        "paused_for_memory",
        "peer_spoke",
        "seconds",
        "stopped",
        "timer_at",
        "wants_all",
    )

    def __init__(self, settler: Settler) -> None:
        self._settler = settler
        self._timer: SharedTimer | None = None
        self._waits = NO_WAITS
        self._started: dict[str, tuple[float, float]] | None = None
        self._first_since = inf
        self.timer_at = inf
        self._polls = 0
        self._missed = 0
        self._last_beat = 0.0
        self._read_paused = False
        self._unfinished: float | None = None
        self.stopped = inf
        self._message_stopped = inf
        self._pressure_until = NEVER
        self._was_handling = False
        self.opened = 0.0
        self._peer_silent_since = 0.0
        self._both_silent_since = 0.0
        self.last_received = 0.0
        self.last_sent = NEVER
        self.wants_all = True
        self.paused_for_memory = False
        self.peer_spoke = False
        self.seconds: Callable[[], float] = _no_clock

    def run_on(self, clock: IReactorTime | None) -> None:
        """Run all waits on this clock from now on, with a timer of their own."""
        self._timer = None
        if clock is not None:
            self.share(SharedTimer(clock))

    def share(self, timer: SharedTimer) -> None:
        """Run all waits on this `timer` from now on."""
        self._timer = timer
        self.seconds = timer.seconds

    @property
    def clock(self) -> IReactorTime | None:
        """The clock that the waits run on."""
        return None if self._timer is None else self._timer.clock

    # What begins and ends.

    def start(self, wait: str, seconds: float, since: float | None = None) -> None:
        """
        Begin `wait`, which is overdue in `seconds` unless it is stopped before. A wait that runs begins again.

        A wait of infinite `seconds` is never overdue: only the time when it began is of use. The seconds count from
        `since`, an earlier time by the clock, where it is given.
        """
        if self._timer is None:
            return
        started = self.own_started()
        if started is None:
            started = self._started = {}
        began = self.seconds() if since is None else since
        started[wait] = (began, seconds)
        self._wake_by(began + seconds)

    def stop(self, wait: str) -> None:
        """`wait` ended well. A wait that does not run stays as it is."""
        if wait == "first_message":
            self._first_since = inf
        if self._started is not None:
            self._started.pop(wait, None)
            if not self._started:
                self._started = None

    def own_started(self) -> dict[str, tuple[float, float]] | None:
        """
        The started waits, each with its beginning and its seconds; `None` where there is none.

        A new connection has ``first_message`` only, and no dictionary for that.
        """
        if self._first_since < inf:
            if self._started is None:
                self._started = {}
            self._started["first_message"] = (self._first_since, self._waits.first_message)
            self._first_since = inf
        return self._started

    def began(self, wait: str) -> float:
        """When `wait` was started, by the clock; infinity where it was not."""
        started = self.own_started()
        return started[wait][0] if started is not None and wait in started else inf

    def ends(self, wait: str) -> float:
        """When `wait` is overdue, by the clock; infinity where it was not started, or never is."""
        started = self.own_started()
        return sum(started[wait]) if started is not None and wait in started else inf

    @property
    def started(self) -> tuple[str, ...]:
        """The waits that were started, are neither stopped nor overdue, and have an end."""
        return tuple(wait for wait, (_, seconds) in (self.own_started() or {}).items() if seconds < inf)

    # Waits that are counted from the last event.

    def open(self, waits: OpenWaits) -> None:
        """The connection is open: begin the `waits` that begin again and again, and ``first_message``."""
        self._waits = waits
        self.opened = self.last_received = now = self.seconds()
        if self._timer is None:
            return
        if waits.first_message < inf:
            self._first_since = now
        self._wake_by(now + min(waits.first_message, waits.shortest))

    def track(self, waits: OpenWaits) -> None:
        """Begin those of the `waits` that begin again and again."""
        self._waits = waits
        self.opened = self.last_received = self.seconds()
        self._wake_for_first()

    def bytes_came(self, whole: bool, unfinished: bool) -> None:
        """
        Bytes came at the time `last_received`. They completed a message (`whole`), ended inside one (`unfinished`), or
        both.

        The receiver can leave this call out where bytes were `whole` and not `unfinished`, unless this is `wants_all`.
        """
        self.peer_spoke = True
        if whole:
            self._first_since = inf
            if self._started is not None:
                self.stop("first_message")
        if not unfinished:
            self._unfinished = None
        elif whole or self._unfinished is None:
            self._unfinished = self.last_received
            self._wake_by(self.last_received + self._waits.message_timeout)
        self.wants_all = unfinished or not whole

    def pause(self) -> None:
        """Reading stops: the waits for bytes of the peer stand still."""
        self.stopped = self._message_stopped = self.seconds()
        self._read_paused = True

    def begin_memory_pressure(self) -> None:
        """Reading has stopped to save memory. An unfinished message holds memory, so its time runs all the same."""
        self._pressure_until = inf
        self._resume_message_timeout(self.seconds())

    def end_memory_pressure(self) -> None:
        """Memory is no longer short, but reading stays stopped for another reason."""
        self._pressure_until = self._message_stopped = self.seconds()

    def resume(self) -> None:
        """Reading goes on: the waits for bytes of the peer go on from where they stood."""
        now, stopped = self.seconds(), self.stopped
        self._peer_silent_since = later(max(self.last_received, self._peer_silent_since), stopped, now)
        self._both_silent_since = later(max(self.last_received, self.last_sent, self._both_silent_since), stopped, now)
        started = self.own_started()
        for wait in PEER_WAITS:
            if started is not None and wait in started:
                began, seconds = started[wait]
                started[wait] = (later(began, stopped, now), seconds)
        self.stopped = inf
        self._pressure_until = min(self._pressure_until, now)
        self._resume_message_timeout(now)
        self._check_handling()
        self._wake_for_first()

    def _resume_message_timeout(self, now: float) -> None:
        if self._unfinished is not None:
            self._unfinished = later(self._unfinished, self._message_stopped, now)
            self._wake_by(self._unfinished + self._waits.message_timeout)
        self._message_stopped = inf

    def await_peer(self) -> None:
        """Our side has nothing left to do: the waits for the peer are counted from now."""
        self._peer_silent_since = self._both_silent_since = self.seconds()
        self._was_handling = False
        if self.timer_at == inf:
            self._wake_for_first()

    def no_more_input(self) -> None:
        """No more bytes of the peer are expected: end the waits for them."""
        self._waits = NO_WAITS
        self._unfinished = None
        self._first_since = inf
        if self._started is not None:
            self.stop("first_message")
            self.stop("max_age")

    def end(self) -> None:
        """The connection has ended: end all waits for good."""
        self._waits = NO_WAITS
        self._unfinished = None
        self._first_since = inf
        self._started = None
        self._settler = ENDED
        self._unset()
        self._timer = None

    # The timer.

    def due(self) -> Iterator[tuple[float, str, float]]:
        """Each wait that runs: when it is overdue, its name, and its length in seconds."""
        for wait, (began, seconds) in (self.own_started() or {}).items():
            if self.stopped == inf or wait not in PEER_WAITS:
                yield began + seconds, wait, seconds
        if self._unfinished is not None and self._message_stopped == inf:
            seconds = self._waits.message_timeout
            yield self._unfinished + seconds, "message_timeout", seconds
        for wait, seconds in self._waits.tracked:
            since = self._since(wait)
            if since < inf:
                yield since + seconds, wait, seconds

    def _since(self, wait: str) -> float:
        """The time from which `wait` is counted; infinity where it stands still until `resume`."""
        since = SINCE[wait]
        if since == "heartbeat":
            return max(self.last_received, self._last_beat)
        if since == "sent":  # the app's time for a reply has its own bound
            return self.seconds() if self.ends("handler_timeout") < inf else max(self.last_sent, self.opened)
        if self.stopped < inf:
            return inf
        if self._settler.is_handling:  # nobody reports the end of our turn: the timer looks again
            return self.seconds()
        return (
            max(self.last_received, self._peer_silent_since)
            if since == "came"
            else max(self.last_received, self.last_sent, self._both_silent_since)
        )

    def _wake_by(self, at: float) -> None:
        if at < self.timer_at and self._timer is not None:
            self._timer.set(self, at)

    def _wake_for_first(self) -> None:
        self._wake_by(min((at for at, _, _ in self.due()), default=inf))

    def _unset(self) -> None:
        if self._timer is not None:
            self._timer.unset(self)

    def on_timer(self, at: float) -> None:
        """The time `at` has come, for which the timer was set. The timer calls it."""
        late = self.seconds() - at
        if self._polls or late > STALL:  # bytes that came during the stall are read before any wait is overdue
            self._polls = (self._polls or POLLS_AFTER_STALL + 1) - 1
            if self._polls:
                self._wake_by(self.seconds())
                return
        self._check_handling()
        now = self.seconds() + RESOLUTION
        for ends, wait, seconds in sorted(self.due()):
            if ends <= now and self._timer is not None:
                self._end_wait(wait, seconds)
        self._wake_for_first()

    def _check_handling(self) -> None:
        """See whose turn it is. Once it is the peer's again, the waits for the peer are counted from now."""
        before, self._was_handling = self._was_handling, self._settler.is_handling
        if before and not self._was_handling:
            self.await_peer()

    def _end_wait(self, wait: str, seconds: float) -> None:
        self.stop(wait)
        if wait == "message_timeout":
            self.paused_for_memory, self._unfinished = self._pressure_until > (self._unfinished or 0.0), None
        if wait == "heartbeat":
            self._heartbeat_due()
        elif wait != "first_message" or self.last_sent == -inf:  # a peer that got bytes from us can rightly be silent
            self._settler.settle(OVERDUE, (wait, seconds))

    def _heartbeat_due(self) -> None:
        """A heartbeat is due. The last one was missed if nothing came since, although the connection was read from."""
        if self.last_received >= self._last_beat:
            self._missed = 0
        elif not self._read_paused:
            self._missed += 1
        self._read_paused = self.stopped < inf
        self._last_beat = self.seconds()
        self._settler.settle(HEARTBEAT, self._missed)


def later(since: float, stopped: float, now: float) -> float:
    """The start of a wait that began at `since`, moved so that the time from `stopped` to `now` does not count."""
    return now - max(0.0, stopped - since) if stopped < inf else since


def _no_clock() -> float:
    return 0.0
