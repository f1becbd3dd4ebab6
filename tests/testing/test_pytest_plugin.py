"""
The pytest plugin in projects of their own: most tests here run pytest in a process, in a folder with nothing else.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import pytest_twisted

import tcpapp
from tcpapp.testing import pytest_plugin
from tcpapp.testing.pytest_plugin import ANY_PORT
from tests.environments import UNMEASURED
from tests.patience import PATIENCE

pytestmark = pytest.mark.once

PYOPENSSL = "Passing pyOpenSSL .* objects is deprecated:DeprecationWarning"
"""The warning of pyOpenSSL about how Twisted 26.10 uses it."""


class Project:
    """A folder of tests, in which pytest can run."""

    def __init__(self, folder):
        self.folder = folder
        self.ini("filterwarnings = error")

    def ini(self, text):
        (self.folder / "pytest.ini").write_text(f"[pytest]\n{text}\n", encoding="utf-8")

    def test(self, text, name="test_it.py"):
        (self.folder / name).write_text(text, encoding="utf-8")

    def run(self, *arguments, hypothesis=False, environment=None, **outcomes):
        """
        Run pytest; the test fails unless pytest counts these `outcomes`.

        Hypothesis's own plugin takes most of the time of such a run, and is there only for a test that is about it.
        """
        without = () if hypothesis else ("-p", "no:hypothesispytest")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *without, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        text = done.stdout + done.stderr
        counted = re.findall(r"(\d+) (passed|failed|error|skipped)", text.splitlines()[-1] if text else "")
        assert {name: int(count) for count, name in counted} == outcomes, text
        return text


@pytest.fixture
def project(tmp_path):
    """Give a project in an empty folder."""
    return Project(tmp_path)


# The plugin is only installed -----------------------------------------------------------------------------------------


def test_a_project_without_fixtures_of_tcpapp_imports_no_reactor(project):
    """
    In a project that uses no fixture, the plugin imports no reactor, no other module of the kit, and no optional
    package.
    """
    project.test(
        "import sys, subprocess\n"
        "def test_nothing(request):\n"
        "    assert request.config.pluginmanager.hasplugin('tcpapp')\n"
        "    assert 'twisted.internet.reactor' not in sys.modules\n"
        "    kit = {name for name in sys.modules if name.startswith('tcpapp.testing')}\n"
        "    assert kit == {'tcpapp.testing', 'tcpapp.testing.pytest_plugin'}\n"
        "    assert 'hypothesis' not in sys.modules and 'trustme' not in sys.modules\n"
    )
    project.run("-p", "no:twisted", passed=1)


def test_the_plugin_itself_imports_nothing_of_twisted():
    """The module of the plugin, run apart from its package, imports nothing of Twisted, tcpapp or Hypothesis."""
    code = (
        "import runpy, sys\n"
        "path = sys.argv[1]\n"
        "runpy.run_path(path)\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] in ('twisted', 'tcpapp', 'hypothesis')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, pytest_plugin.__file__],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr


def test_a_leaking_test_passes_while_the_check_is_off(project):
    """A test that leaves a timer passes if neither a marker, a fixture nor an option turns the leak check on."""
    project.test(
        "def test_leaves_a_timer():\n    from twisted.internet import reactor\n    reactor.callLater(60, int)\n"
    )
    project.run("-p", "no:twisted", passed=1)
    project.run(passed=1)


def test_fixtures_of_the_user_replace_fixtures_of_the_same_name(project):
    """A user's fixture replaces each of the plugin's fixtures with the same name."""
    names = ["clock", "fake_transport", "wire", "simulation", "listening", "connected", "fault_proxy"]
    names += ["tls_certificates", "leaks"]
    project.test(
        "import pytest\n"
        + "".join(f"@pytest.fixture\ndef {name}(): return 'mine'\n" for name in names)
        + f"def test_mine({', '.join(names)}):\n    assert {{{', '.join(names)}}} == {{'mine'}}\n"
    )
    project.run(passed=1)


# The leak check ------------------------------------------------------------------------------------------------------

LEAVES = """
import pytest

def leave():
    from twisted.internet import reactor
    return reactor.callLater(60, int)

def test_leaves():
    leave()

@pytest.mark.leaks
def test_is_marked():
    leave()

@pytest.mark.no_leaks
def test_is_exempt():
    leave()

