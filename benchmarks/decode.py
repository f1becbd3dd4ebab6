"""
Decoding in one process: bytes in, messages out, no socket.

A side is a function that takes the chunks of a stream, and hands each message to a consumer in the way of its own
design. tcpapp returns a list for each chunk, and the side loops over it. Twisted's receivers call a method for each
message. Both only count. Before the timing, each side's messages are compared with the input. The processor time of
this thread is measured, so other work on the machine does not count.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from itertools import count, islice

from twisted.internet.testing import StringTransport
from twisted.protocols.basic import Int32StringReceiver, LineReceiver, NetstringReceiver

from benchmarks import large
from benchmarks.report import Row, ratio_row
from tcpapp.framing import Framing, LengthPrefixed, Lines, Netstrings

GROUP = "decode, one process, 64 KiB chunks"
CHUNK = 64 * 1024
MIB = 1024 * 1024
BYTES_A_ROUND = 4 * MIB

Decode = Callable[[Sequence[bytes]], int]


# ---- streams ----


def prefixed(message: bytes) -> bytes:
    return struct.pack(">I", len(message)) + message


def netstring(message: bytes) -> bytes:
    return b"%d:%b," % (len(message), message)


def line(message: bytes) -> bytes:
    return message + b"\n"


def crlf_line(message: bytes) -> bytes:
    return message + b"\r\n"


def messages_of(size: int, total: int) -> list[bytes]:
    """Return distinct messages of `size` bytes, `total` bytes in all."""
    return [b"%0*d" % (size, number) for number in islice(count(), total // size)]


def messages_up_to(size: int, total: int) -> list[bytes]:
    """Return messages of 1 to `size` bytes in an order without runs of one length, about `total` bytes in all."""
    lengths = [1 + (37 * number) % size for number in range(2 * total // size)]
    return [(b"%0*d" % (length, number))[-length:] for number, length in enumerate(lengths)]


def cut(stream: bytes) -> list[bytes]:
    """Return the stream in chunks, as a server reads it."""
    return [stream[at : at + CHUNK] for at in range(0, len(stream), CHUNK)]


# ---- sides ----


def ours(framing: Framing) -> Decode:
    """Return the side of tcpapp, which loops over a list of messages for each chunk."""

    def decode(chunks: Sequence[bytes]) -> int:
        receive = framing.fresh().receive
        messages = 0
        for chunk in chunks:
            for _ in receive(chunk):
                messages += 1
        return messages

    return decode


def ours_collected(framing: Framing, chunks: Sequence[bytes]) -> list[bytes]:
    """Return the messages that tcpapp makes of the chunks."""
    receive = framing.fresh().receive
    return [message for chunk in chunks for message in receive(chunk)]


class CountingInt32(Int32StringReceiver):
    title = "Twisted Int32StringReceiver"
    messages = 0

    def stringReceived(self, string):
        self.messages += 1


class CountingNetstrings(NetstringReceiver):
    title = "Twisted NetstringReceiver"
    messages = 0

    def stringReceived(self, string):
        self.messages += 1


class CountingLines(LineReceiver):
    title = "Twisted LineReceiver"
    messages = 0

    def lineReceived(self, line):
        self.messages += 1


class CountingFeedLines(CountingLines):
    delimiter = b"\n"


Receiver = type[CountingInt32] | type[CountingNetstrings] | type[CountingLines]


def twisteds(receiver: Receiver) -> Decode:
    """Return the side of Twisted's receiver, which makes a call for each message."""

    def decode(chunks: Sequence[bytes]) -> int:
        protocol = receiver()
        protocol.makeConnection(StringTransport())
        received = protocol.dataReceived
        for chunk in chunks:
            received(chunk)
        return protocol.messages

    return decode


def twisteds_collected(receiver: Receiver, chunks: Sequence[bytes]) -> list[bytes]:
    """Return the messages that Twisted's receiver makes of the chunks."""
    found: list[bytes] = []
    protocol = receiver()
    protocol.stringReceived = protocol.lineReceived = found.append  # type: ignore[method-assign, union-attr]
    protocol.makeConnection(StringTransport())
    for chunk in chunks:
        protocol.dataReceived(chunk)
    return found


# ---- measurements ----


def seconds(decode: Decode, chunks: Sequence[bytes], messages: int) -> float:
    """Return the processor time of one side. Raise an error if it did not see every message."""
    began = time.thread_time()
    seen = decode(chunks)
    took = time.thread_time() - began
    if seen != messages:
        raise RuntimeError(f"{seen} messages came out where {messages} went in")
    return took


def small(
    name: str,
    messages: list[bytes],
    frame: Callable[[bytes], bytes],
    framing: Framing,
    receiver: Receiver,
    goal: float | None,
    rounds: int,
) -> Row:
    """Measure many small messages, and return a row of messages a second and the ratio."""
    chunks = cut(b"".join(map(frame, messages)))
    if not messages == ours_collected(framing, chunks) == twisteds_collected(receiver, chunks):
        raise RuntimeError(f"{name}: what came out is not what went in")
    sides = (ours(framing), twisteds(receiver))
    rates = [[len(messages) / seconds(side, chunks, len(messages)) for side in sides] for _ in range(rounds)]
    ours_rates, peers_rates = ([rate[side] for rate in rates] for side in (0, 1))
    return ratio_row(GROUP, name, ours_rates, receiver.title, peers_rates, goal)


def run(rounds: int, quick: bool) -> list[Row]:
    """Return all rows."""
    of_12, of_32 = messages_of(12, BYTES_A_ROUND), messages_of(32, BYTES_A_ROUND)
    mixed = messages_up_to(64, BYTES_A_ROUND)
    return [
        small("12-byte messages, 4-byte length", of_12, prefixed, LengthPrefixed(), CountingInt32, 2, rounds),
        small("32-byte messages, 4-byte length", of_32, prefixed, LengthPrefixed(), CountingInt32, 2, rounds),
        small("1- to 64-byte messages, 4-byte length", mixed, prefixed, LengthPrefixed(), CountingInt32, None, rounds),
        small("32-byte lines, LF", of_32, line, Lines(), CountingFeedLines, 5, rounds),
        small("32-byte lines, CR LF", of_32, crlf_line, Lines(), CountingLines, 5, rounds),
        small("32-byte netstrings", of_32, netstring, Netstrings(), CountingNetstrings, 5, rounds),
        *large.run(GROUP, min(rounds, 5), quick),
    ]
