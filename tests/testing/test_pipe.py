"""One direction of a connection: order, bounds, cuts, time, and the ways it ends."""

from __future__ import annotations

import random
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tcpapp.testing.buffered_socket import MemorySocket
from tcpapp.testing.pipe import CAPACITY, SEGMENT, Pipe, cut_at, each_byte, seeded_cuts
from tcpapp.testing.pipe_socket import PipeSocket


def read_all(pipe: Pipe) -> list[bytes]:
    """Return all bytes that can be read now, piece by piece."""
    pieces = []
    while pipe.held and pipe.readable:
        pieces.append(pipe.read(1 << 20))
    return pieces


def pair(clock: Clock, **options: object) -> tuple[PipeSocket, PipeSocket]:
    """Return two sockets joined by two pipes."""
    there, back = Pipe(clock, **options), Pipe(clock, **options)
    return PipeSocket(there, back), PipeSocket(back, there)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_is_written_is_read_whole(clock: Clock) -> None:
    """Without cuts the reader gets all that is there, in one piece."""
    pipe = Pipe(clock)
    assert pipe.write(b"one ") == 4
    assert pipe.write(memoryview(b"two")) == 3
    assert pipe.read(100) == b"one two"


def test_a_read_takes_no_more_than_it_asks_for(clock: Clock) -> None:
    """The rest stays."""
    pipe = Pipe(clock)
    pipe.write(b"hello")
    assert [pipe.read(2), pipe.read(2), pipe.read(2)] == [b"he", b"ll", b"o"]


def test_an_empty_pipe_would_block(clock: Clock) -> None:
    """There is nothing to read, and no end."""
    pipe = Pipe(clock)
    assert not pipe.readable
    with pytest.raises(BlockingIOError):
        pipe.read(1)


def test_each_byte_by_itself(clock: Clock) -> None:
    """`each_byte` gives one byte a read."""
    pipe = Pipe(clock, cuts=each_byte())
    pipe.write(b"abc")
    assert read_all(pipe) == [b"a", b"b", b"c"]


def test_chosen_cuts_are_offsets_into_the_stream(clock: Clock) -> None:
    """However it is written and read, no read reaches over a cut; after the last there are none."""
    pipe = Pipe(clock, cuts=cut_at(2, 5))
    pipe.write(b"a")
    assert read_all(pipe) == [b"a"]
    pipe.write(b"bcdefgh")
    assert read_all(pipe) == [b"b", b"cde", b"fgh"]


@pytest.mark.parametrize("offsets", [(0,), (3, 3), (5, 2)])
def test_cuts_that_do_not_rise_are_refused(offsets: tuple[int, ...]) -> None:
    """A piece has at least one byte."""
    with pytest.raises(ValueError, match="rise"):
        cut_at(*offsets)


@given(seed=st.integers(), data=st.binary(max_size=500))
def test_seeded_cuts_repeat_and_lose_nothing(seed: int, data: bytes) -> None:
    """The same seed cuts the same way, and the pieces are the stream."""
    runs = []
    for cuts in [seeded_cuts(seed), seeded_cuts(random.Random(seed))]:
        pipe = Pipe(Clock(), cuts=cuts)
        pipe.write(data)
        runs.append(read_all(pipe))
    assert runs[0] == runs[1]
    assert b"".join(runs[0]) == data


def test_it_holds_no_more_than_its_capacity(clock: Clock) -> None:
    """Bytes over it are not accepted, until the reader has made room and the writer learns of it."""
    told = []
    pipe = Pipe(clock, capacity=10)
    pipe.on_room = lambda: told.append(pipe.room)
    assert pipe.write(b"x" * 15) == 10
    assert pipe.write(b"y") == 0
    pipe.read(4)
    assert told == [4]
    assert Pipe(clock).room == CAPACITY


def test_a_capacity_below_what_is_held_takes_nothing(clock: Clock) -> None:
    """Until the reader has come below it."""
    pipe = Pipe(clock, capacity=10)
    pipe.write(b"x" * 8)
    pipe.capacity = 5
    assert pipe.room == 0
    assert pipe.write(b"abcdef") == 0
    pipe.read(4)
    assert pipe.write(b"abcdef") == 1


@pytest.mark.parametrize("options", [{"capacity": 0}, {"latency": -1}, {"bandwidth": 0}])
def test_impossible_lines_are_refused(clock: Clock, options: dict[str, float]) -> None:
    """A line that carries nothing is `cut`, not configured."""
    with pytest.raises(ValueError, match="above 0"):
        Pipe(clock, **options)


def test_latency(clock: Clock) -> None:
    """Bytes and the end arrive that many seconds after they were written, in order."""
    pipe = Pipe(clock, latency=2.0)
    pipe.write(b"a")
    clock.advance(1)
    pipe.write(b"b")
    pipe.end()
    clock.advance(0.5)
    assert not pipe.readable
    clock.advance(0.5)
    assert read_all(pipe) == [b"a"]
    assert not pipe.ended
    clock.advance(1)
    assert read_all(pipe) == [b"b"]
    assert pipe.read(1) == b""


def test_bandwidth(clock: Clock) -> None:
    """Bytes arrive at that rate, a segment at a time."""
    pipe = Pipe(clock, bandwidth=SEGMENT)
    pipe.write(b"x" * 3 * SEGMENT)
    clock.advance(1)
    assert [len(each) for each in read_all(pipe)] == [SEGMENT]
    clock.advance(2)
    assert [len(each) for each in read_all(pipe)] == [2 * SEGMENT]
    assert clock.getDelayedCalls() == []


