"""The plugin: from the command line to the service, and one line for each error."""

from __future__ import annotations

import errno
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.application.service import IServiceMaker
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.plugin import getPlugins
from twisted.python import usage

import tcpapp
from tcpapp import Limits, MessageService, Timeouts, apps, codecs, framing
from tcpapp.plugin import GROUPS, Options, makeService
from tcpapp.process.configuration.options import set_by_options
from tcpapp.process.nonblocking_log import LogStream

SET = set_by_options(Limits) + set_by_options(Timeouts)
BUSY = CannotListenError("127.0.0.1", 7007, OSError(98, "Address already in use"))


def parsed(*words: str) -> Options:
    """Return the options of this command line."""
    options = Options()
    options.parseOptions(words)
    return options


NO_NUMBERS = {"listen", "app", "framing", "codec", "allow", "deny"}
"""The options that take no number."""

# Valid command lines --------------------------------------------------------------------------------------------------


def test_twistd_finds_the_plugin() -> None:
    """twistd finds one plugin of the name tcpapp, which names `Options` and `makeService`."""
    [maker] = [each for each in getPlugins(IServiceMaker) if each.tapname == "tcpapp"]
    assert (maker.options, maker.makeService) == (Options, makeService)


def test_without_options_it_serves_echo_to_this_machine() -> None:
    """Without options, echo is served with lines on port 7007 of the loopback interface, with the default limits."""
    options = parsed()
    assert options["listen"] == ("tcp:7007:interface=127.0.0.1",)
    [endpoint] = options.endpoints
    assert IStreamServerEndpoint.providedBy(endpoint)
    settings = options.factory.settings
    assert (settings.app, settings.codec) == (apps.echo, None)
    assert isinstance(settings.framing, framing.Lines)
    assert (settings.limits, settings.timeouts) == (Limits(), Timeouts())


@pytest.mark.parametrize("field", SET, ids=lambda field: field.name)
def test_every_number_has_its_option(field: Any) -> None:
    """Each limit and timeout has an option of its name, and the factory gets the value of the option."""
    option = field.name.replace("_", "-")
    settings = parsed(f"--{option}={field.default + 1:.15g}").factory.settings
    kind, given = (Limits, settings.limits) if hasattr(Limits(), field.name) else (Timeouts, settings.timeouts)
    assert given == kind(**{field.name: field.default + 1})


def test_app_framing_and_codec_are_options() -> None:
    """The options name app, framing and codec, and can be written with = or without."""
    settings = parsed("--app=upper", "--framing", r"delimited:by=\x03", "--codec", "text").factory.settings
    assert settings.app is apps.upper
    assert isinstance(settings.framing, framing.Delimited)
    assert isinstance(settings.codec, codecs.Text)
    assert parsed("--codec", "none").factory.settings.codec is None


def test_listen_can_be_given_again(tmp_path: Path) -> None:
    """Each --listen adds an endpoint, and replaces the default endpoint."""
    words = ["tcp:0:interface=127.0.0.1", f"unix:{tmp_path}/socket"]
    options = parsed("--listen", words[0], "--listen", words[1])
    assert list(options["listen"]) == words
    assert len(options.endpoints) == 2
    assert list(tmp_path.iterdir()) == []


def test_make_service_gives_a_service_that_listens_nowhere_yet() -> None:
    """`makeService` gives one service for all endpoints, which listens when twistd starts it."""
    service = makeService(parsed("--listen", "tcp:0", "--listen", "tcp6:0"))
    assert isinstance(service, MessageService)
    assert (len(list(service)), service.addresses, service.running) == (2, [], 0)


