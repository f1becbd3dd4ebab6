"""
The latency of a healthy client while other clients attack, beside its latency without them.

One client asks, is answered, and asks again. Meanwhile a process of its own attacks the server, as described in
`ATTACKS`. Each attack lasts as long as the client is measured, and stops by itself. Server and client have their own
processors, if there are two. The attacker shares the client's processor, at a lower priority.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from benchmarks import handshake
from benchmarks.echo import ROOT, Load, Server, serving
from benchmarks.machine import cpu_seconds, pin, processors, raise_file_limit, unpin
from benchmarks.report import Row

GROUP = "a healthy client's latency, 99 of 100, under attack"
GOAL = 3.0
"""The limit of the latency under attack, as a multiple of the latency alone: the project's own."""
FILES = 11_000
LONGEST = 20.0
"""Seconds after which an attacker ends, whatever happens."""
LINGER = struct.pack("ii", 1, 0)
EMPTY = struct.pack(">I", 0)
LARGE = 1_000_000
"""Bytes of a line that is nearly as long as allowed."""
MEMBERS = 300
LEAST = 30
"""The least number of questions, however long they take."""

Attack = Callable[[int, Callable[[], bool]], None]


def dial(port: int) -> socket.socket:
    """Return a connection that does not block when it writes."""
    found = socket.create_connection(("127.0.0.1", port), timeout=LONGEST)
    found.setblocking(False)
    return found


def push(client: socket.socket, data: bytes) -> int:
    """Send as many bytes as possible, and return their number. A closed connection stays closed."""
    with contextlib.suppress(OSError):
        return client.send(data)
    return 0


def be_idle(port: int, goes_on: Callable[[], bool]) -> None:
    """No fault: 10,000 clients that are connected, and send nothing."""
    clients = [dial(port) for _ in range(10_000)]
    while goes_on():
        time.sleep(0.02)
    for each in clients:
        each.close()


