"""A connection that is moved from process to process: what each process does, and what its users learn."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from tcpapp import Limits, MessageServerFactory, Telemetry, Timeouts
from tcpapp.client.factory import MessageClientFactory
from tcpapp.close_reason import EndedBy
from tcpapp.connection.lifecycle import State
from tcpapp.connection.movable import MOVED
from tcpapp.connection.protocol import MessageProtocol
from tcpapp.errors import InvalidState, NotConnected
from tcpapp.limits import Policies
from tcpapp.proxy_protocol import HeaderReader
from tcpapp.telemetry import Closed, LateReply, Opened
from tcpapp.transport.proxy_header import behind_header
from tests.connection.moves import MESSAGES, WAITS, Moving, pieces_of, shout, stream_of
from tests.peers import AbruptTransport, NotedTransport, Switch, outcome

# The old process -----------------------------------------------------------------------------------------------------


class Chat:
    """An app of one instance, which notes its calls."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def opened(self, connection: Any) -> bytes:
        self.told.append("opened")
        return b"welcome"

    def received(self, message: bytes, connection: Any) -> bytes:
        self.told.append(message)
        return message.upper()

    def closed(self, connection: Any, reason: Any) -> None:
        self.told.append(reason.rule)


def test_opened_and_closed_are_called_once_over_all_moves() -> None:
    """Over all moves, `opened` and `closed` are called once, so the peer gets one greeting."""
    chat = Chat()
    moving = Moving(chat)
    for message in (b"a\n", b"b\n"):
        moving.says(message)
        moving.move()
    moving.connection.close()
    moving.now.transport.turn()
    assert (chat.told, moving.hears()) == (["opened", b"a", b"b", "closed"], b"welcome\nA\nB\n")


def test_listeners_learn_of_a_move_in_both_processes() -> None:
    """A move gives `Closed` in the old process and `Opened` in the new one, and the log has no line about it."""
    moving = Moving(shout)
    moving.move()
    [old], new = moving.before, moving.now
    assert old.told(Closed) == [Closed(old.connection, MOVED, 0)]
    assert new.events == [Opened(new.connection, moved=True)]
    assert [each.kind() for each in (*old.told(Closed), *new.events)] == [None, None]
    assert (MOVED.by, MOVED.rule, MOVED.clean) == (EndedBy.US, "moved", True)
    assert dict(old.factory.info().closed) == {"moved": 1}


def test_a_released_connection_leaves_nothing_behind() -> None:
    """
    A released connection leaves no timer, no turn, no client and no counted byte, and its transport is not closed.
    """
    moving = Moving(
        shout, "line:max=1000000", peer_reads=False, timeouts=Timeouts(), limits=Limits(messages_per_turn=2)
    )
    moving.says(b"y" * 100_000 + b"\n")
    moving.says(b"z\n" * 5 + b"unfinished")
    before = list(moving.now.transport.writes)
    moving.move()
    [old] = moving.before
    assert (old.clock.getDelayedCalls(), len(old.factory.settings.fair_share)) == ([], 0)
    assert (len(old.factory.connections), len(old.factory.admission)) == (0, 0)
    assert (old.factory.settings.memory_budget.total, old.connection.unread) == (0, 0)
    assert (old.transport.writes, old.transport.disconnecting, old.transport.producerState) == (before, False, "paused")
    old.transport.lose()
    assert len(old.events) == 2
    total, held = moving.now.buffered
    assert total == held > 100_000
    moving.connection.abort()
    moving.now.transport.turn()
    assert moving.now.factory.settings.memory_budget.total == 0


def test_calls_in_the_old_process_fail_after_a_move() -> None:
    """After a move, `when_closed` fires in the old process, and later calls fail with the reason `MOVED`."""
    moving = Moving(shout)
    ended = outcome(moving.connection.when_closed())
    moving.move()
    [old] = moving.before
    assert (ended, old.connection.state) == ([MOVED], State.CLOSED)
    for call in (old.connection.send, old.connection.request):
        [error] = outcome(call(b"late"))
        assert isinstance(error, NotConnected)
        assert error.reason is MOVED
    assert outcome(old.connection.close()) == [MOVED]
    for call in (old.connection.pause, old.connection.resume, old.connection.drain, old.connection.abort):
        call()
    old.protocol.resume_from_boundary()
    old.protocol.pause_at_boundary()


