"""
Decides when the app gets the next message: in order, one at a time.

While anything holds them back (the app's Deferred, `pause`, a peer that does not take the replies), messages wait in
the inbox as bytes. Each is decoded when the app takes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tcpapp.close_reason import CloseReason
from tcpapp.connection.conversation import RunningConversation
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.handlers import AWAITABLE, Handlers, deferred_of, is_stream, value_of
from tcpapp.connection.inbox import ABSENT, Inbox
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import APP_IDLE, NOTHING, Settler
from tcpapp.connection.pause_flags import (
    AWAITING_TURN,
    CONNECTION_CLOSED,
    CONNECTION_CLOSING,
    HANDLING,
    NO_MORE_INPUT,
    PAUSED,
    RECEIVE_ONLY,
    SWITCHING,
)
from tcpapp.connection.settings import Settings
from tcpapp.connection.streamed_replies import StreamedReplies
from tcpapp.framing import Framing
from tcpapp.framing.decoded import as_bytes

__all__ = ["Dispatcher"]


class Dispatcher(StreamedReplies):
    """
    Hands the messages of one connection to its app.

    The dispatcher is `slow` where the last messages took longer than a
    turn's budget. Then the messages that wait are handed on turn by turn.
    """

    __slots__ = (
        "_conversation",
        "_has_turn",
        "slow",
    )

    def __init__(
        self,
        connection: Any,
        settler: Settler,
        framing: Framing,
        settings: Settings,
        inbox: Inbox,
        outbox: Outbox,
        deadlines: Deadlines,
        clock: IReactorTime | None,
    ) -> None:
        super().__init__(connection, settler, framing, settings, inbox, outbox, deadlines, clock)
        self._has_turn = False
        self.slow = False
        self._conversation: RunningConversation | None = None

    @property
    def done(self) -> bool:
        """Whether the app has nothing to do: no message, no pending reply, no running conversation."""
        if self.pauses & HANDLING or self.in_flight or self._unsorted is not None:
            return False
        if self._conversation is not None and self._conversation.running:
            return False
        return bool(self.pauses & RECEIVE_ONLY) or not self._inbox.waiting

    @property
    def at_rest(self) -> bool:
        """Whether the app has nothing to do, nothing holds it back, and no request and no reply waits."""
        held = self.pauses & ~RECEIVE_ONLY or self.in_flight or self._unsorted is not None or self._replies
        return not (held or self._streams or self.requests is not None or self._conversation is not None)

    @property
    def awaited(self) -> object:
        """The object that the conversation awaits; `None` where there is no conversation."""
        return None if self._conversation is None else self._conversation.awaited

    @property
    def turn_since(self) -> float:
        """Since when the app waits for a turn, by the clock; infinity where it does not."""
        if self._conversation is not None:
            return self._conversation.waits_since
        return self._deadlines.began("turn") if self.pauses & AWAITING_TURN else inf

    def notify_conversation(self) -> None:
        """The conversation knows of the end, because the call it awaited failed."""
        assert self._conversation is not None
        self._conversation.notified = True

    def cancel_conversation(self, waited_for: object) -> None:
        """The connection has ended: cancel the conversation if it still waits for `waited_for`."""
        if self._conversation is not None:
            self._conversation.cancel(waited_for)

    def start(self, handlers: Handlers) -> int:
        """Tell the app, by its `handlers`, that the connection is open. Returns the outcome."""
        self.use(handlers)
        self._inbox.watched = handlers.talk is not None
        first = self._handlers.opened or self._handlers.talk
        if first is None:
            return NOTHING
        self._handle_each((None,), lambda _, connection: self._begin(first(connection)))
        self._end_handling()
        return self.continue_handling()

    def dispatch(self, messages: list[Any]) -> int:
        """Messages came: hand each to its request, or to the app. Returns the outcome."""
        if self.requests is not None:
            return self._sort(messages)
        if len(messages) == 1 and not self.pauses and not self._inbox.in_use and self._received_all is None:
            return self._handle_one(messages[0])
        return self.handle(messages)

    def handle(self, messages: list[Any]) -> int:
        """Hand `messages` (bytes, or `Decoded`) to the app. Messages that it is not ready for wait in the inbox."""
        if self.pauses or self._inbox.in_use:
            return self._queue_messages(messages)
        outcome = NOTHING
        source = iter(messages)
        self._taking = messages, source
        left = self._handle_messages(source)
        self._taking = None
        if left is not None and (rest := list(left)):
            outcome = self._inbox.put_back(as_bytes(rest))
        self._end_handling()
        return outcome | self.continue_handling() if self.pauses or self._inbox.in_use else outcome

    def continue_handling(self) -> int:
        """
        Hand on the messages that wait, unless something holds them back. Costly messages wait for a turn first.

        Returns the outcome.
        """
        if self.pauses & SWITCHING:
            self._end_switch()
        while not self.pauses & ~NO_MORE_INPUT and self._inbox.waiting:
            if self.slow and not self._has_turn:
                self._wait_for_turn()
                break
            began = self._deadlines.seconds()
            self._handle_messages(self._turn_messages())
            self._end_handling()
            if self.pauses & SWITCHING:
                self._end_switch()
            self.slow = self._deadlines.seconds() - began > self._budget
        return NOTHING if self.pauses & (HANDLING | CONNECTION_CLOSED) else APP_IDLE

    def cork_chunk(self, on: bool) -> None:
        """Begin, or end, to write the replies to all messages that arrive in one write."""
        self._outbox.stays_corked = on
        if on:
            self._outbox.cork()
        else:
            self._outbox.uncork()

    def _turn_messages(self) -> Iterator[Any]:
        """The messages that wait, one by one, until the budget of a turn is used. The rest wait for another turn."""
        seconds, inbox = self._deadlines.seconds, self._inbox
        ends = seconds() + self._budget
        while inbox.waiting:
            if seconds() > ends:
                self._wait_for_turn()
                break
            yield inbox.take()

    def _wait_for_turn(self) -> None:
        clock = self._deadlines.clock
        assert clock is not None
        self.pauses |= AWAITING_TURN
        self._deadlines.start("turn", inf)
        self._fair_share.wait(self.take_turn, clock)

    def take_turn(self) -> None:
        """The turn has come: go on with the messages that wait."""
        self._has_turn = True
        outcome = self.resume(AWAITING_TURN)
        self._has_turn = False
        self._settler.settle(outcome)

    def receive(self) -> Deferred[Any]:
        """The next message, for code that fetches it. A conversation that had its time gets it in a later turn."""
        return self._inbox.receive() if self._conversation is None else self._conversation.receive()

    def take_now(self) -> Any:
        """The next message, if code that fetches it can have it now; otherwise `ABSENT`, and `receive` gives it."""
        talk = self._conversation
        if talk is not None and (
            talk.receives is not None or self._deadlines.seconds() - talk.turn_began > self._budget  # its turn is over
        ):
            return ABSENT
        return self._inbox.take_now()

    def enter(self, bits: int) -> None:
        """The connection came to another stage, whose `bits` replace those of the last stage in `pauses`."""
        self.pauses = (self.pauses & ~(NO_MORE_INPUT | CONNECTION_CLOSING | CONNECTION_CLOSED)) | bits

    def pause(self, why: int) -> None:
        """Hand on no message until `resume` of the same `why`."""
        if why == PAUSED and not self.pauses & PAUSED:
            self._deadlines.start("pause", inf)
        self.pauses |= why

    def resume(self, why: int) -> int:
        """The reason `why` is gone. Returns the outcome."""
        was_paused = self.pauses & why & PAUSED
        self.pauses &= ~why
        if self._streams:
            self._continue_streams()
        outcome = self.continue_handling()
        if was_paused and not self._settler.is_handling:  # the user's pause was our turn, and nothing follows it
            self._deadlines.await_peer()
        return outcome

    def closed(self, reason: CloseReason) -> None:
        """Tell the app that the connection has ended. Raises nothing: what the app raises is reported."""
        if self._conversation is not None:
            self._conversation.take_last()
        if self._handlers.closed is not None:
            try:
                told = deferred_of(self._handlers.closed(self._connection, reason))
            except Exception:
                self._app_failed(Failure())
            else:
                if told is not None:
                    told.addErrback(self._app_failed)

    def end(self) -> None:
        """The connection has ended, and the app knows: let go of everything."""
        if self.pauses & AWAITING_TURN:
            self._fair_share.cancel(self.take_turn)
        self.handling_bytes = 0
        self.requests = self._unsorted = None
        self._replies.clear()
        self._streams = None

    def _begin(self, first: Any) -> Any:
        """Take the result of the first call: a conversation to run, or a greeting to send."""
        if self._handlers.talk is not None:
            self._conversation = RunningConversation(
                self._settler,
                self._inbox,
                self._fair_share,
                self._deadlines.clock,
                self._deadlines.seconds,
                self._budget,
            )
            self._conversation.begin(first)
            return None
        if first is None or self._codec is None or isinstance(first, AWAITABLE) or is_stream(first):
            return first
        return self._codec.encode(value_of(first))

    def _queue_messages(self, messages: list[Any]) -> int:
        """Put `messages` into the inbox. Bytes that its waiters send at once are gathered into one write, too."""
        working = self.pauses & HANDLING
        self.pauses |= HANDLING
        if self._conversation is not None:
            self._conversation.turn_began = self._deadlines.seconds()
        self._outbox.cork()
        outcome = self._inbox.put(messages)
        if working:
            return outcome
        self._end_handling()
        return outcome | self.continue_handling()
