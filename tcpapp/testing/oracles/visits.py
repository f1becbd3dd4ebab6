"""One connection of an app over a fake transport, in virtual time, and the check of what it leaves behind."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from tcpapp.codecs import Codec
from tcpapp.connection.connection import State
from tcpapp.connection.handlers import Handlers, deferred_of
from tcpapp.framing import Framing
from tcpapp.server.factory import MessageServerFactory
from tcpapp.telemetry import AppFailed, Telemetry
from tcpapp.telemetry import Event as Told
from tcpapp.testing.leaks import timer
from tcpapp.testing.oracles.streams import broken, messages_of
from tcpapp.testing.strategies import Abort, Advance, Deliver, Event, HalfClose, Leave, Read, Reset, Stall
from tcpapp.testing.transport import FakeTransport

__all__ = ["HANDLED", "Visit"]

HANDLED = "every exception is handled"
LOGGED = "no error is logged"
AWAITED = "the app leaves no waiting Deferred or coroutine behind"


@implementer(ILogObserver)
class Visit:
    """
    One connection to `app`. `go` runs it, and raises `AssertionError` if something is left.

    After the end, the app has `within` seconds to come to rest. The visit watches the log while it runs.
    """

    def __init__(self, app: Any, framing: Framing, options: dict[str, Any], within: float) -> None:
        self._app = app
        self._framing = framing
        self._within = within
        self._faults: list[tuple[str, str]] = []
        self._waiting: list[tuple[str, Deferred[Any], object]] = []
        self._talks: list[Any] = []
        self._ends = 0
        self._clock = Clock()
        self._transport: Any = FakeTransport(clock=self._clock)
        self._factory = MessageServerFactory(
            app, framing, **{"clock": self._clock, "telemetry": Telemetry(self._told), **options}
        )
        self._handlers = self._factory.settings.handlers
        self._factory.settings.handlers = self._watched
        protocol: Any = self._factory.buildProtocol(self._transport.getPeer())
        self._protocol, self._connection = protocol, protocol.connection

    def go(self, events: Sequence[Event]) -> None:
        """Open the connection, let `events` happen, end the connection if they did not, and check what is left."""
        globalLogPublisher.addObserver(self)
        try:
            self._happen(lambda: self._transport.connect(self._protocol))
            for event in events:
                self._happen(lambda event=event: self._apply(event))  # type: ignore[misc]  # a default argument binds the event now
            self._happen(self._end)
            self._happen(lambda: self._clock.advance(self._within))
            left = self._left()
            sent = self._transport.value()
            self._protocol = self._connection = self._transport = None
            gc.collect(1)  # unhandled failures are logged when their Deferreds are collected, which are young objects
        finally:
            globalLogPublisher.removeObserver(self)
        self._faults.sort(key=lambda fault: fault[0] == LOGGED)  # a failure says more than a logged error
        for promise, fault in [*self._faults, *left]:
            chunks = [each.data for each in events if isinstance(each, Deliver)]
            messages = messages_of(self._framing, chunks)
            raise broken(
                self._app,
                promise,
                what_happened=[*events],
                chunks=chunks,
                messages=messages,
                sent=sent,
                found=fault,
            )

    def __call__(self, event: LogEvent) -> None:
        """Note an error in the log. The log calls it."""
        failure = event.get("log_failure")
        if failure is not None:
            self._faults.append((HANDLED, failure.getTraceback()))
        elif event.get("log_level") in (LogLevel.error, LogLevel.critical):
            self._faults.append((LOGGED, formatEvent(event)))

    # Events.

    def _happen(self, step: Callable[[], object]) -> None:
        """Let one event happen, and do the reactor's work after it."""
        try:
            step()
            self._transport.turn()
        except Exception:  # noqa: BLE001 - a timer of the app can raise anything, which is reported
            self._faults.append((HANDLED, Failure().getTraceback()))

    def _apply(self, event: Event) -> None:
        transport = self._transport
        if isinstance(event, Advance):
            self._clock.advance(event.seconds)
        elif self._connection.state is State.CLOSED:
            return
        elif isinstance(event, Deliver):
            transport.receive(event.data)
        else:
            happens: dict[type[Event], Callable[[], object]] = {
                HalfClose: transport.half_close,
                Leave: transport.lose,
                Reset: transport.reset,
                Abort: self._connection.abort,
                Stall: transport.stall,
                Read: transport.go_on,
            }
            happens[type(event)]()

    def _end(self) -> None:
        """End the connection. A transport that neither reads nor writes does not notice a reset, so it is told here."""
        if self._connection.state is not State.CLOSED:
            self._transport.lose(ConnectionLost())

    # Watching.

    def _told(self, event: Told) -> None:
        if isinstance(event, AppFailed):
            self._faults.append(("the app raises no exception, whatever the peer sends", event.failure.getTraceback()))

    def _watched(self) -> Handlers:
        return _Watched(self._handlers(), self)

    def _kept(self, talk: Any) -> Any:
        self._talks.append(talk)
        return talk

    def _awaited(self, name: str, part: Callable[..., Any] | None) -> Callable[..., Any] | None:
        if part is None:
            return None

        def call(*arguments: Any) -> Any:
            result = part(*arguments)
            deferred = deferred_of(result)
            if deferred is None:
                return result
            shown = [repr(each) for each in arguments if each is not self._connection]
            self._waiting.append((f"{name}({', '.join(shown)})", deferred, result))
            return deferred

        return call

    def _counted(self, closed: Callable[..., Any] | None) -> Callable[..., Any]:
        def call(connection: Any, reason: Any) -> Any:
            self._ends += 1
            return None if closed is None else closed(connection, reason)

        return call

    # Leaks.

    def _left(self) -> list[tuple[str, str]]:
        """Return each promise that is broken now, with the thing that is left."""
        now = self._clock.seconds()
        left = [("the app leaves no timer behind", timer(call, now)) for call in self._clock.getDelayedCalls()]
        left += [
            (AWAITED, name)
            for name, deferred, result in self._waiting
            if not deferred.called or _goes_on(result)  # a coroutine can continue although it was cancelled
        ]
        left += [
            (AWAITED, f"the conversation {talk.__qualname__}, line {talk.cr_frame.f_lineno}")
            for talk in self._talks
            if _goes_on(talk)
        ]
        if self._ends != 1:
            left.append(("the end of the connection is reported once", f"it was reported {self._ends} times"))
        return left


class _Watched(Handlers):
    """Handlers of an app whose results a visit watches, also after a switch to another framing."""

    __slots__ = ("_visit",)

    def __init__(self, handlers: Handlers, visit: Visit) -> None:
        for name in Handlers.__slots__:
            setattr(self, name, getattr(handlers, name))
        self._visit = visit
        self.opened = visit._awaited("opened", handlers.opened)
        self.received = visit._awaited("received", handlers.received)
        self.closed = visit._counted(visit._awaited("closed", handlers.closed))
        talk = handlers.talk
        if talk is not None:
            self.talk = lambda connection: visit._kept(talk(connection))

    @override
    def with_codec(self, codec: Codec[Any] | None) -> Handlers:
        return _Watched(super().with_codec(codec), self._visit)


def _goes_on(result: object) -> bool:
    """Return whether the result of an app is a coroutine that has not ended."""
    return inspect.iscoroutine(result) and inspect.getcoroutinestate(result) != inspect.CORO_CLOSED
