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
    """Return two sockets that are joined by two pipes."""
    there, back = Pipe(clock, **options), Pipe(clock, **options)
    return PipeSocket(there, back), PipeSocket(back, there)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_written_bytes_are_read_in_one_piece(clock: Clock) -> None:
    """Without cuts, a read gets all written bytes in one piece."""
    pipe = Pipe(clock)
    assert pipe.write(b"one ") == 4
    assert pipe.write(memoryview(b"two")) == 3
    assert pipe.read(100) == b"one two"


def test_a_read_takes_no_more_than_it_asks_for(clock: Clock) -> None:
    """A read takes at most as many bytes as it asks for, and the rest stays in the pipe."""
    pipe = Pipe(clock)
    pipe.write(b"hello")
    assert [pipe.read(2), pipe.read(2), pipe.read(2)] == [b"he", b"ll", b"o"]


def test_an_empty_pipe_would_block(clock: Clock) -> None:
    """A read from an empty pipe that has not ended raises `BlockingIOError`."""
    pipe = Pipe(clock)
    assert not pipe.readable
    with pytest.raises(BlockingIOError):
        pipe.read(1)


def test_each_byte_by_itself(clock: Clock) -> None:
    """With `each_byte`, each read gets one byte."""
    pipe = Pipe(clock, cuts=each_byte())
    pipe.write(b"abc")
    assert read_all(pipe) == [b"a", b"b", b"c"]


def test_chosen_cuts_are_offsets_into_the_stream(clock: Clock) -> None:
    """`cut_at` takes offsets into the stream: no read reaches over a cut, and after the last cut nothing is cut."""
    pipe = Pipe(clock, cuts=cut_at(2, 5))
    pipe.write(b"a")
    assert read_all(pipe) == [b"a"]
    pipe.write(b"bcdefgh")
    assert read_all(pipe) == [b"b", b"cde", b"fgh"]


@pytest.mark.parametrize("offsets", [(0,), (3, 3), (5, 2)])
def test_cuts_that_do_not_rise_are_refused(offsets: tuple[int, ...]) -> None:
    """`cut_at` refuses offsets that do not rise, since each piece has at least one byte."""
    with pytest.raises(ValueError, match="rise"):
        cut_at(*offsets)


@given(seed=st.integers(), data=st.binary(max_size=500))
def test_seeded_cuts_repeat_and_lose_nothing(seed: int, data: bytes) -> None:
    """The same seed cuts the same way, and the pieces join to the stream."""
    runs = []
    for cuts in [seeded_cuts(seed), seeded_cuts(random.Random(seed))]:
        pipe = Pipe(Clock(), cuts=cuts)
        pipe.write(data)
        runs.append(read_all(pipe))
    assert runs[0] == runs[1]
    assert b"".join(runs[0]) == data


def test_a_pipe_holds_no_more_than_its_capacity(clock: Clock) -> None:
    """A pipe accepts no bytes over its capacity. When the reader makes room, the writer is notified."""
    told = []
    pipe = Pipe(clock, capacity=10)
    pipe.on_room = lambda: told.append(pipe.room)
    assert pipe.write(b"x" * 15) == 10
    assert pipe.write(b"y") == 0
    pipe.read(4)
    assert told == [4]
    assert Pipe(clock).room == CAPACITY


def test_a_capacity_below_the_held_bytes_takes_nothing(clock: Clock) -> None:
    """A pipe that holds more than its new capacity accepts nothing until the reader has come below it."""
    pipe = Pipe(clock, capacity=10)
    pipe.write(b"x" * 8)
    pipe.capacity = 5
    assert pipe.room == 0
    assert pipe.write(b"abcdef") == 0
    pipe.read(4)
    assert pipe.write(b"abcdef") == 1


@pytest.mark.parametrize("options", [{"capacity": 0}, {"latency": -1}, {"bandwidth": 0}])
def test_impossible_lines_are_refused(clock: Clock, options: dict[str, float]) -> None:
    """A pipe refuses a capacity, latency or bandwidth with which nothing could pass; `cut()` is for that."""
    with pytest.raises(ValueError, match="above 0"):
        Pipe(clock, **options)


