"""
Every wait of one connection, on one timer.

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
from functools import lru_cache
from math import inf
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tcpapp.connection.outcomes import HEARTBEAT, OVERDUE, Settler
from tcpapp.limits import Timeouts, numbers_of

__all__ = ["Deadlines", "waits_of"]

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

_ROWS: Final = {each.name: each.metadata for each in numbers_of(Timeouts)}

SINCE: Final[dict[str, str]] = {name: about["since"] for name, about in _ROWS.items() if about["since"]}
"""The waits that begin again and again on an open connection, and the event from which each is counted."""

OF_SERVERS: Final = frozenset(name for name, about in _ROWS.items() if about["side"] == "server")
"""The waits that only servers have."""


def waits_of(timeouts: Timeouts, *, serves: bool, heartbeats: bool) -> dict[str, float]:
    """
    The seconds of the waits that begin again and again on an open connection, as `Deadlines.track` takes them.

    Only a server (`serves`) limits how long its peer is idle. `heartbeats`: the connection sends heartbeats.
    """
    return {
        wait: getattr(timeouts, wait)
        for wait, since in SINCE.items()
        if (serves or wait not in OF_SERVERS) and (heartbeats or since != "heartbeat")
    }


class Deadlines:
    """
    The waits of one connection. They run on the clock that `run_on` gets; without a clock they never end.

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
        "_call",
        "_clock",
        "_last_beat",
        "_message_stopped",
        "_message_timeout",
        "_missed",
        "_peer_silent_since",
        "_polls",
        "_pressure_until",
        "_read_paused",
        "_settler",
        "_started",
        "_timer_at",
        "_tracked",
        "_unfinished",
        "_was_handling",
        "last_received",
        "last_sent",
        "opened",
        "paused_for_memory",
        "peer_spoke",
        "seconds",
        "stopped",
        "wants_all",
    )

    def __init__(self, settler: Settler) -> None:
        self._settler = settler
        self._clock: IReactorTime | None = None
        self._message_timeout = inf
        self._tracked: tuple[tuple[str, float], ...] = ()
        self._started: dict[str, tuple[float, float]] | None = None
        self._call: IDelayedCall | None = None
        self._timer_at = inf
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
        """Run all waits on this clock from now on."""
        self._clock = clock
        if clock is not None:
            self.seconds = clock.seconds

    # What begins and ends.

    def start(self, wait: str, seconds: float, since: float | None = None) -> None:
        """
        Begin `wait`, which is overdue in `seconds` unless it is stopped before. A wait that runs begins again.

        A wait of infinite `seconds` is never overdue: only the time when it began is of use. The seconds count from
        `since`, an earlier time by the clock, where it is given.
        """
        if self._clock is None:
            return
        if self._started is None:
            self._started = {}
        began = self.seconds() if since is None else since
        self._started[wait] = (began, seconds)
        self._wake_by(began + seconds)

    def stop(self, wait: str) -> None:
        """`wait` ended well. A wait that does not run stays as it is."""
        if self._started is not None:
            self._started.pop(wait, None)
            if not self._started:
                self._started = None

    def began(self, wait: str) -> float:
        """When `wait` was started, by the clock; infinity where it was not."""
        return self._started[wait][0] if self._started is not None and wait in self._started else inf

    def ends(self, wait: str) -> float:
        """When `wait` is overdue, by the clock; infinity where it was not started, or never is."""
        return sum(self._started[wait]) if self._started is not None and wait in self._started else inf

    @property
    def started(self) -> tuple[str, ...]:
        """The waits that were started, are neither stopped nor overdue, and have an end."""
        return tuple(wait for wait, (_, seconds) in (self._started or {}).items() if seconds < inf)

    # Waits that are counted from the last event.

    def track(self, message_timeout: float, **waits: float) -> None:
        """Begin the waits that begin again and again. Each has its seconds; 0 means that there is no such wait."""
        self._message_timeout = message_timeout or inf
        self._tracked = _shared(tuple((wait, seconds) for wait, seconds in waits.items() if seconds))
        self.opened = self.last_received = self.seconds()
        self._wake_for_first()

    def bytes_came(self, whole: bool, unfinished: bool) -> None:
        """
        Bytes came at the time `last_received`. They completed a message (`whole`), ended inside one (`unfinished`), or
        both.

        The receiver can leave this call out where bytes were `whole` and not `unfinished`, unless this is `wants_all`.
        """
        self.peer_spoke = True
        if whole and self._started is not None:
            self.stop("first_message")
        if not unfinished:
            self._unfinished = None
        elif whole or self._unfinished is None:
            self._unfinished = self.last_received
            self._wake_by(self.last_received + self._message_timeout)
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
        started = self._started
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
            self._wake_by(self._unfinished + self._message_timeout)
        self._message_stopped = inf

    def await_peer(self) -> None:
        """Our side has nothing left to do: the waits for the peer are counted from now."""
        self._peer_silent_since = self._both_silent_since = self.seconds()
        self._was_handling = False
        if self._timer_at == inf:
            self._wake_for_first()

    def no_more_input(self) -> None:
        """No more bytes of the peer are expected: end the waits for them."""
        self._tracked = ()
        self._unfinished = None
        self._message_timeout = inf
        self.stop("first_message")
        self.stop("max_age")

    def end(self) -> None:
        """The connection has ended: end all waits for good."""
        self.no_more_input()
        self._started = None
        self._clock = None
        self._settler = _NO_OWNER
        self._unset()

    # The timer.

    def due(self) -> Iterator[tuple[float, str, float]]:
        """Each wait that runs: when it is overdue, its name, and its length in seconds."""
        for wait, (began, seconds) in (self._started or {}).items():
            if self.stopped == inf or wait not in PEER_WAITS:
                yield began + seconds, wait, seconds
        if self._unfinished is not None and self._message_stopped == inf:
            yield self._unfinished + self._message_timeout, "message_timeout", self._message_timeout
        for wait, seconds in self._tracked:
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
        if at < self._timer_at and self._clock is not None:
            self._unset()
            self._timer_at = at
            self._call = self._clock.callLater(max(0.0, at - self.seconds()), self._on_timer)

    def _wake_for_first(self) -> None:
        self._wake_by(min((at for at, _, _ in self.due()), default=inf))

    def _unset(self) -> None:
        call, self._call = self._call, None
        self._timer_at = inf
        if call is not None:
            call.cancel()

    def _on_timer(self) -> None:
        late = self.seconds() - self._timer_at
        self._call, self._timer_at = None, inf
        if self._polls or late > STALL:  # bytes that came during the stall are read before any wait is overdue
            self._polls = (self._polls or POLLS_AFTER_STALL + 1) - 1
            if self._polls:
                self._wake_by(self.seconds())
                return
        self._check_handling()
        now = self.seconds() + RESOLUTION
        for at, wait, seconds in sorted(self.due()):
            if at <= now and self._clock is not None:
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


class _NoOwner:
    """Stands in for an ended connection, so that its deadlines do not keep it in memory."""

    @property
    def is_handling(self) -> bool:
        return False

    def settle(self, outcome: int, detail: Any = None) -> None: ...


_NO_OWNER: Final = _NoOwner()


def _no_clock() -> float:
    return 0.0


@lru_cache(maxsize=64)
def _shared(waits: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """The first tuple that equals `waits`: a server's connections have the same waits, and share one tuple."""
    return waits
