"""Another protocol takes over the transport of a connection: when it gets it, with which bytes, and how that ends."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from tcpapp import Limits, MessageServerFactory, Telemetry, Timeouts, conversation
from tcpapp.errors import InvalidOption, NotConnected
from tcpapp.telemetry import AppFailed, Closed
from tests.peers import AbruptTransport, NotedTransport, Peer, Switch, joined, outcome, stalled

QUIET = Timeouts(first_message=0, idle=0)


class Notes(Protocol):
    """A protocol that notes its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    @override
    def connectionMade(self) -> None:
        self.calls.append("made")

    @override
    def dataReceived(self, data: bytes) -> None:
        self.calls.append(data)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.calls.append(reason.type)

    @property
    def data(self) -> bytes:
        """Return the bytes that it got."""
        return b"".join(each for each in self.calls if isinstance(each, bytes))


@implementer(IHalfCloseableProtocol)
class Halves(Notes):
    """The same, for a protocol that can have one side closed."""

    def readConnectionLost(self) -> None:
        self.calls.append("read lost")

    def writeConnectionLost(self) -> None:
        self.calls.append("write lost")


class App:
    """An app whose connection is taken over by `protocol` at the message ``GO``; it notes its end in `ends`."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.ends: list[Any] = []

    def received(self, message: bytes, connection: Any) -> Any:
        if message == b"GO":
            connection.take_over(self.protocol)
        return b"re:" + message

    def closed(self, connection: Any, reason: Any) -> None:
        self.ends.append((reason.rule, reason.clean, list(self.protocol.calls)))


@pytest.mark.parametrize("wrong", [None, Notes, object()], ids=["none", "class", "object"])
def test_what_is_no_protocol_is_refused(wrong: Any) -> None:
    """A protocol that could not be connected is refused at once, and the app can go on."""
    errors: list[str] = []

    def received(message: bytes, connection: Any) -> bytes:
        try:
            connection.take_over(wrong)
        except InvalidOption as error:
            errors.append(str(error))
        return message

    peer = Peer(received, timeouts=QUIET)
    peer.says(b"GO\non\n")
    assert (peer.hears(), peer.connection.is_open) == (b"GO\non\n", True)
    assert [text.partition("): ")[2] for text in errors] == ["takes a Twisted protocol, which is made already"] * 2
    peer.leaves()
    assert peer.told(AppFailed) == []


def taken(protocol: Any = None, **options: Any) -> tuple[Peer, Any, App]:
    """Return a peer whose connection was taken over by the protocol, that protocol, and the app."""
    protocol = Notes() if protocol is None else protocol
    app = App(protocol)
    peer = Peer(app, **{"timeouts": QUIET, **options})
    peer.says(b"GO\n")
    return peer, protocol, app


def test_the_protocol_gets_the_transport_after_the_replies_and_then_the_unread_bytes() -> None:
    """All replies are written, the app knows of the end, and then the protocol gets the transport and the bytes."""
    protocol = Notes()
    app = App(protocol)
    peer = Peer(app, timeouts=QUIET)
    peer.says(b"one\nGO\nunread\nby")
    assert (peer.hears(), app.ends) == (b"re:one\nre:GO\n", [("taken-over", True, [])])
    assert protocol.calls == ["made", b"unread\nby"]
    assert protocol.transport is peer.transport
    peer.says(b"tes")
    protocol.transport.write(b"raw")
    assert (protocol.data, peer.hears()) == (b"unread\nbytes", b"raw")
    peer.leaves()
    assert protocol.calls[-1] is ConnectionDone
    assert (peer.reason.rule, len(app.ends)) == ("taken-over", 1)


@pytest.mark.parametrize("at", range(1, 12))
def test_no_byte_is_lost_or_doubled_at_any_cut(at: int) -> None:
    """Wherever the stream is cut, the protocol gets all bytes behind the message."""
    stream = b"a\nGO\n\x16\x03\x01\n\nz"
    protocol = Notes()
    peer = Peer(App(protocol), timeouts=QUIET)
    peer.says(stream[:at])
    peer.says(stream[at:])
    assert protocol.data == stream[5:]
    info = peer.protocol.info()
    assert (info.messages, info.buffered, peer.factory.info().buffered) == (2, 0, 0)
    peer.leaves()


def test_an_async_app_answers_first() -> None:
    """The protocol waits for the awaited reply, and bytes that come meanwhile wait for the protocol."""
    protocol, go = Notes(), Deferred[None]()

    async def app(message: bytes, connection: Any) -> bytes:
        connection.take_over(protocol)
        await go
        return b"OK"

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"GO\nun")
    peer.slips_in(b"re")
    peer.says(b"ad")
    assert (protocol.calls, peer.paused, peer.connection.is_open) == ([], True, False)
    go.callback(None)
    peer.transport.turn()
    assert (peer.hears(), protocol.data, peer.paused) == (b"OK\n", b"unread", False)


def test_bytes_that_wait_for_a_slow_peer_are_sent_first() -> None:
    """While the peer does not take what was sent before, the protocol does not get the transport."""
    protocol = Notes()
    peer = stalled(App(protocol), timeouts=QUIET)
    peer.connection.send(b"x" * 200_000)
    peer.connection.pause()
    peer.says(b"GO\nunread")
    peer.connection.resume()
    assert (protocol.calls, peer.connection.is_open) == ([], True)
    peer.transport.go_on()
    peer.transport.turn()
    assert protocol.calls == ["made", b"unread"]
    assert peer.hears() == b"x" * 200_000 + b"\nre:GO\n"


def test_a_conversation_ends_first() -> None:
    """A conversation can send until it returns; then the protocol gets the transport."""
    protocol = Notes()

    @conversation
    async def talk(connection: Any) -> None:
        async for message in connection:
            connection.take_over(protocol)
            await connection.send(b"go " + message)

    peer = Peer(talk, timeouts=QUIET)
    peer.says(b"on\nunread")
    assert (peer.hears(), protocol.calls) == (b"go on\n", ["made", b"unread"])


def test_a_conversation_that_does_not_end_is_cut() -> None:
    """A conversation that goes on after the call is cut after the time for a half-closed connection."""
    protocol, never = Notes(), Deferred[None]()

    @conversation
    async def talk(connection: Any) -> None:
        await connection.receive()
        connection.take_over(protocol)
        await never

    peer = Peer(talk, timeouts=Timeouts(first_message=0, idle=0, half_close=5))
    peer.says(b"on\n")
    peer.clock.advance(6)
    peer.leaves()
    assert (peer.reason.rule, protocol.calls) == ("half-close-over", [])


def test_a_client_can_hand_its_transport_on() -> None:
    """Code behind a request hands on the transport as soon as it has the reply."""
    protocol = Notes()
    peer = Peer(timeouts=Timeouts(first_message=0, idle=0, half_close=0))

    async def talk() -> None:
        await peer.connection.request(b"CONNECT")
        peer.connection.take_over(protocol)

    outcome(ensureDeferred(talk()))
    peer.says(b"OK\nunread")
    assert protocol.calls == ["made", b"unread"]


def test_calls_of_the_connection_fail_after_it_was_taken_over() -> None:
    """The connection sends and receives nothing any more, and its counts are kept."""
    peer, protocol, _ = taken()
    connection = peer.connection
    for failed in (connection.send(b"x"), connection.receive(), connection.request(b"x")):
        [error] = outcome(failed)
        assert (type(error), error.reason.rule) == (NotConnected, "taken-over")
    for call in (lambda: connection.switch("raw"), lambda: connection.take_over(protocol)):
        with pytest.raises(NotConnected):
            call()
    connection.pause()
    connection.resume()
    info, totals = peer.protocol.info(), peer.factory.info()
    assert (info.state, info.messages, info.sent_messages, info.holds, connection.unread) == ("closing", 1, 1, (), 0)
    assert (totals.messages, totals.sent_messages, totals.bytes, totals.connections) == (1, 1, 3, 1)
    peer.leaves()
    assert peer.factory.info().messages == 1


def test_messages_before_the_reply_can_still_be_received() -> None:
    """Messages that nobody had taken before the reply can be received after the take-over."""
    peer = Peer(timeouts=QUIET)
    peer.says(b"push\n")
    outcome(peer.connection.request(b"GO"), lambda _: peer.connection.take_over(Notes()))
    peer.says(b"ok\nunread")
    assert [outcome(peer.connection.receive())[0] for _ in range(1)] == [b"push"]
    assert peer.connection.unread == 0


def test_a_second_take_over_is_refused() -> None:
    """A connection is taken over once."""
    errors: list[Exception] = []

    def app(message: bytes, connection: Any) -> None:
        connection.take_over(Notes())
        try:
            connection.take_over(Notes())
        except NotConnected as error:
            errors.append(error)

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"a\n")
    assert len(errors) == 1


def test_it_is_refused_while_tls_is_set_up() -> None:
    """In the middle of a handshake there is no transport to hand on."""
    errors: list[Exception] = []

    async def app(message: bytes, connection: Any) -> None:
        done = connection.start_tls("context")
        try:
            connection.take_over(Notes())
        except InvalidOption as error:
            errors.append(error)
        await done

    peer = Peer(app, transport=NotedTransport(tls=True), timeouts=QUIET)
    peer.says(b"a\n")
    assert "start_tls" in str(errors[0])
    peer.protocol.handshakeCompleted()


# The transport's calls ------------------------------------------------------------------------------------------------


def test_halves_are_passed_to_a_protocol_that_has_them() -> None:
    """The end of the peer's side, and of ours, is passed on to a protocol that can keep half a connection."""
    peer, protocol, _ = taken(Halves())
    peer.half_closes()
    peer.protocol.writeConnectionLost()
    assert protocol.calls == ["made", "read lost", "write lost"]
    protocol.transport.write(b"still")
    assert peer.hears() == b"re:GO\nstill"


