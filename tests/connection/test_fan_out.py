"""One message to many connections: who gets it, in which order, how often it is framed, and what it counts for."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.testing import MemoryReactorClock

from tcpapp import Limits, MessageClientFactory, MessageServerFactory, Policies, Timeouts, aio, protocol_of, send_to_all
from tcpapp.codecs import Json
from tcpapp.connection.shared_message import LEAST_SHARED, PLACE_COST
from tcpapp.connection.spread_writes import AT_ONCE
from tcpapp.errors import UnsendableMessage
from tcpapp.framing import Lines, http1, parser, until
from tcpapp.framing.http_values import Request
from tests.framing.streams import FRAMINGS
from tests.peers import PEER, NotedTransport, StrictClock, joined

QUIET = Timeouts(first_message=0, idle=0, message_timeout=0, send_progress=0, handler_timeout=0)


def members(count: int, app: Any = None, framing: Any = "line", **options: Any) -> list[NotedTransport]:
    """Connect clients to one server."""
    factory = MessageServerFactory(app, framing, clock=StrictClock(), timeouts=QUIET, **options)
    return [joined(factory) for _ in range(count)]


def connections(transports: list[NotedTransport]) -> list[Any]:
    """Return the connections of these transports."""
    return [each.connection for each in transports]


def values(transports: list[NotedTransport]) -> list[bytes]:
    """Return what each client has received."""
    return [each.value() for each in transports]


# Who gets it ----------------------------------------------------------------------------------------------------------


def test_all_get_it_at_once_on_a_test_s_transport() -> None:
    """A transport without a socket has the message when the call returns, as with ``send``."""
    room = members(3)
    assert send_to_all(connections(room), b"hello") == 3
    assert values(room) == [b"hello\n"] * 3


def test_each_gets_it_once() -> None:
    """A connection that is given twice gets one message."""
    room = members(2)
    first, second = connections(room)
    assert send_to_all(iter([first, second, first]), b"hello") == 2
    assert values(room) == [b"hello\n"] * 2


@pytest.mark.parametrize("several", [False, True])
def test_the_excluded_do_not_get_it(several: bool) -> None:
    """`exclude` is a connection, or any number of them; a connection that was not given does no harm."""
    room = members(3)
    first, *others = connections(room)
    assert send_to_all([first, *others], b"hello", exclude={first, others[0]} if several else first) == 2 - several
    assert values(room)[0] == b""
    assert send_to_all(others, b"hello", exclude=first) == 2


def test_the_connections_of_asyncio_get_it() -> None:
    """A wrapper of `tcpapp.aio` stands for its connection."""
    room = members(2)
    first, second = map(aio.Native, connections(room))
    assert send_to_all({first, second}, b"hello", exclude=first) == 1
    assert values(room) == [b"", b"hello\n"]


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_connection_that_ends_is_passed_over(end: str) -> None:
    """A closing or closed connection is not counted, and the message is a failed send, as with ``send``."""
    room = members(2)
    first, second = connections(room)
    getattr(first, end)()
    assert send_to_all([first, second], b"hello") == 1
    assert values(room)[1] == b"hello\n"
    assert protocol_of(second).factory.info().failed_sends == 1


def test_a_connection_that_was_never_open_is_passed_over() -> None:
    """There is nothing to send on before the transport is connected."""
    factory = MessageServerFactory(None)
    assert send_to_all([factory.buildProtocol(None).connection], b"hello") == 0


def test_a_connection_that_ends_during_the_call_is_passed_over() -> None:
    """What a peer does when it gets the message can end another connection, and change the set that was given."""
    room = members(3)
    left = set(connections(room))
    order = connections(room)
    room[0].on_write = lambda _: (order[1].abort(), left.clear())
    assert send_to_all(order, b"hello") == 2
    assert values(room) == [b"hello\n", b"", b"hello\n"]
    assert send_to_all(left, b"hello") == 0


# What cannot be sent --------------------------------------------------------------------------------------------------


def test_a_message_that_cannot_be_sent_is_sent_to_none() -> None:
    """`UnsendableMessage` is raised once, before the first connection gets the message."""
    wide, narrow = members(2), members(2, framing="line:max=3")
    with pytest.raises(UnsendableMessage):
        send_to_all(connections(wide + narrow), b"hello")
    assert values(wide + narrow) == [b""] * 4
    narrow[0].connection.abort()
    narrow[1].connection.abort()
    assert send_to_all(connections(wide + narrow), b"hello") == 2


def test_a_value_that_cannot_be_encoded_is_sent_to_none() -> None:
    """A codec refuses a value as a framing refuses bytes."""
    room = members(2, codec="json")
    with pytest.raises(UnsendableMessage):
        send_to_all(connections(room), object())
    assert send_to_all(connections(room), {"a": None}) == 2
    assert values(room) == [b'{"a":null}\n'] * 2


# How often it is framed -----------------------------------------------------------------------------------------------


class Counted(Lines):
    """Lines that count how often they are framed, on all connections."""

    __slots__ = ()
    frames_alike = True
    framed = 0

    def frame(self, message: bytes) -> bytes:
        Counted.framed += 1
        return super().frame(message)


class Numbered(Lines):
    """Lines that are numbered on each connection."""

    __slots__ = ("number",)

    def _start(self) -> None:
        super()._start()
        self.number = 0

    def frame(self, message: bytes) -> bytes:
        self.number += 1
        if self.number == 3:
            raise UnsendableMessage("there are only two numbers")
        return super().frame(b"%d %b" % (self.number, message))


class CountedJson(Json):
    """A codec that counts how often it encodes."""

    encoded = 0

    def encode(self, value: Any) -> bytes:
        self.encoded += 1
        return super().encode(value)


def test_it_is_encoded_and_framed_once_for_all_alike() -> None:
    """Equal framings of several factories are one kind, and each outbox gets the same bytes object."""
    Counted.framed = 0
    codec = CountedJson()
    room = [*members(3, framing=Counted(), codec=codec), *members(3, framing=Counted(), codec=codec)]
    assert send_to_all(connections(room), [1]) == 6
    assert (Counted.framed, codec.encoded) == (1, 1)
    assert {id(write) for each in room for write in each.writes} == {id(room[0].writes[0])}


def test_each_kind_of_framing_frames_it() -> None:
    """Members with other framings, and options, get the same message in their own frames."""
    room = [*members(1), *members(1, framing="int8"), *members(1, framing="line:delimiter=\\r\\n")]
    assert send_to_all(connections(room), b"hello") == 3
    assert values(room) == [b"hello\n", b"\x05hello", b"hello\r\n"]


class Switches:
    """An app that switches to another framing at each message."""

    def received(self, message: bytes, connection: Any) -> None:
        connection.switch(Counted())


def test_switched_framings_frame_it_once() -> None:
    """Connections that have switched to an equal framing are of one kind."""
    Counted.framed = 0
    room = members(3, Switches(), "int8")
    for each in room[1:]:
        each.receive(b"\x02go")
    assert send_to_all(connections(room), b"hello") == 3
    assert values(room) == [b"\x05hello", b"hello\n", b"hello\n"]
    assert Counted.framed == 1


def test_a_framing_with_a_state_frames_it_on_each_connection() -> None:
    """A framing of the user's that does not say that it frames alike frames on each connection."""
    room = members(2, framing=Numbered())
    first, second = connections(room)
    first.send(b"one")
    assert send_to_all([first, second], b"two") == 2
    assert values(room) == [b"1 one\n2 two\n", b"1 two\n"]
    assert send_to_all([first, second], b"three") == 1
    assert values(room)[1] == b"1 two\n2 three\n"
    assert protocol_of(first).factory.info().failed_sends == 1


