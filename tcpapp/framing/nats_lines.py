"""The lines of NATS, which `nats` reads and writes: a verb, its words, and for some headers and a payload."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import NoneType
from typing import NamedTuple

from tcpapp.errors import MalformedFrame, UnsendableMessage
from tcpapp.framing.base import quoted
from tcpapp.framing.numerals import decimal
from tcpapp.framing.reader import Parse
from tcpapp.framing.wants import exactly, until
from tcpapp.framing.words import block, joined, words_of

__all__ = ["FROM_CLIENTS", "FROM_SERVERS", "NatsMessage", "read_line", "write"]


class Form(NamedTuple):
    """How many words are behind a verb, without the lengths; how many `lengths`; whether the words are one `text`."""

    least: int
    most: int
    lengths: int = 0
    text: bool = False


FROM_CLIENTS = {
    b"CONNECT": Form(1, 1, text=True),
    b"PUB": Form(1, 2, 1),
    b"HPUB": Form(1, 2, 2),
    b"SUB": Form(2, 3),
    b"UNSUB": Form(1, 2),
    b"PING": Form(0, 0),
    b"PONG": Form(0, 0),
}
FROM_SERVERS = {
    b"INFO": Form(1, 1, text=True),
    b"MSG": Form(2, 3, 1),
    b"HMSG": Form(2, 3, 2),
    b"PING": Form(0, 0),
    b"PONG": Form(0, 0),
    b"+OK": Form(0, 0),
    b"-ERR": Form(1, 1, text=True),
}
"""The form of the lines of each verb that a client sends, and a server."""

_FORMS = FROM_CLIENTS | FROM_SERVERS
_PARTS = {0: (NoneType, NoneType), 1: (bytes, NoneType), 2: (bytes, bytes)}
"""The types of payload and headers, by the number of lengths in a line."""


class NatsMessage(NamedTuple):
    """
    A message of NATS.

    - `words`: its line: the verb in capitals, and its words without the lengths. The text of an ``INFO``, a
      ``CONNECT`` or an ``-ERR`` is one word.
    - `payload`: of a ``PUB``, ``HPUB``, ``MSG`` or ``HMSG``; `None` for the others.
    - `headers`: of an ``HPUB`` or ``HMSG``, as they are on the wire, with ``NATS/1.0`` and the empty line.
    """

    words: tuple[bytes, ...]
    payload: bytes | None = None
    headers: bytes | None = None


def read_line(forms: Mapping[bytes, Form], longest: int) -> Parse:
    """Read a line of one of these `forms` and at most `longest` bytes, and the headers and payload behind it."""
    line: bytes = (yield until(b"\n", max=longest)).removesuffix(b"\r").replace(b"\t", b" ").strip(b" ")
    first, *words = words_of(line)
    form = forms.get(first.upper())
    if form is None:
        raise MalformedFrame(f"{quoted(first)} begins a line; takes {', '.join(verb.decode() for verb in forms)}")
    if form.text and words:
        words = [line[len(first) :].lstrip(b" ")]
    kept = len(words) - form.lengths
    if not form.least <= kept <= form.most:
        raise MalformedFrame(f"{quoted(line)}: takes {form.least} to {form.most} words, and {form.lengths} lengths")
    own = (first.upper(), *words[:kept])
    if not form.lengths:
        return NatsMessage(own)
    *before, whole = map(decimal, words[kept:])
    if whole < sum(before):
        raise MalformedFrame(f"{quoted(line)}: the headers are longer than headers and payload together")
    headers = (yield exactly(before[0])) if before else None
    return NatsMessage(own, (yield from block(whole - sum(before))), headers)


def write(message: NatsMessage) -> bytes:
    """Return the bytes of a message. Raises `UnsendableMessage`."""
    if not isinstance(message, NatsMessage):
        raise UnsendableMessage(f"a message of NATS is a NatsMessage, not {type(message).__name__}")
    words, payload, headers = message
    form = _FORMS.get(words[0]) if words else None
    if form is None or not form.least < len(words) <= form.most + 1:
        raise UnsendableMessage(f"{words[:1]!r:.60}: takes a verb in capitals, and as many words as it has")
    if (type(payload), type(headers)) != _PARTS[form.lengths]:
        raise UnsendableMessage(f"{words[0]!r}: takes its payload and headers as bytes, and no others")
    if payload is None:
        return (_with_text(*words) if form.text else joined(words)) + b"\r\n"
    if headers is None:
        return b"%b\r\n%b\r\n" % (joined((*words, b"%d" % len(payload))), payload)
    lengths = b"%d" % len(headers), b"%d" % (len(headers) + len(payload))
    return b"".join((joined((*words, *lengths)), b"\r\n", headers, payload, b"\r\n"))


def _with_text(verb: bytes, text: bytes) -> bytes:
    with suppress(MalformedFrame, TypeError):
        words_of(text)
        if text == text.strip(b" "):
            return verb + b" " + text
    raise UnsendableMessage(f"{verb!r}: takes a text of one line, without control characters, and no space around it")
