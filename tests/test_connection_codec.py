"""A connection with a codec: values to the app, values back."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import succeed

from tcpapp.codecs import Codec
from tcpapp.telemetry import AppFailed
from tests.peers import Peer, Switch


class Careless(Codec[Any]):
    """A codec that breaks its promise to raise `UnsendableMessage` only."""

    name = "careless"

    def decode(self, message: bytes) -> bytes:
        return message

    def encode(self, value: Any) -> bytes:
        raise ZeroDivisionError


@pytest.mark.parametrize("reply", [lambda: b"x", lambda: succeed(b"x")], ids=["returned", "deferred"])
def test_a_codec_that_fails_is_the_apps_failure(reply: Any) -> None:
    """A codec of the user's that breaks its promise closes the connection, and leaves none hanging."""
    peer = Peer(lambda *_: reply(), codec=Careless())
    peer.says(b"1\n2\n")
    peer.leaves()
    assert peer.reason.rule == "app-failed"
    [failed] = peer.told(AppFailed)
    assert failed.failure.check(ZeroDivisionError)


@pytest.mark.parametrize("later", [False, True])
def test_values_are_decoded_before_the_app_and_encoded_after(later: bool) -> None:
    """With a codec the app sees values only, whether it replies at once or later."""

    def app(message: str, connection: Any) -> Any:
        assert isinstance(message, str)
        connection.send("sent")
        return succeed(message.upper()) if later else message.upper()

    peer = Peer(app, codec="text")
    peer.says("hallå\n".encode())
    assert peer.hears() == "sent\nHALLÅ\n".encode()


@pytest.mark.parametrize("later", [False, True])
def test_the_value_that_opened_returns_is_a_greeting_encoded_as_any_reply(later: bool) -> None:
    """The codec stands before everything the app gives."""

    class App:
        def opened(self, connection: Any) -> Any:
            return succeed("hallå") if later else "hallå"

    assert Peer(App(), codec="text").hears() == "hallå\n".encode()


def test_the_messages_before_an_undecodable_one_are_answered_also_when_the_app_is_slow() -> None:
    """What came whole and sound is handled; then the connection is closed, and nothing further is taken."""
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
