"""
A connection that continues in another process: its state is dumped in one process, and loaded in the other.

The peer notices nothing. The TCP connection stays, because its descriptor goes from process to process. This module
moves what the connection has in memory. The calls in the old process, in order::

    protocol.pause_at_boundary()        # read nothing more, and hand the app no further message
    protocol.obstacles()                # ask again until the list is empty, for as long as you can wait
    state = protocol.dump()
    protocol.release()                  # once the new process has the descriptor and the state

With ``protocol.resume_from_boundary()`` in place of ``release()``, the connection goes on where it is, and nothing was
lost. The calls in the new process, in order::

    protocol = factory.buildProtocol(address)
    protocol.load(state)                # InvalidState says what is wrong with the state; nothing was loaded then
    protocol.makeConnection(transport)  # the transport of the descriptor

A dump changes nothing, so it can be repeated. Messages that are sent later are not in it. So make the dump that counts
in the same turn of the event loop as `release`.

The state has the bytes that the transport has not got. It does not have the bytes in the transport's own buffer. Wait
until the transport has sent them, or write them to the new transport before ``makeConnection``.

No app is called for a move. The app's ``opened`` was called in the first process, and ``closed`` is called in the
process in which the connection ends. The connection has another ``id`` in each process.
"""

from __future__ import annotations

from typing import Any, Final

from typing_extensions import override

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.boundary import Obstacle, app_obstacle, obstacles_of
from tcpapp.connection.connection_state import ConnectionState, name_of, pack_state, unpack_state
from tcpapp.connection.deadline_state import dump_deadlines, load_deadlines, load_wait
from tcpapp.connection.lifecycle import Event, Stage
from tcpapp.connection.outbox_state import dump_outbox, load_outbox
from tcpapp.connection.pause_flags import MOVING, PAUSED
from tcpapp.connection.pending_requests import requests_by
from tcpapp.connection.read_control import MOVING_AWAY
from tcpapp.connection.settings import Settings
from tcpapp.connection.switching import Switchable
from tcpapp.connection.throttle_state import dump_throttle, load_throttle
from tcpapp.errors import InvalidState
from tcpapp.telemetry import Closed, Opened
from tcpapp.transport.proxy_header import behind_header, header_below

__all__ = ["Movable"]

MOVED: Final = CloseReason(EndedBy.US, "moved", "it continues in another process")


