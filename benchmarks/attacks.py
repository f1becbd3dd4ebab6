"""
A healthy client while others attack: how long it waits for its answers, beside how long it waits when it is alone.

One client asks, is answered, and asks again. Meanwhile a process of its own attacks the server, as `ATTACKS` has it;
each attack goes on for as long as the client is measured, and stops by itself. Server and client have their own
processors, where there are two; the attacker shares the client's, and gives way to it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from benchmarks import handshake
from benchmarks.echo import ROOT, Load, Server, serving
from benchmarks.machine import pin, processors, raise_file_limit
from benchmarks.report import Row

GROUP = "a healthy client's latency, 99 of 100, under attack"
GOAL = 3.0
"""How many times what it is without: the project's own."""
FILES = 11_000
LONGEST = 20.0
"""Seconds after which an attacker ends, whatever happens."""
LINGER = struct.pack("ii", 1, 0)
EMPTY = struct.pack(">I", 0)

Attack = Callable[[int, Callable[[], bool]], None]


def dial(port: int) -> socket.socket:
    """A connection, that does not wait when it writes."""
    found = socket.create_connection(("127.0.0.1", port), timeout=LONGEST)
    found.setblocking(False)
    return found


def push(client: socket.socket, data: bytes) -> int:
    """Send what it takes; what is closed, is. How many bytes it took."""
    with contextlib.suppress(OSError):
        return client.send(data)
    return 0


def be_idle(port: int, goes_on: Callable[[], bool]) -> None:
    """No fault: 10,000 that are connected, and say nothing."""
    clients = [dial(port) for _ in range(10_000)]
    while goes_on():
        time.sleep(0.02)
    for each in clients:
        each.close()


def drip(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 1: 500 that send a byte of a long message now and then."""
    clients = [dial(port) for _ in range(500)]
    for each in clients:
        push(each, struct.pack(">I", 1000))
    while goes_on():
        for each in clients:
            push(each, b"x")
        time.sleep(0.1)


def read_nothing(port: int, goes_on: Callable[[], bool]) -> None:
    """Rows 2 and 25: 200 that sent all that is taken, send more when more is, and never read what comes back."""
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
    """Row 3: one after the other that announces 4 GiB."""
    while goes_on():
        with contextlib.suppress(OSError), dial(port) as client:
            push(client, b"\xff\xff\xff\xff")
            select.select([client], [], [], 1)


def send_in_crumbs(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 4: ten that send a large legal message a byte at a time."""
    clients = [dial(port) for _ in range(10)]
    for each in clients:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        push(each, struct.pack(">I", 60_000))
    while goes_on():
        for each in clients:
            push(each, b"x")
        time.sleep(0.001)


def flood(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 5: one that sends empty messages as fast as they are taken, and reads the replies."""
    client = dial(port)
    data = EMPTY * 16_384
    while goes_on():
        readable, writable, _ = select.select([client], [client], [], 0.1)
        if readable and not client.recv(1 << 20):
            return
        if writable:
            push(client, data)


def reset_in_the_middle(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 7: one after the other that resets the connection inside a message."""
    while goes_on():
        with contextlib.suppress(OSError), dial(port) as client:
            push(client, struct.pack(">I", 100) + b"x")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)


def come_and_go(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 10: as many as can come, all the time."""
    clients: list[socket.socket] = []
    while goes_on():
        with contextlib.suppress(OSError):
            clients.append(dial(port))
        if len(clients) > 2000:
            for each in clients:
                each.close()
            clients.clear()


def shake_no_hands(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 11: one after the other that begins a TLS handshake, and leaves it there; the server's key is ECDSA P-256."""
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
    """Row 11: one after the other that begins a TLS handshake, and leaves it there; the server's key is RSA 2048."""
    shake_no_hands(port, goes_on)


def speak_http(port: int, goes_on: Callable[[], bool]) -> None:
    """Row 26: one after the other that takes us for a web server."""
    while goes_on():
        with contextlib.suppress(OSError), dial(port) as client:
            push(client, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            select.select([client], [], [], 1)


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
    )
}

WITH_TLS: dict[Attack, str] = {shake_no_hands: "tcpapp-tls", shake_no_hands_rsa: "tcpapp-tls-rsa"}
"""
The attacks on TLS, and the servers that they are on.

One step of a handshake cannot be cut. So the goal is about the latency less what OpenSSL takes for one.
"""


@contextlib.contextmanager
def under(name: str, server: Server) -> Iterator[None]:
    """The attack goes on for as long as the block; it is begun when the block begins."""
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
    """Each attack, in turn, with a server of its own; alone and attacked in turn."""
    rounds = min(rounds, 3)  # the whole is to take less than ten minutes
    raise_file_limit(FILES)
    seconds = 0.5 if quick else 1.2
    load = Load(1, seconds, connections=1)
    found = []
    for name, attack in ATTACKS.items():
        alone, attacked = [], []
        with ExitStack() as stack:
            server = stack.enter_context(serving(WITH_TLS.get(attack, "tcpapp")))
            for _ in range(rounds):
                alone.append(load.against(server)["p99_us"])
                with under(name, server):
                    attacked.append(load.against(server)["p99_us"])
        title = (attack.__doc__ or "").partition(": ")[2].rstrip(".")
        one_step = 0.0
        if attack in WITH_TLS:
            one_step = handshake.microseconds(WITH_TLS[attack])
            title += f" (compared less one handshake, {one_step:.0f} us)"
        ratios = [max(0.0, worse - one_step) / better for worse, better in zip(attacked, alone, strict=True)]
        found.append(Row(GROUP, title, "us", attacked, ratios, "alone", alone, goal=GOAL, at_least=False))
    return found


def main(name: str, port: int) -> None:
    """Attack until standard input ends; say when it has begun: when an attack first asks whether it goes on."""
    os.nice(5)  # the client goes first
    raise_file_limit(FILES)
    began, looked = time.monotonic(), [0.0, True]

    def goes_on() -> bool:
        if not looked[0]:
            sys.stdout.write(".")
            sys.stdout.flush()
        now = time.monotonic()
        if now - looked[0] > 0.02:  # standard input is looked at now and then alone
            looked[:] = [now, not select.select([sys.stdin], [], [], 0)[0] and now - began < LONGEST]
        return bool(looked[1])

    ATTACKS[name](port, goes_on)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ATTACKS:
        sys.exit(f"usage: python -m benchmarks.attacks {'|'.join(ATTACKS)} PORT")
    main(sys.argv[1], int(sys.argv[2]))
