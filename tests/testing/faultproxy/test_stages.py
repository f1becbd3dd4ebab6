"""Each stage by itself, on a clock: its output, and the times of it."""

from __future__ import annotations

from random import Random

import pytest
from twisted.internet.task import Clock

from tcpapp.testing.faultproxy.kinds import KINDS, checked
from tcpapp.testing.faultproxy.stages import Gate, Mark, Stage, size_of

END, CLOSE, RESET = Mark.END, Mark.CLOSE, Mark.RESET


class Bench:
    """A stage with its input and output: `out` has the items that came out, and when."""

    def __init__(self, name, seed=0, **attributes):
        self.clock = Clock()
        self.attributes = checked(name, attributes)
        self.out = []
        self.moves = 0
        self.stage = KINDS[name].stage(self.clock, self.attributes, Random(seed))
        self.stage.give = self.give
        self.stage.moved = self.moved
        self.stage.start()

    def give(self, item):
        self.out.append((round(self.clock.seconds(), 6), item))

    def moved(self):
        self.moves += 1

    def take(self, *items):
        for each in items:
            self.stage.take(each)

    def until(self, seconds):
        """Let time pass, timer by timer, up to this moment."""
        while (calls := self.clock.getDelayedCalls()) and calls[0].getTime() <= seconds:
            self.clock.advance(max(0.0, calls[0].getTime() - self.clock.seconds()))
        self.clock.advance(seconds - self.clock.seconds())

    def change(self, **attributes):
        self.attributes.update(attributes)
        self.stage.changed()

    @property
    def data(self):
        return b"".join(item for _, item in self.out if isinstance(item, bytes))


EVERY = {
    "latency": {"latency": 0.5, "jitter": 0.5},
    "bandwidth": {"rate": 1000},
    "slow_close": {"delay": 0.5},
    "slicer": {"average_size": 3, "size_variation": 2, "delay": 0.1},
}
"""The toxics that lose nothing."""


# What holds for all that lose nothing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "attributes"), EVERY.items(), ids=EVERY)
class TestWhatLosesNothing:
    def test_all_comes_out_in_order(self, name, attributes):
        """However it comes in; the end comes last, and no timer is left."""
        bench = Bench(name, **attributes)
        pieces = [bytes([65 + number]) * (number % 7) for number in range(26)]
        for piece in pieces:
            bench.take(piece)
            bench.until(bench.clock.seconds() + 0.03)
        bench.take(END)
        bench.until(60)
        assert bench.data == b"".join(pieces)
        assert [item for _, item in bench.out if isinstance(item, Mark)] == [END]
        assert bench.out[-1][1] is END
        assert bench.clock.getDelayedCalls() == []

    def test_it_knows_what_it_holds(self, name, attributes):
        bench = Bench(name, **attributes)
        bench.take(b"0123456789", b"abcdef", END)
        for _ in range(100):
            assert bench.stage.held == 16 - len(bench.data)
            bench.until(bench.clock.seconds() + 0.1)
        assert bench.stage.held == 0

    def test_taken_out_it_gives_all_at_once(self, name, attributes):
        """And leaves no timer."""
        bench = Bench(name, **attributes)
        bench.take(b"0123456789", b"abcdef", END)
        bench.stage.release()
        assert bench.data == b"0123456789abcdef"
        assert bench.out[-1] == (0.0, END)
        assert bench.stage.held == 0
        assert bench.clock.getDelayedCalls() == []

    def test_stopped_it_gives_nothing(self, name, attributes):
        """And leaves no timer, whatever comes after."""
        bench = Bench(name, **attributes)
        bench.take(b"0123456789", END)
        bench.stage.stop()
        before = list(bench.out)
        bench.until(60)
        bench.take(b"more")
        bench.until(120)
        assert bench.out == before
        assert bench.clock.getDelayedCalls() == []

    def test_changed_in_between_it_loses_nothing(self, name, attributes):
        bench = Bench(name, **attributes)
        for number in range(20):
            bench.take(b"%d," % number)
            bench.until(bench.clock.seconds() + 0.01)
            bench.change()
        bench.until(60)
        assert bench.data == b"".join(b"%d," % number for number in range(20))

    def test_the_same_chance_gives_the_same(self, name, attributes):
        outs = []
        for seed in (1, 1, 2):
            bench = Bench(name, seed, **attributes)
            bench.take(*[b"0123456789"] * 5, END)
            bench.until(60)
            outs.append(bench.out)
        assert outs[0] == outs[1]
        assert (outs[0] == outs[2]) is (name in {"bandwidth", "slow_close"})


def test_a_stage_that_delivers_by_a_timer_says_so():
    """Because there is room again."""
    bench = Bench("latency", latency=1.0)
    bench.take(b"x")
    assert bench.moves == 0
    bench.until(1)
    assert bench.moves == 1


def test_a_stage_is_to_be_written():
    with pytest.raises(NotImplementedError):
        Stage(Clock(), {}, Random(0)).take(b"x")


