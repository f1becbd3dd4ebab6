"""A framing that is switched in mid-stream: the new one reads what comes behind the message in hand, to the byte."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from tcpapp import Limits, Timeouts, batch, conversation
from tcpapp.errors import InvalidFraming, InvalidOption, NotConnected, UnreadableStream
from tcpapp.framing import (
    NO_MESSAGE,
    Cobs,
    Fixed,
    Framing,
    LengthPrefixed,
    Lines,
    Netstrings,
    Raw,
    Slip,
    from_string,
    parser,
    stream,
    until,
)
from tcpapp.framing.http1 import Request
from tcpapp.telemetry import AppFailed, Closed, MessagesSkipped
from tests.peers import Peer, Switch, outcome

QUIET = Timeouts(first_message=0, idle=0)
MARK = b"switch"
"""The message behind which another framing reads."""


@parser(max=99, frame=lambda message: message + b";")
def semicolons() -> Any:
    """Messages that end with a semicolon; those without a byte are none."""
    message = yield until(b";")
    return message or NO_MESSAGE


FRAMINGS: tuple[Framing, ...] = (
    semicolons(),
    Lines(max=99),
    Lines(b"\r\n", max=99),
    LengthPrefixed(4, max=99),
    LengthPrefixed(2, offset=2, adjust=-4, max=99),
    Netstrings(max=99),
    Slip(max=99),
    Cobs(max=99),
    Fixed(6),
    from_string("mllp:max=99"),
)
"""The framings that are switched from, and to."""


class Sync:
    """An app that switches as soon as it gets the mark, and notes all messages in `seen`."""

    def __init__(self, new: Framing) -> None:
        self.new = new
        self.seen: list[bytes] = []

    def received(self, message: bytes, connection: Any) -> Any:
        self.seen.append(message)
        if message == MARK:
            connection.switch(self.new)

    def go_on(self) -> None:
        """Let the app finish what it waits for."""


class Async(Sync):
    """An app that needs time for each message, and switches in the middle of that."""

    pending: Deferred[None] | None = None

    async def received(self, message: bytes, connection: Any) -> None:
        self.seen.append(message)
        self.pending = Deferred()
        await self.pending
        if message == MARK:
            connection.switch(self.new)

    def go_on(self) -> None:
        while self.pending is not None and not self.pending.called:
            self.pending.callback(None)


class Talk(Sync):
    """A conversation; a subclass takes time over each message."""

    waits = False
    pending: Deferred[None] | None = None

    @property
    def app(self) -> Any:
        @conversation
        async def talk(connection: Any) -> None:
            async for message in connection:
                self.seen.append(message)
                if self.waits:
                    self.pending = Deferred()
                    await self.pending
                if message == MARK:
                    connection.switch(self.new)

        return talk

    def go_on(self) -> None:
        while self.pending is not None and not self.pending.called:
            self.pending.callback(None)


class SlowTalk(Talk):
    """A conversation that needs time for each message."""

    waits = True


class Fetching(Sync):
    """Code that is no app, and fetches the messages by ``receive``."""

    async def fetch(self, connection: Any) -> None:
        async for message in connection:
            self.received(message, connection)


FORMS = (Sync, Async, Talk, SlowTalk, Fetching)


def opened(form: type[Sync], old: Framing, new: Framing, **options: Any) -> tuple[Peer, Any]:
    app: Any = form(new)
    is_app = None if form is Fetching else getattr(app, "app", app)
    peer = Peer(is_app, old, timeouts=QUIET, **options)
    if form is Fetching:
        ensureDeferred(app.fetch(peer.connection))
    return peer, app


def finish(peer: Peer, app: Sync) -> None:
    """Let the app finish, and the connection read what the peer has sent in the meantime."""
    for _ in range(2):
        app.go_on()
        peer.transport.turn()
    app.go_on()


def messages_of(framing: Framing, source: random.Random, count: int) -> list[bytes]:
    sizes = [framing.size] * count if isinstance(framing, Fixed) else [source.randrange(1, 9) for _ in range(count)]
    return [bytes(source.choices(b"abcxyz", k=size)) for size in sizes]


def cuts_of(stream: bytes, source: random.Random) -> Iterator[list[bytes]]:
    """Return the whole stream, every single cut of it, and some random cuts, also byte for byte."""
    yield [stream]
    for cut in range(1, len(stream)):
        yield [stream[:cut], stream[cut:]]
    yield [stream[at : at + 1] for at in range(len(stream))]
    for _ in range(10):
        ends = sorted(source.sample(range(1, len(stream)), min(5, len(stream) - 1)))
        yield [stream[begin:end] for begin, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


def expected_after(new: Framing, rest: bytes) -> list[bytes]:
    """Return what a new framing reads of the rest."""
    try:
        return new.fresh().receive(rest)
    except UnreadableStream:
        return []


@pytest.mark.exhaustive
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("old", FRAMINGS, ids=str)
def test_what_comes_behind_the_message_is_read_by_the_new_framing(old: Framing, form: type[Sync]) -> None:
    """However the stream is cut, the new framing gets the bytes behind the message, and no byte before its end."""
    source = random.Random(str(old))
    for new in source.sample(FRAMINGS, 3):
        before, after = messages_of(old, source, 2), messages_of(new, source, 3)
        stream = old.frame_all([*before, MARK]) + new.frame_all(after)
        rest = new.frame_all(after)
        for chunks in cuts_of(stream, source):
            peer, app = opened(form, old, new)
            for number, chunk in enumerate(chunks):
                peer.says(chunk)
                if number % 2:
                    app.go_on()
            finish(peer, app)
            assert app.seen == [*before, MARK, *expected_after(new, rest)], (new, chunks)
            info = peer.protocol.info()
            assert (info.messages, info.bytes) == (len(app.seen), len(stream)), (new, chunks)
            peer.leaves()
            assert peer.reason.rule == "end-of-stream"
            assert peer.factory.info().buffered == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("form", FORMS)
def test_raw_bytes_follow_at_every_cut(form: type[Sync]) -> None:
    """Behind the message, raw bytes are passed on as they are, whichever framing would have read them as messages."""
    source = random.Random(7)
    for old in FRAMINGS:
        rest = old.frame_all(messages_of(old, source, 2)) + b"\xc0\xc0;;\x00\x00\n\x16\x03\x01"
        stream = old.frame(MARK) + rest
        for chunks in cuts_of(stream, source):
            peer, app = opened(form, old, Raw())
            for chunk in chunks:
                peer.says(chunk)
            finish(peer, app)
            assert app.seen[0] == MARK
            assert b"".join(app.seen[1:]) == rest, (old, chunks)
            assert peer.protocol.info().bytes == len(stream)
            assert peer.connection.is_open
            peer.leaves()


# Replies -------------------------------------------------------------------------------------------------------------


class Dialog:
    """An app that replies to each message, and switches by the message ``SWITCH`` to the next of its `framings`."""

    def __init__(self, *framings: Any) -> None:
        self.framings = list(framings)
        self.seen: list[bytes] = []

    def received(self, message: bytes, connection: Any) -> bytes:
        self.seen.append(message)
        if message == b"SWITCH":
            connection.switch(self.framings.pop(0))
        return b"re:" + message


def test_the_reply_to_the_message_in_hand_is_the_last_of_the_old_framing() -> None:
    """Replies before the switch, and the reply of the message that switches, have the old frame; later ones the new."""
    peer = Peer(Dialog("netstring"), timeouts=QUIET)
    peer.says(b"one\nSWITCH\n3:two,5:three,")
    assert peer.hears() == b"re:one\nre:SWITCH\n6:re:two,8:re:three,"


@pytest.mark.parametrize("chunks", [[b"SWITCH\n"], [b"one\nSWITCH\n"]])
def test_send_uses_the_new_framing_from_the_switch_on(chunks: list[bytes]) -> None:
    """What a handler sends after the switch has the new frame, and is sent before the handler's reply."""

    def app(message: bytes, connection: Any) -> bytes | None:
        if message != b"SWITCH":
            return message
        connection.send(b"old")
        connection.switch("netstring")
        connection.send(b"new")
        return b"reply"

    peer = Peer(app, timeouts=QUIET)
    for chunk in chunks:
        peer.says(chunk)
    assert peer.hears() == b"".join(chunks).replace(b"SWITCH\n", b"") + b"old\n3:new,reply\n"
    peer.says(b"2:ok,")
    assert peer.hears() == b"2:ok,"


