"""The inbox, which holds messages until they are taken: order, marks, waiters, and the end."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.codecs import Json
from tcpapp.connection.inbox import MESSAGE_COST, Inbox
from tcpapp.connection.lifecycle import Stage
from tcpapp.connection.outcomes import REFUSED
from tcpapp.connection.waiters import fail_all
from tcpapp.errors import NotConnected, UndecodableMessage
from tcpapp.limits import Limits
from tests.peers import outcome

CLOSED = NotConnected("the connection is not open", CloseReason(EndedBy.PEER, "end-of-stream", "the peer went"))


class Source:
    """A read control that notes its calls, and can act at once when reading resumes."""

    def __init__(self, on_resume: Callable[[], None] = lambda: None) -> None:
        self.calls: list[str] = []
        self.on_resume = on_resume

    def pause(self, why: int) -> None:
        self.calls.append("pause")

    def resume(self, why: int) -> None:
        self.calls.append("resume")
        self.on_resume()


def source_of(*arguments: Any) -> Any:
    """Return a `Source`, in the place of a read control."""
    return Source(*arguments)


def life() -> Any:
    """Return the parts of a connection's lifecycle that an inbox needs."""
    return SimpleNamespace(stage=Stage.OPEN, error=CLOSED)


def end(inbox: Any) -> None:
    """End the connection, and with it the inbox."""
    inbox._lifecycle.stage = Stage.CLOSED
    fail_all(inbox.take_waiters(), CLOSED)


def inbox_of(*messages: bytes, high: int = 10_000, low: int = 5_000, codec: Any = None) -> Inbox:
    """Return an inbox that holds `messages`."""
    inbox = Inbox(Limits(inbox_high=high, inbox_low=low), source_of(), life(), codec)
    put(inbox, *messages)
    return inbox


def put(inbox: Inbox, *messages: bytes) -> None:
    """Put `messages` in. If the inbox refuses one, end the inbox, as connections do."""
    if inbox.put(messages) & REFUSED:
        assert inbox.refusal is not None
        fail_all(inbox.take_waiters(), inbox.refusal)


def said(outcomes: list[Any]) -> list[Any]:
    """
    Return the results, with errors as texts.

    Each call gets an error object of its own, because each can be raised.
    """
    return [str(each) if isinstance(each, NotConnected) else each for each in outcomes]


ENDED = str(CLOSED)


# Order ---------------------------------------------------------------------------------------------------------------


def test_messages_are_received_in_the_order_they_came() -> None:
    """An inbox gives messages in the order in which they came, at once while it has any."""
    inbox = inbox_of(b"a", b"b")
    put(inbox, b"c")
    assert [outcome(inbox.receive()) for _ in range(4)] == [[b"a"], [b"b"], [b"c"], []]


def test_waiters_are_given_messages_in_the_order_they_asked() -> None:
    """Waiting receives get messages in the order of their calls, and further messages wait."""
    inbox = inbox_of()
    seen = [outcome(inbox.receive()) for _ in range(2)]
    put(inbox, b"a", b"b", b"c")
    assert seen == [[b"a"], [b"b"]]
    assert list(inbox.drain()) == [b"c"]


def test_messages_put_back_come_first() -> None:
    """Messages that are put back come before newer messages, in their own order."""
    inbox = inbox_of(b"c", b"d")
    inbox.put_back([b"a", b"b"])
    assert list(inbox.drain()) == [b"a", b"b", b"c", b"d"]


def test_messages_put_back_go_to_the_waiters() -> None:
    """A waiting receive gets a message that is put back, as it gets a new message."""
    inbox = inbox_of()
    seen = outcome(inbox.receive())
    inbox.put_back([b"a", b"b"])
    assert seen == [b"a"]
    assert list(inbox.drain()) == [b"b"]


def test_a_drain_includes_messages_that_come_while_it_runs() -> None:
    """A drain includes the messages that come between two of its steps."""
    inbox = inbox_of(b"a", b"b")
    drain = inbox.drain()
    taken = [next(drain)]
    put(inbox, b"c")
    assert taken + list(drain) == [b"a", b"b", b"c"]
    assert list(inbox.drain()) == []


