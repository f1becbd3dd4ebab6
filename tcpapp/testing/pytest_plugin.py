"""
The pytest plugin: fixtures for tests of TCP services, and a leak check after each test.

pytest loads it wherever tcpapp is installed, and it does nothing until it is used. It works with pytest-twisted,
without it, and beside Hypothesis.

==================== =========================================================================================
fixture              gives
==================== =========================================================================================
``clock``            a `twisted.internet.task.Clock`
``fake_transport``   a `FakeTransport`, on ``clock``
``wire``             ``wire(server, client, **options)``: two protocols joined by a `Wire`, on ``clock``
``simulation``       a `Simulation`; ``--simulation-seed`` and ``--simulation-runs`` choose the seeds
``listening``        ``listening(app, endpoint, **options)``: `tcpapp.listen` on a real port, closed after the test
``connected``        ``connected(listening, app, **options)``: `tcpapp.connect` to it, cut after the test
``fault_proxy``      ``fault_proxy(server, **options)``: a `FaultProxy` in front of it, stopped after the test
``tls_certificates`` `Certificates` for ``localhost``, of an authority that lasts for the session
``leaks``            the `Leaks` of the test, and the check at its end: ``leaks.take(ZeroDivisionError)``
==================== =========================================================================================

``listening``, ``connected`` and ``fault_proxy`` return Deferreds, and need a running reactor: pytest-twisted's.

A test that fails shows how each `Wire` that it used cut its streams, in the section "Captured wire call". The kit's own
calls are left out of its traceback; ``--full-trace`` shows them.

The leak check is on for every test with the ini option ``tcpapp_leaks = true``, and for single tests with the marker
``leaks`` or the fixture; the marker ``no_leaks`` takes a test out. The nearest marker counts. A failed test is not
checked: it may have failed before it closed what it opened.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import TracebackType

    from twisted.internet.defer import Deferred
    from twisted.internet.task import Clock

    from tcpapp import Connection, Listening
    from tcpapp.testing.certificates import Certificates
    from tcpapp.testing.faultproxy import FaultProxy
    from tcpapp.testing.leaks import Leaks
    from tcpapp.testing.transport import FakeTransport
    from tcpapp.testing.wire import Wire

    Ending = list[Callable[[], Deferred[Any]]]

ANY_PORT = "tcp:0:interface=127.0.0.1"

SET_ASIDE = pytest.StashKey[int]()
"""How often the existing objects were excluded from garbage collection."""

FAILED = pytest.StashKey[bool]()
"""Whether the test itself has failed: its leaks are then not reported, because it may not have reached its end."""

SET_ASIDE_FOR = 100
"""Tests between two full collections: cycles of that many tests take no more than a few megabytes."""

MARKERS = (
    "leaks: the test fails if it leaves a timer, a port, a connection, a socket or a logged error behind (tcpapp)",
    "no_leaks: switch the leak check off for the test, which may leave anything behind (tcpapp)",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options to pytest."""
    group = parser.getgroup("tcpapp", "TCP services (tcpapp)")
    group.addoption(
        "--simulation-seed", type=int, default=0, metavar="N", help="the first seed of the fixture simulation (0)"
    )
    group.addoption(
        "--simulation-runs", type=int, default=1, metavar="N", help="run each test of a simulation with N seeds (1)"
    )
    parser.addini("tcpapp_leaks", "check after each test that nothing is left behind", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Add our markers to pytest, and the requested number of simulations."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    first, runs = config.getoption("simulation_seed"), config.getoption("simulation_runs")
    if runs < 1:
        raise pytest.UsageError(f"--simulation-runs={runs}: takes 1 or more")
    config.pluginmanager.register(simulations(range(first, first + runs)), "tcpapp-simulations")


def pytest_collection_finish(session: pytest.Session) -> None:
    """If every test is checked, exclude loaded objects from garbage collection: it runs after each test."""
    set_aside(session.config)


def set_aside(config: pytest.Config) -> None:
    """If every test is checked, let the next collection cost only as much as the objects made from now on."""
    if config.getini("tcpapp_leaks"):
        times = config.stash[SET_ASIDE] = config.stash.get(SET_ASIDE, -1) + 1
        if not times % SET_ASIDE_FOR:
            gc.unfreeze()
            gc.collect()
        gc.freeze()


# The reactor ---------------------------------------------------------------------------------------------------------


def installed_reactor() -> Any:
    """The global reactor, if one is installed; `None` otherwise. It is never installed by this."""
    return getattr(sys.modules.get("twisted.internet"), "reactor", None)


def waits(config: pytest.Config) -> Callable[[Deferred[Any]], Any] | None:
    """pytest-twisted's function to wait for a Deferred outside of a test, if that plugin is active."""
    plugin = sys.modules.get("pytest_twisted")
    if plugin is None or not config.pluginmanager.is_registered(plugin):
        return None
    blockon: Callable[[Deferred[Any]], Any] = plugin.blockon
    return blockon


@pytest.fixture
def _tcpapp_ending(request: pytest.FixtureRequest) -> Iterator[Ending]:
    """
    Let the global reactor run, and after the test call the functions in the list that this gives. Raises if there is
    none.
    """
    from twisted.internet.defer import gatherResults

    wait = waits(request.config)
    if wait is None:
        raise pytest.UsageError(
            "the fixtures 'listening', 'connected' and 'fault_proxy' need a running reactor: pip install"
            " pytest-twisted (without a network and without a reactor, the fixtures 'wire' and 'simulation' do)"
        )
    ending: Ending = []
    start(installed_reactor(), wait)
    yield ending
    wait(gatherResults([end() for end in reversed(ending)], consumeErrors=True))


def start(reactor: Any, wait: Callable[[Deferred[Any]], Any]) -> None:
    """Start `reactor`, and all that it opens at its start: pytest-twisted starts it when it first has to wait."""
    from twisted.internet.task import deferLater

    wait(deferLater(reactor, 0))


# Leaks ---------------------------------------------------------------------------------------------------------------


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """
    Note that a test has failed, and show how the wires in its calls, and in the calls that led to it, cut their
    streams.
    """
    if call.when == "call" and call.excinfo is not None:
        item.stash[FAILED] = True
        for wire in wires(call.excinfo.tb):
            item.add_report_section("call", "wire", wire.told())


def wires(traceback: TracebackType | None) -> list[Wire]:
    """The wires among the variables of a traceback's calls."""
    module = sys.modules.get("tcpapp.testing.wire")
    found: dict[int, Wire] = {}
    while module is not None and traceback is not None:
        values = traceback.tb_frame.f_locals.values()
        found |= {id(each): each for each in values if isinstance(each, module.Wire)}
        traceback = traceback.tb_next
    return list(found.values())


def is_checked(request: pytest.FixtureRequest) -> bool:
    """Whether the test is checked for leaks."""
    for marker in request.node.iter_markers():
        if marker.name in ("leaks", "no_leaks"):
            return bool(marker.name == "leaks")
    return bool(request.config.getini("tcpapp_leaks")) or "leaks" in request.fixturenames


@pytest.fixture(autouse=True)
def _tcpapp_leaks(request: pytest.FixtureRequest) -> None:
    """Request ``leaks`` before the test's own fixtures are made, if the test is checked."""
    if is_checked(request):
        request.getfixturevalue("leaks")


@pytest.fixture
def leaks(request: pytest.FixtureRequest) -> Iterator[Leaks]:
    """Give the `Leaks` of the test, which fails if something is left at its end."""
    from tcpapp.testing.leaks import Leaks

    wait = waits(request.config)
    reactor = installed_reactor()
    if wait is not None:
        start(reactor, wait)
    watched = Leaks(reactor, sockets=reactor is not None)
    yield watched
    if reactor is None:  # it may have been installed by the test
        watched.reactor = installed_reactor()
    if not is_checked(request) or FAILED in request.node.stash:
        watched.stop()
        return
    try:
        if wait is None:
            watched.check()
        else:
            wait(watched.check_settled())
    except AssertionError as error:
        raise pytest.fail.Exception(f"{request.node.nodeid}: {error}", pytrace=False) from None
    set_aside(request.config)


# Without a network ---------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    """Give a `twisted.internet.task.Clock`: time that passes when the test says so."""
    from twisted.internet.task import Clock

    return Clock()


@pytest.fixture
def fake_transport(clock: Clock) -> FakeTransport:
    """Give a `FakeTransport` on ``clock``: ``fake_transport.connect(protocol)``."""
    from tcpapp.testing.transport import FakeTransport

    return FakeTransport(clock=clock)


@pytest.fixture
def wire(clock: Clock) -> Callable[..., Wire]:
    """Give ``wire(server, client, **options)``, a `Wire` on ``clock`` between two protocols."""
    from tcpapp.testing.wire import Wire

    return partial(Wire, clock=clock)


def simulations(seeds: Sequence[int]) -> object:
    """A plugin with the fixture ``simulation``, which runs each test that uses it with each of `seeds`."""

    class Simulations:
        @pytest.fixture(params=seeds, ids="seed={}".format)
        def simulation(self, request: pytest.FixtureRequest) -> Iterator[Any]:
            """
            Give a `Simulation` with the seed that ``--simulation-seed`` chose, or with ``--simulation-runs`` seeds from
            it.

            Failures in it that nobody noticed fail the test at its end.
            """
            from tcpapp.testing.simulation import Simulation

            seed = request.param
            replay = f"seed {seed}; to replay it: pytest --simulation-seed={seed} '{request.node.nodeid}'"
            request.node.add_report_section("call", "simulation", replay)
            with Simulation(seed) as sim:
                yield sim

    return Simulations()


# On real ports -------------------------------------------------------------------------------------------------------


@pytest.fixture
def listening(_tcpapp_ending: Ending) -> Callable[..., Deferred[Listening]]:
    """Give ``listening(app, endpoint=ANY_PORT, **options)``, like `tcpapp.listen`; after the test, all of it is cut."""
    import tcpapp

    def keep(server: Listening) -> Listening:
        _tcpapp_ending.append(partial(server.close, 0))
        return server

    def start(app: Any = None, endpoint: Any = ANY_PORT, **options: Any) -> Deferred[Listening]:
        return tcpapp.listen(endpoint, app, **{"reactor": installed_reactor(), **options}).addCallback(keep)

    return start


@pytest.fixture
def connected(_tcpapp_ending: Ending) -> Callable[..., Deferred[Connection]]:
    """
    Give ``connected(server, app=None, **options)``, like `tcpapp.connect`, to a `Listening`, an endpoint, or a string.

    The connection is cut after the test.
    """
    import tcpapp

    def cut(client: Connection) -> Deferred[Any]:
        client.abort()
        return client.when_closed()

    def keep(client: Connection) -> Connection:
        _tcpapp_ending.append(partial(cut, client))
        return client

    def start(server: Any, app: Any = None, **options: Any) -> Deferred[Connection]:
        endpoint = f"tcp:127.0.0.1:{server.port}" if isinstance(server, tcpapp.Listening) else server
        return tcpapp.connect(endpoint, app, **{"reactor": installed_reactor(), **options}).addCallback(keep)

    return start


@pytest.fixture
def fault_proxy(_tcpapp_ending: Ending) -> Callable[..., Deferred[FaultProxy]]:
    """
    Give ``fault_proxy(server, **options)``: a started `FaultProxy` to what ``connected`` accepts; it is stopped after.
    """
    import tcpapp
    from tcpapp.testing.faultproxy import FaultProxy, endpoint_of

    def start(server: Any, **options: Any) -> Deferred[FaultProxy]:
        upstream = endpoint_of(server.address) if isinstance(server, tcpapp.Listening) else server
        proxy = FaultProxy(**{"reactor": installed_reactor(), "upstream": upstream, **options})
        _tcpapp_ending.append(proxy.stop)
        return proxy.start()

    return start


@pytest.fixture(scope="session")
def tls_certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Give the `Certificates` of a server called ``localhost``, 127.0.0.1 and ::1, in files of their own."""
    from tcpapp.testing.certificates import Certificates

    return Certificates(tmp_path_factory.mktemp("certificates"))
