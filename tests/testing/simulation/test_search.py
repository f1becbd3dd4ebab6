"""`simulate` finds the seed of a bug, makes its schedule small, and says in the error how to repeat it."""

from __future__ import annotations

import gc

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall

import tcpapp
from tcpapp.testing.simulation import (
    FAULTS,
    NothingLeft,
    NotRepeated,
    RunFailed,
    Simulation,
    SimulationError,
    SimulationFailed,
    faults,
    replay,
    simulate,
)
from tests.testing.simulation.scenes import chat


class EagerServer(Protocol):
    """Bug 1: the server takes a chunk as a message, and answers before the message is complete."""

    def dataReceived(self, data):
        self.transport.write(b"got " + data.strip() + b"\n")


async def asks_an_eager_server(sim):
    server, client = sim.host("server"), sim.host("client")
    port = await serverFromString(server.reactor, "tcp:7007").listen(Factory.forProtocol(EagerServer))
    connection = await tcpapp.connect("tcp:server:7007", reactor=client.reactor)
    for word in (b"red", b"green", b"blue"):
        assert await connection.request(word) == b"got " + word
    await connection.close()
    await port.stopListening()


class ForgetfulClient(Protocol):
    """Bug 2: the client makes a Deferred for each reply, and forgets at its close the Deferreds that still wait."""

    def connectionMade(self):
        self.waiters = []

    def ask(self, question):
        self.transport.write(question)
        waiter = Deferred()
        self.waiters.append(waiter)
        return waiter

    def dataReceived(self, data):
        for _ in range(data.count(b"\n")):
            self.waiters.pop(0).callback(None)


async def asks_forgetfully(sim):
    server, client = sim.host("server"), sim.host("client")
    listening = await tcpapp.listen("tcp:7007", lambda message, _: message, reactor=server.reactor)
    endpoint = clientFromString(client.reactor, "tcp:server:7007")
    connection = await endpoint.connect(Factory.forProtocol(ForgetfulClient))
    faults(sim, until=20.0, every=4.0, kinds=("reset", "partition"))
    for _ in range(10):
        await sim.sleep(1.0)
        if not connection.connected:
            break
        await connection.ask(b"hello\n")
    connection.transport.loseConnection()
    await listening.close()


class Racing:
    """Bug 3: the app sends its reply after a while, also when the connection is closing by then."""

    def __init__(self, reactor, seconds):
        self.reactor = reactor
        self.seconds = seconds

    def received(self, message, connection):
        self.reactor.callLater(self.seconds, lambda: connection.send(message))


async def closes_while_it_sends(sim):
    server, client = sim.host("server"), sim.host("client")
    app = Racing(server.reactor, 0.0)
    listening = await tcpapp.listen("tcp:7007", app, reactor=server.reactor)
    for _ in range(3):
        connection = await tcpapp.connect("tcp:server:7007", reactor=client.reactor)
        app.seconds = sim.between(0.0, 0.01)
        await connection.send(b"hello")
        await sim.sleep(sim.between(0.02, 0.0))
        await connection.close()
    await listening.close()
    assert listening.info().failed_sends == 0


BUGS = {
    "a reply before the message is complete": (asks_an_eager_server, AssertionError),
    "a waiter lost on close": (asks_forgetfully, NothingLeft),
    "a race between close and send": (closes_while_it_sends, AssertionError),
}


@pytest.mark.parametrize(("scenario", "error"), BUGS.values(), ids=BUGS)
def test_a_planted_bug_is_found_and_can_be_repeated(scenario, error):
    """
    `simulate` finds each planted bug. Its seed and its smaller schedule repeat the bug, each time with the same trace.
    """
    with pytest.raises(SimulationFailed) as found:
        simulate(scenario, seeds=range(500))
    failed = found.value
    assert type(failed.error) is error
    assert f"simulate(scenario, seeds=[{failed.seed}])" in str(failed)
    assert f"replay(scenario, {failed.seed}, {failed.schedule!r})" in str(failed)
    assert failed.trace.tail(5) in str(failed)
    with pytest.raises(error) as again:
        replay(scenario, failed.seed, failed.schedule)
    assert getattr(again.value, "trace", failed.trace) == failed.trace
    with pytest.raises(SimulationFailed) as same:
        simulate(scenario, seeds=[failed.seed])
    assert (same.value.trace, same.value.schedule) == (failed.trace, failed.schedule)
    decided = Simulation(failed.seed, record=True)
    with pytest.raises(error), decided:
        decided.run(scenario(decided))
    assert sum(map(len, failed.schedule.values())) < sum(map(len, decided.decisions.schedule.values())) / 2


