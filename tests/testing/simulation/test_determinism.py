"""The same seed gives the same run."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

import tcpapp
from tcpapp.testing.simulation import Simulation, Trace
from tcpapp.testing.simulation.trace import FOLDED
from tests.environments import UNMEASURED
from tests.testing.simulation.scenes import chat, clients_that_come_back, pair

ROOT = Path(__file__).parents[3]

PROGRAM = """
from tcpapp.testing.simulation import Simulation
from tests.testing.simulation.scenes import chat
with Simulation(11) as sim:
    sim.run(chat(sim, kinds=("partition", "reset", "slow", "jump")))
print(sim.trace.digest)
"""

CLIENTS_PROGRAM = """
from tcpapp.testing.simulation import Simulation
from tests.testing.simulation.scenes import clients_that_come_back
with Simulation(7) as sim:
    sim.run(clients_that_come_back(sim))
print(sim.trace.digest)
"""


def played(seed, **options):
    """Run a chat with faults, and return the simulation and the lines of each member."""
    with Simulation(seed, **options) as sim:
        members = sim.run(chat(sim, kinds=("partition", "reset", "slow", "jump")))
    return sim, [member.heard for member in members]


def test_the_same_seed_gives_the_same_trace_event_for_event():
    """Two runs of one seed have equal traces, with the same events, and the clients receive the same lines."""
    (one, heard), (other, heard_again) = played(5), played(5)
    assert list(one.trace) == list(other.trace)
    assert one.trace == other.trace
    assert hash(one.trace) == hash(other.trace)
    assert heard == heard_again


def test_another_seed_gives_another_trace():
    """Two seeds give two different traces."""
    assert played(5)[0].trace != played(6)[0].trace


def digests_of(program):
    """
    Return the outputs of a program in two processes, which hash texts differently and have other memory addresses.
    """
    return {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**UNMEASURED, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }


@pytest.mark.exhaustive
def test_two_processes_with_different_hash_seeds_agree():
    """
    Two processes with different hash seeds have the same trace: nothing depends on the order of a set or on addresses.
    """
    assert digests_of(PROGRAM) == {f"{played(11)[0].trace.digest}\n"}


@pytest.mark.exhaustive
def test_clients_that_come_back_do_the_same_in_every_process():
    """
    The waits of a `Client`, the members a `Pool` picks, and the jitter of a drain follow the seed in every process.
    """

    def digest(seed):
        with Simulation(seed) as sim:
            sim.run(clients_that_come_back(sim))
        return sim.trace.digest

    assert digests_of(CLIENTS_PROGRAM) == {f"{digest(7)}\n"}
    assert digest(8) != digest(7)


def test_a_client_that_is_made_outside_of_a_run_does_the_same_each_time():
    """A client that is made outside of ``sim.run`` follows the seed, as does all code inside ``with Simulation(…)``."""

    def digest():
        with Simulation(7) as sim:
            server = sim.host("server", boot=lambda host: tcpapp.listen("tcp:1", print, reactor=host.reactor))
            client = tcpapp.Client("tcp:server:1", reactor=sim.host("client").reactor)
            sim.run(client.start())
            for _ in range(3):
                server.crash()
                sim.run(until=sim.now + 3)
                server.restart()
                sim.run(until=sim.now + 30)
            sim.run(client.stop())
        return sim.trace.digest

    assert digest() == digest()


def test_a_recorded_schedule_is_the_same_run_whatever_the_seed():
    """A run with the recorded schedule of another run has the trace of that run, also with another seed."""
    recorded, _ = played(5, record=True)
    again, _ = played(0, schedule=recorded.decisions.schedule, record=True)
    assert again.trace == recorded.trace
    assert again.decisions.schedule == recorded.decisions.schedule


def test_an_empty_schedule_is_the_plainest_run():
    """An empty schedule gives a run without a fault."""
    sim, heard = played(5, schedule={})
    assert not [line for line in sim.trace if "parted" in line or "reset" in line]
    assert len(heard[0]) == 1 + 1 + 3 + 3 * 5  # the greetings, who joined, what the others said


def test_a_number_over_the_choices_is_the_last_choice():
    """If a number in a schedule is larger than the number of choices, the last choice is picked."""
    sim = Simulation(schedule={"scenario": {0: 100}})
    assert [sim.pick("abc"), sim.pick("abc")] == ["c", "a"]


def test_the_simulation_leaves_pythons_random_as_it_was():
    """A simulation leaves the state of Python's `random` unchanged."""
    random.seed(1)
    before = random.getstate()
    played(5)
    assert random.getstate() == before


