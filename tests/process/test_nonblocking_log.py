"""A log stream that never blocks: it writes lines while they are read, and raises otherwise."""

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
"""A line that is written to a pipe in pieces."""


class Ends:
    """A stream, and the descriptor that reads what is written to it."""

    def __init__(self, write: Any, read: int) -> None:
        self.stream: Any = write
        self._read = read

    def lines(self) -> list[str]:
        """Return all lines that can be read now."""
        data = b""
        while select.select([self._read], [], [], 0)[0]:
            more = os.read(self._read, 65536)
            if not more:
                break
            data += more
        return data.decode().replace("\r\n", "\n").splitlines()

    def lines_and(self, last: str) -> list[str]:
        """Read on until this line could be written and has arrived; return all lines that arrived."""
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
        """Write lines until one is not accepted, and then empty lines; return the number of accepted lines."""
        taken = self._write_all(f"{line}\n")
        self._write_all("\n")  # the last page can have room for a part of a line
        return taken

    def _write_all(self, line: str) -> int:
        for taken in range(100_000):
            try:
                self.stream.write(line)
            except BlockingIOError:
                return taken
        raise AssertionError


def pipe() -> tuple[int, int]:
    """Return the two ends of a pipe."""
    read, write = os.pipe()
    return write, read


def pair() -> tuple[int, int]:
    """Return a pair of sockets, which systemd gives a service for its log."""
    one, other = socket.socketpair()
    return one.detach(), other.detach()


def terminal() -> tuple[int, int]:
    """Return a terminal that passes bytes on unchanged."""
    read, write = pty.openpty()
    tty.setraw(write)
    return write, read


Make = Callable[..., Ends]


@pytest.fixture
def ends() -> Iterator[Make]:
    """Give ``ends(pipe)``, which makes a stream and its reader; both are closed after the test."""
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
    """Run the test for each of the ways to write without blocking."""
    if request.param == "polled":  # as in a process that cannot reopen the pipe
        monkeypatch.setattr(nonblocking_log, "AGAIN", "/nowhere/{}")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", [pipe, pair, terminal])
def test_a_line_without_room_raises(kind: Any, ends: Make) -> None:
    """A line without room raises `BlockingIOError`; accepted lines arrive whole and in order, also later ones."""
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
def test_a_partly_written_line_is_finished_first(kind: Any, ends: Make) -> None:
    """The rest of a partly written line is written before the next line, which is lost if it must wait."""
    made = ends(kind)
    made.stream = without_blocking(made.stream)
    taken = made.fill(LONG.rstrip())
    lines = made.lines_and("after")
    assert [each for each in lines if each] == ["x" * 30_000] * taken + ["after"]


def test_flush_writes_what_is_left_of_a_line(ends: Make) -> None:
    """`flush` writes the rest of a line as far as there is room, and raises nothing."""
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
    """When the reader of the pipe is closed, `write` raises BrokenPipeError as any stream does."""
    made = ends(pipe)
    stream = without_blocking(made.stream)
    os.close(made._read)
    with pytest.raises(BrokenPipeError):
        stream.write("hello\n")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", [pipe, pair])
def test_the_descriptor_stays_blocking(kind: Any, ends: Make) -> None:
    """The descriptor stays in blocking mode, because other processes can share it."""
    made = ends(kind)
    stream = without_blocking(made.stream)
    stream.write("hello\n")
    assert os.get_blocking(made.stream.fileno())
    assert made.lines() == ["hello"]


def test_a_log_stream_is_a_stream_of_text(ends: Make) -> None:
    """
    A `LogStream` comes after earlier writes, and escapes characters that its encoding lacks.

    Closing it leaves the original stream open.
    """
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


def test_other_streams_are_returned_unchanged(tmp_path: Path) -> None:
    """`without_blocking` returns a file, a stream without a descriptor, and None unchanged."""
    with (tmp_path / "log").open("w") as file, Path(os.devnull).open("w") as nowhere:
        assert without_blocking(file) is file
        assert without_blocking(nowhere) is nowhere
    text = io.StringIO()
    assert without_blocking(text) is text
    assert without_blocking(None) is None


def test_a_line_on_a_full_stderr_is_lost(ends: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tell` writes a line on stderr, and does nothing when stderr is full or missing."""
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
