"""
What a connection does as it comes to each stage of its life: it executes the table of `tcpapp.connection.lifecycle`.

`_happen` is the way of every event. It asks the table, and `_act` does what the table says.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.asyncio_errors import explained
from tcpapp.connection.handlers import Handlers
from tcpapp.connection.lifecycle import (
    ABORT_TRANSPORT,
    ASK_APP,
    DISCONNECT,
    DROP,
    END_WAITS,
    FAIL_WAITERS,
    FLUSH,
    START_APP,
    STOP_READING,
    Event,
    Stage,
    cause_of_failure,
)
from tcpapp.connection.parts import GONE_PARTS, Parts
from tcpapp.errors import NotConnected, drop_frames, without_frames
from tcpapp.telemetry import AppFailed, Closed, NeverOpened, Opened

__all__ = ["Stages"]


class Stages(Parts):
    """A connection that goes through its stages."""

    __slots__ = ()

    # The table.

    def _happen(self, event: Event, cause: CloseReason | None = None) -> int:
        """`event` happened: do what the table says of it. Whether, and what, that was."""
        actions = self._ending.happen(event, cause)
        self._act(actions)
        return actions

    def _act(self, actions: int) -> None:
        """Do what the table says: first all that the new stage needs, and last what runs the user's code."""
        if not actions:
            return
        self._dispatch.enter(self._ending.stage.hold)
        if actions & END_WAITS:
            self._deadlines.no_more_input()
        if actions & STOP_READING and self._ending.cause.by is not EndedBy.PEER:
            self._reading.stop()
        if actions & DROP:
            self._drop(all_of_it=False)
        if actions & ABORT_TRANSPORT:
            self.transport.abortConnection()
        if actions & (START_APP | FLUSH | DISCONNECT | FAIL_WAITERS | ASK_APP):
            self._go_on(actions)

    def _go_on(self, actions: int) -> None:
        """Do the part of `actions` that calls the app or fires waiters."""
        if actions & START_APP:
            self._start_app()
        if actions & FLUSH:
            self.settle(self._outbox.finish())
        if actions & DISCONNECT:
            if self._ending.cause.by is not EndedBy.PEER:
                self._reading.read_to_the_end()
            self.transport.loseConnection()
        if actions & FAIL_WAITERS:
            self._end_waiters()
        if actions & ASK_APP:
            self._app_rests()

    # How it opens.

    def _start_app(self) -> None:
        """Messages can pass: tell the app."""
        settings = self._settings
        self._deadlines.spoken_to = False  # the bytes of a handshake say nothing to the app
        settings.begin_waits(self._deadlines, serves=self._serves)
        failure: Failure | None = None
        try:
            handlers = settings.handlers()
        except Exception:  # an app that is a class is made here
            handlers, failure = Handlers(None, None), Failure()
        if self.factory is not None:
            self.factory.connection_opened(self)
        self._tell(Opened)
        if failure is not None:
            self._app_failed(failure)
            failure = None  # it holds this frame
        self.settle(self._dispatch.start(handlers))
        self._ending.tell_open()

    # What ends it.

    def _end_input(self, cause: CloseReason) -> None:
        """No message will come any more: what came is still handled, then the connection is closed for `cause`."""
        news = self._happen(Event.INPUT_OVER, cause)
        if self._ending.stage is Stage.INPUT_ENDING and not self._intake.kept:
            self._happen(Event.ALL_LET_IN)
        seconds = self._settings.timeouts.half_close
        ours = cause.clean and cause.by is EndedBy.US  # a drain, which has a deadline of its own
        if news and self._ending.stage.sends and seconds and not ours:
            self._ending.within(seconds, "half-close-over", "half_close")

    def _drain(self, cause: CloseReason, deadline: float | None) -> None:
        """End the input for `cause`; what is not finished in `deadline` seconds (`None`: ``timeouts.drain``) is cut."""
        if self._ending.stage is Stage.OPENING:
            self._cut(cause)
        if self._ending.stage.is_open:
            self._dispatch.draining()
        self._end_input(cause)
        if self._ending.stage.sends:
            self._ending.within(self._settings.timeouts.drain if deadline is None else deadline, "drain-over", "drain")

    def _close(self, cause: CloseReason, grace: float | None = None) -> None:
        """Flush and close for `cause`; while the app is being called, once it returns."""
        actions = self._ending.happen(Event.CLOSE, cause)
        if actions & ASK_APP or (grace is not None and not actions):
            self._ending.within(self._settings.timeouts.grace if grace is None else grace, "grace-over", "grace")
        self._act(actions)

    def _cut(self, cause: CloseReason) -> None:
        """Close for `cause` without flushing."""
        self._happen(Event.ABORT, cause)

    def _app_failed(self, failure: Failure) -> None:
        """The app raised. That the connection it works with has ended is not its failure."""
        failure = explained(failure)
        error: Any = failure.value
        stage = self._ending.stage
        if isinstance(error, (NotConnected, CancelledError)) and not stage.sends:
            drop_frames(failure)  # a coroutine that was cancelled would hold itself by it, and this connection
            return
        if isinstance(error, NotConnected) and not stage.is_open and error.reason is self._ending.cause:
            self._close(error.reason)
            return
        cause = cause_of_failure(error)
        if cause.rule == "app-failed":
            self._tell(AppFailed, failure)
        self._close(cause)

    def _app_rests(self, _: Any = None) -> None:
        """The app is not being called: what waited for that can be done."""
        stage = self._ending.stage
        if stage is Stage.CLOSING:
            if not self._dispatch.working:
                self._happen(Event.APP_RESTS)
        elif stage is Stage.INPUT_CLOSED and self._dispatch.done:
            self._close(self._ending.cause)
        elif self._load.noted:
            self._load.note()

    # The end of its parts.

    def _end_waiters(self) -> None:
        requests, waited_for = self._dispatch.requests, self._dispatch.waits_for
        if requests is None and not self._inbox.awaited:
            return
        error = self._ending.error
        self._inbox.end(error)
        if requests is not None:
            requests.end(error)
        if self._dispatch.waits_for is not waited_for and not self._ending.stage.sends:
            self._dispatch.tell_talk()

    def _drop(self, *, all_of_it: bool) -> None:
        """
        Let go of the bytes that nobody can want any more, at once, and count the messages among them.

        Messages that a ``receive`` can still take are kept, unless `all_of_it` is set.
        """
        if self._dispatch is GONE_PARTS:
            return
        self._unhandled += self._intake.drop()
        if all_of_it or not self._dispatch.pulled:
            self._unhandled += self._inbox.drop()
        if self._ending.stage is not Stage.CLOSED:  # else `end` tells which of its bytes the transport has
            self._outbox.drop()
        self._framing.drop()
        self._load.note()

    def _end(self, flushed: bool) -> None:
        """The transport is lost: end all parts, and fire all waiters. `flushed`: the transport had sent all bytes."""
        ended = self._ending.cause
        self._deadlines.end()
        self._end_handshake()
        self._load.end()
        self._drop(all_of_it=False)
        waited_for = self._dispatch.waits_for
        if self.factory is not None:
            self.factory.connection_closed(self, ended)
        self._end_waiters()
        failed_sends = self._outbox.end(self._ending.error, flushed)
        self._settings.traffic.failed_sends += failed_sends
        self._dispatch.closed(ended)
        probe = not self._deadlines.spoken_to and self._serves and ended.rule in ("end-of-stream", "lost")
        if self._ending.opened:
            self._tell(Closed, ended, self._unhandled, probe, failed_sends)
        else:
            self._tell(NeverOpened, ended, probe)
        self._ending.tell()
        if self._upgrade is not None:
            self._upgrade.failed(ended.error or self._ending.error)
        self._dispatch.cancel_talk(waited_for)
        self._dispatch.cancel_answer()
        self._take_apart()

    def _take_apart(self) -> None:
        """
        Let go of the parts, which refer back to this connection: then it is freed with the last reference to it.

        Messages that came and were not taken can still be received.
        """
        self._dispatch.end()
        if self._ending.cause.error is not None:
            without_frames(self._ending.cause.error)
        self._upgrade = None
        self._arrival = self._dispatch = self._intake = self._load = self._outbox = GONE_PARTS
