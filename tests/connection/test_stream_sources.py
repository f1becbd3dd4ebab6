"""The sources of a stream: which objects are sources, how a file is read, and what each does at its end."""

from __future__ import annotations

import gzip
import os
from collections.abc import AsyncIterator, Iterator
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tcpapp.connection import stream_sources
from tcpapp.connection.stream_sources import AsyncPieces, Pieces, ReadFile, RegularFile, Source, source_of
from tcpapp.errors import InvalidOption, UnsendableStream
from tests.peers import outcome


def always() -> bool:
    """There is always time."""
    return True


def rest_of(source: Source, most: int = 4) -> list[bytes]:
    """Return the pieces of `source` to its end."""
    pieces = []
    while (piece := source.read(most, always)) is not None:
        pieces.append(piece)
    return pieces


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a file with ten bytes."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


class NoFlush:
    """A file object that can only be read."""

    def read(self, size: int) -> bytes:
        return b""


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("mode", ["rb", "rb+"])
def test_a_regular_file_is_read_from_its_position(path: Path, mode: str, buffering: int) -> None:
    """A file that is open in binary mode gives its bytes from its position on, and its position is behind them then."""
    with path.open(mode, buffering=buffering) as file:
        assert file.read(1) == b"0"
        source = source_of(file, None)
        assert (type(source), rest_of(source), source.is_whole) == (RegularFile, [b"1234", b"5678", b"9"], True)
        source.close()
        assert (file.tell(), file.closed) == (10, False)


def test_a_file_that_was_written_is_read_as_it_was_written(path: Path) -> None:
    """Bytes that the program has written to the file, and that are still in its buffer, are sent."""
    with path.open("rb+") as file:
        file.write(b"abc")
        file.seek(0)
        assert b"".join(rest_of(source_of(file, None))) == b"abc3456789"


def test_a_file_of_a_path_is_closed(path: Path) -> None:
    """The file of a path is opened by the source, and closed at the end."""
    source: Any = source_of(path, None)
    assert b"".join(rest_of(source)) == b"0123456789"
    source.close()
    assert source._file.closed


def test_a_file_that_is_read_is_closed_only_if_it_was_opened_here(tmp_path: Path) -> None:
    """A path whose file cannot be read by its descriptor is closed as well, and the file of a user never is."""
    empty = tmp_path / "empty"
    empty.touch()
    source: Any = source_of(empty, None)
    assert (type(source), rest_of(source)) == (ReadFile, [])
    source.close()
    assert source._file.closed
    file = BytesIO(b"x")
    source_of(file, None).close()
    assert not file.closed


def test_a_file_that_the_user_closes_gives_no_bytes_of_another_file(path: Path) -> None:
    """A source of a closed file raises, although another file can have its descriptor by then."""
    file = path.open("rb")
    source = source_of(file, None)
    file.close()
    with path.open("rb"), pytest.raises(ValueError, match="closed"):
        source.read(4, always)
    source.close()


@pytest.mark.parametrize("size", [None, 10])
def test_a_file_that_shrinks_is_not_whole(path: Path, size: int | None) -> None:
    """A regular file has the size of the call. If it is shorter when it is sent, the source raises."""
    source = source_of(path, size)
    assert source.read(4, always) == b"0123"
    os.truncate(path, 6)
    assert source.read(4, always) == b"45"
    with pytest.raises(UnsendableStream, match="the source ended after 6 bytes; its size is 10"):
        source.read(4, always)
    source.close()


def test_a_file_that_grows_is_sent_as_long_as_it_was(path: Path) -> None:
    """What is appended to a regular file after the call is not sent."""
    source = source_of(path, None)
    with path.open("ab") as file:
        file.write(b"more")
    assert b"".join(rest_of(source)) == b"0123456789"
    source.close()


def test_a_position_behind_the_end_gives_nothing(path: Path) -> None:
    """A file whose position is behind its end is empty."""
    with path.open("rb") as file:
        file.seek(20)
        assert rest_of(source_of(file, None)) == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
def test_a_file_that_says_that_it_is_empty_is_read_to_its_end() -> None:
    """A file in /proc is a regular file of 0 bytes, and is sent to its end."""
    source = source_of("/proc/self/status", None)
    assert b"Name:" in b"".join(rest_of(source))
    source.close()


def test_a_compressed_file_gives_what_it_reads(tmp_path: Path) -> None:
    """A GzipFile gives the bytes that it decompresses, although it has the descriptor of the compressed file."""
    with gzip.open(tmp_path / "file", "wb") as file:
        file.write(b"0123456789")
    with gzip.open(tmp_path / "file") as file:
        assert b"".join(rest_of(source_of(file, None))) == b"0123456789"


@pytest.mark.parametrize("size", [0, 3])
def test_a_file_object_is_read_no_further_than_its_size(size: int) -> None:
    """A file object gives as many bytes as its size says, and has the rest."""
    file = BytesIO(b"0123456789")
    source = source_of(file, size)
    assert b"".join(rest_of(source)) == b"0123456789"[:size]
    assert file.tell() == size


def test_a_subclass_of_a_file_is_asked_for_its_bytes(path: Path) -> None:
    """A class of its own can read anything, so its descriptor is not used."""

    class Loud(FileIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size).replace(b"0", b"!")

    with Loud(path) as file:
        assert b"".join(rest_of(source_of(file, None))) == b"!123456789"


