"""
The throttle of a connection as facts and messages, from which the throttle of another connection goes on.

Measurements are no part of it: how much time a message takes, and how large a read can be, is measured anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tcpapp.connection.outcomes import NOTHING
from tcpapp.connection.read_control import MESSAGES_PENDING, OVER_BYTE_RATE
from tcpapp.connection.state_form import Facts
from tcpapp.connection.throttle import Throttle, size_of

__all__ = ["MOST_TOKENS", "ThrottleState", "dump_throttle", "facts_of", "load_throttle", "read_throttle"]

MOST_TOKENS: Final = 2**53
"""The most tokens of a rate, and the most that it lacks. Our choice: floats are exact so far, and one read is less."""


@dataclass(frozen=True)
class ThrottleState:
    """
    The state of a connection's `Throttle`: the `pending` messages, and the tokens of its rates; `None` without a rate.
    """

    pending: list[bytes]
    message_tokens: float | None
    byte_tokens: float | None


def dump_throttle(throttle: Throttle) -> ThrottleState:
    """The state of `throttle`, which goes on unchanged."""
    now = throttle._deadlines.seconds()
    messages, size = throttle._message_rate, throttle._byte_rate
    return ThrottleState(
        throttle.pending.copy(),
        None if messages is None else messages.available(now),
        None if size is None else size.available(now),
    )


def load_throttle(throttle: Throttle, state: ThrottleState) -> int:
    """
    Go on from `state`. Returns the outcome.

    The deadlines must be loaded before: by them it is known which rate is waited for. A wait for a rate that the
    settings do not have any more ends.
    """
    deadlines, read_control = throttle._deadlines, throttle._read_control
    now, waits = deadlines.seconds(), deadlines.started
    throttle.pending += state.pending
    throttle.size += size_of(state.pending)
    size, messages = throttle._byte_rate, throttle._message_rate
    if size is None:
        deadlines.stop("byte_rate")
    else:
        if state.byte_tokens is not None:
            size.load(now, state.byte_tokens)
        if "byte_rate" in waits:
            read_control.pause(OVER_BYTE_RATE)
        elif throttle._waits_for_rate:
            throttle.resume_reading()
    if messages is None:
        deadlines.stop("message_rate")
    else:
        if state.message_tokens is not None:
            messages.load(now, state.message_tokens)
        if "message_rate" in waits:
            read_control.pause(MESSAGES_PENDING)
            return NOTHING
    if not state.pending:
        return NOTHING
    return throttle.release() if throttle._clock is None else throttle.wait()


def facts_of(state: ThrottleState) -> dict[str, Any]:
    """`state` without its messages as facts, which `read_throttle` reads."""
    return {"message_tokens": state.message_tokens, "byte_tokens": state.byte_tokens}


def read_throttle(facts: Facts, pending: list[bytes]) -> ThrottleState:
    """The state that `facts_of` wrote, with the `pending` messages. Raises `InvalidState` for other facts."""
    state = ThrottleState(
        pending,
        facts.number_or_none("message_tokens", -MOST_TOKENS, MOST_TOKENS),
        facts.number_or_none("byte_tokens", -MOST_TOKENS, MOST_TOKENS),
    )
    facts.end()
    return state