def test_alone_a_stage_gives_to_nobody():
    """And tells nobody."""
    clock = Clock()
    stage = KINDS["latency"].stage(clock, checked("latency", {"latency": 1.0}), Random(0))
    stage.take(b"x")
    clock.advance(1)
    assert stage.held == 0


def test_a_mark_has_no_bytes():
    assert [size_of(each) for each in (b"abc", b"", END)] == [3, 0, 0]


# latency --------------------------------------------------------------------------------------------------------------


def test_latency():
    """Each piece comes after it, and so does the end."""
    bench = Bench("latency", latency=0.5)
    bench.take(b"a")
    bench.until(0.2)
    bench.take(b"b", END)
    bench.until(9)
    assert bench.out == [(0.5, b"a"), (0.7, b"b"), (0.7, END)]


def test_no_latency():
    """Items without a delay do not wait."""
    bench = Bench("latency", latency=0)
    bench.take(b"a", END)
    assert bench.out == [(0.0, b"a"), (0.0, END)]


def test_jitter():
    """The delay is the latency, plus or minus up to the jitter, and never below 0."""
    delays = []
    for seed in range(200):
        bench = Bench("latency", seed, latency=0.2, jitter=0.3)
        bench.take(b"a")
        bench.until(9)
        delays.append(bench.out[0][0])
    assert min(delays) == 0.0
    assert 0.4 < max(delays) <= 0.5
    assert len(set(delays)) > 100


def test_another_latency_holds_for_what_is_held():
    bench = Bench("latency", latency=10)
    bench.take(b"a")
    bench.until(1)
    bench.take(b"b")
    bench.until(2)
    bench.change(latency=1.5)
    bench.until(9)
    assert bench.out == [(2.0, b"a"), (2.5, b"b")]


# bandwidth ------------------------------------------------------------------------------------------------------------


def test_bandwidth():
    """That many bytes a second, in pieces of a tenth of a second at most; the line rests when there is nothing."""
    bench = Bench("bandwidth", rate=100)
    bench.take(b"x" * 25, b"y" * 5, END)
    bench.until(10)
    bench.take(b"z")
    bench.until(20)
    assert bench.out == [
        (0.1, b"x" * 10),
        (0.2, b"x" * 10),
        (0.25, b"x" * 5),
        (0.3, b"y" * 5),
        (0.3, END),
        (10.01, b"z"),
    ]


def test_a_bandwidth_of_less_than_a_byte_in_a_piece():
    """It takes its time for each byte."""
    bench = Bench("bandwidth", rate=0.5)
    bench.take(b"ab")
    bench.until(9)
    assert bench.out == [(2.0, b"a"), (4.0, b"b")]


def test_no_bandwidth_holds_all():
    """Nothing passes, not even the end, and nothing is lost; held bytes are not made up for later."""
    bench = Bench("bandwidth", rate=0)
    bench.take(b"abc", END)
    bench.until(100)
    assert bench.out == []
    assert bench.stage.held == 3
    bench.change(rate=1)
    bench.until(200)
    assert bench.data == b"abc"
    assert [at for at, _ in bench.out] == [101.0, 102.0, 103.0, 103.0]


# slow_close -----------------------------------------------------------------------------------------------------------


def test_slow_close():
    """Bytes pass at once; the end of the connection later."""
    for mark in Mark:
        bench = Bench("slow_close", delay=2)
        bench.take(b"a")
        bench.until(1)
        bench.take(b"b", mark)
        bench.until(9)
        assert bench.out == [(0.0, b"a"), (1.0, b"b"), (3.0, mark)]


# slicer ---------------------------------------------------------------------------------------------------------------


def test_slicer():
    """Pieces of a size, one after the other; what comes meanwhile waits, and after it the next is at once."""
    bench = Bench("slicer", average_size=2, delay=0.5)
    bench.take(b"abcde", b"f", END)
    bench.until(9)
    bench.take(b"gh")
    bench.until(20)
    assert bench.out == [(0.0, b"ab"), (0.5, b"cd"), (1.0, b"e"), (1.5, b"f"), (2.0, END), (9.0, b"gh")]


def test_the_sizes_of_slices():
    """They vary by as much as is allowed."""
    bench = Bench("slicer", average_size=5, size_variation=4)
    bench.take(b"x" * 10_000)
    bench.until(0)
    sizes = [len(item) for _, item in bench.out[:-1]]
    assert set(sizes) == set(range(1, 10))
    assert 4.5 < sum(sizes) / len(sizes) < 5.5


def test_slices_without_a_delay_come_in_turns():
    """Each in its own: together they would be sent as one."""
    bench = Bench("slicer", average_size=1)
    bench.take(b"abc")
    assert bench.data == b"a"
    bench.until(0)
    assert bench.out == [(0.0, b"a"), (0.0, b"b"), (0.0, b"c")]
    assert bench.moves == 3


# timeout --------------------------------------------------------------------------------------------------------------


def test_timeout():
    """Bytes are dropped, and the connection closed after the time, whatever comes meanwhile."""
    bench = Bench("timeout", timeout=2)
    bench.take(b"a")
    bench.until(1.5)
    bench.take(b"b")
    bench.until(9)
    assert bench.out == [(2.0, CLOSE)]
    assert bench.stage.held == 0


