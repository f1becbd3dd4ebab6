"""Sources of values: the options file, the environment and the command line, and errors in them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tcpapp.process.configuration.sources import LONGEST_FILE, Given, from_command_line, from_environment, from_file


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the path of an options file that is not written yet."""
    monkeypatch.chdir(tmp_path)
    return Path("app.toml")


FILE = """
listen = ["tcp:0", "tcp6:0"]
app = "echo"
deny = "192.0.2.0/24"
max_buffered = 1_000

[limits]
max-connections = 10
[timeouts]
drain = 2.5
idle = "5"
[policies]
over_max_connections = "wait"
no-delay = false
"""


def test_a_file_gives_texts_and_numbers_in_tables_or_not(file: Path) -> None:
    """A file gives the same texts as the command line, inside and outside tables, each with its place."""
    file.write_text(FILE)
    found, problems = from_file("app.toml")
    assert problems == []
    assert found == {
        "listen": Given(("tcp:0", "tcp6:0"), "app.toml: listen"),
        "app": Given(("echo",), "app.toml: app"),
        "deny": Given(("192.0.2.0/24",), "app.toml: deny"),
        "max-buffered": Given(("1000",), "app.toml: max_buffered"),
        "max-connections": Given(("10",), "app.toml: limits.max-connections"),
        "drain": Given(("2.5",), "app.toml: timeouts.drain"),
        "idle": Given(("5",), "app.toml: timeouts.idle"),
        "over-max-connections": Given(("wait",), "app.toml: policies.over_max_connections"),
        "no-delay": Given(("off",), "app.toml: policies.no-delay"),
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("ap = 'echo'", "ap: there is no such option; did you mean 'app'?"),
        ("[limit]", "there is no table [limit]; there are limits, policies, timeouts; did you mean 'limits'?"),
        ("[limits]\ndrain = 1", "limits.drain: there is no such option"),
        ("app = true", "app: takes a text or a number, not true or false"),
        ("no_delay = []", "no_delay: takes true or false, not an array"),
        ("app = ['echo']", "app: takes a text or a number, not an array"),
        ("app = 2020-01-01", "app: takes a text or a number, not a date"),
        ("listen = [1]", "listen: takes a text, or an array of texts, not an array"),
        ("[limits]\nmax-unsent = {a = 1}", "limits.max-unsent: takes a text or a number, not a table"),
        ("drain = 1\n[timeouts]\ndrain = 2", "timeouts.drain: drain is given twice; give it once"),
        ("app = ", None),
        ("\ud800", None),
    ],
)
def test_an_invalid_entry_of_a_file_is_reported(file: Path, content: str, says: str | None) -> None:
    """An invalid entry is reported in one line, with the file, the key and a valid form."""
    file.write_bytes(content.encode("utf-8", "surrogatepass"))
    _, [text] = from_file("app.toml")
    assert text.startswith("app.toml: ")
    assert says is None or says in text


def test_all_errors_of_a_file_are_reported(file: Path) -> None:
    """All errors of a file are reported, and its valid values are kept."""
    file.write_text("ap = 1\ndrain = 1\n[limit]\n[timeouts]\nidle = true")
    found, problems = from_file("app.toml")
    assert ([*found], len(problems)) == (["drain"], 3)


@pytest.mark.parametrize("path", ["none.toml", "."])
def test_a_file_that_cannot_be_read_is_reported(file: Path, path: str) -> None:
    """When a file cannot be read, the error has the words of the system."""
    found, [text] = from_file(path)
    assert (found, text) == ({}, f"{path}: {os.strerror(errno.EISDIR if path == '.' else errno.ENOENT)}")


def test_a_file_that_is_too_long_is_refused(file: Path) -> None:
    """A file of more than `LONGEST_FILE` bytes is refused, and not read to its end."""
    file.write_bytes(b"#" * (LONGEST_FILE + 1))
    _, [text] = from_file("app.toml")
    assert "longer than 1048576 bytes" in text


def test_a_byte_order_mark_is_skipped(file: Path) -> None:
    """A byte order mark, which editors on Windows write, is skipped."""
    file.write_bytes(b"\xef\xbb\xbfapp = 'echo'\n")
    assert from_file("app.toml") == ({"app": Given(("echo",), "app.toml: app")}, [])


def test_a_file_is_found_in_its_folder(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path begins at the given folder; the error of a missing file names the option."""
    file.write_text("app = 'echo'")
    monkeypatch.chdir("/")
    assert from_file("app.toml", str(tmp_path))[0]["app"].place == "app.toml: app"
    assert from_file("no.toml", str(tmp_path), "--config") == ({}, ["--config: no.toml: No such file or directory"])


def test_the_environment_gives_options_behind_a_prefix() -> None:
    """
    A variable with the prefix gives an option, and blanks separate several values.

    A variable of no option is ignored, but reported if it is probably misspelt.
    """
    environ = {
        "TCPAPP_LISTEN": "tcp:0  tcp6:0\n",
        "TCPAPP_MAX_CONNECTIONS": "5",
        "TCPAPP_CONFIG": "app.toml",
        "TCPAPP_PORT": "tcp://10.0.0.1:80",
        "TCPAPP_FRAMNIG": "line",
        "PATH": "/bin",
    }
    found, doubts = from_environment(environ, "TCPAPP_")
    assert found == {
        "listen": Given(("tcp:0", "tcp6:0"), "TCPAPP_LISTEN"),
        "max-connections": Given(("5",), "TCPAPP_MAX_CONNECTIONS"),
    }
    assert doubts == ["TCPAPP_FRAMNIG: there is no such variable; did you mean 'TCPAPP_FRAMING'?"]


def test_the_command_line_gives_only_given_options() -> None:
    """The command line gives the options that have a value; an empty text is a value."""
    values: dict[str, Any] = {"listen": ["tcp:0"], "allow": [], "app": "", "framing": "line", "codec": None}
    found = from_command_line(values)
    assert {name: (each.texts, each.place, each.text) for name, each in found.items()} == {
        "listen": (("tcp:0",), "--listen", "tcp:0"),
        "app": (("",), "--app", ""),
        "framing": (("line",), "--framing", "line"),
    }