def test_an_awaited_reply_has_the_old_frame_too() -> None:
    """The reply that an async app returns after the switch has the old frame. The next reply has the new one."""
    waits: list[Deferred[bytes]] = []

    async def app(message: bytes, connection: Any) -> bytes:
        if message == b"SWITCH":
            connection.switch("netstring")
        waits.append(Deferred())
        return await waits[-1]

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"SWITCH\n2:ok,")
    waits[0].callback(b"old")
    waits[1].callback(b"new")
    assert peer.hears() == b"old\n3:new,"


def test_a_framing_can_be_switched_again_and_again() -> None:
    """Switches there and back, in one chunk, are each to the byte."""
    app = Dialog("netstring", "line", "int8")
    peer = Peer(app, timeouts=QUIET)
    peer.says(b"a\nSWITCH\n1:b,6:SWITCH,c\nSWITCH\n\x01d")
    assert app.seen == [b"a", b"SWITCH", b"b", b"SWITCH", b"c", b"SWITCH", b"d"]
    assert peer.hears() == b"re:a\nre:SWITCH\n4:re:b,9:re:SWITCH,re:c\nre:SWITCH\n\x04re:d"


def test_two_switches_of_one_handler_leave_the_last() -> None:
    """A handler that switches twice has the last framing, and its reply is framed by the first."""

    def app(message: bytes, connection: Any) -> bytes:
        if message == b"SWITCH":
            connection.switch("int32")
            connection.switch("netstring")
        return message

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"SWITCH\n2:ok,")
    assert peer.hears() == b"SWITCH\n2:ok,"


def test_a_server_can_switch_before_the_first_message() -> None:
    """In ``opened`` no message is in hand: the greeting has the old frame, and all that comes is read by the new."""

    class App(Dialog):
        def opened(self, connection: Any) -> bytes:
            connection.switch("netstring")
            return b"hello"

    app = App()
    peer = Peer(app, timeouts=QUIET)
    peer.says(b"3:one,")
    assert peer.hears() == b"hello\n6:re:one,"


