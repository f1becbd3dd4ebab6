"""An app that fails closes its connection, and no other."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tcpapp.errors import UnsendableMessage
from tcpapp.framing import Framing, Lines
from tcpapp.telemetry import AppFailed, Closed
from tcpapp.testing.transport import FakeTransport
from tests.peers import NOTHING, Peer, Switch, result_of


def raising(message: bytes, connection: Any) -> Any:
    if message == b"bad":
        raise ZeroDivisionError("the app's own mistake")
    return message


def failing(message: bytes, connection: Any) -> Any:
    return fail(ZeroDivisionError("the app's own mistake")) if message == b"bad" else message


async def raising_later(message: bytes, connection: Any) -> Any:
    return raising(message, connection)


@pytest.mark.parametrize("app", [raising, failing, raising_later])
def test_an_app_that_fails_closes_its_connection_once_the_replies_before_are_sent(app: Any) -> None:
    """Earlier replies are sent, later messages are not handled, and the event has the traceback."""
    peer = Peer(app)
    peer.says(b"1\n2\nbad\n3\n")
    assert peer.hears() == b"1\n2\n"
    assert peer.closing
    peer.leaves()
    assert (peer.reason.rule, str(peer.reason.by)) == ("app-failed", "us")
    assert isinstance(peer.reason.error, ZeroDivisionError)
    [failed] = peer.told(AppFailed)
    assert "the app's own mistake" in failed.failure.getTraceback()
    [closed] = peer.told(Closed)
    assert closed.unhandled == 1


@pytest.mark.parametrize("reply", ["text", bytearray(b"x"), 7, [b"x"], b"two\nlines", b"x" * 2**21, object()])
@pytest.mark.parametrize("later", [False, True])
def test_a_reply_that_cannot_be_sent_is_the_apps_failure(reply: Any, later: bool) -> None:
    """
    A reply that is not bytes, or does not fit the framing, closes the connection once the earlier replies are sent.
    """
    peer = Peer(lambda message, _: (succeed(reply) if later else reply) if message == b"bad" else message)
    peer.says(b"1\n2\nbad\n3\n")
    assert peer.hears() == b"1\n2\n"
    peer.leaves()
    assert peer.reason.rule == "app-failed"
    assert len(peer.told(AppFailed)) == 1


def test_replies_that_cannot_be_framed_together_are_framed_one_by_one() -> None:
    """If a framing refuses to frame the replies together, each reply is framed alone, and none is lost."""

    class Odd(Lines):
        def frame_all(self, messages: list[bytes]) -> bytes:
            raise UnsendableMessage("not today")

    peer = Peer(lambda message, _: message, Odd())
    peer.says(b"1\n2\n")
    assert peer.hears() == b"1\n2\n"
    assert not peer.closing


def test_a_late_reply_that_cannot_be_sent_is_the_apps_failure() -> None:
    """A Deferred that fires later with an unsendable reply is a failure of the app."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"1\n2\n")
    app.pending[0].callback("text")
    peer.leaves()
    assert app.seen == [b"1"]
    assert peer.reason.rule == "app-failed"


def test_a_deferred_that_fails_later_closes_the_connection() -> None:
    """If a Deferred fails later, the connection closes, and the waiting messages are not handled."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"1\n2\n")
    app.pending[0].errback(ZeroDivisionError())
    assert peer.closing
    assert app.seen == [b"1"]
    peer.leaves()
    assert peer.reason.rule == "app-failed"


def test_a_reply_that_comes_after_the_end_is_dropped() -> None:
    """A reply that the app gives after the end is dropped, because no peer can receive it."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"1\n2\n")
    peer.resets()
    app.pending[0].callback(b"one")
    assert peer.hears() == b""
    assert app.seen == [b"1"]


def test_a_failure_after_the_end_is_reported_but_changes_no_reason() -> None:
    """If the app fails when its answer is cancelled at the end, the failure is reported, and the reason stays."""

    async def app(message: bytes, connection: Any) -> None:
        try:
            await Deferred()
        finally:
            raise ZeroDivisionError

    peer = Peer(app)
    peer.says(b"1\n")
    peer.resets()
    assert len(peer.told(AppFailed)) == 1
    assert peer.reason.rule == "lost"


def test_an_app_that_fails_on_one_connection_serves_the_other() -> None:
    """An app that fails on one connection goes on to serve the other."""
    first = Peer(raising)
    second = FakeTransport(protocol=first.factory.buildProtocol(None))
    first.says(b"bad\n")
    second.receive(b"good\n")
    assert first.closing
    assert second.value() == b"good\n"


def test_a_framing_is_handed_each_chunk_once() -> None:
    """A chunk costs one call of `receive`, however many messages the chunk has."""
    chunks: list[bytes] = []

    class Watched(Lines):
        def receive(self, chunk: bytes) -> list[bytes]:
            chunks.append(chunk)
            return Lines.receive(self, chunk)

    framing: Framing = Watched()
    peer = Peer(lambda message, _: message, framing)
    peer.says(b"1\n2\n3")
    peer.says(b"\n")
    assert chunks == [b"1\n2\n3", b"\n"]
    assert result_of(peer.connection.receive()) is NOTHING