@pytest.mark.no_leaks
class TestNear:
    @pytest.mark.leaks
    def test_the_nearest_mark_counts(self):
        leave()

def test_asks(leaks):
    leave()

@pytest.mark.no_leaks
def test_is_exempt_though_it_asks(leaks):
    leave()

def test_leaves_nothing():
    leave().cancel()
"""


@pytest.mark.parametrize("arguments", [("-p", "no:twisted"), ()], ids=["without pytest-twisted", "with it"])
def test_the_marker_or_the_fixture_turns_the_leak_check_on(project, arguments):
    """The marker or the fixture `leaks` turns the check on for a test, and the nearest marker counts."""
    project.test(LEAVES)
    text = project.run("-rE", *arguments, passed=7, error=3)
    assert "test_it.py::test_is_marked: left behind:\ntimer: builtins.int(), due in " in text
    assert "During handling of" not in text, "a leak is reported twice"
    assert re.findall(r"ERROR test_it.py::(\S+)", text.partition("short test summary")[2]) == [
        "test_is_marked",
        "TestNear::test_the_nearest_mark_counts",
        "test_asks",
    ]


@pytest.mark.parametrize("arguments", [("-p", "no:twisted"), ()], ids=["without pytest-twisted", "with it"])
def test_the_ini_option_turns_the_leak_check_on_for_all_tests(project, arguments):
    """With `tcpapp_leaks = true` all tests are checked, except tests with the marker `no_leaks`."""
    project.ini("tcpapp_leaks = true\nfilterwarnings = error")
    project.test(LEAVES)
    project.run(*arguments, passed=7, error=4)


def test_the_markers_are_registered(project):
    """pytest knows both markers of the plugin under `--strict-markers`, and lists them with `--markers`."""
    project.ini("addopts = --strict-markers")
    project.test("import pytest\n@pytest.mark.leaks\n@pytest.mark.no_leaks\ndef test_marked(): pass\n")
    project.run(passed=1)
    text = project.run("--markers")
    assert "@pytest.mark.leaks: " in text
    assert "@pytest.mark.no_leaks: " in text


def test_a_logged_error_is_a_leak_unless_it_is_taken(project):
    """An unhandled failure is an error of the test, unless the test takes it with the fixture `leaks`."""
    project.ini("tcpapp_leaks = true\nfilterwarnings = error")
    project.test(
        "from twisted.internet.defer import fail\n"
        "def test_drops_a_failure():\n"
        "    fail(ZeroDivisionError())\n"
        "def test_expects_it(leaks):\n"
        "    fail(ZeroDivisionError())\n"
        "    assert len(leaks.take(ZeroDivisionError)) == 1\n"
    )
    assert "logged error: " in project.run(passed=2, error=1)


def test_a_test_that_has_failed_is_not_failed_again(project):
    """When a test fails, its leaks are not reported as an error, and the next test is not blamed for them."""
    project.ini("tcpapp_leaks = true\nfilterwarnings = error")
    project.test(
        "from twisted.internet import reactor\n"
        "def test_fails():\n"
        "    reactor.callLater(60, int)\n"
        "    assert False\n"
        "def test_next(): pass\n"
    )
    project.run(failed=1, passed=1)


def test_fixtures_of_a_wider_scope_are_no_leaks(project):
    """Timers that fixtures cancel at their end are no leaks, for fixtures of the test and of the session."""
    project.ini("tcpapp_leaks = true\nfilterwarnings = error")
    project.test(
        "import pytest\n"
        "from twisted.internet import reactor\n"
        "@pytest.fixture(scope='session')\n"
        "def wide():\n"
        "    call = reactor.callLater(60, int)\n"
        "    yield\n"
        "    call.cancel()\n"
        "@pytest.fixture\n"
        "def narrow():\n"
        "    call = reactor.callLater(60, int)\n"
        "    yield\n"
        "    call.cancel()\n"
        "def test_uses(narrow, wide): pass\n"
    )
    project.run(passed=1)


CYCLES = """
import gc, weakref
import pytest

class Cycle:
    def __init__(self):
        self.me = self

kept, seen = [Cycle()], []

def test_outlives_its_own_test():
    kept.append(Cycle())
    seen.extend(weakref.ref(each) for each in kept)

def test_is_let_go():
    kept.clear()

