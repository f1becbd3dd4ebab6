"""
Whatever an app that works on several messages at once does, and however its connection ends: no reply is lost, doubled
or out of its order, and nothing is left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed

from tcpapp import Limits, Timeouts
from tcpapp.telemetry import AppFailed
from tests.peers import AbruptTransport, NotedTransport, Peer, TurnClock

KINDS = ["now", "now", "none", "fired", "later", "later", "later", "waits", "waits"]
STREAMS = ["stream", "stream-later"]
FAILING = [*KINDS, *KINDS, *STREAMS, "raises", "wrong"]


class Broken(Exception):
    """An error of the app."""


class App:
    """
    An app that answers each message in the way that its text asks for, and notes which messages it was called with.

    `answered` are its replies: the number of the message, and a number that counts the messages of a stream. `open`
    counts the streams that have begun and not ended. `pending` are the Deferreds of its replies by number, until it
    answers. The connection can cancel them.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.called: list[int] = []
        self.answered: list[tuple[int, int]] = []
        self.open = 0
        self.failed: list[int] = []
        self.cancelled: list[int] = []
        self.pending: dict[int, Deferred[Any]] = {}

    def received(self, message: bytes, connection: Any) -> Any:
        number, kind = int(message.split()[0]), message.split()[1].decode()
        assert len(self.waiting) < self.most, "more messages at once than the concurrency"
        self.called.append(number)
        if kind in ("later", "waits"):
            self.pending[number] = Deferred(lambda _: self.cancelled.append(number))
            return self.pending[number] if kind == "later" else self.wait(number)
        if kind.startswith("stream"):
            return self.stream(number) if kind == "stream" else self.stream_later(number)
        if kind == "raises":
            self.failed.append(number)
            raise Broken
        if kind == "wrong":
            self.failed.append(number)
            return "no bytes"
        if kind == "none":
            return None
        return self.reply(number) if kind == "now" else succeed(self.reply(number))

    def reply(self, number: int, part: int = 0) -> bytes:
        """Return a reply, and note it."""
        self.answered.append((number, part))
        return b"%d.%d" % (number, part)

    def stream(self, number: int) -> Iterator[bytes]:
        """Answer with several messages."""
        self.open += 1
        try:
            for part in range(3):
                yield self.reply(number, part)
        finally:
            self.open -= 1

    async def stream_later(self, number: int) -> AsyncIterator[bytes]:
        """Answer with a message, then with what the test answers, and with another message."""
        self.open += 1
        try:
            yield self.reply(number, 0)
            self.pending[number] = Deferred(lambda _: self.cancelled.append(number))
            if await self.pending[number] is not None:
                yield self.reply(number, 1)
            yield self.reply(number, 2)
        finally:
            self.open -= 1

    @property
    def waiting(self) -> list[int]:
        """The messages that it can still answer."""
        return [number for number, deferred in self.pending.items() if not deferred.called]

    async def wait(self, number: int) -> Any:
        """Answer as a coroutine."""
        return await self.pending[number]

    def answer(self, place: int, how: str) -> None:
        """Answer a message that is pending."""
        if self.waiting:
            number = self.waiting[place % len(self.waiting)]
            deferred = self.pending.pop(number)
            if how == "reply" and (number, 0) in self.answered:  # a stream
                deferred.callback(True)
            elif how == "reply":
                deferred.callback(self.reply(number))
            elif how == "none":
                deferred.callback(None)
            else:
                self.failed.append(number)
                deferred.errback(Broken()) if how == "fail" else deferred.cancel()