def test_a_late_greeting_switches_what_has_come_meanwhile() -> None:
    """While ``opened`` takes its time, messages wait; after its switch they are read by the new framing."""
    ready: Deferred[None] = Deferred()
    seen: list[bytes] = []

    class App:
        async def opened(self, connection: Any) -> bytes:
            await ready
            connection.switch("netstring")
            return b"hello"

        def received(self, message: bytes, connection: Any) -> None:
            seen.append(message)

    peer = Peer(App(), timeouts=QUIET)
    for piece in (b"1:\n", b",4:t", b"w\no,"):
        peer.says(piece)
    ready.callback(None)
    assert (seen, peer.hears()) == ([b"\n", b"tw\no"], b"hello\n")


@parser(frame=lambda words: b" ".join(words) + b"\n")
def words() -> Any:
    """Lines, as lists of their words."""
    line = yield until(b"\n")
    return line.split(b" ")


@pytest.mark.parametrize("waits", [False, True])
def test_a_parser_and_another_framing_can_follow_each_other(waits: bool) -> None:
    """A parser has values of its own as messages. The reply to the message that switches is one of the old kind."""
    seen: list[Any] = []
    pending: list[Deferred[Any]] = []

    def app(message: Any, connection: Any) -> Any:
        seen.append(message)
        if message == [b"SWITCH", b"on"]:
            connection.switch("netstring")
        if message == b"SWITCH":
            connection.switch(words())
        if not waits:
            return message
        pending.append(Deferred())
        return pending[-1]

    peer = Peer(app, words(), timeouts=QUIET)
    peer.says(b"a b\nSWITCH on\n2:ok,6:SWITCH,c d\n")
    while pending:
        pending.pop(0).callback(seen[-1])
    assert seen == [[b"a", b"b"], [b"SWITCH", b"on"], b"ok", b"SWITCH", [b"c", b"d"]]
    assert peer.hears() == b"a b\nSWITCH on\n2:ok,6:SWITCH,c d\n"


def test_the_codec_can_be_switched_too() -> None:
    """With a `codec`, the messages of the new framing are decoded and encoded by that one, for sending as well."""

    def app(message: Any, connection: Any) -> Any:
        if message == b"SWITCH":
            connection.switch("netstring", codec="json")
            connection.send({"sent": 1})
            return b"reply"
        if message == "bytes":
            connection.switch("line", codec=None)
        return message

    peer = Peer(app, timeouts=QUIET)
    peer.says(b'SWITCH\n3:[1],7:"bytes",ab\n')
    assert peer.hears() == b'10:{"sent":1},reply\n3:[1],7:"bytes",ab\n'
    assert peer.protocol.obstacles() == []


def test_replies_to_requests_are_decoded_by_the_new_codec() -> None:
    """The client's requests and their replies use the codec of the switch, also for replies of the same chunk."""
    peer = Peer(timeouts=QUIET)
    got: list[Any] = []

    async def talk() -> None:
        got.append(await peer.connection.request(b"upgrade"))
        peer.connection.switch("netstring", codec="json")
        got.append(await peer.connection.request({"a": 1}))
        got.append(await peer.connection.receive())

    outcome(ensureDeferred(talk()))
    peer.says(b'ok\n7:{"b":2},4:null,')
    assert (peer.hears(), got) == (b'upgrade\n7:{"a":1},', [b"ok", {"b": 2}, None])


def test_the_codec_stays() -> None:
    """A connection with a codec encodes and decodes the messages of the new framing, too."""

    def app(message: Any, connection: Any) -> Any:
        if message == "SWITCH":
            connection.switch("netstring")
        return [message]

    peer = Peer(app, codec="json", timeouts=QUIET)
    peer.says(b'"SWITCH"\n3:{"a":1},')
    peer.says(b'7:{"a":1},')
    assert peer.hears().startswith(b'["SWITCH"]\n')


# What is refused ------------------------------------------------------------------------------------------------------


def refused(call: Callable[[], object], kind: type[Exception] = InvalidOption) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_a_switch_needs_a_message_in_hand() -> None:
    """Without a message in hand, the end of the last message is not known, so a switch is refused."""
    peer = Peer(Dialog(), timeouts=QUIET)
    assert "no message in hand" in refused(lambda: peer.connection.switch("raw"))
    peer.says(b"one\npart")
    assert "no message in hand" in refused(lambda: peer.connection.switch("raw"))
    assert peer.connection.is_open


def test_a_switch_is_refused_while_a_receive_waits() -> None:
    """Code that waits for the next message has no message in hand any more."""
    peer = Peer(timeouts=QUIET)
    waits = peer.connection.receive().addErrback(lambda _: None)
    assert "a receive() waits" in refused(lambda: peer.connection.switch("raw"))
    waits.cancel()
    peer.says(b"part")
    peer.connection.switch("raw")
    assert outcome(peer.connection.receive()) == [b"part"]


def test_a_message_that_has_begun_while_a_receive_waited_cannot_be_read_again() -> None:
    """If a message began while nothing was in hand, its first bytes are not kept, and a switch is refused."""
    peer = Peer(timeouts=QUIET)
    waits = peer.connection.receive()
    peer.says(b"par")
    waits.addErrback(lambda _: None).cancel()
    assert "is not known" in refused(lambda: peer.connection.switch("raw"))
    peer.says(b"t")
    assert "is not known" in refused(lambda: peer.connection.switch("raw"))
    peer.says(b"\nnext")
    assert outcome(peer.connection.receive()) == [b"part"]
    peer.connection.switch("raw")
    assert outcome(peer.connection.receive()) == [b"next"]


