"""
The memory limit: how much memory a server takes beyond idle connections, when its account is near its bound.

Each load brings a server with a small ``max_buffered`` (`benchmarks.bounded`) to its bound within seconds, and stops by
itself. The result is a factor: the greatest resident memory, minus the memory with the same connections idle, divided
by ``max_buffered``. Each load has a new process, and so has each kind of attacked server. Both reactors are measured at
the same time, because other work does not change memory. When all connections have ended, the account must be 0.

`LOADS` are made for this measurement; the attacks come from `benchmarks.attacks`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.attacks import ATTACKS, LINGER, SERVERS, push, title_of, under
from benchmarks.bounded import BOUND
from benchmarks.echo import Server, serving
from benchmarks.machine import forget_peak, peak_bytes, raise_file_limit, resident_bytes
from benchmarks.report import Row

GROUP = "memory over idle connections, of max_buffered (first column: the account at its peak)"
TLS_GROUP = "the same with TLS: OpenSSL's memory is not in the account"
ENDED = "the account when all connections have ended"
GOAL = 2.0
"""The limit of the memory as a multiple of the account: the project's own."""
REACTORS = ("", "uvloop")
FILES = 6000
PATIENCE = 20.0
RECEIVE_BUFFER = 4096
"""Bytes of each client's receive buffer: unread bytes must wait in the server's process."""

KIB = 1024
MESSAGE = 48 * KIB
EMPTY_LISTS, EMPTY_DICTS, FLOATS = b"[]", b"{}", b"0.1"

NEAR, AFTER, LOOKS = 0.95, 0.5, 0.2
ATTACKED = 0.8
"""Seconds of each attack."""

GoesOn = Callable[[], bool]
Drive = Callable[[list[socket.socket], GoesOn, int], None]


@dataclass(frozen=True)
class Pressure:
    """A load: `clients` clients of a `server`, and what they do until they are stopped."""

    title: str
    server: str
    clients: int
    drive: Drive
    seconds: float = 2.0


def int32(message: bytes) -> bytes:
    """Return a message after its length."""
    return struct.pack(">I", len(message)) + message


