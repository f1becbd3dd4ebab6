"""
A log stream that never blocks, even if its reader does not read.

A program in a container, or before ``| tee``, logs to a pipe. When the reader of the pipe stops, the pipe is full after
64 KiB. The next write then blocks, and every client waits. With this stream, such a write raises an error, and the line
is lost. `LogLoss` counts lost lines, and reports them when the pipe has room again.

The descriptor stays in blocking mode, because other processes share it with its flags. Instead:

========================== =========================================================================================
a pipe, or a terminal      is opened again (``/proc/self/fd``), which gives it its own flags
a socket                   each write asks not to block (``MSG_DONTWAIT``)
a pipe or a terminal that  is polled before each write of at most `PIPE_BUF` bytes, which all fit if one fits.
cannot be opened again     Another process that fills the pipe after the poll can still block this one
========================== =========================================================================================
"""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from typing import Any

from typing_extensions import override

__all__ = ["LogStream", "tell", "without_blocking"]

AGAIN = "/proc/self/fd/{}"
"""The path that opens the file of a descriptor again on Linux."""

Write = Callable[[bytes], int]
"""A function that writes as many bytes as there is room for, and returns their number."""


class LogStream(io.TextIOBase):
    """
    Writes to the file of `stream`, without blocking and without a buffer.

    `write` raises `BlockingIOError` when there is room for no part of the text. When there is room for a part, the rest
    is written before any other text. So a line is whole or missing. Threads can share the stream.
    """

    def __init__(self, stream: Any, write: Write, end: Callable[[], object]) -> None:
        self._stream = stream
        self._write = write
        self._end = end
        self._rest = b""
        self._lock = RLock()  # the handler of a signal can log while a line is written

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has it as an attribute
        """The encoding of `stream`."""
        return str(self._stream.encoding)

    @override
    def fileno(self) -> int:
        """Return the descriptor of `stream`."""
        return int(self._stream.fileno())

    @override
    def isatty(self) -> bool:
        """Return whether `stream` is a terminal."""
        return bool(self._stream.isatty())

    @override
    def writable(self) -> bool:
        """Return `True`: the stream can be written to."""
        return True

    @override
    def write(self, text: str) -> int:
        """Write `text` and return its length. Raises `BlockingIOError` if there is room for no part of it."""
        data = text.encode(self.encoding, "backslashreplace")
        with self._lock:
            self.flush()
            written = 0 if self._rest else self._write(data)
            if data and not written:
                raise BlockingIOError(errno.EAGAIN, "the log is full: its reader does not read")
            self._rest += data[written:]
        return len(text)

    @override
    def flush(self) -> None:
        """Write the rest of a line, as far as there is room."""
        with self._lock:
            while self._rest and (written := self._write(self._rest)):
                self._rest = self._rest[written:]

    @override
    def close(self) -> None:
        """Close the descriptor that it writes with; `stream` stays open."""
        if not self.closed:
            super().close()
            self._end()


def without_blocking(stream: Any) -> Any:
    """
    Return a `LogStream` for `stream` if it is a pipe, a socket or a terminal. Other streams, such as files, are
    returned as they are.
    """
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # there is no stream, or it has no descriptor, or it is closed
        return stream
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stream.isatty()):
        return stream
    stream.flush()
    return LogStream(stream, *_ways_of(stream.fileno(), mode))


def tell(text: str) -> None:
    """Write this line on the real stderr, or drop it if stderr is full. (twistd replaces `sys.stderr` by its log.)"""
    stream = without_blocking(sys.__stderr__)
    if stream is not None:
        with suppress(BlockingIOError):
            stream.write(f"{text}\n")
            stream.flush()


def _ways_of(descriptor: int, mode: int) -> tuple[Write, Callable[[], object]]:
    """Return a function that writes to the file of `descriptor` without blocking, and a function to call at the end."""
    if stat.S_ISSOCK(mode):
        sending = socket.socket(fileno=os.dup(descriptor))
        return lambda data: _so_far(lambda: sending.send(data, socket.MSG_DONTWAIT)), sending.close
    try:
        again = os.open(AGAIN.format(descriptor), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # the folder does not exist, or the pipe belongs to another user
        return lambda data: _polled(descriptor, data), lambda: None
    return lambda data: _so_far(lambda: os.write(again, data)), lambda: os.close(again)


def _so_far(write: Callable[[], int]) -> int:
    try:
        return write()
    except BlockingIOError:
        return 0


def _polled(descriptor: int, data: bytes) -> int:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return os.write(descriptor, data[: select.PIPE_BUF]) if poll.poll(0) else 0
