"""
Bodies of 2 GB through a server, in each direction and in both at once: how much memory the server takes for them.

The client is a process with a thread for each direction, and holds one block. The figure is the growth of the server's
greatest resident memory over its memory before. The first column is the processor time that the server takes.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from benchmarks.echo import Server, serving
from benchmarks.machine import cpu_seconds, forget_peak, peak_bytes, resident_bytes
from benchmarks.report import Row

GROUP = "a body of {} through the server (first column: its processor time): growth of its memory"
MIB = 1024 * 1024
SIZE = 2048 * MIB
QUICK = 256 * MIB
GOAL = 64 * MIB
"""The project's own, for bodies of any length."""
BLOCK = bytes(MIB)
PATIENCE = 60.0
REACTORS = (("tcpapp-bodies", "epoll"), ("tcpapp-bodies@uvloop", "uvloop"))


def send(connection: socket.socket, size: int) -> None:
    """Send `size` bytes."""
    left = size
    while left:
        part = min(left, len(BLOCK))
        connection.sendall(BLOCK if part == len(BLOCK) else BLOCK[:part])
        left -= part


def receive(connection: socket.socket, size: int) -> None:
    """Receive `size` bytes, and drop them."""
    room = bytearray(MIB)
    left = size
    while left:
        got = connection.recv_into(room, min(left, len(room)))
        if not got:
            raise RuntimeError(f"the server closed with {left} bytes to come")
        left -= got


def to_the_server(connection: socket.socket, size: int) -> None:
    """Send a body, of which the server counts the bytes."""
    connection.sendall(b"put %d\r\n" % size)
    send(connection, size)
    expected = b"%d\r\n" % size
    if connection.recv(len(expected), socket.MSG_WAITALL) != expected:
        raise RuntimeError("the server has counted other bytes than were sent")


def from_an_iterator(connection: socket.socket, size: int) -> None:
    """Receive a body that an iterator of the server makes."""
    connection.sendall(b"get %d\r\n" % size)
    receive(connection, size)


def from_a_file(connection: socket.socket, size: int) -> None:
    """Receive a body that is a file of the server."""
    connection.sendall(b"file %d\r\n" % size)
    receive(connection, size)


def there_and_back(connection: socket.socket, size: int) -> None:
    """Send a body, and receive it again at the same time."""
    connection.sendall(b"echo %d\r\n" % size)
    sender = threading.Thread(target=send, args=(connection, size))
    sender.start()
    receive(connection, size)
    sender.join()


WAYS: dict[str, Callable[[socket.socket, int], None]] = {
    "to the server, read": to_the_server,
    "from an iterator": from_an_iterator,
    "from a file": from_a_file,
    "there and back": there_and_back,
}


def growth(server: Server, way: Callable[[socket.socket, int], None], size: int) -> tuple[float, int]:
    """Return the seconds of the server's processor time for a body, and the growth of its memory in bytes."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        forget_peak(server.pid)
        resident, (began, _) = resident_bytes(server.pid), cpu_seconds(server.pid)
        way(connection, size)
        return cpu_seconds(server.pid)[0] - began, max(0, peak_bytes(server.pid) - resident)


def run(_rounds: int, quick: bool) -> list[Row]:
    """Return all rows. Memory does not depend on other work, so one round is enough."""
    size = QUICK if quick else SIZE
    rows = []
    for name, reactor in REACTORS:
        with serving(name) as server:
            for title, way in WAYS.items():
                seconds, grown = growth(server, way, size)
                about = {"bytes": size, "growth": grown}
                rows.append(
                    Row(
                        GROUP.format(f"{size // MIB:,} MiB"),
                        f"{title}, {reactor}",
                        "s",
                        [seconds],
                        [grown],
                        compared_unit="bytes",
                        goal=GOAL,
                        at_least=False,
                        extra=about,
                    )
                )
    return rows