@given(now=st.floats(0, 1e9), latency=st.floats(0, 1e6))
def test_sums_that_are_rounded_delay_nothing(now: float, latency: float) -> None:
    """If the clock's sum is below the pipe's by a rounding, due items arrive all the same."""
    clock = Clock()
    clock.advance(now)
    pipe = Pipe(clock, latency=latency)
    pipe.write(b"x")
    clock.advance(latency)
    assert pipe.readable


def test_a_stalled_line_delivers_later(clock: Clock) -> None:
    """Nothing arrives while it stalls; then all due items do."""
    pipe = Pipe(clock)
    pipe.stall()
    pipe.write(b"a")
    pipe.end()
    clock.advance(60)
    assert not pipe.readable
    pipe.go_on()
    assert read_all(pipe) == [b"a"]
    assert pipe.ended


@pytest.mark.parametrize("latency", [0.0, 1.0])
def test_a_cut_line_delivers_nothing_ever(latency: float, clock: Clock) -> None:
    """No byte, no end, no reset, and no timer; the writer finds its buffer full."""
    pipe = Pipe(clock, capacity=3, latency=latency)
    pipe.stall()
    pipe.write(b"ab")
    pipe.go_on() if latency else None
    pipe.cut()
    pipe.go_on()
    assert pipe.write(b"cd") == 1
    pipe.end()
    pipe.reset()
    clock.advance(10)
    assert not pipe.readable
    assert pipe.room == 0
    assert clock.getDelayedCalls() == []


def test_the_end_comes_after_the_bytes_and_stays(clock: Clock) -> None:
    """It can be read again and again, and nothing can be written."""
    pipe = Pipe(clock)
    pipe.write(b"a")
    pipe.end()
    pipe.end()
    assert [pipe.read(9), pipe.read(9), pipe.read(9)] == [b"a", b"", b""]
    with pytest.raises(BrokenPipeError):
        pipe.write(b"b")


def test_a_reset_comes_after_what_is_on_the_line(clock: Clock) -> None:
    """Bytes not on the line yet are lost."""
    pipe = Pipe(clock, latency=1.0, bandwidth=SEGMENT)
    pipe.write(b"a" * 2 * SEGMENT)
    pipe.end()
    clock.advance(1)
    pipe.reset()
    clock.advance(1)
    assert read_all(pipe) == [b"a" * SEGMENT]
    with pytest.raises(ConnectionResetError):
        pipe.read(1)


def test_a_reader_that_has_gone_makes_room_and_is_not_there(clock: Clock) -> None:
    """Later bytes are dropped, and the writer's end learns of it."""
    refused = []
    pipe = Pipe(clock, capacity=4)
    pipe.on_refused = lambda: refused.append(pipe.room)
    pipe.write(b"abc")
    assert pipe.refuse()
    assert not pipe.refuse()
    assert pipe.write(b"abcd") == 4
    assert refused == [4]
    assert not pipe.readable


def test_an_end_is_refused_where_nobody_knows_the_connection(clock: Clock) -> None:
    """As bytes are; if the reader has closed properly, its kernel still accepts the end."""
    refused = []
    for refuses_ends in (False, True):
        pipe = Pipe(clock)
        pipe.on_refused = lambda refuses_ends=refuses_ends: refused.append(refuses_ends)
        pipe.refuses_ends = refuses_ends
        pipe.refuse()
        pipe.end()
    assert refused == [True]


# Sockets between pipes -----------------------------------------------------------------------------------------------


def test_two_sockets_talk(clock: Clock) -> None:
    """What one sends the other receives; each is told when it is ready."""
    ready = []
    here, there = pair(clock, capacity=3)
    here.on_ready = lambda: ready.append("here")
    there.on_ready = lambda: ready.append("there")
    assert here.send(b"hello") == 3
    assert not here.writable
    with pytest.raises(BlockingIOError):
        here.send(b"lo")
    assert here.send(b"") == 0
    assert there.readable
    assert there.recv(10) == b"hel"
    assert here.writable
    assert ready == ["there", "here"]


def test_a_socket_that_shuts_down_can_still_receive(clock: Clock) -> None:
    """Half-close: the peer reads the end and answers."""
    here, there = pair(clock)
    here.shutdown(socket.SHUT_WR)
    assert there.recv(1) == b""
    there.send(b"answer")
    assert here.recv(10) == b"answer"


def test_an_orderly_close_is_the_end_of_the_stream(clock: Clock) -> None:
    """Closed with nothing unread, the peer reads the end; its later bytes are answered with a reset."""
    here, there = pair(clock)
    here.close()
    here.close()
    assert there.recv(1) == b""
    assert there.send(b"too late") == 8
    with pytest.raises(BrokenPipeError):
        there.send(b"again")
    assert there.recv(1) == b""
    with pytest.raises(BrokenPipeError):
        here.shutdown(socket.SHUT_WR)


def test_a_close_with_something_unread_is_a_reset(clock: Clock) -> None:
    """As in Linux."""
    here, there = pair(clock)
    there.send(b"question")
    here.close()
    with pytest.raises(ConnectionResetError):
        there.recv(1)


def test_a_memory_socket_leaves_its_ways_to_others() -> None:
    """Without a subclass it neither reads nor writes; it blocks never and has no descriptor."""
    plain = MemorySocket()
    plain.setblocking(False)
    plain.on_ready()
    assert plain.fileno() == -1
    for call in [
        lambda: plain.readable,
        lambda: plain.writable,
        lambda: plain.recv(1),
        lambda: plain.send(b""),
        plain.shut_down,
        lambda: plain.hang_up(reset=True),
    ]:
        with pytest.raises(NotImplementedError):
            call()
