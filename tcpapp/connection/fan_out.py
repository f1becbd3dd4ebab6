"""
One message to many connections.

It is encoded and framed once for each framing and codec among them, and all their outboxes get the same bytes object.
The outboxes do what costs most, the writing to the sockets, turn by turn (`tcpapp.connection.spread_writes`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tcpapp.codecs import Codec
from tcpapp.connection.connection import Connection
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.parsing import Parsing
from tcpapp.connection.parts import Parts
from tcpapp.connection.shared_message import SharedMessage
from tcpapp.errors import UnsendableMessage
from tcpapp.framing import Framing

__all__ = ["send_to_all"]


def send_to_all(
    connections: Iterable[Connection], message: Any, *, exclude: Connection | Iterable[Connection] = ()
) -> int:
    """
    Send `message` to all `connections` but `exclude`. Returns how many connections it is sent on.

    It is as if ``send`` was called for each of them, once, in their order, without a Deferred for each. The message has
    its place behind all that was sent on a connection before. It is encoded and framed once for all connections with an
    equal framing and codec. The call returns before the bytes are written to sockets: that is done from the next turn
    on, for ``work_per_turn`` microseconds in a turn.

    - `connections` can change during the call, and after it: they are looked at once.
    - Connections that are not open are passed over, and counted in ``failed_sends`` of their factory's `Info`.
    - For a peer that reads too slowly the message waits, and ``max_unsent`` counts all of it. ``max_buffered`` counts
      it once for all connections of a factory.
    - To pace a sender, use ``send``: its Deferred fires when the peer has caught up.

    Raises `UnsendableMessage` if the framing or codec of one connection cannot send it; then it is sent on none.
    """
    excluded = [exclude] if hasattr(exclude, "_protocol") else exclude
    members = dict.fromkeys([each._protocol for each in connections])
    for each in excluded:
        members.pop(each._protocol, None)
    framed = _Framed(message)
    for member in members:
        if member._lifecycle.stage.sends:
            framed.check(member)
    return _send(list(members), framed)


def _send(members: list[Parts], framed: _Framed) -> int:
    """Send the message on each connection that is still open: what happens on one of them can end another."""
    count = 0
    later: dict[SharedMessage, tuple[Parts, list[Outbox]]] = {}
    for member in members:
        shared = framed.by(member) if member._lifecycle.stage.sends else None
        if shared is None:
            member._settings.counters.failed_sends += 1
            continue
        member._dispatcher.flush()
        count += 1
        outbox = member._outbox
        if outbox.write_shared(shared):
            if shared not in later:
                later[shared] = member, []
            later[shared][1].append(outbox)
    for shared, (member, outboxes) in later.items():
        shared.begin_gathering()
        settings = member._settings
        settings.spread_writes.add((*outboxes, shared), member.transport.reactor, settings.limits.work_per_turn)
    return count


class _Framed:
    """The bytes of one message, made once for each kind of connection."""

    __slots__ = ("_made", "_message", "_shared")

    def __init__(self, message: Any) -> None:
        self._message = message
        self._made: dict[Any, tuple[bytes, bytes]] = {}
        self._shared: dict[Any, SharedMessage] = {}

    def check(self, member: Parts) -> None:
        """Raise `UnsendableMessage` if the message cannot be sent on the connection."""
        if member._settings not in self._shared or member._buffered.rewind is not None:
            self._share(member)

    def by(self, member: Parts) -> SharedMessage | None:
        """The message for the connection, framed; `None` if its framing refuses it now, by what it has sent before."""
        settings = member._settings
        shared = self._shared.get(settings) if member._buffered.rewind is None else None
        return shared or self._share(member) or self._framed_alone(member)

    def _share(self, member: Parts) -> SharedMessage | None:
        """Frame the message for all connections that frame as this one does; `None` if each frames by itself."""
        settings, framing, codec = member._settings, member._buffered.framing, member._codec
        kind = _kind_of(framing, codec)
        if kind not in self._made:
            encoded = self._message if codec is None else codec.encode(self._message)
            self._made[kind] = encoded, framing.fresh().frame(encoded)
        if not framing.frames_alike:
            return None
        place = settings if member._buffered.rewind is None else (settings, kind)
        if place not in self._shared:
            self._shared[place] = SharedMessage(*self._made[kind], settings.memory_budget)
        return self._shared[place]

    def _framed_alone(self, member: Parts) -> SharedMessage | None:
        framing = member._buffered.framing
        encoded, _ = self._made[_kind_of(framing, member._codec)]
        try:
            return SharedMessage(encoded, framing.frame(encoded), member._settings.memory_budget)
        except UnsendableMessage:
            return None


def _kind_of(framing: Framing, codec: Codec[Any] | None) -> Any:
    """
    What is equal for connections that send the same bytes. An option that has no hash makes each framing a kind of its
    own.
    """
    kind = framing, None if isinstance(codec, Parsing) else codec
    try:
        hash(kind)
    except TypeError:
        return id(framing), id(codec)
    return kind
