"""Requests and their replies: which reply belongs to which request, late replies, and the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.pending_requests import LATE, ByKey, InOrder, Requests, bound, check_key, fire_reply, requests_by
from tcpapp.connection.waiters import fail_all
from tcpapp.errors import InvalidOption, NotConnected, TimedOut, UndecodableMessage, UnsendableMessage
from tests.peers import outcome

CLOSED = NotConnected("the connection is not open", CloseReason(EndedBy.PEER, "end-of-stream", "the peer went"))
UNDECODABLE = UndecodableMessage("not JSON", message=b"{]")
KINDS = ["in-order", "by-key"]


def first(message: Any) -> Any:
    """Return the key of a message in these tests: its first letter, or `None` for a dot."""
    return None if message.startswith(".") else message[0]


class Rig:
    """Requests of one kind, and how many late replies they reported."""

    def __init__(self, kind: str) -> None:
        self.late = 0
        self.requests: Requests = requests_by(first if kind == "by-key" else None)

    def end(self) -> None:
        """End the connection: all requests that wait fail."""
        fail_all(self.requests.take_waiters(), CLOSED)

    def come(self, message: Any) -> bool:
        """Let a message come, and return whether it was a reply."""
        reply = self.requests.take(message)
        self.late += reply is LATE
        if reply is not None:
            fire_reply(reply, message)
        return reply is not None


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(request.param)


# Both kinds ----------------------------------------------------------------------------------------------------------


def test_each_reply_goes_to_its_request(rig: Rig) -> None:
    """Each request gets its own reply once, and then waits no longer."""
    seen = [outcome(rig.requests.add(message)) for message in ("a?", "b?")]
    assert len(rig.requests) == 2
    assert [rig.come(message) for message in ("a!", "b!")] == [True, True]
    assert seen == [["a!"], ["b!"]]
    assert (len(rig.requests), rig.late) == (0, 0)


def test_a_reply_that_cannot_be_decoded_fails_its_request_in_order() -> None:
    """An undecodable reply fails its request with the error, and the next request is answered."""
    rig = Rig("in-order")
    seen = [outcome(rig.requests.add(message)) for message in ("a?", "b?")]
    assert [rig.come(message) for message in (UNDECODABLE, "b!")] == [True, True]
    assert seen == [[UNDECODABLE], ["b!"]]


def test_an_undecodable_message_has_no_key() -> None:
    """With keys, an undecodable message is no reply, and the key function is not called with it."""
    rig = Rig("by-key")
    seen = outcome(rig.requests.add("a?"))
    assert (rig.come(UNDECODABLE), seen, rig.late) == (False, [], 0)
    rig.come("a!")
    assert seen == ["a!"]


def test_a_late_reply_is_dropped_and_reported(rig: Rig) -> None:
    """The reply to a cancelled request is dropped and counted as late, and the next request gets its own reply."""
    cancelled = rig.requests.add("a?")
    seen = [outcome(cancelled), outcome(rig.requests.add("b?"))]
    cancelled.cancel()
    assert [rig.come(message) for message in ("a!", "b!")] == [True, True]
    assert (CancelledError, ["b!"], 1) == (type(seen[0][0]), seen[1], rig.late)
    assert len(rig.requests) == 0


@pytest.mark.parametrize("message", ["a!", UNDECODABLE], ids=["sound", "undecodable"])
def test_a_late_reply_leaves_no_error_behind(message: Any) -> None:
    """A late reply leaves no logged error, even if it is undecodable."""
    rig = Rig("in-order")
    cancelled = rig.requests.add("a?")
    outcome(cancelled)
    cancelled.cancel()
    assert (rig.come(message), rig.late) == (True, 1)


@pytest.mark.parametrize(("kind", "left"), [("in-order", 2), ("by-key", 1)])
def test_a_cancelled_request_keeps_its_place_without_keys(kind: str, left: int) -> None:
    """Without keys, a cancelled request keeps its place until its reply comes. With keys, it is forgotten."""
    rig = Rig(kind)
    cancelled = rig.requests.add("a?")
    outcome(cancelled)
    rig.requests.add("b?")
    cancelled.cancel()
    cancelled.cancel()
    assert left == len(rig.requests)


def test_a_request_can_be_cancelled_between_its_reply_and_its_answer(rig: Rig) -> None:
    """If an app cancels a request while it handles the messages before the reply, only the cancellation fires."""
    reply = rig.requests.add("a?")
    seen = outcome(reply)
    taken = rig.requests.take("a!")
    assert reply is taken
    other = outcome(rig.requests.add("a again?"))
    reply.cancel()
    fire_reply(reply, "a!")
    assert [CancelledError] == [type(each) for each in seen]
    rig.come("a again!")
    assert (other, rig.late) == (["a again!"], 0)


def test_the_callback_of_a_request_can_use_its_key_again(rig: Rig) -> None:
    """In the callback of a request its key is free again, so the next request can use it."""
    seen: list[list[Any]] = []
    rig.requests.add("a1?").addCallback(lambda _: seen.append(outcome(rig.requests.add("a2?"))))
    rig.come("a1!")
    rig.come("a2!")
    assert seen == [["a2!"]]


def test_the_end_fails_every_request_once(rig: Rig) -> None:
    """At the end all waiting requests fail, in order, and a cancelled one does not fire again."""
    replies = [rig.requests.add(message) for message in ("a?", "b?", "c?")]
    order: list[int] = []
    seen = [outcome(each, lambda _, number=number: order.append(number)) for number, each in enumerate(replies)]
    replies[1].cancel()
    rig.end()
    rig.end()
    assert [NotConnected, CancelledError, NotConnected] == [type(each) for [each] in seen]
    assert (order, len(rig.requests)) == ([1, 0, 2], 0)


@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_a_request_that_fails_can_cancel_another(rig: Rig, cancelled: int) -> None:
    """If the errback of a request cancels another request, that one fires once, with the cancellation."""
    replies = [rig.requests.add(message) for message in ("a?", "b?", "c?")]
    seen = [outcome(each, lambda _: replies[cancelled].cancel()) for each in replies]
    rig.end()
    expected: list[type] = [NotConnected] * 3
    if cancelled:
        expected[cancelled] = CancelledError
    assert [[each] for each in expected] == [[type(each) for each in told] for told in seen]


# In order ------------------------------------------------------------------------------------------------------------


def test_in_order_every_message_is_a_reply_while_one_waits() -> None:
    """If a request waits, the next message is its reply. Otherwise the message goes to the app."""
    rig = Rig("in-order")
    assert not rig.come(".")
    seen = outcome(rig.requests.add("a?"))
    assert [rig.come(message) for message in (".", ".")] == [True, False]
    assert (seen, rig.late) == (["."], 0)


def test_in_order_equal_messages_are_different_requests() -> None:
    """Without keys, cancelling one of several equal requests leaves the others in their places."""
    rig = Rig("in-order")
    replies = [rig.requests.add("a?") for _ in range(3)]
    seen = [outcome(each) for each in replies]
    replies[1].cancel()
    for message in ("1", "2", "3"):
        rig.come(message)
    assert (["1"], CancelledError, ["3"]) == (seen[0], type(seen[1][0]), seen[2])


# By key --------------------------------------------------------------------------------------------------------------


def test_by_key_replies_can_come_in_any_order() -> None:
    """Each reply finds its request by its key, in whatever order the replies come."""
    rig = Rig("by-key")
    seen = {letter: outcome(rig.requests.add(f"{letter}?")) for letter in "abc"}
    for letter in "cab":
        rig.come(f"{letter}!")
    assert {letter: [f"{letter}!"] for letter in "abc"} == seen


def test_a_message_without_a_key_is_no_reply() -> None:
    """A message without a key is not a reply, and is not counted as late."""
    rig = Rig("by-key")
    rig.requests.add("a?")
    assert (rig.come("."), rig.late, len(rig.requests)) == (False, 0, 1)


def test_a_reply_without_a_request_is_late() -> None:
    """A reply without a request is dropped and counted as late."""
    rig = Rig("by-key")
    assert (rig.come("a!"), rig.late) == (True, 1)


def test_requests_and_replies_can_have_their_own_keys() -> None:
    """With a pair of functions, one finds the key of a request, and the other the key of a reply."""
    requests = requests_by((lambda message: message["id"], lambda message: message["re"]))
    seen = outcome(requests.add({"id": 7}))
    reply = requests.take({"re": 7})
    fire_reply(reply, {"re": 7})
    assert seen == [{"re": 7}]


@pytest.mark.parametrize("falsy", [0, "", False, ()])
def test_a_falsy_key_is_a_key(falsy: Any) -> None:
    """Only `None` means that a message has no key."""
    requests = ByKey(lambda message: falsy, lambda message: falsy)
    assert requests.add("a?") is requests.take("a!")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (".?", "this message has no key, so no reply could be known as its own; use send()"),
        ("a?", "a request with the key 'a' waits already; give each its own"),
    ],
)
def test_a_request_that_could_not_be_answered_is_refused(message: str, text: str) -> None:
    """A request without a key, or with the key of a waiting request, is not sent. The other request goes on waiting."""
    rig = Rig("by-key")
    seen = outcome(rig.requests.add("a first?"))
    with pytest.raises(UnsendableMessage) as caught:
        rig.requests.add(message)
    assert text == str(caught.value)
    rig.come("a!")
    assert (seen, len(rig.requests)) == (["a!"], 0)


def test_a_key_is_free_again_after_its_request() -> None:
    """After a request was answered or cancelled, its key can be used again."""
    rig = Rig("by-key")
    cancelled = rig.requests.add("a?")
    outcome(cancelled)
    cancelled.cancel()
    for _ in range(2):
        seen = outcome(rig.requests.add("a?"))
        rig.come("a!")
        assert seen == ["a!"]


def test_an_exception_of_a_key_function_is_raised() -> None:
    """If a key function raises, the caller gets the exception, and no request is added or removed."""
    requests = requests_by(lambda message: message["id"])
    for method in (requests.add, requests.take):
        with pytest.raises(KeyError):
            method({})
    assert len(requests) == 0


def test_a_key_without_a_hash_is_refused() -> None:
    """A key without a hash cannot be looked up, so the request raises TypeError."""
    requests = requests_by(lambda message: [])
    with pytest.raises(TypeError):
        requests.add("a?")
    assert len(requests) == 0


# The setting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "kind"), [(None, InOrder), (first, ByKey), ((first, first), ByKey)])
def test_the_key_says_how_replies_are_matched(key: Any, kind: type) -> None:
    """Without a key, replies are matched in order. With a function or a pair of functions, they are matched by key."""
    assert kind is type(requests_by(check_key(key)))
    assert key is check_key(key)


@pytest.mark.parametrize("key", ["id", 0, False, (), (first,), (first, first, first), (first, "id"), [first, first]])
def test_an_invalid_key_is_refused(key: Any) -> None:
    """The error for an invalid `key` names the value and the valid forms."""
    with pytest.raises(InvalidOption) as caught:
        check_key(key)
    assert str(caught.value).startswith(f"key={key!r}: takes a function")


# The timeout ---------------------------------------------------------------------------------------------------------


def test_a_request_times_out(rig: Rig) -> None:
    """A request that times out fails with its timer and its seconds, and its reply counts as late."""
    clock = Clock()
    seen = outcome(bound(rig.requests.add("a?"), 5, clock))
    clock.advance(4.999)
    assert seen == []
    clock.advance(0.001)
    assert [(TimedOut, "request", 5)] == [(type(each), each.timer, each.seconds) for each in seen]
    assert (rig.come("a!"), rig.late, 1) == (True, 1, len(seen))


@pytest.mark.parametrize("ending", ["answered", "cancelled", "ended"])
def test_no_timer_is_left_of_a_request_that_is_over(rig: Rig, ending: str) -> None:
    """When a request is answered, cancelled, or failed by the end, its timer is stopped."""
    clock = Clock()
    reply = bound(rig.requests.add("a?"), 5, clock)
    seen = outcome(reply)
    {"answered": lambda: rig.come("a!"), "cancelled": reply.cancel, "ended": rig.end}[ending]()
    assert (clock.getDelayedCalls(), len(seen)) == ([], 1)


@pytest.mark.parametrize(("seconds", "clock"), [(0, Clock()), (5, None)], ids=["no-limit", "no-clock"])
def test_a_request_without_a_limit_or_a_clock_waits(rig: Rig, seconds: float, clock: Clock | None) -> None:
    """Without a time limit or a clock, `bound()` returns the Deferred of the request, and no timer runs."""
    reply = rig.requests.add("a?")
    assert reply is bound(reply, seconds, clock)
    assert clock is None or clock.getDelayedCalls() == []


# Any order of events -------------------------------------------------------------------------------------------------

EVENTS = st.lists(st.tuples(st.sampled_from(["add", "cancel", "come"]), st.integers(0, 5)), max_size=40)


@given(events=EVENTS)
def test_in_order_no_reply_goes_to_another_request(events: list[tuple[str, int]]) -> None:
    """Whatever is cancelled, and when, the n-th reply goes to the n-th request."""
    rig = Rig("in-order")
    replies: list[Deferred[Any]] = []
    seen: list[list[Any]] = []
    expected: list[list[Any]] = []
    come = late = 0
    for event, number in events:
        if event == "add":
            replies.append(rig.requests.add("?"))
            seen.append(outcome(replies[-1]))
            expected.append([])
        elif event == "cancel" and number < len(replies):
            expected[number] = expected[number] or [CancelledError]
            replies[number].cancel()
        elif event == "come":
            assert (come < len(replies)) == rig.come(str(come))
            if come < len(replies):
                late += bool(expected[come])
                expected[come] = expected[come] or [str(come)]
                come += 1
        assert expected == [[each if isinstance(each, str) else type(each) for each in told] for told in seen]
        assert (len(replies) - come, late) == (len(rig.requests), rig.late)


@given(events=EVENTS)
def test_by_key_no_reply_goes_to_another_request(events: list[tuple[str, int]]) -> None:
    """Whatever is cancelled, and when, a reply goes to the one waiting request with its key."""
    rig = Rig("by-key")
    waiting: dict[int, tuple[Deferred[Any], list[Any]]] = {}
    late = 0
    for event, key in events:
        if event == "add" and key not in waiting:
            reply = rig.requests.add(str(key))
            waiting[key] = reply, outcome(reply)
        elif event == "cancel" and key in waiting:
            reply, seen = waiting.pop(key)
            reply.cancel()
            assert [CancelledError] == [type(each) for each in seen]
        elif event == "come":
            rig.come(str(key))
            late += key not in waiting
            assert [str(key)] == waiting.pop(key, (None, [str(key)]))[1]
        assert (len(waiting), late) == (len(rig.requests), rig.late)
        assert all(seen == [] for _, seen in waiting.values())


def test_a_reply_whose_key_has_no_hash_is_late() -> None:
    """A reply whose key has no hash is counted as late. The app has not failed, because the peer chose the key."""
    requests = ByKey(lambda message: message["id"], lambda message: message["id"])
    seen = outcome(requests.add({"id": 1}))
    for key in ([1], {"a": 1}, (1, [2])):
        assert requests.take({"id": key}) is LATE
    assert seen == []
    fire_reply(requests.take({"id": 1}) or Deferred(), "found")
    assert seen == ["found"]
