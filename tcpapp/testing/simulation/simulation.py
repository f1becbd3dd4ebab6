"""The simulation: hosts, the network between them, a seed, and one order of all events."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure
from typing_extensions import Self

from tcpapp.testing.pipe import CAPACITY
from tcpapp.testing.simulation.chance import Chance
from tcpapp.testing.simulation.decisions import Decisions, Schedule
from tcpapp.testing.simulation.errors import NeverSettles, NothingLeft, RunFailed
from tcpapp.testing.simulation.host import Host
from tcpapp.testing.simulation.line import Latency, Link
from tcpapp.testing.simulation.network import Network
from tcpapp.testing.simulation.timeline import Timeline, Turns
from tcpapp.testing.simulation.trace import Trace
from tcpapp.testing.simulation.watch import Watch

__all__ = ["Simulation"]

T = TypeVar("T")

LATENCY = 0.0005, 0.005
"""Seconds from one host to another by default: the latency of a busy network in a data centre."""

AT_MOST = 1_000_000
"""The most events of a run by default: about a minute of work. A run with more has most likely an endless loop."""

COLLECTED_EVERY = 100_000
"""Events between two garbage collections: a few seconds, so that dropped objects of a long run do not pile up."""


class Simulation:
    """
    Whole services in one process and in virtual time. The same seed gives the same run, event for event.

    ::

        with Simulation(seed=7) as sim:
            server, client = sim.host("server"), sim.host("client")
            tcpapp.listen("tcp:7007", app, reactor=server.reactor)
            connection = sim.run(tcpapp.connect("tcp:server:7007", reactor=client.reactor))
            sim.partition(server, client)
            sim.run(until=3600.0)

    `latency`, `bandwidth`, `capacity` and `cuts` hold for every link that `link` does not set (see `Link`). `schedule`
    is a recorded schedule, which decides instead of the seed. With `record`, ``decisions.schedule`` is the schedule of
    this run. `keep` is the most events that `trace` holds (`None`: all events). Its digest counts all.

    In the ``with`` block, and during `run` and `acting`, Python's random values follow the seed. These are the
    functions of `random`, ``random.Random()`` without a seed, ``random.SystemRandom``, ``os.urandom``,
    ``os.getrandom``, `secrets`, ``uuid.uuid4`` and ``uuid.uuid1`` (with the time of the simulation). So do
    `tcpapp.Client`, `Pool` and the jitter of a drain. The ``Random()`` or ``urandom`` of a host does not depend on the
    values that another host draws. After that everything is restored.

    It differs from a real network. Code takes no time: time passes only between events. ``time.time()`` and threads are
    not simulated. Names are always resolved. Packets are lost only in a partition, and waiting bytes arrive soon after
    its end. A scenario must not depend on things that no seed decides. These are random values of C code (OpenSSL, and
    so the bytes of TLS; NumPy) and the order of sets. A set of objects is ordered by their addresses in memory (use a
    dictionary instead), and a set of texts by ``PYTHONHASHSEED``.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        latency: Latency = LATENCY,
        bandwidth: float | None = None,
        capacity: int = CAPACITY,
        cuts: float = 0.1,
        schedule: Schedule | None = None,
        record: bool = False,
        keep: int | None = None,
    ) -> None:
        self.seed = seed
        self.decisions = Decisions(seed, schedule, record=record)
        self.timeline = Timeline()
        self.trace = Trace(keep)
        self.network = Network(self, lambda: Link(latency, bandwidth, capacity, cuts))
        self._chance = self.decisions.stream("scenario")
        self._pythons_chance = Chance(seed, self._asks, lambda: self.timeline.now)
        self._watch = Watch(self._pythons_chance)
        self._turns = Turns(self.decisions.stream("turns of the scenario").draw)

    # Hosts and the network between them.

    @property
    def now(self) -> float:
        """The seconds since the simulation began."""
        return self.timeline.now

    @property
    def hosts(self) -> Sequence[Host]:
        """All hosts, in the order in which they were made."""
        return tuple(self.network.hosts.values())

    def host(self, name: str, boot: Callable[[Host], Any] | None = None) -> Host:
        """
        Add a host of this name, with an address of its own (10.0.0.1, 10.0.0.2, …).

        ``boot(host)`` is called now, and again at each `Host.restart`. It can return a Deferred or be a coroutine
        function. Its exception fails the run. Raises `ValueError`, the caller's fault, if a host has this name already.
        """
        hosts = self.network.hosts
        if name in hosts:
            raise ValueError(f"there is a host {name!r} already")
        number = len(hosts) + 1
        host = hosts[name] = Host(self, name, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", boot)
        self.boot(host)
        return host

    def boot(self, host: Host) -> None:
        """Start the program of the host. `Host.restart` calls it."""
        if host.boot is not None:
            timeline = self.timeline
            with self._watch.on():
                before, timeline.whose = timeline.whose, host.reactor.turns
                try:
                    result = host.boot(host)
                    if isinstance(result, Coroutine):
                        result = ensureDeferred(result)
                    if isinstance(result, Deferred):
                        result.addErrback(self._watch.add)
                except Exception:  # noqa: BLE001  # the boot function can raise anything, which fails the run
                    self._watch.add(Failure())
                finally:
                    timeline.whose = before

    def link(self, a: Host, b: Host, latency: Latency = LATENCY, **options: Any) -> None:
        """Set both directions of the link between `a` and `b`. `options` are the options of `Link`."""
        for one, other in ((a, b), (b, a)):
            self.network.relink(one, other, Link(latency, **options))

    def partition(self, a: Host, b: Host | None = None, *, one_way: bool = False) -> None:
        """
        Let nothing pass between `a` and `b` (`None`: all other hosts) until `heal`. With `one_way`, only from `a` to
        `b`.
        """
        self._part(a, b, parted=True, one_way=one_way)

    def heal(self, a: Host | None = None, b: Host | None = None) -> None:
        """Undo the `partition` between `a` and `b` (`None`: all other hosts). Without `a`, undo every partition."""
        for each in self.hosts if a is None else (a,):
            self._part(each, b, parted=False, one_way=False)

    def _part(self, a: Host, b: Host | None, *, parted: bool, one_way: bool) -> None:
        for other in self.hosts if b is None else (b,):
            if other is not a:
                for one, another in ((a, other),) if one_way else ((a, other), (other, a)):
                    if self.network.link(one, another).parted != parted:
                        self.note(f"{one.name}>{another.name}", "is parted" if parted else "is healed")
                        self.network.part(one, another, parted)

    # Chance.

    def chance(self, likelihood: float) -> bool:
        """Draw whether an event of this probability (0.0 to 1.0) happens. The simplest choice is `False`."""
        return self._chance.chance(likelihood)

    def pick(self, among: Sequence[T]) -> T:
        """Draw one of the values in `among`. The first is the simplest choice."""
        return self._chance.pick(among)

    def between(self, least: float, most: float) -> float:
        """Draw a number from `least`, the simplest choice, to `most`."""
        return least + (most - least) * self._chance.fraction()

    # Time.

    def call_later(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> None:
        """Call `call` in `seconds`, whatever happens to any host."""
        timeline, turns = self.timeline, self._turns
        timeline.at(timeline.now + seconds, turns.place(timeline.now), turns, lambda _: call(*arguments), None)

    def sleep(self, seconds: float) -> Deferred[None]:
        """Return a Deferred that fires in `seconds`."""
        slept: Deferred[None] = Deferred()  # without a canceller: a cancelled Deferred ignores the later firing
        self.call_later(seconds, slept.callback, None)
        return slept

    def run(
        self,
        until: float | Deferred[T] | Coroutine[Deferred[Any], Any, T] | Generator[Any, Any, T] | None = None,
        at_most: int = AT_MOST,
    ) -> Any:
        """
        Run the simulation until a time, or until a Deferred or coroutine ends. Returns its result, or raises its error.

        With `None`, it runs until no event is left. Raises `RunFailed` as soon as an exception was not handled, or a
        failure was logged. Raises `NothingLeft` if the Deferred has not fired and no event is left, and `NeverSettles`
        after `at_most` events.
        """
        __tracebackhide__ = True
        with self._watch.on():
            if until is None or isinstance(until, (int, float)):
                self._drive((), until, at_most)
                if until is not None:
                    self.timeline.now = max(self.now, float(until))
                return None
            ended: list[Any] = []
            ensured: Deferred[Any] = until if isinstance(until, Deferred) else ensureDeferred(until)
            ensured.addBoth(_noted, ended)
            if not self._drive(ended, None, at_most):
                raise NothingLeft("the awaited result has not come, and no event is left", self.seed, self.trace)
            [result] = ended
            if isinstance(result, Failure):
                result.raiseException()
            return result

    def expect(self, *types: type[BaseException]) -> None:
        """Expect failures of these types: from now on, they do not fail the run if they are logged or not handled."""
        self._watch.types += types

    @property
    def expected(self) -> Sequence[Failure]:
        """The expected failures that occurred."""
        return tuple(self._watch.expected)

    def finish(self) -> None:
        """Raise `RunFailed` if there are failures that were not raised yet. The end of a ``with`` block calls it."""
        __tracebackhide__ = True
        with self._watch.on():
            self._watch.collect()
        self._raise_failure()

    def left(self) -> list[str]:
        """
        Return a line for each open connection, port and timer of a running process; an empty list if nothing leaks.
        """
        open_ones = self.network.left()
        return open_ones + [f"{host.name}: timer {each}" for host in self.hosts for each in host.reactor.left()]

    def acting(self) -> AbstractContextManager[None]:
        """
        Make the code in a ``with`` block a part of the run: its random values follow the seed, and its failures are
        watched.
        """
        return self._watch.on()

    def note(self, where: str, what: str, detail: Any = "") -> None:
        """Add a line to the trace."""
        self.trace.add(self.timeline.now, where, what, detail)

    def _asks(self) -> str:
        """Return the name of the host whose code runs; ``""`` for none."""
        whose = self.timeline.whose
        return "" if whose is None else whose.name

    def __enter__(self) -> Self:
        self._pythons_chance.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        try:
            self._exit(error)
        finally:
            self._pythons_chance.end()

    def _exit(self, error: BaseException | None) -> None:
        __tracebackhide__ = True
        if error is None:
            self.finish()
        elif getattr(error, "seed", None) != self.seed:
            add_note = getattr(error, "add_note", str)  # Python 3.10 has no notes
            add_note(str(RunFailed("in a simulated run", self.seed, self.trace)))

    def _drive(self, ended: Sequence[object], until: float | None, at_most: int) -> bool:
        """Run events until there is an item in `ended`, or until a time. Returns whether there is an item."""
        __tracebackhide__ = True
        timeline, failures = self.timeline, self._watch.failures
        last = timeline.happened + at_most
        while True:
            if failures:
                self._raise_failure()
            if ended:
                return True
            if timeline.happened >= last:
                when = timeline.next_time()
                if when is None or (until is not None and when > until):
                    return False
                text = f"after {at_most} events it has not come to rest, and {len(timeline)} are still to come"
                raise NeverSettles(text, self.seed, self.trace)
            collected = timeline.happened // COLLECTED_EVERY * COLLECTED_EVERY + COLLECTED_EVERY
            try:
                if not timeline.run(until, min(last, collected), ended, failures):
                    return False
            except Exception:  # noqa: BLE001  # any exception fails the run
                self._watch.add(Failure())
            if timeline.happened == collected:
                self._watch.collect()

    def _raise_failure(self) -> None:
        __tracebackhide__ = True
        failures, self._watch.failures[:] = list(self._watch.failures), []
        if failures:
            first = failures[0]
            text = f"{type(first.value).__name__}: {first.getErrorMessage()}\n\n{first.getTraceback()}"
            raise RunFailed(text, self.seed, self.trace) from first.value


def _noted(result: Any, results: list[Any]) -> Any:
    """Note the result of a Deferred and pass it on. A failure is handled here, because `Simulation.run` raises it."""
    results.append(result)
    return None if isinstance(result, Failure) else result
