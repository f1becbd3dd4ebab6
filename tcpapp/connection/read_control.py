"""Whether a connection is read from, and how many bytes at once. Several reasons can hold or bound it at a time."""

from __future__ import annotations

from typing import Any

from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.lifecycle import Ending, Stage
from tcpapp.transport.layers import bottom_of

__all__ = ["FAST", "KEPT", "LEAST_SIP", "METERED", "SHORT", "STEP", "Reading"]

# Why nothing is read: the bits of Reading.held. FULL is the inbox's.
KEPT = 2  # messages that have come are not let in yet
FAST = 4  # more bytes came than the rate allows
SHORT = 8  # all connections together hold too much, and this one much of it
STEP = 16  # a step of its TLS handshake waits for its turn

LEAST_SIP = 1024
"""The least bytes that one read takes from a flood of tiny messages. Each read is a system call."""

METERED = 64 * 1024 - 1
"""
The most bytes that one read takes from a connection with a ``byte_rate``: one less than Twisted's 64 KiB.

`tcpapp.reactor` reads up to 256 KiB at once, unless a transport's ``bufferSize`` is smaller than Twisted's.
"""


class Reading:
    """
    The reading of one transport, which reads `usual` bytes at once where nothing asks for less.

    It alone sets the ``bufferSize`` of the transport, and pauses and resumes it.
    The deadlines are told when it stops and when it goes on, and when it stops because memory is short. `sips` says
    that a flood is read in small pieces.
    """

    __slots__ = ("_allowed", "_deadlines", "_ending", "_sip", "_size", "_transport", "_usual", "held")

    def __init__(self, transport: Any, ending: Ending, deadlines: Deadlines, usual: int) -> None:
        self._transport = transport
        self._ending = ending
        self._deadlines = deadlines
        self._usual = self._size = usual
        self._allowed = self._sip = 0
        self.held = 0
        bottom = bottom_of(transport)
        if hasattr(bottom, "bufferSize"):
            bottom.bufferSize = usual

    def hold(self, why: int) -> None:
        """Read nothing until `let` of the same reason."""
        before, self.held = self.held, self.held | why
        stage = self._ending.stage
        if (stage.sends or stage is Stage.OPENING) and self.held != before:
            if not before:
                self._deadlines.pause()
                self._transport.pauseProducing()
            if why & SHORT:
                self._deadlines.press()

    def let(self, why: int) -> None:
        """The reason `why` is gone."""
        before, self.held = self.held, self.held & ~why
        if self.held != before and self._ending.stage.reads:
            if not self.held:
                self._deadlines.resume()
                self._resume()
            elif why & SHORT:
                self._deadlines.unpress()

    def stop(self) -> None:
        """Read nothing more: nothing that could still come would mean anything."""
        self._transport.pauseProducing()

    def read_to_the_end(self) -> None:
        """Read what the transport needs for its own end: TLS waits for the peer's close_notify."""
        self._transport.resumeProducing()

    def _resume(self) -> None:
        try:
            self._transport.resumeProducing()
        except OSError:  # the system watches no more descriptors (epoll_ctl: ENOSPC, ENOMEM): it would never be heard
            self._transport.abortConnection()

    # How much is read at once: the least of what is usual, and of what each reason has to say. Twisted has one number
    # for that and for its write mark: the app of a connection that is read in small pieces is held back sooner, too.

    @property
    def sips(self) -> bool:
        """Whether small pieces are read for the sake of others."""
        return bool(self._sip)

    def sip(self, size: int) -> None:
        """Read no more than so many bytes at once: what a chunk holds is cut in one go, while all others wait."""
        if not self._sip:
            self._sip = max(LEAST_SIP, size)
            self._resize()

    def gulp(self) -> None:
        """Others need no smaller pieces any more."""
        self._sip = 0
        self._resize()

    def allow(self, size: int) -> None:
        """Read no more than so many bytes next, for there is a rate; 1 or more."""
        self._allowed = min(size, METERED)
        self._resize()

    def _resize(self) -> None:
        size = min(each for each in (self._usual, self._sip, self._allowed) if each)
        if size != self._size:
            self._size = size
            bottom = bottom_of(self._transport)
            if hasattr(bottom, "bufferSize"):
                bottom.bufferSize = size
