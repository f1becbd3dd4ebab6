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
from twisted.internet.testing import StringTransport

import tcpapp
from tcpapp import framing
from tcpapp.errors import InvalidOption
from tcpapp.plugin import load_app
from tests.documents import PORT, blocks_of, programs_of, same
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
        self.said = ""
        assert self.process.stdout
        for line in self.process.stdout:
            self.said += line
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


def test_the_first_screens_server_says_what_is_shown(lines: Served) -> None:
    """The command prints the output after it."""
    shown = console("twistd").partition("\n")[2].removesuffix("```\n")
    assert same(shown.replace(PORT, lines.port), lines.said)


def test_the_first_screens_tests_pass(folder: Path) -> None:
    """As many as the README says."""
    (passed,) = re.findall(r"^(\d+ passed) in", console("pytest"), re.MULTILINE)
    assert passed in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py")


def test_the_client_prints_what_is_shown(lines: Served, folder: Path) -> None:
    """The client talks with the first screen's server."""
    (folder / "client.py").write_text(PROGRAMS["client.py"].replace(PORT, lines.port))
    assert run(folder, "client.py") == printed("client.py")


def test_the_script_gets_its_reply(lines: Served, folder: Path) -> None:
    """From the first screen's server."""
    assert run(folder, "-c", f"from script import weather; print(weather({lines.port}))") == "b'WEATHER'\n"


def imported(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a program of the README defines."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    names: dict[str, Any] = {}
    exec(compile(PROGRAMS[name], name, "exec"), names)
    return names


def conversation(app: Any, *chunks: bytes, **options: Any) -> bytes:
    """What `app` says to what a peer says."""
    protocol = tcpapp.MessageServerFactory(app, **options).buildProtocol(None)
    assert protocol
    transport = StringTransport()
    protocol.makeConnection(transport)
    for chunk in chunks:
        protocol.dataReceived(chunk)
    protocol.readConnectionLost()
    return transport.value()


def test_each_form_of_app_does_what_it_shows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function, a class, and a conversation."""
    forms = imported("forms.py", folder, monkeypatch)
    assert conversation(forms["shout"], b"hello\n") == b"HELLO\n"
    assert conversation(forms["Greeter"], b"hello\n") == b"Welcome.\nYou said: hello\n"
    talk = b"What is your name?\nHello, Ana\nAna said hi\n"
    assert conversation(forms["talk"], b"Ana\n", b"hi\n") == talk


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


def test_the_apps_that_come_with_it_are_there() -> None:
    """Each app that the README names is served by its name, and no other."""
    (named,) = re.findall(r"^Five apps come with it.*?:((?: `\w+`,?)+)", README, re.MULTILINE)
    for name in re.findall(r"`(\w+)`", named):
        assert load_app(name)
    with pytest.raises(InvalidOption, match=r"one of " + ", ".join(sorted(re.findall(r"`(\w+)`", named)))):
        load_app("no such app")


def test_it_is_short() -> None:
    """What is longer is in the documentation."""
    assert len(README.splitlines()) <= 250


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_every_file_that_is_named_is_there(document: str) -> None:
    """No path leads nowhere, in a link or in code; of a link into a page, the heading is there, too."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|tcpapp|docs|requirements|\.ci)/[\w/.-]*|[A-Z]+\.md)`", text):
        assert (ROOT / path).exists(), path
    for path, heading in re.findall(r"\]\((?!https?:)([^)#]+)#?([^)]*)\)", text):
        page = (ROOT / path).read_text(encoding="utf-8")
        heads = [head.lower() for head in re.findall(r"^#+ (.*)$", page, re.MULTILINE)]
        slugs = {re.sub(r"[^\w -]", "", head).replace(" ", "-") for head in heads}
        assert not heading or heading in slugs, f"{path}#{heading}"