def test_without_halves_the_end_of_the_peers_side_closes_the_connection() -> None:
    """A protocol without half-close loses the connection when the peer closes its side, after what it wrote."""
    peer, protocol, _ = taken()
    protocol.transport.write(b"last")
    peer.half_closes()
    peer.protocol.writeConnectionLost()
    peer.transport.turn()
    assert (peer.hears(), peer.closing) == (b"re:GO\nlast", True)


def test_a_peer_that_has_closed_its_side_before_is_passed_on() -> None:
    """The end of the peer's side comes behind the unread bytes, also if it came before the take-over."""
    protocol, go = Halves(), Deferred[None]()

    async def app(message: bytes, connection: Any) -> bytes:
        await go
        connection.take_over(protocol)
        return b"OK"

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"GO\nunread")
    peer.half_closes()
    go.callback(None)
    assert (peer.hears(), protocol.calls) == (b"OK\n", ["made", b"unread", "read lost"])
    peer.leaves()
    assert peer.reason.rule == "taken-over"


def test_bytes_that_the_framing_could_not_read_are_passed_on() -> None:
    """A fault behind the message is no fault for the other protocol, which gets all bytes."""
    protocol, go = Notes(), Deferred[None]()

    async def app(message: bytes, connection: Any) -> None:
        await go
        connection.take_over(protocol)

    peer = Peer(app, "int8:max=9", timeouts=QUIET)
    peer.says(b"\x01a\xffrest")
    peer.slips_in(b" of it")
    go.callback(None)
    assert protocol.data == b"\xffrest of it"
    peer.leaves()
    assert peer.reason.rule == "taken-over"