@pytest.mark.exhaustive
def test_a_scenario_without_a_bug_passes_with_every_seed():
    """A correct chat passes with 20 seeds: each member receives each line of the others once."""
    kinds = ("partition", "slow")

    async def scenario(sim):
        members = await chat(sim, clients=3, messages=3, kinds=kinds)
        for number, member in enumerate(members):
            for other in range(3):
                said = [text for text in member.heard if text.startswith(b"member%d: " % other)]
                assert len(said) == (0 if other == number else 3)

    assert simulate(scenario, seeds=range(20)) == 20


def test_a_plain_scenario_is_run_until_nothing_is_left():
    """A scenario that is no coroutine runs until no event is left, and `replay` returns its simulation."""
    told = []

    def scenario(sim):
        sim.call_later(3600.0, told.append, sim.seed)

    assert simulate(scenario, seeds=[1, 2]) == 2
    assert told == [1, 2]
    assert replay(scenario, 3).now == 3600.0


def test_an_exception_that_a_scenario_raises_at_once_is_found():
    """`simulate` reports an exception that a scenario raises at once, with the one decision that leads to it."""

    def scenario(sim):
        assert sim.between(0, 1) < 0.9, "too much"

    with pytest.raises(SimulationFailed, match="AssertionError: too much") as found:
        simulate(scenario)
    [(place, chosen)] = found.value.schedule["scenario"].items()
    assert place == 0
    assert 0.9 <= chosen / (1 << 20) < 1.0


def test_a_number_is_halved_while_it_fails():
    """Shrinking halves a random number as long as the scenario still fails."""

    def scenario(sim):
        assert sim.between(0, 1) < 0.2

    with pytest.raises(SimulationFailed) as found:
        simulate(scenario)
    assert 0.2 <= found.value.schedule["scenario"][0] / (1 << 20) < 0.4


def test_shrinking_does_not_leave_out_a_stream_twice():
    """
    When shrinking leaves out the first stream, the second one makes no decision any more, so it is not left out again.
    """

    def scenario(sim):
        if sim.decisions.stream("first").pick((False, True)):
            sim.decisions.stream("second").fraction()
        assert not sim.decisions.stream("third").chance(0.5)

    def decides(seed):
        stream = Simulation(seed).decisions.stream
        return stream("first").pick((False, True)) and stream("third").chance(0.5)

    with pytest.raises(SimulationFailed) as found:
        simulate(scenario, seeds=filter(decides, range(99)))
    assert list(found.value.schedule) == ["third"]


def test_shrinking_is_bounded():
    """`shrinks=10` makes at most ten smaller runs after the failed run and its repetition."""
    runs = []

    def scenario(sim):
        runs.append(sim)
        assert sum(sim.pick("ab") == "b" for _ in range(100)) < 30

    with pytest.raises(SimulationFailed):
        simulate(scenario, shrinks=10)
    assert len(runs) == 1 + 1 + 10


def test_shrinking_ignores_errors_of_another_kind():
    """Shrinking goes on only while the error is of the same kind."""

    def scenario(sim):
        if sim.chance(0.5):
            raise ZeroDivisionError
        raise KeyError

    with pytest.raises(SimulationFailed) as found:
        simulate(scenario, seeds=[next(seed for seed in range(9) if Simulation(seed).chance(0.5))])
    assert type(found.value.error) is ZeroDivisionError
    assert len(found.value.schedule["scenario"]) == 1


