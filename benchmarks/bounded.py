"""
The attacked servers of tcpapp: apps that hold, stream, pass on and decode messages, and report their memory account.

Each is served twice (`benchmarks.servers`): as ``tcpapp-NAME`` with the default limits, and as ``bounded-NAME`` with a
``max_buffered`` of `BOUND`, which is reached within seconds. With the bound, the kernel's buffers are small, so that
bytes wait in the process. A line on standard input is a question, and the answer is a line of JSON: the result of
`told`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

BOUND = 64 * 1024 * 1024
"""The ``max_buffered`` of servers that must reach it soon. It is large beside one message."""
SEND_BUFFER = 2048
RECEIVE_BUFFER = 16 * 1024
"""Bytes of each connection's buffers in the kernel, if there is a bound. The kernel's own choice is megabytes."""
MAX_CONNECTIONS = 11_000
HOLD = 0.3
"""Seconds for which an app holds a message."""
LONG = 3.0
"""Seconds for which an app holds a message while others must wait behind it."""
FRAME = 3.0
"""Seconds for a message (``timeouts.message_timeout``): unfinished messages must end soon."""
WRITE_HIGH = 8 * 1024
"""The write mark of the chat. Its messages are small, and must soon wait."""
REPLY = 12_000_000
PIECE = 300_000

_watched: list[Any] = []
_peak = 0
_decode = 0.0


def echo(bound: int) -> Any:
    """Return a factory that sends every message back."""
    return _served(lambda message, connection: message, "int32", bound)


def lines(bound: int) -> Any:
    """Return a factory that sends every line back."""
    return _served(lambda message, connection: message, "line", bound)


def skip(bound: int) -> Any:
    """Return a factory that sends lines of one byte back, and skips longer ones."""
    return _served(lambda message, connection: message, "line:max=1:oversize=skip", bound)


def json(bound: int) -> Any:
    """Return a factory that sends every JSON line back, and reports the longest decoding time."""
    from tcpapp.codecs import Json

    class Timed(Json):  # type: ignore[type-arg]
        __slots__ = ()

        def decode(self, message: bytes) -> Any:
            global _decode  # noqa: PLW0603 - a process has one server
            began = time.perf_counter()
            value = super().decode(message)
            _decode = max(_decode, time.perf_counter() - began)
            return value

    return _served(lambda message, connection: message, "line", bound, codec=Timed())


def stream(bound: int) -> Any:
    """Return a factory that replies to each message with 200 messages of 300 kB."""

    async def app(message, connection):
        for _ in range(200):
            await connection.send(b"x" * PIECE)

    return _served(app, "int32", bound)


def large(bound: int) -> Any:
    """Return a factory that replies to each line with 12 MB."""
    reply = b"x" * REPLY
    return _served(lambda message, connection: reply + message, "line:max=16777216", bound)


def chat(bound: int) -> Any:
    """Return a factory of the chat that comes with tcpapp."""
    from tcpapp.apps.chat import chat as app

    return _served(app, "line", bound, write_high=WRITE_HIGH if bound else 0)


def hold(bound: int) -> Any:
    """Return a factory that holds each JSON message for a while, and sends no reply."""

    async def app(value, connection):
        await _sleep(HOLD)

    return _served(app, "int32", bound, codec="json")


def slow(bound: int) -> Any:
    """Return a factory that holds each JSON message shortly, and a message that is 1 so long that all others wait."""

    async def app(value, connection):
        await _sleep(LONG if value == 1 else 0.001)

    return _served(app, "int32", bound, codec="json")


def talk(bound: int) -> Any:
    """Return a factory of a conversation that holds its received messages for a while."""
    from tcpapp import conversation

    @conversation
    async def app(connection):
        async for value in connection:
            await _sleep(HOLD)
            del value

    return _served(app, "int32", bound, codec="json")


FACTORIES: dict[str, Callable[[int], Any]] = {
    each.__name__: each for each in (echo, lines, skip, json, stream, large, chat, hold, slow, talk)
}


def told() -> dict[str, Any]:
    """
    Return the account in bytes, its maximum since the last question, and the results of connections.

    `decode` is how many seconds the longest decoding took since the last question, if it is measured.
    """
    global _peak, _decode
    (factory,) = _watched
    info = factory.info()
    found = {
        "buffered": info.buffered,
        "peak": max(_peak, info.buffered),
        "shed": info.shed,
        "connections": info.connections,
        "closed": dict(info.closed),
        "decode": _decode,
    }
    _peak, _decode = info.buffered, 0.0
    return found


def _served(app: Any, framing: str, bound: int, *, codec: Any = None, write_high: int = 0) -> Any:
    from tcpapp import MessageServerFactory
    from tcpapp.limits import Limits, Timeouts

    given = {"max_buffered": bound, "write_high": write_high}
    limits = Limits(
        max_connections=MAX_CONNECTIONS,
        accept_rate=MAX_CONNECTIONS,
        **{name: number for name, number in given.items() if number},
    )
    timeouts = Timeouts(message_timeout=FRAME) if bound else Timeouts()
    factory = MessageServerFactory(app, framing=framing, codec=codec, limits=limits, timeouts=timeouts)
    memory = factory.settings.memory_budget
    note = memory.update

    def noted(holder: Any, amount: int) -> None:
        global _peak  # noqa: PLW0603 - a process has one server
        note(holder, amount)
        _peak = max(_peak, memory.total)

    memory.update = noted  # type: ignore[method-assign]
    _watched.append(factory)
    return factory


def _sleep(seconds: float) -> Any:
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    return deferLater(reactor, seconds)  # type: ignore[arg-type]
