"""The plugin: from the command line to the service, and one line for whatever is wrong with it."""

from __future__ import annotations

import os
import signal
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IServiceMaker
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import getPlugins
from twisted.python import usage
from zope.interface import implementer

from tcpapp import Limits, MessageService, Timeouts, apps, codecs, framing
from tcpapp.errors import InvalidOption
from tcpapp.limits import numbers_of
from tcpapp.plugin import GROUPS, Options, TwistdService, load_app, makeService

BUSY = CannotListenError("127.0.0.1", 7007, OSError(98, "Address already in use"))
NAMES = [name for group in GROUPS.values() for name, _, _ in group]


def parsed(*words: str) -> Options:
    options = Options()
    options.parseOptions(words)
    return options


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a current directory with nothing in it; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


NO_NUMBERS = {"listen", "app", "framing", "codec", "allow", "deny"}
"""The options that take something else."""

# What is right --------------------------------------------------------------------------------------------------------


def test_twistd_finds_it() -> None:
    """There is one plugin of that name, and it leads here."""
    [maker] = [each for each in getPlugins(IServiceMaker) if each.tapname == "tcpapp"]
    assert (maker.options, maker.makeService) == (Options, makeService)


def test_without_options_it_serves_echo_to_this_machine() -> None:
    """The defaults: echo, lines, bytes, port 7007 of the loopback interface, and every limit and timeout as it is."""
    options = parsed()
    assert options["listen"] == ["tcp:7007:interface=127.0.0.1"]
    [endpoint] = options.endpoints
    assert IStreamServerEndpoint.providedBy(endpoint)
    settings = options.factory.settings
    assert (settings.app, settings.codec) == (apps.echo, None)
    assert isinstance(settings.framing, framing.Lines)
    assert (settings.limits, settings.timeouts) == (Limits(), Timeouts())


@pytest.mark.parametrize("field", numbers_of(Limits) + numbers_of(Timeouts), ids=lambda field: field.name)
def test_every_number_has_its_option(field: Any) -> None:
    """Each limit and timeout is an option of its name, whose value the service gets, and whose default is the same."""
    option = field.name.replace("_", "-")
    settings = parsed(f"--{option}={field.default + 1:.15g}").factory.settings
    kind, given = (Limits, settings.limits) if hasattr(Limits(), field.name) else (Timeouts, settings.timeouts)
    assert given == kind(**{field.name: field.default + 1})


def test_what_is_served_can_be_chosen() -> None:
    """App, framing and codec are what the options name; an option can be written with = or without."""
    settings = parsed("--app=upper", "--framing", r"delimited:by=\x03", "--codec", "text").factory.settings
    assert settings.app is apps.upper
    assert isinstance(settings.framing, framing.Delimited)
    assert isinstance(settings.codec, codecs.Text)
    assert parsed("--codec", "none").factory.settings.codec is None


def test_listen_can_be_given_again(tmp_path: Path) -> None:
    """Each --listen is a further endpoint; the default is one only where there is none."""
    words = ["tcp:0:interface=127.0.0.1", f"unix:{tmp_path}/socket"]
    options = parsed("--listen", words[0], "--listen", words[1])
    assert options["listen"] == words
    assert len(options.endpoints) == 2
    assert list(tmp_path.iterdir()) == []


def test_make_service_gives_a_service_that_listens_nowhere_yet() -> None:
    """twistd starts it; it is the one service for all endpoints."""
    service = makeService(parsed("--listen", "tcp:0", "--listen", "tcp6:0"))
    assert isinstance(service, MessageService)
    assert (len(list(service)), service.addresses, service.running) == (2, [], 0)


def test_help_groups_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    """--help prints a page, under 80 columns, of all options in their groups, each with its default, once."""
    with pytest.raises(SystemExit) as ended:
        parsed("--help")
    page = capsys.readouterr().out
    assert not ended.value.code
    assert page.count("[options]") == 1  # twistd writes the line with the usage before it
    assert max(map(len, page.splitlines())) <= 100
    joined = " ".join(page.split())
    titles = [page.index(f"\n{title}:\n") for title in GROUPS]
    assert titles == sorted(titles)
    for name, default, meaning in (option for group in GROUPS.values() for option in group):
        assert f" --{name}= {meaning} [default: {default}]" in joined
        assert page.count(f"  --{name}= ") == 1


def test_a_command_of_another_name_is_called_so(capfd: pytest.CaptureFixture[str]) -> None:
    """A plugin of one's own has a subclass of the options; twistd tells it what it is called."""

    class Twistd(usage.Options):
        subCommands = [["shelf", None, type("ShelfOptions", (Options,), {}), "a command"]]  # noqa: RUF012 - as Twisted's

    with pytest.raises(SystemExit):
        Twistd().parseOptions(["shelf", "--listen", "tcp:99999"])
    assert capfd.readouterr().err.startswith("twistd shelf: --listen: 'tcp:99999': ")