def test_a_drain_and_a_receive_share_the_messages() -> None:
    """A message that is received in the middle of a drain is not part of the drain."""
    inbox = inbox_of(b"a", b"b", b"c")
    drain = inbox.drain()
    assert (next(drain), outcome(inbox.receive()), next(drain)) == (b"a", [b"b"], b"c")


# Size and marks ------------------------------------------------------------------------------------------------------


def test_the_size_counts_the_bytes_and_a_cost_for_each_message() -> None:
    """The size counts bytes and a cost for each message, so empty messages count. An empty inbox has the size 0."""
    inbox = inbox_of(b"", b"abc")
    assert inbox.size == 3 + 2 * MESSAGE_COST
    inbox.put_back([b"xy"])
    assert inbox.size == 5 + 3 * MESSAGE_COST
    assert len(list(inbox.drain())) == 3
    assert inbox.size == 0


def test_the_size_counts_the_encoded_bytes() -> None:
    """A message waits as bytes and is decoded when it is taken, so the size of its value does not count."""
    inbox = inbox_of(b'{"key": "value"}', b"[]", codec=Json())
    assert inbox.size == 18 + 2 * MESSAGE_COST
    assert [outcome(inbox.receive()) for _ in range(2)] == [[{"key": "value"}], [[]]]
    assert inbox.size == 0


@pytest.mark.parametrize("codec", [None, Json()])
def test_a_watched_inbox_counts_the_received_message_until_the_next_receive(codec: Any) -> None:
    """A watched inbox counts a received message until the next receive, because a conversation holds it."""
    inbox = inbox_of(b"[1]", codec=codec)
    inbox.watched = True
    inbox.receive()
    assert inbox.taken == (3 + MESSAGE_COST if codec is None else codec.weight(b"[1]")) > 0
    inbox.receive()
    assert inbox.taken == 0


@pytest.mark.parametrize(
    ("used", "waits", "held"),
    [
        pytest.param([], 0, 0, id="new"),
        pytest.param([b"a", b"b"], 0, 2, id="holds"),
        pytest.param([], 1, 0, id="awaited"),
        pytest.param([b"a"], 1, 0, id="neither-again"),
        pytest.param([b"a", b"b"], 1, 1, id="more-than-awaited"),
    ],
)
def test_an_inbox_that_holds_or_awaits_messages_is_in_use(used: list[bytes], waits: int, held: int) -> None:
    """An inbox is in use while it holds messages, or while a receive waits."""
    inbox = inbox_of()
    for _ in range(waits):
        inbox.receive()
    put(inbox, *used)
    awaited = waits > len(used)
    assert (held, awaited, awaited or held > 0) == (len(inbox), inbox.awaited, inbox.in_use)


@pytest.mark.parametrize(
    ("sizes", "calls"),
    [
        pytest.param([36], [], id="at-the-mark"),
        pytest.param([37], ["pause"], id="one-byte-over"),
        pytest.param([0, 0], ["pause"], id="empty-messages"),
        pytest.param([37, 1000], ["pause"], id="once"),
    ],
)
def test_reading_stops_over_the_high_mark(sizes: list[int], calls: list[str]) -> None:
    """The first byte over the high-water mark pauses reading. More bytes do not pause it again."""
    source = source_of()
    inbox = Inbox(Limits(inbox_high=100, inbox_low=50), source, life())
    for size in sizes:
        inbox.put([bytes(size)])
    assert calls == source.calls


def test_messages_put_back_count_for_the_high_water_mark() -> None:
    """Messages that are put back pause reading, as new messages do."""
    source = source_of()
    inbox = Inbox(Limits(inbox_high=100, inbox_low=50), source, life())
    inbox.put_back([b"x" * 37])
    assert source.calls == ["pause"]


