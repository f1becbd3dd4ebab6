"""What one connection holds in memory, as the memory of all of them sees it."""

from __future__ import annotations

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.dispatcher import Dispatch
from tcpapp.connection.inbox import Inbox
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import MEMORY_SHORT, Settler
from tcpapp.connection.read_control import SHORT, Reading
from tcpapp.connection.throttle import Intake
from tcpapp.framing import Framing
from tcpapp.limits.memory_budget import Memory

__all__ = ["Load"]


class Load:
    """
    The bytes that come and go on one connection. `noted` is how many of them the memory knows of.

    After `end` it knows of none, whatever is still held: nothing of an ended connection is noted, ever.
    """

    __slots__ = (
        "_dispatch",
        "_ended",
        "_framing",
        "_inbox",
        "_intake",
        "_memory",
        "_outbox",
        "_reading",
        "_settler",
        "noted",
    )

    def __init__(
        self,
        memory: Memory,
        parts: tuple[Framing, Intake, Inbox, Outbox],
        dispatch: Dispatch,
        reading: Reading,
        settler: Settler,
    ) -> None:
        self._memory = memory
        self._framing, self._intake, self._inbox, self._outbox = parts
        self._dispatch = dispatch
        self._reading = reading
        self._settler = settler
        self._ended = False
        self.noted = 0

    @property
    def holds(self) -> int:
        """How many bytes there are now: of an unfinished message, of messages waiting or in hand, and unsent."""
        inbox = self._inbox
        coming = self._framing.held + self._intake.size + inbox.size
        return coming + inbox.taken + self._dispatch.in_hand + self._outbox.held

    def note(self) -> None:
        """Let the memory know, if there is news."""
        if self._ended:
            return
        holds = self.holds
        if holds != self.noted:
            self.noted = holds
            self._memory.note(self, holds)

    def end(self) -> None:
        """The connection is gone."""
        self._ended = True
        self.noted = 0
        self._memory.forget(self)

    # What the memory calls.

    def squeeze(self) -> None:
        """There is little memory left, and this connection holds much of it."""
        self._reading.hold(SHORT)

    def relieve(self) -> None:
        """There is enough memory again."""
        self._reading.let(SHORT)

    def shed(self, holds: int, limit: int) -> None:
        """There is no memory left, and this connection holds the most of it."""
        text = f"all connections together held more than {limit} bytes (max_buffered), and this one {holds} of them"
        self._settler.settle(MEMORY_SHORT, CloseReason(EndedBy.US, "memory-short", text, holds, limit))
