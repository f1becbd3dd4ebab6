"""Recorders: each message and each byte of a connection, in order and once, and what a recorder cannot break."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tcpapp import Limits, MessageServerFactory, Reply, Telemetry, Timeouts, batch, conversation
from tcpapp.apps import echo
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import NotConnected, UnsendableMessage
from tcpapp.framing import from_string
from tcpapp.telemetry import Closed, Opened, RecorderFailed
from tcpapp.testing.wire import Wire
from tests.connection.moves import Moving
from tests.peers import NotedTransport, Peer, StrictClock, Switch, joined, outcome, result_of, stalled

QUIET = Timeouts(first_message=0, idle=0)


class Notes:
    """A recorder that notes its calls, in order, in a list that others can write to, too."""

    def __init__(self, calls: list[tuple[str, Any]] | None = None) -> None:
        self.calls: list[tuple[str, Any]] = [] if calls is None else calls

    def received(self, messages: Sequence[bytes]) -> None:
        self.calls.append(("received", messages))

    def sending(self, messages: Sequence[bytes]) -> None:
        self.calls.append(("sending", messages))

    def sent(self, data: bytes) -> None:
        self.calls.append(("sent", data))

    def all(self, kind: str) -> list[Any]:
        """All messages, or pieces, of one kind of call."""
        return [each for what, told in self.calls if what == kind for each in ([told] if kind == "sent" else told)]


class Faulty(Notes):
    """A recorder that raises in one of its calls."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def fail(self, _: Any) -> None:
        self.calls.append((self.where, None))
        raise ZeroDivisionError("the recorder's fault")

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, "fail" if name == object.__getattribute__(self, "where") else name)


def recorded(*args: Any, **options: Any) -> tuple[Peer, Notes]:
    """Return a peer and the recorder of its connection."""
    peer = Peer(*args, **{"timeouts": QUIET} | options)
    notes = Notes()
    peer.protocol.record(notes)
    return peer, notes


def recorded_from_the_start(notes: Notes, app: Any, *args: Any, **options: Any) -> NotedTransport:
    """Return the transport of a connection that a listener of events records."""

    def listen(event: Any) -> None:
        if isinstance(event, Opened):
            protocol_of(event.connection).record(notes)  # type: ignore[arg-type]  # an event knows less of it

    return joined(MessageServerFactory(app, *args, telemetry=Telemetry(listen), clock=StrictClock(), **options))


# What comes -----------------------------------------------------------------------------------------------------------


def test_the_messages_of_a_chunk_come_before_the_app_has_them() -> None:
    """A recorder gets all messages of a chunk, then the app is called, then the recorder gets replies and bytes."""
    calls: list[tuple[str, Any]] = []

    def app(message: bytes, connection: Any) -> bytes:
        calls.append(("app", message))
        return message.upper()

    peer = Peer(app, timeouts=QUIET)
    peer.protocol.record(Notes(calls))
    peer.says(b"o")
    peer.says(b"ne\ntwo\nth")
    assert calls == [
        ("received", [b"one", b"two"]),
        ("app", b"one"),
        ("app", b"two"),
        ("sending", [b"ONE", b"TWO"]),
        ("sent", b"ONE\nTWO\n"),
    ]


def test_a_message_comes_once_where_it_waits_for_a_turn() -> None:
    """A recorder gets a message when its chunk comes, and not again when the throttle lets it in."""
    peer, notes = recorded(echo, limits=Limits(messages_per_turn=2))
    peer.says(b"1\n2\n3\n4\n5\n")
    assert notes.calls[0] == ("received", [b"1", b"2", b"3", b"4", b"5"])
    peer.clock.pump([0] * 10)
    assert peer.hears() == b"1\n2\n3\n4\n5\n"
    assert notes.all("received") == notes.all("sending") == [b"1", b"2", b"3", b"4", b"5"]