def test_a_batch_app_cannot_switch() -> None:
    """A batch app has several messages in hand, so its switch is refused."""
    errors: list[str] = []

    @batch
    def app(messages: list[bytes], connection: Any) -> list[bytes]:
        errors.append(refused(lambda: connection.switch("raw")))
        return messages

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"a\nb\n")
    assert (len(errors), peer.hears()) == (1, b"a\nb\n")
    assert "batch" in errors[0]


def test_an_app_with_concurrency_cannot_switch() -> None:
    """Where several messages can be in hand at once, a switch is refused."""
    errors: list[str] = []

    def app(message: bytes, connection: Any) -> None:
        errors.append(refused(lambda: connection.switch("raw")))

    peer = Peer(app, timeouts=QUIET)
    peer.factory.settings.concurrency = 2
    peer.says(b"a\n")
    assert "concurrency" in errors[0]


def test_an_unknown_framing_is_refused_before_anything_changes() -> None:
    """An invalid spec raises `InvalidFraming`, and the connection goes on as before."""

    def app(message: bytes, connection: Any) -> bytes:
        refused(lambda: connection.switch("nonsense"), InvalidFraming)
        return message

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"a\nb\n")
    assert peer.hears() == b"a\nb\n"


def test_a_connection_that_has_ended_cannot_switch() -> None:
    """Before the connection is made, and once it closes, a switch raises `NotConnected`."""
    errors: list[str] = []

    class App:
        def received(self, message: bytes, connection: Any) -> None:
            connection.close()
            errors.append(refused(lambda: connection.switch("raw"), NotConnected))

        def closed(self, connection: Any, reason: Any) -> None:
            errors.append(refused(lambda: connection.switch("raw"), NotConnected))

    peer = Peer(App(), timeouts=QUIET)
    fresh: Any = peer.factory.buildProtocol(None)
    assert "not connected yet" in refused(lambda: fresh.connection.switch("raw"), NotConnected)
    peer.says(b"a\n")
    peer.leaves()
    assert len(errors) == 2


def test_a_framing_whose_state_changes_in_place_cannot_be_switched_from() -> None:
    """A framing of one's own that keeps a list needs methods of its own to be read again, and the error says so."""

    class Odd(Lines):
        def _start(self) -> None:
            super()._start()
            self.list: list[int] = []

    errors: list[str] = []

    def app(message: bytes, connection: Any) -> None:
        errors.append(refused(lambda: connection.switch("raw")))

    peer = Peer(app, Odd(), timeouts=QUIET)
    peer.says(b"a\nb")
    assert "mark and resumed" in errors[0]


# The end of the input -------------------------------------------------------------------------------------------------


class Held(Switch):
    """An app that notes its messages, and waits before it answers; the test switches meanwhile."""

    connection: Any = None

    def received(self, message: bytes, connection: Any) -> Deferred[Any]:
        self.connection = connection
        return super().received(message, connection)

    def answer(self) -> None:
        self.pending[-1].callback(None)


def held(chunks: list[bytes], framing: Any = "int8:max=9", **options: Any) -> tuple[Peer, Held]:
    app = Held()
    peer = Peer(app, framing, **{"timeouts": QUIET, **options})
    for chunk in chunks:
        peer.says(chunk)
    return peer, app


def test_bytes_that_the_old_framing_cannot_read_are_no_fault_of_the_new() -> None:
    """A fault behind the message in hand ends the input; a switch undoes that, and reading goes on."""
    peer, app = held([b"\x01a\xffrest"])
    assert (peer.connection.is_open, peer.paused) == (False, True)
    app.connection.switch("line")
    assert (peer.connection.is_open, peer.paused, peer.waits) == (True, False, ["handler_timeout"])
    peer.says(b"more\n")
    app.answer()
    app.answer()
    assert app.seen == [b"a", b"\xffrestmore"]
    peer.leaves()
    assert peer.reason.rule == "end-of-stream"


def test_bytes_that_come_behind_an_unreadable_message_are_kept() -> None:
    """Bytes that slip in after the fault, as from TLS, are read by the new framing, and counted once."""
    peer, app = held([b"\x01a\xffre"])
    peer.slips_in(b"st\n")
    app.connection.switch("line")
    app.answer()
    assert app.seen == [b"a", b"\xffrest"]
    assert peer.protocol.info().bytes == len(b"\x01a\xffrest\n")


def test_a_fault_behind_the_message_still_counts_without_a_switch() -> None:
    """If the app does not switch, the fault ends the connection as before, once the app has answered."""
    peer, app = held([b"\x01a\xffrest"])
    app.answer()
    peer.leaves()
    assert peer.reason.rule == "message-too-long"


def test_a_fault_for_the_new_framing_ends_the_input() -> None:
    """Bytes that the new framing cannot read either end the connection, for its reason."""
    peer, app = held([b"\x01a5:x"])
    app.connection.switch("int8:max=9")
    assert not peer.connection.is_open
    app.answer()
    peer.leaves()
    assert peer.reason.rule == "message-too-long"


