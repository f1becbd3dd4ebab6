"""A connection that is moved from process to process, each with a factory, a transport and a clock of its own."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from tcpapp import MessageServerFactory, Telemetry, Timeouts
from tcpapp.framing import from_string
from tcpapp.telemetry import Event
from tests.peers import NotedTransport, TurnClock

QUIET = Timeouts(first_message=0, idle=0, message_timeout=0, send_progress=0)
WAITS = Timeouts(first_message=7, message_timeout=9, idle=11, idle_read=13, max_age=40, send_progress=0)
"""Timeouts of which some end a connection within a minute."""

MESSAGES = st.lists(st.binary(max_size=40).map(lambda each: each.hex().encode()), max_size=6)
"""Messages that every framing can carry."""

ANOTHER_CLOCK = 1_000_000.25
"""Seconds that the clock of the next process is ahead."""


def shout(message: bytes, connection: Any) -> bytes:
    """Reply in capitals, with an exclamation mark."""
    return message.upper() + b"!"


def stream_of(framing: str, messages: list[bytes]) -> bytes:
    """Return the stream of these messages with this framing."""
    return b"".join(from_string(framing).fresh().frame(message) for message in messages)


def pieces_of(stream: bytes, places: set[int]) -> list[bytes]:
    """Return the stream, cut at these places."""
    cuts = sorted({0, len(stream), *(place for place in places if place < len(stream))})
    return [stream[begin:end] for begin, end in itertools.pairwise(cuts)]


class Process:
    """A process that a connection is in: its factory, and its end of the connection."""

    def __init__(self, app: Any, framing: Any, *, at: float, peer_reads: bool = True, **options: Any) -> None:
        self.clock = TurnClock()
        self.clock.advance(at)
        self.events: list[Event] = []
        self.factory = MessageServerFactory(app, framing, telemetry=Telemetry(self.events.append), **options)
        self.transport = NotedTransport(clock=self.clock, peer_reads=peer_reads)
        self.protocol: Any = self.factory.buildProtocol(None)
        self.connection: Any = self.protocol.connection

    @property
    def buffered(self) -> tuple[int, int]:
        """The bytes that the memory budget counts, and the bytes that the connection holds."""
        return self.factory.settings.memory_budget.total, self.protocol.info().buffered

    def told(self, kind: type[Any]) -> list[Any]:
        """Return the events of this kind."""
        return [event for event in self.events if isinstance(event, kind)]


class Moving:
    """
    A connection that moves from process to process, and its peer.

    `now` is the process that has the connection, and `before` are the earlier processes. The peer `says` bytes in any
    process, and `hears()` returns all bytes that it got so far. `changed` are the options of the next processes.
    """

    def __init__(self, app: Any = None, framing: Any = "line", **options: Any) -> None:
        self.app, self.framing, self.options = app, framing, {"timeouts": QUIET, **options}
        self.before: list[Process] = []
        self.changed: dict[str, Any] = {}
        self.now = Process(app, framing, at=100.0, **self.options)
        self.now.transport.connect(self.now.protocol)

    @property
    def connection(self) -> Any:
        return self.now.connection

    @property
    def protocol(self) -> Any:
        return self.now.protocol

    @property
    def time(self) -> float:
        """The seconds since the first process made the connection."""
        return self.now.clock.seconds() - 100.0 - ANOTHER_CLOCK * len(self.before)

    def says(self, data: bytes) -> None:
        """Send a chunk."""
        self.now.transport.receive(data)

    def hears(self) -> bytes:
        """Return all bytes that came to the peer."""
        return b"".join(each.transport.value() for each in [*self.before, self.now])

    def advance(self, seconds: float) -> None:
        """Let time pass. Bytes that were sent before have left."""
        self.now.transport.turn()
        self.now.clock.advance(seconds)

    def next_process(self) -> Process:
        """Return another process, which is not connected yet, with the bytes that kernel and transport hold."""
        at = self.now.clock.seconds() + ANOTHER_CLOCK
        options = {"peer_reads": self.options.get("peer_reads", True), **self.options, **self.changed}
        process = Process(self.app, self.framing, at=at, **options)
        old = self.now.transport
        process.transport.write(bytes(old.dataBuffer[old.offset :]) + b"".join(old._tempDataBuffer))
        process.transport._peer_socket.incoming += old._peer_socket.incoming
        return process

    def move(self) -> None:
        """Move the connection to the next process."""
        self.protocol.pause_at_boundary()
        state = self.protocol.dump()
        self.protocol.release()
        process = self.next_process()
        process.protocol.load(state)
        process.transport.connect(process.protocol)
        process.transport.receive(b"")  # what the kernel has
        process.transport.turn()
        self.before.append(self.now)
        self.now = process
