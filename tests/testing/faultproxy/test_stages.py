"""Each stage by itself, on a clock: which items it passes on, and when."""

from __future__ import annotations

from random import Random

import pytest
from twisted.internet.task import Clock

from tcpapp.testing.faultproxy.kinds import KINDS, checked
from tcpapp.testing.faultproxy.stages import Gate, Mark, Stage, size_of

END, CLOSE, RESET = Mark.END, Mark.CLOSE, Mark.RESET


class Bench:
    """A stage with its input and output. `out` has each item that came out, with its time."""

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
        """Let time pass up to this moment, timer by timer."""
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


# Checks of all stages that lose nothing -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "attributes"), EVERY.items(), ids=EVERY)
class TestStagesThatLoseNothing:
    def test_all_comes_out_in_order(self, name, attributes):
        """All bytes come out in order, however they came in. The end comes last, and no timer is left."""
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

    def test_held_counts_the_bytes_that_the_stage_holds(self, name, attributes):
        """`held` is the number of bytes that the stage has taken and not yet passed on."""
        bench = Bench(name, **attributes)
        bench.take(b"0123456789", b"abcdef", END)
        for _ in range(100):
            assert bench.stage.held == 16 - len(bench.data)
            bench.until(bench.clock.seconds() + 0.1)
        assert bench.stage.held == 0

    def test_a_removed_stage_passes_all_on_at_once(self, name, attributes):
        """A removed stage passes on all held items at once, and leaves no timer."""
        bench = Bench(name, **attributes)
        bench.take(b"0123456789", b"abcdef", END)
        bench.stage.release()
        assert bench.data == b"0123456789abcdef"
        assert bench.out[-1] == (0.0, END)
        assert bench.stage.held == 0
        assert bench.clock.getDelayedCalls() == []

    def test_a_stopped_stage_passes_nothing_on(self, name, attributes):
        """A stopped stage passes nothing on, also no later items, and leaves no timer."""
        bench = Bench(name, **attributes)
        bench.take(b"0123456789", END)
        bench.stage.stop()
        before = list(bench.out)
        bench.until(60)
        bench.take(b"more")
        bench.until(120)
        assert bench.out == before
        assert bench.clock.getDelayedCalls() == []

    def test_a_change_of_attributes_loses_nothing(self, name, attributes):
        """All bytes come out in order although `changed` is called after each piece."""
        bench = Bench(name, **attributes)
        for number in range(20):
            bench.take(b"%d," % number)
            bench.until(bench.clock.seconds() + 0.01)
            bench.change()
        bench.until(60)
        assert bench.data == b"".join(b"%d," % number for number in range(20))

    def test_the_same_seed_gives_the_same_output(self, name, attributes):
        """
        The same seed gives the same pieces at the same times; another seed differs only if the stage uses random
        values.
        """
        outs = []
        for seed in (1, 1, 2):
            bench = Bench(name, seed, **attributes)
            bench.take(*[b"0123456789"] * 5, END)
            bench.until(60)
            outs.append(bench.out)
        assert outs[0] == outs[1]
        assert (outs[0] == outs[2]) is (name in {"bandwidth", "slow_close"})


def test_a_stage_reports_bytes_that_a_timer_has_passed_on():
    """A stage calls `moved` after a timer has passed bytes on, because the stream has room again."""
    bench = Bench("latency", latency=1.0)
    bench.take(b"x")
    assert bench.moves == 0
    bench.until(1)
    assert bench.moves == 1


def test_the_base_class_of_stages_has_no_take():
    """`take` of the base class of all stages raises `NotImplementedError`."""
    with pytest.raises(NotImplementedError):
        Stage(Clock(), {}, Random(0)).take(b"x")


def test_a_stage_without_a_next_stage_drops_its_items():
    """A stage whose `give` and `moved` are not set drops its items, and calls nothing."""
    clock = Clock()
    stage = KINDS["latency"].stage(clock, checked("latency", {"latency": 1.0}), Random(0))
    stage.take(b"x")
    clock.advance(1)
    assert stage.held == 0


def test_a_mark_has_no_bytes():
    """The size of a mark is 0, and the size of a piece is its number of bytes."""
    assert [size_of(each) for each in (b"abc", b"", END)] == [3, 0, 0]


# latency --------------------------------------------------------------------------------------------------------------


def test_latency_delays_each_item():
    """A latency delays each piece and the end by the same time."""
    bench = Bench("latency", latency=0.5)
    bench.take(b"a")
    bench.until(0.2)
    bench.take(b"b", END)
    bench.until(9)
    assert bench.out == [(0.5, b"a"), (0.7, b"b"), (0.7, END)]