def test_a_message_that_waits_in_the_inbox_comes_at_once() -> None:
    """A recorder gets a message when it comes, and not again when `receive` takes it."""
    peer, notes = recorded(None)
    peer.says(b"one\ntwo\n")
    assert notes.all("received") == [b"one", b"two"]
    assert [result_of(peer.connection.receive()) for _ in range(2)] == [b"one", b"two"]
    assert notes.calls == [("received", [b"one", b"two"])]


def test_skipped_messages_do_not_come() -> None:
    """A recorder does not get messages over the framing's ``max``, and they are reported as without it."""
    peer, notes = recorded(echo, "line:max=4:oversize=skip")
    peer.says(b"one\nmuch too long\ntwo\n")
    assert notes.all("received") == [b"one", b"two"]
    assert [each.count for each in peer.events if hasattr(each, "count")] == [1]


@pytest.mark.parametrize("before", [[], [b"one"]])
def test_what_comes_before_an_unreadable_stream_comes(before: list[bytes]) -> None:
    """A recorder gets the messages before the fault, and the connection ends as without it."""
    peer, notes = recorded(echo, "line:max=4")
    peer.says(b"".join(each + b"\n" for each in before) + b"much too long\ntwo\n")
    peer.says(b"three\n")
    peer.leaves()
    assert (notes.all("received"), peer.reason.rule) == (before, "message-too-long")


def test_a_message_is_its_bytes_where_there_is_a_codec() -> None:
    """With a codec, a recorder gets the bytes of each message, also of a message that the codec refuses."""
    peer, notes = recorded(echo, codec="json")
    peer.says(b'{"a": 1}\n[1,\n')
    assert (notes.all("received"), notes.all("sending")) == ([b'{"a": 1}', b"[1,"], [b'{"a":1}'])


# What is sent ---------------------------------------------------------------------------------------------------------


def later(message: bytes, connection: Any) -> Deferred[bytes]:
    """Reply after a second."""
    reply: Deferred[bytes] = Deferred()
    clock: Any = protocol_of(connection).clock
    clock.callLater(1, reply.callback, message)
    return reply


async def coroutine(message: bytes, connection: Any) -> bytes:
    return message


@batch
def together(messages: list[bytes], connection: Any) -> list[bytes]:
    return messages


@conversation
async def talk(connection: Any) -> None:
    async for message in connection:
        await connection.send(message)


def twice(message: bytes, connection: Any) -> bytes:
    """Send a message, and reply."""
    connection.send(b"first")
    return message


class Polite:
    """An app with a greeting and a last word."""

    def opened(self, connection: Any) -> bytes:
        return b"hello"

    def received(self, message: bytes, connection: Any) -> bytes | None:
        return None if message == b"quiet" else message

    def draining(self, connection: Any) -> bytes:
        return b"goodbye"


APPS: dict[str, Any] = {
    "function": lambda message, connection: message,
    "coroutine": coroutine,
    "deferred": later,
    "reply": lambda message, connection: Reply(message),
    "batch": together,
    "conversation": talk,
    "sends": twice,
    "object": Polite(),
    "fails": lambda message, connection: message * 3,
}


CHUNKS = [[b"a\n", b"quiet\n"], [b"a\nbc\n", b"d", b"ef\n"], [b"x\n" * 200, b"long enough\n"]]


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("name", APPS)
def test_the_messages_that_are_sent_are_those_of_the_bytes(name: str, chunks: list[bytes]) -> None:
    """For every form of app, the recorded messages in their order are the messages in the bytes on the wire."""
    framing, notes = from_string("line:max=20"), Notes()
    transport = recorded_from_the_start(notes, APPS[name], framing, heartbeat=b"alive", timeouts=Timeouts(heartbeat=5))
    connection, clock = transport.connection, transport.reactor
    for chunk in chunks:
        transport.receive(chunk)
        connection.send(b"between").addErrback(lambda _: None)
        clock.pump([0.5] * 12)
    connection.request(b"tell me").addErrback(lambda _: None)
    connection.drain()
    clock.pump([1.0] * 12)
    transport.lose()
    assert notes.all("sent") == transport.writes
    assert framing.frame_all(notes.all("sending")) == b"".join(transport.writes)


