"""
A dispatcher that hands several messages of one connection to the app before the first of them is answered.

Every message whose reply is not sent yet has a slot, and the slots are in the order of the messages. With replies in
order, a reply that comes early waits in its slot for the replies before it. With replies as they are ready, a reply is
sent at once.

A failure of the app has the effect that it has with one message at a time: the messages before it are answered, the
messages after it are not. Messages after it that the app has already are cancelled. Then the connection closes.
"""

from __future__ import annotations

from collections import OrderedDict
from types import CoroutineType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tcpapp.connection.concurrency import IN_ORDER
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.dispatcher import Dispatcher
from tcpapp.connection.handlers import AWAITABLE, Handlers, deferred_of, is_stream, without_codec
from tcpapp.connection.inbox import Inbox
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import APP_ANSWERED, APP_WAITS, BUFFERED_CHANGED, TOO_MUCH_UNSENT, Settler
from tcpapp.connection.pause_flags import AWAITING_REPLY, CONNECTION_CLOSED, CONNECTION_CLOSING, HANDLING
from tcpapp.connection.replies import replies_of
from tcpapp.connection.reply_slot import SLOT_COST, Slot
from tcpapp.connection.reply_stream import ReplyStream
from tcpapp.connection.settings import Settings
from tcpapp.framing import Framing

__all__ = ["ConcurrentDispatcher"]


