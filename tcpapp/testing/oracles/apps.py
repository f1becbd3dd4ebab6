"""`check_app`: checks that an app leaves nothing behind, whatever its peer sends and however the connection ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from tcpapp import codecs
from tcpapp import framing as framings
from tcpapp.codecs import Codec
from tcpapp.framing import Framing, Parser
from tcpapp.testing import strategies
from tcpapp.testing.leaks import Leaks
from tcpapp.testing.oracles.parsers import framed_by
from tcpapp.testing.oracles.streams import broken, in_pieces, without_frames
from tcpapp.testing.oracles.visits import HANDLED, Visit
from tcpapp.testing.strategies import Abort, Advance, Deliver, Event, HalfClose, Leave, Reset, Stall

__all__ = ["check_app"]

HOUR = 3600.0
"""Seconds. An hour is longer than every default timeout of tcpapp."""

ENDINGS: tuple[list[Event], ...] = (
    [Leave()],
    [Reset()],
    [Abort()],
    [HalfClose(), Leave()],
    [HalfClose(), Advance(HOUR)],
    [Stall(), Advance(HOUR), Reset()],
)
"""The endings that are tried after each byte of a short stream."""

SHORT = 24
"""The bytes of the short stream. With every ending, whole and byte by byte, it takes 288 connections."""

VALUES = (b"", b"x", b"hello", b"{}", b"[1]", b"null", b'"text"', b"\xff\xfe", b"\x80")
"""Messages for any app. Some are values of tcpapp's codecs."""


def check_app(
    app: Any,
    framing: Framing | str = "line",
    codec: Codec[Any] | str | None = None,
    messages: Iterable[Any] | st.SearchStrategy[Any] | None = None,
    *,
    frame: Callable[[Any], bytes] | None = None,
    within: float = 0.0,
    examples: int | None = None,
    **options: Any,
) -> None:
    """
    Check that `app`, in any of the three forms, leaves nothing behind, whatever is received and however the connection
    ends.

    On each of many connections (over a `FakeTransport`, in virtual time) a peer sends messages, parts of messages, or
    garbage, cut at any place. At any moment the connection ends: the peer leaves, half-closes, resets it or stops
    reading, or our own side aborts it. Then, within `within` seconds of virtual time:

    - no timer is left on ``connection.clock``, and no Deferred or coroutine of the app still waits;
    - the app has raised nothing, no exception was unhandled, and no error was logged;
    - the end was reported once.

    The other arguments:

    - `messages`: the messages of an honest peer, as a collection or a strategy (with a `codec` or a parser: values).
      `None`: some messages that suit any app.
    - `frame`: makes the bytes of a message for a parser, as the peer sends it; `None`: the parser's own function.
    - `examples`: how many connections are drawn (`None`: by Hypothesis's profile), after some hundreds of fixed ones.
    - `options`: the options of `tcpapp.MessageServerFactory`.

    An instance as `app` serves all connections in turn; a class is instantiated for each. Timers on the global reactor
    are not found. Raises `AssertionError` with the broken promise and the smallest example that was found: the events,
    the chunks of bytes, the messages in them, the app's messages, and what is left.
    """
    __tracebackhide__ = True
    try:
        _check(app, framings.from_string(framing), frame, codec, messages, within, examples, options)
    except AssertionError as error:
        raise without_frames(error)  # noqa: B904  # it is the same error


def _check(
    app: Any,
    framing: Framing,
    frame: Callable[[Any], bytes] | None,
    codec: Codec[Any] | str | None,
    messages: Iterable[Any] | st.SearchStrategy[Any] | None,
    within: float,
    examples: int | None,
    options: dict[str, Any],
) -> None:
    options = {**options, "codec": codecs.from_string(codec)}
    peer = framed_by(framing, frame)
    wire = _on_the_wire(peer, options["codec"], messages)
    one = wire if isinstance(wire, st.SearchStrategy) else st.sampled_from(wire)
    log = Leaks(sockets=False)
    try:
        for events in _short(peer, wire):
            Visit(app, framing, options, within).go(events)
        _drawn(lambda: Visit(app, framing, options, within), strategies.streams(peer, one), examples)
        for failure in log.take():  # it is logged only now, when all garbage was collected
            raise broken(app, HANDLED, found=failure.getTraceback())
    finally:
        log.stop()


def _on_the_wire(
    framing: Framing, codec: Codec[Any] | None, messages: Iterable[Any] | st.SearchStrategy[Any] | None
) -> list[Any] | st.SearchStrategy[Any]:
    """Return the messages as bytes, encoded by the codec if there is one; or as values, for a parser."""

    def encoded(value: Any) -> Any:
        if codec is None:
            return value if isinstance(framing, Parser) else bytes(value)
        return codec.encode(value)

    if isinstance(messages, st.SearchStrategy):
        return messages.map(encoded)
    if messages is not None:
        return [encoded(each) for each in messages]
    found = [each for each in VALUES if strategies.sendable(framing, each)]
    return found or strategies.messages(framing)


def _short(framing: Framing, wire: list[Any] | st.SearchStrategy[Any]) -> Iterator[list[Event]]:
    """Yield schedules of a short stream of messages that is ended after each byte, in every way; the shortest first."""
    frames = [] if isinstance(wire, st.SearchStrategy) else [framing.frame(each) for each in wire]
    stream = b"".join(frames)[:SHORT]
    for size in range(len(stream) + 1):
        for ending in ENDINGS:
            yield [*([Deliver(stream[:size])] if size else []), *ending]
            if size > 1:
                yield [*map(Deliver, in_pieces(stream[:size], 1)), *ending]


def _drawn(visit: Callable[[], Visit], stream: st.SearchStrategy[bytes], examples: int | None) -> None:
    count = {} if examples is None else {"max_examples": examples}
    found: list[AssertionError] = []

    @settings(
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        **count,  # type: ignore[arg-type]  # `settings` takes this argument
    )
    @given(strategies.schedules(stream, seconds=HOUR))
    def anything_happens(events: list[Event]) -> None:
        try:
            visit().go(events)
        except AssertionError as error:
            found.append(error)
            raise

    try:
        anything_happens()
    except Flaky:  # the app keeps state from one connection to the next
        raise found[0] from None
