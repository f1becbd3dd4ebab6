"""The outbox of a connection as bytes, which the outbox of another connection sends."""

from __future__ import annotations

from dataclasses import dataclass

from tcpapp.connection.outbox import Outbox
from tcpapp.connection.settings import Settings

__all__ = ["OutboxState", "dump_outbox", "has_sends", "has_streams", "load_outbox", "most_unsent"]


@dataclass(frozen=True)
class OutboxState:
    """
    The state of a connection's `Outbox`: the `unsent` bytes, and the number of the `messages` that end in them.

    The bytes in the transport's own buffer are not among them.
    """

    unsent: bytes
    messages: int


def most_unsent(settings: Settings) -> int:
    """
    The most unsent bytes in a state: ``max_unsent``, and the write that came to that, which SLIP can make twice as
    long. Only the replies to one batch can be more, because an app can give any number of them.
    """
    limits = settings.limits
    return limits.max_unsent + limits.write_high + 2 * settings.framing.max


def has_sends(outbox: Outbox) -> bool:
    """Whether a ``send`` waits until the transport has its bytes, or takes more."""
    waiting = [each.waiter for each in outbox._queue or () if each.stream is None] + (outbox._handed or [])
    return any(each is not None and not each.called for each in waiting)


def has_streams(outbox: Outbox) -> bool:
    """Whether a ``send_stream`` has bytes to send."""
    return any(each.stream is not None for each in outbox._queue or ())


def dump_outbox(outbox: Outbox) -> OutboxState:
    """What the transport has not got yet, the gathered bytes too. The outbox keeps it."""
    waiting, corked = outbox._queue or (), outbox._corked or ()
    pieces = [memoryview(each.data)[each.given :] for each in waiting]
    messages = sum([each.messages for each in waiting])
    return OutboxState(b"".join([*pieces, *corked]), messages + outbox._corked_messages)


def load_outbox(outbox: Outbox, state: OutboxState) -> None:
    """Send the bytes of `state`, before any others."""
    if state.unsent:
        outbox.write(state.unsent, state.messages)