@pytest.mark.parametrize(
    ("low", "calls_by_taken"),
    [
        pytest.param(2 * (MESSAGE_COST + 1), [1, 2, 2, 2], id="at-the-low-mark"),
        pytest.param(2 * (MESSAGE_COST + 1) - 1, [1, 1, 2, 2], id="one-byte-less"),
        pytest.param(0, [1, 1, 1, 2], id="empty"),
    ],
)
def test_reading_goes_on_at_the_low_mark(low: int, calls_by_taken: list[int]) -> None:
    """Reading is resumed once, when no more than the low-water mark is left."""
    source = source_of()
    inbox = Inbox(Limits(inbox_high=3 * (MESSAGE_COST + 1) + 1, inbox_low=low), source, life())
    put(inbox, b"a", b"b", b"c", b"d")
    counts = []
    for _ in range(4):
        inbox.take()
        counts.append(len(source.calls))
    assert calls_by_taken == counts
    assert source.calls == ["pause", "resume"]


def test_reading_stops_and_goes_on_again_and_again() -> None:
    """Each rise over the high-water mark is one pause, and each fall to the low-water mark is one resume."""
    source = source_of()
    inbox = Inbox(Limits(inbox_high=200, inbox_low=100), source, life())
    for _ in range(3):
        put(inbox, b"x" * 200)
        inbox.take()
    assert source.calls == ["pause", "resume"] * 3


def test_a_message_for_a_waiter_does_not_pause_reading() -> None:
    """A message that a waiting receive gets at once does not pause reading, whatever its size."""
    source = source_of()
    inbox = Inbox(Limits(inbox_high=100, inbox_low=50), source, life())
    inbox.receive()
    put(inbox, b"x" * 1000)
    assert source.calls == []


def test_a_source_that_brings_more_at_once_loses_no_message() -> None:
    """Messages that come while reading is being resumed follow the waiting messages."""
    inbox = Inbox(Limits(inbox_high=100, inbox_low=100), source := source_of(), life())
    source.on_resume = lambda: put(inbox, b"later") if len(source.calls) == 2 else None
    put(inbox, b"one", b"two")
    assert list(inbox.drain()) == [b"one", b"two", b"later"]
    assert source.calls == ["pause", "resume", "pause", "resume"]


# Waiters: cancelled, and calling again in their callbacks ------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_a_cancelled_receive_takes_no_message(cancelled: int) -> None:
    """The other receives get the messages in order, as if the cancelled one had not been called."""
    inbox = inbox_of()
    waiters = [inbox.receive() for _ in range(3)]
    seen = [outcome(each) for each in waiters]
    waiters[cancelled].cancel()
    put(inbox, b"a", b"b", b"c")
    assert [CancelledError] == [type(each) for each in seen.pop(cancelled)]
    assert seen == [[b"a"], [b"b"]]
    assert list(inbox.drain()) == [b"c"]


def test_a_receive_that_was_cancelled_is_not_awaited() -> None:
    """After its only waiting receive is cancelled, the inbox is not in use."""
    inbox = inbox_of()
    waiter = inbox.receive()
    seen = outcome(waiter)
    waiter.cancel()
    waiter.cancel()
    assert (inbox.awaited, inbox.in_use, len(seen)) == (False, False, 1)


def test_a_receive_that_is_cancelled_in_a_callback_takes_no_message() -> None:
    """A receive that is cancelled in the callback of the one before is skipped, and the next gets the message."""
    inbox = inbox_of()
    first, second, third = (inbox.receive() for _ in range(3))
    seen = [outcome(first, lambda _: second.cancel()), outcome(second), outcome(third)]
    put(inbox, b"a", b"b")
    assert ([b"a"], CancelledError, [b"b"]) == (seen[0], type(seen[1][0]), seen[2])


def test_a_waiter_can_receive_again_in_its_callback() -> None:
    """A callback that receives again gets the next message of the chunk, before `put` returns."""
    inbox = inbox_of()
    seen: list[bytes] = []

    def go_on(message: bytes) -> None:
        seen.append(message)
        inbox.receive().addCallback(go_on)

    inbox.receive().addCallback(go_on)
    put(inbox, b"a", b"b", b"c")
    assert (seen, inbox.awaited) == ([b"a", b"b", b"c"], True)
    put(inbox, b"d")
    assert seen == [b"a", b"b", b"c", b"d"]


