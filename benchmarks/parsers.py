"""
A framing that is written as a generator: bytes in, messages out, in one process.

The protocol is memcached's: a ``set`` of 32 bytes, again and again. Each side has the code that its users would
write, and its messages are compared before the timing. The processor time of this thread is measured, so other work on
the machine does not count, and the sides alternate. asyncio's streams get each chunk in a turn of their event loop, as
from a socket, but without one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.testing import StringTransport
from twisted.protocols.basic import LineReceiver

from benchmarks.report import Row, ratio_row
from tcpapp.errors import MalformedFrame
from tcpapp.framing import exactly, parser, until

GROUP = "parsers, one process, memcached's set of 32 bytes"
MESSAGES = 20_000
CHUNKS = {"64 KiB": 64 * 1024, "1,460-byte": 1460, "7-byte": 7}
GOALS = {"LineReceiver": 1.5, "asyncio's streams": 2.0}

BIG = 16 * 1024 * 1024
BIG_SECONDS = 0.1

Message = tuple[list[bytes], bytes | None]
Side = Callable[[Sequence[bytes]], list[Message]]


@parser(max=2 * BIG)
def memcached() -> Any:
    """Read a command, as in the documentation."""
    line = yield until(b"\r\n", max=2048)
    words = line.split()
    if words[:1] == [b"set"]:
        data = yield exactly(int(words[4]))
        if (yield exactly(2)) != b"\r\n":
            raise MalformedFrame("no CRLF after the data block")
        return words, data
    return words, None


class Memcached(LineReceiver):
    """The same by Twisted: a line, and raw mode for the data block."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages

    def lineReceived(self, line: bytes) -> None:
        words = line.split()
        if words[:1] == [b"set"]:
            self.words, self.left, self.pieces = words, int(words[4]) + 2, list[bytes]()
            self.setRawMode()
        else:
            self.received(words, None)

    def rawDataReceived(self, data: bytes) -> None:
        block, rest = data[: self.left], data[self.left :]
        self.pieces.append(block)
        self.left -= len(block)
        if not self.left:
            whole = b"".join(self.pieces)
            if whole[-2:] != b"\r\n":
                self.transport.loseConnection()
                return
            self.received(self.words, whole[:-2])
            self.setLineMode(rest)

    def received(self, words: list[bytes], data: bytes | None) -> None:
        self.messages.append((words, data))


async def read_all(reader: asyncio.StreamReader, messages: list[Message]) -> None:
    """Read the same by asyncio's streams."""
    while True:
        try:
            line = await reader.readuntil(b"\r\n")
        except asyncio.IncompleteReadError:
            return
        words = line.split()
        data = None
        if words[:1] == [b"set"]:
            data = await reader.readexactly(int(words[4]))
            if await reader.readexactly(2) != b"\r\n":
                raise ValueError("no CRLF after the data block")
        messages.append((words, data))


def by_parser(chunks: Sequence[bytes]) -> list[Message]:
    """Give the chunks to the parser."""
    framing = memcached()
    messages: list[Message] = []
    for chunk in chunks:
        messages += framing.receive(chunk)
    return messages


def by_line_receiver(chunks: Sequence[bytes]) -> list[Message]:
    """Give the chunks to Twisted's protocol."""
    messages: list[Message] = []
    protocol = Memcached(messages)
    protocol.makeConnection(StringTransport())
    for chunk in chunks:
        protocol.dataReceived(chunk)
    return messages


def by_streams(chunks: Sequence[bytes]) -> list[Message]:
    """Give the chunks to a `StreamReader`, each in a turn of the event loop."""
    messages: list[Message] = []

    async def all_of_them() -> None:
        reader = asyncio.StreamReader(limit=1 << 20)
        reading = asyncio.ensure_future(read_all(reader, messages))
        for chunk in chunks:
            reader.feed_data(chunk)
            await asyncio.sleep(0)
        reader.feed_eof()
        await reading

    asyncio.run(all_of_them())
    return messages


SIDES: dict[str, Side] = {"LineReceiver": by_line_receiver, "asyncio's streams": by_streams}


def seconds_of(side: Side, chunks: Sequence[bytes]) -> float:
    """Return the seconds of this thread's processor time that the side takes."""
    began = time.thread_time()
    side(chunks)
    return time.thread_time() - began


def in_pieces(stream: bytes, size: int) -> list[bytes]:
    """Return the stream in chunks of `size` bytes."""
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def run(rounds: int, quick: bool) -> list[Row]:
    """Return the rows of the parser beside each peer, in chunks of each size, and of one long message."""
    count = MESSAGES // 5 if quick else MESSAGES
    stream = b"".join([b"set key:%06d 0 0 32\r\n%032d\r\n" % (number, number) for number in range(count)])
    rows = []
    for title, size in CHUNKS.items():
        chunks = in_pieces(stream, size)
        expected = by_parser(chunks)
        for peer, side in SIDES.items():
            if side(chunks) != expected:
                raise RuntimeError(f"{peer} reads other messages")
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(count / seconds_of(by_parser, chunks))
                theirs.append(count / seconds_of(side, chunks))
            rows.append(ratio_row(GROUP, f"{title} chunks", ours, peer, theirs, GOALS[peer]))
    chunks = in_pieces(b"set key 0 0 %d\r\n%b\r\n" % (BIG, bytes(BIG)), 1460)
    spent = [seconds_of(by_parser, chunks) for _ in range(rounds)]
    name = "a data block of 16 MiB in 1,460-byte chunks"
    rows.append(Row(GROUP, name, "s", spent, spent, compared_unit="s", goal=BIG_SECONDS, at_least=False))
    return rows
