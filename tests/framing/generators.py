"""Parsers for tests: framings that are written as generators."""

from __future__ import annotations

from tcpapp.errors import MalformedFrame, UnsendableMessage
from tcpapp.framing import exactly, parser, peek, until, until_any
from tcpapp.framing.base import refuse_type
from tcpapp.framing.reader import Parse

Command = tuple[list[bytes], bytes | None]


def encode(command: Command) -> bytes:
    """Return the bytes of a command of memcached."""
    words, data = command
    return b" ".join(words) + b"\r\n" + (b"" if data is None else data + b"\r\n")


@parser(max=1 << 20, frame=encode)
def memcached() -> Parse:
    """Read a command of memcached: its words, and the data block of a set."""
    line = yield until(b"\r\n", max=2048)
    words = line.split()
    if words[:1] == [b"set"]:
        data = yield exactly(int(words[4]))
        if (yield exactly(2)) != b"\r\n":
            raise MalformedFrame("no CRLF after the data block")
        return words, data
    return words, None


@parser
def resp() -> Parse:
    """Read a value of Redis: arrays hold values."""
    kind = yield exactly(1)
    line = yield until(b"\r\n", max=32)
    if kind == b"*":
        values = []
        for _ in range(int(line)):
            values.append((yield from resp()))  # noqa: PERF401 - a comprehension cannot yield
        return values
    if kind == b"$":
        data = yield exactly(int(line))
        yield exactly(2)
        return data
    return line


def tagged(message: bytes, side: str = "server", *, width: int = 1) -> bytes:
    """Return a message behind a tag for its side, and its length."""
    return {"server": b"S", "client": b"C"}[side] + len(message).to_bytes(width, "big") + message


@parser(max=40, frame=tagged)
def record(side: str = "server", *, width: int = 1) -> Parse:
    """Read bytes behind a tag and a length. The peer is on this side."""
    tag = yield peek(1)
    if tag != side[:1].upper().encode():
        raise MalformedFrame(f"{tag!r}: takes the tag of a {side}")
    yield exactly(1)
    size = yield exactly(width)
    return (yield exactly(int.from_bytes(size, "big")))


@parser
def words() -> Parse:
    """Read a word and what ends it."""
    return (yield until_any([b" ", b"\n", b"\r\n"], max=9))


ENDS = (b"\0", b"\n", b"\r\n")


def either(message: bytes) -> bytes:
    """Return a line with its end, or a block behind its length."""
    if not isinstance(message, bytes):
        refuse_type(message)
    if message[:1] == b"#":
        return b"#%d:" % (len(message) - 1) + message[1:]
    if any(end in message for end in ENDS):
        raise UnsendableMessage("holds the end of a line")
    return message + ENDS[0]


@parser(frame=either)
def mixed() -> Parse:
    """Read bytes, by every want: a line with any end, or a block behind a mark and its length."""
    if (yield peek(1)) != b"#":
        line, _ = yield until_any(ENDS)
        return line
    yield exactly(1)
    size = yield until(b":", max=8)
    return b"#" + (yield exactly(int(size)))
