"""
The client for scripts, `tcpapp.blocking`, beside a plain socket that does the same work.

``python -m benchmarks.blocking NAME PORT SECONDS`` is one of the callers, in a process of its own. It prints how many
messages a second came back.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.echo import ROOT, Server, serving
from benchmarks.machine import pin, processors
from benchmarks.report import Row, ratio_row

GROUP = "scripts (tcpapp.blocking), 64-byte messages"
MESSAGE = b"x" * 64
FRAME = struct.pack(">I", len(MESSAGE)) + MESSAGE
IN_A_LOOP = 1000
"""How many messages are sent in a loop, before their replies are received in a loop."""
PATIENCE = 60.0


def by_socket(port: int) -> Callable[[], int]:
    """Return a function that asks once, over a plain socket."""
    peer = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask() -> int:
        peer.sendall(FRAME)
        check(peer.recv(len(FRAME), socket.MSG_WAITALL), FRAME)
        return 1

    return ask


def by_request(port: int) -> Callable[[], int]:
    """Return a function that asks once by ``request``."""
    client = connected(port)

    def ask() -> int:
        check(client.request(MESSAGE), MESSAGE)
        return 1

    return ask


def by_loops(port: int) -> Callable[[], int]:
    """Return a function that calls ``send`` in a loop, and ``receive`` in another."""
    client = connected(port)

    def ask() -> int:
        for _ in range(IN_A_LOOP):
            client.send(MESSAGE)
        for _ in range(IN_A_LOOP):
            check(client.receive(), MESSAGE)
        return IN_A_LOOP

    return ask


def connected(port: int) -> Any:
    """Return a client that is connected."""
    from tcpapp import blocking

    return blocking.connect(f"tcp:127.0.0.1:{port}", framing="int32")


def check(reply: bytes, expected: bytes) -> None:
    """End the process if another reply came."""
    if reply != expected:
        sys.exit(f"{reply!r} came back")


CALLERS = {"socket": by_socket, "request": by_request, "loops": by_loops}


def call(name: str, port: int, seconds: float) -> None:
    """Call for this long, after a warm-up, and print how many messages a second came back."""
    ask = CALLERS[name](port)
    warm = time.perf_counter() + seconds / 3
    while time.perf_counter() < warm:
        ask()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        count += ask()
    print(count / (time.perf_counter() - began), flush=True)


def measured(name: str, server: Server, seconds: float) -> float:
    """Run a caller, and return its figure."""
    command = [sys.executable, "-m", "benchmarks.blocking", name, str(server.port), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        pin(process.pid, processors().load)
        out, _ = process.communicate(timeout=PATIENCE)
    return float(out)


def run(rounds: int, quick: bool) -> list[Row]:
    """Return all rows."""
    seconds = 0.3 if quick else 1.0
    found: dict[str, list[float]] = {name: [] for name in CALLERS}
    with serving("tcpapp-compiled") as server:
        for _ in range(rounds):
            for name in CALLERS:
                found[name].append(measured(name, server, seconds))
    return [
        ratio_row(GROUP, "request, one after the other", found["request"], "a socket", found["socket"], 0.7),
        Row(
            GROUP,
            f"send {IN_A_LOOP:,} times, then receive",
            "messages/s",
            found["loops"],
            found["loops"],
            compared_unit="messages/s",
            goal=150_000.0,
        ),
    ]


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in CALLERS:
        sys.exit(f"usage: python -m benchmarks.blocking {'|'.join(CALLERS)} PORT SECONDS")
    call(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