@pytest.mark.parametrize("number", range(500))
def test_goes_on(number): pass

def test_was_collected():
    assert [each() for each in seen] == [None, None]
"""


@pytest.mark.parametrize("arguments", [("-p", "no:twisted"), ()], ids=["without pytest-twisted", "with it"])
def test_garbage_of_earlier_tests_is_collected(project, arguments):
    """
    The leak check examines only the objects of each test, and yet cycles that outlive their test are collected later.
    """
    project.ini("tcpapp_leaks = true\nfilterwarnings = error")
    project.test(CYCLES)
    project.run(*arguments, passed=503)


def test_the_leak_check_works_with_hypothesis(project):
    """The leak check passes a test of Hypothesis that leaves nothing behind."""
    project.ini("tcpapp_leaks = true\nfilterwarnings = error")
    project.test(
        "from hypothesis import given, strategies as st\n@given(st.integers())\ndef test_drawn(number): pass\n"
    )
    project.run(hypothesis=True, passed=1)


# Without a network ---------------------------------------------------------------------------------------------------

MEMORY = """
import sys
import tcpapp

def test_clock(clock):
    clock.callLater(5, (called := []).append, 1)
    clock.advance(5)
    assert called == [1]

def test_fake_transport(fake_transport, clock):
    protocol = tcpapp.MessageServerFactory(lambda message, connection: message.upper()).buildProtocol(None)
    fake_transport.connect(protocol)
    fake_transport.receive(b"hello\\n")
    assert fake_transport.value() == b"HELLO\\n"
    assert protocol.clock is fake_transport.reactor is clock
    fake_transport.lose()

def test_wire(wire, clock):
    server = tcpapp.MessageServerFactory(lambda message, connection: message.upper()).buildProtocol(None)
    client = tcpapp.MessageClientFactory().buildProtocol(None)
    line = wire(server, client, latency=0.5)
    assert line.clock is clock
    reply = client.connection.request(b"hello")
    clock.advance(0.5)
    line.flush()
    clock.advance(0.5)
    line.flush()
    assert reply.result == b"HELLO"
    client.connection.abort()
    line.flush()
    clock.advance(1)
    line.flush()

def test_no_reactor():
    assert "twisted.internet.reactor" not in sys.modules
"""


def test_the_fixtures_in_memory_need_no_reactor(project):
    """`clock`, `fake_transport` and `wire` work together, and import no reactor."""
    project.ini("tcpapp_leaks = true\nfilterwarnings = error")
    project.test(MEMORY)
    project.run("-p", "no:twisted", passed=4)


SIMULATED = """
def test_seed(simulation):
    print("the seed is", simulation.seed)
    assert simulation.seed != 8
"""


def test_a_simulation_has_the_seed_of_the_command_line(project):
    """
    The fixture `simulation` has seed 0, or the seed of `--simulation-seed`, and the name of the test shows the seed.
    """
    project.test(SIMULATED)
    assert "::test_seed[seed=0] PASSED" in project.run("-v", passed=1)
    assert "::test_seed[seed=5] PASSED" in project.run("-v", "--simulation-seed=5", passed=1)


UNNOTICED = """
from twisted.internet.defer import fail


def test_unnoticed(simulation):
    with simulation.acting():
        fail(ZeroDivisionError("unnoticed"))
"""


def test_a_simulation_with_an_unhandled_failure_fails(project):
    """A failed Deferred that nothing handled is reported as an error at the end of the test."""
    project.test(UNNOTICED)
    assert "ZeroDivisionError: unnoticed" in project.run(passed=1, error=1)


# The output of a failing test -----------------------------------------------------------------------------------------

EAGER = """
from twisted.internet.protocol import Protocol
from twisted.internet.testing import AccumulatingProtocol

from tcpapp.testing.pipe import cut_at
from tcpapp.testing.wire import Wire

class Eager(Protocol):
    def dataReceived(self, data):
        self.transport.write(b"got " + data)

def ask(wire):
    wire.client.transport.write(b"hello")
    wire.flush()
    return wire.client.data

def test_on_a_wire():
    wire = Wire(Eager(), AccumulatingProtocol(), cuts=lambda: cut_at(2))
    assert ask(wire) == b"got hello"

def test_on_the_fixture(wire):
    here = there = wire(Eager(), AccumulatingProtocol())
    ask(here)
    here.clock.callLater(1.0, lambda: 1 / 0)
    here.advance(2.0)

