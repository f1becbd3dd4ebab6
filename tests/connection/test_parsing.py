"""A connection with a parser: the app gets what the generator returns, and replies go through its function."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tcpapp import Limits, MessageClientFactory, MessageServerFactory, Reply, batch, conversation
from tcpapp.connection.parsing import Parsing, parts_of
from tcpapp.errors import InvalidOption, UndecodableMessage, UnsendableMessage
from tcpapp.framing import Lines, exactly, parser
from tcpapp.framing.reader import Parse
from tcpapp.telemetry import AppFailed
from tests.connection.moves import Moving
from tests.connection.test_recording import Notes
from tests.framing.generators import Command, memcached, record
from tests.peers import Peer, Switch, joined, never, outcome, result_of

SET, GET = ([b"set", b"k", b"0", b"0", b"3"], b"abc"), ([b"get", b"k"], None)
SENT_SET, SENT_GET = b"set k 0 0 3\r\nabc\r\n", b"get k\r\n"
STORED = [b"STORED"], None


def store(message: Command, connection: Any) -> Command:
    """Repeat the words of the command."""
    words, data = message
    return [b"got", *words], data


class Counted:
    """A parser that counts how often it reads a message."""

    def __init__(self) -> None:
        self.count = 0

        @parser(frame=bytes.upper)
        def pairs() -> Parse:
            """Read two bytes."""
            self.count += 1
            return (yield exactly(2))

        self.framing = pairs()


@pytest.mark.parametrize("size", [1, 5, 100])
def test_the_app_gets_what_the_generator_returns(size: int) -> None:
    """The app gets the values, and its replies are framed by the parser's function, however the stream is cut."""
    peer = Peer(store, memcached())
    stream = SENT_SET + SENT_GET
    for at in range(0, len(stream), size):
        peer.says(stream[at : at + size])
    assert peer.hears() == b"got set k 0 0 3\r\nabc\r\ngot get k\r\n"


def test_a_reply_that_comes_later() -> None:
    """A reply of a Deferred is framed, too. Messages that wait for it do so as their bytes."""
    switch = Switch()
    peer = Peer(switch, memcached())
    peer.says(SENT_SET + SENT_GET + SENT_GET[:3])
    assert peer.protocol._inbox.dump() == [SENT_GET]
    assert peer.protocol._dispatcher.handling_bytes > len(SENT_SET)
    switch.pending[0].callback(STORED)
    switch.pending[1].callback(Reply(GET))
    assert (switch.seen, peer.hears()) == ([SET, GET], b"STORED\r\nget k\r\n")
    assert peer.protocol.info().buffered == 3


def test_a_message_is_read_once() -> None:
    """A message that the app takes at once is read once, also where the throttle lets it in."""
    counted = Counted()
    peer = Peer(lambda message, _: message, counted.framing, clock=Clock())
    peer.says(b"ab" * 50)
    peer.says(b"cd")
    assert peer.hears() == b"AB" * 50 + b"CD"
    assert counted.count == 51


def test_messages_over_a_rate_wait_as_bytes() -> None:
    """Messages that a rate holds back wait as their bytes, and are read again when they are let in."""
    clock = Clock()
    factory = MessageServerFactory(store, memcached(), limits=Limits(message_rate=1), clock=clock)
    transport = joined(factory)
    transport.receive(SENT_GET * 3)
    assert transport.protocol._throttle.pending == [SENT_GET] * 2
    clock.pump([1, 1])
    transport.turn()
    assert transport.value() == b"got get k\r\n" * 3


def test_messages_that_come_while_others_wait_for_a_turn() -> None:
    """Messages that come behind messages that wait for a turn wait as their bytes, too."""
    peer = Peer(store, memcached())
    throttle = peer.protocol._throttle
    throttle.pending, throttle.size = [SENT_GET], len(SENT_GET)
    peer.slips_in(SENT_SET)
    assert throttle.pending == [SENT_GET, SENT_SET]