def dense(item: bytes, size: int = MESSAGE) -> bytes:
    """Return a JSON message of about this many bytes, made of these items."""
    return b"[" + b",".join([item] * (size // (len(item) + 1))) + b"]"


def push_all(clients: Sequence[socket.socket], data: bytes, goes_on: GoesOn) -> None:
    """Send `data` again and again on each connection, as much as possible, and read nothing."""
    sent = [0] * len(clients)
    while goes_on():
        moved = False
        for place, each in enumerate(clients):
            at = sent[place] % len(data)
            if taken := push(each, data[at:]):
                sent[place] += taken
                moved = True
            if not goes_on():
                break
        if not moved:
            time.sleep(0.01)


# The clients ---------------------------------------------------------------------------------------------------------


def reset_in_mid_stream(clients: list[socket.socket], goes_on: GoesOn, port: int) -> None:
    """Ask for a stream on each connection, read some of it, and reset. Another client replaces each that was reset."""
    for each in clients:
        push(each, int32(b"a"))
    time.sleep(0.5)
    while goes_on():
        for place, each in enumerate(clients):
            with contextlib.suppress(OSError):
                each.recv(256 * KIB)
            if not place % 4:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
                each.close()
                clients[place] = dial(port)
                push(clients[place], int32(b"a"))
        clients.append(clients.pop(0))
        time.sleep(0.01)


def ask_and_half_close(clients: list[socket.socket], goes_on: GoesOn, port: int) -> None:
    """Ask for a large reply on each connection, half-close, and read nothing."""
    for each in clients:
        push(each, b"a\n")
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_WR)
    wait(goes_on)


def send_little_to_stalled_peers(clients: list[socket.socket], goes_on: GoesOn, port: int) -> None:
    """Join a chat with all clients. One of them sends tiny lines, and the others read none of them."""
    for place, each in enumerate(clients):
        push(each, b"member-with-name-%d\n" % place)
    time.sleep(0.3)
    push_all(clients[-1:], b"x\n" * 512, goes_on)


def push_json(item: bytes, size: int = MESSAGE, first: bytes = b"") -> Drive:
    """Return a function that sends messages of such items, after a `first` one."""

    def drive(clients: list[socket.socket], goes_on: GoesOn, port: int) -> None:
        if first:
            for each in clients:
                push(each, int32(first))
        push_all(clients, int32(dense(item, size)), goes_on)

    return drive


def end_at_once(clients: list[socket.socket], goes_on: GoesOn, port: int) -> None:
    """Send 1 MiB of JSON without its end on each connection, and then all ends at the same moment."""
    data, sent = int32(dense(EMPTY_LISTS, 1000 * KIB)), dict.fromkeys(clients, 0)
    while goes_on() and any(at < len(data) - 1 for at in sent.values()):
        for each, at in sent.items():
            sent[each] += push(each, data[at:-1])
        time.sleep(0.001)
    for each in clients:
        push(each, data[-1:])
    wait(goes_on)


def push_lines(clients: list[socket.socket], goes_on: GoesOn, port: int) -> None:
    """Send lines of two bytes, and read no reply."""
    push_all(clients, b"ab\n" * 20_000, goes_on)


def push_messages(clients: list[socket.socket], goes_on: GoesOn, port: int) -> None:
    """Send messages of 1,000 bytes, and read no reply."""
    push_all(clients, int32(b"x" * 1000) * 64, goes_on)


def begin_messages(clients: list[socket.socket], goes_on: GoesOn, port: int) -> None:
    """Send a long message without its end on each connection."""
    data, sent = int32(b"x" * 1000 * KIB)[:-1], dict.fromkeys(clients, 0)
    while goes_on() and any(at < len(data) for at in sent.values()):
        for each, at in sent.items():
            sent[each] += push(each, data[at:])
        time.sleep(0.005)
    wait(goes_on)


def wait(goes_on: GoesOn) -> None:
    """Do nothing until the load is over."""
    while goes_on():
        time.sleep(0.02)


LOADS = (
    Pressure("200 reset in the middle of a stream of replies", "stream", 200, reset_in_mid_stream),
    Pressure("60 ask for 12 MB each, half-close, read nothing", "large", 60, ask_and_half_close),
    Pressure(
        "a chat with 20 that do not read, and one that says little", "chat", 21, send_little_to_stalled_peers, 6.0
    ),
    Pressure("[[],[],…] in an async app's hands", "hold", 100, push_json(EMPTY_LISTS)),
    Pressure("[{},{},…] in an async app's hands", "hold", 100, push_json(EMPTY_DICTS)),
    Pressure("[0.1,0.1,…] in an async app's hands", "hold", 100, push_json(FLOATS)),
    Pressure("1 MiB of [[],[],…], each", "hold", 20, push_json(EMPTY_LISTS, 1000 * KIB)),
    Pressure("40 with 1 MiB of [[],[],…], ended at once", "hold", 40, end_at_once, 4.0),
    Pressure("[{},{},…] behind a slow app", "slow", 900, push_json(EMPTY_DICTS, 1000, b"1"), 3.0),
    Pressure("[{},{},…] in a conversation's hands", "talk", 100, push_json(EMPTY_DICTS)),
    Pressure("900 send 2-byte lines, read nothing", "lines", 900, push_lines, 3.0),
    Pressure("200 begin 1 MB and do not end it", "echo", 200, begin_messages),
)

TLS_LOADS = (
    Pressure("200 send 1,000-byte messages, read nothing", "echo-tls", 200, push_messages, 3.0),
    Pressure("60 ask for 12 MB each, read nothing", "large-tls", 60, lambda c, g, p: push_all(c, b"a\n", g)),
    Pressure("200 begin 1 MB and do not end it", "echo-tls", 200, begin_messages, 3.0),
)

CLIENTS = {"be_idle": 10_000, "drip": 500, "read_nothing": 200, "send_in_crumbs": 10, "come_and_go": 2000}
CLIENTS |= {"shake_no_hands": 500, "flood_with_json": 20, "flood_with_large_json": 20, "flood_a_chat": 300}
CLIENTS |= {"flood_with_skipped": 20}
"""How many connections an attack opens, if there is more than one."""
NOT_ATTACKS = ("be_idle", "be_in_a_chat")


# The measurement -----------------------------------------------------------------------------------------------------


def dial(port: int, *, tls: bool = False) -> socket.socket:
    """Return a connection with a small receive buffer."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    found.settimeout(PATIENCE)
    found.connect(("127.0.0.1", port))
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        found = context.wrap_socket(found)
    found.setblocking(False)
    return found


def settle(server: Server, connections: int) -> dict[str, Any]:
    """Wait until the server has this many connections, and return its report."""
    deadline = time.monotonic() + PATIENCE
    while (told := server.told())["connections"] != connections:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} has {told['connections']} connections, not {connections}")
        time.sleep(0.02)
    return told


@contextlib.contextmanager
def many_clients(server: Server, how_many: int, *, tls: bool = False) -> Iterator[list[socket.socket]]:
    """Give this many open connections, all of them accepted."""
    clients: list[socket.socket] = []
    try:
        clients.extend(dial(server.tls_port if tls else server.port, tls=tls) for _ in range(how_many))
        settle(server, how_many)
        yield clients
    finally:
        for each in clients:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            each.close()


@dataclass(frozen=True)
class Outcome:
    """
    The results of a server: the maximum of its account, its memory over idle, and the account after all have ended.
    """

    account: float
    memory: float
    left: int
    shed: int


class Watch:
    """
    A watch over a load, which ends after this many seconds, or `AFTER` seconds once the account is near its bound.
    """

    def __init__(self, server: Server, seconds: float) -> None:
        self._server = server
        self._ends = time.monotonic() + seconds
        self._looks = 0.0
        self.idle = resident_bytes(server.pid)
        self.most = 0
        forget_peak(server.pid)

    def goes_on(self) -> bool:
        """Return whether the load goes on."""
        now = time.monotonic()
        if now > self._looks:
            self._looks = now + LOOKS
            before, self.most = self.most, max(self.most, self._server.told()["peak"])
            if before < NEAR * BOUND <= self.most:
                self._ends = min(self._ends, now + AFTER)
        return now < self._ends

    def outcome(self) -> Outcome:
        """Return the results, once all connections have ended."""
        told = settle(self._server, 0)
        memory = max(0, peak_bytes(self._server.pid) - self.idle)
        return Outcome(max(self.most, told["peak"]) / BOUND, memory / BOUND, told["buffered"], told["shed"])


def pressed(load: Pressure, part: float, reactor: str) -> list[Outcome]:
    """Run one load, for its part of the seconds, on one reactor, and return its outcome."""
    tls = load.server.endswith("-tls")
    with serving(_name(load.server, reactor)) as server:
        with many_clients(server, load.clients, tls=tls) as clients:
            watch = Watch(server, load.seconds * part)
            load.drive(clients, watch.goes_on, server.port)
        return [watch.outcome()]


def attacked(kind: str, names: Sequence[str], part: float, reactor: str) -> list[Outcome]:
    """Run one attack after the other on one server. Each begins when all connections of the one before have ended."""
    found = []
    with serving(_name(kind, reactor)) as server:
        for name in names:
            with many_clients(server, CLIENTS.get(name, 1)):
                watch = Watch(server, ATTACKED * part)
            settle(server, 0)
            with under(name, server):
                wait(watch.goes_on)
            found.append(watch.outcome())
    return found


def attacks() -> dict[str, list[str]]:
    """
    Return the attacks on each kind of server. The attack that leaves the most memory to the allocator is the last.
    """
    found: dict[str, list[str]] = {}
    for name in ATTACKS:
        if name not in NOT_ATTACKS:
            found.setdefault(_kind(name), []).append(name)
    return {kind: sorted(names, key="read_nothing".__eq__) for kind, names in found.items()}


def _kind(name: str) -> str:
    """Return the name of the attacked server in `benchmarks.bounded`."""
    kind = SERVERS.get(name, "tcpapp-echo").removeprefix("tcpapp-")
    return "echo-tls" if kind == "tls" else kind


def _name(kind: str, reactor: str) -> str:
    return f"bounded-{kind}" + (f"@{reactor}" if reactor else "")


def rows(titles: Sequence[str], measure: Callable[[str], list[Outcome]], group: str, goal: float | None) -> list[Row]:
    """Return rows with these titles, one for each reactor. Both reactors are measured at the same time."""
    with ThreadPoolExecutor(len(REACTORS)) as both:
        found = list(both.map(measure, REACTORS))
    return [
        Row(
            group,
            f"{title}, {reactor or 'epoll'}",
            "%",
            [100 * came.account],
            [came.memory],
            goal=goal,
            at_least=False,
            extra={"left": came.left, "shed": came.shed},
        )
        for title, outcomes in zip(titles, zip(*found, strict=True), strict=True)
        for reactor, came in zip(REACTORS, outcomes, strict=True)
    ]


def run(rounds: int, quick: bool) -> list[Row]:
    """Return all rows, from one round in any case, since memory hardly varies."""
    raise_file_limit(FILES)
    part = 0.5 if quick else 1.0
    found = []
    for load in LOADS[:: 4 if quick else 1]:
        found += rows([load.title], partial(pressed, load, part), GROUP, GOAL)
    for kind, names in ({} if quick else attacks()).items():
        found += rows([*map(title_of, names)], partial(attacked, kind, names, part), GROUP, GOAL)
    for load in () if quick else TLS_LOADS:
        found += rows([load.title], partial(pressed, load, part), TLS_GROUP, None)
    left = [int(str(row.extra["left"])) for row in found]
    found.append(Row(ENDED, "the most of all of these", "bytes", left, [max(left)], "", (), "bytes", 0, at_least=False))
    return found