def test_a_waiter_that_receives_again_waits_behind_the_others() -> None:
    """A callback that receives again waits behind the earlier receives, although a message is there."""
    inbox = inbox_of()
    again: list[list[Any]] = []
    first = outcome(inbox.receive(), lambda _: again.append(outcome(inbox.receive())))
    second = outcome(inbox.receive())
    put(inbox, b"a", b"b", b"c")
    assert (first, second, again) == ([b"a"], [b"b"], [[b"c"]])


def test_a_waiter_can_put_messages_in_its_callback() -> None:
    """Messages that a callback puts in go to the next waiting receives, behind earlier messages."""
    inbox = inbox_of()
    seen = [outcome(inbox.receive(), lambda _: put(inbox, b"c")), outcome(inbox.receive()), outcome(inbox.receive())]
    put(inbox, b"a", b"b")
    assert seen == [[b"a"], [b"b"], [b"c"]]
    assert (len(inbox), inbox.size) == (0, 0)


def test_a_waiter_can_end_the_inbox_in_its_callback() -> None:
    """If a callback ends the inbox, the other receives fail once, and the messages that are left can be received."""
    inbox = inbox_of()
    seen = [outcome(inbox.receive(), lambda _: end(inbox)), outcome(inbox.receive())]
    put(inbox, b"a", b"b")
    assert [said(each) for each in seen] == [[b"a"], [ENDED]]
    assert [said(outcome(inbox.receive())) for _ in range(2)] == [[b"b"], [ENDED]]


def test_a_waiter_that_raises_harms_no_other() -> None:
    """An exception in the callback of a receive stays in its own Deferred."""
    inbox = inbox_of()
    failing, other = inbox.receive(), inbox.receive()
    failing.addCallback(lambda _: 1 / 0)
    seen = outcome(other)
    put(inbox, b"a", b"b")
    assert ([b"b"], [ZeroDivisionError]) == (seen, [type(each) for each in outcome(failing)])


# Messages that cannot be decoded -------------------------------------------------------------------------------------


def test_an_undecodable_message_fails_the_receive_it_comes_to() -> None:
    """If the codec delivers an undecodable message, it fails one receive, and the next message is received."""
    inbox = inbox_of(b"{]", b"1", codec=Json(invalid="deliver"))
    held = [outcome(inbox.receive()) for _ in range(2)]
    waiting = [outcome(inbox.receive()) for _ in range(2)]
    put(inbox, b"{]", b"1")
    for [error], number in (held, waiting):
        assert (type(error), error.message, number) == (UndecodableMessage, b"{]", [1])
    assert (inbox.size, inbox.refusal) == (0, None)


@pytest.mark.parametrize("waits", [False, True])
def test_an_undecodable_message_that_is_not_delivered_ends_the_input(waits: bool) -> None:
    """An undecodable message fails its receive and all receives behind it, and no later message is taken."""
    inbox = inbox_of(codec=Json())
    receives: list[list[Any]] = []
    if waits:
        receives = [outcome(inbox.receive()) for _ in range(3)]
    put(inbox, b"1", b"{]", b"2")
    if not waits:
        receives = [outcome(inbox.receive()) for _ in range(3)]
    [one], [second], [third] = receives
    assert (one, type(second), type(third)) == (1, NotConnected, NotConnected)
    assert {second.reason.rule, third.reason.rule} == {"undecodable-message"}
    assert (inbox.size, len(inbox), inbox.in_use, inbox.lost) == (0, 0, False, 1)


def test_an_undecodable_message_after_the_end_is_reported_all_the_same() -> None:
    """After the peer's clean end, a receive that comes to an undecodable message fails for that reason."""
    inbox = inbox_of(b"{]", codec=Json())
    end(inbox)
    assert [outcome(inbox.receive())[0].reason.rule for _ in range(2)] == ["undecodable-message"] * 2