def test_a_client_of_http_knows_what_it_asked() -> None:
    """A request to several servers is noted on each connection, whose responses are read by that."""
    factory = MessageClientFactory(framing=http1(side="client"), clock=StrictClock())
    servers = [joined(factory) for _ in range(2)]
    assert send_to_all(connections(servers), Request("HEAD", "/", [("Host", "a")])) == 2
    for each in servers:
        each.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        assert each.connection.unread == 1


def test_parsers_of_two_factories_are_alike() -> None:
    """The values of equal parsers are framed once, and an option without a hash only makes more kinds."""
    made: list[Any] = []

    def encode(message: Any) -> bytes:
        made.append(message)
        return b"%b;" % message

    @parser(frame=encode)
    def words(marks: Any = ()) -> Any:
        return (yield until(b";"))

    room = [*members(2, framing=words()), *members(2, framing=words()), *members(2, framing=words(marks=[]))]
    assert send_to_all(connections(room), b"a") == 6
    assert values(room) == [b"a;"] * 6
    assert made == [b"a"] * 2


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
def test_the_framings_of_tcpapp_frame_alike(framing: Any) -> None:
    """All of them are called once for all connections, but HTTP, whose client notes what it asked."""
    assert framing.frames_alike == (type(framing) is not http1)
    assert type("Own", (Lines,), {"frame": Lines.frame, "__slots__": ()}).frames_alike is False


