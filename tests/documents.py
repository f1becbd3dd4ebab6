"""
Check a document: write its programs into a folder, run its commands there, and compare what they print.

A document is followed from top to bottom, as a reader would follow it:

=============================================== ====================================================================
a block                                         is
=============================================== ====================================================================
python, ini, toml; its first line: ``# name``   a file. Lines after ``# >`` are what it prints; then it is run at once
the same, with ``# name, continued``            the rest of that file
diff; ``--- name`` and ``+++ name``             a change of that file, whose old lines must be there exactly once
console; ``$ command``                          a command, and what it prints, with ``...`` for what is left out
any, after ``<!-- fragment: why -->``           no program: Python must compile, other languages are not checked
=============================================== ====================================================================

Any other block of these languages is an error, because nothing would run it. A command whose output is not shown must
succeed. ``twistd -n`` serves until the end of the document. It listens on a free port, instead of the default port or
the port in a ``.tac`` file. From then on, the free port replaces 7007 in the document.
"""

from __future__ import annotations

import doctest
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.environments import CLEAN, ROOT
from tests.patience import PATIENCE

PORT = "7007"
"""The port in the documents. The commands use a free port instead, because this one can be in use."""

FENCE = re.compile(
    r"^(?:<!-- (?P<note>.*?) -->\n+)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
NAME = re.compile(r"# (?P<name>[\w./-]+\.\w+)(?P<more>, continued)?\n")


@dataclass(frozen=True)
class Block:
    """A block of a document: its language, its text, the line where it begins, and the comment before it."""

    language: str
    code: str
    line: int
    note: str = ""

    @property
    def name(self) -> str | None:
        """The name of the file that the block is, or is a part of."""
        found = NAME.match(self.code)
        return found and found["name"]

    @property
    def continues(self) -> bool:
        """Whether the block continues an earlier file."""
        found = NAME.match(self.code)
        return bool(found and found["more"])

    @property
    def printed(self) -> str:
        """The output that the program announces, in lines after ``# >``."""
        return "".join(re.findall(r"^# > (.*\n)", self.code, re.MULTILINE))

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Each command of a console, and the output shown after it."""
        parts = re.split(r"^\$ ((?:.*\\\n)*.*)\n", self.code, flags=re.MULTILINE)
        return list(zip(parts[1::2], parts[2::2], strict=True))


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of a document in Markdown."""
    return [
        Block(each["language"], each["code"], text.count("\n", 0, each.start("language")) + 1, each["note"] or "")
        for each in FENCE.finditer(text)
    ]


def programs_of(text: str) -> dict[str, str]:
    """Return the Python files of a document, by their names."""
    return {each.name: each.code for each in blocks_of(text) if each.language == "python" and each.name}


def same(shown: str, printed: str) -> bool:
    """
    Return whether the shown output fits.

    ``...`` stands for omitted text, and a line of it for any number of lines.
    """
    return doctest.OutputChecker().check_output(re.sub(r"^\.\.\.\n", "...", shown), printed, doctest.ELLIPSIS)


class Served:
    """A running server, and its output so far."""

    def __init__(self, command: str, folder: Path, environ: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            f"exec {command}",
            shell=True,
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        watchdog = threading.Timer(PATIENCE, self.process.kill)
        watchdog.start()
        self.said = ""
        # With a .tac file, twistd ends by the signal itself. `twistd tcpapp` exits with 0.
        self.proper_end = -signal.SIGTERM if " -y " in command else 0
        assert self.process.stdout
        for line in self.process.stdout:
            self.said += line
            if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", line):
                self.port = found[1]
                break
        watchdog.cancel()
        watchdog.join()
        if not hasattr(self, "port"):
            self.stop()
            pytest.fail(f"{command} does not serve:\n{self.said}", pytrace=False)

    def stop(self) -> int:
        """Send SIGTERM to the server, and return its exit code."""
        self.process.terminate()
        try:
            self.process.communicate(timeout=PATIENCE)
        finally:
            self.process.kill()
        return self.process.returncode


class Reader:
    """A reader of a document, who follows it in an empty folder, block by block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[Served] = []
        self.port = PORT
        self.environ = CLEAN | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(ROOT),
            # Nothing here needs Hypothesis's plugin, which takes longer than the rest of pytest's start.
            "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:hypothesispytest",
            "COLUMNS": "80",
            "NO_COLOR": "1",
        }
        for name in ("CI", "BUILD_NUMBER"):  # with these set, pytest prints more than a reader sees
            self.environ.pop(name, None)

    def follow(self, text: str) -> None:
        """Do what the document says, and fail at the first block that is wrong. Stop all started servers at the end."""
        try:
            self._follow(text)
        finally:
            codes = [each.stop() for each in self.servers]
        assert codes == [each.proper_end for each in self.servers]

    def _follow(self, text: str) -> None:
        for block in blocks_of(text):
            where = f"line {block.line}, {block.language}"
            if block.note.startswith("fragment: "):
                if block.language == "python":
                    compile(block.code, where, "exec", dont_inherit=True)
            elif block.language == "console":
                for command, shown in block.commands:
                    self.run(command, shown, where)
            elif block.language == "diff":
                self.change(block.code, where)
            elif block.name:
                self.write(block, where)
            else:
                pytest.fail(f"{where}: nothing runs this block", pytrace=False)

    def write(self, block: Block, where: str) -> None:
        """Write a file, or the rest of it. Run a program that announces its output."""
        assert block.name
        path = self.folder / block.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if block.continues:
            before = path.read_text(encoding="utf-8")
            path.write_text(before + "\n\n" + block.code.partition("\n")[2].lstrip("\n"), encoding="utf-8")
        else:
            path.write_text(block.code.replace(PORT, self.port), encoding="utf-8")
        if block.printed:
            self.run(f"python {block.name}", block.printed, where)

    def change(self, diff: str, where: str) -> None:
        """Change a file as the diff says."""
        head, *hunks = re.split(r"^@@.*\n", diff, flags=re.MULTILINE)
        old_name, new_name = re.findall(r"^(?:---|\+\+\+) (\S+)$", head, re.MULTILINE)
        assert old_name == new_name, where
        path = self.folder / old_name
        text = path.read_text(encoding="utf-8")
        for hunk in hunks:
            lines = [line or " \n" for line in hunk.splitlines(keepends=True)]
            old = "".join(line[1:] or "\n" for line in lines if line[0] in " -\n")
            new = "".join(line[1:] or "\n" for line in lines if line[0] in " +\n")
            assert text.count(old) == 1, f"{where}: the old lines must be once in {old_name}:\n{old}\nIts text:\n{text}"
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")

    def run(self, command: str, shown: str, where: str) -> None:
        """Run a command, and compare its output. A server is started, and goes on until the end of the document."""
        command = self.replaced(command).replace(PORT, self.port)
        if command.startswith("twistd -n"):
            served = Served(self.on_a_free_port(command), self.folder, self.environ)
            self.servers.append(served)
            self.port = served.port
            printed = served.said
        else:
            done = subprocess.run(
                command,
                shell=True,
                cwd=self.folder,
                env=self.environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            printed = done.stdout
            if not shown:
                assert done.returncode == 0, f"{where}: {command}\n{printed}"
                return
        shown = shown.replace(PORT, self.port)
        if not same(shown, printed):
            pytest.fail(f"{where}: $ {command}\nmust print\n{shown}\nand prints\n{printed}", pytrace=False)

    def on_a_free_port(self, command: str) -> str:
        """Return a command that serves on a free port instead of 7007. A ``.tac`` file is changed for that."""
        if found := re.search(r" -y (\S+)", command):
            path = self.folder / found[1]
            path.write_text(re.sub(rf"tcp:(?:{PORT}|{self.port})\b", "tcp:0", path.read_text(encoding="utf-8")))
        elif "--listen" not in command and " tcpapp" in command:
            return f"{command} --listen tcp:0:interface=127.0.0.1"
        return command

    def replaced(self, command: str) -> str:
        """Return the command to run instead of this one. A subclass can replace commands of its document."""
        return command
