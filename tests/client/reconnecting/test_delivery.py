"""Sending with and without a connection, and the result of each message if one is lost."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from tcpapp import Limits, Recovery, Timeouts
from tcpapp.apps import echo
from tcpapp.errors import InvalidOption, MaybeSent, NeverSent, TimedOut, UnsendableMessage
from tests.peers import Hosts, Switch, never, outcome, result_of


class Seen:
    """An app that notes each message, and answers with it unless it begins with ``!``."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def received(self, message: bytes, connection: Any) -> bytes | None:
        self.messages.append(message)
        return None if message.startswith(b"!") else message


# While there is no connection -----------------------------------------------------------------------------------------


def lose_on_the_way(hosts: Hosts, client: Any) -> None:
    """Connect the client to a server that reads nothing, and cut the connection."""
    hosts.wait(0.5)
    hosts.server.read_at(0)
    server = hosts.listen(never, framing="int32")
    hosts.run(client.when_connected())
    hosts.wait(0.1)
    for each in server.connections:
        each.abort()
    hosts.wait(0.5)


def test_waiting_messages_are_sent_in_order(hosts: Hosts, client_of: Any) -> None:
    """Waiting sends and requests go out in order once there is a connection, and then the sends fire."""
    client = client_of()
    client.startService()
    results = [outcome(client.send(b"!one")), outcome(client.request(b"two")), outcome(client.send(b"!three"))]
    hosts.wait(3)
    assert results == [[], [], []]
    app = Seen()
    hosts.listen(app)
    hosts.wait(31)
    assert app.messages == [b"!one", b"two", b"!three"]
    assert results == [[None], [b"two"], [None]]


def test_messages_can_fail_at_once_without_a_connection(hosts: Hosts, client_of: Any) -> None:
    """With `while_down="fail"`, a send and a request fail at once if there is no connection."""
    client = client_of(while_down="fail")
    client.startService()
    errors = [result_of(client.send(b"one")), result_of(client.request(b"two"))]
    assert [(type(each), each.message) for each in errors] == [(NeverSent, b"one"), (NeverSent, b"two")]
    assert str(errors[0]) == "it was not sent: lost (by network): there is no connection"
    hosts.listen(echo)
    hosts.run(client.when_connected())
    assert hosts.run(client.request(b"two")) == b"two"


def test_messages_can_be_buffered_without_a_connection(hosts: Hosts, client_of: Any) -> None:
    """With `while_down="buffer"`, a send fires at once, and messages that were never sent are listed."""
    client = client_of(while_down="buffer")
    client.startService()
    assert [result_of(client.send(b"!one")), result_of(client.send(b"!two"))] == [None, None]
    app = Seen()
    server = hosts.listen(app)
    hosts.run(client.when_connected())
    hosts.wait()
    assert app.messages == [b"!one", b"!two"]
    hosts.run(server.close())
    hosts.wait()
    client.undelivered()
    client.send(b"!three")
    client.stop()
    assert [(type(each), each.message) for each in client.undelivered()] == [(NeverSent, b"!three")]


@pytest.mark.parametrize("numbers", [{"max_waiting": 3}, {"max_waiting_bytes": 12}])
def test_waiting_messages_have_a_bound(numbers: dict[str, float], hosts: Hosts, client_of: Any) -> None:
    """A message over the bound is never sent, and fails."""
    client = client_of(recovery=Recovery(**numbers))
    client.startService()
    results = [outcome(client.send(b"!%02d" % number)) for number in range(4)]
    assert results[:3] == [[], [], []]
    assert isinstance(results[3][0], NeverSent)
    assert next(iter(numbers)) in str(results[3][0])
    hosts.listen(app := Seen())
    hosts.wait(31)
    assert app.messages == [b"!00", b"!01", b"!02"]