def test_that_never_rests(wire):
    line = wire(Eager(), Eager())
    line.client.transport.write(b"x")
    line.flush()

def test_without_a_wire():
    assert Wire is None
"""

KIT = re.compile(r"^\S*tcpapp/testing/\S+:\d+: ", re.MULTILINE)
"""The line of a traceback that shows a call inside the test kit."""


def test_a_failing_test_shows_how_its_wires_cut_the_streams(project):
    """A failing test shows the chunks of each of its wires, and no call inside the test kit."""
    project.test(EAGER)
    text = project.run(environment=UNMEASURED, failed=4)
    assert text.count("- Captured wire call -") == 3
    assert "to the server, Eager: 2 chunks: b'he' b'llo'\nto the client, AccumulatingProtocol: " in text
    assert "assert b'got hegot llo' == b'got hello'" in text
    assert "to the server, Eager: 1 chunk: b'hello'\n" in text
    assert "ZeroDivisionError: division by zero" in text
    assert "NeverSettles: after 100000 turns" in text
    assert KIT.findall(text) == []


def test_the_calls_of_the_kit_are_shown_on_request(project):
    """With `--full-trace` the traceback also shows the calls inside the test kit."""
    project.test(EAGER)
    assert KIT.findall(project.run("--full-trace", "-k", "fixture", failed=1)) != []


BROKEN = """
from hypothesis import strategies as st
from tcpapp.framing import Framing
from tcpapp.testing.oracles import check_app, check_framing
from tcpapp.testing.simulation import Simulation, replay, simulate

class Chunks(Framing):
    def receive(self, chunk):
        return [chunk[:-1]] if chunk else []
    def frame(self, message):
        self._sendable(message)
        return message + b"\\n"

def raises(message, connection):
    return message.decode("ascii") and 1 / 0

async def fails(sim):
    await sim.sleep(1)
    assert sim.now == 2

def test_app():
    check_app(raises, messages=[b"hello"])

def test_app_by_chance():
    check_app(raises, messages=st.just(b"hello"))

def test_framing():
    check_framing(Chunks)

def test_simulate():
    simulate(fails)

def test_replay():
    replay(fails, 1)

def test_simulation():
    with Simulation(1) as sim:
        sim.run(fails(sim))
"""


def test_a_broken_promise_shows_the_cut_and_no_call_of_the_kit(project):
    """
    A failing oracle shows the events, the chunks, the messages, and the expected and actual results, but no call of the
    kit.
    """
    project.test(BROKEN)
    told = project.run(hypothesis=True, environment=UNMEASURED, failed=6)
    app, by_chance, framing, *simulated = re.split(r"^_+ test_\w+ _+$", told, flags=re.MULTILINE)[1:]
    for text in (app, by_chance):
        assert "E       AssertionError: <function raises at " in text
        assert "\nE         what happened: [Deliver(data=b'hello\\n'), " in text
        assert "\nE         chunks: [b'hello\\n']\nE         messages: [b'hello']\nE         sent: b''\n" in text
        assert "ZeroDivisionError" in text
        assert "Falsifying example" not in text
    assert "E       AssertionError: Chunks() breaks a promise: " in framing
    for fact in ("messages", "stream", "expected", "got"):
        assert f"\nE         {fact}: " in framing
    for text in (app, by_chance, framing, *simulated):
        assert KIT.findall(text) == []
        assert "hypothesis/" not in text


def test_a_simulation_that_fails_says_how_to_replay_it(project):
    """A failing simulation prints the command that repeats it, and that command fails in the same way."""
    project.test(SIMULATED)
    text = project.run("--simulation-seed=7", "--simulation-runs=3", passed=2, failed=1)
    assert "seed 8; to replay it: pytest --simulation-seed=8 'test_it.py::test_seed[seed=8]'" in text
    replayed = project.run("--simulation-seed=8", "test_it.py::test_seed[seed=8]", failed=1)
    assert "the seed is 8" in replayed


def test_a_number_of_0_simulation_runs_is_refused(project):
    """`--simulation-runs=0` is refused, and the error says which values are valid."""
    assert "--simulation-runs=0: takes 1 or more" in project.run("--simulation-runs=0")


# On real ports -------------------------------------------------------------------------------------------------------

PORTS = """
import pytest_twisted
import tcpapp