def test_a_message_sent_inside_received_comes_in_its_place() -> None:
    """A message that is sent inside `received` is recorded after the replies that are written before it."""
    peer, notes = recorded(lambda message, connection: connection.send(b"sent") and message)
    peer.says(b"one\n")
    peer.says(b"two\nthree\n")
    assert notes.all("sending") == peer.hears().split(b"\n")[:-1]


def test_a_request_that_is_refused_is_not_sent() -> None:
    """A request that fails because of its key or its frame is not recorded."""

    def key(message: bytes) -> bytes:
        if message == b"none":
            raise KeyError("no key")
        return message[:1]

    peer, notes = recorded(None, key=key)
    refused = [result_of(peer.connection.request(each)) for each in (b"none", b"two\nlines")]
    assert [type(each) for each in refused] == [KeyError, UnsendableMessage]
    peer.connection.request(b"1?")
    assert notes.calls == [("sending", [b"1?"]), ("sent", b"1?\n")]


def test_bytes_that_were_framed_elsewhere_come_as_bytes() -> None:
    """Bytes that were framed elsewhere are recorded as bytes only, also after a message that was not sent."""
    peer, notes = recorded(None, key=lambda message: None)
    assert isinstance(result_of(peer.connection.request(b"refused")), UnsendableMessage)
    peer.protocol._outbox.write(b"framed\n")
    assert (notes.calls, peer.hears()) == ([("sent", b"framed\n")], b"framed\n")


def test_replies_before_one_that_cannot_be_sent_come_once() -> None:
    """Replies before a reply that cannot be sent are framed twice, and recorded once."""
    peer, notes = recorded(together, "line:max=3")
    peer.says(b"one\ntwo\n")
    notes.calls.clear()
    peer.protocol._dispatcher._replies += [b"one", b"two", b"three", b"four"]
    peer.protocol._dispatcher.flush()
    assert notes.all("sending") == [b"one", b"two"]


def test_bytes_come_when_the_transport_gets_them() -> None:
    """Messages are recorded when the outbox gets them, and bytes when the transport gets them."""
    peer = stalled(None, timeouts=QUIET, limits=Limits(write_high=1000))
    notes = Notes()
    peer.protocol.record(notes)
    for size in (1500, 600, 900):
        peer.connection.send(b"x" * size).addErrback(lambda _: None)
    assert [len(each) for each in notes.all("sending")] == [1500, 600, 900]
    assert [len(each) for each in notes.all("sent")] == [1000, 501]
    peer.transport.take()
    assert [len(each) for each in notes.all("sent")] == [1000, 501, 601, 901]
    peer.connection.send(b"y" * 5000).addErrback(lambda _: None)
    peer.connection.abort()
    peer.resets()
    assert (len(notes.all("sending")), len(notes.all("sent"))) == (4, 4)


def test_what_is_flushed_at_the_close_comes() -> None:
    """Bytes that are flushed while the connection closes are recorded."""
    peer = stalled(None, timeouts=QUIET, limits=Limits(write_high=100))
    notes = Notes()
    peer.protocol.record(notes)
    peer.connection.send(b"x" * 350)
    peer.connection.close()
    peer.transport.go_on()
    peer.leaves()
    assert (b"".join(notes.all("sent")), peer.reason.rule) == (b"x" * 350 + b"\n", "closed")


def test_the_reply_of_an_app_that_cut_the_connection_is_not_sent() -> None:
    """A reply after `abort()` is recorded as handed over, and not as sent."""
    peer, notes = recorded(lambda message, connection: connection.abort() or message)
    peer.says(b"one\n")
    assert notes.calls == [("received", [b"one"]), ("sending", [b"one"])]