def test_a_file_without_pread_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no pread, a regular file is read as any file object."""
    monkeypatch.delattr("os.pread")
    source = source_of(path, None)
    assert (type(source), b"".join(rest_of(source))) == (ReadFile, b"0123456789")
    source.close()


@pytest.mark.parametrize("kind", [RegularFile, ReadFile, Pieces, AsyncPieces])
def test_a_transport_without_a_socket_sends_no_file_itself(kind: type[Source], path: Path) -> None:
    """Over a transport of another kind than Twisted's, every source is read."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    with path.open("rb") as file:
        given = {RegularFile: file, ReadFile: BytesIO(), Pieces: [b"x"], AsyncPieces: pieces()}[kind]
        source = source_of(given, None)
        assert (type(source), source.send(object())) == (kind, 0)


@pytest.mark.parametrize("carries", [True, False])
def test_a_regular_file_is_sent_by_the_kernel_where_it_can(
    path: Path, monkeypatch: pytest.MonkeyPatch, carries: bool
) -> None:
    """The kernel sends the next bytes of a regular file, and the rest is read where the kernel takes no more."""
    transport, takes, asked = object(), [3, 0], []

    def send_file(given: object, descriptor: int, offset: int, size: int) -> int:
        asked.append((given, offset, size))
        return takes.pop(0)

    monkeypatch.setattr(stream_sources, "carries_files", lambda each: carries)
    monkeypatch.setattr(stream_sources, "send_file", send_file)
    with path.open("rb") as file:
        source = source_of(file, 8)
        sent = [source.send(transport), source.send(transport)]
        assert sent == ([3, 0] if carries else [0, 0])
        assert asked == ([(transport, 0, 8), (transport, 3, 5)] if carries else [])
        assert b"".join(rest_of(source)) == b"01234567"[sum(sent) :]
        assert (source.taken, source.send(transport)) == (8, 0)
        source.close()
        assert file.tell() == 8


def test_a_source_says_how_it_is_read_and_closed() -> None:
    """A kind of source has its own `_read` and `close`."""
    source = Source(None)
    with pytest.raises(NotImplementedError):
        source.read(1, always)
    with pytest.raises(NotImplementedError):
        source.close()


# Iterators -----------------------------------------------------------------------------------------------------------


def test_small_pieces_are_joined_while_there_is_time() -> None:
    """Pieces are joined up to about the asked length, and only while there is time."""
    source = source_of([b"ab", b"cd", b"ef"], None)
    assert source.read(4, always) == b"abcd"
    assert source.read(4, lambda: False) == b"ef"
    assert source.read(4, always) is None
    assert source.taken == 6


def test_a_generator_is_closed() -> None:
    """The `finally` of a generator runs when the source is closed. An iterator that cannot be closed is left."""
    closed = []

    def pieces() -> Iterator[bytes]:
        try:
            yield b"x"
        finally:
            closed.append(True)

    source = source_of(pieces(), None)
    assert source.read(1, always) == b"x"
    source.close()
    assert closed == [True]
    source_of([b"x"], None).close()


@pytest.mark.parametrize("given", [7, None, 1.5])
def test_no_source(given: Any) -> None:
    """An object that is no source raises `InvalidOption`, which names what would be one."""
    with pytest.raises(InvalidOption, match="takes a path, a file"):
        source_of(given, None)


# Async iterators -----------------------------------------------------------------------------------------------------


class Asked:
    """An async iterator whose steps the test fires; `cancelled` counts the steps that were cancelled."""

    def __init__(self) -> None:
        self.steps: list[Deferred[bytes]] = []
        self.cancelled = 0

    def __aiter__(self) -> Asked:
        return self

    def __anext__(self) -> Deferred[bytes]:
        self.steps.append(Deferred(self._cancel))
        return self.steps[-1]

    def _cancel(self, _: Any) -> None:
        self.cancelled += 1


def test_an_async_iterator_is_asked_for_one_piece_at_a_time() -> None:
    """The next step begins when the piece before was taken, and `arrived` is called once for each wait."""
    asked, arrived = Asked(), []
    source = source_of(asked, None)
    source.arrived = lambda: arrived.append(True)
    assert (source.read(4, always), source.read(4, always), len(asked.steps)) == (b"", b"", 1)
    asked.steps[0].callback(b"one")
    assert (arrived, len(asked.steps)) == ([True], 1)
    assert (source.read(4, always), source.read(4, always), len(asked.steps)) == (b"one", b"", 2)
    asked.steps[1].errback(StopAsyncIteration())
    assert (source.read(4, always), arrived) == (None, [True, True])


def test_a_step_that_fails_raises_its_error() -> None:
    """What a step fails with is raised by the next read."""
    asked = Asked()
    source = source_of(asked, None)
    source.read(4, always)
    asked.steps[0].errback(ValueError("disk"))
    with pytest.raises(ValueError, match="disk"):
        source.read(4, always)


def test_closing_cancels_the_step_that_is_awaited() -> None:
    """A closed source cancels its step, and tells nobody of the result."""
    asked, arrived = Asked(), []
    source = source_of(asked, None)
    source.arrived = lambda: arrived.append(True)
    source.read(4, always)
    closing = source.close()
    assert closing is not None
    assert (outcome(closing), asked.cancelled, arrived) == ([None], 1, [])


def test_a_generator_that_goes_on_after_its_cancellation_is_closed_behind_it() -> None:
    """An async generator that waits in its `finally` is closed once that is over."""
    slow: Deferred[None] = Deferred()
    steps = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            await Deferred()
            yield b"never"
        except CancelledError:
            steps.append("cancelled")
            await slow
            steps.append("over")

    source = source_of(pieces(), None)
    source.read(4, always)
    closing = source.close()
    assert closing is not None
    closed = outcome(closing)
    assert (steps, closed) == (["cancelled"], [])
    slow.callback(None)
    assert (steps, closed) == (["cancelled", "over"], [None])


def test_a_source_is_closed_before_it_is_asked() -> None:
    """A source that was never read is closed without a step."""
    closing = source_of(Asked(), None).close()
    assert closing is not None
    assert outcome(closing) == [None]
