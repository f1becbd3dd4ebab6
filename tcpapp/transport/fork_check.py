"""
Whether this process is a forked child of one whose reactor was running.

A child has its parent's reactor as it stood, and nothing that runs it: no timer fires there, and its descriptors, the
epoll instance among them, are the parent's. Whatever waits for it waits for ever, timeouts and all. So calls that would
wait say so at once (grpc#13464). A process that forked before its reactor ran, as twistd does to become a daemon, is
none of these; nor is a child that starts another program, or has installed a reactor of its own.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from tcpapp.errors import Forked

__all__ = ["check_fork", "was_forked"]

_stopped: list[Any] = []
"""The reactor that ran in the parent, and does not here."""


def _note_fork() -> None:
    """Python calls it in each child, as it begins."""
    reactor = sys.modules.get("twisted.internet.reactor")
    if getattr(reactor, "running", False):
        _stopped[:] = [reactor]


os.register_at_fork(after_in_child=_note_fork)


def was_forked(reactor: Any) -> bool:
    """Whether `reactor` ran in this process's parent, and does not run here."""
    return bool(_stopped) and _stopped[0] is reactor


def check_fork(reactor: Any, what: str) -> None:
    """Raise `Forked` for `what` was asked for, where `reactor` does not run in this process."""
    if was_forked(reactor):
        raise Forked(what)