def test_latency_delays_bytes_and_the_end(clock: Clock) -> None:
    """Bytes and the end arrive in order, each `latency` seconds after it was written."""
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


def test_bytes_arrive_at_the_rate_of_the_bandwidth(clock: Clock) -> None:
    """Bytes arrive at the rate of the bandwidth, one segment at a time."""
    pipe = Pipe(clock, bandwidth=SEGMENT)
    pipe.write(b"x" * 3 * SEGMENT)
    clock.advance(1)
    assert [len(each) for each in read_all(pipe)] == [SEGMENT]
    clock.advance(2)
    assert [len(each) for each in read_all(pipe)] == [2 * SEGMENT]
    assert clock.getDelayedCalls() == []


@given(now=st.floats(0, 1e9), latency=st.floats(0, 1e6))
def test_rounded_sums_of_times_delay_nothing(now: float, latency: float) -> None:
    """Bytes arrive at their time although the clock's sum is a rounding error below the pipe's sum."""
    clock = Clock()
    clock.advance(now)
    pipe = Pipe(clock, latency=latency)
    pipe.write(b"x")
    clock.advance(latency)
    assert pipe.readable


def test_a_stalled_line_delivers_later(clock: Clock) -> None:
    """While the pipe is stalled nothing arrives. Then all due bytes and the end arrive."""
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
    """A cut pipe delivers no byte, no end and no reset, and has no timer. The writer finds its buffer full."""
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
    """The end comes after all bytes and can be read again; after it, nothing can be written."""
    pipe = Pipe(clock)
    pipe.write(b"a")
    pipe.end()
    pipe.end()
    assert [pipe.read(9), pipe.read(9), pipe.read(9)] == [b"a", b"", b""]
    with pytest.raises(BrokenPipeError):
        pipe.write(b"b")


def test_a_reset_comes_after_the_bytes_on_the_line(clock: Clock) -> None:
    """A reset arrives after the bytes that are on the line already; all other bytes are lost."""
    pipe = Pipe(clock, latency=1.0, bandwidth=SEGMENT)
    pipe.write(b"a" * 2 * SEGMENT)
    pipe.end()
    clock.advance(1)
    pipe.reset()
    clock.advance(1)
    assert read_all(pipe) == [b"a" * SEGMENT]
    with pytest.raises(ConnectionResetError):
        pipe.read(1)


def test_a_pipe_drops_bytes_after_its_reader_has_gone(clock: Clock) -> None:
    """After the reader has gone, the pipe accepts and drops all bytes, and calls `on_refused`."""
    refused = []
    pipe = Pipe(clock, capacity=4)
    pipe.on_refused = lambda: refused.append(pipe.room)
    pipe.write(b"abc")
    assert pipe.refuse()
    assert not pipe.refuse()
    assert pipe.write(b"abcd") == 4
    assert refused == [4]
    assert not pipe.readable


def test_an_end_is_refused_only_if_the_connection_is_unknown(clock: Clock) -> None:
    """
    A pipe refuses an end only with `refuses_ends`. After a proper close, the reader's kernel still accepts an end.
    """
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
    """Each socket receives what the other sends, and each calls `on_ready` when it can be read or written."""
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
    """After a half-close, the peer reads the end, and can still answer."""
    here, there = pair(clock)
    here.shutdown(socket.SHUT_WR)
    assert there.recv(1) == b""
    there.send(b"answer")
    assert here.recv(10) == b"answer"


def test_an_orderly_close_is_the_end_of_the_stream(clock: Clock) -> None:
    """After a close with nothing unread, the peer reads the end. The peer's later bytes are answered with a reset."""
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


def test_a_close_with_unread_bytes_is_a_reset(clock: Clock) -> None:
    """A socket that closes with unread bytes resets the peer, as in Linux."""
    here, there = pair(clock)
    there.send(b"question")
    here.close()
    with pytest.raises(ConnectionResetError):
        there.recv(1)


def test_a_memory_socket_is_abstract() -> None:
    """
    The base class `MemorySocket` has no descriptor, and its methods to read and write raise `NotImplementedError`.
    """
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
