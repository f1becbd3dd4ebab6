"""
Every wait of one connection, on one timer.

Some waits begin and end (`start`, `stop`); others are reckoned from what happened last, which the path of a message
only notes: a time is written down, and no timer is touched. When the timer fires and all is well, it is set anew for
the wait that ends first. A timer that is set is moved only to be sooner.

=================== ================================================================= ==============================
wait                of what                                                           from when
=================== ================================================================= ==============================
``tls_handshake``   TLS is set up                                                     the transport is connected
``first_message``   the peer of a server says something, or our app does              the connection is open
``frame``           a message comes to its end                                        its first byte
``idle``            anything passes, either way                                       the last byte, either way
``idle_read``       anything comes                                                    the last byte that came
``idle_write``      anything is sent                                                  the last byte that was sent
``heartbeat``       anything comes, or a heartbeat is sent                            the last byte, or heartbeat
``answer``          the app's Deferred or coroutine fires                             the app returned it
``send_progress``   the peer takes what is sent                                       it stopped taking it
``max_age``         the connection is to be replaced                                  it is open
``ending``          closing, draining or answering after a half-close comes to an end it began
=================== ================================================================= ==============================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from math import inf
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.limits import Timeouts

__all__ = ["Deadlines", "Waiting", "reason_of", "waits_of"]

RESOLUTION = 0.001
"""Seconds that a timer may fire early: epoll waits in whole milliseconds, and sums of floats are not exact."""

OVERDUE = {
    "tls_handshake": ("tls-handshake-timeout", "the TLS handshake was not finished in {seconds:g} s"),
    "first_message": ("first-message-timeout", "no whole message came in the first {seconds:g} s"),
    "frame": ("frame-timeout", "a message was not whole {seconds:g} s after its first byte"),
    "idle": ("idle", "nothing passed, either way, for {seconds:g} s"),
    "idle_read": ("idle", "nothing came for {seconds:g} s"),
    "idle_write": ("idle", "nothing was sent for {seconds:g} s"),
    "heartbeat": ("heartbeat-missed", "nothing came for {seconds:g} s, nor to the heartbeats after that"),
    "answer": ("answer-timeout", "the app had not answered a message after {seconds:g} s"),
    "send_progress": ("send-stalled", "the peer took (next to) nothing in {seconds:g} s"),
    "max_age": ("max-age", "it has been open for {seconds:g} s, as long as a connection may be"),
}
"""The rule by which a connection ends where a wait does not end well, and what is said of it."""


def reason_of(wait: str, seconds: float) -> CloseReason:
    """Why a connection ends whose `wait`, of so many `seconds`, came to nothing."""
    rule, text = OVERDUE[wait]
    return CloseReason(EndedBy.US, rule, f"{text.format(seconds=seconds)} ({wait})", seconds, seconds)


def waits_of(timeouts: Timeouts, *, serves: bool, beats: bool) -> dict[str, float]:
    """
    What is waited for again and again on an open connection, in seconds, as `Deadlines.reckon` takes it.

    A server's (`serves`) peer may not be idle, a client's may; where it `beats`, there are heartbeats to be sent.
    """
    return {
        "idle": timeouts.idle if serves else 0,
        "idle_read": timeouts.idle_read,
        "idle_write": timeouts.idle_write,
        "heartbeat": timeouts.heartbeat if beats else 0,
    }


class Waiting(Protocol):
    """Whose waits they are."""

    @property
    def has_the_turn(self) -> bool:
        """Whether something is in our hands, so that the peer owes us nothing."""
        ...

    def overdue(self, wait: str, seconds: float) -> None:
        """`wait` has lasted its `seconds`."""

    def beat(self, missed: int) -> None:
        """A heartbeat is due; nothing came since `missed` earlier ones."""


class Deadlines:
    """
    The waits of one connection. They run on a clock from `run_on`; without one they never end.

    `heard` and `said` are when bytes last came, and were last given to the transport, for those who do that to note;
    `said` is before all time where none were. Where `watchful` is set, `came` has to be told of the next bytes, too.
    `spoken_to` says whether it was told of any since that was last unset.
    """

    __slots__ = (
        "_beats",
        "_began",
        "_call",
        "_clock",
        "_frame",
        "_last_beat",
        "_own",
        "_paused",
        "_reckoned",
        "_started",
        "_unfinished",
        "_wake",
        "heard",
        "said",
        "seconds",
        "spoken_to",
        "watchful",
    )

    def __init__(self, own: Waiting) -> None:
        self._own = own
        self._clock: IReactorTime | None = None
        self._frame = inf
        self._reckoned: tuple[tuple[str, float], ...] = ()
        self._started: dict[str, tuple[float, float]] | None = None
        self._call: IDelayedCall | None = None
        self._wake = inf
        self._beats = 0
        self._last_beat = 0.0
        self._unfinished: float | None = None
        self._paused = False
        self._began = 0.0
        self.heard = 0.0
        self.said = -inf
        self.watchful = True
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
        """Those that were started, and neither stopped nor overdue."""
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
        """We do not read: nothing that the peer sends can come."""
        self._paused = True

    def resume(self) -> None:
        """We read again."""
        self._paused = False
        if self._unfinished is not None:
            self._unfinished = self.seconds()
        self.peers_turn()

    def peers_turn(self) -> None:
        """Nothing is in our hands any more: what the peer owes us is reckoned from here."""
        self.heard = self.seconds()
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
        self._unset()

    # The timer.

    def _due(self) -> Iterator[tuple[float, str, float]]:
        """What is waited for: when it is overdue, its name, and how long it is in all."""
        for wait, (at, seconds) in (self._started or {}).items():
            yield at, wait, seconds
        if self._unfinished is not None and not self._paused:
            yield self._unfinished + self._frame, "frame", self._frame
        ours = self._own.has_the_turn
        for wait, seconds in self._reckoned:
            if wait == "heartbeat":
                yield max(self.heard, self._last_beat) + seconds, wait, seconds
            elif not ours:
                yield self._since(wait) + seconds, wait, seconds

    def _since(self, wait: str) -> float:
        if wait == "idle_read":
            return self.heard
        return max(self.said, self.heard if wait == "idle" else self._began)

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
        self._call, self._wake = None, inf
        now = self.seconds() + RESOLUTION
        for at, wait, seconds in sorted(self._due()):
            if at <= now and self._clock is not None:
                self._over(wait, seconds)
        self._wake_for_first()

    def _over(self, wait: str, seconds: float) -> None:
        self.stop(wait)
        if wait == "frame":
            self._unfinished = None
        if wait == "heartbeat":
            self._beat()
        elif wait != "first_message" or self.said == -inf:  # who was spoken to may well have nothing to say
            self._own.overdue(wait, seconds)

    def _beat(self) -> None:
        if self.heard >= self._last_beat or self._paused:
            self._beats = 0
        self._last_beat = self.seconds()
        self._beats += 1
        self._own.beat(self._beats - 1)


def _clockless() -> float:
    return 0.0


@lru_cache(maxsize=64)
def _one_for_all(waits: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """The first of those that are equal: a server's connections have the same waits, and need not each hold them."""
    return waits
