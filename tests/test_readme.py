"""
What the README says is so: its programs run and print what it says, its tables are those of the code.

A program is a block whose first line is its file's name; the lines after ``# >`` are what it prints.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.testing import MemoryReactorClock, StringTransport

import tcpapp
from tcpapp import framing
from tcpapp.errors import InvalidOption
from tcpapp.plugin import load_app
from tcpapp.process.configuration.options import set_by_options
from tests.documents import blocks_of, programs_of
from tests.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [(each.language, each.code) for each in blocks_of(README)]
PROGRAMS = programs_of(README)
pytestmark = pytest.mark.once


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with every program of the README in it."""
    for name, code in PROGRAMS.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    return tmp_path


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    """What a Python program prints, with tcpapp importable; it ends with this exit code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def printed(name: str) -> str:
    return "".join(re.findall(r"^# > (.*\n)", PROGRAMS[name], re.MULTILINE))


def console(start: str) -> str:
    """The rest of the console block that has a command which starts so."""
    (found,) = [code for language, code in BLOCKS if language == "console" and f"$ {start}" in code]
    return found[found.index(start) :]


class Served:
    """The README's command that serves an app, on a free port in the place of 7007."""

    def __init__(self, twistd: list[str], folder: Path, *options: str) -> None:
        command = console("twistd").split("\n")[0].split()[1:]
        self.process = subprocess.Popen(
            [*twistd, *command, *options, "--listen", "tcp:0:interface=127.0.0.1"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout
        for line in self.process.stdout:
            if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", line):
                self.port = found[1]
                return
        pytest.fail("the README's command does not serve")

    def stop(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode


@pytest.fixture
def lines(twistd: list[str], folder: Path) -> Iterator[Served]:
    """Give the first screen's server, running."""
    served = Served(twistd, folder)
    yield served
    assert served.stop() == 0


def test_the_first_screens_app_has_five_lines_at_most() -> None:
    """An app of one's own is short."""
    assert len(PROGRAMS["mine.py"].splitlines()) <= 5


def test_the_first_screens_server_answers_as_shown(lines: Served) -> None:
    """What is piped in comes back as the README prints it."""
    command, *answer = console("printf").splitlines()
    (sent,) = re.findall(r"printf '(.*)'", command)
    with socket.create_connection(("127.0.0.1", int(lines.port)), PATIENCE) as peer:
        peer.sendall(sent.encode().decode("unicode_escape").encode())
        peer.shutdown(socket.SHUT_WR)
        with peer.makefile("rb") as came:
            assert came.read().decode().splitlines() == answer


def test_the_first_screens_test_passes(folder: Path) -> None:
    """The README's own test is one."""
    assert "1 passed" in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py")


def test_the_test_kits_tests_pass(folder: Path) -> None:
    """Over a fake transport, over a wire, whatever comes, and over a bad network."""
    assert "4 passed" in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_kit.py")


ORDERING_BUGS = {
    "a reply that takes longer is overtaken": """
def app(message, connection):
    later = 0.1 if message.endswith(b"0") else 0.0
    connection.clock.callLater(later, connection.send, message.upper())
""",
    "messages that came together are answered the other way round": """
from tcpapp import batch

@batch
def app(messages, connection):
    return [message.upper() for message in reversed(messages)]
""",
    "after a gap of five seconds, the first message waits and the next ones do not": """
class app:
    until = None

    def received(self, message, connection):
        now = connection.clock.seconds()
        waits, self.until = self.until is not None and now > self.until, now + 5
        if not waits:
            return message.upper()
        connection.clock.callLater(0.1, connection.send, message.upper())
""",
}


@pytest.mark.parametrize("bug", ORDERING_BUGS.values(), ids=ORDERING_BUGS)
def test_the_simulation_finds_a_planted_ordering_bug(bug: str, folder: Path) -> None:
    """It says which seed it was, and how to see it again."""
    (folder / "mine.py").write_text(bug, encoding="utf-8")
    output = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "bad_network", "test_kit.py", code=1)
    assert "1 failed" in output
    assert "SimulationFailed: AssertionError: " in output
    assert "replay(scenario, " in output


def test_the_client_prints_what_is_shown(lines: Served, folder: Path) -> None:
    """The client talks with the first screen's server."""
    (folder / "client.py").write_text(PROGRAMS["client.py"].replace("7007", lines.port))
    assert run(folder, "client.py") == printed("client.py")


def test_the_asyncio_client_prints_what_is_shown(twistd: list[str], folder: Path) -> None:
    """A program without tcpapp talks with the server under the framing that the README names."""
    assert "twistd -n --pidfile= tcpapp --app mine:app --framing int32`" in README
    served = Served(twistd, folder, "--framing", "int32")
    try:
        (folder / "asyncio_client.py").write_text(PROGRAMS["asyncio_client.py"].replace("7007", served.port))
        assert run(folder, "asyncio_client.py") == printed("asyncio_client.py")
    finally:
        code = served.stop()
    assert code == 0


@pytest.mark.parametrize("name", ["cut.py", "server.py"])
def test_a_program_prints_what_is_shown(name: str, folder: Path) -> None:
    """The programs that need no server."""
    assert run(folder, name) == printed(name) != ""


def imported(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a program of the README defines."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    names: dict[str, Any] = {}
    exec(compile(PROGRAMS[name], name, "exec"), names)
    return names


def conversation(app: Any, *chunks: bytes, **options: Any) -> bytes:
    """What `app` says to what a peer says."""
    connection = tcpapp.MessageServerFactory(app, **options).buildProtocol(None)
    assert connection
    transport = StringTransport()
    connection.makeConnection(transport)
    for chunk in chunks:
        connection.dataReceived(chunk)
    connection.readConnectionLost()
    return transport.value()


def test_each_form_of_app_does_what_it_shows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function, a class, and a conversation."""
    forms = imported("forms.py", folder, monkeypatch)
    assert conversation(forms["shout"], b"hello\n") == b"HELLO\n"
    assert conversation(forms["Greeter"], b"hello\n") == b"Welcome.\nYou said: hello\n"
    talk = b"What is your name?\nHello, Ana\nAna said hi\n"
    assert conversation(forms["talk"], b"Ana\n", b"hi\n") == talk


def test_the_typed_codec_validates(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A point is answered with a point; what is none is not."""
    points = imported("points.py", folder, monkeypatch)
    said = conversation(points["app"], b'{"x":1,"y":2}\n', b'{"x":"one"}\n', codec=points["codec"])
    assert said == b'{"x":2,"y":1}\n'


def test_the_dns_client_goes_where_it_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two queries in flight are answered in the other order, each with its own reply."""
    dns = imported("dns.py", folder, monkeypatch)
    reactor = MemoryReactorClock()
    connecting = dns["connect"](reactor, "192.0.2.1")
    host, port, factory, _, _ = reactor.tcpClients[0]
    transport = StringTransport()
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(transport)
    answers: list[bytes] = []
    connection = connecting.result
    for query in (b"\0\1?", b"\0\2?"):
        connection.request(query).addCallback(answers.append)
    protocol.dataReceived(b"\0\3\0\2!" + b"\0\3\0\1!")
    assert (host, port, transport.value()) == ("192.0.2.1", 53, b"\0\3\0\1?\0\3\0\2?")
    assert answers == [b"\0\2!", b"\0\1!"]


def table(first: str) -> list[list[str]]:
    """The rows of the table whose head's first cell is `first`."""
    rows = README[README.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_every_framing_of_the_table_is_one_and_all_are_in_it() -> None:
    """The specs can be made, and no framing is left out."""
    specs = [spec for row in table("spec") for spec in re.findall("`([^`]+)`", row[0])]
    made = {type(framing.from_string(spec)).__name__ for spec in specs}
    assert made == {name for name in framing.__all__ if isinstance(getattr(framing, name), type)} - {"Framing"}
    assert {spec.split(":")[0] for spec in specs} == set(framing.SPECS)


def test_the_table_of_limits_is_that_of_the_code() -> None:
    """Every number that an option sets, with its default, its meaning and its reason."""
    expected = [
        [
            f"`--{each.name.replace('_', '-')}`",
            f"{each.default:,} {each.metadata['unit']}".replace(".0 ", " "),
            each.metadata["what"] + (f" (0: {each.metadata['zero']})" if each.metadata["zero"] else ""),
            each.metadata["why"],
        ]
        for kind in (tcpapp.Limits, tcpapp.Timeouts)
        for each in set_by_options(kind)
    ]
    assert table("option") == expected


def test_the_layout_is_that_of_the_package() -> None:
    """The picture of the tower stands in the package's docstring, too."""
    (picture,) = [code for language, code in BLOCKS if language == "text"]
    assert tcpapp.__doc__
    shown = [line.strip() for line in picture.splitlines()]
    assert "\n".join(shown) in "\n".join(line.strip() for line in tcpapp.__doc__.splitlines())


def test_the_apps_that_come_with_it_are_there() -> None:
    """Each app that the README names is served by its name, and no other."""
    (named,) = re.findall(r"^Five apps come with it.*?:((?: `\w+`,?)+)", README, re.MULTILINE)
    for name in re.findall(r"`(\w+)`", named):
        assert load_app(name)
    with pytest.raises(InvalidOption, match=r"one of " + ", ".join(sorted(re.findall(r"`(\w+)`", named)))):
        load_app("no such app")


def test_every_file_that_is_named_is_there() -> None:
    """No path in the README leads nowhere."""
    for path in re.findall(r"`((?:tests|tcpapp|\.ci)/[\w/.]*|CHANGELOG\.md)`", README):
        assert (ROOT / path).exists(), path