def test_a_loss_while_the_app_answers_ends_the_connection() -> None:
    """If the transport is lost before, the protocol is never connected."""
    protocol, go = Notes(), Deferred[None]()

    async def app(message: bytes, connection: Any) -> None:
        connection.take_over(protocol)
        await go

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"GO\n")
    peer.resets()
    assert (peer.reason.rule, protocol.calls) == ("lost", [])


@pytest.mark.parametrize("how", ["fails", "closes", "aborts"])
def test_an_app_that_ends_the_connection_instead_keeps_the_transport(how: str) -> None:
    """If the app fails, closes or aborts after the call, the connection ends, and the protocol gets nothing."""
    protocol = Notes()

    def app(message: bytes, connection: Any) -> bytes:
        connection.take_over(protocol)
        if how == "fails":
            raise ZeroDivisionError
        if how == "closes":
            connection.close()
        else:
            connection.abort()
        return b"bye"

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"GO\n")
    peer.leaves()
    assert protocol.calls == []
    assert peer.reason.rule == {"fails": "app-failed", "closes": "taken-over", "aborts": "aborted"}[how]


@pytest.mark.parametrize("where", ["connectionMade", "dataReceived"])
def test_a_protocol_that_raises_at_once_is_reported_and_cut(where: str) -> None:
    """An error of the protocol as it gets the transport is reported as the app's failure, and ends the connection."""

    class Faulty(Notes):
        pass

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    setattr(Faulty, where, fail)
    protocol = Faulty()
    app = App(protocol)
    peer = Peer(app, timeouts=QUIET)
    peer.says(b"GO\nunread")
    assert len(peer.told(AppFailed)) == 1
    assert peer.transport.aborted
    peer.resets()
    assert peer.reason.rule == "app-failed"


