"""The calls of an app: the replies to one chunk are framed together, and written once."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from twisted.internet.defer import Deferred, succeed

from tcpapp.framing import Lines
from tcpapp.limits import Limits
from tests.peers import Peer, stalled


class Counting(Lines):
    """Lines, with a count of the calls that frame."""

    framed: ClassVar[list[int]] = []

    def frame(self, message: bytes) -> bytes:
        self.framed.append(1)
        return super().frame(message)

    def frame_all(self, messages: list[bytes]) -> bytes:
        self.framed.append(len(messages))
        return b"".join([Lines.frame(self, message) for message in messages])


@pytest.mark.parametrize("count", [1, 2, 256])
def test_the_replies_to_a_chunk_are_framed_together_and_written_once(count: int) -> None:
    """
    The replies to a chunk are one call of the transport, however many messages the chunk has.

    They are also one call of the framing. Only the first chunk is framed in parts, because the app's time is measured.
    """
    Counting.framed.clear()
    peer = Peer(lambda message, _: message.upper(), Counting())
    for _ in range(2):
        peer.says(b"a\n" * count)
    assert Counting.framed[-1] == count
    assert sum(Counting.framed) == 2 * count
    assert peer.transport.writes == [b"A\n" * count] * 2
    assert peer.factory.info().sent_messages == 2 * count


def test_no_deferred_is_made_for_an_app_that_returns_its_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the app returns its reply, no Deferred is made."""
    peer = Peer(lambda message, _: message)
    made: list[Any] = []
    init = Deferred.__init__
    monkeypatch.setattr(Deferred, "__init__", lambda self, *args: made.append(self) or init(self, *args))
    peer.says(b"a\nb\nc\n")
    assert made == []
    assert peer.hears() == b"a\nb\nc\n"


def test_the_replies_of_async_functions_that_do_not_wait_are_written_once() -> None:
    """The replies of coroutines that return at once are one write for the whole chunk."""

    async def app(message: bytes, connection: Any) -> bytes:
        return message

    peer = Peer(app)
    peer.says(b"a\nb\nc\n")
    assert peer.transport.writes == [b"a\nb\nc\n"]


def test_sent_messages_and_replies_of_a_chunk_are_one_write() -> None:
    """Messages that the app sends inside `received` are part of the one write of the chunk."""

    def app(message: bytes, connection: Any) -> bytes:
        connection.send(b"sent")
        return message

    peer = Peer(app)
    peer.says(b"a\nb\n")
    assert peer.transport.writes == [b"sent\na\nsent\nb\n"]


def test_a_message_sent_inside_received_follows_the_replies_returned_before_it() -> None:
    """A message sent inside `received` follows the reply to the message before, and precedes the reply to this one."""

    def app(message: bytes, connection: Any) -> bytes:
        if message == b"2":
            connection.send(b"sent")
        return message

    peer = Peer(app)
    peer.says(b"1\n2\n3\n")
    assert peer.hears() == b"1\nsent\n2\n3\n"


def test_replies_over_the_write_mark_go_out_before_the_chunk_is_done() -> None:
    """Replies are written in parts of at most the write mark, before the whole chunk is handled."""
    peer = Peer(lambda message, _: b"x" * 600, limits=Limits(write_high=1000))
    peer.says(b"\n" * 10)
    assert max(map(len, peer.transport.writes)) <= 1000
    assert peer.hears() == (b"x" * 600 + b"\n") * 10


@pytest.mark.parametrize("kind", ["returned", "async", "fired"])
def test_an_app_is_called_no_more_once_its_replies_block_the_transport(kind: str) -> None:
    """In whatever way replies come, a peer that reads none is sent little more than the write mark."""
    calls: list[bytes] = []

    async def coroutine() -> bytes:
        return b"x" * 60_000

    def app(message: bytes, connection: Any) -> Any:
        calls.append(message)
        if kind == "async":
            return coroutine()
        return succeed(b"x" * 60_000) if kind == "fired" else b"x" * 60_000

    peer = stalled(app)
    peer.says(b"a\n" * 100)
    assert len(calls) == 2
    peer.transport.go_on()
    assert len(calls) == 100
    assert peer.hears() == (b"x" * 60_000 + b"\n") * 100
