"""A connection that is moved to another process goes on there: its peer sees the same bytes at the same times."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcpapp import Limits, Timeouts, batch
from tcpapp.connection.lifecycle import State
from tcpapp.telemetry import Closed, MessagesSkipped
from tests.connection.moves import MESSAGES, WAITS, Moving, pieces_of, shout, stream_of
from tests.peers import Switch, TurnClock

FRAMINGS = ["line", "line:max=100:oversize=skip", "int32", "netstring", "varint", "slip", "cobs", "delimited:by=\\x03"]
"""Specs of framings with undigested bytes of every kind."""


@batch
def shout_all(messages: list[bytes], connection: Any) -> list[bytes]:
    """Reply to all messages of a batch in capitals, with an exclamation mark."""
    return [message.upper() + b"!" for message in messages]


def count_up(value: Any, connection: Any) -> Any:
    """Reply with the next number."""
    return {"next": value["number"] + 1}


# Every byte ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("app", [shout, shout_all])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_move_behind_each_byte_is_not_noticed(framing: str, app: Any) -> None:
    """With a move after each byte, the peer gets the same bytes as without moves."""
    stream = stream_of(framing, [b"hello", b"a" * 20, b"b"])
    still, moving = Moving(app, framing), Moving(app, framing)
    for place in range(len(stream)):
        for each in (still, moving):
            each.says(stream[place : place + 1])
        moving.move()
        assert still.hears() == moving.hears()
    assert len(still.hears()) > len(stream)


@given(MESSAGES, st.sets(st.integers(0, 300), max_size=6), st.sets(st.integers(0, 6)), st.sampled_from(FRAMINGS))
def test_a_move_between_any_two_chunks_is_not_noticed(
    messages: list[bytes], cuts: set[int], moves: set[int], framing: str
) -> None:
    """With any number of moves between chunks of any messages, the peer gets the same bytes as without moves."""
    stream = stream_of(framing, [b"x" + message for message in messages])
    still, moving = Moving(shout, framing), Moving(shout, framing)
    for place, piece in enumerate(pieces_of(stream, cuts)):
        for each in (still, moving):
            each.says(piece)
            each.advance(0.25)
        if place in moves:
            moving.move()
    assert still.hears() == moving.hears()


@pytest.mark.exhaustive
@given(st.lists(st.integers(0, 999), max_size=6), st.sets(st.integers(0, 150), max_size=8))
def test_values_of_a_codec_are_the_same(numbers: list[int], cuts: set[int]) -> None:
    """Messages that wait at a move are decoded by the next process, and each is answered."""
    stream = b"".join(json.dumps({"number": each}).encode() + b"\n" for each in numbers)
    moving = Moving(count_up, codec="json")
    for piece in pieces_of(stream, cuts):
        moving.connection.pause()
        moving.says(piece)
        moving.move()
        moving.connection.resume()
    assert [each + 1 for each in numbers] == [json.loads(line)["next"] for line in moving.hears().splitlines()]


def test_a_message_that_is_skipped_is_skipped_to_its_end() -> None:
    """A message that the old process began to skip is skipped to its end by the new process, which reports it."""
    moving = Moving(shout, "line:max=9:oversize=skip")
    moving.says(b"far too long")
    moving.move()
    moving.says(b" a line\nshort\n")
    assert moving.hears() == b"SHORT!\n"
    assert [each.count for each in moving.now.told(MessagesSkipped)] == [1]


# What waits ----------------------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@given(st.sets(st.integers(0, 40)))
def test_messages_that_wait_for_their_turn_are_answered_in_order(moves: set[int]) -> None:
    """With moves between turns, or while a rate allows no more, all messages are answered in order."""
    stream = b"".join(b"%d\n" % number for number in range(40))
    moving = Moving(shout, limits=Limits(messages_per_turn=3, message_rate=20))
    moving.says(stream)
    for place in range(40):
        if place in moves:
            moving.move()
        moving.advance(0.05)
    moving.advance(1)
    assert moving.hears() == stream.replace(b"\n", b"!\n")
    assert moving.now.transport.producerState != "paused"


@pytest.mark.parametrize("rates", [{"message_rate": 4}, {"byte_rate": 12}], ids=["messages", "bytes"])
def test_a_move_gives_no_new_tokens(rates: dict[str, int]) -> None:
    """A peer whose connection is moved again and again gets no more than its rate."""
    moving = Moving(shout, limits=Limits(**rates))
    moving.says(b"ab\n" * 100)
    for _ in range(20):
        moving.move()
        moving.advance(0.25)
    assert 4 * 5 <= moving.hears().count(b"\n") <= 4 * 6


def test_messages_wait_for_a_user_that_has_paused() -> None:
    """
    After a move, a paused connection with a full inbox still reads nothing, and answers everything after `resume()`.
    """
    moving = Moving(shout, limits=Limits(inbox_high=300, inbox_low=100))
    moving.connection.pause()
    moving.says(b"".join(b"%d\n" % number for number in range(10)))
    moving.move()
    assert (moving.connection.unread, moving.now.transport.producerState, moving.hears()) == (10, "paused", b"")
    moving.says(b"more\n")
    assert moving.connection.unread == 10
    moving.connection.resume()
    moving.now.transport.turn()
    assert moving.hears() == b"".join(b"%d!\n" % number for number in range(10)) + b"MORE!\n"


@pytest.mark.parametrize("app", [shout, shout_all])
def test_messages_behind_a_pending_reply_wait_for_the_next_process(app: Any) -> None:
    """Messages behind a pending reply are not handled in the old process, and the next process handles them."""
    switch = Switch()
    moving = Moving(switch)
    moving.says(b"a\nb\nc\n")
    moving.protocol.pause_at_boundary()
    switch.pending[0].callback(b"A")
    assert (moving.hears(), switch.seen, moving.protocol.obstacles()) == (b"A\n", [b"a"], [])
    moving.app = app
    moving.move()
    assert moving.hears() == b"A\nB!\nC!\n"


@pytest.mark.exhaustive
@given(st.lists(st.integers(1, 300_000), min_size=1, max_size=5), st.lists(st.integers(0, 200_000), max_size=6))
def test_unsent_bytes_are_sent_first(sizes: list[int], takes: list[int]) -> None:
    """Unsent bytes of several processes reach a slow peer in order, before later replies."""

    def many(message: bytes, connection: Any) -> bytes:
        number, size = message.split(b":")
        return number * int(size)

    moving = Moving(many, "line:max=1000000", peer_reads=False)
    messages = [(b"%d" % number, size) for number, size in enumerate(sizes)]
    for number, size in messages:
        moving.says(b"%s:%d\n" % (number, size))
    for most in takes:
        moving.move()
        moving.now.transport.take(most)
    moving.move()
    moving.now.transport.go_on()
    moving.now.transport.turn()
    assert moving.hears() == b"".join(number * size + b"\n" for number, size in messages)


def test_the_app_waits_for_a_peer_that_takes_nothing_in_the_next_process_too() -> None:
    """After a move, the app gets no message while the peer reads nothing, and then gets the waiting ones."""
    seen: list[bytes] = []

    def floods(message: bytes, connection: Any) -> bytes:
        seen.append(message)
        return b"x" * 200_000

    moving = Moving(floods, "line:max=1000000", peer_reads=False)
    moving.says(b"a\n")
    moving.says(b"b\n")
    moving.move()
    assert (seen, moving.connection.unread) == ([b"a"], 1)
    moving.now.transport.go_on()
    moving.now.transport.turn()
    assert (seen, len(moving.hears())) == ([b"a", b"b"], 2 * 200_001)


# Time ----------------------------------------------------------------------------------------------------------------


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(0, 24).map(lambda each: each / 2)),
        st.tuples(st.just("says"), st.sampled_from([b"a\n", b"a", b"a\nb"])),
        st.tuples(st.just("pause")),
        st.tuples(st.just("resume")),
    ),
    max_size=8,
)


def ended_at(steps: list[tuple[Any, ...]], moves: set[int]) -> tuple[float, str]:
    """Return when and by which rule a timeout ends the connection, with moves before these steps."""
    moving = Moving(shout, timeouts=WAITS, limits=Limits(age_jitter=0))
    for place, (name, *given_) in enumerate([*steps, *[("advance", 0.25)] * 400]):
        if moving.connection.state is State.CLOSED:
            break
        if place in moves and moving.connection.is_open:
            moving.move()
        getattr(moving.connection if name in ("pause", "resume") else moving, name)(*given_)
    [closed] = moving.now.told(Closed)
    return moving.time, closed.reason.rule


@pytest.mark.exhaustive
@given(STEPS, st.sets(st.integers(0, 20), min_size=1))
@example([("says", b"a\n"), ("pause",), ("advance", 7.0), ("resume",)], {3})
def test_a_timeout_ends_a_moved_connection_at_the_same_time(steps: list[tuple[Any, ...]], moves: set[int]) -> None:
    """With any moves, a timeout ends the connection at the same second and for the same reason as without moves."""
    assert ended_at(steps, set()) == ended_at(steps, moves)


def test_the_greatest_age_is_drawn_once() -> None:
    """Moves do not change the time at which `max_age` ends the connection."""
    moving = Moving(shout, timeouts=Timeouts(first_message=0, idle=0, max_age=100), limits=Limits(age_jitter=50))
    ends = moving.protocol._deadlines.ends("max_age") - moving.now.clock.seconds()
    for _ in range(4):
        moving.advance(10)
        moving.move()
    assert moving.protocol._deadlines.ends("max_age") - moving.now.clock.seconds() == pytest.approx(ends - 40)


@pytest.mark.parametrize("moves", [0, 3])
def test_a_peer_that_takes_nothing_is_given_no_more_time(moves: int) -> None:
    """Moves do not restart `send_progress` for a peer that reads nothing."""
    timeouts = Timeouts(first_message=0, idle=0, send_progress=10)
    moving = Moving(shout, "line:max=1000000", timeouts=timeouts, peer_reads=False)
    moving.says(b"x" * 300_000 + b"\n")
    for _ in range(moves):
        moving.advance(2)
        moving.move()
    moving.advance(10 - 2 * moves - 0.5)
    assert moving.connection.is_open
    moving.advance(0.5)
    assert moving.now.told(Closed)[0].reason.rule == "send-stalled"
    assert moving.now.told(Closed)[0].reason.limit == 10


def test_a_peer_that_takes_all_bytes_at_the_move_is_not_cut() -> None:
    """If the peer takes all bytes at the move, `send_progress` does not end the connection."""
    timeouts = Timeouts(first_message=0, idle=0, send_progress=10)
    moving = Moving(shout, "line:max=1000000", timeouts=timeouts, peer_reads=False)
    moving.says(b"x" * 300_000 + b"\n")
    moving.changed = {"peer_reads": True}
    moving.move()
    moving.advance(20)
    assert (moving.connection.is_open, len(moving.hears())) == (True, 300_002)


@pytest.mark.parametrize("moves", [0, 1, 2, 3])
def test_a_silent_peer_misses_as_many_heartbeats(moves: int) -> None:
    """
    After a move the next heartbeat is due at its old time. A heartbeat does not count as missed if nothing was read
    since.
    """
    moving = Moving(shout, timeouts=Timeouts(first_message=0, idle=0, heartbeat=10), heartbeat=b"ping")
    for place in range(9):
        if place < moves:
            moving.move()
        moving.advance(5)
    moving.advance(50)
    assert moving.hears() == b"ping\n" * (2 + (moves > 2))
    assert moving.now.told(Closed)[0].reason.rule == "heartbeat-missed"


# Numbers -------------------------------------------------------------------------------------------------------------


@given(MESSAGES, st.sets(st.integers(0, 300), max_size=4), st.sets(st.integers(0, 6)))
def test_a_connection_counts_on(messages: list[bytes], cuts: set[int], moves: set[int]) -> None:
    """The counts of the connection go on, and all factories together count each message and the connection once."""
    stream = stream_of("line", messages)
    moving = Moving(shout)
    for place, piece in enumerate(pieces_of(stream, cuts)):
        moving.says(piece)
        if place in moves:
            moving.move()
    received, sent = moving.protocol.counters
    counted = (received.messages, received.bytes, sent.messages, sent.bytes)
    assert counted == (len(messages), len(stream), len(messages), len(moving.hears()))
    infos = [each.factory.info() for each in [*moving.before, moving.now]]
    totals = zip(*[(each.messages, each.bytes, each.sent_messages, each.sent_bytes) for each in infos], strict=True)
    assert tuple(map(sum, totals)) == counted
    assert [each.accepted for each in infos] == [1] + [0] * len(moving.before)
    assert [each.connections for each in infos] == [0] * len(moving.before) + [1]
    assert {each.most_connections for each in infos} == {1}


def test_a_factory_shows_the_age_of_a_connection_that_came_from_another_process() -> None:
    """`info().oldest` of the new factory is the age since the connection was first made."""
    moving = Moving(shout)
    moving.advance(30)
    moving.changed = {"clock": (clock := TurnClock())}
    clock.advance(5000)
    moving.move()
    clock.advance(12)
    assert moving.now.factory.info().oldest == 42


def test_unsent_messages_are_counted_where_they_leave() -> None:
    """Bytes count in the process whose transport gets them, and a message counts with its last byte."""
    moving = Moving(lambda message, connection: message * 100_000, "line:max=1000000", peer_reads=False)
    for letter in (b"a\n", b"b\n"):
        moving.says(letter)
    before = moving.protocol.counters[1].bytes
    moving.move()
    moving.now.transport.go_on()
    moving.now.transport.turn()
    sent = moving.protocol.counters[1]
    assert 0 < before < sent.bytes == len(moving.hears()) == 200_002
    assert sent.messages == 2
    assert moving.now.factory.info().sent_bytes == 200_002 - before