@pytest.mark.parametrize("nodaemon", [True, False])
def test_in_the_foreground_stdout_never_blocks(nodaemon: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the foreground, stdout, to which twistd logs, never blocks; in the background, stdout is unchanged."""
    read, write = os.pipe()
    with os.fdopen(read), os.fdopen(write, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        options = parsed()
        options.parent = {"nodaemon": nodaemon}
        makeService(options)
        assert isinstance(sys.stdout, LogStream) == nodaemon
        monkeypatch.undo()


def test_help_groups_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    """--help prints all options in their groups, each once and with its default, in at most 100 columns."""
    with pytest.raises(SystemExit) as ended:
        parsed("--help")
    page = capsys.readouterr().out
    assert not ended.value.code
    assert page.count("[options]") == 1  # twistd writes the line with the usage before it
    assert max(map(len, page.splitlines())) <= 100
    joined = " ".join(page.split())
    titles = [page.index(f"\n{title}:\n") for title in GROUPS]
    assert titles == sorted(titles)
    for option in (option for group in GROUPS.values() for option in group):
        assert f" --{option.name}= {option.meaning} [default: {option.default}]" in joined
        assert len(re.findall(rf"^  --{option.name}=(?: |$)", page, re.MULTILINE)) == 1


def test_the_version_says_whether_tcpapp_is_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` prints the versions of tcpapp, Twisted and Python, and the form of tcpapp."""
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--version"])
    assert ended.value.code == 0
    form = "compiled" if tcpapp.accelerated else "from its Python sources"
    assert re.match(rf"tcpapp \S+, {form}; Twisted \S+, Python 3\.\d+\.\d+$", capsys.readouterr().out)


def test_a_command_of_another_name_uses_its_name_in_errors(capfd: pytest.CaptureFixture[str]) -> None:
    """The errors of a user's own command, which has a subclass of the options, begin with the command's name."""

    class Twistd(usage.Options):
        subCommands = [["shelf", None, type("ShelfOptions", (Options,), {}), "a command"]]  # noqa: RUF012 - as Twisted's

    with pytest.raises(SystemExit):
        Twistd().parseOptions(["shelf", "--listen", "tcp:99999"])
    assert capfd.readouterr().err.startswith("twistd shelf: --listen: 'tcp:99999': ")


def test_proxies_can_be_given_several_times() -> None:
    """--proxies can be given several times; by default, only this machine is a proxy."""
    given = parsed("--proxies", "10.0.0.0/8", "--proxies=192.0.2.1").factory.settings.proxies
    assert [str(each) for each in given.allow] == ["10.0.0.0/8", "192.0.2.1/32"]
    assert [str(each) for each in parsed().factory.settings.proxies.allow] == ["127.0.0.0/8", "::1/128"]


def test_networks_are_allowed_and_denied() -> None:
    """--allow and --deny can be given several times; by default, every address is allowed."""
    given = parsed("--allow", "192.0.2.0/24", "--allow=2001:db8::/32", "--deny", "192.0.2.7").factory.settings.networks
    assert [str(each) for each in given.allow] == ["192.0.2.0/24", "2001:db8::/32"]
    assert [str(each) for each in given.deny] == ["192.0.2.7/32"]
    assert not parsed().factory.settings.networks


# Invalid command lines ------------------------------------------------------------------------------------------------


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the error of a command line, and check that it is one line on stderr and the exit code is 1."""
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
def test_an_unknown_option_is_refused(words: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An unknown option is named in the error, with a similar one if there is one."""
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
        (["--inbox-low=65537"], "--inbox-low=65537: takes at most the default of --inbox-high, which is 65536"),
        (["--drain=-1"], "--drain=-1.0: takes a number of seconds, 0 or more (0: cut at once)"),
        (["--drain=soon"], "--drain='soon': takes a number of seconds"),
        (["--grace=nan"], "--grace=nan: takes a number of seconds"),
        (["--request=inf"], "--request=inf: takes a number of seconds"),
        (["--app=line\nfeed\x1b"], r"--app: 'line\nfeed\x1b': takes module:name"),
    ],
)
def test_an_invalid_value_is_refused(words: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The error of an invalid value quotes the value, and says what is valid."""
    assert says in refused(capfd, *words)


@pytest.mark.parametrize("name", [field.name.replace("_", "-") for field in SET])
def test_no_number_takes_words(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The option of a limit or timeout refuses a word and a negative number, and the error names the option."""
    assert f"--{name}='x': takes a " in refused(capfd, f"--{name}=x")
    assert f"--{name}=-1" in refused(capfd, f"--{name}=-1")


# Sources and pages ----------------------------------------------------------------------------------------------------


def test_the_command_line_overrides_the_environment_and_this_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line overrides the environment, which overrides the file; the environment can name the file."""
    path = tmp_path / "app.toml"
    path.write_text('max-connections = 1\nmax-requests = 1\nmax-unsent = 1\nlisten = ["tcp:0", "tcp:0"]')
    monkeypatch.setenv("TCPAPP_CONFIG", str(path))
    monkeypatch.setenv("TCPAPP_MAX_REQUESTS", "2")
    monkeypatch.setenv("TCPAPP_MAX_UNSENT", "2")
    options = parsed("--max-unsent=3", "--listen=tcp:0")
    limits = options.factory.settings.limits
    assert (limits.max_connections, limits.max_requests, limits.max_unsent, len(options.endpoints)) == (1, 2, 3, 1)
    path.write_text("max-connections = 7")
    assert options.read_configuration().arguments["limits"].max_connections == 7
    assert options.read_configuration().arguments["limits"].max_unsent == 3


def test_another_command_has_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of a user's own command have the command's name as their prefix."""
    monkeypatch.setenv("MY_SHELF_MAX_CONNECTIONS", "5")
    monkeypatch.setenv("TCPAPP_MAX_CONNECTIONS", "6")

    class Twistd(usage.Options):
        subCommands = [["my-shelf", None, type("Shelf", (Options,), {}), "a command"]]  # noqa: RUF012 - as Twisted's

    twistd = Twistd()
    twistd.parseOptions(["my-shelf"])
    assert twistd.subOptions.factory.settings.limits.max_connections == 5


def test_all_errors_are_reported_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All errors of the file, the environment and the command line are reported together, one in each line."""
    path = tmp_path / "app.toml"
    path.write_text("max-connection = 1\nmax-requests = 0")
    monkeypatch.setenv("TCPAPP_CODEC", "jsn")
    with pytest.raises(SystemExit) as ended:
        parsed(f"--config={path}", "--framing=lin")
    head, *lines = capfd.readouterr().err.splitlines()
    assert (ended.value.code, head) == (1, "twistd tcpapp: 4 things are wrong:")
    assert [line.partition(": ")[0].strip() for line in lines] == [str(path), "--framing", "TCPAPP_CODEC", str(path)]


def test_a_missing_file_is_the_only_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """When the options file is missing, this is the one line of the error."""
    assert f"no.toml: {os.strerror(errno.ENOENT)}" in refused(capfd, f"--config={tmp_path}/no.toml")


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        (["--check"], "twistd tcpapp: the configuration is good\n"),
        (
            ["--check", "--listen=haproxy:systemd:name=app"],
            "twistd tcpapp: the configuration is good; sockets that are handed over could not be checked: systemd",
        ),
        (
            ["--show-config", "--app=upper"],
            'listen = ["tcp:7007:interface=127.0.0.1"]  # default\napp = "upper"  # --app\n',
        ),
        (["--show-limits"], "Limits:\n  --max-connections     1000 connections (the default)\n"),
    ],
)
def test_an_option_that_prints_a_page_ends_the_command(
    words: list[str], begins: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """--check, --show-config and --show-limits print their page and exit with 0."""
    with pytest.raises(SystemExit) as ended:
        parsed(*words)
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(begins)


def test_a_check_warns_of_what_the_log_would(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """--check warns on stderr of a misspelt variable and of a certificate that is not loaded, also behind a proxy."""
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(here / "good.pem"))
    (here / "torn.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    monkeypatch.setenv("TCPAPP_CONFG", "app.toml")
    with pytest.raises(SystemExit) as ended:
        parsed("--check", "--listen=haproxy:tls:0:path=.", "--listen=tcp:0", "--listen=haproxy:tcp:0")
    said = capfd.readouterr()
    assert (ended.value.code, said.out) == (0, "twistd tcpapp: the configuration is good\n")
    first, second = said.err.splitlines()
    assert first == ("twistd tcpapp: warning: TCPAPP_CONFG: there is no such variable; did you mean 'TCPAPP_CONFIG'?")
    assert second.startswith(f"twistd tcpapp: warning: {here}/torn.pem: it holds no certificate in PEM")


@pytest.mark.parametrize(
    ("words", "environ", "says"),
    [
        (["--config=no.toml"], {}, "--config: no.toml: No such file or directory"),
        ([], {"TCPAPP_CONFIG": "no.toml"}, "TCPAPP_CONFIG: no.toml: No such file or directory"),
        (["--config="], {"TCPAPP_CONFIG": "no.toml"}, "TCPAPP_CONFIG: no.toml: No such file or directory"),
    ],
)
def test_a_missing_file_is_reported_with_the_option_that_named_it(
    words: list[str],
    environ: dict[str, str],
    says: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The error of a missing file names --config or the variable that gave the path."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert refused(capfd, *words) == says


def test_relative_paths_are_resolved_once(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Relative paths are resolved once: the options are read again with the same files after a change of directory."""
    (here / "mine.py").write_text("def app(message, connection): return message")
    (here / "app.toml").write_text('listen = ["unix:a.sock"]\napp = "mine:app"\nidle = 5')
    options = parsed("--config=app.toml")
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    checked = options.read_configuration()
    assert (checked.arguments["timeouts"].idle, checked.endpoints[0]._path) == (5, f"{here}/a.sock")
    assert str(elsewhere) not in sys.path


def test_a_directory_that_was_removed_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the current directory was removed, options without a relative path are read as usual."""

    def gone() -> Path:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "cwd", gone)
    assert len(parsed("--listen=tcp:0").endpoints) == 1


# twistd's pid file ----------------------------------------------------------------------------------------------------


class Twistd(usage.Options):
    """A command line with the option --pidfile, as twistd has."""

    optParameters = [["pidfile", None, "twistd.pid", "the pid file"]]  # noqa: RUF012 - as Twisted's
    subCommands = [["tcpapp", None, Options, "a command"]]  # noqa: RUF012 - as Twisted's


@pytest.mark.parametrize(
    ("content", "stays"),
    [(f"{os.getpid()}\n", False), ("1", True), ("none", True), ("", True), (None, False)],
    ids=["its own", "another", "none", "empty", "no file"],
)
def test_a_pid_file_with_its_own_id_is_removed(here: Path, content: str | None, stays: bool) -> None:
    """A pid file with the process's own id, left by a killed process, is removed; twistd judges any other."""
    path = here / "twistd.pid"
    if content is not None:
        path.write_text(content)
    Twistd().parseOptions(["tcpapp"])
    assert path.exists() == stays


def test_a_check_removes_no_pid_file(here: Path) -> None:
    """--check removes no pid file, nor does a command without one."""
    (here / "twistd.pid").write_text(str(os.getpid()))
    for words in (["tcpapp", "--check"], ["--pidfile=", "tcpapp"]):
        with suppress(SystemExit):
            Twistd().parseOptions(words)
    assert (here / "twistd.pid").exists()


@pytest.mark.parametrize("word", ["--check", "--show-config", "--show-limits"])
def test_an_error_is_reported_in_place_of_a_page(word: str, capfd: pytest.CaptureFixture[str]) -> None:
    """When an option is invalid, --check and the other pages report the error and exit with 1."""
    assert "--app: 'ech'" in refused(capfd, word, "--app=ech")