def test_chance_follows_the_seed():
    """`chance`, `pick` and `between` give the same values with the same seed, and others with another."""

    def drawn(seed):
        sim = Simulation(seed)
        return [(sim.chance(0.5), sim.pick("abc"), sim.between(1.0, 2.0)) for _ in range(20)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert all(1.0 <= number < 2.0 for _, _, number in drawn(1))


def test_chance_is_certain_at_its_ends():
    """`chance(0.0)` is always False, and `chance(1.0)` is always True."""
    sim = Simulation(3)
    assert [sim.chance(0.0) for _ in range(50)] == [False] * 50
    assert [sim.chance(1.0) for _ in range(50)] == [True] * 50


def test_a_trace_that_keeps_little_has_the_same_digest():
    """Two traces of the same events are equal, even if one of them keeps only the last two lines."""
    whole, few = Trace(), Trace(keep=2)
    for trace in (whole, few):
        for number in range(FOLDED + 10):
            trace.add(number / 8, "here", "counts", number)
    assert few == whole
    assert len(few) == len(whole) == FOLDED + 10
    assert list(few) == list(whole)[-2:]
    whole.add(0.0, "here", "counts")
    assert few != whole


def test_a_trace_is_read_as_lines():
    """A trace prints one line for each event: its time, its place, the event, and the first 40 bytes of data."""
    trace = Trace()
    trace.add(1.5, "server", "reads", b"x" * 41)
    trace.add(2.0, "client", "crashes")
    assert str(trace).splitlines() == [
        f"      1.500000  {'server':<36} reads 41 bytes {b'x' * 40!r}…",
        f"      2.000000  {'client':<36} crashes",
    ]
    assert trace.tail(1) == str(trace).splitlines()[1]
    assert not trace.tail(0)
    assert trace != "a trace"


def test_two_traces_part_at_the_first_event_that_differs():
    """`parts_from` gives the number of the first event that differs, and `part` shows the lines from there."""
    one, other, few = Trace(), Trace(), Trace(keep=2)
    for number in range(FOLDED + 10):
        for trace in (one, other, few):
            trace.add(1.0, "here", "counts", number)
    assert one.parts_from(other) is None
    assert one.parts_from(few) is few.parts_from(one) is None
    one.add(2.0, "here", "counts", -1)
    assert one.parts_from(other) == other.parts_from(one) == few.parts_from(one) == FOLDED + 10
    other.add(2.0, "here", "counts", -2)
    assert one.parts_from(other) == FOLDED + 10
    assert one.part(FOLDED + 9, 5).splitlines() == list(one)[-2:]
    assert few.part(FOLDED + 9, 5).splitlines() == list(few)[-1:]
    assert not few.part(-1, 2)


def test_the_seed_sets_the_order_of_events_at_one_moment():
    """The order of three timers at the same moment differs between seeds, and is the same in each run of a seed."""

    def order(seed):
        with Simulation(seed, latency=0.001, cuts=0.0) as sim:
            told = []
            for name in "abc":
                sim.host(name).reactor.callLater(1.0, told.append, name)
            sim.run()
        return "".join(told)

    orders = [order(seed) for seed in range(40)]
    assert orders == [order(seed) for seed in range(40)]
    assert len(set(orders)) == 6


@pytest.mark.parametrize("cuts", [0.0, 0.9])
def test_chunks_are_cut_as_often_as_asked_for(cuts):
    """A message of 5000 bytes is read in many chunks if `cuts` is 0.9, and in few if it is 0."""
    with Simulation(1, cuts=cuts) as sim:
        _, _, _, connection = pair(sim)
        assert sim.run(connection.request(b"a" * 5000)) == b"A" * 5000
    reads = [line for line in sim.trace if " reads " in line]
    assert (len(reads) > 10) is (cuts > 0)
