"""
How a connection switches its framing in mid-stream, or gives its transport to another protocol.

What comes behind the message in hand is read by the new framing or protocol, to the byte. Messages behind it were often
cut by the old framing already. They are taken back from wherever they wait, with all accounts, and their bytes are read
again (`tcpapp.connection.rewind`). A fault that the old framing found in these bytes is no fault any more.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from twisted.python.failure import Failure
from typing_extensions import override

from tcpapp import codecs
from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.codecs import Codec
from tcpapp.connection.lifecycle import Event, Stage, State, cause_of_end, cause_of_failure
from tcpapp.connection.parsing import users_codec
from tcpapp.connection.parts import CLOSED_PARTS, NO_COUNTS
from tcpapp.connection.pause_flags import AWAITING_REPLY, HANDLING, RECEIVE_ONLY
from tcpapp.connection.settings import Settings
from tcpapp.connection.stages import Stages
from tcpapp.connection.successor import Successor
from tcpapp.errors import InvalidOption
from tcpapp.framing import Framing, Parser, from_string
from tcpapp.telemetry import AppFailed, MessagesSkipped
from tcpapp.telemetry.counters import MessageCounter

__all__ = ["Switchable"]

TAKEN_OVER: Final = CloseReason(EndedBy.US, "taken-over", "another protocol has the transport")


class InputEnd(NamedTuple):
    """How the input ended: by the end of the peer's stream, by a drain, which has its end by the clock, or by both."""

    by_peer: bool = False
    drain_cause: CloseReason | None = None
    drain_ends: float = 0.0


ENDLESS: Final = InputEnd()
"""The input has not ended."""


