"""`Reply`: an explicit reply with any value, in every form of app, of servers and of clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed

import tcpapp
from tcpapp import MessageClientFactory, Reply, Timeouts, batch
from tcpapp.errors import UnsendableMessage
from tcpapp.telemetry import AppFailed
from tests.peers import Hosts, Peer, joined


def returns(given: Any) -> Any:
    return lambda message, connection: given


def fires(given: Any) -> Any:
    return lambda message, connection: succeed(given)


def answers(given: Any) -> Any:
    async def app(message: Any, connection: Any) -> Any:
        return given

    return app


class Object:
    def __init__(self, given: Any) -> None:
        self.given = given

    def received(self, message: Any, connection: Any) -> Any:
        return self.given


class Greets:
    def __init__(self, given: Any) -> None:
        self.given = given

    def opened(self, connection: Any) -> Any:
        return self.given

    def received(self, message: Any, connection: Any) -> None:
        """Say nothing."""


class GreetsLater(Greets):
    def opened(self, connection: Any) -> Any:
        return succeed(self.given)


def gathers(given: Any) -> Any:
    return batch(lambda messages, connection: [given for _ in messages])


def gathers_later(given: Any) -> Any:
    return batch(lambda messages, connection: succeed([given for _ in messages]))


FORMS: list[Callable[[Any], Any]] = [returns, fires, answers, Object, Greets, GreetsLater, gathers, gathers_later]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("value", "sent"), [(None, b"null\n"), ({"a": 1}, b'{"a":1}\n'), ([None], b"[null]\n")])
def test_a_reply_sends_its_value(form: Any, value: Any, sent: bytes) -> None:
    """`Reply` sends its value, also `None`, from the app of a server and of a client."""
    peer = Peer(form(Reply(value)), codec="json")
    peer.says(b"1\n")
    assert peer.hears() == sent
    transport = joined(MessageClientFactory(form(Reply(value)), codec="json", clock=peer.clock))
    transport.receive(b"1\n")
    assert transport.value() == sent
    assert peer.told(AppFailed) == []


@pytest.mark.parametrize("form", [each for each in FORMS if each not in (gathers, gathers_later)])
def test_none_alone_is_no_reply(form: Any) -> None:
    """`None` alone sends nothing, except in the list of a batch, where it is a value."""
    peer = Peer(form(None), codec="json")
    peer.says(b"1\n")
    assert (peer.hears(), peer.told(AppFailed)) == (b"", [])


@pytest.mark.parametrize("form", FORMS)
def test_without_a_codec_a_reply_is_its_bytes(form: Any) -> None:
    """Without a codec, a `Reply` of bytes sends the same as the bytes alone."""
    peer = Peer(form(Reply(b"hello")))
    peer.says(b"1\n")
    assert (peer.hears(), peer.told(AppFailed)) == (b"hello\n", [])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("value", "said"), [(None, r"^Reply\(None\): takes bytes"), ("text", "is bytes, not str")])
def test_without_a_codec_a_reply_of_anything_else_is_the_apps_failure(form: Any, value: Any, said: str) -> None:
    """Without a codec, a `Reply` of another value closes the connection, and the error names a valid form."""
    peer = Peer(form(Reply(value)))
    peer.says(b"1\n")
    peer.leaves()
    [failed] = peer.told(AppFailed)
    assert (peer.reason.rule, failed.failure.type) == ("app-failed", UnsendableMessage)
    with pytest.raises(UnsendableMessage, match=said):
        failed.failure.raiseException()


@pytest.mark.parametrize("form", FORMS)
def test_a_value_that_the_codec_cannot_send_is_the_apps_failure(form: Any) -> None:
    """A codec cannot encode a `Reply` within a `Reply`, so the app has failed."""
    peer = Peer(form(Reply(Reply(1))), codec="json")
    peer.says(b"1\n")
    peer.leaves()
    assert [each.failure.type for each in peer.told(AppFailed)] == [UnsendableMessage]


def test_replies_stand_among_others_in_their_order() -> None:
    """`Reply` objects and plain replies are sent in order, up to the first one that cannot be sent."""
    peer = Peer(batch(lambda messages, connection: [b"1", Reply(b"2"), b"3", Reply(None), b"5"]))
    peer.says(b"go\n")
    assert peer.hears() == b"1\n2\n3\n"
    values = iter([Reply(None), 2, None, Reply(4)])
    peer = Peer(lambda message, connection: next(values), codec="json")
    peer.says(b"0\n0\n0\n0\n")
    assert peer.hears() == b"null\n2\n4\n"


def test_the_replies_before_one_that_cannot_be_encoded_are_sent() -> None:
    """If a batch returns a Deferred of a list, the replies before an unencodable one are sent."""
    peer = Peer(batch(lambda messages, connection: succeed([1, Reply(None), object(), 4])), codec="json")
    peer.says(b"0\n")
    assert peer.hears() == b"1\nnull\n"
    assert len(peer.told(AppFailed)) == 1


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(("options", "value", "sent"), [({"codec": "json"}, None, b"null\n"), ({}, b"bye", b"bye\n")])
def test_draining_can_return_a_reply(options: Any, value: Any, sent: bytes, later: bool) -> None:
    """`draining` can return a `Reply`, at once or later, and its value is sent."""

    class App:
        def received(self, message: Any, connection: Any) -> Deferred[Any]:
            return Deferred()

        def draining(self, connection: Any) -> Any:
            return succeed(Reply(value)) if later else Reply(value)

    peer = Peer(App(), **options)
    peer.says(b"1\n")
    peer.connection.drain()
    assert peer.hears() == sent


@pytest.mark.parametrize("made", [False, True])
def test_a_heartbeat_can_be_a_reply(made: bool) -> None:
    """A heartbeat can be `Reply(None)`, because `None` alone is no heartbeat."""
    heartbeat: Any = (lambda connection: Reply(None)) if made else Reply(None)
    peer = Peer(None, codec="json", heartbeat=heartbeat, timeouts=Timeouts(heartbeat=10, first_message=0))
    peer.clock.advance(10)
    assert peer.hears() == b"null\n"


def test_none_can_be_sent_and_requested() -> None:
    """With JSON, ``send(None)`` and ``request(None)`` send null, and null is received as `None`."""
    peer = Peer(codec="json")
    sent = peer.connection.send(None)
    asked = peer.connection.request(None)
    peer.says(b"null\n")
    assert (sent.result, asked.result, peer.hears()) == (None, None, b"null\nnull\n")


@pytest.mark.parametrize("codec", [None, "text"])
def test_none_cannot_be_sent_without_a_null(codec: str | None) -> None:
    """If no value of the codec is `None`, sending `None` fails, and the connection stays open."""
    peer = Peer(codec=codec)
    failures: list[Any] = []
    peer.connection.send(None).addErrback(failures.append)
    peer.connection.request(None).addErrback(failures.append)
    assert ([each.type for each in failures], peer.closing) == ([UnsendableMessage] * 2, False)


def test_a_request_is_answered_with_none(hosts: Hosts) -> None:
    """A request gets `None` from `Reply(None)` of a server's app, and of a client's app."""
    weather = {"rome": "sun"}
    server = hosts.listen(lambda city, connection: Reply(weather.get(city)), codec="json")
    client = hosts.connect(codec="json", app=lambda message, connection: Reply(None))
    assert [hosts.run(client.request(city)) for city in ("rome", "oslo")] == ["sun", None]
    [connection] = server.connections
    assert hosts.run(connection.request("anything")) is None


@pytest_twisted.ensureDeferred
async def test_null_goes_over_a_loopback_port() -> None:
    """Over a loopback port, a client gets a null reply as `None`."""
    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", lambda key, _: Reply({"a": 1}.get(key)), codec="json")
    client = await tcpapp.connect(f"tcp:127.0.0.1:{server.port}", codec="json")
    assert [await client.request("a"), await client.request("b")] == [1, None]
    await client.close()
    await server.close()


def test_a_reply_is_compared_by_its_value() -> None:
    """Two `Reply` objects with equal values are equal, so that an app can be tested without a connection."""
    assert Reply(None) == Reply(None) != Reply(0)
    assert (Reply([1]) == Reply([1]), Reply(1) == 1, hash(Reply(1)) == hash(Reply(1))) == (True, False, True)
    assert repr(Reply("a")) == "Reply('a')"