class Model:
    """A connection, its app and its peer."""

    def __init__(self, most: int, replies: str, transport: type[NotedTransport], limits: Limits) -> None:
        self.app = App(most)
        self.replies = replies
        self.said = 0
        self.clock = TurnClock()
        self.peer = Peer(
            self.app,
            transport=transport(clock=self.clock),
            concurrency=most,
            replies=replies,
            limits=limits,
            timeouts=Timeouts(first_message=0, idle=0, handler_timeout=30, half_close=0, send_progress=0),
        )

    def say(self, kinds: list[str]) -> None:
        """Send a chunk with a message of each kind."""
        if not self.peer.transport.disconnected:
            lines = [b"%d %s\n" % (self.said + place, kind.encode()) for place, kind in enumerate(kinds)]
            self.said += len(kinds)
            self.peer.says(b"".join(lines))

    def end(self, how: str) -> None:
        """End the connection."""
        connection, transport = self.peer.connection, self.peer.transport
        if how == "time":
            self.clock.advance(30)
        elif how == "half":
            transport.half_close()
        elif how == "reset":
            self.peer.resets()
        elif how == "drain":
            connection.drain(0.0 if self.said % 2 else 60)
        else:
            getattr(connection, how)()

    def finish(self, reply: bool) -> None:
        """Answer what is pending, if `reply` is set, and let the connection end."""
        peer = self.peer
        if not peer.transport.disconnected:
            peer.transport.go_on()
        while reply and self.app.waiting and not peer.transport.disconnected:
            self.app.answer(0, "reply")
            self.clock.advance(0)
        peer.transport.turn()
        if not peer.transport.disconnected:
            peer.resets()
        self.clock.advance(0)

    def check(self, orderly: bool) -> None:
        """Check what the peer heard. After an `orderly` end it has heard all replies."""
        app = self.app
        heard = [tuple(map(int, each.split(b"."))) for each in self.peer.hears().split(b"\n")[:-1]]
        assert app.called == list(range(len(app.called))), "each message once, in order"
        assert len(heard) == len(set(heard)), "no reply twice"
        assert set(heard) <= set(app.answered)
        if self.replies == "in-order":
            assert heard == sorted(heard)
            before = [each for each in sorted(app.answered) if not app.failed or each[0] <= min(app.failed)]
            assert heard == before[: len(heard)], "no reply is missing before another"
        if orderly and not app.failed:
            assert sorted(heard) == sorted(app.answered)
            assert len(app.called) == self.said

    def check_nothing_is_left(self) -> None:
        """Check that nothing is counted, and nothing waits."""
        peer, app = self.peer, self.app
        info = peer.protocol.info()
        assert (info.state, info.in_flight, info.buffered, info.unsent) == ("closed", 0, 0, 0)
        assert (peer.factory.info().buffered, self.clock.getDelayedCalls()) == (0, [])
        assert app.open == 0, "each stream is closed"
        assert all(each.called for each in app.pending.values()), "each message that was not answered is cancelled"
        for each in peer.told(AppFailed):
            assert each.failure.type is not CancelledError or app.failed


SIZES = st.sampled_from([Limits(), Limits(write_high=3), Limits(write_high=3, max_unsent=9)])
SAY = st.tuples(st.just("say"), st.lists(st.sampled_from(FAILING), min_size=1, max_size=8))
SAY_WELL = st.tuples(st.just("say"), st.lists(st.sampled_from([*KINDS, *STREAMS]), min_size=1, max_size=8))
ANSWER = st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from(["reply", "reply", "none", "fail", "cancel"]))
ANSWER_WELL = st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from(["reply", "reply", "none"]))
FLOW = st.tuples(st.sampled_from(["stall", "go_on", "turn", "pause", "resume"]))
ENDS = st.sampled_from(["half", "drain", "close", "abort", "reset", "time"])


def run(model: Model, steps: list[Any]) -> None:
    """Do the steps."""
    for name, *args in steps:
        if name == "say":
            model.say(*args)
        elif name == "answer":
            model.app.answer(*args)
        elif name in ("pause", "resume"):
            getattr(model.peer.connection, name)()
        elif name == "turn":
            model.clock.turn()
        elif not model.peer.transport.disconnected:
            getattr(model.peer.transport, name)()


MODEL = {
    "most": st.integers(2, 6),
    "replies": st.sampled_from(["in-order", "as-ready"]),
    "transport": st.sampled_from([NotedTransport, AbruptTransport]),
}


@pytest.mark.exhaustive
@settings(max_examples=200)
@given(model=st.builds(Model, **MODEL, limits=st.just(Limits())), steps=st.lists(SAY_WELL | ANSWER_WELL | FLOW))
def test_every_reply_is_sent_once_and_in_its_order(model: Model, steps: list[Any]) -> None:
    """When the peer ends its stream, each message is answered: in the order of the messages, or as they are ready."""
    run(model, steps)
    model.peer.transport.go_on()
    model.peer.connection.resume()
    model.clock.advance(0)
    model.peer.half_closes()
    model.clock.advance(0)
    model.finish(reply=True)
    model.check(orderly=True)
    model.check_nothing_is_left()


@pytest.mark.exhaustive
@settings(max_examples=200)
@given(
    model=st.builds(Model, **MODEL, limits=SIZES),
    steps=st.lists(SAY | ANSWER | FLOW),
    how=ENDS,
    more=st.lists(SAY | ANSWER | FLOW, max_size=5),
    reply=st.booleans(),
)
def test_nothing_is_left_however_it_ends(
    model: Model, steps: list[Any], how: str, more: list[Any], reply: bool
) -> None:
    """Apps fail, Deferreds are cancelled, and connections end in every way: the order holds, and nothing is left."""
    run(model, steps)
    model.end(how)
    run(model, more)
    model.finish(reply)
    model.check(orderly=False)
    model.check_nothing_is_left()