def test_wait_for_does_not_wait_for_released_connections() -> None:
    """`wait_for(0)` fires when the last connection is released, and a drain waits for a connection that stays."""
    moving = Moving(Switch())
    drained = outcome(moving.now.factory.drain(30))
    assert drained == []
    still = Moving(shout)
    still.protocol.pause_at_boundary()
    done = outcome(still.now.factory.wait_for(0))
    still.protocol.release()
    assert done == [None]


@given(MESSAGES, st.sets(st.integers(0, 300), max_size=4))
def test_a_connection_that_does_not_move_goes_on_as_before(messages: list[bytes], cuts: set[int]) -> None:
    """A connection that is dumped and not moved loses, doubles and delays nothing."""
    stream = stream_of("line", messages)
    still, moving = Moving(shout, timeouts=WAITS), Moving(shout, timeouts=WAITS)
    for piece in pieces_of(stream, cuts):
        moving.protocol.pause_at_boundary()
        moving.says(piece)
        assert moving.protocol.dump() == moving.protocol.dump()
        moving.protocol.resume_from_boundary()
        moving.now.transport.turn()
        still.says(piece)
        for each in (still, moving):
            each.advance(1)
    for each in (still, moving):
        each.now.clock.pump([0.25] * 100)
    assert (still.hears(), still.connection.state) == (moving.hears(), moving.connection.state)
    assert [each.reason for each in still.now.told(Closed)] == [each.reason for each in moving.now.told(Closed)]


def test_nothing_is_read_or_handed_on_after_pause_at_boundary() -> None:
    """After `pause_at_boundary`, bytes of the peer stay in the kernel, and the next process handles them."""
    moving = Moving(shout)
    moving.protocol.pause_at_boundary()
    moving.says(b"a\n")
    assert (moving.hears(), moving.now.transport.unread) == (b"", 2)
    moving.move()
    assert moving.hears() == b"A!\n"


def test_a_send_after_the_dump_prevents_the_release() -> None:
    """A message that is sent after the dump is not in it, and `release` refuses while its `send()` waits."""
    moving = Moving(shout, peer_reads=False)
    moving.protocol.pause_at_boundary()
    early = moving.protocol.dump()
    moving.connection.send(b"x" * 100_000).addErrback(lambda _: None)
    assert len(early) < 1000
    with pytest.raises(InvalidState, match=r"cannot be released: a send\(\) waits"):
        moving.protocol.release()


def test_only_a_paused_connection_is_released() -> None:
    """`release` refuses a connection that still reads, and a connection that was released already."""
    moving = Moving(shout)
    with pytest.raises(InvalidState, match=r"while it is read from; call pause_at_boundary\(\) first"):
        moving.protocol.release()
    moving.protocol.pause_at_boundary()
    moving.protocol.release()
    with pytest.raises(InvalidState, match="cannot be released: its state is closed"):
        moving.protocol.release()