class ConcurrentDispatcher(Dispatcher):
    """
    Hands the messages of one connection to its app, up to ``concurrency`` of them at once.

    `AWAITING_REPLY` is in `pauses` while the app can get no further message. Replies that wait for earlier ones count
    as unsent: over ``write_high`` the app gets no further message, and over ``max_unsent`` the connection ends.
    """

    __slots__ = (
        "_app",
        "_failing",
        "_in_order",
        "_late_failures",
        "_max_unsent",
        "_most",
        "_oldest",
        "_releasing",
        "_slots",
        "_unanswered",
        "_waiting_size",
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
        self._app: Any = None
        self._most = settings.concurrency
        self._in_order = settings.replies == IN_ORDER
        self._max_unsent = settings.limits.max_unsent
        self._slots: OrderedDict[Slot, None] = OrderedDict()
        self._unanswered: OrderedDict[Slot, None] = OrderedDict()
        self._oldest: Slot | None = None
        self._waiting_size = 0
        self._failing = False
        self._releasing = False
        self._late_failures: list[Failure] = []

    @property
    def in_flight(self) -> int:
        """How many messages the app has yet to answer, or have a reply that waits for earlier ones."""
        return len(self._slots) or (1 if self.pauses & AWAITING_REPLY else 0)  # a greeting has no slot

    def use(self, handlers: Handlers) -> None:
        """Hand messages to the app, by its `handlers`, as soon as nothing holds them back."""
        super().use(handlers)
        if self._received is not None:
            self._app = self._received
            self._received = self._call
        elif self._received_all is not None:
            self._app = self._received_all
            self._received_all = self._call

    def cancel_handler(self, *, at_end: bool = True) -> None:
        """Cancel all pending replies of the app, as with one message at a time."""
        super().cancel_handler(at_end=at_end)
        for slot in list(self._slots):
            reply = slot.reply
            if at_end:
                slot.reply = None
            if reply is not None:
                self._cancel(reply)
        if at_end:
            self._report_failures()

    def end(self) -> None:
        """The connection has ended, and the app knows: let go of everything."""
        super().end()
        self._slots.clear()
        self._unanswered.clear()
        self._late_failures.clear()
        self._waiting_size = 0
        self._oldest = None
        self._app = self._received = self._received_all = None  # two of them refer to this

    # From the call of the app to its reply.

    def _call(self, message: Any, connection: Any) -> Any:
        """Call the app with a message, or a batch. A reply that is there at once waits in its slot for earlier ones."""
        had = bool(self._replies)
        reply = self._app(message, connection)
        if type(reply) is CoroutineType:
            reply = self._result_of(reply) if self._received_all is None else deferred_of(reply)
        if self._replies and not had:  # replies to earlier messages, which came during the call
            self.flush()
        if reply is None or not self._slots or not self._in_order:
            return reply
        if type(reply) is not bytes and (isinstance(reply, AWAITABLE) or is_stream(reply)):
            return reply
        replies = [without_codec(reply)] if self._received_all is None else replies_of(reply)
        self._wait_for_earlier(self._new_slot(), replies)
        return None

    def _settle(self, reply: Any, messages: list[Any], replied: Any = None) -> int:
        """As with one message at a time. A greeting is alone: the app gets no message before it is there."""
        if messages[0] is None:
            return super()._settle(reply, messages, replied)
        before = len(self._replies)
        if is_stream(reply):
            slot = self._new_slot()
            deferred: Deferred[Any] | None = self._start_at(slot, reply)
        else:
            deferred = deferred_of(reply)
            if deferred is None:
                return super()._settle(reply, messages, replied)
            slot = self._new_slot()
        assert deferred is not None
        deferred.addCallbacks(self._came, self._failed, callbackArgs=(slot, replied is None), errbackArgs=(slot,))
        if slot.replies is None and slot in self._slots:
            self._wait_for(slot, deferred, messages)
        return sum([len(each) for each in self._replies[before:] if isinstance(each, bytes)])

    def _new_slot(self) -> Slot:
        slot = Slot()
        self._slots[slot] = None
        self._update_room()
        return slot

    def _wait_for(self, slot: Slot, reply: Deferred[Any], messages: list[Any]) -> None:
        """The `reply` to `messages` is not there yet."""
        slot.reply = reply
        slot.since = self._deadlines.seconds()
        slot.weight = self._weight_of(messages) + SLOT_COST
        self.handling_bytes += slot.weight
        if slot.stream is not None and slot.stream.waits:
            self._settler.settle(BUFFERED_CHANGED)
        else:
            self._unanswered[slot] = None
            self._note_oldest()
        if self.pauses & CONNECTION_CLOSED:  # it ended while the app was called, and nothing else cancels this reply
            self.cancel_handler()

    def _note_oldest(self) -> None:
        """The time for a reply is counted for the message that waits longest."""
        before, oldest = self._oldest, next(iter(self._unanswered), None)
        if oldest is before:
            return
        self._oldest = oldest
        if oldest is None:
            self._settler.settle(APP_ANSWERED)
        else:
            self._settler.settle(APP_WAITS if before is not None else APP_WAITS | BUFFERED_CHANGED, oldest.since)

    def _update_room(self) -> None:
        """See whether the app can get another message."""
        if self._failing or len(self._slots) >= self._most or self._waiting_size > self._outbox.write_high:
            self.pauses |= AWAITING_REPLY
        else:
            self.pauses &= ~AWAITING_REPLY

    # Replies of many messages.

    def _start_at(self, slot: Slot, source: Any) -> Deferred[Any]:
        """The reply of `slot` is a stream, which begins when it has its place. Returns the Deferred of its end."""
        stream = self._new_stream(source)
        slot.stream, stream.slot = stream, slot
        stream.in_place = slot in self._slots and (not self._in_order or slot is next(iter(self._slots)))
        return self._start(stream)

    def _stream_at(self, slot: Slot, source: Any) -> Deferred[Any]:
        """The Deferred of `slot` fired with a stream. It is closed at once if the slot has no place any more."""
        ended = self._start_at(slot, source)
        ended.addCallbacks(self._came, self._failed, callbackArgs=(slot, True), errbackArgs=(slot,))
        if slot not in self._slots:
            ended.cancel()
        return ended

    def stream_waits(self, stream: ReplyStream) -> None:
        """`stream` waits for the peer, for its turn or for its place: the app's time does not run."""
        slot = stream.slot
        if slot is None:
            super().stream_waits(stream)
        elif slot in self._unanswered:
            del self._unanswered[slot]
            self._note_oldest()

    def stream_runs(self, stream: ReplyStream) -> None:
        """`stream` has made progress: the app's time for its next message begins."""
        slot = stream.slot
        if slot is None:
            super().stream_runs(stream)
        elif slot.reply is not None:
            slot.since = self._deadlines.seconds()
            self._unanswered[slot] = None
            self._unanswered.move_to_end(slot)
            if self._oldest is slot:
                self._oldest = None
            self._note_oldest()

    # From the reply to the outbox.

    def _came(self, reply: Any, slot: Slot, single: bool) -> Any:
        """The Deferred of `slot` fired with its reply, or with the replies to a batch."""
        if is_stream(reply):
            return self._stream_at(slot, reply)
        if self._stop_waiting_for(slot):
            replies = reply if not single else [] if reply is None else [reply]
            taken: list[Any] = []
            try:
                self._encode(replies, taken)
            except Exception:
                slot.replies = taken
                self._fail_at(slot, Failure())
            else:
                self._take(slot, taken)
        self._go_on()
        return None

    def _failed(self, failure: Failure, slot: Slot) -> None:
        """The Deferred of `slot` failed."""
        if self._stop_waiting_for(slot):
            slot.replies = []
            self._fail_at(slot, failure)
        elif not slot.dropped or self.pauses & CONNECTION_CLOSING:
            self._app_failed(failure)
        elif not isinstance(failure.value, CancelledError):
            self._late_failures.append(failure)
        self._go_on()

    def _stop_waiting_for(self, slot: Slot) -> bool:
        """The app has answered. Returns whether the reply has a place: it has none once the connection closes."""
        slot.reply = None
        pauses = self.pauses
        if pauses & CONNECTION_CLOSED or slot not in self._slots:
            return False
        self._discount(slot)
        if pauses & CONNECTION_CLOSING and not pauses & HANDLING:
            del self._slots[slot]
            return False
        return True

    def _discount(self, slot: Slot) -> None:
        """Neither the message of `slot` nor its replies are counted as held any more."""
        self.handling_bytes -= slot.weight
        self._waiting_size -= slot.size
        slot.weight = slot.size = 0
        if slot in self._unanswered:
            del self._unanswered[slot]
            self._note_oldest()

    def _take(self, slot: Slot, replies: list[Any]) -> None:
        """The `replies` of `slot` are there."""
        if self._in_order and slot is not next(iter(self._slots)):
            self._wait_for_earlier(slot, replies)
            return
        del self._slots[slot]
        self._replies += replies
        self._release()

    def _wait_for_earlier(self, slot: Slot, replies: list[Any]) -> None:
        """The `replies` of `slot` wait until all earlier messages are answered."""
        unsent = self._waiting_size + self._outbox.unsent
        slot.replies = replies
        slot.size = sum([len(each) for each in replies if isinstance(each, bytes)])
        slot.weight = slot.size + SLOT_COST
        self._waiting_size += slot.size
        self.handling_bytes += slot.weight
        self._update_room()
        if unsent > self._max_unsent and slot.size:
            self._settler.settle(TOO_MUCH_UNSENT, unsent)

    def _release(self) -> None:
        """Send the replies that waited for a reply that is there now, in order. A stream that is first begins."""
        if self._releasing:  # a stream, or a write, has answered a message: the loop goes on with it
            return
        self._releasing = True
        released = 0
        while self._slots and not self.pauses & CONNECTION_CLOSED:
            slot = next(iter(self._slots))
            if slot.replies is None:
                if slot.stream is None or slot.stream.in_place:
                    break
                self.flush()  # the stream begins when the peer has taken what is before it
                slot.stream.in_place = True
                if slot.stream.can_go_on:
                    self.go_on(slot.stream)
                continue
            del self._slots[slot]
            released += slot.size
            self._discount(slot)
            self._replies += slot.replies
            if released > self._outbox.write_high:
                self.flush()
                released = 0
            if (failure := slot.take_failure()) is not None:
                self._fail_now(failure)
        self._releasing = False
        self._update_room()

    def _go_on(self) -> None:
        if not self.pauses & (HANDLING | CONNECTION_CLOSED):
            self.flush()
            self._settler.settle(self.continue_handling())

    # Failures.

    def _call_failed(self, failure: Failure) -> None:
        """The call with a message failed. Messages before it are answered first."""
        if self._slots and not self.pauses & CONNECTION_CLOSING:
            slot = self._new_slot()
            slot.replies = []
            self._fail_at(slot, failure)
        else:
            self._app_failed(failure)

    def _fail_at(self, slot: Slot, failure: Failure) -> None:
        """The message of `slot` failed: no later message is answered, and the app gets none."""
        slot.failure = failure
        self._failing = True
        slots = list(self._slots)
        later = slots[slots.index(slot) + 1 :]
        for each in later:
            del self._slots[each]
            each.dropped = True
            self._discount(each)
            if (late := each.take_failure()) is not None:
                self._late_failures.append(late)
        for each in later:
            if each.reply is not None:
                self._cancel(each.reply)
        self._release()

    def _fail_now(self, failure: Failure) -> None:
        """Send the replies to the messages before the failed one, and close the connection."""
        self.flush()
        self._app_failed(failure)
        self._report_failures()

    def _report_failures(self) -> None:
        """Report the failures that had to wait."""
        waiting = [*(each.take_failure() for each in self._slots), *self._late_failures]
        self._late_failures = []
        for failure in waiting:
            if failure is not None:
                self._app_failed(failure)

    def _cancel(self, reply: Deferred[Any]) -> None:
        try:
            reply.cancel()
        except Exception:  # the app's own canceller
            failure = Failure()
            if self._failing and not self.pauses & CONNECTION_CLOSING:
                self._late_failures.append(failure)
            else:
                self._app_failed(failure)
