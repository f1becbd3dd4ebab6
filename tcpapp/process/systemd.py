"""
What systemd is told of a service of ``Type=notify``: datagrams on the socket that it names (sd_notify(3)).

Telling never harms the service: where nobody listens, nothing is told.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["Systemd"]


class Systemd:
    """
    The service manager, as ``environ`` describes it.

    `watchdog` is every how many seconds it wants to hear that the service lives: half of what it was given, as
    sd_watchdog_enabled(3) advises; 0.0 where it does not.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog = self._half_of_watchdog(environ) if self._address else 0.0

    def __bool__(self) -> bool:
        """Whether there is one that listens."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """The service serves, or does again; `status` is a line for people."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The service reads its configuration anew; `ready` follows."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """The service stops; `status` is a line for people."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """The service lives."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.setblocking(False)
            datagrams.sendto("\n".join(lines).encode(), address)

    @staticmethod
    def _half_of_watchdog(environ: Mapping[str, str]) -> float:
        microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        ours = not pid or pid == str(os.getpid())
        return int(microseconds) / 2_000_000 if ours and microseconds.isdecimal() else 0.0
