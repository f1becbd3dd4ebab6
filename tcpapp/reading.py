"""Whether a connection is read from: it is while nothing speaks against it, and several things may at a time."""

from __future__ import annotations

from typing import Any

from tcpapp.deadlines import Deadlines
from tcpapp.ending import Ending, State
from tcpapp.transports import bottom_of

__all__ = ["FAST", "KEPT", "SHORT", "Reading"]

# Why nothing is read: the bits of Reading.held. FULL is the inbox's.
KEPT = 2  # messages that have come are not let in yet
FAST = 4  # more bytes came than the rate allows
SHORT = 8  # all connections together hold too much, and this one much of it


LEAST_SIP = 1024
"""Bytes that are read at once of one who floods with tiny messages, at the least: one call of the system for each."""


class Reading:
    """The reading of one transport. The peer owes nothing while it is not read from, which the deadlines are told."""

    __slots__ = ("_deadlines", "_ending", "_gulp", "_transport", "held", "sips")

    def __init__(self, transport: Any, ending: Ending, deadlines: Deadlines) -> None:
        self._transport = transport
        self._ending = ending
        self._deadlines = deadlines
        self.held = 0
        self.sips = False
        self._gulp = 0

    def hold(self, why: int) -> None:
        """Read nothing until `let` of the same reason."""
        if not self.held and self._ending.state is State.OPEN:
            self._deadlines.pause()
            self._transport.pauseProducing()
        self.held |= why

    def let(self, why: int) -> None:
        """The reason `why` is gone."""
        was_held = bool(self.held)
        self.held &= ~why
        if was_held and not self.held and self._ending.state is State.OPEN and not self._ending.no_more_input:
            self._deadlines.resume()
            self._transport.resumeProducing()

    def sip(self, size: int) -> None:
        """
        Read no more than so many bytes at once: what a chunk holds is cut in one go, while all others wait.

        Twisted has one number for that and for its write mark: the app of one who floods is held back sooner, too.
        """
        bottom = bottom_of(self._transport)
        if hasattr(bottom, "bufferSize") and not self.sips:
            self.sips, self._gulp = True, bottom.bufferSize
            bottom.bufferSize = max(LEAST_SIP, size)

    def gulp(self) -> None:
        """Read as much at once as before."""
        self.sips = False
        bottom_of(self._transport).bufferSize = self._gulp
