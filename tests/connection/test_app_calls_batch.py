"""The batch form: an app that gets all messages that came together, and returns their replies."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from tcpapp import batch
from tcpapp.codecs import Json
from tcpapp.errors import InvalidOption
from tcpapp.limits import Limits
from tcpapp.telemetry import AppFailed
from tests.peers import Peer


@batch
def shout(messages: list[bytes], connection: Any) -> list[bytes]:
    """Reply in capitals."""
    return [message.upper() for message in messages]


def test_a_chunk_is_one_call_and_one_write() -> None:
    """A batch app is called once with all messages of a chunk, and its replies are sent in one write."""
    called: list[list[bytes]] = []
    peer = Peer(batch(lambda messages, _: called.append(messages) or [b"<", *messages, b">"]))
    peer.says(b"a\nb\nc\n")
    peer.says(b"d\n")
    assert called == [[b"a", b"b", b"c"], [b"d"]]
    assert peer.transport.writes == [b"<\na\nb\nc\n>\n", b"<\nd\n>\n"]


def test_a_batch_is_still_a_function() -> None:
    """A function with `@batch` can be called, and keeps its name and docstring."""
    assert shout([b"a"], None) == [b"A"]
    assert (shout.__name__, shout.__doc__) == ("shout", "Reply in capitals.")


def test_no_reply_is_none_or_an_empty_list() -> None:
    """A batch app that returns None or an empty list sends nothing, and the connection stays open."""
    for nothing in (None, []):
        peer = Peer(batch(lambda messages, _, nothing=nothing: nothing))
        peer.says(b"a\nb\n")
        assert peer.hears() == b""
        assert peer.connection.state.name == "OPEN"


def test_an_object_can_have_received_all() -> None:
    """An app that is a class or an instance can have `received_all`, which gets the messages of a chunk."""

    class Room:
        def opened(self, connection: Any) -> Any:
            return succeed(b"welcome")

        def received_all(self, messages: list[bytes], connection: Any) -> list[bytes]:
            return messages[::-1]

    for app in (Room, Room()):
        peer = Peer(app)
        peer.says(b"a\nb\n")
        assert peer.hears() == b"welcome\nb\na\n"


def test_an_app_cannot_have_both_received_and_received_all() -> None:
    """An app with `received` and `received_all` is refused, as is a batch function without a `connection` argument."""

    class Both:
        def received(self, message: bytes, connection: Any) -> None: ...
        def received_all(self, messages: list[bytes], connection: Any) -> None: ...

    with pytest.raises(InvalidOption, match="has received and received_all; one of them is called"):
        Peer(Both)
    with pytest.raises(InvalidOption, match=r"takes \(messages, connection\)"):
        batch(lambda messages: messages)  # type: ignore[arg-type, misc]


def test_messages_that_come_while_a_batch_waits_are_the_next_batch() -> None:
    """Messages that arrive while a batch waits for its Deferred are handled together in the next batch."""
    waiting: list[Deferred[Any]] = []
    called: list[list[bytes]] = []

    @batch
    def later(messages: list[bytes], connection: Any) -> Any:
        called.append(messages)
        waiting.append(Deferred())
        return waiting[-1]

    peer = Peer(later)
    peer.says(b"a\nb\n")
    peer.says(b"c\n")
    peer.says(b"d\ne\n")
    assert called == [[b"a", b"b"]]
    waiting[0].callback([b"1", b"2"])
    assert called == [[b"a", b"b"], [b"c", b"d", b"e"]]
    waiting[1].callback(None)
    assert peer.hears() == b"1\n2\n"


def test_a_coroutine_can_take_batches() -> None:
    """A coroutine function with `@batch` gets a list, and its replies are sent in one write."""

    @batch
    async def app(messages: list[bytes], connection: Any) -> list[bytes]:
        return messages

    peer = Peer(app)
    peer.says(b"a\nb\n")
    assert peer.transport.writes == [b"a\nb\n"]


def test_with_a_codec_a_batch_has_values() -> None:
    """With a codec, a batch app gets values and returns values, also by a Deferred, or None."""
    for app in (
        batch(lambda values, _: [value + 1 for value in values]),
        batch(lambda values, _: succeed([value + 1 for value in values])),
        batch(lambda values, _: None),
    ):
        peer = Peer(app, codec=Json())
        peer.says(b"1\n2\n")
        assert peer.hears() in (b"2\n3\n", b"")


@pytest.mark.parametrize("wrong", [b"bytes", (b"a",), 7])
@pytest.mark.parametrize("late", [False, True])
def test_a_batch_that_returns_no_list_ends_the_connection(wrong: Any, late: bool) -> None:
    """A batch app that returns anything but a list or None ends the connection, and `AppFailed` is emitted."""
    peer = Peer(batch(lambda messages, _: succeed(wrong) if late else wrong))
    peer.says(b"a\n")
    assert peer.hears() == b""
    assert peer.connection.state.name != "OPEN"
    assert peer.told(AppFailed)


def test_an_unsendable_reply_ends_the_connection_after_the_replies_before_it() -> None:
    """Replies before an unsendable one are sent; then the connection ends, and `AppFailed` is emitted."""
    peer = Peer(batch(lambda messages, _: [b"fine", "not bytes", b"never"]))
    peer.says(b"a\n")
    assert peer.hears() == b"fine\n"
    assert peer.connection.state.name != "OPEN"
    assert peer.told(AppFailed)


def test_a_batch_that_raises_ends_the_connection() -> None:
    """A batch app that raises ends the connection, and `AppFailed` has its exception."""
    peer = Peer(batch(lambda messages, _: 1 / 0))
    peer.says(b"a\n")
    assert peer.connection.state.name != "OPEN"
    assert peer.told(AppFailed)[0].failure.check(ZeroDivisionError)


def test_a_flood_comes_in_batches_of_a_turn() -> None:
    """A batch has at most ``messages_per_turn`` messages, so that other connections have turns between."""
    sizes: list[int] = []
    peer = Peer(batch(lambda messages, _: sizes.append(len(messages))), limits=Limits(messages_per_turn=100))
    peer.says(b"a\n" * 250)
    peer.clock.advance(1)
    assert max(sizes) == 100
    assert sum(sizes) == 250