def not_repeated(goes_on, **options):
    """Return the error of `simulate` for a scenario whose runs differ after 20 equal events."""
    runs = []

    def scenario(sim):
        runs.append(sim)
        for number in range(20):
            sim.note("here", "counts", number)
        goes_on(sim, len(runs))

    with pytest.raises(NotRepeated) as raised:
        simulate(scenario, seeds=[5], **options)
    error = raised.value
    assert (error.seed, error.trace, error.trace_again) == (5, runs[0].trace, runs[1].trace)
    assert isinstance(error, SimulationError)
    assert error.__cause__ is error.error
    return error


def test_a_failure_that_does_not_repeat_shows_both_traces_and_where_they_differ():
    """
    A failure that the second run does not repeat raises `NotRepeated`, with both results and the events around the
    first difference.
    """

    def goes_on(sim, run):
        sim.note("here", "runs", f"for time {run}")
        assert run > 1, "no\nmore"

    error = not_repeated(goes_on)
    assert (type(error.error), error.again, error.parted_at) == (AssertionError, None, 20)
    head, *lines = str(error).splitlines()
    assert head.startswith(
        "seed 5 failed, and did not fail in the same way again: the scenario depends on more than its seed."
    )
    first, second, same, one, other = (
        lines.index(each)
        for each in (
            "the first run: AssertionError: no",
            "the second run: nothing was raised",
            "both have the same events up to number 20; the last of these are:",
            "the first run goes on:",
            "the second run goes on:",
        )
    )
    assert first < second < same < one < other
    assert [line.split()[-1] for line in lines[same + 1 : one]] == [str(number) for number in range(12, 20)]
    assert lines[one + 1 :] == [error.trace.tail(1), lines[other], error.trace_again.tail(1)]


def test_the_error_shows_when_the_second_run_has_fewer_events():
    """If the second run has fewer events than the first, the error says so."""

    def goes_on(sim, run):
        if run == 1:
            sim.note("here", "fails")
            raise KeyError

    error = not_repeated(goes_on)
    assert error.parted_at == 20
    assert str(error).endswith("the second run goes on:\nno more events")


def test_a_second_run_with_another_error_does_not_repeat_the_first():
    """If the second run has the same events and another error, `NotRepeated` names both errors."""

    def goes_on(sim, run):
        raise KeyError("first") if run == 1 else ValueError("second")

    error = not_repeated(goes_on)
    assert (type(error.error), type(error.again), error.parted_at) == (KeyError, ValueError, None)
    assert "the first run: KeyError: 'first'\nthe second run: ValueError: second\n" in str(error)
    assert str(error).endswith(f"both have the same events; the last are:\n{error.trace}")


def test_an_unhandled_failure_fails_the_run(logged_errors):
    """The failure of a Deferred without an errback fails the run, although it is found only at the end."""

    def scenario(sim):
        fail(ZeroDivisionError("nobody"))

    with pytest.raises(SimulationFailed, match="ZeroDivisionError: nobody"):
        simulate(scenario, seeds=[1])
    logged_errors.take(ZeroDivisionError)


def test_an_error_in_a_cycle_fails_the_run_too(logged_errors):
    """An unhandled failure in a reference cycle fails the run, and the garbage collector is on again after it."""

    def drop():
        failed = fail(ZeroDivisionError("in a cycle"))
        failed.itself = failed

    with pytest.raises(RunFailed, match="ZeroDivisionError: in a cycle"), Simulation(5) as sim, sim.acting():
        drop()
    logged_errors.take(ZeroDivisionError)
    assert gc.isenabled()


def test_an_error_in_a_cycle_fails_a_long_run_before_its_end(logged_errors, monkeypatch):
    """In a long run, garbage is collected from time to time, so that an unhandled failure ends the run."""
    monkeypatch.setattr("tcpapp.testing.simulation.simulation.COLLECTED_EVERY", 10)

    def drop():
        failed = fail(ZeroDivisionError("in a cycle"))
        failed.itself = failed

    def go_on_for_ever(sim):
        reactor = sim.host("a").reactor
        reactor.callLater(1, drop)
        loop = LoopingCall(int)
        loop.clock = reactor
        loop.start(1)
        sim.run()

    with pytest.raises(RunFailed, match="ZeroDivisionError: in a cycle"), Simulation(5) as sim:
        go_on_for_ever(sim)
    logged_errors.take(ZeroDivisionError)