# The order on a connection --------------------------------------------------------------------------------------------


class Speaker:
    """An app whose messages go to all, between two replies."""

    def __init__(self) -> None:
        self.room: list[Any] = []

    def opened(self, connection: Any) -> None:
        self.room.append(connection)

    def received(self, message: bytes, connection: Any) -> bytes:
        send_to_all(self.room, b"all: " + message)
        return b"you: " + message


def test_replies_and_messages_to_all_keep_their_order() -> None:
    """Replies that were returned before come first, and all bytes for the speaker are one write."""
    room = members(2, Speaker())
    room[0].receive(b"a\nb\n")
    assert values(room) == [b"all: a\nyou: a\nall: b\nyou: b\n", b"all: a\nall: b\n"]
    assert len(room[0].writes) == 1


# Peers that read slowly -----------------------------------------------------------------------------------------------


def stalled_room(count: int, **limits: int) -> tuple[Any, list[NotedTransport]]:
    """Connect clients that read nothing to one server, whose outboxes are blocked."""
    factory = MessageServerFactory(None, "raw", clock=StrictClock(), timeouts=QUIET, limits=Limits(**limits))
    room = [joined(factory, peer_reads=False) for _ in range(count)]
    for each in room:
        for _ in range(2):
            each.connection.send(bytes(50_000))
        assert protocol_of(each.connection)._outbox.blocked
    return factory, room


@pytest.mark.parametrize("size", [LEAST_SHARED, 500_000])
def test_a_message_that_waits_for_all_counts_once(size: int) -> None:
    """``max_buffered`` counts the message once, and a place in each queue; ``max_unsent`` counts all of it in each."""
    factory, room = stalled_room(10)
    before = factory.info().buffered
    unsent = protocol_of(room[0].connection)._outbox.unsent
    assert send_to_all(connections(room), bytes(size)) == 10
    assert factory.info().buffered - before == size + 10 * PLACE_COST
    assert {protocol_of(each)._outbox.unsent for each in connections(room)} == {unsent + size}
    for each in room:
        each.go_on()
        factory.settings.clock.advance(0)
    assert (factory.info().buffered, factory.settings.memory_budget._held) == (0, {})
    assert {len(each.value()) for each in room} == {100_000 + size}


def test_a_short_message_is_copied() -> None:
    """Short messages that wait are joined, which takes less memory than a place for each."""
    factory, room = stalled_room(2)
    before = factory.info().buffered
    send_to_all(connections(room), b"x" * 100)
    send_to_all(connections(room), b"x" * 100)
    assert factory.info().buffered - before == 400
    assert len(protocol_of(room[0].connection)._outbox._queue) == 2  # one is a send, which waits for its own bytes