# TLS ------------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")
def test_a_recorder_hears_messages_in_plain_over_tls(tls_certificates: Any) -> None:
    """A recording that begins before the TLS handshake has the messages in plain, and nothing of the handshake."""
    clock = Clock()
    server = MessageServerFactory(lambda message, _: message.upper(), telemetry=Telemetry()).buildProtocol(None)
    client: Any = MessageServerFactory(None, telemetry=Telemetry()).buildProtocol(None)
    contexts = tls_certificates.server_options(), tls_certificates.client_options("localhost")
    Wire(server, client, clock=clock, tls=contexts, latency=1.0)
    notes = Notes()
    server.record(notes)
    clock.pump([1.0] * 4)
    client.connection.send(b"hello")
    clock.pump([1.0] * 3)
    assert notes.calls == [("received", [b"hello"]), ("sending", [b"HELLO"]), ("sent", b"HELLO\n")]
    client.connection.abort()
    clock.pump([1.0] * 3)


def test_a_recording_goes_on_after_starttls() -> None:
    """A recorder gets the last message before TLS and the messages after it."""
    peer, notes = recorded(echo, transport=NotedTransport(tls=True))
    peer.connection.start_tls("context", last=b"go ahead")
    peer.protocol.handshakeCompleted()
    peer.says(b"hello\n")
    assert notes.all("sending") == [b"go ahead", b"hello"]
    assert notes.all("sent") == [b"go ahead\n", b"hello\n"]


# Beginning and end ----------------------------------------------------------------------------------------------------


def places(peer: Peer) -> list[Any]:
    """Return the framings, the outbox and the transport that the connection and its parts use."""
    protocol = peer.protocol
    parts = protocol._receiver, protocol._dispatcher
    return [protocol._framing, *(each.framing for each in parts), protocol._outbox, protocol._outbox.transport]


def test_a_connection_is_as_before_when_no_recorder_is_left() -> None:
    """When the last recorder stops, all parts are the original ones again."""
    peer = Peer(echo, timeouts=QUIET)
    before = places(peer)
    stops = [peer.protocol.record(Notes()) for _ in range(2)]
    assert all(now is not then for now, then in zip(places(peer), before, strict=True))
    for stop in stops:
        stop()
        stop()
    assert all(now is then for now, then in zip(places(peer), before, strict=True))
    peer.says(b"hello\n")
    assert peer.hears() == b"hello\n"


def test_several_recorders_hear_the_same() -> None:
    """Each recorder gets all messages while it is attached, and twice if it is attached twice."""
    peer = Peer(echo, timeouts=QUIET)
    first, second = Notes(), Notes()
    stop = peer.protocol.record(first)
    peer.says(b"one\n")
    peer.protocol.record(second)
    again = peer.protocol.record(second)
    peer.says(b"two\n")
    stop()
    again()
    peer.says(b"three\n")
    assert first.all("received") == first.all("sending") == [b"one", b"two"]
    assert second.all("received") == [b"two", b"two", b"three"]


def test_a_recorder_can_keep_what_it_gets() -> None:
    """Each recorder gets lists of its own, which do not change later."""
    peer, notes = recorded(echo)
    other = Notes()
    peer.protocol.record(other)
    peer.says(b"one\ntwo\n")
    notes.calls[0][1].clear()
    assert [told for what, told in other.calls if what != "sent"] == [[b"one", b"two"]] * 2
    assert peer.hears() == b"one\ntwo\n"


@pytest.mark.parametrize("itself", [True, False])
def test_a_recorder_can_be_stopped_by_a_recorder(*, itself: bool) -> None:
    """A recorder that is stopped while recorders are called is not called any more."""
    peer = Peer(echo, timeouts=QUIET)
    stops: list[Callable[[], None]] = []

    class Stopping(Notes):
        def received(self, messages: Sequence[bytes]) -> None:
            super().received(messages)
            stops[0 if itself else 1]()

    first, second = Stopping(), Notes()
    stops += [peer.protocol.record(first), peer.protocol.record(second)]
    peer.says(b"one\n")
    assert peer.hears() == b"one\n"
    assert [each.all("sending") for each in (first, second)] == ([[], [b"one"]] if itself else [[b"one"], []])
    assert second.all("received") == ([b"one"] if itself else [])


