"""Requests and their replies on a connection: in order or by key, beside an app and without one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from tcpapp.errors import NotConnected, TimedOut, UndecodableMessage, UnsendableMessage
from tcpapp.limits import Limits, Timeouts
from tcpapp.telemetry import AppFailed, LateReply
from tests.peers import NOTHING, Outcomes, Peer, result_of


def number_of(message: bytes) -> bytes | None:
    """Return the key of a message: its number. A message without a number is no reply."""
    head, _, _ = message.partition(b":")
    return head or None


def quietly(request: Deferred[Any]) -> Deferred[Any]:
    """Let `request` fail silently."""
    return request.addErrback(lambda _: None)


# In order -------------------------------------------------------------------------------------------------------------


def test_replies_answer_requests_in_order() -> None:
    """Several requests can wait, and one chunk can answer them all. Later messages can be received."""
    peer = Peer()
    requests = [peer.connection.request(b"%d" % number) for number in range(3)]
    assert peer.hears() == b"0\n1\n2\n"
    peer.says(b"zero\none\n")
    peer.says(b"two\nmore\n")
    assert [result_of(each) for each in requests] == [b"zero", b"one", b"two"]
    assert result_of(peer.connection.receive()) == b"more"


def test_a_cancelled_request_keeps_its_place() -> None:
    """The late reply to a cancelled request is dropped and reported, and goes to no other request."""
    peer = Peer()
    first, second = peer.connection.request(b"1"), peer.connection.request(b"2")
    first.cancel()
    assert isinstance(result_of(first), CancelledError)
    peer.says(b"one\ntwo\n")
    assert result_of(second) == b"two"
    assert len(peer.told(LateReply)) == 1


def test_a_request_whose_time_is_over_already_is_not_sent() -> None:
    """A caller that calculates its timeout can get a value below 0: then the request is not sent."""
    peer = Peer()
    error = result_of(peer.connection.request(b"1", timeout=-0.5))
    assert (type(error), error.timer, error.seconds) == (TimedOut, "request", 0)
    assert peer.hears() == b""


@pytest.mark.parametrize("given_to_call", [False, True])
def test_a_request_times_out(given_to_call: bool) -> None:
    """A request times out after the seconds of the call, or the factory's, and the connection stays open."""
    peer = Peer(timeouts=Timeouts(request=7.0 if given_to_call else 3.0))
    request = peer.connection.request(b"1", timeout=3.0 if given_to_call else None)
    outcome: list[Any] = []
    request.addErrback(lambda failure: outcome.append(failure.value))
    peer.clock.advance(2.9)
    assert outcome == []
    peer.clock.advance(0.2)
    [error] = outcome
    assert isinstance(error, TimedOut)
    assert (error.timer, error.seconds) == ("request", 3.0)
    peer.says(b"late\nmessage\n")
    assert result_of(peer.connection.receive()) == b"message"
    assert len(peer.told(LateReply)) == 1
    assert peer.timers == []


def test_a_request_without_a_timeout_waits() -> None:
    """With `timeout=0` a request has no time limit."""
    peer = Peer()
    peer.connection.request(b"1", timeout=0)
    assert peer.timers == []


def test_a_reply_stops_its_timer() -> None:
    """However a request ends, no timer is left."""
    peer = Peer()
    answered, cancelled, failed = (quietly(peer.connection.request(b"x")) for _ in range(3))
    assert len(peer.timers) == 3
    peer.says(b"reply\n")
    cancelled.cancel()
    peer.resets()
    assert peer.clock.getDelayedCalls() == []
    assert [result_of(each) for each in (answered, cancelled, failed)] == [b"reply", None, None]


def test_waiting_requests_are_bounded() -> None:
    """A request over `max_requests` is not sent. A reply makes room for the next request."""
    peer = Peer(limits=Limits(max_requests=2))
    requests = [peer.connection.request(b"%d" % number) for number in range(3)]
    error = result_of(requests[2])
    assert isinstance(error, UnsendableMessage)
    assert "max_requests" in str(error)
    assert peer.hears() == b"0\n1\n"
    peer.says(b"zero\n")
    assert result_of(peer.connection.request(b"3")) is NOTHING


