"""
The check whether this process is a forked child of a process whose reactor was running.

A child has a copy of its parent's reactor, and nothing runs that copy. No timer fires there, and its descriptors, such
as the epoll instance, belong to the parent. So every wait would last for ever, even with a timeout. Calls that would
wait raise an error at once instead (grpc#13464).

This does not concern a process that forked before its reactor ran, as twistd does to become a daemon. Nor does it
concern a child that starts another program, or that installed its own reactor.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from tcpapp.errors import Forked

__all__ = ["check_fork", "was_forked"]

_stopped: list[Any] = []
"""The reactor that ran in the parent, and does not run here; the list is empty in other processes."""


def _note_fork() -> None:
    """Note a fork. Python calls this at the start of each child."""
    reactor = sys.modules.get("twisted.internet.reactor")
    if getattr(reactor, "running", False):
        _stopped[:] = [reactor]


os.register_at_fork(after_in_child=_note_fork)


def was_forked(reactor: Any) -> bool:
    """Return whether `reactor` ran in this process's parent, and does not run here."""
    return bool(_stopped) and _stopped[0] is reactor


def check_fork(reactor: Any, what: str) -> None:
    """Raise `Forked` for the use named `what`, if `reactor` does not run in this process."""
    if was_forked(reactor):
        raise Forked(what)