@pytest.mark.parametrize(
    ("rest", "rule", "seen"),
    [
        (b"", "end-of-stream", []),
        (b"b\n", "end-of-stream", [b"b"]),
        (b"b", "truncated-message", []),
        (b"\x05b\n", "end-of-stream", [b"\x05b"]),
    ],
)
def test_a_peer_that_has_closed_its_side_is_read_to_its_end(rest: bytes, rule: str, seen: list[bytes]) -> None:
    """The new framing says whether the stream of a peer that has closed its side ended inside a message."""
    peer, app = held([b"\x01a" + rest])
    peer.half_closes()
    app.connection.switch("line")
    while not app.pending[-1].called:
        app.answer()
    peer.leaves()
    assert (app.seen, peer.reason.rule) == ([b"a", *seen], rule)


def test_an_end_of_the_stream_behind_a_fault_counts_after_the_switch() -> None:
    """If the peer closes its side after the fault, the end is seen once the new framing has read the rest."""
    peer, app = held([b"\x01a\xffrest\n"])
    peer.protocol.readConnectionLost()
    app.connection.switch("line")
    assert not peer.connection.is_open
    app.answer()
    app.answer()
    peer.leaves()
    assert (app.seen, peer.reason.rule) == ([b"a", b"\xffrest"], "end-of-stream")


@pytest.mark.parametrize("first", ["drain", "fault"])
def test_a_drain_goes_on_after_the_switch(first: str) -> None:
    """A connection that drains answers what came, by the new framing, and closes. It does not read again."""
    chunk = b"\x01a\xffrest\n" if first == "fault" else b"\x01a"
    peer, app = held([chunk])
    peer.connection.drain(30)
    app.connection.switch("line")
    assert not peer.connection.is_open
    while not app.pending[-1].called:
        app.answer()
    peer.leaves()
    assert (peer.reason.rule, app.seen[0]) == ("drained", b"a")
    assert len(app.seen) == (2 if first == "fault" else 1)


def test_an_end_by_a_limit_is_not_undone() -> None:
    """A connection that ends because a limit was exceeded cannot switch."""
    peer, app = held([b"\x01a\x05b"], timeouts=Timeouts(first_message=0, idle=0, message_timeout=3))
    peer.clock.advance(4)
    assert not peer.connection.is_open
    refused(lambda: app.connection.switch("line"), NotConnected)


def test_the_age_of_a_connection_is_counted_from_its_opening_after_a_fault() -> None:
    """A connection that reads on after a fault ends at its greatest age all the same."""
    limits = Limits(age_jitter=0)
    peer, app = held([], timeouts=Timeouts(first_message=0, idle=0, max_age=60), limits=limits)
    peer.clock.advance(40)
    peer.says(b"\x01a\xffrest")
    app.connection.switch("line")
    app.answer()
    peer.clock.advance(19)
    assert peer.connection.is_open
    peer.clock.advance(2)
    assert not peer.connection.is_open
    peer.leaves()
    assert (peer.reason.rule, peer.told(Closed)[0].duration) == ("max-age", 61.0)


# Messages that wait ---------------------------------------------------------------------------------------------------


def test_pipelined_messages_that_wait_are_read_again() -> None:
    """Messages in the inbox are taken back, with their size, and no byte of them is lost or doubled."""
    peer, app = held([b"a\nb\nc\n", b"d\n", b"e"], framing="line")
    assert peer.connection.unread == 3
    app.connection.switch("raw")
    assert peer.connection.unread == 1
    while not app.pending[-1].called:
        app.answer()
    assert app.seen == [b"a", b"b\nc\nd\ne"]
    info = peer.protocol.info()
    assert (info.messages, info.bytes, info.buffered) == (2, 9, 0)


def test_messages_that_wait_for_a_turn_or_a_rate_are_read_again() -> None:
    """Messages that the throttle keeps are taken back, too, and the rate counts each message once."""
    limits = Limits(messages_per_turn=2, message_rate=5)
    peer, app = held([b"1\n2\n3\n4\n5\n6\n7\n8\n"], framing="line", limits=limits)
    assert peer.protocol.info().pending
    app.connection.switch("delimited:by=6")
    assert peer.protocol.info().pending == 0
    while not app.pending[-1].called:
        app.answer()
        peer.clock.advance(0)
    assert app.seen == [b"1", b"2\n3\n4\n5\n"]
    assert peer.protocol.info().messages == 2
    peer.clock.advance(10)
    peer.says(b"6")
    app.answer()
    assert app.seen[-1] == b"\n7\n8\n"


def test_a_full_inbox_is_read_again_and_reading_goes_on() -> None:
    """Messages over the high-water mark are taken back; when they fit, the connection reads on."""
    limits = Limits(inbox_high=1000, inbox_low=500)
    peer, app = held([b"a\n" + b"x\n" * 100], framing="line", limits=limits)
    assert peer.paused
    app.connection.switch("raw")
    assert not peer.paused
    app.answer()
    assert app.seen == [b"a", b"x\n" * 100]


def test_bytes_behind_a_message_in_hand_are_bounded() -> None:
    """Skipped messages behind the message in hand are kept for a switch, so no more is read when they are too many."""
    peer, app = held([b"a\n"], framing="line:max=100:oversize=skip", limits=Limits(inbox_high=1000, inbox_low=500))
    while not peer.paused:
        peer.says(b"x" * 9_999 + b"\n")
    kept = peer.protocol.info().buffered
    assert 60_000 < kept < 90_000
    assert [each.reason for each in peer.protocol.info().holds] == ["awaiting-reply", "inbox-full"]
    app.answer()
    assert not peer.paused
    assert peer.protocol.info().buffered == 0