def test_a_request_in_a_replys_callback_waits_for_the_next_reply() -> None:
    """A request in the callback of a reply is sent at once, and the next message is its reply."""
    peer = Peer()
    got: list[bytes] = []

    def ask(reply: bytes) -> None:
        got.append(reply)
        peer.connection.request(b"again").addCallback(got.append)

    peer.connection.request(b"once").addCallback(ask)
    peer.says(b"1\n")
    assert peer.hears() == b"once\nagain\n"
    peer.says(b"2\n3\n")
    assert got == [b"1", b"2"]
    assert result_of(peer.connection.receive()) == b"3"


@pytest.mark.parametrize("call", ["close", "abort", "drain"])
def test_a_connection_can_be_ended_in_a_replys_callback(call: str) -> None:
    """If the callback of a reply ends the connection, the other requests fail, and messages can still be received."""
    peer = Peer()
    first, second = peer.connection.request(b"1"), peer.connection.request(b"2")
    first.addCallback(lambda _: getattr(peer.connection, call)() and None)
    peer.says(b"one\ntwo\n")
    assert peer.closing
    error = result_of(second)
    assert isinstance(error, NotConnected)
    assert result_of(peer.connection.receive()) == b"two"
    peer.leaves()
    assert error.reason is peer.reason


def test_draining_in_a_replys_callback_leaves_the_app_the_messages_behind() -> None:
    """The messages behind the reply in its chunk are handled before the connection closes."""
    peer = Peer(lambda message, _: message, key=number_of)
    peer.connection.request(b"1:").addCallback(lambda _: peer.connection.drain())
    peer.hears()
    peer.says(b":a\n1:\n:b\n")
    assert peer.hears() == b":a\n:b\n"
    assert peer.closing
    peer.leaves()
    assert peer.reason.rule == "drained"


def test_a_half_close_in_a_replys_callback_leaves_the_app_the_messages_before() -> None:
    """
    If the reply is the last message of the chunk, the connection closes after the messages before it are answered.
    """
    peer = Peer(lambda message, _: message, key=number_of)
    peer.connection.request(b"1:").addCallback(lambda _: peer.half_closes())
    peer.hears()
    peer.says(b":a\n1:\n")
    assert peer.hears() == b":a\n"
    assert peer.closing


# By key ---------------------------------------------------------------------------------------------------------------


@given(st.permutations([0, 1, 2, 3]), st.sets(st.integers(0, 3)), st.sets(st.integers(1, 30)))
def test_replies_find_their_requests_by_key_in_any_order(order: list[int], cancelled: set[int], cuts: set[int]) -> None:
    """Messages between the replies go to the app in order, and late replies are dropped."""
    pushes: list[bytes] = []
    peer = Peer(lambda message, _: pushes.append(message), key=number_of)
    requests = [quietly(peer.connection.request(b"%d:?" % number)) for number in range(4)]
    for number in cancelled:
        requests[number].cancel()
    stream = b"".join(b"%d:!\n:push%d\n" % (number, number) for number in order)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(stream)], strict=True):
        peer.says(stream[start:end])
    assert [result_of(each) for each in requests] == [
        None if number in cancelled else b"%d:!" % number for number in range(4)
    ]
    assert pushes == [b":push%d" % number for number in order]
    assert len(peer.told(LateReply)) == len(cancelled)


def test_a_pair_of_functions_finds_the_key_in_requests_and_in_replies() -> None:
    """With a pair of key functions, requests can look different from replies."""
    peer = Peer(key=(lambda request: request[1:2], lambda reply: reply[:1]))
    first, second = peer.connection.request(b"qA"), peer.connection.request(b"qB")
    peer.says(b"B\nA\n")
    assert [result_of(first), result_of(second)] == [b"A", b"B"]