def test_an_unsendable_message_fails_at_once(hosts: Hosts, client_of: Any) -> None:
    """An unsendable message fails at once, whether there is a connection or not."""
    client = client_of()
    client.startService()
    assert isinstance(result_of(client.send(b"a\nb")), UnsendableMessage)
    hosts.listen(echo)
    hosts.run(client.when_connected())
    assert isinstance(result_of(client.send(b"a\nb")), UnsendableMessage)
    assert isinstance(result_of(client.request(b"a\nb")), UnsendableMessage)
    assert client.undelivered() == []


def test_a_client_that_was_not_started_sends_nothing(client_of: Any) -> None:
    """Calls of a client that was not started fail, and the error says so."""
    error = result_of(client_of().send(b"x"))
    assert str(error) == "it was not sent: unopened (by us): the client was not started"


def test_an_invalid_while_down_is_refused(client_of: Any) -> None:
    """An invalid `while_down` is refused, and the error names the valid values and the most similar one."""
    with pytest.raises(InvalidOption, match="while_down='wiat': takes wait, fail, buffer; did you mean 'wait'"):
        client_of(while_down="wiat")


def test_messages_sent_while_the_queue_is_written_come_after_it(hosts: Hosts, client_of: Any) -> None:
    """A message from the callback of a send goes out behind the queue. An exception of the key fails its request."""

    def key(message: bytes) -> bytes:
        if message == b"no key":
            raise ValueError
        return message[:1]

    client = client_of(key=key)
    client.startService()
    client.send(b"!one").addCallback(lambda _: client.send(b"!last"))
    failed = outcome(client.request(b"no key"))
    client.send(b"!two")
    hosts.listen(app := Seen())
    hosts.run(client.when_connected())
    hosts.wait()
    assert app.messages == [b"!one", b"!two", b"!last"]
    assert isinstance(failed[0], ValueError)


def test_a_message_that_waited_and_is_lost_on_its_way_fails(hosts: Hosts, client_of: Any) -> None:
    """A send that waited, and is lost on its way, fails with `MaybeSent`."""
    client = client_of(framing="int32", limits=Limits(write_high=10))
    client.startService()
    sent = [outcome(client.send(b"x" * 500_000)) for _ in range(3)]
    lose_on_the_way(hosts, client)
    assert isinstance(sent[2][0], MaybeSent)


# On a loss ------------------------------------------------------------------------------------------------------------


def test_each_request_gets_a_definite_result(hosts: Hosts, client_of: Any) -> None:
    """A request is answered, or fails with `MaybeSent`, or was not sent, and is sent on the next connection."""
    app = Switch()
    server = hosts.listen(app)
    client = client_of(limits=Limits(max_requests=2))
    hosts.run(client.start())
    results = [outcome(client.request(each)) for each in (b"answered", b"sent", b"waits")]
    hosts.wait()
    app.pending[0].callback(b"yes")
    hosts.wait()
    assert [len(each) for each in results] == [1, 0, 0]
    fourth = outcome(client.request(b"fourth"))
    for each in server.connections:
        each.abort()
    hosts.wait(0.5)
    assert results[0] == [b"yes"]
    assert [type(each[0]) for each in (results[1], results[2])] == [MaybeSent, MaybeSent]
    assert results[1][0].message == b"sent"
    assert "no reply came" in str(results[1][0])
    hosts.wait(2)
    assert app.seen == [b"answered", b"sent", b"fourth"]  # the third message had come, and was not handled yet
    app.pending[-1].callback(b"at last")
    hosts.wait()
    assert fourth == [b"at last"]


def test_sent_messages_that_can_be_lost_are_listed(hosts: Hosts, client_of: Any) -> None:
    """Messages before an answered request are not listed, because the peer has read them."""
    app = Seen()
    server = hosts.listen(app)
    client = client_of()
    hosts.run(client.start())
    for each in (b"!one", b"!two"):
        client.send(each)
    hosts.run(client.request(b"read so far?"))
    client.send(b"!three")
    assert client.undelivered() == []
    for each in server.connections:
        each.abort()
    hosts.wait(0.5)
    listed = client.undelivered()
    assert [(type(each), each.message) for each in listed] == [(MaybeSent, b"!three")]
    assert client.undelivered() == []


