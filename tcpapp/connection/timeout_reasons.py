"""The `CloseReason` of each wait that is overdue."""

from __future__ import annotations

from typing import Final

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.limits import Timeouts, numbers_of

__all__ = ["REASONS", "reason_of", "unread"]

REASONS: Final[dict[str, tuple[str, str]]] = {
    each.name: (each.metadata["rule"], each.metadata["overdue"])
    for each in numbers_of(Timeouts)
    if each.metadata["rule"]
}
"""For each wait: the rule of the `CloseReason` when it is overdue, and the text of that reason."""


def reason_of(wait: str, seconds: float) -> CloseReason:
    """The reason where `wait` was overdue after `seconds`."""
    rule, text = REASONS[wait]
    return CloseReason(EndedBy.US, rule, f"{text.format(seconds=seconds)} ({wait})", seconds, seconds)


def unread(seconds: float) -> CloseReason:
    """The reason where a message was not whole in `seconds` because reading had stopped to save memory."""
    text = f"a message was not whole {seconds:g} s after its first byte (message_timeout); we did not read on for a "
    text += "time, since all connections together held too much (max_buffered)"
    return CloseReason(EndedBy.US, "memory-short", text, seconds, seconds)