@pytest.mark.parametrize("end", ["abort", "close", "reset", "go_on"])
def test_a_message_that_waits_is_forgotten_at_the_end(end: str) -> None:
    """The message counts until the last connection with it has sent it, or has ended."""
    factory, room = stalled_room(2)
    send_to_all(connections(room), bytes(400_000))
    for each in room:
        assert factory.info().buffered > 400_000
        getattr(each.connection if end in ("abort", "close") else each, end)()
        factory.settings.clock.advance(20)
    assert (factory.info().buffered, factory.settings.memory_budget._held) == (0, {})


def test_a_peer_that_takes_nothing_ends_by_max_unsent() -> None:
    """A slow peer has its own bound, and others get all messages."""
    factory, [slow] = stalled_room(1, max_unsent=300_000)
    fast = joined(factory)
    for _ in range(8):
        send_to_all([slow.connection, fast.connection], bytes(100_000))
    assert slow.aborted
    factory.settings.clock.advance(0)
    assert len(fast.value()) == 800_000
    assert factory.info().buffered == 0


def test_memory_is_freed_from_the_peers_that_do_not_take_a_message() -> None:
    """Where all hold too much, connections end that a shared message waits for, if it is the largest part."""
    factory, room = stalled_room(2, max_buffered=3_000_000)
    fast = joined(factory)
    for _ in range(5):
        send_to_all([*connections(room), fast.connection], bytes(700_000))
    factory.settings.clock.advance(0)
    assert [each.aborted for each in room] == [True, True]
    assert not fast.aborted
    assert factory.info().buffered == 0


# Recorders ------------------------------------------------------------------------------------------------------------


def test_a_recorder_hears_of_it() -> None:
    """A recorder gets the message without its frame, and the bytes."""
    told: list[Any] = []

    class Recorder:
        def received(self, messages: Any) -> None: ...

        def sending(self, messages: Any) -> None:
            told.append(messages)

        def sent(self, data: bytes) -> None:
            told.append(data)

    room = members(2, codec="json")
    protocol_of(room[0].connection).record(Recorder())
    assert send_to_all(connections(room), [1]) == 2
    assert told == [[b"[1]"], b"[1]\n"]
    assert values(room) == [b"[1]\n"] * 2


# Sockets --------------------------------------------------------------------------------------------------------------


class Reactor(MemoryReactorClock):
    """A reactor that makes single turns."""

    def turn(self) -> None:
        for call in [each for each in self.calls if each.getTime() <= self.seconds()]:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


class Transport(tcp.Connection):
    """Twisted's transport over any socket."""

    def getPeer(self) -> Any:
        return PEER

    def getHost(self) -> Any:
        return PEER


