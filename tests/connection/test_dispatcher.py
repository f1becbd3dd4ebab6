"""Dispatch: the app gets messages one at a time, in order."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed

from tcpapp.limits import Limits
from tests.peers import Peer, Switch, result_of

# Order ----------------------------------------------------------------------------------------------------------------


def test_messages_wait_while_the_deferred_of_one_is_pending() -> None:
    """The next message is handed to the app when the reply to the one before is there."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"1\n2\n")
    peer.says(b"3\n")
    assert app.seen == [b"1"]
    app.pending[0].callback(b"one")
    assert app.seen == [b"1", b"2"]
    app.pending[1].callback(None)
    app.pending[2].callback(b"three")
    assert app.seen == [b"1", b"2", b"3"]
    assert peer.hears() == b"one\nthree\n"


class Scripted:
    """An app that replies as its `script` says, and checks that it handles one message at a time."""

    def __init__(self, script: list[tuple[bytes, str]]) -> None:
        self.script = iter(script)
        self.seen: list[Any] = []
        self.in_hand: list[Any] = []
        self.pending: list[Deferred[None]] = []

    def received(self, message: Any, connection: Any) -> Any:
        assert self.in_hand == []
        self.seen.append(message)
        _, kind = next(self.script)
        return getattr(self, kind)(message, connection)

    def none(self, message: Any, connection: Any) -> None:
        """Reply nothing."""

    def now(self, message: Any, connection: Any) -> Any:
        return message

    def fired(self, message: Any, connection: Any) -> Any:
        return succeed(message)

    def later(self, message: Any, connection: Any) -> Any:
        return self.wait(message).addCallback(lambda _: self.in_hand.pop())

    async def coroutine(self, message: Any, connection: Any) -> Any:
        return message

    async def waits(self, message: Any, connection: Any) -> Any:
        await self.wait(message)
        return self.in_hand.pop()

    def sends(self, message: Any, connection: Any) -> None:
        connection.send(message)

    def pauses(self, message: Any, connection: Any) -> Any:
        connection.pause()
        connection.resume()
        return message

    def wait(self, message: Any) -> Deferred[None]:
        self.in_hand.append(message)
        self.pending.append(Deferred())
        return self.pending[-1]


KINDS = ["none", "now", "fired", "later", "coroutine", "waits", "sends", "pauses"]
TEXT = st.text(st.sampled_from("ab "), max_size=4).map(str.encode)


@given(
    script=st.lists(st.tuples(TEXT, st.sampled_from(KINDS)), max_size=12),
    cuts=st.sets(st.integers(1, 60)),
    fires=st.lists(st.booleans(), max_size=20),
    codec=st.sampled_from([None, "text"]),
    limits=st.sampled_from([Limits(), Limits(inbox_high=1, inbox_low=0), Limits(write_high=1)]),
)
def test_the_output_is_the_same_whatever_the_cut_and_whenever_the_deferreds_fire(
    script: list[tuple[bytes, str]], cuts: set[int], fires: list[bool], codec: str | None, limits: Limits
) -> None:
    """The app gets each message once, one at a time, in order, and the replies keep that order."""
    app = Scripted(script)
    peer = Peer(app, codec=codec, limits=limits)
    stream = b"".join(message + b"\n" for message, _ in script)
    edges = sorted({0, len(stream)} | {cut for cut in cuts if cut < len(stream)})
    when = iter(fires)
    for start, end in pairwise(edges):
        peer.says(stream[start:end])
        while app.pending and next(when, False):
            app.pending.pop(0).callback(None)
    peer.transport.turn()
    while app.pending:
        app.pending.pop(0).callback(None)
        peer.transport.turn()
    assert app.seen == [message if codec is None else message.decode() for message, _ in script]
    assert peer.hears() == b"".join(message + b"\n" for message, kind in script if kind != "none")
    assert not peer.paused


def test_a_message_that_arrives_inside_received_is_handled_after_the_chunk() -> None:
    """If an in-memory peer answers inside a `send()`, the order stays, and the calls of the app do not nest."""
    seen: list[bytes] = []
    deep: list[int] = [0]

    def app(message: bytes, connection: Any) -> bytes | None:
        assert deep == [0]
        deep[0] += 1
        seen.append(message)
        if message in (b"1", b"2"):
            connection.send(b"x" * 100)  # over the write mark, so it is written at once
        deep[0] -= 1
        return b"reply " + message

    peer = Peer(app, limits=Limits(write_high=50))
    answers = iter([b"5\n", b"6\n"])
    peer.transport.on_write = lambda data: data.startswith(b"x") and peer.says(next(answers, b""))
    peer.says(b"1\n2\n3\n4\n")
    assert seen == [b"1", b"2", b"3", b"4", b"5", b"6"]


@pytest.mark.parametrize("codec", [None, "text"])
def test_a_reply_that_arrives_while_the_request_is_written_keeps_the_order(codec: str | None) -> None:
    """Messages that wait behind the request's message are handled before messages that came with the reply."""
    seen: list[Any] = []
    text = {None: lambda value: value, "text": bytes.decode}[codec]

    def app(message: Any, connection: Any) -> Any:
        seen.append(message)
        return connection.request(text(b"question")) if message == text(b"1") else None

    peer = Peer(app, codec=codec)
    peer.transport.on_write = lambda data: data == b"question\n" and peer.says(b"answer\n4\n")
    peer.says(b"1\n2\n3\n")
    assert seen == [text(each) for each in (b"1", b"2", b"3", b"4")]
    assert peer.hears() == b"question\nanswer\n"


