"""Reads a connection in pieces of its own size, one in a turn."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["SmallReads"]


class Stream(Protocol):
    """A connection on uvloop, as it is read in pieces."""

    reactor: Any
    bufferSize: int  # noqa: N815 - Twisted's name
    _reading: bool
    _stream: Any

    def startReading(self) -> None:  # noqa: N802 - Twisted's name
        """Read on."""

    def data_received(self, data: bytes) -> None:
        """Bytes came."""

    def eof_received(self) -> bool:
        """The peer sends no more; returns whether the connection stays open."""

    def connection_lost(self, why: BaseException | None) -> None:
        """The connection has ended."""

    def pause_writing(self) -> None:
        """uvloop holds too much."""

    def resume_writing(self) -> None:
        """uvloop takes more."""


class SmallReads:
    """
    An asyncio protocol by which uvloop reads at most a connection's ``bufferSize`` at once.

    uvloop's own buffer has 256 KiB, and is filled up to 32 times in a turn of the loop. A connection gets one of these
    when its ``bufferSize`` is made smaller than 64 KiB, or when it has brought more than that at once. Then its Twisted
    protocol gets pieces of its expected size, one in a turn, and other connections are served between them.
    """

    __slots__ = ("_room", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.resize()

    def resize(self) -> None:
        """The connection's ``bufferSize`` has changed."""
        self._room = self._stream.reactor.room(self._stream.bufferSize)

    def get_buffer(self, hint: int) -> Any:
        """Called by uvloop before it reads: the buffer to read into."""
        return self._room

    def buffer_updated(self, size: int) -> None:
        """Called by uvloop after it has read; a connection with more bytes goes on in the next turn."""
        stream = self._stream
        if size == len(self._room) and stream._stream is not None:
            stream._stream.pause_reading()
            stream.reactor._asyncioEventloop.call_soon(self._go_on)
        stream.data_received(bytes(self._room[:size]))

    def _go_on(self) -> None:
        if self._stream._reading:
            self._stream.startReading()

    def eof_received(self) -> bool:
        """Called by uvloop, as are those below: see `Stream`."""
        return self._stream.eof_received()

    def connection_lost(self, why: BaseException | None) -> None:
        """Tell the connection."""
        self._stream.connection_lost(why)

    def pause_writing(self) -> None:
        """Tell the connection."""
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        """Tell the connection."""
        self._stream.resume_writing()