class OnSocket:
    """A connection of `factory` over Twisted's transport and a real socket, with the socket of its peer."""

    def __init__(self, factory: Any, reactor: Reactor) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.protocol = factory.buildProtocol(None)
        self.transport = Transport(ours, self.protocol, reactor)
        self.transport.connected = 1
        self.protocol.makeConnection(self.transport)
        self.connection = self.protocol.connection

    def heard(self) -> bytes:
        """Return what has arrived."""
        try:
            return self.peer.recv(1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.peer.close()
        if hasattr(self.transport, "socket"):
            self.transport.socket.close()


@pytest.fixture
def sockets() -> Any:
    """Give a function that connects any number of connections to one server, and their reactor."""
    reactor, made = Reactor(), []

    def connected(count: int, app: Any = None, **limits: int) -> list[OnSocket]:
        factory = MessageServerFactory(
            app, "line", timeouts=QUIET, limits=Limits(**limits), policies=Policies(no_delay=False)
        )
        room = [OnSocket(factory, reactor) for _ in range(count)]
        made.extend(room)
        return room

    yield connected, reactor
    for each in made:
        each.close()


def test_on_sockets_it_is_written_in_the_next_turn(sockets: Any) -> None:
    """Messages of one turn are one write, straight to the socket: the reactor need not watch it."""
    connected, reactor = sockets
    room = connected(3)
    assert send_to_all([each.connection for each in room], b"a") == 3
    assert send_to_all([each.connection for each in room], b"b") == 3
    assert [each.heard() for each in room] == [b""] * 3
    reactor.turn()
    assert [each.heard() for each in room] == [b"a\nb\n"] * 3
    assert not reactor.getWriters()
    info = room[0].protocol.info()
    assert (info.sent_messages, info.sent_bytes) == (2, 4)


def test_what_a_socket_does_not_take_is_left_to_the_transport(sockets: Any) -> None:
    """A socket that is nearly full takes the beginning. The reactor watches it for the rest."""
    connected, reactor = sockets
    [member] = connected(1)
    member.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    message = bytes(60_000)
    send_to_all([member.connection], message)
    reactor.turn()
    heard = member.heard()
    assert 0 < len(heard) < len(message)
    assert list(reactor.getWriters()) == [member.transport]
    while reactor.getWriters():
        member.transport.doWrite()
        heard += member.heard()
    assert heard == message + b"\n"


def test_many_sockets_are_written_in_several_turns(sockets: Any) -> None:
    """A turn lasts ``work_per_turn``; what is sent to a connection before its turn keeps its place."""
    connected, reactor = sockets
    room = connected(2 * AT_ONCE, work_per_turn=1)
    reactor.seconds = lambda: next(reactor.ticks)
    reactor.ticks = iter(range(10**6))
    assert send_to_all([each.connection for each in room], b"a") == 2 * AT_ONCE
    protocol_of(room[0].connection).factory.settings.spread_writes._run(reactor, 1e-6)
    assert [each.heard() for each in room] == [b"a\n"] * AT_ONCE + [b""] * AT_ONCE
    room[-1].connection.send(b"b")
    protocol_of(room[0].connection).factory.settings.spread_writes._run(reactor, 1e-6)
    assert [each.heard() for each in room[AT_ONCE:]] == [b"a\n"] * (AT_ONCE - 1) + [b"a\nb\n"]


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("end", ["close", "abort", "drain"])
def test_a_connection_that_ends_before_its_turn(sockets: Any, end: str, size: int) -> None:
    """Closing flushes the message before FIN, and cutting the connection loses it."""
    connected, reactor = sockets
    [each] = connected(1)
    assert send_to_all([each.connection], bytes(size)) == 1
    getattr(each.connection, end)()
    for _ in range(30):
        reactor.turn()
        if each.transport in reactor.getWriters():
            each.transport.doWrite()
    assert (b"\0" * 10 in each.heard()) == (end != "abort")
    assert protocol_of(each.connection).factory.info().buffered == 0


@pytest.mark.parametrize("size", [1000, 200_000])
def test_a_full_socket_keeps_the_rest_in_the_transport(sockets: Any, size: int) -> None:
    """What the socket does not take waits, as with ``send``, and arrives once and whole."""
    connected, reactor = sockets
    [each] = connected(1)
    expected = heard = b""
    for number in range(2_000_000 // size):
        message = b"%06d" % number + bytes(size)
        expected += message + b"\n"
        assert send_to_all([each.connection], message) == 1
        reactor.turn()
    assert each.transport in reactor.getWriters()
    while each.transport in reactor.getWriters():
        heard += each.heard()
        each.transport.doWrite()
    heard += each.heard()
    assert heard == expected


def test_a_message_that_waits_for_its_turn_counts_once(sockets: Any) -> None:
    """Until the last connection has had its turn, the memory account has the message once."""
    connected, reactor = sockets
    room = connected(4)
    assert send_to_all([each.connection for each in room], bytes(50_000)) == 4
    factory = protocol_of(room[0].connection).factory
    assert factory.info().buffered == 50_001
    reactor.turn()
    assert factory.info().buffered == 0


def test_a_reply_before_the_turn_takes_the_message_with_it(sockets: Any) -> None:
    """A reply in the same turn comes behind the message, in one write with it."""
    connected, reactor = sockets
    [each] = connected(1, lambda message, connection: message)
    send_to_all([each.connection], b"first")
    each.protocol.dataReceived(b"second\n")
    each.transport.doWrite()
    assert each.heard() == b"first\nsecond\n"
    reactor.turn()
    assert each.heard() == b""