def test_a_timeout_of_0_does_not_close():
    """Until it is removed."""
    bench = Bench("timeout")
    bench.take(b"a")
    bench.until(1000)
    assert bench.out == []
    bench.stage.release()
    assert bench.out == [(1000.0, CLOSE)]


def test_the_end_passes_a_timeout():
    """As in Toxiproxy: nothing is kept of a peer that has left."""
    bench = Bench("timeout", timeout=2)
    bench.take(END, RESET)
    assert bench.out == [(0.0, END), (0.0, RESET)]


def test_another_timeout_counts_from_the_same_beginning():
    bench = Bench("timeout", timeout=2)
    bench.until(1)
    bench.change(timeout=5)
    bench.until(4)
    assert bench.out == []
    bench.change(timeout=3)
    bench.until(4)
    assert bench.out == [(4.0, CLOSE)]


# reset_peer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [b"a", END, RESET])
def test_reset_peer(first):
    """The first item triggers it, and is dropped, as are later items; before that nothing happens."""
    bench = Bench("reset_peer")
    bench.until(5)
    assert bench.out == []
    bench.take(first, b"b")
    assert bench.out == [(5.0, RESET)]


def test_reset_peer_after_a_time():
    bench = Bench("reset_peer", timeout=2)
    bench.until(1)
    bench.take(b"a")
    bench.until(2)
    bench.take(b"b", END)
    assert bench.out == []
    bench.until(9)
    assert bench.out == [(3.0, RESET)]


def test_another_time_for_reset_peer():
    """It counts from the trigger, if there was one."""
    bench = Bench("reset_peer", timeout=9)
    bench.change(timeout=8)
    bench.take(b"a")
    bench.until(1)
    bench.change(timeout=2)
    bench.until(9)
    assert bench.out == [(2.0, RESET)]


def test_reset_peer_taken_out():
    """It resets a connection that has lost bytes, and nothing else."""
    idle, busy = Bench("reset_peer", timeout=2), Bench("reset_peer", timeout=2)
    busy.take(b"a")
    for each in (idle, busy):
        each.stage.release()
        each.until(9)
    assert (idle.out, busy.out) == ([], [(0.0, RESET)])


# limit_data -----------------------------------------------------------------------------------------------------------


def test_limit_data():
    """With the last byte that passes the connection is closed; the rest is dropped."""
    bench = Bench("limit_data", bytes=5)
    bench.take(b"abc", b"defg", b"h")
    assert bench.out[:3] == [(0.0, b"abc"), (0.0, b"de"), (0.0, CLOSE)]
    assert bench.data == b"abcde"


def test_limit_data_that_is_not_reached():
    bench = Bench("limit_data", bytes=5)
    bench.take(b"abcd", END)
    assert bench.out == [(0.0, b"abcd"), (0.0, END)]


def test_a_limit_that_was_passed_already():
    """A lower one closes with the next bytes; none of them pass."""
    bench = Bench("limit_data", bytes=5)
    bench.take(b"abcd")
    bench.change(bytes=0)
    assert bench.out == [(0.0, b"abcd")]
    bench.take(b"e")
    assert bench.out[1:] == [(0.0, CLOSE)]


# The gate -------------------------------------------------------------------------------------------------------------


class GateBench(Bench):
    def __init__(self):
        self.clock = Clock()
        self.out = []
        self.moves = 0
        self.stage = Gate(self.clock)
        self.stage.give = self.give
        self.stage.moved = self.moved


def test_an_open_gate_gives_at_once():
    bench = GateBench()
    bench.take(b"a", END)
    assert bench.out == [(0.0, b"a"), (0.0, END)]


@pytest.mark.parametrize("opens", ["resumeProducing", "stopProducing"])
def test_a_closed_gate_holds_all(opens):
    """Until the transport accepts more, or is lost."""
    bench = GateBench()
    bench.stage.pauseProducing()
    bench.take(b"ab", END)
    assert (bench.out, bench.stage.held, bench.clock.getDelayedCalls()) == ([], 2, [])
    getattr(bench.stage, opens)()
    assert (bench.data, bench.out[-1][1], bench.stage.held, bench.moves) == (b"ab", END, 0, 1)


def test_a_gate_that_closes_as_it_gives():
    """An item that pauses the transport inside write waits."""
    bench = GateBench()
    bench.stage.give = lambda item: (bench.give(item), bench.stage.pauseProducing())
    bench.take(b"a", b"b")
    assert (bench.data, bench.stage.held) == (b"a", 1)


def test_a_reset_passes_a_closed_gate():
    """Bytes that it overtakes are lost."""
    bench = GateBench()
    bench.stage.pauseProducing()
    bench.take(b"a", RESET)
    assert (bench.out, bench.stage.held) == ([(0.0, RESET)], 0)


def test_a_close_opens_a_gate():
    """Earlier items are passed on before it."""
    bench = GateBench()
    bench.stage.pauseProducing()
    bench.take(b"a", CLOSE)
    assert (bench.out, bench.stage.held) == ([(0.0, b"a"), (0.0, CLOSE)], 0)