def test_a_receive_in_its_turn_fails_at_an_undecodable_message() -> None:
    """A receive that waited for its turn and gets an undecodable message fails when the inbox ends for it."""
    inbox = inbox_of(b"{]", b"1", codec=Json())
    later: Deferred[Any] = Deferred(inbox.forget_waiter)
    told = outcome(later)
    assert (inbox.give(later), inbox.lost, told) == (REFUSED, 1, [])
    assert inbox.refusal is not None
    fail_all(inbox.take_waiters(), inbox.refusal)
    assert [each.reason.rule for each in told] == ["undecodable-message"]


def test_messages_behind_a_refused_one_are_lost() -> None:
    """Messages behind a refused one are counted as lost, and cannot be received."""
    inbox = inbox_of(b"{]", codec=Json())
    outcome(inbox.receive())
    assert inbox.lost == 0
    put(inbox, b"1", b"2")
    assert (inbox.lost, len(inbox), inbox.size) == (2, 0, 0)


# Its state -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=9)))
def test_another_inbox_goes_on_with_its_messages(messages: list[bytes]) -> None:
    """Another inbox gets the messages in their order and with their size, and the first inbox keeps them."""
    inbox, other = inbox_of(*messages), inbox_of()
    put(other, *inbox.dump())
    assert (other.size, len(other), other.in_use) == (inbox.size, len(inbox), inbox.in_use)
    assert list(other.drain()) == list(inbox.drain()) == messages


def test_an_inbox_that_is_loaded_over_its_mark_pauses_reading() -> None:
    """If the loaded messages are over the high-water mark, reading pauses until messages are taken."""
    inbox, other = inbox_of(b"x" * 60, high=100, low=50), inbox_of(high=100, low=50)
    put(other, *inbox.dump())
    assert other._read_control.calls == ["pause"]  # type: ignore[attr-defined]
    other.take()
    assert other._read_control.calls == ["pause", "resume"]  # type: ignore[attr-defined]


# The end -------------------------------------------------------------------------------------------------------------


def test_the_end_fails_every_waiter_once() -> None:
    """At the end all waiting receives fail, in order. A second end changes nothing."""
    inbox = inbox_of()
    order: list[int] = []
    seen = [outcome(inbox.receive(), lambda _, number=number: order.append(number)) for number in range(3)]
    end(inbox)
    end(inbox)
    assert ([said(each) for each in seen], order, inbox.awaited) == ([[ENDED]] * 3, [0, 1, 2], False)


def test_messages_that_came_can_be_received_after_the_end() -> None:
    """After the end the held messages can be received. Then every receive fails with the error of the end."""
    inbox = inbox_of(b"a", b"b")
    end(inbox)
    end(inbox)
    assert [said(outcome(inbox.receive())) for _ in range(4)] == [[b"a"], [b"b"], [ENDED], [ENDED]]


def test_messages_put_back_after_the_end_can_be_received() -> None:
    """If the first message of a chunk ended the input, the rest of the chunk is put back, and can be received."""
    inbox = inbox_of()
    end(inbox)
    inbox.put_back([b"a"])
    assert [said(outcome(inbox.receive())) for _ in range(2)] == [[b"a"], [ENDED]]


def test_a_receive_after_the_end_fails_at_once() -> None:
    """A receive in the errback of a receive that failed at the end fails at once."""
    inbox = inbox_of()
    again: list[list[Any]] = []
    inbox.receive().addErrback(lambda _: again.append(outcome(inbox.receive())))
    end(inbox)
    assert [said(each) for each in again] == [[ENDED]]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_a_receive_that_fails_at_the_end_can_cancel_the_others(cancelled: int) -> None:
    """
    If an errback at the end cancels another receive, that one gets only the cancellation, and the rest get the end.
    """
    inbox = inbox_of()
    waiters = [inbox.receive() for _ in range(3)]
    seen = [outcome(each, lambda _: waiters[cancelled].cancel()) for each in waiters]
    end(inbox)
    expected = [NotConnected, NotConnected, NotConnected]
    if cancelled:
        expected[cancelled] = CancelledError
    assert [[each] for each in expected] == [[type(each) for each in told] for told in seen]


# Any order of events -------------------------------------------------------------------------------------------------