def test_a_protocol_that_aborts_in_its_first_call_gets_no_bytes() -> None:
    """A protocol that loses the connection inside ``connectionMade`` is not called after that."""

    class Refusing(Notes):
        @override
        def connectionMade(self) -> None:
            super().connectionMade()
            self.transport.abortConnection()  # type: ignore[union-attr]

    protocol = Refusing()
    peer = Peer(App(protocol), transport=AbruptTransport(), timeouts=QUIET)
    peer.says(b"GO\nunread")
    assert protocol.calls[0] == "made"
    assert protocol.data == b""
    assert len(protocol.calls) == 2
    assert peer.reason.rule == "taken-over"


def test_a_loss_is_told_with_its_reason() -> None:
    """The protocol gets the transport's own reason; the connection's reason stays that it was taken over."""
    peer, protocol, app = taken()
    peer.resets()
    assert protocol.calls == ["made", ConnectionLost]
    assert (peer.reason.rule, [rule for rule, _, _ in app.ends]) == ("taken-over", ["taken-over"])


def test_producers_are_the_protocols_own() -> None:
    """The protocol registers a producer of its own, because the connection's is gone."""

    class Producer:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def pauseProducing(self) -> None:
            self.calls.append("pause")

        def resumeProducing(self) -> None:
            self.calls.append("resume")

        def stopProducing(self) -> None:
            self.calls.append("stop")

    peer, protocol, _ = taken()
    producer = Producer()
    protocol.transport.registerProducer(producer, True)
    peer.transport.stall()
    protocol.transport.write(b"x" * 200_000)
    peer.transport.go_on()
    peer.transport.turn()
    assert producer.calls[:2] == ["pause", "resume"]


def test_a_protocol_can_pause_its_transport_at_once() -> None:
    """A protocol that pauses in ``connectionMade`` gets the unread bytes, and no others before it resumes."""

    class Paused(Notes):
        @override
        def connectionMade(self) -> None:
            super().connectionMade()
            self.transport.pauseProducing()  # type: ignore[union-attr]

    protocol = Paused()
    peer = Peer(App(protocol), timeouts=QUIET)
    peer.says(b"GO\nun")
    peer.says(b"read")
    assert protocol.calls == ["made", b"un"]
    protocol.transport.resumeProducing()  # type: ignore[union-attr]
    peer.transport.turn()
    assert protocol.data == b"unread"


# Its place in the server ----------------------------------------------------------------------------------------------


