"""A stream that accepts lines if somebody reads them, and never waits."""

from __future__ import annotations

import io
import os
import pty
import select
import socket
import sys
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tcpapp.process import nonblocking_log
from tcpapp.process.nonblocking_log import LogStream, tell, without_blocking

LONG = "x" * 30_000 + "\n"
"""A line that a pipe takes in pieces."""


class Ends:
    """The stream that is written to, and its reader, which can read later."""

    def __init__(self, write: Any, read: int) -> None:
        self.stream: Any = write
        self._read = read

    def lines(self) -> list[str]:
        """All that is there to be read."""
        data = b""
        while select.select([self._read], [], [], 0)[0]:
            more = os.read(self._read, 65536)
            if not more:
                break
            data += more
        return data.decode().replace("\r\n", "\n").splitlines()

    def lines_and(self, last: str) -> list[str]:
        """Read on until this line can be written, and has come; all lines that did."""
        text, written = "", False
        while not text.endswith(f"{last}\n"):
            if not written:
                with suppress(BlockingIOError):
                    self.stream.write(f"{last}\n")
                    written = True
            self.stream.flush()
            text += os.read(self._read, 65536).decode()
        return text.splitlines()

    def fill(self, line: str = "x" * 98) -> int:
        """Write lines until one is not accepted, and then empty ones; how many of the former were accepted."""
        taken = self._write_all(f"{line}\n")
        self._write_all("\n")  # a last page may have room for less than a line
        return taken

    def _write_all(self, line: str) -> int:
        for taken in range(100_000):
            try:
                self.stream.write(line)
            except BlockingIOError:
                return taken
        raise AssertionError


def pipe() -> tuple[int, int]:
    """A pipe."""
    read, write = os.pipe()
    return write, read


def pair() -> tuple[int, int]:
    """A pair of sockets, as systemd gives a service for its log."""
    one, other = socket.socketpair()
    return one.detach(), other.detach()


def terminal() -> tuple[int, int]:
    """A terminal that passes bytes on unchanged."""
    read, write = pty.openpty()
    tty.setraw(write)
    return write, read


Make = Callable[..., Ends]


@pytest.fixture
def ends() -> Iterator[Make]:
    """Give ``ends(pipe)``: a stream, not yet wrapped, and its reader; both are closed in the end."""
    made: list[Any] = []

    def make(kind: Callable[[], tuple[int, int]], encoding: str = "utf-8") -> Ends:
        write, read = kind()
        stream = os.fdopen(write, "w", encoding=encoding)
        made.extend([stream, read])
        return Ends(stream, read)

    yield make
    for each in made:
        with suppress(OSError):
            os.close(each) if isinstance(each, int) else each.close()


@pytest.fixture(params=["nonblocking", "polled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be found in each of the ways in which a descriptor can be written to."""
    if request.param == "polled":  # as in a process that cannot open the pipe again
        monkeypatch.setattr(nonblocking_log, "AGAIN", "/nowhere/{}")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", [pipe, pair, terminal])
def test_lines_that_find_no_room_are_not_waited_for(kind: Any, ends: Make) -> None:
    """They raise; accepted lines are whole and in order, and so are lines that come when there is room again."""
    made = ends(kind)
    made.stream = without_blocking(made.stream)
    taken = made.fill()
    assert taken > 10
    with pytest.raises(BlockingIOError, match="the log is full"):
        made.stream.write("lost\n")
    lines = made.lines_and("there is room again")
    assert [each for each in lines if each] == ["x" * 98] * taken + ["there is room again"]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", [pipe, pair])
def test_a_line_that_was_taken_in_part_is_finished_first(kind: Any, ends: Make) -> None:
    """The next line never breaks a long line, and is lost if it still has to wait."""
    made = ends(kind)
    made.stream = without_blocking(made.stream)
    taken = made.fill(LONG.rstrip())
    lines = made.lines_and("after")
    assert [each for each in lines if each] == ["x" * 30_000] * taken + ["after"]


def test_flush_writes_what_is_left_of_a_line(ends: Make) -> None:
    """As far as there is room, and it raises nothing."""
    made = ends(pipe)
    made.stream = without_blocking(made.stream)
    made.fill(LONG.rstrip())
    made.stream.flush()
    made.lines()
    made.stream.flush()
    [rest, *_] = made.lines()
    assert 0 < len(rest) < 30_000


@pytest.mark.usefixtures("way")
def test_a_reader_that_is_gone_is_an_error(ends: Make) -> None:
    """As it is of any stream."""
    made = ends(pipe)
    stream = without_blocking(made.stream)
    os.close(made._read)
    with pytest.raises(BrokenPipeError):
        stream.write("hello\n")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", [pipe, pair])
def test_the_descriptor_is_left_as_it_is(kind: Any, ends: Make) -> None:
    """Other processes can have it: a write of theirs waits as before."""
    made = ends(kind)
    stream = without_blocking(made.stream)
    stream.write("hello\n")
    assert os.get_blocking(made.stream.fileno())
    assert made.lines() == ["hello"]


def test_it_is_a_stream_of_text(ends: Make) -> None:
    """Earlier writes come first; characters that cannot be encoded are escaped."""
    made = ends(pipe, encoding="ascii")
    made.stream.write("before\n")
    stream = without_blocking(made.stream)
    assert isinstance(stream, LogStream)
    assert stream.write("hallå\n") == 6
    assert made.lines() == ["before", "hall\\xe5"]
    assert (stream.encoding, stream.fileno(), stream.isatty()) == ("ascii", made.stream.fileno(), False)
    assert stream.writable()
    stream.close()
    stream.close()
    assert stream.closed
    assert not made.stream.closed


def test_a_file_is_written_as_ever(tmp_path: Path) -> None:
    """A file, an invalid stream, and no stream at all: they are unchanged."""
    with (tmp_path / "log").open("w") as file, Path(os.devnull).open("w") as nowhere:
        assert without_blocking(file) is file
        assert without_blocking(nowhere) is nowhere
    text = io.StringIO()
    assert without_blocking(text) is text
    assert without_blocking(None) is None


def test_what_is_told_on_a_full_stderr_is_lost(ends: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends all the same."""
    made = ends(pipe)
    monkeypatch.setattr(sys, "__stderr__", made.stream)
    tell("it is wrong")
    assert made.lines() == ["it is wrong"]
    made.stream = without_blocking(made.stream)
    made.fill()
    tell("it is lost")
    assert "it is lost" not in made.lines()
    monkeypatch.setattr(sys, "__stderr__", None)
    tell("there is nowhere to tell it")
