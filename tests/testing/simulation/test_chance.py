"""
The random values of Python's own modules follow the seed of the simulation, and all functions are restored after it.
"""

from __future__ import annotations

import os
import random
import secrets
import sys
import threading
import types
import uuid
from random import Random, SystemRandom
from random import seed as seed_again

import pytest

import tcpapp
from tcpapp.testing.simulation import Simulation
from tcpapp.testing.simulation.chance import Chance

DRAWS = {
    "a function of random": random.random,
    "Random without a seed": lambda: Random().random(),
    "Random that is seeded anew without a seed": lambda: again(Random(1)),
    "random.seed without a seed": lambda: (random.seed(), random.random()),
    "random.seed, imported by its name": lambda: (seed_again(), random.random()),
    "SystemRandom": lambda: SystemRandom().random(),
    "SystemRandom's bits": lambda: SystemRandom().getrandbits(100),
    "os.urandom": lambda: os.urandom(8),
    "os.urandom, imported by its name": lambda: OTHER.urandom(8),
    "secrets.token_bytes": lambda: secrets.token_bytes(8),
    "secrets.token_hex": lambda: secrets.token_hex(8),
    "secrets.randbelow": lambda: secrets.randbelow(1 << 60),
    "secrets.choice": lambda: secrets.choice(range(1 << 60)),
    "uuid4": uuid.uuid4,
    "uuid1": lambda: uuid.uuid1(None),
}
if hasattr(os, "getrandom"):
    DRAWS["os.getrandom"] = lambda: os.getrandom(8)

OTHER = types.ModuleType("a_module_of_somebody")
OTHER.urandom = os.urandom


@pytest.fixture(autouse=True)
def other_module(monkeypatch):
    """Add a module that has imported `os.urandom` by its name."""
    monkeypatch.setitem(sys.modules, OTHER.__name__, OTHER)


def again(source):
    source.seed()
    return source.random()


def drawn(draw, seed):
    with Simulation(seed):
        return [draw() for _ in range(3)]


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_same_seed_draws_the_same_values(draw):
    """The same seed draws the same values, another seed draws others, and three draws in a row differ."""
    first = drawn(draw, 1)
    assert drawn(draw, 1) == first
    assert drawn(draw, 2) != first
    assert len(set(first)) == 3


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_after_the_simulation_random_values_come_from_the_system(draw):
    """The value after a simulation differs from the value that its seed gave."""
    with Simulation(1):
        inside = draw()
    assert draw() != inside


def functions():
    found = [os.urandom, random.Random.seed, random.seed, random._urandom, uuid.uuid1, OTHER.urandom]
    return [*found, getattr(os, "getrandom", None), random.getstate()]


def test_all_functions_are_restored_after_the_simulation():
    """A simulation replaces the functions that give random values, and restores each of them at its end."""
    before = functions()
    with Simulation(1):
        random.random()
        assert [one is other for one, other in zip(functions()[:-2], before[:-2], strict=True)] == [False] * 6
    assert functions() == before


def test_all_functions_are_restored_after_a_run_that_raises():
    """When a run raises, the functions that give random values are restored, too."""
    before = functions()
    with pytest.raises(ZeroDivisionError), Simulation(1) as sim:
        sim.run(fails())
    with pytest.raises(ZeroDivisionError):
        Simulation(1).run(fails())
    assert functions() == before


async def fails():
    raise ZeroDivisionError


def test_a_function_taken_during_a_simulation_works_after_it():
    """A function that a module has imported during a simulation still gives random values after it."""
    with Simulation(1):
        urandom, getrandom, uuid1 = os.urandom, getattr(os, "getrandom", os.urandom), uuid.uuid1
        reseed = Random(1).seed
    assert urandom(8) != urandom(8)
    assert getrandom(8) != getrandom(8)
    assert uuid1() != uuid1()
    assert reseed() is None


def test_a_function_that_a_test_replaces_meanwhile_stays(monkeypatch):
    """If a test replaces `os.urandom` during a simulation, the end of the simulation does not undo that."""

    def mine(size):
        return bytes(size)

    with Simulation(1):
        monkeypatch.setattr(os, "urandom", mine)
    assert os.urandom is mine


