"""Run ``twistd tcpapp`` as a process, wait for its lines, and connect raw sockets to it."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import Self

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[1]

SECONDS = PATIENCE
"""Seconds that each step here can take. A usual step takes a second, most of it for the start of Python."""

TCP = "tcp:0:interface=127.0.0.1"


class Process:
    """A process whose output a test waits for, line by line."""

    def __init__(self, command: list[str], cwd: Path, **options: Any) -> None:
        path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])
        environ = options.pop("env", os.environ) | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        self.popen = subprocess.Popen(
            command,
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.out: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.popen.stdout or ():
            self._lines.put(line)
        self._lines.put("")

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for the next line that matches `pattern`, and return the match."""
        while True:
            line = self._lines.get(timeout=SECONDS)
            self.out.append(line)
            if found := re.search(pattern, line):
                return found
            assert line, f"no line matches {pattern!r}:\n{''.join(self.out)}{self.popen.stderr.read()}"

    def port(self) -> int:
        """Wait for the next endpoint that listens, and return its port."""
        return int(self.line(r"listening on 127\.0\.0\.1:(\d+)")[1])

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end of the process, and return the exit code, the unread lines of stdout, and stderr."""
        code = self.popen.wait(SECONDS)
        self._reader.join(SECONDS)
        rest = "".join(iter(self._lines.get_nowait, ""))
        return code, rest, self.popen.stderr.read()

    def clean_up(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        self._reader.join(SECONDS)
        self.popen.stdout.close()
        self.popen.stderr.close()


class Manager:
    """A service manager, which a process notifies when it is ready. Use it for a process whose log is a file."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.settimeout(SECONDS)
        self.environ = os.environ | {"NOTIFY_SOCKET": str(folder / "notify")}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def told(self, start: bytes) -> bytes:
        """Wait for the next notification that begins with `start`. ``b"READY=1"`` says that the process listens."""
        while not (message := self._socket.recv(1000)).startswith(start):
            pass
        return message


Run = Callable[..., Process]


def dial(where: int | str) -> socket.socket:
    """Connect to a port or to a UNIX socket, and return the socket."""
    if isinstance(where, int):
        return socket.create_connection(("127.0.0.1", where), SECONDS)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(SECONDS)
    client.connect(where)
    return client


def hear(client: socket.socket, size: int) -> bytes:
    """Return `size` bytes from the socket, or fewer if the peer closes the connection before."""
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


def ends(process: Process, number: int = signal.SIGTERM) -> None:
    """
    Send a signal and check that the process ends in order: exit code 0, empty stderr, and no traceback in its log.
    """
    process.signal(number)
    code, rest, err = process.end()
    assert (code, err) == (0, "")
    assert "Traceback" not in rest
    assert f"{signal.Signals(number).name}: stopping" in rest


def program(name: str) -> str:
    """Return the path of a program. If it is missing, skip the test, or fail it with ``CI=true`` in the environment."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found