def test_without_latency_items_pass_at_once():
    """With a latency of 0, items pass at once."""
    bench = Bench("latency", latency=0)
    bench.take(b"a", END)
    assert bench.out == [(0.0, b"a"), (0.0, END)]


def test_jitter_varies_the_delay():
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


def test_a_new_latency_applies_to_held_items():
    """When the latency is lowered, held items leave earlier: at once if their new time has passed."""
    bench = Bench("latency", latency=10)
    bench.take(b"a")
    bench.until(1)
    bench.take(b"b")
    bench.until(2)
    bench.change(latency=1.5)
    bench.until(9)
    assert bench.out == [(2.0, b"a"), (2.5, b"b")]


# bandwidth ------------------------------------------------------------------------------------------------------------


def test_bandwidth_limits_the_bytes_in_a_second():
    """
    The stage passes on `rate` bytes a second, in pieces of at most a tenth of a second. Idle time is not made up for.
    """
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


def test_a_bandwidth_below_one_byte_a_second_passes_single_bytes():
    """With half a byte a second, the stage passes on one byte each 2 seconds."""
    bench = Bench("bandwidth", rate=0.5)
    bench.take(b"ab")
    bench.until(9)
    assert bench.out == [(2.0, b"a"), (4.0, b"b")]


def test_no_bandwidth_holds_all():
    """
    With a rate of 0, the stage holds all items and loses none. After a change to 1 byte a second it begins from then.
    """
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


def test_slow_close_delays_each_kind_of_end():
    """Bytes pass at once, and each kind of end is delayed."""
    for mark in Mark:
        bench = Bench("slow_close", delay=2)
        bench.take(b"a")
        bench.until(1)
        bench.take(b"b", mark)
        bench.until(9)
        assert bench.out == [(0.0, b"a"), (1.0, b"b"), (3.0, mark)]


# slicer ---------------------------------------------------------------------------------------------------------------


def test_slicer_passes_pieces_on_one_each_delay():
    """
    The stage passes on pieces of `average_size`, one each `delay`. Later items wait their turn; after an idle time the
    next passes at once.
    """
    bench = Bench("slicer", average_size=2, delay=0.5)
    bench.take(b"abcde", b"f", END)
    bench.until(9)
    bench.take(b"gh")
    bench.until(20)
    assert bench.out == [(0.0, b"ab"), (0.5, b"cd"), (1.0, b"e"), (1.5, b"f"), (2.0, END), (9.0, b"gh")]


def test_the_sizes_of_slices_vary_around_their_average():
    """The sizes of slices vary by up to `size_variation`, and their average is `average_size`."""
    bench = Bench("slicer", average_size=5, size_variation=4)
    bench.take(b"x" * 10_000)
    bench.until(0)
    sizes = [len(item) for _, item in bench.out[:-1]]
    assert set(sizes) == set(range(1, 10))
    assert 4.5 < sum(sizes) / len(sizes) < 5.5


def test_slices_without_a_delay_come_in_turns():
    """Without a delay, each slice comes in its own turn of the event loop; in one turn they would be sent as one."""
    bench = Bench("slicer", average_size=1)
    bench.take(b"abc")
    assert bench.data == b"a"
    bench.until(0)
    assert bench.out == [(0.0, b"a"), (0.0, b"b"), (0.0, b"c")]
    assert bench.moves == 3


# timeout --------------------------------------------------------------------------------------------------------------


def test_timeout_drops_bytes_and_closes():
    """A timeout drops all bytes, and closes the connection after its time, although more bytes come meanwhile."""
    bench = Bench("timeout", timeout=2)
    bench.take(b"a")
    bench.until(1.5)
    bench.take(b"b")
    bench.until(9)
    assert bench.out == [(2.0, CLOSE)]
    assert bench.stage.held == 0


def test_a_timeout_of_0_does_not_close():
    """A timeout of 0 closes the connection only when the toxic is removed."""
    bench = Bench("timeout")
    bench.take(b"a")
    bench.until(1000)
    assert bench.out == []
    bench.stage.release()
    assert bench.out == [(1000.0, CLOSE)]


def test_the_end_passes_a_timeout():
    """An end and a reset pass a timeout at once, as in Toxiproxy: a peer that has left is not kept open."""
    bench = Bench("timeout", timeout=2)
    bench.take(END, RESET)
    assert bench.out == [(0.0, END), (0.0, RESET)]


