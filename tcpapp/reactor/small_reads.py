"""Small reads: a connection is read in pieces of at most its ``bufferSize``, one piece in each turn."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["SmallReads"]


class Stream(Protocol):
    """The methods of a connection that `SmallReads` uses."""

    reactor: Any
    bufferSize: int  # noqa: N815 - Twisted's name
    _reading: bool
    _stream: Any

    def startReading(self) -> None:  # noqa: N802 - Twisted's name
        """Continue to read."""

    def data_received(self, data: bytes) -> None:
        """Handle received bytes."""

    def eof_received(self) -> bool:
        """Handle the end of the peer's side. Returns whether the connection stays open."""

    def connection_lost(self, why: BaseException | None) -> None:
        """Handle the end of the connection."""

    def pause_writing(self) -> None:
        """Stop writing, because uvloop holds too many bytes."""

    def resume_writing(self) -> None:
        """Continue to write."""


class SmallReads:
    """
    An asyncio protocol that lets uvloop read at most the ``bufferSize`` of a connection at once.

    uvloop's own buffer has 256 KiB, and is filled up to 32 times in one turn of the loop. A connection gets a
    `SmallReads` when its ``bufferSize`` is made smaller than 64 KiB, or when more bytes than ``bufferSize`` came at
    once. Then its Twisted protocol gets pieces of the expected size, one in each turn, and other connections are served
    between them.
    """

    __slots__ = ("_room", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.resize()

    def resize(self) -> None:
        """Use the new ``bufferSize`` of the connection."""
        self._room = self._stream.reactor.room(self._stream.bufferSize)

    def get_buffer(self, hint: int) -> Any:
        """Return the buffer to read into. uvloop calls it before it reads."""
        return self._room

    def buffer_updated(self, size: int) -> None:
        """Pass on the bytes that were read. uvloop calls it. If more bytes wait, they are read in the next turn."""
        stream = self._stream
        if size == len(self._room) and stream._stream is not None:
            stream._stream.pause_reading()
            stream.reactor._asyncioEventloop.call_soon(self._go_on)
        stream.data_received(bytes(self._room[:size]))

    def _go_on(self) -> None:
        if self._stream._reading:
            self._stream.startReading()

    def eof_received(self) -> bool:
        """Pass on the end of the peer's side. uvloop calls it."""
        return self._stream.eof_received()

    def connection_lost(self, why: BaseException | None) -> None:
        """Pass on the end of the connection. uvloop calls it."""
        self._stream.connection_lost(why)

    def pause_writing(self) -> None:
        """Pass on that uvloop holds too many bytes. uvloop calls it."""
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that uvloop accepts bytes again. uvloop calls it."""
        self._stream.resume_writing()