def test_networks_are_allowed_and_denied() -> None:
    """Each as often as one likes; without any, everyone may come in."""
    given = parsed("--allow", "192.0.2.0/24", "--allow=2001:db8::/32", "--deny", "192.0.2.7").factory.settings.networks
    assert [str(each) for each in given.allow] == ["192.0.2.0/24", "2001:db8::/32"]
    assert [str(each) for each in given.deny] == ["192.0.2.7/32"]
    assert not parsed().factory.settings.networks


# What is wrong --------------------------------------------------------------------------------------------------------


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """What is said of a command line: one line on stderr, nothing on stdout; it ends with 1."""
    with pytest.raises(SystemExit) as ended:
        parsed(*words)
    said = capfd.readouterr()
    assert (ended.value.code, said.out) == (1, "")
    assert said.err.startswith("twistd tcpapp: ")
    assert said.err.endswith("\n")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    return said.err.removeprefix("twistd tcpapp: ").rstrip("\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--frobnicate"], "option --frobnicate not recognized"),
        (["--framnig=line"], "option --framnig not recognized; did you mean 'framing'?"),
        (["--max-connection5=1"], "did you mean 'max-connections'?"),
        (["--listen"], "option --listen requires argument"),
        (
            ["--allow", "192.0.2.1/24"],
            "as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1; did you mean 192.0.2.0/24?",
        ),
        (
            ["--deny", "localhost"],
            "--deny: 'localhost': takes a network or an address, as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1",
        ),
        (["--max"], "option --max not a unique prefix"),
        (["-x"], "option -x not recognized"),
        (["stray"], "'stray' is no option; options begin with --"),
        (["--app=echo", "7007"], "'7007' is no option; options begin with --"),
    ],
)
def test_what_is_no_option(words: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An option that there is not is named, with the one that is spelled nearly so."""
    assert says in refused(capfd, *words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--listen=tcp:65536"], "'tcp:65536': port is '65536'; it takes a number from 0 (any free port) to 65535"),
        (["--listen=tcp:http"], "port is 'http'"),
        (["--listen=7007"], "write tcp:7007"),
        (["--listen=tcp:1", "--listen=pigeon:1"], "'pigeon' is no kind of endpoint"),
        (["--listen="], "'' is no kind of endpoint"),
        (["--listen=ssl:1:privateKey=/no/key:certKey=/no/cert"], "privateKey is '/no/key'; it takes a readable file"),
        (["--framing=lin"], "did you mean 'line'?"),
        (["--framing="], "''"),
        (["--framing=line:max=many"], "max='many': takes a whole number"),
        (["--framing=line:min=1"], "line: min= is no option of it; it takes delimiter, max, oversize"),
        (["--codec=jsn"], "--codec: codec='jsn': takes 'text', 'json' or 'msgpack'; did you mean 'json'?"),
        (["--codec="], "codec=''"),
        (["--max-connections=0"], "--max-connections=0: takes a whole number of connections, 1 or more"),
        (["--max-connections=1e3"], "--max-connections='1e3': takes a whole number of connections"),
        (["--max-connections=many"], "--max-connections='many': takes a whole number of connections"),
        (["--inbox-high="], "--inbox-high='': takes a whole number of bytes"),
        (["--inbox-low=65537"], "--inbox-low=65537: takes at most --inbox-high, which is 65536"),
        (["--drain=-1"], "--drain=-1.0: takes a number of seconds, 0 or more (0: cut at once)"),
        (["--drain=soon"], "--drain='soon': takes a number of seconds"),
        (["--grace=nan"], "--grace=nan: takes a number of seconds"),
        (["--request=inf"], "--request=inf: takes a number of seconds"),
        (["--app=line\nfeed\x1b"], r"--app: 'line\nfeed\x1b': takes module:name"),
    ],
)
def test_a_value_that_cannot_be(words: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The value is quoted, and what would be right is said."""
    assert says in refused(capfd, *words)


@pytest.mark.parametrize(
    "name", [option for field in numbers_of(Limits) + numbers_of(Timeouts) for option in [field.name.replace("_", "-")]]
)
def test_no_number_takes_words(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Each limit and timeout refuses what is no number, by the name that the command line has for it."""
    assert f"--{name}='x': takes a " in refused(capfd, f"--{name}=x")
    assert f"--{name}=-1" in refused(capfd, f"--{name}=-1")


# The app --------------------------------------------------------------------------------------------------------------

MINE = """
import sys
from tcpapp import conversation

def app(message, connection):
    return message

class Room:
    def received(self, message, connection):
        return message

    class Inner:
        def opened(self, connection): pass

@conversation
async def talk(connection): pass

room = Room()
number = 5
nothing = None

def one(message): pass

class Empty: pass
"""


@pytest.mark.parametrize("name", sorted(apps.BUILT_IN))
def test_a_built_in_is_found_by_its_name(name: str) -> None:
    assert load_app(name) is apps.BUILT_IN[name]


@pytest.mark.parametrize(
    "target", ["mine:app", "mine:Room", "mine:Room.Inner", "mine:room", "mine:talk", "deep.er:app"]
)
def test_an_app_is_found_in_the_current_directory(target: str, here: Path) -> None:
    """Any form of app, in a module or a package, by a dotted name."""
    (here / "deep").mkdir()
    for path in ("mine.py", "deep/er.py"):
        (here / path).write_text(MINE)
    app = load_app(target)
    module, _, path = target.partition(":")
    assert app is attrgetter(path)(sys.modules[module])
    assert sys.path.count(str(here)) == 1
    assert load_app(target) is app
    assert sys.path.count(str(here)) == 1


def test_an_app_of_ones_own_is_served(here: Path) -> None:
    """--app takes module:name."""
    (here / "mine.py").write_text(MINE)
    assert parsed("--app=mine:app").factory.settings.app is sys.modules["mine"].app


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("ech", "takes module:name, or one of chat, discard, echo, time, upper; did you mean 'echo'?"),
        ("", "takes module:name, or one of"),
        ("mine", "takes module:name, or one of"),
        ("absent:app", "importing 'absent' failed: ModuleNotFoundError: No module named 'absent'"),
        ("mine.py:app", "importing 'mine.py' failed: ModuleNotFoundError"),
        (":app", "importing '' failed: ValueError: Empty module name"),
        (".mine:app", "importing '.mine' failed: TypeError"),
        ("mine:", "there is no '' in mine"),
        ("mine:rom", "there is no 'rom' in mine; did you mean 'room'?"),
        ("mine:room.receive", "there is no 'receive' in mine; did you mean 'received'?"),
        ("mine:number.app", "there is no 'app' in mine"),
        ("mine:app:more", "there is no 'app:more' in mine"),
        ("mine:number", "5 is no app: it takes a function of (message, connection)"),
        ("mine:one", "one(message): takes (message, connection)"),
        ("mine:Empty", "Empty: a class that is an app has any of opened, received and closed"),
        ("mine:sys", "<module 'sys' (built-in)> is no app"),
    ],
)
def test_what_is_no_app_is_refused(target: str, says: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A target that leads to no app is quoted, with what is missing, or what would be right."""
    (here / "mine.py").write_text(MINE)
    with pytest.raises(InvalidOption) as caught:
        load_app(target)
    assert str(caught.value).startswith(f"{target!r}: ")
    assert says in str(caught.value)
    assert says in refused(capfd, f"--app={target}")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import absent", "ModuleNotFoundError: No module named 'absent' ({path}, line 1)"),
        ("\n1 / 0", "ZeroDivisionError: division by zero ({path}, line 2)"),
        ("raise ValueError('two\\n  lines')", "ValueError: two lines ({path}, line 1)"),
        ("raise SystemExit(3)", "SystemExit: 3 ({path}, line 1)"),
        ("app = ", "SyntaxError: invalid syntax (broken.py, line 1)"),
        (
            "import tcpapp\n@tcpapp.conversation\ndef app(): pass",
            "InvalidOption: app: @conversation takes an async function",
        ),
        ("assert False", "AssertionError"),
    ],
)
def test_a_module_that_cannot_be_imported(
    source: str, says: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever the module raises is told in one line, with its place, since there is no traceback to look at."""
    (here / "broken.py").write_text(source)
    said = refused(capfd, "--app=broken:app")
    assert said.startswith("--app: 'broken:app': importing 'broken' failed: ")
    assert says.format(path=here / "broken.py") in said


# Under twistd ---------------------------------------------------------------------------------------------------------


@implementer(IStreamServerEndpoint)
class Busy:
    """An endpoint that cannot be listened on."""

    def __init__(self, error: Exception = BUSY) -> None:
        self.error = error

    def listen(self, factory: Any) -> Deferred[Any]:
        return fail(self.error)


class Reactor(MemoryReactorClock):
    """A reactor with one thread, that a test runs and stops: a simulated one is run by its simulation, always."""

    iterated = 0

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        self.callLater(0, function, *arguments)

    def iterate(self, delay: float = 0) -> None:
        self.iterated += 1


def service_on(*endpoints: Any, twistd: dict[str, Any] | None = None) -> TwistdService:
    options = parsed()
    options.endpoints = list(endpoints)
    options.parent = twistd
    return TwistdService(options, Reactor())


@pytest.fixture(autouse=True)
def signals() -> Any:
    """Put the signals' handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, before)


def test_a_busy_port_ends_the_program(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The operator is told in one line, and twistd's pid file, which names a process that is no more, is removed."""
    pidfile = tmp_path / "twistd.pid"
    pidfile.write_text("4711")
    with pytest.raises(SystemExit) as ended:
        service_on(Busy(), twistd={"pidfile": str(pidfile)}).privilegedStartService()
    assert ended.value.code == 1
    expected = "twistd tcpapp: Couldn't listen on 127.0.0.1:7007: [Errno 98] Address already in use.\n"
    assert capfd.readouterr().err.endswith(expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (BUSY, "Couldn't listen on 127.0.0.1:7007: [Errno 98] Address already in use."),
        (
            CannotListenError(None, b"/run/s", "Cannot acquire lock"),
            "Couldn't listen on unix:/run/s: Cannot acquire lock.",
        ),
        (
            PermissionError(13, "Permission denied", "/run/s.lock"),
            "Couldn't listen: [Errno 13] Permission denied: '/run/s",
        ),
    ],
)
def test_it_says_why_it_cannot_listen(error: Exception, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The address is written as operators write it."""
    service = service_on(Busy(error))
    with pytest.raises(SystemExit):
        service.privilegedStartService()
    assert f"twistd tcpapp: {says}" in capfd.readouterr().err
    assert service._reactor.iterated == 1


@pytest.mark.parametrize("twistd", [None, {}, {"pidfile": ""}, {"pidfile": "/no/such/file", "statusPipe": None}])
def test_a_busy_port_ends_the_program_without_a_pid_file(twistd: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Where there is none, there is nothing to remove."""
    with pytest.raises(SystemExit):
        service_on(Busy(), twistd=twistd).privilegedStartService()
    assert "Couldn't listen" in capfd.readouterr().err


def test_a_busy_port_is_told_to_who_started_a_daemon(capfd: pytest.CaptureFixture[str]) -> None:
    """A daemon has no stderr: twistd's first process waits at a pipe, and is told there, in what it reads at once."""
    reading, writing = os.pipe()
    with pytest.raises(SystemExit):
        service_on(Busy(), twistd={"pidfile": "", "statusPipe": writing}).privilegedStartService()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"1 Couldn't listen on 127.0.0.1:7007: [Errno 98] Address already in use."


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_and_a_second_one_cuts(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ends the program in order, by the reactor; the second cuts what still drains."""
    service = service_on()
    reactor, cuts = service._reactor, []
    monkeypatch.setattr(service, "cut", lambda: cuts.append(number))
    service.privilegedStartService()
    service.startService()
    signal.signal(number, signal.SIG_DFL)  # Twisted's own, as the reactor starts
    reactor.run()
    reactor.hasStopped = False
    os.kill(os.getpid(), number)
    reactor.advance(0)
    assert (reactor.hasStopped, cuts) == (True, [])
    os.kill(os.getpid(), number)
    reactor.advance(0)
    assert cuts == [number]


def test_a_signal_that_comes_early_is_heeded() -> None:
    """Between the start of listening and that of the reactor, a signal is kept until the reactor runs."""
    service = service_on()
    service.privilegedStartService()
    os.kill(os.getpid(), signal.SIGTERM)
    service.startService()
    assert not service._reactor.hasStopped
    service._reactor.advance(0)
    assert service._reactor.hasStopped


def test_a_signal_that_comes_while_the_reactor_starts_is_heeded() -> None:
    """Twisted's handlers, which would end the process by the signal, never see it."""
    service = service_on()
    service.privilegedStartService()
    service.startService()
    twisteds: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: twisteds.append(number))
    signal.raise_signal(signal.SIGTERM)  # to this thread: others, of other tests, do not block it
    service._reactor.run()
    service._reactor.hasStopped = False
    service._reactor.advance(0)
    assert (service._reactor.hasStopped, twisteds) == (True, [])


def test_a_signal_cuts_what_drains_for_another_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the app has stopped the reactor itself, the first signal says that somebody will not wait."""
    service = service_on()
    cuts: list[str] = []
    monkeypatch.setattr(service, "cut", lambda: cuts.append("cut"))
    service.startService()
    service.stopService()
    service._signalled(signal.SIGTERM, None)
    service._reactor.advance(0)
    assert (cuts, service._reactor.hasStopped) == (["cut"], False)