SIZES = st.lists(st.integers(0, 90), max_size=4)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), SIZES),
        st.tuples(st.just("put_back"), SIZES),
        st.tuples(st.sampled_from(["receive", "take", "drain", "end"]), st.none()),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
    ),
    max_size=40,
)


class Model:
    """An inbox as two plain lists, beside the real one. `step` does the same to both, and `compare` compares them."""

    def __init__(self, high: int, low: int) -> None:
        self.high, self.low = high, low
        self.source = source_of()
        self.inbox = Inbox(Limits(inbox_high=high, inbox_low=low), self.source, life())
        self.made = 0
        self.held: list[tuple[bytes, int]] = []
        self.waiting: list[tuple[Deferred[Any], list[Any], list[Any]]] = []
        self.told: list[tuple[list[Any], list[Any]]] = []
        self.calls: list[str] = []
        self.ended = False

    @property
    def size(self) -> int:
        return sum(size + MESSAGE_COST for _, size in self.held)

    def step(self, event: str, argument: Any) -> None:
        if event in ("put", "put_back"):
            self.add(event, argument)
        elif event == "receive":
            self.receive()
        elif event == "take" and self.held:
            assert self.took() == self.inbox.take()
        elif event == "drain":
            assert [self.took() for _ in list(self.held)] == list(self.inbox.drain())
        elif event == "cancel" and self.waiting:
            deferred, _, expected = self.waiting.pop(argument % len(self.waiting))
            expected.append(CancelledError)
            deferred.cancel()
        elif event == "end":
            self.ended = True
            for _, _, expected in self.waiting:
                expected.append(NotConnected)
            self.waiting.clear()
            end(self.inbox)

    def add(self, event: str, sizes: list[int]) -> None:
        added = [(b"%03d" % (self.made + place) + bytes(size), size + 3) for place, size in enumerate(sizes)]
        self.made += len(added)
        self.held = self.held + added if event == "put" else added + self.held
        while self.held and self.waiting:
            _, _, expected = self.waiting.pop(0)
            expected.append(self.took())
        if self.size > self.high and self.calls[-1:] != ["pause"]:
            self.calls.append("pause")
        getattr(self.inbox, event)([message for message, _ in added])

    def took(self) -> bytes:
        message, _ = self.held.pop(0)
        if self.size <= self.low and self.calls[-1:] == ["pause"]:
            self.calls.append("resume")
        return message

    def receive(self) -> None:
        deferred = self.inbox.receive()
        seen: list[Any] = []
        deferred.addCallbacks(seen.append, lambda failure: seen.append(failure.type))
        expected: list[Any] = []
        self.told.append((expected, seen))
        if self.held:
            expected.append(self.took())
        elif self.ended:
            expected.append(NotConnected)
        else:
            self.waiting.append((deferred, seen, expected))

    def compare(self) -> None:
        assert self.size == self.inbox.size
        assert len(self.held) == len(self.inbox)
        assert bool(self.waiting) == self.inbox.awaited
        assert bool(self.waiting or self.held) == self.inbox.in_use
        assert self.calls == self.source.calls
        for expected, seen in self.told:
            assert expected == seen


@given(events=EVENTS, high=st.integers(1, 500), low=st.integers(0, 500))
def test_an_inbox_never_loses_doubles_or_reorders_messages(events: list[tuple[str, Any]], high: int, low: int) -> None:
    """In any order of events, an inbox acts as a list of messages and a list of waiting calls, with two marks."""
    model = Model(high, min(low, high))
    for event in events:
        model.step(*event)
        model.compare()
    model.step("end", None)
    model.step("drain", None)
    model.compare()
    assert (model.inbox.size, model.waiting) == (0, [])


def test_dropped_messages_are_gone() -> None:
    """Dropped messages cannot be received. A receive after them waits for the next message."""
    inbox = inbox_of(b"a", b"b")
    assert inbox.drop() == 2
    assert (inbox.size, len(inbox), inbox.in_use, inbox.drop()) == (0, 0, False, 0)
    seen = outcome(inbox.receive())
    put(inbox, b"c")
    assert seen == [b"c"]