@pytest.mark.parametrize("where", ["received", "sending", "sent"])
def test_a_recorder_that_raises_is_detached(where: str) -> None:
    """A recorder that raises causes one event, and other recorders and the connection go on."""
    peer = Peer(echo, timeouts=QUIET)
    first, faulty, last = Notes(), Faulty(where), Notes()
    for each in (first, faulty, last):
        peer.protocol.record(each)
    peer.says(b"one\n")
    peer.says(b"two\n")
    assert [what for what, _ in faulty.calls].count(where) == 1
    assert first.calls == last.calls != []
    [failed] = peer.told(RecorderFailed)
    assert (failed.failure.type, failed.connection, peer.hears()) == (ZeroDivisionError, peer.connection, b"one\ntwo\n")


def test_the_only_recorder_that_raises_leaves_the_connection_as_before() -> None:
    """After the only recorder raised, all parts are the original ones again."""
    peer = Peer(echo, timeouts=QUIET)
    before = places(peer)
    peer.protocol.record(Faulty("received"))
    peer.says(b"one\n")
    assert (peer.hears(), len(peer.told(RecorderFailed))) == (b"one\n", 1)
    assert all(now is then for now, then in zip(places(peer), before, strict=True))


@pytest.mark.usefixtures("no_collector")
def test_a_recording_ends_with_the_connection() -> None:
    """After the end, neither the recorder nor the function that stops it keeps the connection in memory."""

    class Holding(Notes):
        connection: Any = None

    peer, notes = Peer(None, timeouts=QUIET), Holding()
    notes.connection = peer.connection
    stop = peer.protocol.record(notes)
    peer.says(b"one\n")
    peer.resets()
    peer.slips_in(b"two\n")
    assert notes.all("received") == [b"one"]
    freed = ref(peer.protocol)
    transport, events = peer.transport, peer.events
    transport.protocol = transport.connection = notes.connection = None
    events.clear()
    del peer
    assert freed() is None
    stop()


def test_a_recording_ends_where_the_connection_moves_away() -> None:
    """A recorded connection dumps the same state, and the recorder gets nothing of the new process."""
    moving, notes = Moving(lambda message, connection: message.upper()), Notes()
    before, old = moving.protocol.dump(), moving.protocol
    moving.protocol.record(notes)
    assert old.dump() == before
    moving.says(b"one\ntw")
    moving.move()
    moving.says(b"o\n")
    assert (moving.hears(), notes.all("received"), notes.all("sent")) == (b"ONE\nTWO\n", [b"one"], [b"ONE\n"])
    with pytest.raises(NotConnected, match="moved"):
        old.record(notes)
    moving.protocol.record(notes)
    moving.says(b"three\n")
    assert notes.all("received") == [b"one", b"three"]


def test_there_is_nothing_to_record_without_a_connection() -> None:
    """`record` raises `NotConnected` before the connection is made and after its end."""
    protocol: Any = MessageServerFactory(echo, telemetry=Telemetry()).buildProtocol(None)
    with pytest.raises(NotConnected, match="not connected yet"):
        protocol.record(Notes())
    peer = Peer(echo, timeouts=QUIET)
    peer.resets()
    with pytest.raises(NotConnected, match="lost"):
        peer.protocol.record(Notes())


def test_a_listener_of_events_can_record_from_the_first_message_on() -> None:
    """A listener of `Opened` can record the connection from the app's greeting on."""
    notes = Notes()
    transport = recorded_from_the_start(notes, Polite())
    transport.receive(b"one\n")
    assert notes.calls[:2] == [("sending", [b"hello"]), ("sent", b"hello\n")]
    assert notes.all("received") == [b"one"]


def test_the_counts_are_those_of_a_connection_that_is_not_recorded() -> None:
    """A recorded connection has the same counts, also after its end."""
    peer, _ = recorded(Switch())
    peer.says(b"one\ntwo\n")
    peer.connection.send(b"hello")
    info = peer.factory.info()
    assert (info.messages, info.bytes, info.sent_messages, info.sent_bytes) == (2, 8, 1, 6)
    outcome(peer.connection.close())
    peer.leaves()
    assert (peer.factory.info().sent_bytes, len(peer.told(Closed))) == (6, 1)
