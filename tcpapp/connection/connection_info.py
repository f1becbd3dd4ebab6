"""What one connection does at one moment: its counts, what it holds, and what holds it back."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Final

from tcpapp.connection.inbox import INBOX_FULL
from tcpapp.connection.lifecycle import Stage, State
from tcpapp.connection.parts import CLOSED_PARTS, Parts
from tcpapp.connection.pause_flags import AWAITING_REPLY, PAUSED, TLS_STARTING, WRITE_BLOCKED
from tcpapp.connection.read_control import (
    BODY_FULL,
    BYTES_KEPT,
    HANDSHAKE_STEP,
    MEMORY_PRESSURE,
    MOVING_AWAY,
    OVER_BYTE_RATE,
)
from tcpapp.telemetry.statistics import ConnectionInfo, Hold, Wait

__all__ = ["info_of"]

NOT_HANDED_ON: Final = (
    (AWAITING_REPLY, "awaiting-reply", "handler_timeout"),
    (PAUSED, "paused", "pause"),
    (WRITE_BLOCKED, "write-blocked", "send_progress"),
    (TLS_STARTING, "tls-handshake", "tls_handshake"),
)
"""Why messages are not handed on: the flag, the reason, and the wait that began then."""

NOT_READ: Final = (
    (INBOX_FULL, "inbox-full"),
    (BODY_FULL, "body-full"),
    (MEMORY_PRESSURE, "memory-pressure"),
    (HANDSHAKE_STEP, "handshake-turn"),
    (MOVING_AWAY, "moving"),
    (BYTES_KEPT, "inbox-full"),
)
"""Why nothing is read: the flag and the reason."""


def info_of(parts: Parts) -> ConnectionInfo:
    """The connection of these `parts` at this moment. After its end its counts are kept, and its unread messages."""
    stage, totals = parts._lifecycle.stage, parts.totals
    connected = stage not in (Stage.UNOPENED, Stage.CLOSED) and parts._dispatcher is not CLOSED_PARTS
    return ConnectionInfo(
        state=stage.state.value,
        age=totals.duration,
        messages=totals.messages,
        bytes=totals.bytes,
        sent_messages=totals.sent_messages,
        sent_bytes=totals.sent_bytes,
        unread=0 if stage is Stage.UNOPENED else len(parts._inbox),
        pending=len(parts._throttle.pending) if connected else 0,
        in_flight=parts._dispatcher.in_flight if connected else 0,
        tasks=0 if parts._tasks is None else len(parts._tasks),
        unsent=parts._outbox.unsent if connected else 0,
        buffered=parts._buffered.held_bytes if connected else 0,
        holds=_holds(parts, stage) if connected else (),
        deadline=_next_wait(parts),
    )


def _holds(parts: Parts, stage: Stage) -> tuple[Hold, ...]:
    """All that holds it back, with the seconds since then."""
    now = parts._deadlines.seconds()
    if stage.state is State.CLOSING:
        found = _closing(parts, stage)
    else:
        found = [*_not_handed_on(parts, stage), *_not_read(parts, stage)]
    return tuple(Hold(reason, max(0.0, now - since) if since < inf else 0.0) for reason, since in found)


def _closing(parts: Parts, stage: Stage) -> list[tuple[str, float]]:
    """What holds back its end."""
    flushes = stage in (Stage.FLUSHING, Stage.DISCONNECTING)
    return [("flush", parts._deadlines.began("flush"))] if flushes else []


def _not_handed_on(parts: Parts, stage: Stage) -> Iterator[tuple[str, float]]:
    """Why messages that came are not handed to the app, and since when."""
    deadlines, pauses = parts._deadlines, parts._dispatcher.pauses
    if stage is Stage.OPENING:
        pauses |= TLS_STARTING
    for flag, reason, wait in NOT_HANDED_ON:
        if pauses & flag:
            yield reason, deadlines.began(wait)
    began = parts._dispatcher.turn_since
    if parts._throttle.waits_for_turn:
        began = min(began, deadlines.stopped)
    if began < inf:
        yield "turn", began
    if deadlines.began("message_rate") < inf:
        yield "message-rate", deadlines.began("message_rate")


def _not_read(parts: Parts, stage: Stage) -> Iterator[tuple[str, float]]:
    """Why the connection is not read from, and since when. After the end of the input it need not be."""
    if stage.reads:
        deadlines, pauses = parts._deadlines, parts._read_control.pauses
        if pauses & OVER_BYTE_RATE:
            yield "byte-rate", deadlines.began("byte_rate")
        for flag, reason in NOT_READ:
            if pauses & flag:
                yield reason, deadlines.stopped


def _next_wait(parts: Parts) -> Wait | None:
    """The wait that is over first. Without a clock none ever is."""
    if parts._clock is None:
        return None
    at, name, _ = min(parts._deadlines.due(), default=(inf, "", 0.0))
    return Wait(name, max(0.0, at - parts._deadlines.seconds())) if at < inf else None