def test_it_counts_as_open_until_the_transport_is_lost() -> None:
    """A taken-over connection counts against ``max_connections``, and in ``info()``, until its transport is lost."""
    app = App(Notes())
    events: list[Any] = []
    peer = Peer(app, timeouts=QUIET, limits=Limits(max_connections=1))
    peer.says(b"GO\n")
    closed = outcome(peer.connection.when_closed())
    info = peer.factory.info()
    assert (info.connections, len(peer.factory.admission), closed, events) == (1, 1, [], [])
    refused = NotedTransport(clock=peer.clock)
    refused.connect(peer.factory.buildProtocol(None))
    assert refused.disconnecting
    peer.clock.advance(7)
    peer.leaves()
    info = peer.factory.info()
    assert (info.connections, len(peer.factory.admission), dict(info.closed)) == (0, 0, {"taken-over": 1})
    [told] = peer.told(Closed)
    assert (closed[0].rule, told.duration) == ("taken-over", 7.0)


def test_no_timeout_of_the_connection_runs_any_more() -> None:
    """The timeouts of the connection end with it, so the protocol can be silent as long as it wants."""
    waits = Timeouts(first_message=5, idle=5, idle_read=5, max_age=9, message_timeout=5, half_close=5, grace=5)
    peer, protocol, _ = taken(timeouts=waits)
    peer.clock.advance(1000)
    assert (protocol.calls, peer.closing) == (["made"], False)
    peer.leaves()


def test_a_wait_for_a_rate_ends_with_the_connection() -> None:
    """A connection that was over its rate is read from at once by the other protocol, and the wait is over."""
    protocol = Notes()
    peer = Peer(App(protocol), timeouts=QUIET, limits=Limits(byte_rate=10))
    peer.slips_in(b"GO\n" + b"x" * 30)
    assert (len(protocol.data), peer.paused, peer.waits) == (30, False, [])
    peer.clock.advance(60)
    assert not peer.closing
    peer.leaves()


def test_a_drain_cuts_it_at_its_deadline() -> None:
    """A drain waits for the protocol to end, and cuts the connection at its deadline."""
    peer, protocol, _ = taken()
    done = outcome(peer.factory.drain(10))
    peer.clock.advance(9)
    assert (done, peer.closing) == ([], False)
    peer.clock.advance(2)
    assert peer.transport.aborted
    peer.resets()
    assert (done, peer.reason.rule) == ([1], "drain-over")
    assert protocol.calls[0] == "made"


def test_a_drain_that_began_before_cuts_it_at_its_deadline() -> None:
    """The deadline of a drain that began while the app answered is kept."""
    protocol, go = Notes(), Deferred[None]()

    async def app(message: bytes, connection: Any) -> None:
        await go
        connection.take_over(protocol)

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"GO\n")
    done = outcome(peer.factory.drain(10))
    go.callback(None)
    assert (protocol.calls, done) == (["made"], [])
    peer.clock.advance(11)
    assert peer.transport.aborted
    peer.resets()
    assert (done, peer.reason.rule) == ([1], "drain-over")


def test_closing_it_closes_the_transport_and_cuts_it_after_the_grace() -> None:
    """``close()`` lets the transport send what was written, and cuts it after the grace."""
    peer, protocol, _ = taken()
    peer.transport.stall()
    protocol.transport.write(b"x" * 1000)
    closed = outcome(peer.connection.close(5))
    assert (peer.closing, peer.transport.aborted) == (True, False)
    peer.clock.advance(6)
    assert peer.transport.aborted
    peer.resets()
    assert closed[0].rule == "grace-over"
    assert len(protocol.calls) == 2


def test_aborting_it_cuts_the_transport() -> None:
    """``abort()`` cuts the transport at once, and the protocol learns of it."""
    peer, protocol, _ = taken()
    peer.factory.abort()
    assert peer.transport.aborted
    peer.resets()
    assert (peer.reason.rule, len(protocol.calls)) == ("aborted", 2)


def test_all_accounts_are_empty_while_the_protocol_has_the_transport() -> None:
    """The connection holds no bytes any more: the memory budget does not count what the protocol holds."""
    peer, protocol, _ = taken()
    peer.says(b"x" * 100_000)
    assert (peer.factory.info().buffered, peer.factory.settings.memory_budget.total) == (0, 0)
    assert len(protocol.data) == 100_000
    assert peer.protocol._buffered.reported == 0


