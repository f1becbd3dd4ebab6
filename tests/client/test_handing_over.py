"""A blocking client hands over many messages for one switch of threads. These tests run the reactor's side by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tcpapp import Limits
from tcpapp.client.blocking import AT_HAND, BlockingClient
from tcpapp.client.loop_calls import Call, Caller
from tcpapp.connection.many import take_at_hand
from tcpapp.errors import NeverSent, TimedOut, UndecodableMessage, UnsendableMessage
from tests.peers import Peer, stalled


class Loop:
    """Stands for a reactor in another thread. It makes its calls when a test says so, or `at_once`."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.woken = 0
        self.at_once = False

    def callFromThread(self, function: Callable[[], object]) -> None:
        self.woken += 1
        self.calls.append(function)
        if self.at_once:
            self.run()

    def run(self) -> None:
        """Make the calls that are there."""
        while self.calls:
            self.calls.pop(0)()


class Below:
    """Stands for the client below. Its connection is the connection of `peer`; `results` are of its next sends."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.settings = peer.factory.settings
        self.connection: Any = peer.connection
        self.results: list[Any] = []

    def send(self, message: Any) -> Any:
        if not self.results:
            return self.peer.connection.send(message)
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    def receive(self) -> Any:
        return self.peer.connection.receive()

    def request(self, message: Any, timeout: float | None, *, idempotent: bool) -> Any:
        return succeed(message)

    def drain(self, deadline: float | None) -> Any:
        return succeed(0)

    def _take_at_hand(self, most: int, size: int) -> list[Any]:
        return take_at_hand(self.peer.connection, most, size)


def client_of(peer: Peer) -> tuple[BlockingClient[Any, Any], Below, Loop]:
    """Return a blocking client over the connection of `peer`, the client below, and its reactor."""
    below: Any = Below(peer)
    loop = Loop()
    return BlockingClient(below, Caller(loop)), below, loop


# Sending --------------------------------------------------------------------------------------------------------------


def test_many_messages_wake_the_reactor_once() -> None:
    """Sends return before the reactor runs. It sends the messages in order, in one write."""
    peer = Peer()
    client, _, loop = client_of(peer)
    for message in (b"1", b"2", b"3"):
        client.send(message)
    assert (loop.woken, peer.transport.writes) == (1, [])
    loop.run()
    client.send(b"4")
    loop.run()
    assert (loop.woken, peer.transport.writes) == (2, [b"1\n2\n3\n", b"4\n"])


@pytest.mark.parametrize("how", ["raised", "failed", "failed later"])
@pytest.mark.parametrize("call", ["send", "receive", "request", "close"])
def test_the_next_call_raises_the_error_of_a_send(how: str, call: str) -> None:
    """An error that comes after ``send`` has returned is raised once, by the next call of any kind."""
    peer = Peer()
    client, below, loop = client_of(peer)
    later: Deferred[None] = Deferred()
    below.results = [LookupError() if how == "raised" else fail(LookupError()) if how == "failed" else later]
    client.send(b"bad")
    client.send(b"good")
    loop.run()
    if how == "failed later":
        later.errback(LookupError())
    loop.at_once = True
    with pytest.raises(LookupError):
        getattr(client, call)(*[b"x"][: call in ("send", "request")])
    assert client.close() == 0
    assert peer.hears() == b"good\n"


def test_the_error_of_a_block_hides_the_error_of_a_send() -> None:
    """If the block of a ``with`` raised, its own error is raised. Otherwise the end of the block raises the other."""
    client, below, loop = client_of(Peer())
    loop.at_once = True
    below.results = [LookupError(), LookupError()]

    def block(error: Exception | None) -> None:
        with client:
            client.send(b"bad")
            if error is not None:
                raise error

    with pytest.raises(ZeroDivisionError):
        block(ZeroDivisionError())
    with pytest.raises(LookupError):
        block(None)


def test_a_message_that_cannot_be_sent_raises_at_once() -> None:
    """Without a codec, the framing refuses a message before ``send`` returns."""
    client, _, loop = client_of(Peer())
    with pytest.raises(UnsendableMessage):
        client.send(b"two\nlines")
    assert loop.woken == 0


def test_a_send_waits_while_the_write_mark_is_reached() -> None:
    """A message over ``write_high`` unsent bytes is waited for, and so are messages that the peer does not take."""
    peer = stalled(None, limits=Limits(write_high=4096))
    client, _, loop = client_of(peer)
    client.send(b"x" * 4000)
    with pytest.raises(TimedOut):
        client.send(b"y" * 100, 0)
    assert len(loop.calls) == 1
    loop.run()
    for _ in range(3):  # until the transport takes no more
        client.send(b"z" * 4000, 5) if client._done == client._handed_over else None
        loop.run()
    with pytest.raises(TimedOut):
        client.send(b"y" * 100, 0)
    peer.transport.go_on()
    peer.transport.turn()
    client.send(b"y" * 100, 0)
    loop.run()
    assert b"y" * 100 in peer.hears()


def test_a_send_waits_where_there_is_no_connection() -> None:
    """Without a connection, ``send`` does what the client below does: it waits, or raises."""
    client, below, loop = client_of(Peer())
    below.connection = None
    with pytest.raises(TimedOut):
        client.send(b"x", 0)
    loop.run()
    loop.at_once = True
    below.results = [fail(NeverSent("down", below.peer.protocol._lifecycle.error.reason, b"x"))]
    with pytest.raises(NeverSent):
        client.send(b"x")


def test_a_message_that_was_handed_over_waits_for_the_next_connection() -> None:
    """If the connection is lost before the reactor has the message, the client below gets it nevertheless."""
    peer = Peer()
    client, below, loop = client_of(peer)
    client.send(b"1")
    below.connection = None
    loop.run()
    assert peer.hears() == b"1\n"


def test_a_message_that_can_be_changed_is_waited_for() -> None:
    """A list is encoded before ``send`` returns, because the program can change it after that."""
    peer = Peer(codec="json")
    client, _, loop = client_of(peer)
    with pytest.raises(TimedOut):
        client.send(["can change"], 0)
    loop.run()
    peer.hears()
    client.send("cannot")
    loop.run()
    assert peer.hears() == b'"cannot"\n'


def test_values_that_wait_for_the_reactor_are_counted() -> None:
    """Values have no size before they are encoded, so at most 64 of them are handed over without a wait."""
    client, _, _ = client_of(Peer(codec="json"))
    for _ in range(AT_HAND // 2):
        client.send("x", 0)

    def many() -> None:
        for _ in range(AT_HAND // 2):
            client.send("x", 0)

    with pytest.raises(TimedOut):
        many()


# Receiving ------------------------------------------------------------------------------------------------------------


def test_messages_that_are_there_are_taken_ahead() -> None:
    """The first ``receive`` takes all messages that are there, and the next ones need no reactor."""
    peer = Peer()
    client, _, loop = client_of(peer)
    peer.says(b"1\n2\n3\n")
    loop.at_once = True
    assert client.receive() == b"1"
    loop.at_once = False
    assert [client.receive(0), client.receive(0)] == [b"2", b"3"]
    assert peer.connection.unread == 0
    assert peer.factory.settings.memory_budget.total == 0
    with pytest.raises(TimedOut):
        client.receive(0)


def test_few_messages_are_taken_ahead() -> None:
    """At most 64 messages leave the inbox, which bounds its bytes, and fewer if they are long."""
    peer = Peer()
    client, _, loop = client_of(peer)
    loop.at_once = True
    peer.says(b"x\n" * 200)
    client.receive()
    assert peer.connection.unread == 200 - 1 - AT_HAND
    peer = Peer(limits=Limits(inbox_high=1_000_000))
    client, _, loop = client_of(peer)
    loop.at_once = True
    peer.says((b"x" * 40_000 + b"\n") * 5)
    client.receive()
    assert peer.connection.unread == 2


def test_a_message_that_another_thread_took_ahead_is_received() -> None:
    """A call that comes while another call takes messages ahead gets the next of these."""
    client, _, loop = client_of(Peer())
    loop.at_once = True
    wake = loop.callFromThread

    def ahead(function: Callable[[], object]) -> None:
        client._at_hand.append(b"ahead")
        wake(function)

    loop.callFromThread = ahead  # type: ignore[method-assign]
    assert client.receive() == b"ahead"


def test_a_receive_that_timed_out_takes_no_message() -> None:
    """A message that comes at the very end of the time is kept for the next ``receive``."""
    peer = Peer()
    client, _, loop = client_of(peer)
    peer.says(b"1\n2\n")
    with pytest.raises(TimedOut):
        client.receive(0)
    loop.run()
    assert peer.connection.unread == 2
    call = Call(client._receive, client._at_hand.appendleft)
    begin = client._receive

    def late() -> Any:
        call.give_up()
        return begin()

    call._function = late
    call.begin()
    assert [client.receive(0), client.receive(0)] == [b"1", b"2"]


def test_an_undecodable_message_is_raised_in_its_place() -> None:
    """If the codec delivers an error in the place of a message, ``receive`` raises it there."""
    client, _, _ = client_of(Peer())
    client._at_hand.extend([b"1", UndecodableMessage("not one", message=b"2"), b"3"])
    assert client.receive() == b"1"
    with pytest.raises(UndecodableMessage):
        client.receive()
    assert client.receive() == b"3"
