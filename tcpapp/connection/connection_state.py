"""
The state of one connection at a message boundary: one structure, and the bytes that another process reads it from.

It holds what the connection's parts hold: undigested bytes, messages that wait, bytes that the transport has not got,
the waits with the seconds that they have left, and the tokens of the rates. It holds nothing that both processes know:
framing, codec, limits and timeouts are those of the factory that reads it. Nothing else is in it. So the bytes in the
transport's own buffer and in the kernel, the descriptor, and what the app keeps about the connection go another way.

The bytes have a version (`tcpapp.connection.state_form`). A release of tcpapp reads the version that it writes, and
the one before: a row of `READABLE` for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tcpapp.codecs import Codec
from tcpapp.connection import deadline_state, throttle_state
from tcpapp.connection.deadline_state import DeadlineState
from tcpapp.connection.inbox import MESSAGE_COST
from tcpapp.connection.outbox_state import OutboxState, most_unsent
from tcpapp.connection.settings import Settings
from tcpapp.connection.state_form import (
    Facts,
    pack,
    pack_facts,
    pack_messages,
    unpack,
    unpack_facts,
    unpack_messages,
)
from tcpapp.connection.throttle_state import ThrottleState
from tcpapp.errors import InvalidState, MalformedProxyHeader
from tcpapp.framing import Framing
from tcpapp.proxy_protocol import Header, HeaderReader, frame

__all__ = ["READABLE", "VERSION", "ConnectionState", "name_of", "pack_state", "unpack_state"]

VERSION: Final = 1
"""The version that is written. A change of the form, or of the facts, makes it one higher."""

READABLE: Final[dict[int, tuple[str, ...]]] = {
    1: ("facts", "framing", "pending", "inbox", "unsent", "proxy", "app"),
}
"""The sections of each version that is read: of `VERSION`, and of the one before."""

LARGEST_CHUNK: Final = 256 * 1024
"""The most bytes of one read: `tcpapp.reactor` reads so many. Their messages can be above the mark of an inbox."""


@dataclass(frozen=True)
class ConnectionState:
    """
    What a connection holds at a message boundary.

    - `codec`: the name of its codec; `None` without one.
    - `paused`: its user has paused it.
    - `has_requested`: requests were made, so late replies are dropped and do not go to the app.
    - `framing`: the undigested bytes, in the form of `Framing.dump`.
    - `inbox`: the messages that wait for the app.
    - `outbox`: the bytes that the transport has not got.
    - `received`, `sent`: the messages and the bytes that were counted.
    - `proxy`: the PROXY header that it began with.
    - `app`: what the app keeps. No app can give that yet, so it is empty.
    """

    codec: str | None
    paused: bool
    has_requested: bool
    deadlines: DeadlineState
    throttle: ThrottleState
    framing: bytes
    inbox: list[bytes]
    outbox: OutboxState
    received: tuple[int, int]
    sent: tuple[int, int]
    proxy: Header | None
    app: bytes = b""


def pack_state(state: ConnectionState) -> bytes:
    """The bytes of `state`, which `unpack_state` reads."""
    facts = {
        "codec": state.codec,
        "paused": state.paused,
        "has_requested": state.has_requested,
        "deadlines": deadline_state.facts_of(state.deadlines),
        "throttle": throttle_state.facts_of(state.throttle),
        "unsent_messages": state.outbox.messages,
        "received": _counts(state.received),
        "sent": _counts(state.sent),
    }
    sections = {
        "facts": pack_facts(facts),
        "framing": state.framing,
        "pending": pack_messages(state.throttle.pending),
        "inbox": pack_messages(state.inbox),
        "unsent": state.outbox.unsent,
        "proxy": b"" if state.proxy is None else frame(state.proxy),
        "app": state.app,
    }
    return pack(VERSION, sections)


def unpack_state(data: bytes, settings: Settings) -> ConnectionState:
    """
    The state in `data`, for a connection with these `settings`.

    Raises `InvalidState`, and nothing else, for any other bytes, and for a state that does not fit the settings: of
    another framing or codec, or with more than the limits allow. The error says what was wrong.
    """
    _, sections = unpack(data, READABLE)
    facts = unpack_facts(sections["facts"])
    state = ConnectionState(
        codec=_read_codec(facts, settings.codec),
        paused=facts.flag("paused"),
        has_requested=facts.flag("has_requested"),
        deadlines=deadline_state.read_deadlines(facts.facts("deadlines")),
        throttle=throttle_state.read_throttle(facts.facts("throttle"), _read_messages("pending", sections, settings)),
        framing=_read_framing(sections["framing"], settings.framing),
        inbox=_read_messages("inbox", sections, settings),
        outbox=OutboxState(_read_unsent(sections["unsent"], settings), facts.count("unsent_messages")),
        received=_read_counts(facts.facts("received")),
        sent=_read_counts(facts.facts("sent")),
        proxy=_read_proxy(sections["proxy"]),
    )
    facts.end()
    if sections["app"]:
        raise InvalidState("app: the app's own state cannot be loaded by this tcpapp; it takes an empty section")
    return state


def name_of(codec: Codec | None) -> str | None:
    """The name of a codec; `None` without one."""
    return None if codec is None else codec.name


def _read_codec(facts: Facts, codec: Codec | None) -> str | None:
    found, expected = facts.text_or_none("codec"), name_of(codec)
    if found != expected:
        raise InvalidState(f"facts: codec={found!r:.40}: takes the codec of this factory, {expected!r}")
    return found


def _read_framing(section: bytes, framing: Framing) -> bytes:
    """The section, which was loaded into a framing of its own: it can be loaded into another one."""
    try:
        framing.fresh().load(section)
    except InvalidState as error:
        raise InvalidState(f"framing: {error}") from error
    return section


def _read_messages(name: str, sections: dict[str, bytes], settings: Settings) -> list[bytes]:
    """The messages of a section: as many as fill an inbox, and those of one more read."""
    longest, high = settings.framing.max, settings.limits.inbox_high
    most = high // MESSAGE_COST + LARGEST_CHUNK
    size = high + longest + LARGEST_CHUNK
    return unpack_messages(name, sections[name], longest=longest, most=most, size=size)


def _read_unsent(section: bytes, settings: Settings) -> bytes:
    """The section: no more than `most_unsent`."""
    most = most_unsent(settings)
    if len(section) > most:
        raise InvalidState(
            f"unsent: {len(section)} bytes; at most {most} can wait in this connection (max_unsent and one write)"
        )
    return section


def _counts(counted: tuple[int, int]) -> dict[str, int]:
    return {"messages": counted[0], "bytes": counted[1]}


def _read_counts(facts: Facts) -> tuple[int, int]:
    counted = facts.count("messages"), facts.count("bytes")
    facts.end()
    return counted


def _read_proxy(section: bytes) -> Header | None:
    if not section:
        return None
    reader = HeaderReader()
    try:
        header = reader.receive(section)
    except MalformedProxyHeader as error:
        raise InvalidState(f"proxy: {error}") from error
    if header is None or reader.rest:
        raise InvalidState(f"proxy: {len(section)} bytes, and not one whole PROXY header")
    return header