def drip(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 1: 500 clients that send a byte of a long message now and then."""
    clients = [dial(port) for _ in range(500)]
    for each in clients:
        push(each, struct.pack(">I", 1000))
    while goes_on():
        for each in clients:
            push(each, b"x")
        time.sleep(0.1)


def read_nothing(port: int, goes_on: Callable[[], bool]) -> None:
    """Rows 2 and 25: 200 clients that send as much as possible, and never read the replies."""
    clients = [dial(port) for _ in range(200)]
    message = struct.pack(">I", 10_000) + b"x" * 10_000
    taken, full = time.monotonic(), time.monotonic() + LONGEST / 2
    while time.monotonic() < min(taken + 0.5, full):
        if sum(push(each, message) for each in clients):
            taken = time.monotonic()
    while goes_on():
        for each in clients:
            push(each, message)
        time.sleep(0.01)


def announce_giants(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 3: one client after the other that announces 4 GiB."""
    while goes_on():
        with contextlib.suppress(OSError), dial(port) as client:
            push(client, b"\xff\xff\xff\xff")
            select.select([client], [], [], 1)


def send_in_crumbs(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 4: ten clients that send a large legal message a byte at a time."""
    clients = [dial(port) for _ in range(10)]
    for each in clients:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        push(each, struct.pack(">I", 60_000))
    while goes_on():
        for each in clients:
            push(each, b"x")
        time.sleep(0.001)


def flood(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 5: one client that sends empty messages as fast as possible, and reads the replies."""
    client = dial(port)
    data = EMPTY * 16_384
    while goes_on():
        readable, writable, _ = select.select([client], [client], [], 0.1)
        if readable and not client.recv(1 << 20):
            return
        if writable:
            push(client, data)


def reset_in_the_middle(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 7: one client after the other that resets the connection inside a message."""
    while goes_on():
        with contextlib.suppress(OSError), dial(port) as client:
            push(client, struct.pack(">I", 100) + b"x")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)


def come_and_go(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 10: as many clients as possible connect and leave, all the time."""
    clients: list[socket.socket] = []
    while goes_on():
        with contextlib.suppress(OSError):
            clients.append(dial(port))
        if len(clients) > 2000:
            for each in clients:
                each.close()
            clients.clear()


def shake_no_hands(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 11: one client after the other that begins a TLS handshake and stops; the server's key is ECDSA P-256."""
    clients: list[socket.socket] = []
    while goes_on():
        with contextlib.suppress(OSError):
            client = dial(port)
            push(client, handshake.client_hello())
            clients.append(client)
        if len(clients) > 500:
            for each in clients:
                each.close()
            clients.clear()
        time.sleep(0.005)


def shake_no_hands_rsa(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 11: one client after the other that begins a TLS handshake and stops; the server's key is RSA 2048."""
    shake_no_hands(port, goes_on)


def speak_http(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 26: one client after the other that sends an HTTP request."""
    while goes_on():
        with contextlib.suppress(OSError), dial(port) as client:
            push(client, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            select.select([client], [], [], 1)


def flood_with_json(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 34: 20 clients that send JSON lines of 30 kB, all of it empty lists."""
    flood_from([dial(port) for _ in range(20)], json_line(30_000), goes_on)


def flood_with_large_json(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 34: 20 clients that send JSON lines of 1 MB, all of it empty lists."""
    flood_from([dial(port) for _ in range(20)], json_line(LARGE), goes_on)


def flood_with_skipped(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 34: 20 clients that send lines of 3 bytes, which are over the server's max and skipped."""
    flood_from([dial(port) for _ in range(20)], b"abc\n" * 15_000, goes_on)


def be_in_a_chat(port: int, goes_on: Callable[[], bool]) -> None:
    """No fault: 300 members of a chat that send nothing, and read."""
    flood_from(join(port, MEMBERS), b"", goes_on)


def flood_a_chat(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 34: one of 300 members of a chat sends as fast as possible; measured is a line from one client to another."""
    flood_from(join(port, MEMBERS), b"x\n" * 8192, goes_on, 1)


def json_line(size: int) -> bytes:
    """Return a line of about this many bytes that takes long to decode for its size."""
    return b"[" + b"[]," * (size // 3 - 1) + b"1]\n"


def join(port: int, how_many: int) -> list[socket.socket]:
    """Connect `how_many` members of a chat."""
    found = []
    for place in range(how_many):
        found.append(dial(port))
        push(found[-1], b"member-%d\n" % place)
    return found


def flood_from(clients: list[socket.socket], data: bytes, goes_on: Callable[[], bool], how_many: int = 0) -> None:
    """
    Send `data` again and again, as fast as possible, from the first `how_many` clients (0: all). All clients read.
    """
    senders = dict.fromkeys(clients[: how_many or None] if data else (), 0)
    files = {each.fileno(): each for each in clients}
    poll = select.epoll()
    for each in clients:
        poll.register(each, select.EPOLLIN | (select.EPOLLOUT if each in senders else 0))
    while goes_on():
        for file, event in poll.poll(0.02):
            each = files[file]
            if event & ~select.EPOLLOUT and not drained(each):
                poll.unregister(file)
            elif event & select.EPOLLOUT:
                senders[each] = (senders[each] + push(each, data[senders[each] :])) % len(data)


def drained(client: socket.socket) -> bool:
    """Read the received bytes, and return whether the client is still connected."""
    with contextlib.suppress(BlockingIOError):
        try:
            return bool(client.recv(1 << 20))
        except ConnectionError:
            return False
    return True


ATTACKS: dict[str, Attack] = {
    each.__name__: each
    for each in (
        be_idle,
        drip,
        read_nothing,
        announce_giants,
        send_in_crumbs,
        flood,
        reset_in_the_middle,
        come_and_go,
        shake_no_hands,
        shake_no_hands_rsa,
        speak_http,
        flood_with_json,
        flood_with_large_json,
        flood_with_skipped,
        be_in_a_chat,
        flood_a_chat,
    )
}

WITH_TLS: dict[Attack, str] = {shake_no_hands: "tcpapp-tls", shake_no_hands_rsa: "tcpapp-tls-rsa"}
"""
The attacks on TLS, and their servers.

One step of a handshake cannot be cut. So the goal is about the latency minus OpenSSL's time for one step.
"""


SERVERS = {
    "flood_with_json": "tcpapp-json",
    "flood_with_large_json": "tcpapp-json",
    "flood_with_skipped": "tcpapp-skip",
    "be_in_a_chat": "tcpapp-chat",
    "flood_a_chat": "tcpapp-chat",
}
"""The server of an attack, if it is not "tcpapp"."""
DECODED = {"flood_with_json": json_line(30_000), "flood_with_large_json": json_line(LARGE)}
"""The largest message of an attack, if it takes long. No other is served meanwhile, so its time is subtracted."""
COMPANY = {"flood_a_chat": "be_in_a_chat"}
"""The load during the measurement without the attack, if only the attack must differ."""


@contextlib.contextmanager
def asking(name: str, server: Server) -> Iterator[Callable[[], None]]:
    """Give a function with which a client asks an attacked server once, and waits for the answer."""
    talks = name == "flood_a_chat"
    with ExitStack() as stack:
        us, partner = (
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=LONGEST)) for _ in "12"
        )
        us.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not talks:
            yield lambda: ask(us, b"1\n", us, b"1\n")
            return
        for place, each in enumerate((us, partner)):
            ask(each, b"healthy-%d\n" % place, each, b"Hello")
        counted = itertools.count()
        yield lambda: ask_through(us, partner, next(counted))


def ask(us: socket.socket, data: bytes, hears: socket.socket, until: bytes) -> None:
    """Send `data`, and read at the receiving end until `until` has come."""
    us.sendall(data)
    heard = b""
    while until not in heard:
        came = hears.recv(1 << 16)
        if not came:
            raise RuntimeError("a healthy client was cut")
        heard = heard[-len(until) :] + came


def ask_through(us: socket.socket, partner: socket.socket, count: int) -> None:
    """
    Send a line to a chat, and read at a partner's until it has come among all other lines. Drop the sender's own lines.
    """
    ask(us, b"?%d\n" % count, partner, b": ?%d\n" % count)
    us.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while us.recv(1 << 16):
            pass
    us.settimeout(LONGEST)


def latency(name: str, server: Server, seconds: float) -> float:
    """
    Return within how many microseconds 99 of 100 questions are answered, asked one at a time for this many seconds.
    """
    pin(0, processors().load)
    took = []
    try:
        with asking(name, server) as again:
            ends = time.perf_counter() + seconds
            while (began := time.perf_counter()) < ends or len(took) < LEAST:
                again()
                took.append(time.perf_counter() - began)
    finally:
        unpin()
    return sorted(took)[len(took) * 99 // 100] * 1e6


def message_time(name: str, server: Server) -> tuple[float, float]:
    """Return medians in microseconds: the server's processor time for an attack's largest message, and its decoding."""
    message = DECODED.get(name)
    if message is None:
        return 0.0, 0.0
    took, decoded = [], []
    with socket.create_connection(("127.0.0.1", server.port), timeout=LONGEST) as client:
        for _ in range(5):
            before = cpu_seconds(server.pid)[0]
            client.sendall(message)
            while not client.recv(1 << 20).endswith(b"\n"):
                pass
            took.append((cpu_seconds(server.pid)[0] - before) * 1e6)
            decoded.append(server.told()["decode"] * 1e6)
    return statistics.median(took), statistics.median(decoded)


@contextlib.contextmanager
def under(name: str, server: Server) -> Iterator[None]:
    """Attack during the block. The attack has begun when the block begins."""
    command = [sys.executable, "-m", "benchmarks.attacks", name, str(server.tls_port or server.port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        pin(process.pid, processors().load)
        if process.stdout and process.stdin:
            process.stdout.read(1)
            try:
                yield
            finally:
                process.stdin.close()


def run(rounds: int, quick: bool) -> list[Row]:
    """Measure each attack, in turn, with a server of its own, alternating with rounds without the attack."""
    rounds = min(rounds, 3)  # all groups together must take less than ten minutes
    raise_file_limit(FILES)
    seconds = 0.5 if quick else 1.2
    load = Load(1, seconds, connections=1)
    found = []
    costs = [name for name in SERVERS if name not in COMPANY.values()]
    for name in (each for each in ATTACKS if each not in (*costs, *COMPANY.values())):
        alone, attacked = [], []
        with ExitStack() as stack:
            server = stack.enter_context(serving(WITH_TLS.get(ATTACKS[name], SERVERS.get(name, "tcpapp"))))
            for _ in range(rounds):
                alone.append(load.against(server)["p99_us"])
                with under(name, server):
                    attacked.append(load.against(server)["p99_us"])
        title, one_step = title_of(name), 0.0
        if ATTACKS[name] in WITH_TLS:
            one_step = handshake.microseconds(WITH_TLS[ATTACKS[name]])
            title += f" (compared less one handshake, {one_step:.0f} us)"
        ratios = [max(0.0, worse - one_step) / better for worse, better in zip(attacked, alone, strict=True)]
        found.append(Row(GROUP, title, "us", attacked, ratios, "alone", alone, goal=GOAL, at_least=False))
    return found + [slow_messages(name, min(rounds, 2), seconds * 2.5) for name in costs]


def title_of(name: str) -> str:
    """Return the description of an attack."""
    return (ATTACKS[name].__doc__ or "").partition(": ")[2].rstrip(".")


def slow_messages(name: str, rounds: int, seconds: float) -> Row:
    """
    Measure an attack by messages that take long. The time of one of them is subtracted, because none is interrupted.
    """
    alone, attacked = [], []
    with serving(SERVERS[name]) as server:
        allowed, decode = message_time(name, server)
        for _ in range(rounds):
            with under(COMPANY[name], server) if name in COMPANY else contextlib.nullcontext():
                alone.append(latency(name, server, seconds))
            with under(name, server):
                attacked.append(latency(name, server, seconds))
    ratios = [max(0.0, worse - allowed) / better for worse, better in zip(attacked, alone, strict=True)]
    title = title_of(name)
    if allowed:
        title += f" (without the {allowed / 1000:.1f} ms of one message, {decode / 1000:.1f} of them its decoding)"
    extra: dict[str, object] = {"message_us": allowed, "decode_us": decode}
    return Row(GROUP, title, "us", attacked, ratios, "alone", alone, goal=GOAL, at_least=False, extra=extra)


def main(name: str, port: int) -> None:
    """
    Attack until standard input ends. Print a character when the attack first asks whether to go on, since it has begun
    then.
    """
    # The client has priority: it must wait only for the server, and not for an attack on the same processor.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    raise_file_limit(FILES)
    began, looked = time.monotonic(), [0.0, True]

    def goes_on() -> bool:
        if not looked[0]:
            sys.stdout.write(".")
            sys.stdout.flush()
        now = time.monotonic()
        if now - looked[0] > 0.02:  # standard input is only checked now and then
            looked[:] = [now, not select.select([sys.stdin], [], [], 0)[0] and now - began < LONGEST]
        return bool(looked[1])

    ATTACKS[name](port, goes_on)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ATTACKS:
        sys.exit(f"usage: python -m benchmarks.attacks {'|'.join(ATTACKS)} PORT")
    main(sys.argv[1], int(sys.argv[2]))
