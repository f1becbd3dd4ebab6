"""memcached, redis-server and nats-server as processes, and the apps of tcpapp that speak the same protocols."""

from __future__ import annotations

import getpass
from pathlib import Path

from tests.processes import Process, ends, program

__all__ = ["Services"]

WITH_STDERR = ("sh", "-c", 'exec "$0" "$@" 2>&1')
"""What a program is run with, because a `Process` has the lines of its standard output only."""


class Services:
    """Starts programs that listen at a socket in a folder, or at a free port, and stops them at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[Process] = []
        self._apps: list[Process] = []

    def app(self, twistd: list[str], name: str, framing: str) -> str:
        """Serve the app of this name, and return the path of its socket."""
        path = str(self.folder / "app")
        options = ("--app", name, "--framing", framing, "--listen", f"unix:{path}")
        self._processes.append(Process([*twistd, "-n", "tcpapp", *options], self.folder))
        self._apps.append(self._processes[-1])
        self._apps[-1].line("listening on")
        return path

    def memcached(self) -> str:
        """Start memcached, and return the path of its socket."""
        path = str(self.folder / "memcached")
        self._start("memcached", "-s", path, "-u", getpass.getuser(), "-vv").line("server listening")
        return path

    def redis(self, *more: str) -> str:
        """Start redis-server, which keeps nothing on disk, and return the path of its socket."""
        path = str(self.folder / "redis")
        options = ("--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", *more)
        self._start("redis-server", *options).line("ready to accept connections")
        return path

    def nats(self) -> int:
        """Start nats-server, and return its port."""
        server = self._start("nats-server", "-a", "127.0.0.1", "-p", "-1")
        port = int(server.line(r"Listening for client connections on 127\.0\.0\.1:(\d+)")[1])
        server.line("Server is ready")
        return port

    def end(self) -> None:
        """Stop all programs, and check that each app ends in order."""
        try:
            for each in self._apps:
                ends(each)
        finally:
            for each in self._processes:
                each.clean_up()

    def _start(self, name: str, *options: str) -> Process:
        self._processes.append(Process([*WITH_STDERR, program(name), *options], self.folder))
        return self._processes[-1]