@pytest.mark.parametrize("codec", [None, "text"])
def test_a_late_reply_by_key_is_dropped_also_when_no_request_waits(codec: str | None) -> None:
    """A late reply is not handed to the app, with a codec or without."""
    seen: list[Any] = []
    as_is = {None: bytes, "text": bytes.decode}[codec]
    peer = Peer(lambda message, _: seen.append(message), key=lambda message: message[:1] or None, codec=codec)
    quietly(peer.connection.request(as_is(b"1"))).cancel()
    peer.says(b"1 late\n\n")
    assert seen == [as_is(b"")]
    assert len(peer.told(LateReply)) == 1


def test_a_key_function_that_raises_on_our_message_fails_that_request() -> None:
    """If the key function raises for a request, nothing is sent, and the connection stays open."""

    def key(message: bytes) -> bytes:
        if message == b"bad":
            raise ZeroDivisionError
        return message

    peer = Peer(key=key)
    assert isinstance(result_of(peer.connection.request(b"bad")), ZeroDivisionError)
    assert peer.hears() == b""
    good = peer.connection.request(b"good")
    peer.says(b"good\n")
    assert result_of(good) == b"good"


def test_a_key_function_that_raises_on_the_peers_message_is_the_apps_failure() -> None:
    """If the key function raises for a message, earlier messages are answered, and later ones are not handled."""

    def key(message: bytes) -> Any:
        if message == b"bad":
            raise ZeroDivisionError
        return None

    seen: list[bytes] = []

    def app(message: bytes, connection: Any) -> bytes:
        seen.append(message)
        return message

    peer = Peer(app, key=(lambda message: message, key))
    request = peer.connection.request(b"1")
    peer.hears()
    peer.says(b"2\nbad\n3\n")
    peer.slips_in(b"4\n")
    assert peer.hears() == b"2\n"
    peer.leaves()
    assert seen == [b"2"]
    assert peer.reason.rule == "app-failed"
    assert len(peer.told(AppFailed)) == 1
    assert result_of(request).reason is peer.reason


@pytest.mark.parametrize("message", [b":no key", b"1:again"])
def test_a_request_without_a_key_of_its_own_is_refused(message: bytes) -> None:
    """A request without a key, or with the key of a waiting request, is not sent."""
    peer = Peer(key=number_of)
    peer.connection.request(b"1:")
    peer.hears()
    assert isinstance(result_of(peer.connection.request(message)), UnsendableMessage)
    assert peer.hears() == b""


def test_an_app_can_cancel_a_request_whose_reply_is_behind_its_message() -> None:
    """If an app cancels a request whose reply is behind the current message, the app has not failed."""
    requests: list[Deferred[Any]] = []
    peer = Peer(lambda message, _: requests[0].cancel(), key=number_of)
    requests.append(quietly(peer.connection.request(b"1:")))
    peer.says(b":cancel\n1:reply\n:more\n")
    assert result_of(requests[0]) is None
    assert peer.told(AppFailed) == []
    assert not peer.closing


# Beside an app --------------------------------------------------------------------------------------------------------


def test_a_server_can_ask_its_client_inside_received() -> None:
    """A request inside `received` is sent at once, and the app replies when its answer has come."""

    async def app(message: bytes, connection: Any) -> bytes:
        return b"reply to " + await connection.request(b"which " + message)

    peer = Peer(app)
    peer.says(b"a\n")
    assert peer.hears() == b"which a\n"
    peer.says(b"this\nb\n")
    assert peer.hears() == b"reply to this\nwhich b\n"


def test_a_request_inside_received_follows_the_replies_before_it() -> None:
    """Earlier replies are sent before a request inside `received`, in one write."""

    def app(message: bytes, connection: Any) -> bytes:
        if message == b"2":
            quietly(connection.request(b"question"))
        return message

    peer = Peer(app)
    peer.says(b"1\n2\n3\n")
    assert peer.transport.writes == [b"1\nquestion\n2\n3\n"]


