"""
The pytest plugin: fixtures for tests of TCP services, and a leak check after each test.

pytest loads it wherever tcpapp is installed, and it does nothing until it is used. It works with and without
pytest-twisted, and with Hypothesis.

==================== =========================================================================================
fixture              value
==================== =========================================================================================
``clock``            a `twisted.internet.task.Clock`
``fake_transport``   a `FakeTransport`, on ``clock``
``wire``             ``wire(server, client, **options)``: connects two protocols by a `Wire`, on ``clock``
``simulation``       a `Simulation`; ``--simulation-seed`` and ``--simulation-runs`` choose the seeds
``listening``        ``listening(app, endpoint, **options)``: `tcpapp.listen` on a real port, closed after the test
``connected``        ``connected(server, app, **options)``: `tcpapp.connect` to a server, cut after the test
``fault_proxy``      ``fault_proxy(server, **options)``: a `FaultProxy` before a server, stopped after the test
``tls_certificates`` `Certificates` for ``localhost``, the same for the whole session
``leaks``            the `Leaks` of the test, which are checked at its end: ``leaks.take(ZeroDivisionError)``
==================== =========================================================================================

``listening``, ``connected`` and ``fault_proxy`` return Deferreds, and need the running reactor of pytest-twisted.

When a test fails, the section "Captured wire call" shows how each `Wire` of the test cut its streams. The traceback
leaves out the kit's own calls; ``--full-trace`` shows them.

The ini option ``tcpapp_leaks = true`` switches the leak check on for every test. The marker ``leaks`` or the fixture
switches it on for single tests, and the marker ``no_leaks`` switches it off. The nearest marker counts. A failed test
is not checked: it has possibly failed before it closed what it opened.
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
"""The number of times that the existing objects were excluded from garbage collection."""

FAILED = pytest.StashKey[bool]()
"""Whether the test itself has failed. Then its leaks are not reported, because it has possibly not reached its end."""

SET_ASIDE_FOR = 500
"""
Tests between two full collections. Our choice: cycles of that many tests take some megabytes at most, and with 10,000
tests one takes a quarter of a second.
"""

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
    """If every test is checked, exclude the loaded objects from garbage collection, which runs after each test."""
    set_aside(session.config)


def set_aside(config: pytest.Config) -> None:
    """
    If every test is checked, exclude the existing objects from garbage collection, so that the next one costs little.
    """
    if config.getini("tcpapp_leaks"):
        times = config.stash[SET_ASIDE] = config.stash.get(SET_ASIDE, -1) + 1
        if not times % SET_ASIDE_FOR:
            gc.unfreeze()
            gc.collect()
        gc.freeze()


# The reactor ---------------------------------------------------------------------------------------------------------


def installed_reactor() -> Any:
    """Return the global reactor, or `None` if none is installed. It never installs one."""
    return getattr(sys.modules.get("twisted.internet"), "reactor", None)


def waits(config: pytest.Config) -> Callable[[Deferred[Any]], Any] | None:
    """
    Return pytest-twisted's function that waits for a Deferred outside a test; `None` if that plugin is not active.
    """
    plugin = sys.modules.get("pytest_twisted")
    if plugin is None or not config.pluginmanager.is_registered(plugin):
        return None
    blockon: Callable[[Deferred[Any]], Any] = plugin.blockon
    return blockon


@pytest.fixture
def _tcpapp_ending(request: pytest.FixtureRequest) -> Iterator[Ending]:
    """
    Let the global reactor run. After the test, call the functions in the list that this fixture yields. Raises
    `UsageError` without a running reactor.
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
    """Start `reactor`, and everything that it opens at its start. pytest-twisted starts it at the first wait."""
    from twisted.internet.task import deferLater

    wait(deferLater(reactor, 0))


# Leaks ---------------------------------------------------------------------------------------------------------------


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Note that a test has failed, and show how the wires among the variables of its calls cut their streams."""
    if call.when == "call" and call.excinfo is not None:
        item.stash[FAILED] = True
        for wire in wires(call.excinfo.tb):
            item.add_report_section("call", "wire", wire.told())


def wires(traceback: TracebackType | None) -> list[Wire]:
    """Return the wires among the variables of the calls of a traceback."""
    module = sys.modules.get("tcpapp.testing.wire")
    found: dict[int, Wire] = {}
    while module is not None and traceback is not None:
        values = traceback.tb_frame.f_locals.values()
        found |= {id(each): each for each in values if isinstance(each, module.Wire)}
        traceback = traceback.tb_next
    return list(found.values())


def is_checked(request: pytest.FixtureRequest) -> bool:
    """Return whether the test is checked for leaks."""
    for marker in request.node.iter_markers():
        if marker.name in ("leaks", "no_leaks"):
            return bool(marker.name == "leaks")
    return bool(request.config.getini("tcpapp_leaks")) or "leaks" in request.fixturenames


@pytest.fixture(autouse=True)
def _tcpapp_leaks(request: pytest.FixtureRequest) -> None:
    """If the test is checked, request ``leaks`` before the test's own fixtures are made."""
    if is_checked(request):
        request.getfixturevalue("leaks")


@pytest.fixture
def leaks(request: pytest.FixtureRequest) -> Iterator[Leaks]:
    """Give the `Leaks` of the test. The test fails if something is left at its end."""
    from tcpapp.testing.leaks import Leaks

    wait = waits(request.config)
    reactor = installed_reactor()
    if wait is not None:
        start(reactor, wait)
    watched = Leaks(reactor, sockets=reactor is not None)
    yield watched
    if reactor is None:  # the test has possibly installed one
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
    """Return a plugin with the fixture ``simulation``, which runs each test that uses it with each of `seeds`."""

    class Simulations:
        @pytest.fixture(params=seeds, ids="seed={}".format)
        def simulation(self, request: pytest.FixtureRequest) -> Iterator[Any]:
            """
            Give a `Simulation` with the seed of ``--simulation-seed``, or with ``--simulation-runs`` seeds from it on.

            Failures in the simulation that no code handled fail the test at its end.
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
    """
    Give ``listening(app, endpoint=ANY_PORT, **options)``, which calls `tcpapp.listen`. After the test, all is cut.
    """
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
    Give ``connected(server, app=None, **options)``, which calls `tcpapp.connect`. `server` is a `Listening`, an
    endpoint or an endpoint string.

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
    Give ``fault_proxy(server, **options)``, which starts a `FaultProxy`. `server` is as for ``connected``. After the
    test, the proxy is stopped.
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
    """Give the `Certificates` of a server for ``localhost``, 127.0.0.1 and ::1, in a temporary folder."""
    from tcpapp.testing.certificates import Certificates

    return Certificates(tmp_path_factory.mktemp("certificates"))
