"""
The way from messages to the app and back to replies: in order, one message at a time.

While anything holds it back (the app's Deferred, `pause`, a peer that does not take the replies) messages wait in the
inbox, as the bytes that came: each is decoded as the app takes it. The replies to one chunk are framed together and
written as one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from math import inf
from types import CoroutineType
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tcpapp.close_reason import CloseReason
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.handlers import AWAITABLE, Decoded, Handlers, Reply, deferred_of, value_of, without_codec
from tcpapp.connection.inbox import MESSAGE_COST, Inbox
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import (
    APP_ANSWERED,
    APP_FAILED,
    APP_RESTS,
    APP_WAITS,
    HELD,
    NOTHING,
    TALK_ENDED,
    UNANSWERED,
    Settler,
)
from tcpapp.connection.pause_flags import AWAITING, ENDING, GONE, OVER, PULLED, TOLD, WORKING, YIELDED
from tcpapp.connection.pending_requests import Requests, answer
from tcpapp.connection.settings import Settings
from tcpapp.errors import UndecodableMessage, UnsendableMessage
from tcpapp.framing import Framing
from tcpapp.limits.fairness import turn_of

__all__ = ["Dispatch"]

NEVER: Final = -inf
"""A time before all others."""

NOBODY = Handlers(None, None)
"""The app of a connection that is not open yet."""


class Dispatch:
    """
    Hands the messages of one connection to its app.

    `hold` is 0 while messages go straight to the app. `requests` are those that wait for replies, once there are any.
    `in_hand` is how many bytes of memory the messages take, at the most, that the app has yet to answer. It is `costly`
    where the last messages took longer than a turn's budget: those that wait are handed on one turn after the other.
    """

    __slots__ = (
        "_answer",
        "_budget",
        "_clock",
        "_codec",
        "_connection",
        "_coroutine",
        "_deadlines",
        "_framing",
        "_handlers",
        "_has_turn",
        "_inbox",
        "_mark",
        "_outbox",
        "_received",
        "_received_all",
        "_receives",
        "_replies",
        "_talk",
        "_turn_began",
        "_turns",
        "_unsorted",
        "costly",
        "hold",
        "in_hand",
        "requests",
    )

    def __init__(
        self,
        connection: Settler,
        framing: Framing,
        settings: Settings,
        inbox: Inbox,
        outbox: Outbox,
        deadlines: Deadlines,
        clock: IReactorTime | None,
    ) -> None:
        limits = settings.limits
        self._connection = connection
        self._handlers = NOBODY
        self._framing = framing
        self._codec = settings.codec
        self._inbox = inbox
        self._outbox = outbox
        self._deadlines = deadlines
        self._clock = clock
        self._turns = settings.turns
        self._turn_began = NEVER
        self._has_turn = False
        self.costly = False
        self._receives: deque[Deferred[Any]] | None = None
        self._budget = turn_of(limits.work_per_turn) if clock is not None else inf
        self._mark = limits.write_high
        self._received: Any = None
        self._received_all: Any = None
        self._replies: list[Any] = []
        self._answer: Deferred[Any] | None = None
        self._talk: Deferred[Any] | None = None
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._unsorted: list[bytes] | None = None
        self.requests: Requests | None = None
        self.in_hand = 0
        self.hold = PULLED

    @property
    def done(self) -> bool:
        """Whether the app has nothing in hand: no message, no reply to come, no conversation."""
        if self.hold & (WORKING | AWAITING) or self._talk is not None or self._unsorted is not None:
            return False
        return bool(self.hold & PULLED) or not self._inbox

    @property
    def working(self) -> bool:
        """Whether the app is being called right now."""
        return bool(self.hold & WORKING)

    @property
    def pulled(self) -> bool:
        """Whether messages are left to `receive`."""
        return bool(self.hold & PULLED)

    @property
    def waits_for(self) -> object:
        """What the conversation waits for, in whichever function it is; `None` while it runs, or where it is none."""
        awaited: Any = self._coroutine
        while isinstance(awaited, CoroutineType):
            awaited = awaited.cr_await
        return awaited

    def start(self, handlers: Handlers) -> int:
        """Tell the app, which has these `handlers`, that the connection is open. Returns the outcome."""
        self._handlers = handlers
        self._received = handlers.received
        self._received_all = handlers.received_all
        if handlers.received is not None or handlers.received_all is not None:
            self.hold &= ~PULLED
        self._inbox.watched = handlers.talk is not None
        first = self._handlers.opened or self._handlers.talk
        if first is None:
            return NOTHING
        self._work((None,), lambda _, connection: self._begin(first(connection)))
        self._end_work()
        return self.go_on()

    def arrive(self, messages: list[bytes]) -> int:
        """Messages came: hand each to its request, or to the app. Returns the outcome."""
        if self.requests is not None:
            return self._sort(messages)
        if len(messages) == 1 and not self.hold and not self._inbox.in_use and self._received_all is None:
            return self._handle_one(messages[0])
        return self.handle(messages)

    def handle(self, messages: list[Any]) -> int:
        """Hand `messages`, or `Decoded` ones, to the app; those it is not ready for wait in the inbox."""
        if self.hold or self._inbox.in_use:
            return self._keep(messages)
        outcome = NOTHING
        left = self._work_on(messages)
        if left is not None and (rest := list(left)):
            outcome = self._inbox.put_back(as_they_came(rest))
        self._end_work()
        return outcome | self.go_on() if self.hold or self._inbox.in_use else outcome

    def _handle_one(self, message: bytes) -> int:
        """`handle` of one message: what most chunks are. Its reply is framed and written with nothing between."""
        outbox = self._outbox
        self.hold = WORKING
        outbox.gather()
        try:
            reply = self._received(message, self._connection)
            if type(reply) is bytes:
                self._replies.append(reply)
            elif reply is not None:
                self._settle(reply, [message])
        except Exception:
            self._app_failed(Failure())
        self._end_work()
        return self.go_on() if self.hold or self._inbox.in_use else NOTHING

    def go_on(self) -> int:
        """
        Hand on what waits, unless something holds it back. What takes long has to wait for its turn before that.

        Returns the outcome.
        """
        while not self.hold & ~(ENDING | TOLD) and self._inbox:
            if self.costly and not self._has_turn:
                self._yield()
                break
            began = self._deadlines.seconds()
            self._work_on(self._for_a_turn())
            self._end_work()
            self.costly = self._deadlines.seconds() - began > self._budget
        return NOTHING if self.hold & (WORKING | GONE) else APP_RESTS

    def gather_on(self, on: bool) -> None:
        """Whether what is replied to the messages that arrive next is written with what was replied before."""
        self._outbox.gathers_on = on
        if on:
            self._outbox.gather()
        else:
            self._outbox.release()

    def _for_a_turn(self) -> Iterator[Any]:
        """The messages that wait, one by one, until they took as long as a turn's can; the others have to wait on."""
        seconds, inbox = self._deadlines.seconds, self._inbox
        ends = seconds() + self._budget
        while inbox:
            if seconds() > ends:
                self._yield()
                break
            yield inbox.take()

    def _yield(self) -> None:
        assert self._clock is not None
        self.hold |= YIELDED
        self._turns.wait(self.take_turn, self._clock)

    def take_turn(self) -> None:
        """Its turn has come: go on with the messages that wait."""
        self._has_turn = True
        outcome = self.let_go(YIELDED)
        self._has_turn = False
        self._connection.settle(outcome)

    def receive(self) -> Deferred[Any]:
        """The next message for whoever fetches it; of a conversation that does not wait for them, in a later turn."""
        if self._receives is None and (self._talk is None or not self._inbox or not self._turn_is_over):
            return self._inbox.receive()
        later: Deferred[Any] = Deferred(self._receive_no_more)
        if self._receives is None:
            self._receives = deque()
            self._wait_to_receive()
        self._receives.append(later)
        return later

    def receive_now(self) -> None:
        """Its turn has come: give each ``receive`` that had to wait for it a message, in order, while time lasts."""
        outcome = HELD
        self._turn_began = self._deadlines.seconds()
        while self._receives:
            if self._inbox and self._turn_is_over:
                self._wait_to_receive()
                break
            outcome |= self._inbox.give(self._receives.popleft())
        else:
            self._receives = None
        self._connection.settle(outcome)

    @property
    def _turn_is_over(self) -> bool:
        """Whether the conversation has had as long as a turn lasts."""
        return self._deadlines.seconds() - self._turn_began > self._budget

    def _wait_to_receive(self) -> None:
        assert self._clock is not None
        self._turns.wait(self.receive_now, self._clock, self._budget)

    def _receive_no_more(self, receive: Deferred[Any]) -> None:
        """It was cancelled, before its turn or after."""
        if self._receives is not None and receive in self._receives:
            self._receives.remove(receive)
        else:
            self._inbox.give_no_more(receive)

    def enter(self, bits: int) -> None:
        """The connection came to another stage: these are the `bits` of it, which `hold` has for the message's way."""
        self.hold = (self.hold & ~(ENDING | OVER | GONE)) | bits

    def hold_back(self, why: int) -> None:
        """Hand on no message until `let_go` of the same `why`."""
        self.hold |= why

    def let_go(self, why: int) -> int:
        """The reason `why` is gone. Returns the outcome."""
        self.hold &= ~why
        return self.go_on()

    def flush(self) -> None:
        """Frame the replies so far: something else is to be sent after them."""
        data = self._framed()
        if data:
            self._outbox.write(data)

    def _framed(self) -> bytes:
        """The replies so far, framed together. What comes before one that cannot be sent is written."""
        replies = self._replies
        if not replies:
            return b""
        try:
            data = self._framing.frame_all(replies) if len(replies) > 1 else self._framing.frame(replies[0])
        except UnsendableMessage:
            self._flush_until_unsendable()
            return b""
        replies.clear()
        return data

    def draining(self) -> None:
        """Tell the app that the connection is to end soon; what it replies is sent at once, or when it is there."""
        if self._handlers.draining is None:
            return
        try:
            reply = self._handlers.draining(self._connection)
            waiting = deferred_of(reply)
            if waiting is None:
                self._say(reply)
            else:
                waiting.addCallback(self._say).addErrback(self._app_failed)
        except Exception:
            self._app_failed(Failure())

    def _app_failed(self, failure: Failure) -> None:
        self._connection.settle(APP_FAILED, failure)

    def _say(self, reply: Any) -> None:
        if reply is not None and not self.hold & OVER:
            self.flush()
            codec = self._codec
            self._outbox.write(
                self._framing.frame(without_codec(reply) if codec is None else codec.encode(value_of(reply)))
            )

    def closed(self, reason: CloseReason) -> None:
        """Tell the app that the connection has ended. Raises nothing; what the app raises is its failure."""
        if self._receives is not None:
            self._turns.leave(self.receive_now)
            self._budget = inf  # no turn follows this one
            self.receive_now()
        if self._handlers.closed is not None:
            try:
                told = deferred_of(self._handlers.closed(self._connection, reason))
            except Exception:
                self._app_failed(Failure())
            else:
                if told is not None:
                    told.addErrback(self._app_failed)

    def end(self) -> None:
        """The connection has ended, and the app knows: let go of all, and work no more."""
        if self.hold & YIELDED:
            self._turns.leave(self.take_turn)
        self.in_hand = 0
        self.requests = self._unsorted = None
        self._replies.clear()

    def cancel_answer(self, *, at_end: bool = True) -> None:
        """
        The reply that the app has yet to give, if there is one, is not wanted any more.

        A coroutine that is running right now is not stopped by it: before the end it is asked again `at_end`.
        """
        answer, self._answer = self._answer, None
        if answer is not None:
            try:
                answer.cancel()
            except Exception:  # the app's own canceller
                self._app_failed(Failure())
            if not at_end and self.hold & AWAITING:
                self._answer = answer

    def cancel_talk(self, waited_for: object) -> None:
        """The connection has ended: cancel the conversation that nobody told, for it waits still for `waited_for`."""
        if self._talk is not None and not self.hold & TOLD and self.waits_for is waited_for is not None:
            self._talk.cancel()

    def _begin(self, first: Any) -> Any:
        """What the app gave at the start: a conversation, or a greeting, which is a reply to nothing."""
        if self._handlers.talk is not None:
            self._coroutine = first
            self._talk = Deferred.fromCoroutine(first)
            self._talk.addCallbacks(self._talked, self._talk_failed)
            return None
        if first is None or self._codec is None or isinstance(first, AWAITABLE):
            return first
        return self._codec.encode(value_of(first))

    def _sort(self, messages: list[bytes]) -> int:
        """`arrive` where there were requests. The order in which they came is kept."""
        if self._unsorted is not None:  # re-entered: the loop below goes on with them
            self._unsorted += messages
            return NOTHING
        outcome = NOTHING
        self._unsorted = messages
        others: list[Any] = []
        failure: Failure | None = None
        taken = 0
        try:
            for message in messages:
                taken += 1
                other = self._take_reply(message, others)
                if other is not None:
                    others.append(other)
        except Exception:  # an undecodable message, or the user's key function; nothing after it is taken
            failure = Failure()
        else:
            self._unsorted = None
        if others:
            outcome = self.handle(others)
        self._unsorted = None
        if failure is None:
            return outcome | self.go_on()
        self._connection.settle(UNANSWERED, (failure, len(messages) - taken))
        failure = None  # it holds this frame
        return outcome

    def _take_reply(self, message: bytes, before: list[Any]) -> Any:
        """Answer the request to which `message` is the reply, once the app had those `before`; or give it back."""
        requests, codec = self.requests, self._codec
        if requests is None or not requests.expected:  # the connection ended in the callback of another's reply
            return message
        value = message if codec is None else codec.read(message)
        reply = requests.take(value)
        if reply is None:
            return message if codec is None else Decoded(message, value)
        if before:
            others = before.copy()
            before.clear()
            self._connection.settle(self.handle(others))
        answer(reply, value)
        return None

    def _keep(self, messages: list[Any]) -> int:
        """Put `messages` into the inbox. What those who wait there for them send is gathered into one write, too."""
        working = self.hold & WORKING
        self.hold |= WORKING
        self._turn_began = self._deadlines.seconds()
        self._outbox.gather()
        outcome = self._inbox.put(as_they_came(messages))
        if working:
            return outcome
        self._end_work()
        return outcome | self.go_on()

    def _work_on(self, messages: Iterable[Any]) -> Iterator[Any] | None:
        """Hand `messages` to the app, in the form it has; returns those that are left."""
        if self._received_all is None:
            return self._work(messages, self._received)
        self.hold |= WORKING
        self._outbox.gather()
        try:
            self._work_on_all(list(messages))
        except Exception:
            self._app_failed(Failure())
        return None

    def _work_on_all(self, messages: list[Any]) -> None:
        """Hand them on at once, up to one that is no value: that waits in the inbox, and is the first the next time."""
        values, codec = messages, self._codec
        if codec is not None:
            values = []
            for place, message in enumerate(messages):
                try:
                    values.append(message.value if type(message) is Decoded else codec.read(message))
                except UndecodableMessage:
                    if not place:
                        raise
                    self._connection.settle(self._inbox.put_back(as_they_came(messages[place:])))
                    messages = messages[:place]
                    break
        replies = self._received_all(values, self._connection)
        if isinstance(replies, AWAITABLE):
            self._settle(replies, messages, self._all_answered)
        else:
            self._replies += all_of(replies)

    def _work(self, messages: Iterable[Any], received: Callable[[Any, Any], Any]) -> Iterator[Any] | None:
        """Call `received` with message after message until something holds it back; returns those that are left."""
        connection, replies, mark = self._connection, self._replies, self._mark
        unframed = 0
        source = iter(messages)
        left: Iterator[Any] | None = source
        self.hold |= WORKING
        self._outbox.gather()
        try:
            for message in source:
                reply = received(message, connection)
                if type(reply) is bytes:
                    replies.append(reply)
                    unframed += len(reply)
                elif reply is not None:
                    unframed += self._settle(reply, [message])
                if unframed > mark:
                    self.flush()
                    unframed = 0
                if self.hold != WORKING and self.hold & ~(ENDING | TOLD) != WORKING:
                    break
            else:
                left = None
        except Exception:
            self._app_failed(Failure())
        return left

    def _end_work(self) -> None:
        """Write what the app replied and sent. What it left is in the inbox by now: this may bring more."""
        data = self._framed()
        self.hold &= ~WORKING
        self._outbox.release(data)

    def _settle(self, reply: Any, messages: list[Any], answered: Callable[[Any], None] | None = None) -> int:
        """
        A reply that is not bytes alone: one to wait for, a `Reply`, or one that `flush` finds to be none.

        Returns how many bytes it has given.

        While it is waited for, the `messages` that it answers are in the app's hands.
        """
        before = len(self._replies)
        deferred = deferred_of(reply)
        if deferred is None:
            message = without_codec(reply)
            self._replies.append(message)
            return len(message) if isinstance(message, bytes) else 0
        self.hold |= AWAITING
        deferred.addCallbacks(answered or self._answered, self._answer_failed)
        if self.hold & AWAITING:
            self._answer = deferred
            self.in_hand = self._weight_of(messages)
            self._connection.settle(APP_WAITS)
            if self.hold & GONE:  # it ended while the app was called, and nobody else cancels what came of that
                self.cancel_answer()
        return sum(len(each) for each in self._replies[before:] if isinstance(each, bytes))

    def _weight_of(self, messages: list[Any]) -> int:
        """How many bytes of memory the values of `messages` take, at the most; a greeting answers none."""
        codec = self._codec
        if codec is None:
            return sum([len(each) + MESSAGE_COST for each in messages if each is not None])
        return sum([codec.weight(each) for each in as_they_came(messages) if each is not None])

    def _answered(self, reply: Any) -> None:
        self._all_answered([] if reply is None else [reply])

    def _all_answered(self, replies: Any) -> None:
        self._wait_no_more()
        if self.hold & GONE:
            return
        working = self.hold & WORKING
        if working or not self.hold & OVER:
            try:
                codec, taken = self._codec, self._replies
                for each in all_of(replies):  # those before one that the codec refuses are sent
                    if type(each) is Reply:
                        taken.append(without_codec(each) if codec is None else codec.encode(each.value))
                    else:
                        taken.append(each if codec is None else codec.encode(each))
            except Exception:
                self._app_failed(Failure())
            if not working:
                self.flush()
        if not working:
            self._connection.settle(self.go_on())

    def _answer_failed(self, failure: Failure) -> None:
        self._wait_no_more()
        self._app_failed(failure)
        if not self.hold & (WORKING | GONE):
            self._connection.settle(self.go_on())

    def _wait_no_more(self) -> None:
        self.hold &= ~AWAITING
        self.in_hand = 0
        if self._answer is not None:
            self._answer = None
            self._connection.settle(APP_ANSWERED)

    def _talked(self, _: object) -> None:
        self._talk = self._coroutine = None
        self._connection.settle(TALK_ENDED)

    def _talk_failed(self, failure: Failure) -> None:
        self._talk = self._coroutine = None
        self._app_failed(failure)

    def _flush_until_unsendable(self) -> None:
        """
        Send what the app gave before the reply that cannot be sent; that one is the app's failure.

        A batch's `Reply` of bytes can be: it is found here, and not looked for among replies that are bytes.
        """
        replies = self._replies.copy()
        self._replies.clear()
        try:
            for reply in replies:
                self._outbox.write(self._framing.frame(without_codec(reply)))
        except UnsendableMessage:
            self._app_failed(Failure())


def as_they_came(messages: list[Any]) -> list[Any]:
    """`messages` as the bytes that came, without the values of those that were decoded."""
    if any(type(each) is Decoded for each in messages):
        return [each.message if type(each) is Decoded else each for each in messages]
    return messages


def all_of(replies: Any) -> list[Any]:
    """The replies that a batch app gave, `None` for none. Raises `UnsendableMessage` for what is no list."""
    if replies is None:
        return []
    if not isinstance(replies, list):
        raise UnsendableMessage(f"{replies!r:.80} in reply to a batch: takes a list of replies, or None")
    return replies