def test_an_answer_passes_the_messages_that_wait_for_the_app() -> None:
    """An app that waits for an answer gets it, although other messages wait for the app."""

    async def app(message: bytes, connection: Any) -> bytes:
        return message + await connection.request(b"which " + message)

    peer = Peer(app, key=(lambda _: b"1", number_of))
    peer.says(b":a\n:b\n")
    peer.says(b"1:x\n")
    assert peer.hears() == b"which :a\n:a1:x\nwhich :b\n"


def test_an_apps_request_that_the_half_close_ends_is_not_its_failure() -> None:
    """If a half-close or a drain fails a request of the app, the app has not failed."""
    for end, rule in [(Peer.half_closes, "end-of-stream"), (lambda peer: peer.connection.drain(), "drained")]:
        peer = Peer(lambda message, connection: connection.request(b"question"))
        peer.says(b"a\n")
        end(peer)
        assert peer.closing
        peer.leaves()
        assert peer.reason.rule == rule
        assert peer.told(AppFailed) == []


def test_requests_are_refused_once_no_answer_can_come() -> None:
    """After the peer's half-close, messages can still be sent, and requests fail."""
    pending: Deferred[bytes] = Deferred()
    peer = Peer(lambda message, _: pending)
    peer.says(b"a\n")
    peer.half_closes()
    assert result_of(peer.connection.request(b"x")).reason.rule == "end-of-stream"
    assert result_of(peer.connection.send(b"sent")) is None
    pending.callback(b"reply")
    assert peer.hears() == b"sent\nreply\n"


# With a codec ---------------------------------------------------------------------------------------------------------


def test_requests_and_replies_are_values() -> None:
    """With a codec, a request is a value, and so is its reply."""
    peer = Peer(codec="text")
    request = peer.connection.request("hallå")
    assert peer.hears() == "hallå\n".encode()
    peer.says(b"svar\n")
    assert result_of(request) == "svar"


def test_an_undecodable_reply_that_is_delivered_fails_its_request_alone() -> None:
    """With `invalid=deliver`, an undecodable reply fails its request, and the next request is answered."""
    peer = Peer(codec="text:invalid=deliver")
    first, second = peer.connection.request("1"), peer.connection.request("2")
    peer.says(b"\xff\ntwo\n")
    assert isinstance(result_of(first), UndecodableMessage)
    assert result_of(second) == "two"


def test_an_undecodable_reply_ends_the_connection_with_its_requests() -> None:
    """Requests before an undecodable reply are answered, and the others fail with the reason."""
    peer = Peer(codec="text")
    requests = [peer.connection.request(each) for each in "123"]
    peer.says(b"one\n\xff\nthree\n")
    assert result_of(requests[0]) == "one"
    assert {result_of(each).reason.rule for each in requests[1:]} == {"undecodable-message"}


def test_an_undecodable_message_has_no_key() -> None:
    """The key function gets only values. The app gets an undecodable message."""
    seen: list[Any] = []
    peer = Peer(lambda value, _: seen.append(value), codec="text:invalid=deliver", key=lambda value: value[:1])
    request = peer.connection.request("1")
    peer.says(b"\xff\n1\n")
    assert [type(value) for value in seen] == [UndecodableMessage]
    assert result_of(request) == "1"


@pytest.mark.parametrize("key", [None, number_of])
def test_every_request_fires_once_though_their_callbacks_cancel_each_other(key: Any) -> None:
    """If the errback of a request at the end cancels the other requests, each request still fires once."""
    peer = Peer(key=key)
    outcomes = Outcomes()
    requests: list[Deferred[Any]] = []

    def cancel_all(result: Any) -> Any:
        for each in requests:
            each.cancel()
        return result

    for number in range(3):
        requests.append(peer.connection.request(b"%d:" % number))
        outcomes.of(str(number), requests[-1].addBoth(cancel_all))
    peer.resets()
    assert len(outcomes.all) == 3
    assert peer.clock.getDelayedCalls() == []