def test_a_changed_timeout_counts_from_the_start_of_the_stage():
    """A changed timeout counts from the start of the stage, and closes at once if it has passed."""
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
def test_reset_peer_resets_at_the_first_item(first):
    """The first item of any kind triggers a reset. That item and all later items are dropped."""
    bench = Bench("reset_peer")
    bench.until(5)
    assert bench.out == []
    bench.take(first, b"b")
    assert bench.out == [(5.0, RESET)]


def test_reset_peer_resets_after_its_timeout():
    """With a timeout, `reset_peer` resets that long after the first byte, and drops all bytes."""
    bench = Bench("reset_peer", timeout=2)
    bench.until(1)
    bench.take(b"a")
    bench.until(2)
    bench.take(b"b", END)
    assert bench.out == []
    bench.until(9)
    assert bench.out == [(3.0, RESET)]


def test_a_changed_time_of_reset_peer_counts_from_its_trigger():
    """A changed timeout counts from the first item that came."""
    bench = Bench("reset_peer", timeout=9)
    bench.change(timeout=8)
    bench.take(b"a")
    bench.until(1)
    bench.change(timeout=2)
    bench.until(9)
    assert bench.out == [(2.0, RESET)]


def test_a_removed_reset_peer_resets_only_a_busy_connection():
    """A removed `reset_peer` resets a connection whose bytes it has dropped, and does nothing to an idle one."""
    idle, busy = Bench("reset_peer", timeout=2), Bench("reset_peer", timeout=2)
    busy.take(b"a")
    for each in (idle, busy):
        each.stage.release()
        each.until(9)
    assert (idle.out, busy.out) == ([], [(0.0, RESET)])


# limit_data -----------------------------------------------------------------------------------------------------------


def test_limit_data_closes_with_its_last_byte():
    """With the last byte of the limit the connection is closed, and the rest is dropped."""
    bench = Bench("limit_data", bytes=5)
    bench.take(b"abc", b"defg", b"h")
    assert bench.out[:3] == [(0.0, b"abc"), (0.0, b"de"), (0.0, CLOSE)]
    assert bench.data == b"abcde"


def test_limit_data_passes_all_bytes_below_its_limit():
    """If the stream ends below the limit, all bytes and the end pass."""
    bench = Bench("limit_data", bytes=5)
    bench.take(b"abcd", END)
    assert bench.out == [(0.0, b"abcd"), (0.0, END)]


def test_a_limit_below_the_passed_bytes_closes_at_the_next_bytes():
    """
    When the limit is lowered below the bytes that have passed, the next bytes close the connection, and none of them
    pass.
    """
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


def test_an_open_gate_passes_items_on_at_once():
    """An open gate passes bytes and the end on at once."""
    bench = GateBench()
    bench.take(b"a", END)
    assert bench.out == [(0.0, b"a"), (0.0, END)]


@pytest.mark.parametrize("opens", ["resumeProducing", "stopProducing"])
def test_a_closed_gate_holds_all(opens):
    """A closed gate holds all items until the transport accepts more, or is lost."""
    bench = GateBench()
    bench.stage.pauseProducing()
    bench.take(b"ab", END)
    assert (bench.out, bench.stage.held, bench.clock.getDelayedCalls()) == ([], 2, [])
    getattr(bench.stage, opens)()
    assert (bench.data, bench.out[-1][1], bench.stage.held, bench.moves) == (b"ab", END, 0, 1)


def test_a_gate_can_close_while_it_passes_an_item_on():
    """When an item makes the transport pause the gate inside `write`, the next item waits."""
    bench = GateBench()
    bench.stage.give = lambda item: (bench.give(item), bench.stage.pauseProducing())
    bench.take(b"a", b"b")
    assert (bench.data, bench.stage.held) == (b"a", 1)


def test_a_reset_passes_a_closed_gate():
    """A reset passes a closed gate at once, and the bytes that the gate holds are lost."""
    bench = GateBench()
    bench.stage.pauseProducing()
    bench.take(b"a", RESET)
    assert (bench.out, bench.stage.held) == ([(0.0, RESET)], 0)


def test_a_close_opens_a_gate():
    """A close opens a closed gate: the gate passes on its held items, and then the close."""
    bench = GateBench()
    bench.stage.pauseProducing()
    bench.take(b"a", CLOSE)
    assert (bench.out, bench.stage.held) == ([(0.0, b"a"), (0.0, CLOSE)], 0)