def test_a_batch() -> None:
    """A batch app gets all values that came together, and its replies are framed."""

    @batch
    def all_of(messages: list[Command], connection: Any) -> list[Any]:
        """Repeat the commands, in another order."""
        return [Reply(each) for each in reversed(messages)]

    peer = Peer(all_of, memcached())
    peer.says(SENT_SET + SENT_GET)
    assert peer.hears() == SENT_GET + SENT_SET


def test_a_conversation() -> None:
    """A conversation receives and sends values."""

    @conversation
    async def talk(connection: Any) -> None:
        """Repeat the commands."""
        async for message in connection:
            await connection.send(store(message, connection))

    peer = Peer(talk, memcached())
    peer.says(SENT_SET + SENT_GET[:2])
    peer.says(SENT_GET[2:])
    assert peer.hears() == b"got set k 0 0 3\r\nabc\r\ngot get k\r\n"


def test_a_conversation_gets_what_was_read() -> None:
    """A message that a conversation waits for is read once. What it does not take at once waits as bytes."""
    counted = Counted()
    seen: list[bytes] = []

    @conversation
    async def talk(connection: Any) -> None:
        """Take one message, and then wait for the app to be told to go on."""
        seen.append(await connection.receive())
        await connection.send(b"xy")
        await gate
        seen.append(await connection.receive())
        await never(None, connection)

    gate: Deferred[None] = Deferred()
    peer = Peer(talk, counted.framing)
    peer.says(b"abcd")
    assert (seen, counted.count, peer.hears()) == ([b"ab"], 2, b"XY")
    assert peer.protocol._inbox.dump() == [b"cd"]
    gate.callback(None)
    assert (seen, counted.count) == ([b"ab", b"cd"], 3)


def test_none_is_a_message() -> None:
    """An app gets `None` as a message, and replies with it by `Reply`; plain `None` is no reply."""

    @parser(frame=lambda value: b"-" if value is None else value)
    def bytes_or_none() -> Parse:
        """Read a byte; a minus is None."""
        byte = yield exactly(1)
        return None if byte == b"-" else byte

    seen: list[Any] = []

    def app(message: bytes | None, _: Any) -> Any:
        seen.append(message)
        return Reply(None) if message == b"n" else None

    peer = Peer(app, bytes_or_none())
    peer.says(b"a-n")
    assert (seen, peer.hears()) == ([b"a", None, b"n"], b"-")


def test_a_client() -> None:
    """A client sends values, and receives values: as the reply of a request, and otherwise."""
    factory = MessageClientFactory(None, memcached(), clock=Clock())
    transport = joined(factory)
    connection = transport.protocol.connection
    reply = connection.request(SET)
    transport.receive(b"STORED\r\n" + SENT_SET + SENT_GET)
    assert transport.value() == SENT_SET
    assert [result_of(each) for each in (reply, connection.receive(), connection.receive())] == [STORED, SET, GET]
    waiting = connection.receive()
    transport.receive(SENT_GET)
    assert result_of(waiting) == GET
    outcome(connection.close())


def key_of(message: Command) -> bytes | None:
    """Return the last of several words."""
    return message[0][-1] if len(message[0]) > 1 else None


def test_requests_by_key() -> None:
    """The key of a request is found in values, and messages that answer no request are read once."""
    factory = MessageClientFactory(Switch(), memcached(), key=key_of, clock=Clock())
    transport = joined(factory)
    connection = transport.protocol.connection
    first, second = connection.request(GET), connection.request(([b"get", b"j"], None))
    transport.receive(b"VALUE j\r\nREADY\r\nVALUE k\r\n")
    assert (result_of(first), result_of(second)) == (([b"VALUE", b"k"], None), ([b"VALUE", b"j"], None))
    assert factory.settings.app.seen == [([b"READY"], None)]


def test_a_message_that_cannot_be_sent() -> None:
    """A value that the function cannot frame is `UnsendableMessage`, and as a reply the app's failure."""
    peer = Peer(lambda *_: b"not a command", memcached())
    assert isinstance(result_of(peer.connection.send(5)), UnsendableMessage)
    peer.says(SENT_GET)
    [failed] = peer.told(AppFailed)
    assert "memcached cannot frame this bytes" in str(failed.failure.value)


