"""Parsers with bodies, for tests."""

from __future__ import annotations

from typing import Any

from tcpapp.framing import Body, exactly, parser, piece, stream, until
from tcpapp.framing.reader import Parse


@parser(max=64)
def store() -> Parse:
    """Read a command: ``set N`` has a body of N bytes, and CRLF behind it."""
    words = (yield until(b"\r\n")).split()
    return words, (yield stream(int(words[1]), end=b"\r\n")) if words[:1] == [b"set"] else None


def chunks() -> Parse:
    """Read a body in chunks, as HTTP has it, up to the empty line behind the last one."""
    while size := int((yield until(b"\r\n", max=16)), 16):
        yield piece(size)
        yield exactly(2)
    while (yield until(b"\r\n")):
        pass


@parser(max=64)
def chunked() -> Parse:
    """Read a line and a body in chunks."""
    return (yield until(b"\n")), (yield stream(chunks()))


@parser(max=64)
def upload() -> Parse:
    """Read a line, and all bytes to the end of the stream."""
    return (yield until(b"\n")), (yield stream())


@parser
def whole() -> Parse:
    """Read the whole stream as one body."""
    return (yield stream())


def content(message: Any) -> Any:
    """Return `message` with the bytes of each body in place of the body. The body must be whole."""
    if isinstance(message, Body):
        assert message.is_whole
        pieces = []
        while piece := message.take():
            pieces.append(piece)
        return b"".join(pieces)
    return tuple(map(content, message)) if isinstance(message, tuple) else message