class Movable(Switchable):
    """A connection whose state can be dumped and loaded."""

    __slots__ = ("_loaded",)

    def __init__(self, settings: Settings, factory: Any = None) -> None:
        super().__init__(settings, factory)
        self._loaded: ConnectionState | None = None

    # In the old process.

    def obstacles(self) -> list[Obstacle]:
        """What stands against a `dump` now. The connection is at a message boundary when there is nothing."""
        return obstacles_of(self)

    def pause_at_boundary(self) -> None:
        """
        Let the connection come to a message boundary: read nothing more, and hand the app no further message.

        Messages that were read wait. Nothing else changes: replies are sent, and deadlines and calls of the user can
        end the connection. To drain it, call `resume_from_boundary` first.
        """
        if self._lifecycle.stage.is_open:
            self._read_control.pause(MOVING_AWAY)
            self._dispatcher.pause(MOVING)

    def resume_from_boundary(self) -> None:
        """Undo `pause_at_boundary`: the connection is not moved, and goes on here. Nothing is lost or doubled."""
        if self._lifecycle.stage.sends:
            self._read_control.resume(MOVING_AWAY)
            self.settle(self._dispatcher.resume(MOVING))

    def dump(self) -> bytes:
        """
        The state of this connection as bytes, for `load`. It goes on unchanged.

        Raises `InvalidState` where it is not at a message boundary; the error names all that stands against it.
        """
        self._check_boundary("dumped")
        requests = self._dispatcher.requests
        return pack_state(
            ConnectionState(
                codec=name_of(self._settings.codec),
                paused=bool(self._dispatcher.pauses & PAUSED),
                has_requested=requests is not None,
                deadlines=dump_deadlines(self._deadlines),
                throttle=dump_throttle(self._throttle),
                framing=self._framing.dump(),
                inbox=self._inbox.dump(),
                outbox=dump_outbox(self._outbox),
                received=(self._receiver.messages, self._receiver.bytes),
                sent=(self._outbox.messages, self._outbox.bytes),
                proxy=header_below(self.transport),
            )
        )

    def release(self) -> None:
        """
        Let go of the connection, which continues in another process: it is closed here, for the reason ``moved``.

        Nothing is written, the transport is left as it is, and the app's ``closed`` is not called. Waiters for the end
        fire. Close the transport's descriptor after this, without a shutdown of the connection.

        Raises `InvalidState` where it is not paused at a message boundary; then it goes on here.
        """
        if self._lifecycle.stage.is_open and not self._read_control.pauses & MOVING_AWAY:
            raise InvalidState(
                "the connection cannot be released while it is read from; call pause_at_boundary() first"
            )
        self._check_boundary("released")
        totals = self.totals
        self._happen(Event.MOVED, MOVED)
        self._deadlines.end()
        self._buffered.end()
        self._drop_buffers(all_of_it=True)
        self._receiver.end_counting()
        self._outbox.end_counting()
        if self.factory is not None:
            self.factory.connection_closed(self.connection, MOVED)
        self._outbox.end(flushed=False)
        self._emit(Closed, MOVED, 0, False, 0, *totals)
        self._lifecycle.fire_closed()
        self._release_parts(totals)

    def _check_boundary(self, what: str) -> None:
        found = self.obstacles()
        if found:
            raise InvalidState(f"the connection cannot be {what}: {'; '.join(each.detail for each in found)}")

    # In the new process.

    def load(self, state: bytes) -> None:
        """
        Go on from `state`, which another protocol has dumped, as soon as this one is connected.

        Call it once, before ``makeConnection``, on a new protocol of a factory with the same app, framing and codec.
        Then the connection is open at once: the app's ``opened`` is not called, unsent bytes are written first, and
        messages that wait are handed on. The limits and timeouts are those of this factory. Waits that run have the
        seconds that they had left.

        Raises `InvalidState`, and nothing else, for any other bytes. The protocol is new then, as before.
        """
        if self._lifecycle.stage is not Stage.UNOPENED:
            raise InvalidState("a state is loaded before the connection is made; this protocol has its transport")
        obstacle = app_obstacle(self._settings)
        if obstacle is not None:
            raise InvalidState(f"the connection cannot be loaded: {obstacle.detail}")
        self._loaded = unpack_state(state, self._settings)

    @override
    def makeConnection(self, transport: Any) -> None:
        """The transport is there. Behind a proxy, its addresses are those of the header. Twisted calls it."""
        header = None if self._loaded is None else self._loaded.proxy
        super().makeConnection(transport if header is None else behind_header(transport, header, self))

    def _ready(self) -> int:
        """The transport can carry messages. Returns the actions, as `_happen`."""
        return self._happen(Event.READY if self._loaded is None else Event.LOADED)

    @override
    def _continue_app(self) -> None:
        state, self._loaded = self._loaded, None
        assert state is not None
        dispatcher, throttle = self._dispatcher, self._throttle  # a listener can end the connection below
        dispatcher.pause(MOVING)
        self._load_input(state)
        self._load_output(state)
        outcome = load_throttle(throttle, state.throttle)
        if self.factory is not None:
            self.factory.connection_moved_here(self.connection, state.deadlines.began)
        self._emit(Opened, True)
        self.settle(outcome)
        if not self._read_control.pauses & MOVING_AWAY:  # else a listener has paused it, to move it again
            self.settle(dispatcher.resume(MOVING))
        self._buffered.update()
        self._lifecycle.fire_open()

    def _load_input(self, state: ConnectionState) -> None:
        """Load what came, the waits for what is to come, and what the app gets of it."""
        settings, dispatcher = self._settings, self._dispatcher
        settings.track_waits(self._deadlines, serves=self._serves)
        load_deadlines(self._deadlines, state.deadlines)
        self._framing.load(state.framing)
        self._receiver.continue_from(*state.received)
        self._inbox.put(state.inbox)
        dispatcher.use(settings.handlers())
        if state.paused:
            dispatcher.pause(PAUSED)
        if state.has_requested:
            dispatcher.requests = requests_by(settings.key)

    def _load_output(self, state: ConnectionState) -> None:
        """Write what was not sent. A peer that still takes nothing has no more time for that than it had left."""
        outbox, deadlines = self._outbox, self._deadlines
        outbox.continue_from(*state.sent)
        load_outbox(outbox, state.outbox)
        if not outbox.blocked:
            deadlines.stop("send_progress")
        elif "send_progress" in state.deadlines.waits:
            load_wait(deadlines, "send_progress", state.deadlines.waits["send_progress"])
