"""The bytes that one connection holds, and its place in the memory budget of all connections."""

from __future__ import annotations

from typing import Any

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.dispatcher import Dispatcher
from tcpapp.connection.inbox import Inbox
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import BODY_CAME, MEMORY_SHORT, NOTHING, Settler
from tcpapp.connection.read_control import MEMORY_PRESSURE, ReadControl
from tcpapp.connection.rewind import Rewind
from tcpapp.connection.throttle import Throttle
from tcpapp.framing import Framing
from tcpapp.limits.memory_budget import MemoryBudget

__all__ = ["BufferedBytes"]


class BufferedBytes:
    """
    The bytes that one connection holds: `framing` an unfinished message, `bodies` those of bodies, `rewind` those for
    another framing. The last two are `None` where there are none. `reported` is the number that the memory budget last
    got.

    After `end` the budget counts none of them: the bytes of an ended connection are never noted.
    """

    __slots__ = (
        "_budget",
        "_dispatcher",
        "_ended",
        "_inbox",
        "_outbox",
        "_read_control",
        "_settler",
        "_throttle",
        "bodies",
        "framing",
        "reported",
        "rewind",
    )

    def __init__(
        self,
        budget: MemoryBudget,
        parts: tuple[Framing, Throttle, Inbox, Outbox],
        dispatcher: Dispatcher,
        read_control: ReadControl,
        settler: Settler,
    ) -> None:
        self._budget = budget
        self.framing, self._throttle, self._inbox, self._outbox = parts
        self._dispatcher = dispatcher
        self.rewind: Rewind | None = None
        self._read_control = read_control
        self._settler = settler
        self._ended = False
        self.reported = 0
        self.bodies: Any = None

    @property
    def held_bytes(self) -> int:
        """The bytes held now: of an unfinished message, of messages that wait or that the app has, and unsent bytes."""
        inbox = self._inbox
        kept = 0 if self.rewind is None or self.rewind.chunks is None else self.rewind.size
        coming = self.framing.held + kept + self._throttle.size + inbox.size
        if self.bodies is not None:
            coming += self.bodies.held
        return coming + inbox.taken + self._dispatcher.handling_bytes + self._outbox.held

    def own_rewind(self) -> Rewind:
        """The bytes for another framing, which are kept from now on: most connections need to keep none."""
        if self.rewind is None:
            self.rewind = Rewind(self.framing, self._throttle, self._inbox, self._dispatcher, self._read_control)
        return self.rewind

    def note_chunk(self) -> int:
        """A chunk is handed on: report the bytes. Returns the outcome, where a reader waits for bytes of a body."""
        self.update()
        return BODY_CAME if self.bodies is not None and self.bodies.woken else NOTHING

    def update(self) -> None:
        """Report the bytes to the memory budget, if their number has changed."""
        if self._ended:
            return
        if self.rewind is not None and self.rewind.chunks is not None:
            self.rewind.trim()
        held_bytes = self.held_bytes
        if held_bytes != self.reported:
            self.reported = held_bytes
            self._budget.update(self, held_bytes)

    def end(self) -> None:
        """The connection has ended: the budget forgets it."""
        self._ended = True
        self.reported = 0
        self._budget.forget(self)

    # What the memory budget calls.

    @property
    def connections(self) -> int:
        """The connection itself."""
        return 1

    def pause_reading(self) -> None:
        """There is little memory left, and this connection holds much of it."""
        self._read_control.pause(MEMORY_PRESSURE)

    def resume_reading(self) -> None:
        """There is enough memory again."""
        self._read_control.resume(MEMORY_PRESSURE)

    def shed(self, held_bytes: int, limit: int) -> None:
        """There is no memory left, and this connection holds the most of it."""
        text = (
            f"all connections together held more than {limit} bytes (max_buffered), and this one {held_bytes} of them"
        )
        self._settler.settle(MEMORY_SHORT, CloseReason(EndedBy.US, "memory-short", text, held_bytes, limit))
