"""
What `send_stream` takes: a file, an iterable or an async iterable, each as a source of bytes.

A source is asked for its next bytes. It gives some, none yet, or the end. It counts its bytes against the size that
was promised, because the peer was told of that size before.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from io import BufferedRandom, BufferedReader, FileIO
from pathlib import Path
from stat import S_ISREG
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from typing_extensions import override

from tcpapp.errors import InvalidOption, UnsendableStream, drop_frames
from tcpapp.transport.sendfile import carries_files, send_file

__all__ = ["Source", "source_of"]

BYTES = (bytes, bytearray, memoryview)


class Source:
    """
    Bytes that come piece by piece: `size` of them, or as many as come (`None`). `taken` counts them.

    `waits` says that no bytes are there yet, and that `arrived`, which its user sets, is called when there are.
    """

    waits = False

    def __init__(self, size: int | None) -> None:
        self.size = size
        self.taken = 0
        self.arrived: Callable[[], None] = _nothing

    def read(self, most: int, goes_on: Callable[[], bool]) -> bytes | None:
        """
        The next bytes, about `most` of them; none where none are there yet; `None` after the last byte.

        Small pieces are joined while `goes_on` says that there is time. Raises `UnsendableStream`, and what the source
        raises.
        """
        piece = self._read(most, goes_on)
        if piece is None:
            if self.size is not None and self.taken < self.size:
                raise UnsendableStream(f"the source ended after {self.taken} bytes; its size is {self.size}")
            return None
        self.taken += len(piece)
        if self.size is not None and self.taken > self.size:
            raise UnsendableStream(f"the source gave {self.taken} bytes or more; its size is {self.size}")
        return piece

    @property
    def is_whole(self) -> bool:
        """Whether it is known to have given its last byte."""
        return False

    def _read(self, most: int, goes_on: Callable[[], bool]) -> bytes | None:
        """The next bytes, unchecked."""
        raise NotImplementedError

    def send(self, transport: Any) -> int:
        """Let the kernel send the next bytes over `transport`. Returns how many it sent; 0 where `read` is needed."""
        return 0

    def detach(self) -> None:
        """Tell nobody of further bytes."""
        self.arrived = _nothing

    def close(self) -> Deferred[None] | None:
        """No more bytes are needed. The end of an async generator can take time."""
        raise NotImplementedError


class Pieces(Source):
    """The pieces of an iterator. It is closed, if it can be, as generators can."""

    def __init__(self, pieces: Iterator[Any], size: int | None) -> None:
        super().__init__(size)
        self._pieces = pieces

    @override
    def _read(self, most: int, goes_on: Callable[[], bool]) -> bytes | None:
        taken: list[bytes] = []
        length = 0
        for piece in self._pieces:
            taken.append(_bytes_of(piece))
            length += len(piece)
            if length >= most or not goes_on():
                break
        else:
            return b"".join(taken) if taken else None
        return taken[0] if len(taken) == 1 else b"".join(taken)

    @override
    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


class AsyncPieces(Source):
    """The pieces of an async iterator. Each is asked for when the one before was taken."""

    def __init__(self, pieces: AsyncIterator[Any], size: int | None) -> None:
        super().__init__(size)
        self._pieces = pieces
        self._next: Deferred[Any] | None = None
        self._has_come = False
        self._piece: bytes | None = b""
        self._failure: Failure | None = None

    @override
    def _read(self, most: int, goes_on: Callable[[], bool]) -> bytes | None:
        if self._next is None:
            self._next = Deferred.fromCoroutine(self._following())
            self._next.addCallbacks(self._came, self._failed)
        if self._failure is not None:
            self._failure.raiseException()
        if not self._has_come:
            self.waits = True
            return b""
        self._next, self._has_come = None, False
        return self._piece

    async def _following(self) -> bytes | None:
        try:
            return _bytes_of(await self._pieces.__anext__())
        except StopAsyncIteration:
            return None

    def _came(self, piece: bytes | None) -> None:
        self._piece, self._has_come = piece, True
        self._tell()

    def _failed(self, failure: Failure) -> None:
        self._failure = failure
        self._tell()

    def _tell(self) -> None:
        waited, self.waits = self.waits, False
        if waited:
            self.arrived()

    @override
    def close(self) -> Deferred[None]:
        """Cancel what the iterator awaits. Then close it, if it can be closed, as generators can."""
        self.detach()
        asked = self._next
        ended: Deferred[None] = Deferred()
        if self.waits and asked is not None:
            asked.addBoth(self._stopped, ended)
            asked.cancel()
        else:
            ended.callback(None)
        return ended.addCallback(lambda _: Deferred.fromCoroutine(self._close()))

    def _stopped(self, _: None, ended: Deferred[None]) -> None:
        if self._failure is not None:
            drop_frames(self._failure)  # they would keep the iterator, and its connection, in memory
            self._failure = None
        ended.callback(None)

    async def _close(self) -> None:
        aclose = getattr(self._pieces, "aclose", None)
        if aclose is not None:
            await aclose()


class ReadFile(Source):
    """A file object, which is read: the bytes of a GzipFile or of a BytesIO are not those of a descriptor."""

    def __init__(self, file: Any, size: int | None, opened: bool) -> None:
        super().__init__(size)
        self._file = file
        self._opened = opened

    @property
    @override
    def is_whole(self) -> bool:
        return self.taken == self.size

    @override
    def _read(self, most: int, goes_on: Callable[[], bool]) -> bytes | None:
        if self.size is not None:
            most = min(most, self.size - self.taken)
        return _bytes_of(self._file.read(most)) or None if most else None

    @override
    def close(self) -> None:
        if self._opened:
            self._file.close()


class RegularFile(ReadFile):
    """
    A regular file on a disk, from its position. The kernel sends it where it can.

    Its descriptor is asked for each time: once the file is closed, another file can have the same number.
    """

    def __init__(self, file: Any, size: int, offset: int, opened: bool) -> None:
        super().__init__(file, size, opened)
        self._offset = offset
        self._left = size

    @override
    def _read(self, most: int, goes_on: Callable[[], bool]) -> bytes | None:
        descriptor = self._file.fileno()
        piece = os.pread(descriptor, min(most, self._left), self._offset) if self._left else b""
        self._advance(len(piece))
        return piece or None

    @override
    def send(self, transport: Any) -> int:
        if not self._left or not carries_files(transport):
            return 0
        sent = send_file(transport, self._file.fileno(), self._offset, self._left)
        self._advance(sent)
        self.taken += sent
        return sent

    def _advance(self, size: int) -> None:
        self._offset += size
        self._left -= size

    @override
    def close(self) -> None:
        """The position of a file that the user opened is behind the bytes that were sent."""
        if self._opened:
            self._file.close()
        elif not self._file.closed:
            self._file.seek(self._offset)


def source_of(given: Any, size: int | None) -> Source:
    """
    The source of what `send_stream` got: a path, a binary file, an async iterable, an iterable of bytes, or bytes.

    Raises `InvalidOption` for anything else, and the `OSError` of a path that cannot be opened.
    """
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidOption(f"size={size!r}: takes a number of bytes, or None")
    if isinstance(given, BYTES):
        return Pieces(iter([given]), size)
    if isinstance(given, (str, os.PathLike)):
        return _file_source(Path(given).open("rb", buffering=0), size, opened=True)
    if hasattr(given, "__aiter__"):
        return AsyncPieces(given.__aiter__(), size)
    if hasattr(given, "read"):
        return _file_source(given, size, opened=False)
    if hasattr(given, "__iter__"):
        return Pieces(iter(given), size)
    raise InvalidOption(
        f"{given!r:.80} as a source of bytes: takes a path, a file that is open in binary mode, an iterable or an async"
        " iterable of bytes"
    )


def _file_source(file: Any, size: int | None, *, opened: bool) -> Source:
    """The source of a file object. The size of a regular file is what it has now, unless it is said."""
    if type(file) in (FileIO, BufferedReader, BufferedRandom) and type(getattr(file, "raw", file)) is FileIO:
        file.flush()
        about = os.fstat(file.fileno())
        if S_ISREG(about.st_mode) and about.st_size and hasattr(os, "pread"):  # files in /proc say that they have 0
            offset = file.tell()
            return RegularFile(file, max(about.st_size - offset, 0) if size is None else size, offset, opened)
    return ReadFile(file, size, opened)


def _bytes_of(piece: Any) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, (bytearray, memoryview)):
        return bytes(piece)
    raise UnsendableStream(f"the source gave {piece!r:.80}: takes bytes")


def _nothing() -> None:
    """Nobody waits for the next bytes."""
