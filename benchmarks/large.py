"""
One large message in 64 KiB pieces: how long it takes, and whether the time grows linearly.

Each figure comes from a process of its own, ``python -m benchmarks.large SIDE MEBIBYTES``, which prints the seconds of
processor time. In one process, the allocator would reuse warm memory for a known size, and take fresh memory from the
system for a larger one. Then the measured growth would be the allocator's.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.echo import Server, serving
from benchmarks.report import Row, ratio_row

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 64 * 1024
MIB = 1024 * 1024
MAX = 128 * MIB
SIZES = (16, 32, 64)
GOAL_SECONDS = 0.5
GOAL_GROWTH = 5.0
"""The limit of the growth for four times the length: linear, with room for noise; quadratic work would show 16."""


def pieces(mebibytes: int) -> list[bytes]:
    """Return a message of this many MiB after its length, in chunks. No large block is made for it."""
    length = mebibytes * MIB
    return [length.to_bytes(4, "big") + bytes(CHUNK - 4), *(bytes(CHUNK) for _ in range(length // CHUNK - 1)), bytes(4)]


def ours(chunks: list[bytes]) -> list[int]:
    """Return the lengths of tcpapp's messages from the chunks."""
    from tcpapp.framing import LengthPrefixed

    receive = LengthPrefixed(max=MAX).fresh().receive
    return [len(message) for chunk in chunks for message in receive(chunk)]


def twisteds(chunks: list[bytes]) -> list[int]:
    """Return the lengths of Int32StringReceiver's messages from the chunks."""
    from twisted.internet.testing import StringTransport
    from twisted.protocols.basic import Int32StringReceiver

    found: list[int] = []
    protocol = Int32StringReceiver()
    protocol.MAX_LENGTH = MAX
    protocol.stringReceived = lambda string: found.append(len(string))
    protocol.makeConnection(StringTransport())
    for chunk in chunks:
        protocol.dataReceived(chunk)
    return found


SIDES = {"tcpapp": ours, "twisted": twisteds}


def seconds(side: str, mebibytes: int) -> float:
    """Return the seconds of this process for the message. Raise an error if it did not come out whole."""
    SIDES[side]([b"\0\0\0\5he", b"llo"])  # imports and objects that are made once
    chunks = pieces(mebibytes)
    began = time.thread_time()
    lengths = SIDES[side](chunks)
    took = time.thread_time() - began
    if lengths != [mebibytes * MIB]:
        raise RuntimeError(f"{side}: messages of {lengths} bytes came out where one of {mebibytes} MiB went in")
    return took


def seconds_elsewhere(side: str, mebibytes: int) -> float:
    """Return the seconds of a new process for the message."""
    command = [sys.executable, "-m", "benchmarks.large", side, str(mebibytes)]
    return float(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=120).stdout)


PIECE = 1460
"""The most bytes of a stream in one Ethernet frame."""


def seconds_over_a_socket(server: Server, mebibytes: int) -> float:
    """Return the seconds from the first piece of a message, with each piece sent by itself, to the server's reply."""
    length = mebibytes * MIB
    rest = memoryview(bytes(length))
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        client.sendall(struct.pack(">I", length))
        for at in range(0, length, PIECE):
            client.sendall(rest[at : at + PIECE])
        reply = client.recv(100)
        took = time.perf_counter() - began
    if reply[4:] != b"%d" % length:
        raise RuntimeError(f"{reply!r} is the wrong reply to a message of {length} bytes")
    return took


def over_a_socket(group: str, rounds: int) -> Row:
    """Return a row of 16 MiB beside 4 MiB."""
    with serving("tcpapp-length") as server:
        small = [seconds_over_a_socket(server, 4) for _ in range(rounds)]
        large = [seconds_over_a_socket(server, 16) for _ in range(rounds)]
    growth = min(large) / min(small)
    name = f"growth from 4 to 16 MiB, in {PIECE}-byte pieces through a socket"
    return Row(group, name, "s", large, [growth], "4 MiB", small, goal=GOAL_GROWTH, at_least=False)


def run(group: str, rounds: int, quick: bool) -> list[Row]:
    """
    Return rows of tcpapp against the goals, and beside Twisted, once and at a modest size: its time grows
    quadratically.
    """
    taken = {size: [seconds_elsewhere("tcpapp", size) for _ in range(rounds)] for size in SIZES}
    growth = min(taken[64]) / min(taken[16])  # the least disturbed of each: these times are short
    modest = 8 if quick else 16
    us, them = (seconds_elsewhere(side, modest) for side in ("tcpapp", "twisted"))
    return [
        Row(
            group,
            "one message of 64 MiB",
            "s",
            taken[64],
            taken[64],
            compared_unit="s",
            goal=GOAL_SECONDS,
            at_least=False,
        ),
        Row(
            group,
            "growth from 16 to 64 MiB",
            "s",
            taken[16],
            [growth],
            goal=GOAL_GROWTH,
            at_least=False,
            extra={"seconds_by_mebibytes": {str(size): values for size, values in taken.items()}},
        ),
        over_a_socket(group, rounds),
        ratio_row(group, f"one message of {modest} MiB", [us], "Twisted Int32StringReceiver", [them], unit="s"),
    ]


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SIDES:
        sys.exit("usage: python -m benchmarks.large tcpapp|twisted MEBIBYTES")
    print(seconds(sys.argv[1], int(sys.argv[2])))