def test_waiting_messages_are_listed(client_of: Any) -> None:
    """Waiting messages are listed as never sent."""
    client = client_of()
    client.startService()
    for each in (client.send(b"one"), client.request(b"two")):
        each.addErrback(lambda _: None)
    assert [(type(each), each.message) for each in client.undelivered()] == [(NeverSent, b"one"), (NeverSent, b"two")]


def test_a_send_over_the_write_mark_fails_at_a_loss(hosts: Hosts, client_of: Any) -> None:
    """A message over the write mark at the loss can be sent in part, so its send fails with `MaybeSent`."""
    server = hosts.listen(never, framing="int32")
    client = client_of(framing="int32", limits=Limits(write_high=10))
    hosts.run(client.start())
    hosts.client.read_at(None)
    hosts.server.read_at(0)
    sent = [outcome(client.send(b"x" * 500_000)) for _ in range(3)]
    hosts.wait(0.1)
    for each in server.connections:
        each.abort()
    hosts.wait(0.5)
    assert isinstance(sent[2][0], MaybeSent)
    assert sent[2][0].message == b"x" * 500_000


def test_a_buffered_message_that_is_lost_on_its_way_is_listed(hosts: Hosts, client_of: Any) -> None:
    """A buffered message that is lost is listed, because its caller does not wait for it."""
    client = client_of(framing="int32", limits=Limits(write_high=10), while_down="buffer")
    client.startService()
    for _ in range(3):
        client.send(b"x" * 500_000)
    lose_on_the_way(hosts, client)
    assert len(client.undelivered()) >= 3


# Idempotent requests --------------------------------------------------------------------------------------------------


def test_an_idempotent_request_is_sent_again(hosts: Hosts, client_of: Any) -> None:
    """An idempotent request is sent again, in its order, before new requests, and its caller gets the reply."""
    app = Switch()
    server = hosts.listen(app)
    client = client_of()
    hosts.run(client.start())
    results = [outcome(client.request(each, idempotent=True)) for each in (b"one", b"two")]
    hosts.wait()
    for each in server.connections:
        each.abort()
    hosts.wait(0.01)
    results.append(outcome(client.request(b"three")))
    hosts.wait(2)
    for _ in range(3):
        app.pending[-1].callback(app.seen[-1].upper())
        hosts.wait()
    assert app.seen == [b"one", b"one", b"two", b"three"]
    assert results == [[b"ONE"], [b"TWO"], [b"THREE"]]


def test_an_idempotent_request_is_not_sent_again_after_its_timeout(hosts: Hosts, client_of: Any) -> None:
    """The timeout of a request covers all of its attempts together."""
    server = hosts.listen(never)
    client = client_of(recovery=Recovery(first_wait=10, longest_wait=10))
    client._settings.random.seed(0)  # with this seed, the wait of up to ten seconds is more than one
    hosts.run(client.start())
    result = outcome(client.request(b"one", 0.2, idempotent=True))
    hosts.wait(0.1)
    for each in server.connections:
        each.abort()
    hosts.wait(0.2)
    assert str(result[0]) == "there was no connection for it in 0.2 s"
    hosts.wait(10)


def test_retries_have_a_budget(hosts: Hosts, client_of: Any) -> None:
    """A failing server gets a few more requests, and not twice as many."""
    server = hosts.listen(never)
    client = client_of(recovery=Recovery(retries_least=0, retry_percent=20))
    hosts.run(client.start())
    results = [outcome(client.request(b"%d" % number, idempotent=True)) for number in range(20)]
    hosts.wait()
    for each in server.connections:
        each.abort()
    hosts.wait(0.01)
    assert sum(bool(each) for each in results) == 16
    assert {type(each[0]) for each in results if each} == {MaybeSent}


# Deadlines and cancelling ---------------------------------------------------------------------------------------------


