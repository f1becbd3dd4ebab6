"""Whether a connection is read from, and how many bytes one read takes. Several reasons can apply at a time."""

from __future__ import annotations

from typing import Any

from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.lifecycle import Lifecycle, Stage
from tcpapp.transport.layers import bottom_of

__all__ = [
    "BODY_FULL",
    "BYTES_KEPT",
    "HANDSHAKE_STEP",
    "LARGEST_METERED_READ",
    "MEMORY_PRESSURE",
    "MESSAGES_PENDING",
    "MOVING_AWAY",
    "OVER_BYTE_RATE",
    "SMALLEST_READ",
    "ReadControl",
]

# Why nothing is read: the bits of Reading.held. FULL is the inbox's.
MESSAGES_PENDING = 2  # messages that have come are not let in yet
OVER_BYTE_RATE = 4  # more bytes came than the rate allows
MEMORY_PRESSURE = 8  # all connections together hold too many bytes, and this one holds many of them
HANDSHAKE_STEP = 16  # a step of its TLS handshake waits for its turn
BODY_FULL = 64  # the app does not read the body of a message
MOVING_AWAY = 32  # it is to continue in another process, which reads what comes from now on
BYTES_KEPT = 128  # many bytes are kept behind the message in hand, because another framing could have to read them

SMALLEST_READ = 1024
"""The least bytes that one read takes from a flood of tiny messages. Each read is a system call."""

LARGEST_METERED_READ = 64 * 1024 - 1
"""
The most bytes that one read takes from a connection with a ``byte_rate``: one less than Twisted's 64 KiB.

`tcpapp.reactor` reads up to 256 KiB at once, unless a transport's ``bufferSize`` is smaller than Twisted's.
"""


class ReadControl:
    """
    Controls the reading of one transport. One read takes `normal_read` bytes where no reason asks for less.

    Only this class sets the ``bufferSize`` of the transport, and pauses and resumes it. It tells the deadlines when
    reading stops and goes on, and when it stops because memory is short. `reads_small` says that a flood is read in
    small chunks.
    """

    __slots__ = (
        "_deadlines",
        "_lifecycle",
        "_next_read",
        "_normal_read",
        "_size",
        "_small_read",
        "_transport",
        "pauses",
    )

    def __init__(self, transport: Any, lifecycle: Lifecycle, deadlines: Deadlines, normal_read: int) -> None:
        self._transport = transport
        self._lifecycle = lifecycle
        self._deadlines = deadlines
        self._normal_read = self._size = normal_read
        self._next_read = self._small_read = 0
        self.pauses = 0
        bottom = bottom_of(transport)
        if hasattr(bottom, "bufferSize"):
            bottom.bufferSize = normal_read

    def pause(self, why: int) -> None:
        """Stop reading until `resume` is called with the same reason."""
        before, self.pauses = self.pauses, self.pauses | why
        stage = self._lifecycle.stage
        if (stage.sends or stage is Stage.OPENING) and self.pauses != before:
            if not before:
                self._deadlines.pause()
                self._transport.pauseProducing()
            if why & MEMORY_PRESSURE:
                self._deadlines.begin_memory_pressure()

    def resume(self, why: int) -> None:
        """The reason `why` is gone."""
        before, self.pauses = self.pauses, self.pauses & ~why
        if self.pauses != before and self._lifecycle.stage.reads:
            if not self.pauses:
                self._deadlines.resume()
                self._resume_transport()
            elif why & MEMORY_PRESSURE:
                self._deadlines.end_memory_pressure()

    def stop(self) -> None:
        """Stop reading for good: bytes that still come have no meaning."""
        self._transport.pauseProducing()

    def go_on(self) -> None:
        """Undo `stop`: the bytes that come have a meaning again."""
        if not self.pauses:
            self._resume_transport()

    def read_to_the_end(self) -> None:
        """Read the bytes that the transport needs for its own end: TLS waits for the peer's close_notify."""
        self._transport.resumeProducing()

    def _resume_transport(self) -> None:
        try:
            self._transport.resumeProducing()
        except OSError:  # epoll_ctl fails (ENOSPC, ENOMEM): no bytes would ever come
            self._transport.abortConnection()

    # How much one read takes: the least of the usual size and of the size for each reason. Twisted has one number for
    # that and for its write mark. So the app of a connection that is read in small chunks is held back sooner, too.

    @property
    def reads_small(self) -> bool:
        """Whether reads are small, to be fair to other connections."""
        return bool(self._small_read)

    def read_small(self, size: int) -> None:
        """Limit a read to `size` bytes: other connections wait while a chunk is cut into messages."""
        if not self._small_read:
            self._small_read = max(SMALLEST_READ, size)
            self._set_read_size()

    def read_normal(self) -> None:
        """End the small reads for other connections."""
        self._small_read = 0
        self._set_read_size()

    def limit_next_read(self, size: int) -> None:
        """Limit the next read to `size` bytes, 1 or more, because of a rate."""
        self._next_read = min(size, LARGEST_METERED_READ)
        self._set_read_size()

    def _set_read_size(self) -> None:
        size = min(each for each in (self._normal_read, self._small_read, self._next_read) if each)
        if size != self._size:
            self._size = size
            bottom = bottom_of(self._transport)
            if hasattr(bottom, "bufferSize"):
                bottom.bufferSize = size