def test_the_garbage_collector_stays_off_if_it_was_off():
    """If the garbage collector was off before a run, it is off after it."""
    gc.disable()
    try:
        Simulation().run()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_exception_in_a_timer_fails_the_run():
    """An exception in a timer fails the run, and the error names the seed and the timer."""
    sim = Simulation(6)
    sim.host("a").reactor.callLater(1.0, lambda: 1 / 0)
    with pytest.raises(RunFailed, match=r"(?s)ZeroDivisionError.*seed 6.*timer .*<lambda>"):
        sim.run()


def test_a_failing_assertion_in_a_simulation_shows_the_seed():
    """A failing assertion in a simulation keeps its text, and a note names the simulation with its seed."""
    with pytest.raises(AssertionError, match="no") as raised, Simulation(77):
        raise AssertionError("no")
    assert any("Simulation(77)" in note for note in getattr(raised.value, "__notes__", ["Simulation(77)"]))


def test_frozen_garbage_stays_frozen():
    """`simulate` leaves objects frozen that were frozen before, and leaves no object frozen if there were none."""
    gc.freeze()
    simulate(lambda sim: None, seeds=[1])
    assert gc.get_freeze_count()
    gc.unfreeze()
    try:
        simulate(lambda sim: None, seeds=[1])
        assert not gc.get_freeze_count()
    finally:
        gc.freeze()  # as conftest.py does


def test_shrinking_of_runs_that_never_end_is_bounded(monkeypatch):
    """A run that never ends takes all its allowed events. So shrinking is bounded by the events of all runs."""
    monkeypatch.setattr("tcpapp.testing.simulation.search.SHRINK_EVENTS", 3_500)
    runs = []

    def for_ever(sim):
        runs.append(sim)
        if sim.chance(0.999):
            looping = LoopingCall(lambda: sim.chance(0.5))
            looping.clock = sim.host("a").reactor
            looping.start(1.0)

    with pytest.raises(SimulationFailed, match="NeverSettles"):
        simulate(for_ever, seeds=[1], at_most=1_000)
    _, _, *smaller = runs  # the run that failed, and the same again
    assert 3_500 < sum(sim.timeline.happened for sim in smaller) <= 3_500 + 1_000


# Faults ---------------------------------------------------------------------------------------------------------------


def test_faults_of_every_kind_happen_and_are_over_in_the_end():
    """
    Faults of every kind happen. At the end every host runs, reads, and reaches all others; only clocks stay changed.
    """
    said = ""
    for seed in range(30):
        with Simulation(seed) as sim:
            hosts = [
                sim.host(name, lambda host: tcpapp.listen("tcp:7007", print, reactor=host.reactor)) for name in "abc"
            ]
            usual = {(a, b): sim.network.link(a, b) for a in hosts for b in hosts}
            faults(sim, until=100.0, every=2.0, kinds=list(FAULTS))
            sim.run(until=100.0)
            assert usual == {(a, b): sim.network.link(a, b) for a in hosts for b in hosts}
            for a in hosts:
                assert a.running
                assert a.powered
                assert a.reading_speed is None
                assert not any(sim.network.link(a, b).parted for b in hosts)
            said += str(sim.trace)
    for what in (
        "is parted",
        "is healed",
        "is reset",
        "reads at",
        "clock jumps",
        "crashes",
        "restarts",
        "silently",
        "exits",
    ):
        assert what in said


@pytest.mark.exhaustive
def test_a_schedule_of_zeros_has_no_faults():
    """With an empty schedule `faults` makes no fault."""
    sim = Simulation(schedule={})
    sim.host("a")
    faults(sim, until=100.0, hosts=sim.hosts)
    sim.run()
    assert not list(sim.trace)


def test_an_unknown_kind_of_fault_is_an_error():
    """`faults` refuses an unknown kind, and the error lists the known kinds."""
    with pytest.raises(ValueError, match="'earthquake' is no kind of fault; there are partition"):
        faults(Simulation(), until=10.0, kinds=["earthquake"])