def test_a_task_ends_before_the_protocol_gets_the_transport() -> None:
    """Background tasks of the connection are cancelled, and have ended when the protocol gets the transport."""
    protocol = Notes()
    ends: list[Any] = []
    late: Deferred[None] = Deferred()

    async def task() -> None:
        try:
            await Deferred()
        finally:
            ends.append(list(protocol.calls))
            await late

    def app(message: bytes, connection: Any) -> None:
        connection.spawn(task(), background=True)
        connection.take_over(protocol)

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"GO\nun")
    peer.says(b"read")
    assert (ends, protocol.calls) == ([[]], [])
    late.callback(None)
    peer.transport.turn()
    assert protocol.data == b"unread"
    peer.leaves()
    assert peer.reason.rule == "taken-over"


@pytest.mark.parametrize("late", [False, True], ids=["at-once", "late"])
@pytest.mark.parametrize("kind", ["task", "ticks"])
def test_the_time_of_tasks_ends_with_them_when_the_transport_is_passed_on(kind: str, late: bool) -> None:
    """The time that tasks had to end does not run on for the protocol, whose drain still ends by the clock."""
    protocol = Notes()
    ends: Deferred[None] = Deferred()

    async def task() -> None:
        try:
            await Deferred()
        finally:
            await ends

    def app(message: bytes, connection: Any) -> None:
        if kind == "task":
            connection.spawn(task(), background=True)
        else:
            connection.every(1)
        connection.take_over(protocol)

    peer = Peer(app, timeouts=QUIET)
    if not late:
        ends.callback(None)
    peer.says(b"GO\nunread")
    if late:
        ends.callback(None)
    assert (protocol.data, peer.timers, peer.waits) == (b"unread", [], [])
    peer.clock.advance(60)
    peer.connection.drain(5)
    peer.clock.advance(5)
    assert (peer.closing, peer.told(AppFailed)) == (True, [])
    peer.leaves()
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.parametrize("how", ["lost", "closed"])
def test_a_connection_that_ends_while_its_tasks_end_is_not_passed_on(how: str) -> None:
    """If the transport is lost, or closed, while tasks still run, the protocol gets nothing, and nothing is left."""
    protocol = Notes()
    late: Deferred[None] = Deferred()

    async def task() -> None:
        try:
            await Deferred()
        finally:
            await late

    def app(message: bytes, connection: Any) -> None:
        connection.spawn(task(), background=True)
        connection.take_over(protocol)

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"GO\n")
    closed = outcome(peer.connection.when_closed())
    if how == "closed":
        peer.connection.close()
    peer.resets()
    assert (closed, len(peer.factory.admission)) == ([], 1)
    late.callback(None)
    rule = {"lost": "taken-over", "closed": "lost"}[how]
    assert ([each.rule for each in closed], protocol.calls) == ([rule], [])
    assert (len(peer.factory.admission), peer.factory.info().connections) == (0, 0)


def test_a_connection_behind_tls_is_passed_on_with_its_layer() -> None:
    """After STARTTLS the protocol gets the transport with TLS."""
    protocol = Notes()

    class Secure(Switch):
        async def received(self, message: bytes, connection: Any) -> None:  # type: ignore[override]
            self.seen.append(message)
            if message == b"STARTTLS":
                await connection.start_tls("context", last=b"go")
            else:
                connection.take_over(protocol)

    peer = Peer(Secure(), transport=NotedTransport(tls=True), timeouts=QUIET)
    peer.says(b"STARTTLS\n")
    peer.protocol.handshakeCompleted()
    peer.says(b"GO\nunread")
    assert protocol.calls == ["made", b"unread"]
    assert protocol.transport is peer.transport


def test_a_client_factory_forgets_it_at_its_end() -> None:
    """The connections of a factory, of which one was taken over, end one by one."""
    factory = MessageServerFactory(App(Notes()), telemetry=Telemetry(), timeouts=QUIET)
    first, second = joined(factory), joined(factory)
    first.receive(b"GO\n")
    done = outcome(factory.close())
    second.turn()
    second.lose()
    assert done == []
    first.lose()
    assert done == [None]