def test_skipped_messages_are_counted_by_the_framing_that_reads_them() -> None:
    """Messages that the old framing skipped before the switch are reported; those behind it are read again."""

    def app(message: bytes, connection: Any) -> None:
        if message == b"SWITCH":
            connection.switch("raw")

    peer = Peer(app, "line:max=6:oversize=skip", timeouts=QUIET)
    peer.says(b"too long\nSWITCH\nalso too long\n")
    assert [each.count for each in peer.told(MessagesSkipped)] == [1]
    info = peer.protocol.info()
    assert (info.messages, info.bytes) == (3, 30)


def test_a_large_message_is_not_kept_beside_its_beginning() -> None:
    """Behind a large message that came in pieces, only the bytes behind it are kept."""
    peer, app = held([b"x" * 60_000] * 3 + [b"\nrest"], framing="line")
    assert peer.protocol.info().buffered < 180_000 + 200
    app.connection.switch("raw")
    app.answer()
    app.answer()
    assert app.seen == [b"x" * 180_000, b"rest"]


def test_many_small_chunks_are_kept_in_few_pieces() -> None:
    """Chunks of one byte behind the message in hand do not cost the memory of an object each."""
    peer, app = held([b"a\n", *[b"x"] * 30_000], framing="line")
    assert peer.protocol.info().buffered < 65 + 2 * 30_000 + 4_000
    app.connection.switch("raw")
    app.answer()
    app.answer()
    assert b"".join(app.seen) == b"a" + b"x" * 30_000


def test_bytes_of_many_chunks_are_found_behind_messages_that_were_answered() -> None:
    """A pipelined client keeps its place over many chunks, however many of their messages were answered."""
    source = random.Random(5)
    lines = [b"%d" % source.randrange(10 ** source.randrange(1, 400)) for _ in range(3000)]
    stream = b"\n".join(lines) + b"\n"
    peer, app = held([], framing="line")
    for at in range(0, len(stream), 1460):
        peer.says(stream[at : at + 1460])
        for _ in range(source.randrange(6)):
            if peer.connection.unread:
                app.answer()
    done = len(app.seen)
    app.connection.switch("raw:max=4000000")
    while not app.pending[-1].called:
        app.answer()
        peer.transport.turn()
    assert app.seen[:done] == lines[:done]
    assert b"".join(app.seen[done:]) == b"".join(line + b"\n" for line in lines[done:])


# Clients --------------------------------------------------------------------------------------------------------------


def test_a_client_switches_after_a_reply() -> None:
    """The code behind a request switches as soon as it has the reply, and again what comes is read to the byte."""
    peer = Peer(timeouts=QUIET)
    got: list[Any] = []

    async def talk() -> None:
        got.append(await peer.connection.request(b"upgrade"))
        peer.connection.switch("netstring")
        got.append(await peer.connection.request(b"hi"))
        got.append(await peer.connection.receive())

    done = ensureDeferred(talk())
    peer.says(b"101 switching\n2:ok,4:")
    peer.says(b"push,")
    outcome(done)
    assert (peer.hears(), got) == (b"upgrade\n2:hi,", [b"101 switching", b"ok", b"push"])


def test_messages_before_the_reply_stay_messages_of_the_old_framing() -> None:
    """Messages that came before the reply, and nobody has taken yet, are not read again."""
    peer = Peer(timeouts=QUIET)
    peer.says(b"push\n")
    reply = outcome(peer.connection.request(b"upgrade"), lambda _: peer.connection.switch("netstring"))
    peer.says(b"ok\n4:next,")
    assert reply == [b"ok"]
    assert [outcome(peer.connection.receive()) for _ in range(2)] == [[b"push"], [b"next"]]


def test_a_client_can_switch_some_time_after_the_reply() -> None:
    """Without an app, the reply is in hand until the next receive(), whatever came behind it."""
    peer = Peer(timeouts=QUIET)
    reply = outcome(peer.connection.request(b"upgrade"))
    peer.says(b"ok\nfir")
    peer.says(b"st\nsec")
    peer.connection.switch("raw")
    assert reply == [b"ok"]
    assert outcome(peer.connection.receive()) == [b"first\nsec"]


def test_the_app_of_a_client_cannot_switch_before_a_reply_of_the_same_chunk() -> None:
    """A reply that was found behind the app's message would be read again, so the switch is refused."""
    errors: list[str] = []

    def app(message: bytes, connection: Any) -> None:
        errors.append(refused(lambda: connection.switch("raw")))

    peer = Peer(app, timeouts=QUIET, key=lambda message: message[1:] if message[:1] == b"=" else None)
    reply = outcome(peer.connection.request(b"=1"))
    peer.says(b"push\n=1\n")
    assert (reply, len(errors)) == ([b"=1"], 1)


def test_a_receive_that_waits_gets_what_the_new_framing_reads() -> None:
    """If a request's reply switches while another receive() waits, that gets the first message of the new framing."""
    peer = Peer(timeouts=QUIET, key=lambda message: message[:1])
    waits = outcome(peer.connection.receive())
    outcome(peer.connection.request(b"k"), lambda _: peer.connection.switch("netstring"))
    peer.says(b"k\n1:\n,")
    peer.says(b"2:zz,")
    assert waits == []


# Everything else ------------------------------------------------------------------------------------------------------


