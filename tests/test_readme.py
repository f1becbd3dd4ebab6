"""
The README is correct: its programs run and print what it says, and its tables are those of the code.

A program is a block whose first line is the name of its file; the lines after ``# >`` are what it prints.
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


def write_programs(folder: Path) -> Path:
    """Write every program of the README into a folder, and return the folder."""
    for name, code in PROGRAMS.items():
        (folder / name).write_text(code, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with every program of the README in it."""
    return write_programs(tmp_path)


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run Python with these arguments and tcpapp importable, check its exit code, and return its output."""
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
    """Return the output that a program of the README announces."""
    return "".join(re.findall(r"^# > (.*\n)", PROGRAMS[name], re.MULTILINE))


def console(start: str) -> str:
    """Return the rest of the console block from the command on that begins with `start`."""
    (found,) = [code for language, code in BLOCKS if language == "console" and f"$ {start}" in code]
    return found[found.index(start) :]


class Served:
    """The README's command that serves an app, on a free port in place of 7007."""

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


@pytest.fixture(scope="module")
def lines(twistd: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Give the server of the README's first example, running, to all tests."""
    served = Served(twistd, write_programs(tmp_path_factory.mktemp("served")))
    yield served
    assert served.stop() == 0


def test_the_app_of_the_first_example_has_at_most_five_lines() -> None:
    """An app of a user is short."""
    assert len(PROGRAMS["mine.py"].splitlines()) <= 5


def test_the_server_of_the_first_example_answers_as_shown(lines: Served) -> None:
    """The server replies to the piped text as the README shows."""
    command, *answer = console("printf").splitlines()
    (sent,) = re.findall(r"printf '(.*)'", command)
    with socket.create_connection(("127.0.0.1", int(lines.port)), PATIENCE) as peer:
        peer.sendall(sent.encode().decode("unicode_escape").encode())
        peer.shutdown(socket.SHUT_WR)
        with peer.makefile("rb") as came:
            assert came.read().decode().splitlines() == answer


def test_the_server_of_the_first_example_logs_what_is_shown(lines: Served) -> None:
    """The command that serves prints the lines that the README shows."""
    shown = console("twistd").partition("\n")[2].removesuffix("```\n")
    assert same(shown.replace(PORT, lines.port), lines.said)


def test_the_tests_of_the_first_example_pass(folder: Path) -> None:
    """As many tests of the first example pass as the README says."""
    (passed,) = re.findall(r"^(\d+ passed) in", console("pytest"), re.MULTILINE)
    assert passed in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py")


def test_the_client_prints_what_is_shown(lines: Served, folder: Path) -> None:
    """The client, connected to the server of the first example, prints what the README shows."""
    (folder / "client.py").write_text(PROGRAMS["client.py"].replace(PORT, lines.port))
    assert run(folder, "client.py") == printed("client.py")


def test_the_script_gets_its_reply(lines: Served, folder: Path) -> None:
    """The function of the script returns the reply of the server of the first example."""
    assert run(folder, "-c", f"from script import weather; print(weather({lines.port}))") == "b'WEATHER'\n"


def imported(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a program of the README, and return the names that it defines."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    names: dict[str, Any] = {}
    exec(compile(PROGRAMS[name], name, "exec"), names)
    return names


def conversation(app: Any, *chunks: bytes, **options: Any) -> bytes:
    """Return the bytes that `app` sends in reply to `chunks`."""
    protocol = tcpapp.MessageServerFactory(app, **options).buildProtocol(None)
    assert protocol
    transport = StringTransport()
    protocol.makeConnection(transport)
    for chunk in chunks:
        protocol.dataReceived(chunk)
    protocol.readConnectionLost()
    return transport.value()


def test_each_form_of_app_does_what_it_shows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function, the class and the conversation of the README reply as it shows."""
    forms = imported("forms.py", folder, monkeypatch)
    assert conversation(forms["shout"], b"hello\n") == b"HELLO\n"
    assert conversation(forms["Greeter"], b"hello\n") == b"Welcome.\nYou said: hello\n"
    talk = b"What is your name?\nHello, Ana\nAna said hi\n"
    assert conversation(forms["talk"], b"Ana\n", b"hi\n") == talk


def table(first: str) -> list[list[str]]:
    """Return the rows of the table whose first heading is `first`."""
    rows = README[README.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_the_table_of_framings_has_all_framings() -> None:
    """Each spec in the table gives a framing, and the table has all framings."""
    specs = [spec for row in table("spec") for spec in re.findall("`([^`]+)`", row[0])]
    made = {type(framing.from_string(spec)).__name__ for spec in specs}
    assert made == {name for name in framing.__all__ if isinstance(getattr(framing, name), type)} - {
        *("Body", "Framing", "Parser")
    }
    assert {spec.split(":")[0] for spec in specs} == set(framing.SPECS)


def test_the_named_apps_are_the_apps_of_tcpapp() -> None:
    """Each app that the README names is served by its name, and there is no other."""
    (named,) = re.findall(r"\bThese apps come with tcpapp and show each form:((?:\s`\w+`,?)+)", README)
    for name in re.findall(r"`(\w+)`", named):
        assert load_app(name)
    with pytest.raises(InvalidOption, match=r"one of " + ", ".join(sorted(re.findall(r"`(\w+)`", named)))):
        load_app("no such app")


def test_the_readme_is_short() -> None:
    """The README has at most 250 lines; longer texts are in the documentation."""
    assert len(README.splitlines()) <= 250


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_every_named_file_exists(document: str) -> None:
    """Each path that a page names exists, and so does the heading that a link names."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|tcpapp|docs|requirements|\.ci)/[\w/.-]*|[A-Z]+\.md)`", text):
        assert (ROOT / path).exists(), path
    for path, heading in re.findall(r"\]\((?!https?:)([^)#]+)#?([^)]*)\)", text):
        page = (ROOT / path).read_text(encoding="utf-8")
        heads = [head.lower() for head in re.findall(r"^#+ (.*)$", page, re.MULTILINE)]
        slugs = {re.sub(r"[^\w -]", "", head).replace(" ", "-") for head in heads}
        assert not heading or heading in slugs, f"{path}#{heading}"