def test_a_function_that_a_test_replaced_is_left_alone(monkeypatch):
    """If a test has replaced `os.urandom` before a simulation, the replacement is called in the simulation, too."""
    monkeypatch.setattr(os, "urandom", bytes)
    with Simulation(1):
        assert os.urandom(2) == b"\0\0"
    assert os.urandom is bytes


def test_one_simulation_inside_another_draws_for_itself():
    """Two nested simulations each draw the values of their own seed, as if the other were not there."""
    alone = [drawn(draw, 1) for draw in (random.random, lambda: os.urandom(8))]
    with Simulation(1) as outer:
        before = random.random(), os.urandom(8)
        with Simulation(2):
            random.random()
            outer.run()
            os.urandom(8)
        between = random.random(), os.urandom(8)
        outer.run()
        after = random.random(), os.urandom(8)
    assert [list(each) for each in zip(before, between, after, strict=True)] == alone


def test_simulations_can_end_in_any_order():
    """
    Two simulations can end in the order in which they began; a third draws its own values, and all functions are
    restored.
    """
    before = functions()
    alone = drawn(random.random, 2)
    one, other = Chance(1, str, float), Chance(2, str, float)
    one.begin()
    other.begin()
    one.end()
    with_other = Simulation(2)
    with with_other:
        assert [random.random() for _ in range(3)] == alone
    other.end()
    assert functions() == before


def test_another_thread_draws_from_the_system():
    """Random values in another thread come from the system, and change no value of the simulation."""

    def in_a_thread():
        thread = threading.Thread(target=lambda: found.append(os.urandom(8)))
        thread.start()
        thread.join()

    found = []
    for _ in range(2):
        with Simulation(1):
            in_a_thread()
            found.append(os.urandom(8))
    assert found[0] != found[2]
    assert found[1] == found[3]


def test_random_with_a_given_seed_keeps_it():
    """`Random` and `random.seed` with a seed give the same values inside a simulation as outside."""
    with Simulation(1):
        assert Random(5).random() == Random(5).random()
        random.seed(5)
        inside = random.random()
    assert Random(5).random() == inside


def test_draws_of_one_host_do_not_change_the_draws_of_another():
    """A host draws the same values however many values other hosts draw, and new ones after a restart."""

    def draws_of_b(draws_of_a):
        with Simulation(1) as sim:
            found = []
            for _ in range(draws_of_a):
                sim.host(f"a{_}").reactor.callLater(1.0, os.urandom, 8)
            b = sim.host("b", boot=lambda host: found.append(os.urandom(8)))
            b.reactor.callLater(2.0, lambda: found.append((os.urandom(8), Random().random(), uuid.uuid1().node)))
            sim.run()
            b.restart()
        return found

    few, many = draws_of_b(0), draws_of_b(5)
    assert few == many
    assert few[0] != few[2]


def test_the_opened_handler_of_a_client_draws_as_its_host():
    """The client's `opened` handler draws from its host's stream, although an event of the network has called it."""

    def opened_with(draws):
        found = []

        class App:
            def opened(self, connection):
                found.append(os.urandom(8))

        with Simulation(1) as sim:
            [os.urandom(1) for _ in range(draws)]
            server, client = sim.host("server"), sim.host("client")
            sim.run(tcpapp.listen("tcp:7007", None, reactor=server.reactor))
            sim.run(tcpapp.connect("tcp:server:7007", App(), reactor=client.reactor)).abort()
        return found

    assert opened_with(0) == opened_with(3) != []


def test_a_uuid_of_version_1_has_the_simulations_time():
    """`uuid1` takes its time from the simulation, gives a later one each time, and keeps given fields."""
    with Simulation(1) as sim:
        sim.run(until=3600.0)
        one, other, given = uuid.uuid1(), uuid.uuid1(), uuid.uuid1(node=5, clock_seq=6)
    assert (one.version, one.variant) == (1, uuid.RFC_4122)
    assert one.time - 0x01B21DD213814000 == 3600 * 10_000_000
    assert (other.time - one.time, other.node) == (1, one.node)
    assert (given.node, given.clock_seq) == (5, 6)