def test_a_switch_inside_a_nested_call_of_the_transport_is_to_the_byte() -> None:
    """A peer that answers inside ``write``, as over an in-memory transport, is read to the byte, too."""

    def app(message: bytes, connection: Any) -> bytes | None:
        seen.append(message)
        if message == b"first":
            connection.send(b"go")
        if message == b"SWITCH":
            connection.switch("raw")
        return None

    seen: list[bytes] = []
    peer = Peer(app, timeouts=QUIET)
    said: list[bytes] = [b"SWITCH\nta", b"il"]

    def answer(_: bytes) -> None:
        while said:
            peer.slips_in(said.pop(0))

    peer.transport.on_write = answer
    peer.says(b"first\nsecond\n")
    assert seen[:3] == [b"first", b"second", b"SWITCH"]
    assert b"".join(seen[3:]) == b"tail"


def test_recorders_follow_a_switch() -> None:
    """A recorder hears which messages were taken back, the messages of the new framing, and what is sent by each."""

    class Notes:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def received(self, messages: Any) -> None:
            self.calls += messages

        def taken_back(self, count: int) -> None:
            self.calls.append(-count)

        def sending(self, messages: Any) -> None:
            self.calls += [("sending", each) for each in messages]

        def sent(self, data: bytes) -> None:
            self.calls.append(("sent", data))

    notes = Notes()
    peer = Peer(Dialog("netstring", "line"), timeouts=QUIET)
    stop = peer.protocol.record(notes)
    peer.says(b"SWITCH\nab\n,2:ok,")
    peer.says(b"")
    assert notes.calls[:3] == [b"SWITCH", b"ab", -1]
    stop()
    assert peer.protocol._framing is peer.protocol._receiver.framing is peer.protocol._buffered.framing


@pytest.mark.parametrize("when", ["before", "between"])
def test_replies_are_recorded_with_their_framing(when: str) -> None:
    """A recorder that starts before the switch, or between the switch and the old reply, hears both replies."""
    sent: list[bytes] = []

    class Notes:
        def __getattr__(self, name: str) -> Any:
            return sent.append if name == "sent" else lambda _: None

    peer, app = held([], framing="line")
    if when == "before":
        peer.protocol.record(Notes())
    peer.says(b"a\n")
    app.connection.switch("netstring")
    if when == "between":
        peer.protocol.record(Notes())
    app.pending[-1].callback(b"old")
    peer.says(b"1:b,")
    app.pending[-1].callback(b"new")
    assert b"".join(sent) == peer.hears() == b"old\n3:new,"
    peer.leaves()


def test_a_switched_connection_is_not_moved_to_another_process() -> None:
    """The state of a connection is read by its factory's framing, so a switch is an obstacle until it is undone."""
    peer = Peer(Dialog("netstring", "line"), timeouts=QUIET)
    peer.says(b"SWITCH\n")
    assert [(each.rule, each.lasting) for each in peer.protocol.obstacles()] == [("switched", True)]
    peer.says(b"6:SWITCH,")
    assert peer.protocol.obstacles() == []
    peer.protocol.dump()


def test_a_connection_that_comes_to_a_boundary_can_still_switch() -> None:
    """An app that answers while its connection is about to move can switch, which then prevents the move."""
    peer, app = held([b"a\nb\n"], framing="line")
    peer.protocol.pause_at_boundary()
    app.connection.switch("raw")
    app.answer()
    assert [each.rule for each in peer.protocol.obstacles()] == ["switched"]
    peer.protocol.resume_from_boundary()
    assert app.seen == [b"a", b"b\n"]


def test_an_app_that_fails_after_its_switch_closes_the_connection() -> None:
    """An error after the switch is the app's failure, as at any other time."""

    def app(message: bytes, connection: Any) -> None:
        connection.switch("raw")
        raise ZeroDivisionError

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"a\nb")
    assert len(peer.told(AppFailed)) == 1
    peer.leaves()
    assert (peer.reason.rule, peer.factory.info().buffered) == ("app-failed", 0)


def test_the_time_of_an_unfinished_message_goes_on() -> None:
    """A message of the new framing that has begun has to end in time."""
    peer, app = held([b"a\n5:x"], framing="line", timeouts=Timeouts(first_message=0, idle=0, message_timeout=3))
    app.connection.switch("netstring")
    app.answer()
    peer.clock.advance(4)
    peer.leaves()
    assert peer.reason.rule == "message_timeout".replace("_", "-")


# Bodies, and what a client has asked ---------------------------------------------------------------------------------


@parser(frame=lambda message: message[0] + b"\n")
def uploads() -> Any:
    """Lines of a name and a size, each with a body of that size behind it; a line without a size has no body."""
    name, _, size = (yield until(b"\n")).partition(b" ")
    return (name, (yield stream(int(size)))) if size else (name, None)


