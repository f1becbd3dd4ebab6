"""
Messages that take time, all at once on one connection: how long until every one of them is answered.

The app waits for 10 ms, as for a database, and works on no message meanwhile. One message at a time would take ten
seconds. The peer is a server on asyncio's streams that makes a task for each message.
"""

from __future__ import annotations

import socket
import struct
import time

from benchmarks.echo import Server, serving
from benchmarks.report import Row, ratio_row

MESSAGES = 1000
GROUP = f"{MESSAGES:,} messages of 10 ms each, at once, on one connection"
GOAL = 0.2
"""Seconds. One message takes 10 ms of them, so the rest is the work for 1,000."""
PATIENCE = 60.0
OURS = ("tcpapp-waiting", "tcpapp-waiting@uvloop", "tcpapp-waiting-ready")
TITLES = ("replies in order", "replies in order, on tcpapp.reactor", "replies as they are ready")
PEER = "asyncio-waiting"


def seconds(server: Server) -> float:
    """Return the seconds from the first byte of the messages to the last byte of the replies, which are checked."""
    messages = [b"%032d" % number for number in range(MESSAGES)]
    stream = b"".join(struct.pack(">I", len(each)) + each for each in messages)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        began = time.perf_counter()
        connection.sendall(stream)
        heard = b""
        while len(heard) < len(stream):
            heard += connection.recv(1 << 16)
        took = time.perf_counter() - began
    if {heard[at + 4 : at + 36] for at in range(0, len(heard), 36)} != set(messages):
        raise RuntimeError(f"{server.name}: the replies are not the messages")
    return took


def run(rounds: int, _quick: bool) -> list[Row]:
    """Return all rows."""
    found: dict[str, list[float]] = {}
    for name in (*OURS, PEER):
        with serving(name) as server:
            seconds(server)  # a warm-up
            found[name] = [seconds(server) for _ in range(rounds)]
    rows = [
        Row(GROUP, title, "s", found[name], found[name], compared_unit="s", goal=GOAL, at_least=False)
        for name, title in zip(OURS, TITLES, strict=True)
    ]
    return [*rows, ratio_row(GROUP, TITLES[0], found[OURS[0]], "asyncio streams, tasks", found[PEER], unit="s")]