class Switchable(Stages):
    """A connection that can switch its framing, and be taken over."""

    __slots__ = ("_input_end", "_successor")

    def __init__(self, settings: Settings, factory: Any = None) -> None:
        super().__init__(settings, factory)
        self._successor: Successor | None = None
        self._input_end = ENDLESS

    # Another framing.

    def _switch(self, framing: Framing | str, codec: Any) -> None:
        """Read what comes behind the message in hand by `framing`, and by `codec` unless that is ``...``."""
        user_codec = users_codec(self._codec) if codec is ... else codecs.from_string(codec)
        new, new_codec = self._settings.parts_of(from_string(framing), user_codec)
        self._check_in_hand("switch")
        old = self._framing
        rest = self._take_back("switch")
        self._use_framing(new.fresh(), new_codec)
        ended = self._lifecycle.cause
        if self._lifecycle.stage.state is State.INPUT_CLOSED and ended.error is old.failure is not None:
            self._reopen(ended)
        if rest:
            self.settle(self._receiver.receive_again(rest), rest)
        self._end_input_again()

    def _use_framing(self, new: Framing, codec: Codec[Any] | None) -> None:
        """Read and write by `new` and `codec`. The reply to the message in hand is still framed as before."""
        self._codec = codec
        self._inbox.codec = codec
        if isinstance(new, Parser):
            self._use_bodies(new)
        self._receiver.framing = self._buffered.framing = new
        self._buffered.own_rewind().begin(new)
        if self._starttls is not None:
            self._starttls.framing = new
        if self._recording is None:
            self._framing = new
            self._dispatcher.switch(new, codec)
        else:
            self._dispatcher.switch(self._recording.switch(new), codec)
            self._framing = self._recording.stand_ins()[0]

    def _reopen(self, ended: CloseReason) -> None:
        """The old framing could not read the bytes behind the message in hand. That is no end any more."""
        if ended.rule != "truncated-message":
            self._happen(Event.SWITCHED)

    def _end_input_again(self) -> None:
        """See how the input ends for the new framing, if it has ended."""
        lifecycle = self._lifecycle
        if self._input_end.by_peer and lifecycle.stage.is_open:
            self._end_input(cause_of_end(self._framing))
        elif (
            self._input_end.by_peer
            and lifecycle.stage.state is State.INPUT_CLOSED
            and lifecycle.cause.by is EndedBy.PEER
        ):
            lifecycle.replace_cause(cause_of_end(self._framing))
        elif self._input_end.drain_cause is not None and lifecycle.stage.is_open:
            self._end_input(self._input_end.drain_cause)

    @override
    def _read_on(self) -> None:
        """Read from the peer again, and begin the waits for it, as far as they have not begun before the end."""
        deadlines, settings = self._deadlines, self._settings
        opened = deadlines.opened
        settings.track_waits(deadlines, serves=self._serves)
        deadlines.opened = opened
        if settings.timeouts.max_age:
            deadlines.start("max_age", max(0.0, opened + settings.timeouts.max_age - deadlines.seconds()))
        self._read_control.go_on()

    @override
    def _end_drain_within(self, cause: CloseReason, seconds: float) -> None:
        ends = self._deadlines.seconds() + max(seconds, 0.0)
        self._input_end = self._input_end._replace(drain_cause=cause, drain_ends=ends)
        super()._end_drain_within(cause, seconds)

    # What is behind the message in hand.

    def _check_in_hand(self, what: str) -> None:
        """Raise an error where no message is in hand, or where more than one can be."""
        lifecycle = self._lifecycle
        stage, dispatcher = lifecycle.stage, self._dispatcher if lifecycle.stage is not Stage.UNOPENED else None
        if dispatcher is None or not stage.sends or not self._can_read_again():
            raise lifecycle.error
        if self._settings.concurrency != 1 or not dispatcher.takes_one:
            raise InvalidOption(f"{what}: takes an app that has one message in hand, no batch app and no concurrency")
        if dispatcher.fires_reply:
            raise InvalidOption(f"{what}: a reply to a request came behind this message already; make no requests here")
        if not self._receiver.in_chunk and not dispatcher.pauses & (HANDLING | AWAITING_REPLY):
            if not dispatcher.pauses & RECEIVE_ONLY:
                raise InvalidOption(f"{what}: the app has no message in hand; call it before the reply to a message")
            if self._inbox.awaited:
                raise InvalidOption(f"{what}: a receive() waits for a message; call it before the next receive()")

    def _can_read_again(self) -> bool:
        """Whether the input goes on, or ended in a way that another framing can see differently, or by a drain."""
        cause = self._lifecycle.cause
        if self._successor is not None:
            return False
        if self._lifecycle.stage.is_open or (cause.by is EndedBy.US and cause.clean):
            return True
        return cause.by is EndedBy.PEER or cause.error is self._framing.failure is not None

    def _take_back(self, what: str) -> bytes:
        """Take back all messages behind the message in hand, with all accounts. Returns their bytes."""
        receiver, framing, rewind = self._receiver, self._framing, self._buffered.own_rewind()
        receiver.keep_chunk()
        rest = rewind.rest()
        if rest is None or (framing.failure is None and framing.mark() is None):
            raise InvalidOption(
                f"{what}: the end of the last message is not known. Call it while a message is in hand, with a framing"
                " whose own attributes do not change in place (or that has methods mark and resumed)"
            )
        behind = rewind.behind
        self._throttle.recount(-(self._dispatcher.take_back() + self._inbox.take_back()))
        receiver.messages -= behind + self._take_back_skipped(rest)
        receiver.bytes -= len(rest)
        if self._bodies is not None:
            self._bodies.take_back()
        if self._recording is not None:
            self._recording.take_back(behind)
        return rest

    def _take_back_skipped(self, rest: bytes) -> int:
        """Report the skipped messages before the `rest`. Returns how many were skipped in it."""
        framing = self._framing
        behind = framing.skipped_in(rest) if framing.oversize == "skip" else 0
        before = framing.skipped - behind
        if before > 0:
            self._emit(MessagesSkipped, before, framing.max)
        framing.skipped = 0
        return behind

    # Another protocol.

    def _take_over(self, protocol: Any) -> None:
        """Give the transport, and what comes behind the message in hand, to `protocol` once all replies are written."""
        if isinstance(protocol, type) or not hasattr(protocol, "makeConnection"):
            raise InvalidOption(f"take_over({protocol!r:.100}): takes a Twisted protocol, which is made already")
        self._check_in_hand("take_over")
        if self._starttls is not None and self._starttls.pending:
            raise InvalidOption("take_over: TLS is being set up; wait for the Deferred of start_tls()")
        framing, ended = self._framing, self._lifecycle.cause
        spoilt = ended.error is framing.failure is not None
        self._successor = self._receiver.successor = Successor(protocol, self._take_back("take_over"))
        self._buffered.own_rewind().clear()
        framing.drop()
        if spoilt:
            self._lifecycle.replace_cause(TAKEN_OVER)
        self._end_input(TAKEN_OVER)
        if self._settings.timeouts.half_close:  # a conversation can go on and on
            self._lifecycle.end_within(self._settings.timeouts.half_close, "half-close-over", "half_close")
        self._app_rests()

    def _cancel_take_over(self) -> None:
        """The connection is closed instead, if no other protocol has its transport yet."""
        if self._successor is not None and not self._successor.passing:
            self._successor = None

    def _handed_over(self, _: Any) -> None:
        """The transport has all written bytes: close it, or pass it on, unless it was cut or is lost by now."""
        passes = self._successor is not None and self._lifecycle.cause.clean
        self._happen(Event.PASSED_ON if passes else Event.HANDED_OVER)

    @override
    def _pass_on(self) -> None:
        """The transport has all bytes: the parts of the connection end, and then the other protocol gets it."""
        assert self._successor is not None
        self._successor.passing = True
        for wait in self._deadlines.started:
            self._deadlines.stop(wait)
        self._end_parts(flushed=True)

    @override
    def _parts_ended(self) -> None:
        successor = self._successor
        if successor is None or self._lifecycle.stage is not Stage.TAKEN_OVER:
            return
        receiver: Any = successor
        successor.totals, self._receiver = self.totals, receiver
        if self._input_end.drain_ends:
            self._lifecycle.end_within(self._input_end.drain_ends - self._deadlines.seconds(), "drain-over", "drain")
        try:
            successor.begin(self.transport)
            if self._input_end.by_peer:
                successor.read_lost(self.transport)
        except Exception as error:  # noqa: BLE001 - of the user's protocol
            self._emit(AppFailed, Failure())
            self._abort(cause_of_failure(error))

    @override
    def _end(self, flushed: bool) -> None:
        """The transport is lost: end all parts. Where another protocol had it, they have ended, or end with tasks."""
        if self._successor is None or not self._successor.passing:
            super()._end(flushed)
        elif self._dispatcher is CLOSED_PARTS:
            duration = self._deadlines.seconds() - self._deadlines.opened
            self._deadlines.end()
            self._leave_factory(self._lifecycle.cause)
            self._emit_end(0, self.totals._replace(duration=duration))
            self._lifecycle.fire_closed()

    @property
    @override
    def counters(self) -> tuple[MessageCounter, MessageCounter]:
        """The counters of what it received and of what it sent, while it is connected and not taken over."""
        if self._unmade is None and self._dispatcher is CLOSED_PARTS:
            return NO_COUNTS, NO_COUNTS
        return super().counters