def shout(message, connection):
    return message.upper()

@pytest_twisted.ensureDeferred
async def test_talks(listening, connected):
    server = await listening(shout)
    client = await connected(server)
    assert await client.request(b"hello") == b"HELLO"

@pytest_twisted.ensureDeferred
async def test_an_endpoint_of_ones_own(listening, connected, tmp_path):
    path = tmp_path / "socket"
    await listening(shout, f"unix:{path}", framing="int32")
    client = await connected(f"unix:{path}", framing="int32")
    assert await client.request(b"hello") == b"HELLO"

@pytest_twisted.ensureDeferred
async def test_faults(listening, connected, fault_proxy):
    proxy = await fault_proxy(await listening(shout), seed=7)
    client = await connected(proxy.endpoint)
    assert await client.request(b"hello") == b"HELLO"
    proxy.add("limit_data", bytes=3)
    assert (await client.request(b"hello").addErrback(str)).count("of which 3 bytes had arrived") == 1
    await fault_proxy(proxy.endpoint, listen="tcp:0:interface=127.0.0.1")

@pytest_twisted.ensureDeferred
async def test_faults_of_a_unix_socket(listening, connected, fault_proxy, tmp_path):
    server = await listening(shout, f"unix:{tmp_path}/server")
    proxy = await fault_proxy(server, listen=f"unix:{tmp_path}/proxy")
    client = await connected(proxy.endpoint)
    assert await client.request(b"hello") == b"HELLO"

@pytest_twisted.ensureDeferred
async def test_tls(listening, connected, tls_certificates):
    server = await listening(shout, tls_certificates.listen())
    client = await connected(tls_certificates.connect(server.port))
    assert await client.request(b"hello") == b"HELLO"
"""


@pytest.mark.parametrize("reactor", ["default", "asyncio"])
def test_ports_and_connections_end_with_the_test(project, reactor):
    """
    With each reactor, the fixtures close their ports and connections at the end of a test, so the leak check finds
    nothing.
    """
    project.ini(f"tcpapp_leaks = true\nfilterwarnings = ignore:{PYOPENSSL}")
    project.test(PORTS)
    project.run(f"--reactor={reactor}", passed=5)


@pytest.mark.filterwarnings(f"ignore:{PYOPENSSL}")
@pytest_twisted.ensureDeferred
async def test_the_fixtures_work_in_this_project(listening, connected, fault_proxy, tls_certificates):
    """
    `listening`, `connected` and `fault_proxy` also work in this project, in the clear, over TLS, and through a proxy.
    """
    for endpoint in (ANY_PORT, tls_certificates.listen()):
        server = await listening(lambda message, connection: message.upper(), endpoint)
        proxy = await fault_proxy(server)
        for near, port in ((server, server.port), (proxy.endpoint, proxy.port)):
            client = await connected(near if endpoint is ANY_PORT else tls_certificates.connect(port))
            assert await client.request(b"hello") == b"HELLO"


def test_the_fixtures_of_ports_ask_for_a_running_reactor(project):
    """Without pytest-twisted the fixtures of real ports fail with an error that says what to install."""
    names = ("listening", "connected", "fault_proxy")
    project.test("".join(f"def test_{name}({name}): pass\n" for name in names))
    text = project.run("-p", "no:twisted", error=3)
    assert (
        text.count("the fixtures 'listening', 'connected' and 'fault_proxy' need a running reactor: pip install") >= 3
    )


# Certificates --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings(f"ignore:{PYOPENSSL}")
def test_certificates_make_a_tls_connection_in_memory(tls_certificates, wire):
    """
    The TLS options of server and client fit together: the client trusts the server, and both talk over a wire in
    memory.
    """
    contexts = tls_certificates.server_options(), tls_certificates.client_options()
    server = tcpapp.MessageServerFactory(lambda message, connection: message.upper()).buildProtocol(None)
    client = tcpapp.MessageClientFactory().buildProtocol(None)
    line = wire(server, client, tls=contexts)
    line.flush()
    reply = client.connection.request(b"hello")
    line.flush()
    assert reply.result == b"HELLO"
    client.connection.close()
    line.flush()
    assert [*tls_certificates.authority.parent.iterdir()] == [tls_certificates.authority]