def test_a_request_has_one_deadline(hosts: Hosts, client_of: Any) -> None:
    """The timeout of a request covers its wait, its way and its reply. A late reply is dropped."""
    client = client_of()
    client.startService()
    waits = outcome(client.request(b"waits", 0.5))
    assert [type(result_of(client.request(b"late", -1)))] == [TimedOut]
    hosts.wait(0.6)
    assert isinstance(waits[0], NeverSent)
    app = Switch()
    hosts.listen(app)
    hosts.run(client.when_connected())
    slow = outcome(client.request(b"slow", 2))
    hosts.wait(2.1)
    assert str(slow[0]) == "request timed out after 2 s"
    other = outcome(client.request(b"other", 0))
    hosts.wait()
    app.pending[0].callback(b"too late")
    hosts.wait()
    app.pending[1].callback(b"in time")
    hosts.wait()
    assert other == [b"in time"]
    assert client.late_replies == 1


def test_a_cancelled_message_is_not_sent_or_its_reply_not_awaited(hosts: Hosts, client_of: Any) -> None:
    """A cancelled message that waits is not sent. A cancelled request on its way gets only the cancellation."""
    client = client_of()
    client.startService()
    waiting = [client.send(b"one"), client.request(b"two"), client.send(b"!three")]
    results = [outcome(each) for each in waiting]
    for each in waiting[:2]:
        each.cancel()
    assert [type(each[0]) for each in results[:2]] == [CancelledError, CancelledError]
    app = Seen()
    hosts.listen(app)
    hosts.run(client.when_connected())
    hosts.wait()
    assert app.messages == [b"!three"]
    asked = client.request(b"four")
    result = outcome(asked)
    asked.cancel()
    assert isinstance(result[0], CancelledError)
    assert hosts.run(client.request(b"five")) == b"five"


def test_more_requests_than_may_wait_for_replies_wait_for_their_turn(hosts: Hosts, client_of: Any) -> None:
    """
    A request over `max_requests` is sent when another is answered.

    A send behind it waits, too, to keep the order.
    """
    app = Switch()
    hosts.listen(app)
    client = client_of(limits=Limits(max_requests=2))
    hosts.run(client.start())
    results = [outcome(client.request(b"%d" % number)) for number in range(4)]
    sent = outcome(client.send(b"!"))
    assert sent == []
    hosts.wait()
    for number in range(4):
        app.pending[number].callback(b"reply %d" % number)
        hosts.wait()
    assert app.seen == [b"0", b"1", b"2", b"3", b"!"]
    assert results == [[b"reply %d" % number] for number in range(4)]
    assert sent == [None]


# Draining -------------------------------------------------------------------------------------------------------------


def test_a_drain_finishes_the_accepted_messages(hosts: Hosts, client_of: Any) -> None:
    """A client that drains finishes its messages, and accepts no more."""
    app = Switch()
    hosts.listen(app)
    client = client_of()
    client.startService()
    asked = outcome(client.request(b"one"))
    drained = outcome(client.drain())
    refused = result_of(client.request(b"two"))
    assert isinstance(refused, NeverSent)
    assert "the client drains" in str(refused)
    hosts.wait()
    assert drained == []
    assert isinstance(result_of(client.send(b"three")), NeverSent)
    app.pending[0].callback(b"done")
    hosts.wait()
    assert (asked, drained, client.running) == ([b"done"], [0], 0)


def test_a_drain_has_a_deadline(hosts: Hosts, client_of: Any) -> None:
    """At the deadline of a drain, the unfinished messages are counted, and their calls fail."""
    hosts.listen(never)
    client = client_of(timeouts=Timeouts(drain=5))
    hosts.run(client.start())
    asked = outcome(client.request(b"one"))
    drained = outcome(client.drain())
    hosts.wait(4)
    assert drained == []
    hosts.wait(2)
    assert drained == [1]
    assert isinstance(asked[0], MaybeSent)


def test_a_drain_of_nothing_is_done(hosts: Hosts, client_of: Any) -> None:
    """The drain of a client without messages is done at once, connected or not, started or not."""
    client = client_of()
    assert outcome(client.drain()) == [0]
    client.startService()
    hosts.wait()
    assert outcome(client.drain(0)) == [0]
