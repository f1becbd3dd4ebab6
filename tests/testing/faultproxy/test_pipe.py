"""A pipe on a clock, with stages that are added and removed while bytes pass."""

from __future__ import annotations

from random import Random

import pytest
from twisted.internet.task import Clock

from tcpapp.testing.faultproxy.kinds import KINDS, checked
from tcpapp.testing.faultproxy.pipe import Pipe
from tcpapp.testing.faultproxy.stages import Mark

END, CLOSE = Mark.END, Mark.CLOSE


class Bench:
    def __init__(self):
        self.clock = Clock()
        self.out = []
        self.moves = []
        self.pipe = Pipe(self.clock, self.deliver, lambda: self.moves.append(self.pipe.held))

    def deliver(self, item):
        self.out.append((round(self.clock.seconds(), 6), item))

    def insert(self, number, name, **attributes):
        stage = KINDS[name].stage(self.clock, checked(name, attributes), Random(number))
        self.pipe.insert(number, stage)
        return stage

    def take(self, *items):
        for each in items:
            self.pipe.take(each)

    def until(self, seconds):
        while (calls := self.clock.getDelayedCalls()) and calls[0].getTime() <= seconds:
            self.clock.advance(max(0.0, calls[0].getTime() - self.clock.seconds()))
        self.clock.advance(seconds - self.clock.seconds())

    @property
    def data(self):
        return b"".join(item for _, item in self.out if isinstance(item, bytes))


@pytest.fixture
def bench():
    return Bench()


def test_without_stages_all_passes_at_once(bench):
    """A pipe without stages passes bytes and the end on at once."""
    bench.take(b"a", END)
    assert bench.out == [(0.0, b"a"), (0.0, END)]


def test_stages_follow_each_other(bench):
    """Bytes pass all stages in turn: two latencies delay them by the sum of both."""
    bench.insert(1, "latency", latency=1)
    bench.insert(2, "latency", latency=2)
    bench.take(b"a")
    bench.until(9)
    assert bench.out == [(3.0, b"a")]


def test_bytes_pass_the_stages_in_the_order_of_their_numbers(bench):
    """Bytes pass the stages in the order of their numbers, and not in the order in which the stages were added."""
    bench.insert(2, "latency", latency=1)
    bench.insert(1, "limit_data", bytes=1)
    bench.take(b"abc")
    assert bench.out == []
    bench.until(9)
    assert bench.out == [(1.0, b"a"), (1.0, CLOSE)]


def test_a_stage_is_known_by_its_number(bench):
    """`stage()` returns the stage with a number, or None before it is inserted and after it is removed."""
    stage = bench.insert(7, "latency", latency=1)
    assert bench.pipe.stage(7) is stage
    assert bench.pipe.stage(6) is None
    bench.pipe.remove(7)
    assert bench.pipe.stage(7) is None


def test_a_removed_stage_passes_its_bytes_to_the_next_stage(bench):
    """A removed stage passes its held bytes to the next stage at once, before later bytes."""
    bench.insert(1, "latency", latency=10)
    bench.insert(2, "latency", latency=1)
    bench.take(b"a")
    bench.until(5)
    bench.pipe.remove(1)
    bench.take(b"b")
    assert bench.pipe.held == 2
    bench.until(20)
    assert bench.out == [(6.0, b"a"), (6.0, b"b")]
    assert bench.clock.getDelayedCalls() == []


def test_a_stage_in_the_middle_is_removed(bench):
    """When a middle stage is removed, the bytes that the previous stage holds pass on to the next one."""
    for number in (1, 2, 3):
        bench.insert(number, "latency", latency=number)
    bench.take(b"a")
    bench.until(2)
    bench.take(b"b")
    bench.pipe.remove(2)
    bench.until(20)
    assert bench.out == [(5.0, b"a"), (6.0, b"b")]


def test_an_added_stage_starts_when_it_is_added(bench):
    """A timeout that is added after 3 seconds counts from then."""
    bench.until(3)
    bench.insert(1, "timeout", timeout=2)
    bench.until(9)
    assert bench.out == [(5.0, CLOSE)]


def test_the_pipe_reports_when_it_holds_less(bench):
    """
    The pipe calls its listener when it holds less: after a timer, after its gate opens, and after a stage is removed.
    """
    bench.insert(1, "latency", latency=1)
    bench.moves.clear()
    bench.take(b"abc")
    assert bench.moves == []
    bench.pipe.gate.pauseProducing()
    bench.until(1)
    bench.pipe.gate.resumeProducing()
    bench.take(b"de")
    bench.pipe.remove(1)
    assert bench.moves == [3, 0, 0]
    assert bench.data == b"abcde"


def test_a_pipe_works_without_a_listener(bench):
    """A pipe that is made without a listener passes bytes on."""
    quiet = Pipe(bench.clock, bench.deliver)
    quiet.gate.resumeProducing()
    quiet.take(b"a")
    assert bench.data == b"a"


def test_a_stopped_pipe_drops_all(bench):
    """A stopped pipe drops all bytes, held ones and new ones, and leaves no timer."""
    bench.insert(1, "latency", latency=1)
    bench.take(b"a", END)
    bench.pipe.stop()
    bench.take(b"b")
    bench.until(9)
    bench.pipe.gate.take(b"c")
    assert (bench.out, bench.pipe.held, bench.clock.getDelayedCalls()) == ([], 0, [])


LOSE_NOTHING = [
    ("latency", {"latency": 0.3, "jitter": 0.3}),
    ("bandwidth", {"rate": 300}),
    ("slicer", {"average_size": 5, "size_variation": 4, "delay": 0.01}),
    ("slow_close", {"delay": 1}),
]


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_and_goes_nothing_is_lost_doubled_or_out_of_order(bench, seed):
    """While stages come, change and go at random, and the gate opens and closes, all bytes arrive once and in order."""
    chance = Random(seed)
    sent, inside = b"", {}
    for number in range(1, 200):
        move = chance.random()
        if move < 0.4:
            piece = b"%d," % number * chance.randint(1, 9)
            sent += piece
            bench.take(piece)
        elif move < 0.55:
            name, attributes = chance.choice(LOSE_NOTHING)
            inside[number] = bench.insert(number, name, **attributes)
        elif move < 0.7 and inside:
            gone = chance.choice(list(inside))
            del inside[gone]
            bench.pipe.remove(gone)
        elif move < 0.8 and inside:
            chance.choice(list(inside.values())).changed()
        elif move < 0.9:
            chance.choice([bench.pipe.gate.pauseProducing, bench.pipe.gate.resumeProducing])()
        bench.until(bench.clock.seconds() + chance.random() / 5)
        assert sent.startswith(bench.data)
        assert bench.pipe.held == len(sent) - len(bench.data)
    bench.take(END)
    bench.pipe.gate.resumeProducing()
    bench.until(10_000)
    assert bench.data == sent
    assert bench.out[-1][1] is END
    assert bench.clock.getDelayedCalls() == []
