"""
The targets: each takes any bytes, and raises if a check fails.

The first byte says how the rest is cut, so that the fuzzer finds cuts as it finds bytes.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from twisted.internet.testing import MemoryReactorClock

from tcpapp import codecs, framing
from tcpapp.codecs import Codec, Json, MessagePack
from tcpapp.errors import (
    InvalidAddress,
    InvalidFraming,
    InvalidProxyHeader,
    InvalidState,
    MalformedProxyHeader,
    UndecodableMessage,
    UnreadableStream,
    UnsendableMessage,
)
from tcpapp.framing import Framing
from tcpapp.framing.base import kind_of
from tcpapp.framing.state import pack
from tcpapp.proxy_protocol import Header, HeaderReader, frame
from tcpapp.transport.endpoint_strings import client_endpoint, server_endpoint
from tests.framing import bodies, generators
from tests.memory import deep_size

__all__ = ["TARGETS", "Target"]

Target = Callable[[bytes], None]

MAX = 64
"""The longest message: short, so that the fuzzer reaches this limit."""

CUTS = 8
"""How many times a stream is cut, from its beginning or from 32 bytes before its end."""

REACTOR = MemoryReactorClock()


def pieces(data: bytes, how: int) -> Iterator[bytes]:
    """
    Cut `data` into pieces of 1 to 16 bytes, each as long as the one before or one byte longer, by the bits of `how`.

    Behind `CUTS` pieces, the rest is one piece: an execution stays short, and the kit's `check_framing` cuts
    everywhere.
    """
    size, at = 1 + how % 16, 32 & how and max(0, len(data) - 32)
    if at:
        yield data[:at]
    for _ in range(CUTS):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size
        size = size + 1 if how & 16 else size
    if at < len(data):
        yield data[at:]


def moved(made: Framing) -> Framing:
    """Dump the state of `made`, and return a fresh framing that has loaded it."""
    loaded = made.fresh()
    loaded.load(made.dump())
    return loaded


def read(
    made: Framing, chunks: Iterator[bytes] | list[bytes], between: Callable[[Framing], Framing] | None = None
) -> tuple[list[bytes], type | None, int, type | None]:
    """
    Return the outcome of a stream: messages, failure, number of skipped messages, and the error at its end.

    `between` gives the framing that goes on after a chunk.
    """
    messages: list[bytes] = []
    for chunk in chunks:
        try:
            messages += made.receive(chunk)
        except UnreadableStream:
            break
        assert made.held <= made.max + len(chunk) + 16, made.held
        if made.failure is not None:
            break
        made = made if between is None else between(made)
    failure = None if made.failure is None else type(made.failure)
    try:
        made.finish()
    except UnreadableStream as error:
        return messages, failure, made.skipped, type(error)
    return messages, failure, made.skipped, None


def of_framing(make: Callable[[int], Framing]) -> Target:
    """
    Return a target that checks a framing.

    The outcome of a stream is the same however it is cut, and if it is dumped and loaded. A received message can be
    sent, and is received unchanged.
    """

    def target(data: bytes) -> None:
        if len(data) < 2:
            return
        template = make(data[1])
        stream = data[2:]
        whole = read(template.fresh(), [stream])
        assert whole == read(template.fresh(), pieces(stream, data[0])), whole
        assert whole == read(template.fresh(), pieces(stream, data[0]), moved), whole
        for message in [*whole[0][:2], *whole[0][-1:]]:
            try:
                sent = template.fresh().frame(message)
            except UnsendableMessage:
                continue
            back = read(template.fresh(), [sent])
            assert back[0] == [message], (message, back)

    return target


def of_sides(make: Callable[..., Framing]) -> Target:
    """
    Return a target that checks a framing with a side for servers and one for clients.

    The outcome of a stream is the same however it is cut, and if it is dumped and loaded. A message that one side has
    received can be sent by the other side, and is received unchanged. A bit chooses the side.
    """
    readers = {side: make(side=side, max=MAX) for side in ("server", "client")}
    longer = {side: make(side=side, max=2 * MAX) for side in readers}

    def target(data: bytes) -> None:
        if len(data) < 2:
            return
        ours, theirs = ("server", "client") if data[1] & 1 else ("client", "server")
        reader, writer, stream = readers[ours], longer[theirs], data[2:]
        whole = read(reader.fresh(), [stream])
        for between in (None, moved):
            again = read(reader.fresh(), pieces(stream, data[0]), between)
            assert repr(whole) == repr(again), (whole, again)  # not equal: there are floats that are no number
        for message in (*whole[0][:2], *whole[0][-1:]):
            try:
                sent = writer.frame(message)
            except UnsendableMessage:
                continue
            [back] = read(longer[ours].fresh(), [sent])[0]
            assert repr(back) == repr(message), (message, back)

    return target


def of_bodies(data: bytes) -> None:
    """Check that messages and their bodies are the same however their stream is cut."""
    if len(data) < 2:
        return
    make, stream = (bodies.store, bodies.chunked, bodies.upload)[data[1] % 3], data[2:]
    assert with_bodies(make(), [stream]) == with_bodies(make(), pieces(stream, data[0]))


def with_bodies(state: framing.Parser, chunks: Iterable[bytes]) -> tuple[list[Any], type[UnreadableStream] | None]:
    """Return the messages of a stream with what has come of their bodies, and the class of its failure."""
    messages: list[Any] = []
    failure: type[UnreadableStream] | None = None
    try:
        for chunk in chunks:
            messages += state.receive(chunk)
            assert state.held <= state.max + len(chunk)
        state.finish()
    except UnreadableStream as error:
        failure = type(error)
    return [(head, body and (bytes(body), body.is_whole)) for head, body in messages], failure


def states(data: bytes) -> None:
    """Load a state of any bytes: it is refused, or it is dumped again unchanged and the stream goes on."""
    if len(data) < 4:
        return
    which, bits, numbers, held = data[:4]
    made = [*FRAMINGS.values()][which % len(FRAMINGS)](bits)
    own, rest = data[4 : 4 + numbers % 32], data[4 + numbers % 32 :]
    state = pack(kind_of(made), own, rest[: held % 128])
    try:
        made.load(state)
    except InvalidState as error:
        assert str(error).isprintable()
        assert made.dump() == made.fresh().dump()
        return
    assert made.dump() == state
    read(made, pieces(rest[held % 128 :], bits))


def oversize(bits: int) -> Any:
    """Return what happens to longer messages, by a bit."""
    return "skip" if bits & 128 else "close"


def side(bits: int) -> Any:
    """Return the side of a protocol, by a bit."""
    return "client" if bits & 64 else "server"


def length(bits: int) -> Framing:
    """Return a length-prefixed framing, with options by the bits of a byte."""
    knobs: dict[str, Any] = {
        "width": 1 + bits % 4,
        "order": "little" if bits & 4 else "big",
        "offset": 2 if bits & 8 else 0,
        "adjust": -1 if bits & 16 else 0,
        "strip": 1 if bits & 32 else None,
    }
    try:
        return framing.LengthPrefixed(**knobs, max=MAX, oversize=oversize(bits))
    except InvalidFraming:
        return framing.LengthPrefixed(max=MAX, oversize=oversize(bits))


FRAMINGS: dict[str, Callable[[int], Framing]] = {
    "line": lambda bits: framing.Lines(b"\r\n" if bits & 1 else None, max=MAX, oversize=oversize(bits)),
    "delimited": lambda bits: framing.Delimited(b"aab" if bits & 1 else b"\x03", max=MAX, oversize=oversize(bits)),
    "length": length,
    "varint": lambda bits: framing.Varint(max=MAX, oversize=oversize(bits)),
    "netstring": lambda bits: framing.Netstrings(max=MAX, oversize=oversize(bits)),
    "fixed": lambda bits: framing.Fixed(1 + bits % 9),
    "blocks": lambda bits: framing.Blocks(b"\x0b", b"\x1c\r", max=MAX, oversize=oversize(bits)),
    "slip": lambda bits: framing.Slip(max=MAX, oversize=oversize(bits)),
    "cobs": lambda bits: framing.Cobs(max=MAX, oversize=oversize(bits)),
    "http1": lambda bits: framing.http1(side=side(bits), max=4 * MAX),
    "smtp": lambda bits: framing.smtp(side=side(bits), max=MAX),
    "smtp_data": lambda bits: framing.smtp_data(max=MAX),
    "irc": lambda bits: framing.irc(side=side(bits), max=4 * MAX),
    "stomp": lambda bits: framing.stomp(max=MAX),
    "parser": lambda bits: generators.mixed(max=1 + bits % MAX),
}


def of_codec(codec: Codec[Any]) -> Target:
    """
    Return a target that checks a codec.

    A decoded value is the same after it was encoded and decoded again. The error of an invalid message is printable.
    """

    def target(data: bytes) -> None:
        weight = codec.weight(data)
        try:
            value = codec.decode(data)
        except UndecodableMessage as error:
            assert str(error).isprintable()
            return
        assert deep_size(value) <= weight, (deep_size(value), weight)
        assert not isinstance(codec, MessagePack) or not has_array_key(value), value
        try:
            sent = codec.encode(value)
        except UnsendableMessage:
            return
        again = codec.decode(sent)
        assert codec.encode(again) == sent or _has_nan(value), (value, again)

    return target


def has_array_key(value: Any) -> bool:
    """Tell whether a map somewhere in `value` has a tuple as a key."""
    if isinstance(value, dict):
        return any(isinstance(key, tuple) or has_array_key(each) for key, each in value.items())
    return isinstance(value, list) and any(map(has_array_key, value))


def of_keys(data: bytes) -> None:
    """
    Check codecs that count keys.

    A message that the decoder refuses is refused with few keys, too, and an accepted value has few keys.
    """
    for strict, free in zip(FEW_KEYS, ANY_KEYS, strict=True):
        value = free.read(data)
        if isinstance(value, UndecodableMessage):
            assert isinstance(strict.read(data), UndecodableMessage)
        else:
            assert deep_size(value) <= free.weight(data)
            kept = strict.read(data)
            assert isinstance(kept, UndecodableMessage) or len(value) <= 5 * strict.max_keys + 16


KEYED = [dict[int, None], set[int | float], dict[uuid.UUID, set[int]], set[tuple[int, ...]]]
FEW_KEYS = [make(kind, max_keys=2, invalid="deliver") for kind in KEYED for make in (Json, MessagePack)]
ANY_KEYS = [make(kind, max_keys=0, invalid="deliver") for kind in KEYED for make in (Json, MessagePack)]
"""Codecs of types whose keys count, with a low limit of keys and without a limit."""


def _has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_nan, value.values()))
    return any(map(_has_nan, value)) if isinstance(value, list) else isinstance(value, float) and math.isnan(value)


def raw(data: bytes) -> None:
    """Check that the raw framing gives each chunk as a message."""
    if data:
        chunks = list(pieces(data[1:], data[0]))
        assert read(framing.Raw(), chunks) == (chunks, None, 0, None)


def proxy(data: bytes) -> None:
    """Check that a header is the same however it is cut, and can be written and read again."""
    if not data:
        return
    stream = data[1:]

    def outcome(chunks: Any) -> Header | str | None:
        reader = HeaderReader(max=536)
        for chunk in chunks:
            try:
                if (header := reader.receive(chunk)) is not None:
                    return header
            except MalformedProxyHeader as error:
                assert str(error).isprintable()
                return str(error)
            assert reader.held <= 536
        return None

    whole = outcome([stream])
    assert whole == outcome(pieces(stream, data[0])), whole
    if isinstance(whole, Header):
        try:
            written = frame(whole)
        except InvalidProxyHeader:
            return
        reader = HeaderReader()
        assert reader.receive(written + b"rest") is not None
        assert reader.rest == b"rest"


def specs(data: bytes) -> None:
    """Check that a spec gives a framing whose own spec gives it again, or is refused in one line."""
    try:
        made = framing.from_string(data.decode("utf-8", "surrogateescape"))
    except InvalidFraming as error:
        assert "\n" not in str(error)
        return
    assert framing.from_string(str(made)) == made


def endpoints(data: bytes) -> None:
    """Check that an endpoint string gives an endpoint of a server or a client, or is refused in one line."""
    text = data.decode("utf-8", "surrogateescape")
    for make in (server_endpoint, client_endpoint):
        try:
            make(REACTOR, text)
        except InvalidAddress as error:
            assert "\n" not in str(error).replace(text, "")


SIDES: dict[str, Callable[..., Framing]] = {
    "memcached": framing.memcached,
    "resp": partial(framing.resp, version=3),
    "nats": framing.nats,
}
"""Framings with two sides."""

TARGETS: dict[str, Target] = {
    "raw": raw,
    **{name: of_framing(make) for name, make in FRAMINGS.items()},
    **{name: of_sides(make) for name, make in SIDES.items()},
    **{name: of_codec(codecs.from_string(name)) for name in ("text", "json", "msgpack")},  # type: ignore[arg-type]
    "bodies": of_bodies,
    "states": states,
    "keys": of_keys,
    "proxy": proxy,
    "specs": specs,
    "endpoints": endpoints,
}
"""Each target by its name, which is also the name of its corpus and of its dictionary."""
