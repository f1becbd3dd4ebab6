"""
Notifications to systemd for a service of ``Type=notify``: datagrams to the socket that systemd names (sd_notify(3)).

A notification never harms the service: if no service manager listens, nothing is sent.
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
    The service manager that the variables in `environ` describe.

    `watchdog` is the interval in seconds for calls of `alive`: half of the time that systemd gives, as
    sd_watchdog_enabled(3) advises. It is 0.0 without a watchdog.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog = self._half_of_watchdog(environ) if self._address else 0.0

    def __bool__(self) -> bool:
        """Return whether a service manager listens."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Notify that the service serves, or serves again; `status` is a line for people."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Notify that the service reads its configuration again. Call `ready` after that."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """Notify that the service stops; `status` is a line for people."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """Notify the watchdog that the service is alive."""
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