class Uploads:
    """An app that reads the body of each upload, and switches at the name ``SWITCH``."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.pending: list[Deferred[None]] = []

    async def received(self, message: Any, connection: Any) -> None:
        if isinstance(message, bytes):
            self.seen.append(message)
            return
        name, body = message
        self.pending.append(Deferred())
        await self.pending[-1]
        self.seen.append((name, await body.read(100) if body is not None else None))
        if name == b"SWITCH":
            connection.switch("raw")


@pytest.mark.parametrize("at", range(1, 33))
def test_a_switch_behind_a_body_is_to_the_byte(at: int) -> None:
    """Behind a message whose body was read as it came, the new framing reads from the end of the body on."""
    stream_ = b"a 3\nxyzb\nSWITCH 5\nhello\n\x00rest;"
    app = Uploads()
    peer = Peer(app, uploads(), timeouts=QUIET)
    for chunk in (stream_[:at], stream_[at:]):
        peer.says(chunk)
        while app.pending and not app.pending[-1].called and chunk != stream_[:at]:
            app.pending[-1].callback(None)
            peer.transport.turn()
    assert app.seen[:3] == [(b"a", b"xyz"), (b"b", None), (b"SWITCH", b"hello")]
    assert b"".join(app.seen[3:]) == b"\n\x00rest;"
    peer.leaves()
    assert peer.factory.info().buffered == 0


def test_bodies_behind_the_message_are_read_again() -> None:
    """A body behind the message in hand is taken back with its message, and its time ends."""
    app = Uploads()
    peer = Peer(app, uploads(), timeouts=QUIET)
    peer.says(b"SWITCH\nb 10\nhal")
    app.pending[0].callback(None)
    assert app.seen == [(b"SWITCH", None), b"b 10\nhal"]
    assert "body_timeout" not in peer.waits
    peer.says(b"more")
    assert app.seen[-1] == b"more"
    peer.leaves()


def test_whole_bodies_behind_the_message_are_read_again() -> None:
    """Bodies that have come whole are taken back, too, and none of their bytes counts any more."""
    app = Uploads()
    peer = Peer(app, uploads(), timeouts=QUIET)
    peer.says(b"SWITCH\nb 3\nxyzc 9\nhal")
    app.pending[0].callback(None)
    assert app.seen == [(b"SWITCH", None), b"b 3\nxyzc 9\nhal"]
    assert peer.factory.info().buffered == 0
    peer.leaves()


def test_a_switch_inside_a_body_is_refused() -> None:
    """While the body of the message in hand comes, its end is not known, and a switch is refused."""
    errors: list[str] = []

    def app(message: Any, connection: Any) -> None:
        errors.append(refused(lambda: connection.switch("raw")))

    peer = Peer(app, uploads(), timeouts=QUIET)
    peer.says(b"a 10\nhal")
    assert "is not known" in errors[0]
    peer.leaves()


def test_the_body_of_a_message_in_hand_is_not_kept() -> None:
    """A long body is read as it comes, and no byte of it is kept for another framing."""
    waits: list[int] = []

    async def app(message: Any, connection: Any) -> None:
        async for piece in message[1]:
            waits.append(len(piece))
            assert peer.protocol._buffered.own_rewind().size == 0

    peer = Peer(app, uploads(), timeouts=QUIET)
    peer.says(b"a 1000000\n")
    for _ in range(100):
        peer.says(b"x" * 10_000)
    assert sum(waits) == 1_000_000
    peer.leaves()


@pytest.mark.parametrize("at", [1, 5, 38, 39, 40])
def test_a_client_of_http_reads_raw_bytes_behind_the_response_to_connect(at: int) -> None:
    """What a client has asked decides where a response ends, also when the end is searched for a switch."""
    peer = Peer(None, from_string("http1:side=client"), timeouts=QUIET)
    got: list[Any] = []

    async def talk() -> None:
        got.append((await peer.connection.request(Request("CONNECT", "a:1", (("Host", "a:1"),)))).status)
        peer.connection.switch("raw")
        while True:
            got.append(await peer.connection.receive())

    outcome(ensureDeferred(talk()))
    stream_ = b"HTTP/1.1 200 Connection established\r\n\r\n\x16\x03\x01\r\n"
    peer.says(stream_[:at])
    peer.says(stream_[at:])
    assert (got[0], b"".join(got[1:])) == (200, b"\x16\x03\x01\r\n")
    peer.leaves()


@parser(max=99, frame=lambda message: message + b"\n")
def with_bodies() -> Any:
    """Lines; behind ``put`` comes a body of three bytes."""
    line = yield until(b"\n")
    return (line, (yield stream(3))) if line == b"put" else (line, None)


@pytest.mark.parametrize("cut", range(1, 27))
def test_a_message_between_bodies_is_found(cut: int) -> None:
    """The message in hand is found between two bodies, wherever the stream is cut, and however the first is read."""

    def app(message: Any, connection: Any) -> Any:
        line, body = (message, None) if isinstance(message, bytes) else message
        if line == MARK:
            connection.switch(semicolons())
        return b"re:" + line if body is None else body.read()

    data = b"put\na\ncswitch\nput\n1;3two;put\nxyz;"
    peer = Peer(app, with_bodies(), timeouts=QUIET)
    peer.says(data[:cut])
    peer.says(data[cut:])
    assert peer.hears() == b"a\nc\nre:switch\nre:put\n1;re:3two;re:put\nxyz;"


@pytest.mark.parametrize("cut", range(1, 17))
def test_a_body_of_an_earlier_chunk_does_not_matter(cut: int) -> None:
    """The message in hand is found behind a body that ended in the chunk before, wherever the stream is cut."""

    def app(message: Any, connection: Any) -> bytes:
        line = message if isinstance(message, bytes) else message[0]
        if line == MARK:
            connection.switch(semicolons())
        return b"re:" + line

    data = b"put\nabcone\nswitch\ntwo;"
    peer = Peer(app, with_bodies(), timeouts=QUIET)
    peer.says(data[:cut])
    peer.says(data[cut:])
    assert peer.hears() == b"re:put\nre:one\nre:switch\nre:two;"