def test_a_reply_that_comes_while_the_chunk_is_written_is_sent() -> None:
    """If a reply arrives while its request is written, it is sent, even if no further message waits."""
    peer = Peer(lambda message, connection: connection.request(b"question"))
    peer.transport.on_write = lambda data: data == b"question\n" and peer.says(b"answer\n")
    peer.says(b"1\n")
    assert peer.hears() == b"question\nanswer\n"


def test_a_chunk_that_arrives_inside_a_replys_callback_is_handled_after_the_chunk() -> None:
    """With a codec and keys, a chunk that arrives inside the callback of a reply waits for the current chunk."""
    seen: list[str] = []
    peer = Peer(lambda message, _: seen.append(message), codec="text", key=key_of)
    peer.transport.on_write = lambda data: data == b"more\n" and peer.says(b"late\n")
    peer.connection.request("#1").addCallback(lambda _: peer.connection.send("more"))
    peer.says(b"before\n#1\nafter\n")
    assert seen == ["before", "after", "late"]


def test_messages_that_arrive_inside_the_app_are_not_handled_after_an_undecodable_one() -> None:
    """After an undecodable message no message is handled, even if it arrived while the app was called."""
    seen: list[str] = []

    def app(message: str, connection: Any) -> None:
        seen.append(message)
        connection.send("x" * 100)

    peer = Peer(app, codec="text", limits=Limits(write_high=50))
    peer.transport.on_write = lambda data: peer.slips_in(b"late\n")
    peer.says(b"1\n2\n\xff\n")
    assert seen == ["1", "2"]
    peer.leaves()
    assert peer.reason.rule == "undecodable-message"


def key_of(message: str) -> str | None:
    return message if message.startswith("#") else None


# Pauses, and messages that wait ---------------------------------------------------------------------------------------


def test_pausing_and_resuming_inside_received_delivers_each_message_once() -> None:
    """If the app pauses and resumes inside `received`, each message is handed over once."""
    seen: list[bytes] = []

    def app(message: bytes, connection: Any) -> bytes:
        seen.append(message)
        connection.pause()
        connection.resume()
        return message

    peer = Peer(app)
    peer.says(b"1\n2\n3\n")
    assert seen == [b"1", b"2", b"3"]
    assert peer.hears() == b"1\n2\n3\n"


def test_a_pause_inside_received_holds_the_rest_of_the_chunk() -> None:
    """After `pause()` inside `received` no message is handed over. After `resume()` each is handed over once."""
    seen: list[bytes] = []

    def app(message: bytes, connection: Any) -> bytes:
        seen.append(message)
        if message == b"2":
            connection.pause()
        return message

    peer = Peer(app)
    peer.says(b"1\n2\n3\n")
    peer.says(b"4\n")
    assert seen == [b"1", b"2"]
    assert peer.hears() == b"1\n2\n"
    peer.connection.resume()
    assert seen == [b"1", b"2", b"3", b"4"]
    assert peer.transport.writes == [b"1\n2\n", b"3\n4\n"]


def test_resuming_does_not_hurry_an_app_that_is_behind() -> None:
    """A message waits while the connection is paused, and also while a Deferred of the app is pending."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"1\n2\n")
    peer.connection.pause()
    peer.connection.resume()
    assert app.seen == [b"1"]
    peer.connection.pause()
    app.pending[0].callback(None)
    assert app.seen == [b"1"]
    peer.connection.resume()
    assert app.seen == [b"1", b"2"]


def test_a_receive_takes_one_message_and_leaves_the_rest_of_the_chunk_to_the_app() -> None:
    """A `receive()` takes one message, and the app gets the messages behind it at once."""
    seen: list[bytes] = []
    peer = Peer(lambda message, _: seen.append(message))
    received = peer.connection.receive()
    peer.says(b"1\n2\n3\n")
    assert result_of(received) == b"1"
    assert seen == [b"2", b"3"]


def test_a_receive_inside_received_takes_the_next_message() -> None:
    """Inside `received`, an app can receive the next message, which belongs to the current one."""

    async def app(message: bytes, connection: Any) -> bytes:
        return message + await connection.receive()

    peer = Peer(app)
    peer.says(b"1\n2\n3\n")
    assert peer.hears() == b"12\n"
    peer.says(b"4\n")
    assert peer.hears() == b"34\n"


def test_resuming_inside_a_receives_callback_keeps_what_was_sent_there() -> None:
    """If the callback of a `receive()` sends and then resumes, the sent message comes before the replies."""
    peer = Peer(lambda message, _: message)
    peer.connection.pause()

    def on(message: bytes) -> None:
        peer.connection.send(b"sent")
        peer.connection.resume()

    peer.connection.receive().addCallback(on)
    peer.says(b"1\n2\n3\n")
    assert peer.hears() == b"sent\n2\n3\n"


def test_an_answer_that_fires_inside_a_receives_callback_is_sent() -> None:
    """The callback of a `receive()` can fire the pending reply of the app, and the reply is sent."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"1\n")
    peer.connection.receive().addCallback(lambda message: app.pending[0].callback(b"got " + message))
    peer.says(b"2\n3\n")
    assert peer.hears() == b"got 2\n"
    assert app.seen == [b"1", b"3"]
