"""
Memory of an idle connection: how much a server's heap grows when connections are opened and left alone.

The first hundreds of connections are not counted, because they also pay for things that are made once: imports, tables,
pools. Each figure comes from a server process of its own. The kernel's socket buffers, which are the same for all
servers, are not included.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from benchmarks.echo import Server, serving
from benchmarks.machine import heap_bytes, open_files, raise_file_limit
from benchmarks.report import Row

GROUP = "memory of an idle connection, server's heap"
GOALS: tuple[tuple[str, str, str, bool, int | None], ...] = (
    ("that never spoke, on epoll", "tcpapp-compiled", "twisted-bare", False, 2200),
    ("that never spoke, on tcpapp.reactor", "tcpapp-compiled@uvloop", "twisted-bare@uvloop", False, 3600),
    ("after one message, on epoll", "tcpapp-compiled", "twisted-bare", True, 2800),
    ("after one message, on tcpapp.reactor", "tcpapp-compiled@uvloop", "twisted-bare@uvloop", True, None),
)
"""The rows: tcpapp's server, its peer, whether each connection has spoken, and the most bytes: our choice."""
TLS_GOAL = 40_000
"""Bytes in total, most of which OpenSSL takes."""
FIRST = 500
RESERVE = 100
PATIENCE = 20.0
TITLES = {"twisted-bare": "bare Twisted Protocol", "twisted-int32": "Twisted Int32StringReceiver"}
MESSAGE = b"x" * 64
FRAME = struct.pack(">I", len(MESSAGE)) + MESSAGE


@contextmanager
def accepted(server: Server, how_many: int) -> Iterator[None]:
    """Wait at the end of the block until `how_many` connections that were opened in it are accepted."""
    already = open_files(server.pid)
    yield
    deadline = time.monotonic() + PATIENCE
    while open_files(server.pid) < already + how_many:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} did not accept {how_many} connections")
        time.sleep(0.02)


def connect(server: Server, how_many: int) -> list[socket.socket]:
    """Return `how_many` connections, all of them accepted."""
    with accepted(server, how_many):
        return [socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) for _ in range(how_many)]


def talk(connections: Sequence[socket.socket]) -> None:
    """Send one message on each connection, and read its echo."""
    for each in connections:
        each.sendall(FRAME)
    for each in connections:
        if each.recv(len(FRAME), socket.MSG_WAITALL) != FRAME:
            raise RuntimeError("an echo is not what was sent")


def settled_heap(server: Server) -> int:
    """Return the server's heap once it has stopped changing, or its last value if another thread of it goes on."""
    deadline = time.monotonic() + PATIENCE
    before, after = -1, heap_bytes(server.pid)
    while before != after and time.monotonic() < deadline:
        time.sleep(0.05)
        before, after = after, heap_bytes(server.pid)
    return after


def bytes_each(name: str, connections: int, *, spoken: bool) -> float:
    """
    Return the heap bytes of one idle connection to the server `name`; with `spoken`, after one message and its reply.
    """
    step: Callable[[Sequence[socket.socket]], None] = talk if spoken else lambda _: None
    opened: list[socket.socket] = []
    with serving(name) as server:
        try:
            opened += connect(server, FIRST)
            step(opened)
            before = settled_heap(server)
            opened += connect(server, connections)
            step(opened[FIRST:])
            return (settled_heap(server) - before) / connections
        finally:
            for each in opened:
                each.close()


def bytes_each_with_tls(connections: int) -> float:
    """Return the heap bytes of one idle connection after a TLS handshake and without messages."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opened: list[socket.socket] = []

    def shake(how_many: int) -> None:
        for _ in range(how_many):
            plain = socket.create_connection(("127.0.0.1", server.tls_port), timeout=PATIENCE)
            opened.append(context.wrap_socket(plain))

    with serving("tcpapp-tls") as server:
        try:
            shake(FIRST)
            before = settled_heap(server)
            shake(connections)
            return (settled_heap(server) - before) / connections
        finally:
            for each in opened:
                each.close()


def compare(
    name: str, server: str, peer: str, connections: int, rounds: int, *, spoken: bool, goal: float | None
) -> Row:
    """Return a row of tcpapp's connection beside a peer's. The goal is about tcpapp's alone."""
    ours, peers = [], []
    for _ in range(rounds):
        ours.append(bytes_each(server, connections, spoken=spoken))
        peers.append(bytes_each(peer, connections, spoken=spoken))
    return Row(GROUP, name, "bytes", ours, ours, TITLES[peer.partition("@")[0]], peers, "bytes", goal, at_least=False)


def run(rounds: int, quick: bool) -> list[Row]:
    """Return all rows. Memory hardly varies, so three rounds are enough."""
    connections = 1500 if quick else 4000
    connections = min(connections, raise_file_limit(connections + FIRST + RESERVE) - FIRST - RESERVE)
    if connections < FIRST:
        raise RuntimeError("too few files may be open here to measure memory (ulimit -n)")
    rounds = 1 if quick else min(rounds, 3)
    found = [
        compare(name, server, peer, connections, rounds, spoken=spoken, goal=goal)
        for name, server, peer, spoken, goal in GOALS
    ]
    each = [bytes_each_with_tls(1000) for _ in range(rounds)]
    found.append(
        Row(
            GROUP,
            "with TLS, that never spoke",
            "bytes",
            each,
            each,
            compared_unit="bytes",
            goal=TLS_GOAL,
            at_least=False,
        )
    )
    if not quick:
        name = "after one message, on epoll"
        found.append(compare(name, "tcpapp-compiled", "twisted-int32", connections, 1, spoken=True, goal=None))
    return found
