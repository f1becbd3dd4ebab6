"""
The actions of a connection in each of its stages: it executes the table of `tcpapp.connection.lifecycle`.

Every event goes through `_happen`. It asks the table, and `_act` does the actions of the table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any
from weakref import ref

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.asyncio_errors import explained
from tcpapp.connection.handlers import Handlers
from tcpapp.connection.lifecycle import (
    ABORT_TRANSPORT,
    ASK_APP,
    CONTINUE_APP,
    DISCONNECT,
    DROP,
    END_WAITS,
    FAIL_WAITERS,
    FLUSH,
    PASS_ON,
    READ_ON,
    START_APP,
    STOP_READING,
    Event,
    Stage,
    cause_of_failure,
)
from tcpapp.connection.outbox_state import has_streams
from tcpapp.connection.parts import CLOSED_PARTS, ClosedReceiver
from tcpapp.connection.spawning import Spawning
from tcpapp.connection.starttls import StartTLS
from tcpapp.connection.tasks import TASKS
from tcpapp.connection.waiters import fail_all, fire_all
from tcpapp.errors import NotConnected, drop_frames, without_frames
from tcpapp.telemetry import AppFailed, Closed, NeverOpened, Opened
from tcpapp.telemetry.statistics import Totals
from tcpapp.transport.layers import tls_layer

__all__ = ["Stages"]


class Stages(Spawning):
    """A connection that goes through its stages."""

    __slots__ = ()

    # The table.

    def _happen(self, event: Event, cause: CloseReason | None = None) -> int:
        """`event` happened: do the actions of the table. Returns them; 0 where there were none."""
        actions = self._lifecycle.happen(event, cause)
        self._act(actions)
        return actions

    def _act(self, actions: int) -> None:
        """Do the `actions`: first what the new stage needs, last what runs the user's code."""
        if not actions:
            return
        if self._unmade is None:
            self._dispatcher.enter(self._lifecycle.stage.pauses)
        if actions & END_WAITS:
            self._deadlines.no_more_input()
        if actions & STOP_READING and self._lifecycle.cause.by is not EndedBy.PEER:
            self._read_control.stop()
        if actions & DROP:
            self._drop_buffers(all_of_it=False)
        if actions & ABORT_TRANSPORT:
            self.transport.abortConnection()
        if actions & (START_APP | CONTINUE_APP | FLUSH | DISCONNECT | FAIL_WAITERS | ASK_APP | READ_ON | PASS_ON):
            self._go_on(actions)

    def _go_on(self, actions: int) -> None:
        """Do the part of `actions` that calls the app or fires waiters."""
        if actions & START_APP:
            self._start_app()
        if actions & CONTINUE_APP:
            self._continue_app()
        if actions & FLUSH:
            self.settle(self._outbox.finish())
        if actions & DISCONNECT:
            if self._lifecycle.cause.by is not EndedBy.PEER and self._dispatcher is not CLOSED_PARTS:
                self._read_control.read_to_the_end()
            self.transport.loseConnection()
        if actions & READ_ON:
            self._read_on()
        if actions & PASS_ON:
            self._pass_on()
        if actions & FAIL_WAITERS:
            self._fail_waiters()
        if actions & ASK_APP:
            self._app_rests()

    # How it opens.

    def _start_app(self) -> None:
        """Messages can pass: tell the app."""
        settings = self._settings
        self._deadlines.peer_spoke = False  # the bytes of a handshake do not count
        settings.begin_waits(self._deadlines, serves=self._serves)
        failure: Failure | None = None
        try:
            handlers = settings.handlers()
        except Exception:  # the user's class makes its instance here
            handlers, failure = Handlers(None, None), Failure()
        if self.factory is not None:
            self.factory.connection_opened(self.connection)
        if settings.telemetry.hears_routine:
            self._emit(Opened)
        if failure is not None:
            self._app_failed(failure)
            failure = None  # it holds this frame
        if self._lifecycle.stage is not Stage.CLOSED:  # a listener can end the connection above
            self._start_dispatcher(handlers)
        self._lifecycle.fire_open()

    def _continue_app(self) -> None:
        """Messages can pass again: the connection goes on from its state. A subclass, which has the state, does it."""
        raise NotImplementedError

    def _read_on(self) -> None:
        """Another framing reads on. A subclass, which switches framings, does it."""
        raise NotImplementedError

    def _pass_on(self) -> None:
        """Another protocol gets the transport. A subclass, which has that protocol, does it."""
        raise NotImplementedError

    def _start_tls(self, context: Any, data: bytes) -> Deferred[Any]:
        """Go on with TLS after `data`, the last bytes in plain. Fires with the session."""
        self._dispatcher.flush()
        if data:
            self._outbox.write(data)
        self._deadlines.start("tls_handshake", self._settings.timeouts.tls_handshake or inf)
        starttls = self._starttls = StartTLS(self._parts, self._dispatcher, self)
        self.settle(starttls.begin(self.transport, context))
        if (layer := tls_layer(self.transport)) is not None:
            self._set_up_tls(layer)
        return starttls.done

    # What ends it.

    def _is_at_rest(self) -> bool:
        """Whether it is open, nothing is left to answer or to send, and nobody waits for anything of it."""
        if self._unmade is not None or not self._lifecycle.stage.is_open or self._throttle.pending:
            return False
        if self._tasks is not None or self._bodies is not None or self._starttls is not None:
            return False
        inbox = self._inbox
        return not inbox.in_use and inbox.refusal is None and self._dispatcher.at_rest and self._outbox.at_rest

    def _end_input(self, cause: CloseReason) -> None:
        """No message will come any more: handle the messages that came, then close the connection for `cause`."""
        news = self._happen(Event.INPUT_OVER, cause)
        if self._lifecycle.stage is Stage.INPUT_ENDING and not self._throttle.pending:
            self._happen(Event.RELEASED)
        seconds = self._settings.timeouts.half_close
        ours = cause.clean and cause.by is EndedBy.US  # a drain, which has a deadline of its own
        if news and self._lifecycle.stage.sends and seconds and not ours:
            self._lifecycle.end_within(seconds, "half-close-over", "half_close")

    def _drain(self, cause: CloseReason, deadline: float | None) -> None:
        """End the input for `cause`. Cut the connection after `deadline` seconds (`None`: ``timeouts.drain``)."""
        if self._lifecycle.stage is Stage.OPENING:
            self._abort(cause)
        if self._lifecycle.stage.is_open:
            self._dispatcher.draining()
        if self._lifecycle.stage.is_open and self._bodies is not None and self._bodies.coming is not None:
            self._bodies.then = partial(self._end_input, cause)  # the app finishes the message that it has
            self._buffered.update()
        else:
            self._end_input(cause)
        if self._lifecycle.stage.sends or self._lifecycle.stage is Stage.TAKEN_OVER:
            self._end_drain_within(cause, self._settings.timeouts.drain if deadline is None else deadline)

    def _end_drain_within(self, cause: CloseReason, seconds: float) -> None:
        """Cut the connection, which drains for `cause`, in `seconds`."""
        self._lifecycle.end_within(seconds, "drain-over", "drain")

    def _close(self, cause: CloseReason, grace: float | None = None) -> None:
        """Flush and close for `cause`. If the app is being called, wait until it returns."""
        actions = self._lifecycle.happen(Event.CLOSE, cause)
        if actions & (ASK_APP | DISCONNECT) or (grace is not None and not actions):
            self._lifecycle.end_within(self._settings.timeouts.grace if grace is None else grace, "grace-over", "grace")
        self._act(actions)

    def _abort(self, cause: CloseReason) -> None:
        """Close for `cause` without flushing."""
        self._happen(Event.ABORT, cause)

    def _app_failed(self, failure: Failure) -> None:
        """The app raised. An error that only says that the connection has ended is not its failure."""
        failure = explained(failure)
        error: Any = failure.value
        stage = self._lifecycle.stage
        if isinstance(error, (NotConnected, CancelledError)) and not stage.sends:
            drop_frames(failure)  # they would keep a cancelled coroutine, and this connection, in memory
            return
        if isinstance(error, NotConnected) and not stage.is_open and error.reason is self._lifecycle.cause:
            drop_frames(failure)
            self._close(error.reason)
            return
        cause = cause_of_failure(error)
        if cause.rule == "app-failed":
            self._emit(AppFailed, failure)
        self._close(cause)

    def _app_rests(self, _: Any = None) -> None:
        """The app is not being called: do the step that waited for that."""
        stage = self._lifecycle.stage
        if stage is Stage.CLOSING:
            if not self._dispatcher.working:
                self._happen(Event.APP_IDLE)
        elif stage is Stage.INPUT_CLOSED and self._dispatcher.done:
            working = self._tasks is not None and self._tasks.working
            if not working and not has_streams(self._outbox):  # the grace is too short for a long stream
                self._close(self._lifecycle.cause)
        elif self._buffered.reported:
            self._buffered.update()

    # The end of its parts.

    def _fail_waiters(self) -> None:
        """Fail all that wait for a message or a reply, and end the ticks."""
        self._fail(self._take_waiters())

    def _take_waiters(self) -> list[Deferred[Any]]:
        """Remove all that wait for a message or a reply, in the order in which they fail."""
        requests, inbox = self._dispatcher.requests, self._inbox
        if requests is None and not inbox.awaited:
            return []
        return [*inbox.take_waiters(), *(() if requests is None else requests.take_waiters())]

    def _fail(self, waiters: list[Deferred[Any]]) -> None:
        """Fail `waiters`, and note which tasks, and whether the conversation, know of the end by that."""
        tasks = self._tasks
        bodies = self._bodies
        if (
            not waiters and tasks is None and bodies is None
        ):  # as at most ends: the error is made only where it is needed
            return
        waited_for = self._dispatcher.awaited
        tasks_waited_for = {} if tasks is None else tasks.awaited()
        fail_all(waiters, self._lifecycle.error)
        if bodies is not None:
            bodies.fire()
        if tasks is not None:
            tasks.ticks.end()
        if self._lifecycle.stage.sends:
            return
        if self._dispatcher.awaited is not waited_for:
            self._dispatcher.notify_conversation()
        if tasks is not None:
            tasks.notify(tasks_waited_for)

    def _drop_buffers(self, *, all_of_it: bool) -> None:
        """
        Drop the bytes that have no use any more, at once, and count the messages among them.

        Messages that a ``receive`` can still take are kept, unless `all_of_it` is set.
        """
        if self._dispatcher is CLOSED_PARTS:
            return
        self._unhandled += self._throttle.drop()
        if self._inbox.in_use and (all_of_it or not self._dispatcher.receive_only):
            self._unhandled += self._inbox.drop()
        if self._lifecycle.stage is not Stage.CLOSED:  # else `end` needs them, to see which bytes the transport has
            self._outbox.drop()
        if all_of_it and self._bodies is not None:
            self._bodies.drop()
        self._framing.drop()
        self._buffered.update()

    def _end(self, flushed: bool) -> None:
        """
        The transport is lost: end all parts, then fire all waiters. `flushed`: the transport had sent all bytes.

        The waiters come when the parts are settled, because they run the user's code.
        """
        if self._tasks is None:
            self._deadlines.end()
        self._end_handshake()
        self._end_parts(flushed)

    def _end_parts(self, flushed: bool) -> None:
        """End all parts, then fire all waiters. Those for the end fire when the connection is closed."""
        ended, over = self._lifecycle.cause, self._lifecycle.stage is Stage.CLOSED
        self._buffered.end()
        self._drop_buffers(all_of_it=False)
        waited_for = self._dispatcher.awaited
        totals = self.totals
        self._receiver.end_counting()
        self._outbox.end_counting()
        waiters = self._take_waiters()
        sent, unsent = self._outbox.end(flushed)
        self._settings.counters.failed_sends += len(unsent)
        if over and self._tasks is None:
            self._leave_factory(ended)
        self._fail(waiters)
        if sent or unsent:
            fire_all(sent, None)
            self._fail(unsent)
        if self._tasks is None:
            self._tell_of_end(ended, waited_for, len(unsent), totals)
        else:
            tell = partial(self._tell_of_end, ended, waited_for, len(unsent), totals)
            self._end_tasks(self._tasks, partial(self._end_with_tasks, ended, tell))

    def _leave_factory(self, ended: CloseReason) -> None:
        """Tell the factory that the connection counts no longer."""
        if self.factory is not None:
            self.factory.connection_closed(self.connection, ended)

    def _tell_of_end(self, ended: CloseReason, waited_for: object, unsent: int, totals: Totals) -> None:
        """All parts and tasks have ended: tell the app and the waiters, and let go of the parts."""
        self._dispatcher.closed(ended)
        if self._lifecycle.stage is Stage.CLOSED:
            self._emit_end(unsent, totals)
            self._lifecycle.fire_closed()
        if self._starttls is not None:
            self._starttls.failed(ended.error or self._lifecycle.error)
        self._dispatcher.cancel_conversation(waited_for)
        self._dispatcher.cancel_handler()
        self._release_parts(totals)
        self._parts_ended()

    def _parts_ended(self) -> None:
        """The parts have ended. A subclass goes on, where the transport does."""

    def _emit_end(self, unsent: int, totals: Totals) -> None:
        """Tell the listeners that the connection has ended, with this many `unsent` messages."""
        ended = self._lifecycle.cause
        if not self._settings.telemetry:
            return
        probe = not self._deadlines.peer_spoke and self._serves and ended.rule in ("end-of-stream", "lost")
        if self._lifecycle.opened:
            if self._unhandled or not (ended.clean or probe) or self._settings.telemetry.hears_routine:
                self._emit(Closed, ended, self._unhandled, probe, unsent, *totals)
        else:
            self._emit(NeverOpened, ended, probe)

    def _end_with_tasks(self, ended: CloseReason, tell: Callable[[], None]) -> None:
        """The tasks have ended: the connection is forgotten only now, so that a server that stops waits for them."""
        if self._lifecycle.stage is Stage.CLOSED:
            self._deadlines.end()
            self._leave_factory(ended)
        else:
            self._deadlines.stop(TASKS)
        tell()

    def _release_parts(self, totals: Totals) -> None:
        """
        Let go of the parts and of the user's side, which refer back to this: then it is freed with the last reference.

        The `totals` are kept. Messages that came and were not taken can still be received.
        """
        self._end_recording()
        self._dispatcher.end()
        if self._lifecycle.cause.error is not None:
            without_frames(self._lifecycle.cause.error)
        if self._bodies is not None:
            self._bodies.end(CLOSED_PARTS)
            self._buffered.bodies = None
        self._starttls = self._tasks = self._data = self._bodies = None
        self._connection = ref(self._connection)
        self._dispatcher = self._throttle = self._buffered = self._outbox = CLOSED_PARTS
        closed: Any = ClosedReceiver(totals)
        self._receiver = closed