def test_a_fault_closes_the_connection() -> None:
    """The messages before a fault are answered, and the fault is the reason of the end, with its cause."""
    peer = Peer(store, memcached())
    peer.says(SENT_GET + b"set k 0 0 many\r\n" + SENT_GET)
    peer.leaves()
    assert peer.hears() == b"got get k\r\n"
    assert peer.reason.rule == "malformed-frame"
    assert "ValueError: invalid literal" in peer.reason.detail
    assert isinstance(peer.reason.error.__cause__, ValueError)
    assert peer.reason.error.__cause__.__traceback__ is None


def test_the_end_inside_a_message() -> None:
    """A stream that ends inside a message is truncated."""
    peer = Peer(store, memcached())
    peer.says(SENT_SET[:-1])
    peer.leaves()
    assert peer.reason.rule == "truncated-message"


def test_a_heartbeat() -> None:
    """A heartbeat is a value, and checked when the factory is made."""
    assert MessageServerFactory(store, memcached(), heartbeat=GET)
    with pytest.raises(InvalidOption, match="cannot frame this bytes"):
        MessageServerFactory(store, memcached(), heartbeat=b"get k")


def test_a_recorder_hears_the_bytes() -> None:
    """A recorder gets the messages as they are on the wire."""
    peer = Peer(store, memcached())
    notes = Notes()
    peer.protocol.record(notes)
    peer.says(SENT_SET + SENT_GET)
    assert notes.all("received") == [SENT_SET, SENT_GET]
    assert notes.all("sending") == [b"got set k 0 0 3\r\nabc\r\n", b"got get k\r\n"]
    assert b"".join(notes.all("sent")) == peer.hears()


def test_a_connection_moves() -> None:
    """An open connection moves in the middle of a message, and with messages that wait."""
    moving = Moving(store, memcached())
    for byte in SENT_SET + SENT_GET:
        moving.says(bytes([byte]))
        moving.move()
    moving.connection.pause()
    moving.says(SENT_GET + SENT_SET)
    moving.move()
    moving.connection.resume()
    replies = b"got set k 0 0 3\r\nabc\r\n", b"got get k\r\n"
    assert moving.hears() == b"".join([replies[0], replies[1], replies[1], replies[0]])


# With a codec


def test_a_codec_decodes_the_messages_of_a_parser() -> None:
    """With a codec, the messages of a parser are bytes, which the codec decodes, and encodes before they are framed."""
    peer = Peer(lambda value, _: value * 2, record(), codec="json")
    peer.says(b"S\x03[1]S\x04")
    peer.says(b"[10]")
    assert peer.hears() == b"S\x05[1,1]S\x07[10,10]"


def test_a_codec_where_messages_are_no_bytes() -> None:
    """With a codec, a parser whose messages are not bytes ends the connection, and the reason says why."""
    peer = Peer(lambda *_: None, memcached(), codec="text")
    peer.says(SENT_GET)
    peer.leaves()
    assert "memcached returns a tuple: where there is a codec, a message is bytes" in peer.reason.detail


# The parts


def test_parts_of_other_framings() -> None:
    """Other framings and their codecs are used as they are."""
    lines = Lines()
    assert parts_of(lines, None) == (lines, None)


def test_a_parser_that_reads_a_message_differently_again() -> None:
    """A parser that does not depend on the bytes alone is refused where a message is read again."""
    answers = iter([2, 1, 1, 3])

    @parser
    def fickle() -> Parse:
        """Read more or less."""
        return (yield exactly(next(answers)))

    _, codec = parts_of(fickle(), None)
    assert isinstance(codec, Parsing)
    assert codec.read(b"ab") == b"ab"
    with pytest.raises(UndecodableMessage, match=r"not one message of .*:fickle, but 2"):
        codec.read(b"ab")
    with pytest.raises(UndecodableMessage, match=r"not one message of .*: the stream ended inside"):
        codec.read(b"ab")


def test_the_weight_of_a_message() -> None:
    """The weight of a message in the hands of the app is an upper bound."""
    peer = Peer(never, memcached())
    peer.says(SENT_SET)
    assert peer.protocol.info().buffered >= len(SENT_SET)
