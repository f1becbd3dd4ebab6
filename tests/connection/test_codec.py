"""A connection with a codec: the app gets values, and replies with values."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from tcpapp import batch, conversation
from tcpapp.codecs import Codec
from tcpapp.codecs.structured import UNCOLLECTED
from tcpapp.errors import NotConnected
from tcpapp.telemetry import AppFailed
from tests.peers import AbruptTransport, Peer, Switch, outcome


class Careless(Codec[Any]):
    """A codec that breaks its promise to raise `UnsendableMessage` only."""

    name = "careless"

    def decode(self, message: bytes) -> bytes:
        return message

    def encode(self, value: Any) -> bytes:
        raise ZeroDivisionError


@pytest.mark.parametrize("reply", [lambda: b"x", lambda: succeed(b"x")], ids=["returned", "deferred"])
def test_a_codec_that_fails_is_the_apps_failure(reply: Any) -> None:
    """A codec that raises another error than it promises closes the connection as a failure of the app."""
    peer = Peer(lambda *_: reply(), codec=Careless())
    peer.says(b"1\n2\n")
    peer.leaves()
    assert peer.reason.rule == "app-failed"
    [failed] = peer.told(AppFailed)
    assert failed.failure.check(ZeroDivisionError)


@pytest.mark.parametrize(("size", "on"), [(UNCOLLECTED, False), (UNCOLLECTED - 1, True)])
@pytest.mark.parametrize("fails", [False, True])
def test_the_collector_does_not_run_while_an_app_answers_a_large_message(size: int, on: bool, fails: bool) -> None:
    """
    The garbage collector is off while an app has a large value, which is freed with the reply.

    Then it is restored.
    """
    seen: list[bool] = []

    def app(value: str, _: object) -> str:
        seen.append(gc.isenabled())
        if fails:
            raise ZeroDivisionError
        return value

    peer = Peer(app, codec="json")
    before = gc.isenabled()
    gc.enable()
    try:
        peer.says(b'"' + b"a" * (size - 2) + b'"\n')
        assert (seen, gc.isenabled()) == ([on], True)
        gc.disable()
        peer.says(b"1\n" * (not fails))
        assert not gc.isenabled()
    finally:
        (gc.enable if before else gc.disable)()
    assert len(peer.told(AppFailed)) == fails


@pytest.mark.parametrize("later", [False, True])
def test_values_are_decoded_before_the_app_and_encoded_after(later: bool) -> None:
    """With a codec, the app gets and sends only values, whether it replies at once or later."""

    def app(message: str, connection: Any) -> Any:
        assert isinstance(message, str)
        connection.send("sent")
        return succeed(message.upper()) if later else message.upper()

    peer = Peer(app, codec="text")
    peer.says("hallå\n".encode())
    assert peer.hears() == "sent\nHALLÅ\n".encode()


@pytest.mark.parametrize("later", [False, True])
def test_the_value_that_opened_returns_is_a_greeting_encoded_as_any_reply(later: bool) -> None:
    """The codec encodes the greeting that `opened` returns, at once or later."""

    class App:
        def opened(self, connection: Any) -> Any:
            return succeed("hallå") if later else "hallå"

    assert Peer(App(), codec="text").hears() == "hallå\n".encode()


def test_the_messages_before_an_undecodable_one_are_answered_also_when_the_app_is_slow() -> None:
    """Messages before an undecodable one are answered. Then the connection closes, and handles no more."""
    app = Switch()
    peer = Peer(app, codec="text")
    peer.says(b"1\n2\n\xff\n3\n")
    peer.slips_in(b"4\n")
    assert not peer.closing
    app.pending[0].callback("one")
    app.pending[1].callback("two")
    assert app.seen == ["1", "2"]
    assert peer.hears() == b"one\ntwo\n"
    assert peer.closing
    peer.leaves()
    assert peer.reason.rule == "undecodable-message"
    assert peer.told(AppFailed) == []


def test_an_undecodable_message_after_the_peers_end_is_the_reason() -> None:
    """An undecodable message that is reached after the peer's clean half-close is the reason of the end."""
    peer = Peer(codec="json")
    peer.says(b"1\n{]\n")
    peer.half_closes()
    assert outcome(peer.connection.receive()) == [1]
    [error] = outcome(peer.connection.receive())
    assert error.reason.rule == "undecodable-message"
    peer.connection.close()
    peer.leaves()
    assert peer.reason.rule == "undecodable-message"


def test_a_batch_that_begins_with_an_undecodable_message_calls_no_app() -> None:
    """If no message precedes the undecodable one, the app is not called with an empty batch."""
    batches: list[list[Any]] = []

    @batch
    def app(messages: list[Any], connection: Any) -> list[Any]:
        batches.append(messages)
        return messages

    peer = Peer(app, codec="json")
    peer.says(b"1\n2\n{]\n3\n")
    peer.leaves()
    assert (batches, peer.hears()) == ([[1, 2]], b"1\n2\n")
    assert peer.reason.rule == "undecodable-message"


def test_a_message_that_is_no_reply_waits_as_bytes_for_a_slow_app() -> None:
    """A message that was decoded to look for a reply waits as bytes, and is decoded again for the app."""
    app = Switch()
    peer = Peer(app, codec="json", key=lambda value: value.get("id"))
    peer.connection.request({"id": 1}).addErrback(lambda _: None)
    peer.says(b'{"push":1}\n{"push":2}\n{"push":3}\n')
    assert (app.seen, peer.protocol._inbox.size) == ([{"push": 1}], 2 * (10 + 64))
    app.pending[0].callback(None)
    app.pending[1].callback(None)
    assert app.seen == [{"push": 1}, {"push": 2}, {"push": 3}]


def test_an_answer_that_its_canceller_gives_after_the_end_is_dropped() -> None:
    """If an app aborts the connection and returns a Deferred, a result that its canceller gives is dropped."""

    def app(message: bytes, connection: Any) -> Deferred[bytes]:
        connection.abort()
        return Deferred(lambda answer: answer.callback(b"late"))

    peer = Peer(app, transport=AbruptTransport())
    peer.says(b"1\n")
    assert (peer.reason.rule, peer.hears(), peer.told(AppFailed)) == ("aborted", b"", [])


@pytest.mark.parametrize("half", [False, True])
def test_a_conversation_that_finds_an_undecodable_message_at_the_end_gets_that_reason(half: bool) -> None:
    """
    A conversation that finds an undecodable message at the end gets that reason.

    The connection keeps its own reason.
    """
    told: list[Any] = []
    gate: Deferred[None] = Deferred()

    @conversation
    async def talk(connection: Any) -> None:
        await gate
        try:
            while True:
                told.append(await connection.receive())
        except NotConnected as error:
            told.append(error.reason.rule)

    peer = Peer(talk, codec="json")
    peer.says(b"1\n{]\n")
    if half:
        peer.half_closes()
        peer.transport.turn()
    peer.clock.rightNow += 1
    gate.callback(None)
    assert told == []
    peer.transport.lose()
    assert (told, peer.reason.rule) == ([1, "undecodable-message"], "end-of-stream")