class Recorder:
    """A recorder that keeps its calls."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def received(self, messages: Any) -> None:
        self.heard.append(list(messages))

    def sending(self, messages: Any) -> None:
        self.heard.append(list(messages))

    def sent(self, data: bytes) -> None:
        self.heard.append(data)


def test_a_recorder_stays_in_its_process() -> None:
    """A recorder hears nothing after the move, and the connection goes on with all its bytes."""
    recorder = Recorder()
    moving = Moving(shout, peer_reads=False)
    moving.protocol.record(recorder)
    moving.says(b"a\nhalf")
    heard = [[b"a"], [b"A!"], b"A!\n"]
    assert heard == recorder.heard
    moving.move()
    moving.says(b" line\n")
    moving.now.transport.go_on()
    assert (heard, moving.hears()) == (recorder.heard, b"A!\nHALF LINE!\n")


@pytest.mark.parametrize("how", ["pause_at_boundary", "resume_from_boundary"])
def test_a_connection_that_is_not_open_has_no_boundary(how: str) -> None:
    """`pause_at_boundary` and `resume_from_boundary` do nothing before the connection opens and after it ends."""
    protocol: Any = MessageServerFactory(shout, telemetry=Telemetry()).buildProtocol(None)
    getattr(protocol, how)()
    NotedTransport().connect(protocol)
    protocol.connection.abort()
    getattr(protocol, how)()
    protocol.transport.turn()
    getattr(protocol, how)()


def test_a_connection_can_be_closed_after_pause_at_boundary() -> None:
    """A connection can be closed after `pause_at_boundary`, and its reply is still sent."""
    moving = Moving(shout)
    moving.says(b"a\n")
    moving.protocol.pause_at_boundary()
    moving.connection.close()
    moving.now.transport.turn()
    assert (moving.now.told(Closed)[0].reason.rule, moving.hears()) == ("closed", b"A!\n")


def test_a_protocol_without_a_factory_can_be_moved() -> None:
    """A protocol that was made without a factory can be dumped, released and loaded."""
    factory = MessageServerFactory(shout, telemetry=Telemetry())
    states: list[bytes] = []
    for _ in range(2):
        protocol: Any = MessageProtocol(factory.settings)
        if states:
            protocol.load(states[0])
        NotedTransport().connect(protocol)
        protocol.pause_at_boundary()
        states.append(protocol.dump())
        protocol.release()
        assert protocol.connection.state is State.CLOSED


# The new process -----------------------------------------------------------------------------------------------------


def state_of(moving: Moving) -> bytes:
    """Return the state of the connection."""
    state: bytes = moving.protocol.dump()
    return state


def test_a_state_that_cannot_be_loaded_changes_nothing() -> None:
    """After a refused `load`, the protocol can open a new connection, or load another state."""
    moving = Moving(Chat())
    moving.says(b"half")
    process = moving.next_process()
    with pytest.raises(InvalidState):
        process.protocol.load(state_of(moving)[:-1])
    process.transport.connect(process.protocol)
    assert (process.connection.state, process.transport.value()) == (State.OPEN, b"welcome\n")
    other = moving.next_process()
    with pytest.raises(InvalidState):
        other.protocol.load(b"")
    other.protocol.load(state_of(moving))
    other.transport.connect(other.protocol)
    other.transport.receive(b" line\n")
    assert other.transport.value() == b"HALF LINE\n"


def test_load_refuses_an_open_connection() -> None:
    """`load` refuses a protocol that is already connected, and its connection stays open."""
    moving = Moving(shout)
    with pytest.raises(InvalidState, match="before the connection is made"):
        moving.protocol.load(state_of(moving))
    assert moving.connection.is_open


def test_load_refuses_an_app_with_a_state_for_each_connection() -> None:
    """`load` refuses a state if the app of the new process is a class."""
    moving = Moving(shout)
    moving.app = Chat
    with pytest.raises(InvalidState, match="cannot be loaded: its app, Chat, is a class"):
        moving.next_process().protocol.load(state_of(moving))


def test_a_protocol_that_is_never_connected_has_no_effect() -> None:
    """A protocol that loads a state and is never connected starts no timer, counts no client and emits no event."""
    moving = Moving(shout)
    process = moving.next_process()
    process.protocol.load(state_of(moving))
    assert (process.clock.getDelayedCalls(), len(process.factory.admission), process.events) == ([], 0, [])


def test_the_limits_of_the_new_process_apply() -> None:
    """The policy of the new process can end a moved connection at once, here because of its message rate."""
    moving = Moving(shout, limits=Limits(message_rate=1))
    moving.says(b"a\nb\n")
    moving.changed = {"policies": Policies(over_rate="reset")}
    state = state_of(moving)
    process = moving.next_process()
    process.protocol.load(state)
    process.protocol._loaded.deadlines.waits.clear()
    process.transport.connect(process.protocol)
    process.transport.turn()
    assert [type(each) for each in process.events] == [Opened, Closed]
    assert process.told(Closed)[0].reason.rule == "message-rate"
    assert process.factory.settings.memory_budget.total == 0


def test_a_listener_can_pause_a_moved_connection_at_a_boundary_as_it_opens() -> None:
    """After `pause_at_boundary` in a listener of `Opened`, the app gets no waiting message, and all can move again."""
    moving = Moving(shout, limits=Limits(messages_per_turn=1))
    moving.connection.pause()
    moving.says(b"a\nb\nc\n")
    process = moving.next_process()
    process.factory.settings.telemetry.listen(
        lambda event: process.protocol.pause_at_boundary() if isinstance(event, Opened) else None
    )
    process.protocol.load(state_of(moving))
    process.transport.connect(process.protocol)
    process.connection.resume()
    process.clock.advance(1)
    assert (process.connection.unread, process.transport.value(), process.protocol.obstacles()) == (3, b"", [])
    process.protocol.resume_from_boundary()
    assert process.transport.value() == b"A!\nB!\nC!\n"


def test_a_moved_connection_can_be_recorded_before_it_is_open() -> None:
    """A recorder that listens from the connecting on gets the unsent bytes of the old process as bytes."""
    moving = Moving(lambda message, connection: message * 300_000, "line:max=1000000", peer_reads=False)
    moving.says(b"a\n")
    unsent = moving.protocol.info().unsent
    process = moving.next_process()
    process.protocol.load(state_of(moving))
    recorder = Recorder()
    made = process.factory.connection_made

    def connection_made(connection: Any) -> None:
        made(connection)
        process.protocol.record(recorder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process.factory, "connection_made", connection_made)
        process.transport.connect(process.protocol)
    process.transport.go_on()
    process.transport.turn()
    assert b"".join(recorder.heard) == b"a" * (unsent - 1) + b"\n"
    assert process.protocol.info().sent_messages == 1


@pytest.mark.parametrize("end", ["abort", "close"])
@pytest.mark.parametrize("kind", [NotedTransport, AbruptTransport])
def test_a_listener_can_end_a_moved_connection_as_it_opens(kind: type[NotedTransport], end: str) -> None:
    """If a listener ends a moved connection at its `Opened`, no waiting message is handled and nothing is left."""
    moving = Moving(shout, limits=Limits(messages_per_turn=1))
    moving.connection.pause()
    moving.says(b"a\nb\nc\n")
    state = state_of(moving)
    process = moving.next_process()
    process.factory.settings.telemetry.listen(
        lambda event: getattr(event.connection, end)() if isinstance(event, Opened) else None
    )
    process.protocol.load(state)
    transport = kind(clock=process.clock)
    transport.connect(process.protocol)
    transport.turn()
    transport.lose()
    assert (process.connection.state, transport.value()) == (State.CLOSED, b"")
    assert [each.unhandled for each in process.told(Closed)] == [3]
    assert (len(process.factory.connections), process.factory.settings.memory_budget.total) == (0, 0)
    assert process.clock.getDelayedCalls() == []


def test_a_client_can_be_moved() -> None:
    """The connection of a client can be moved, and fires `when_connected` of the new factory."""
    states: list[bytes] = []
    for number in range(2):
        factory = MessageClientFactory(shout, telemetry=Telemetry())
        connected = outcome(factory.when_connected())
        protocol: Any = factory.buildProtocol(None)
        if states:
            protocol.load(states[0])
        transport = NotedTransport()
        transport.connect(protocol)
        assert connected == [protocol.connection]
        transport.receive([b"he", b"llo\n"][number])
        protocol.pause_at_boundary()
        states.append(protocol.dump())
        protocol.release()
    assert transport.value() == b"HELLO!\n"


@pytest.mark.parametrize("requested", [True, False])
def test_late_replies_stay_late(requested: bool) -> None:
    """After a move, a reply to a cancelled request is still late. Without a request, the same bytes are a message."""
    moving = Moving(Switch(), key=lambda message: message[:1])
    if requested:
        moving.connection.request(b"1?").addErrback(lambda _: None).cancel()
    moving.move()
    moving.says(b"1!\n")
    assert moving.app.seen == ([] if requested else [b"1!"])
    assert len(moving.now.told(LateReply)) == requested


def test_requests_work_after_a_move() -> None:
    """After a move, messages go to the app, and a new request gets its reply."""
    moving = Moving(shout)
    first = outcome(moving.connection.request(b"first?"))
    moving.says(b"first\n")
    moving.move()
    moving.says(b"message\n")
    second = outcome(moving.connection.request(b"second?"))
    moving.says(b"second\n")
    assert (first, second, moving.hears()) == ([b"first"], [b"second"], b"first?\nMESSAGE!\nsecond?\n")


def test_the_peer_behind_a_proxy_stays_the_peer() -> None:
    """The PROXY header moves with the connection, so the peer's address stays the same."""
    header = HeaderReader().receive(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n")
    moving = Moving(shout)
    still = moving.next_process()
    still.protocol.makeConnection(behind_header(still.transport, header, still.protocol))
    still.transport.protocol = still.protocol
    moving.now = still
    for _ in range(2):
        assert (moving.connection.proxy, moving.connection.peer.host) == (header, "192.0.2.7")
        moving.says(b"hello\n")
        moving.move()
    assert moving.hears() == b"HELLO!\n" * 2
    moving.connection.close()
    moving.now.transport.turn()
    assert moving.now.told(Closed)[0].reason.rule == "closed"


def test_a_loaded_connection_over_tls_opens_after_the_handshake() -> None:
    """A state that is loaded over a transport with TLS goes on when the handshake is done."""
    moving = Moving(shout)
    moving.says(b"half")
    process = moving.next_process()
    process.protocol.load(state_of(moving))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tcpapp.connection.protocol.sets_up_tls", lambda transport: True)
        patch.setattr("tcpapp.connection.parts.close_by_halves", lambda layer: None)
        process.transport.connect(process.protocol)
        assert process.connection.state is State.OPENING
    process.protocol.handshakeCompleted()
    process.transport.receive(b" line\n")
    assert (process.connection.state, process.transport.value()) == (State.OPEN, b"HALF LINE!\n")


def test_when_open_fires_for_a_moved_connection() -> None:
    """`when_open` of the new connection fires when its transport is connected."""
    moving = Moving(shout)
    process = moving.next_process()
    opened = outcome(process.connection.when_open())
    process.protocol.load(state_of(moving))
    process.transport.connect(process.protocol)
    assert opened == [process.connection]


def test_a_moved_connection_works_without_a_clock() -> None:
    """A moved connection over a `StringTransport`, which has no clock, handles all its waiting messages."""
    moving = Moving(shout, limits=Limits(messages_per_turn=1))
    moving.says(b"a\nb\nc\n")
    protocol: Any = MessageServerFactory(shout, telemetry=Telemetry()).buildProtocol(None)
    protocol.load(state_of(moving))
    transport = StringTransport()
    protocol.makeConnection(transport)
    assert moving.hears() + transport.value() == b"A!\nB!\nC!\n"


def test_an_asynchronous_app_is_moved_between_two_messages() -> None:
    """A move is refused while a reply is pending, and works once the reply is there."""
    switch = Switch()
    moving = Moving(switch)
    for letter in (b"a", b"b"):
        moving.says(letter + b"\n")
        with pytest.raises(InvalidState, match="has not answered"):
            moving.move()
        switch.pending[-1].callback(letter.upper())
        moving.move()
    assert (switch.seen, moving.hears()) == ([b"a", b"b"], b"A\nB\n")
