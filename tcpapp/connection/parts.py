"""
The parts of one connection, joined: its framing, inbox, outbox, dispatcher, throttle, deadlines and stages.

A part refers to the parts that it uses. It reports to the connection by an outcome (`tcpapp.connection.outcomes`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol

from tcpapp.connection.buffered_bytes import BufferedBytes
from tcpapp.connection.concurrent_dispatcher import ConcurrentDispatcher
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.dispatcher import Dispatcher
from tcpapp.connection.handlers import Handlers
from tcpapp.connection.inbox import Inbox
from tcpapp.connection.lifecycle import Lifecycle, Stage
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import NOTHING
from tcpapp.connection.pause_flags import CONNECTION_CLOSED, CONNECTION_CLOSING, PAUSED
from tcpapp.connection.read_control import ReadControl
from tcpapp.connection.received_body import Bodies
from tcpapp.connection.receiver import Receiver
from tcpapp.connection.recording import Recorder, Recording
from tcpapp.connection.settings import Settings
from tcpapp.connection.starttls import StartTLS
from tcpapp.connection.tasks import Tasks
from tcpapp.connection.throttle import Throttle
from tcpapp.connection.tls_handshake import Handshake
from tcpapp.errors import InvalidOption
from tcpapp.framing import Framing, Parser
from tcpapp.limits import Limits, Policies
from tcpapp.telemetry import Event, RecorderFailed
from tcpapp.telemetry.counters import MessageCounter, Throughput
from tcpapp.telemetry.statistics import Totals
from tcpapp.transport.layers import close_by_halves

__all__ = ["CLOSED_PARTS", "NO_COUNTS", "ClosedReceiver", "Parts"]


class _ClosedParts:
    """Stands in for the parts of a connection that has ended: its methods do nothing."""

    pauses = CONNECTION_CLOSING | CONNECTION_CLOSED
    requests = awaited = None
    receive_only = done = True
    working = False
    pending: tuple[()] = ()
    reported = in_flight = 0

    def receive(self, data: bytes) -> int:
        """Ignore bytes that come after the end."""
        return NOTHING

    def update(self) -> None:
        """Nothing is held."""

    def notify_conversation(self) -> None:
        """There is no conversation any more."""

    def enter(self, bits: int) -> None:
        """There is no app to be called any more."""


IDS: Final = count(1)
"""The numbers of the connections of this process."""

CLOSED_PARTS: Any = _ClosedParts()

NO_COUNTS: Final = MessageCounter(Throughput())
"""The counters of a connection that has had no message, or whose transport another protocol has."""

LATE: Final = frozenset(
    ("_buffered", "_dispatcher", "_framing", "_inbox", "_outbox", "_read_control", "_receiver", "_throttle")
)
"""The parts that a connection makes when it needs the first of them."""


class ClosedReceiver(_ClosedParts):
    """Stands in for the receiver of a connection that has ended, and keeps its `totals`."""

    def __init__(self, totals: Totals) -> None:
        self.totals = totals


class Parts(Protocol):
    """
    The parts of a connection. A subclass makes `connection`, and has `settle`, which acts on the outcomes of the parts.
    """

    __slots__ = (
        "_bodies",
        "_buffered",
        "_clock",
        "_codec",
        "_connection",
        "_data",
        "_deadlines",
        "_dispatcher",
        "_framing",
        "_handlers",
        "_handshake",
        "_id",
        "_inbox",
        "_lifecycle",
        "_outbox",
        "_read_control",
        "_receiver",
        "_recording",
        "_settings",
        "_starttls",
        "_tasks",
        "_throttle",
        "_unhandled",
        "_unmade",
        "connected",
        "factory",
        "transport",
    )

    transport: Any
    """The transport that Twisted gave it."""

    factory: Any
    """The factory that made it, which it shares with other connections: a server's has ``info()`` and ``change()``."""

    _connection: Any
    """The user's side. After the end it is a weak reference, because each side refers to the other."""

    def __init__(self, settings: Settings, factory: Any = None) -> None:
        self._settings = settings
        self.factory = factory
        self.transport = None
        self._id = next(IDS)
        self.connected = 0
        self._deadlines = Deadlines(self)
        self._lifecycle = Lifecycle(self._deadlines)
        self._clock: IReactorTime | None = settings.clock
        self._handshake: Handshake | None = None
        self._recording: Recording | None = None
        self._starttls: StartTLS | None = None
        self._data: SimpleNamespace | None = None
        self._tasks: Tasks | None = None
        self._unhandled = 0
        self._bodies: Bodies | None = None
        self._codec = settings.codec
        self._handlers: Handlers | None = None
        self._unmade: tuple[Limits, Policies] | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Make the parts when the first of them is needed: a connection that is open and silent has none."""
            if name in LATE and self._unmade is not None:
                self._make_parts()
                return getattr(self, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def connection(self) -> Any:
        """The user's side of it."""
        raise NotImplementedError

    @property
    def clock(self) -> IReactorTime:
        """The clock of the timers: the reactor, or a test's `Clock`. Raises `InvalidOption` where there is none."""
        if self._clock is None:
            raise InvalidOption("clock=None: this transport has no reactor, so the factory takes a clock, as Clock()")
        return self._clock

    def settle(self, outcome: int, detail: Any = None) -> None:
        """Do what the `outcome` of a part asks for; see `tcpapp.connection.outcomes`."""
        raise NotImplementedError

    @property
    def is_handling(self) -> bool:
        """Whether our side has a message to answer: it waits for the app, or for the app's reply."""
        if self._unmade is not None:
            return False
        dispatcher = self._dispatcher
        return bool(self._inbox or self._throttle.pending or dispatcher.pauses & PAUSED or dispatcher.in_flight)

    @property
    def _has_no_more(self) -> bool:
        """Whether no message is in the inbox or waits for a turn, and no undecodable message ended the input."""
        return not (self._inbox or self._inbox.refusal is not None or self._throttle.pending)

    @property
    def _serves(self) -> bool:
        """Whether it is a connection of a server."""
        return getattr(self.factory, "serves", False)

    def _set_up_tls(self, layer: Any) -> None:
        """The handshake of the TLS `layer` begins. The handshakes of one server take turns."""
        close_by_halves(layer)
        if self._serves:
            steps = self._settings.step_scheduler
            self._handshake = Handshake(layer, steps, self._read_control, self._deadlines, self._clock)

    def _end_handshake(self) -> None:
        """TLS is set up, or it will never be."""
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.end()

    def _make_parts(self) -> None:
        """Make the parts of a connection that has a transport, with the limits of the time when it got that."""
        rules, self._unmade = self._unmade, None
        assert rules is not None
        settings = self._settings.with_rules(rules)
        limits, deadlines = settings.limits, self._deadlines
        self._framing = settings.framing.fresh()
        self._read_control = ReadControl(self.transport, self._lifecycle, deadlines, limits.write_high)
        self._inbox = Inbox(limits, self._read_control, self._lifecycle, settings.codec)
        progress, counters = settings.timeouts.send_progress, settings.counters
        self._outbox = Outbox(self.transport, self, self._lifecycle, limits, progress, deadlines, counters.sent)
        dispatcher = ConcurrentDispatcher if settings.concurrency > 1 else Dispatcher
        self._dispatcher = dispatcher(
            self._connection, self, self._framing, settings, self._inbox, self._outbox, deadlines, self._clock
        )
        self._throttle = Throttle(self, self._dispatcher, self._read_control, settings, deadlines, self._clock)
        self._buffered = BufferedBytes(settings.memory_budget, self._parts, self._dispatcher, self._read_control, self)
        self._receiver = Receiver(
            self._framing, self._throttle, self._dispatcher, deadlines, self._buffered, counters.received
        )
        if isinstance(self._framing, Parser):
            self._use_bodies(self._framing)
        handlers, self._handlers = self._handlers, None
        if handlers is not None:
            self._dispatcher.enter(self._lifecycle.stage.pauses)
            self._dispatcher.start(handlers)

    def _start_dispatcher(self, handlers: Handlers) -> None:
        """Tell the app, by its `handlers`, that it is open. Makes no part if the app has no need of that."""
        if self._unmade is None or handlers.opened is not None or handlers.talk is not None:
            self.settle(self._dispatcher.start(handlers))
        else:
            self._handlers = handlers

    def _use_bodies(self, framing: Parser) -> None:
        """Let the messages of `framing` have bodies, which the connection holds."""
        if self._bodies is None:
            self._bodies = Bodies(self._settings, self._lifecycle, self._deadlines, self._read_control, self._buffered)
            self._buffered.bodies = self._bodies
        framing.make_bodies(self._bodies.make)

    def _own_tasks(self) -> Tasks:
        """Its tasks and ticks. Most connections have none, and no memory for them."""
        if self._tasks is None:
            self._tasks = Tasks(self, self._lifecycle, self._deadlines)
        return self._tasks

    @property
    def counters(self) -> tuple[MessageCounter, MessageCounter]:
        """The counters of what it received and of what it sent, while it is connected."""
        if self._unmade is not None:
            return NO_COUNTS, NO_COUNTS
        return self._receiver, self._outbox if self._recording is None else self._recording.outbox

    @property
    def totals(self) -> Totals:
        """What it received and sent in all, and how long it was open, so far or until its end."""
        if self._lifecycle.stage is Stage.UNOPENED:
            return Totals()
        if self._unmade is None and isinstance(self._receiver, ClosedReceiver):
            return self._receiver.totals
        received, sent = self.counters
        duration = self._deadlines.seconds() - self._deadlines.opened if self._lifecycle.opened else 0.0
        return Totals(received.messages, received.bytes, sent.messages, sent.bytes, duration)

    def record(self, recorder: Recorder) -> Callable[[], None]:
        """
        Tell `recorder` of each message and each byte from now on; returns a function that ends it.

        Several recorders can listen at a time. Raises `NotConnected` before the connection is made and after its end.
        """
        if self._lifecycle.stage in (Stage.UNOPENED, Stage.CLOSED):
            raise self._lifecycle.error
        if self._recording is None:
            failed = partial(self._emit, RecorderFailed)
            self._recording = Recording(self._receiver, self._dispatcher, self._outbox, failed, self._end_recording)
            self._framing, self._outbox = self._recording.stand_ins()
        return self._recording.add(recorder)

    def _end_recording(self) -> None:
        recording, self._recording = self._recording, None
        if recording is not None:
            self._framing, self._outbox = recording.end()

    @property
    def _parts(self) -> tuple[Framing, Throttle, Inbox, Outbox]:
        """The parts that hold bytes."""
        return self._framing, self._throttle, self._inbox, self._outbox

    def _frame(self, message: Any) -> bytes:
        codec = self._codec
        return self._framing.frame(message if codec is None else codec.encode(message))

    def _emit(self, kind: Callable[..., Event], *details: Any) -> None:
        if self._settings.telemetry:
            self._settings.telemetry.emit(kind(self.connection, *details))
