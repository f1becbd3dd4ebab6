"""
One conversation: a Twisted `Protocol` that carries messages.

The way of a message::

    transport ─▶ dataReceived(chunk)
                   framing.receive(chunk)              once per chunk
                   codec, and replies to requests      where the connection has them
                   inbox                               only while the app is behind, or fetches messages itself
                   reply = app(message, connection)    in order, one at a time
                   framing.frame_all(replies)          once per chunk
    transport ◀─── write                               once per chunk

The way of a connection::

    UNOPENED ─▶ OPEN ─────────────────────────────────────▶ CLOSING ─▶ CLOSED
                 │    close(), the app failed                ▲  what is written is flushed, within the grace
                 └──▶ no more input ─ what came is handled ──┘
                      (the peer closed its side, sent what cannot be read, or the server drains)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import Self
from zope.interface import implementer

from tcpapp.app import Handlers
from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.dispatch import BLOCKED, CUT, DEAF, ENDING, OVER, PAUSED, TOLD, Dispatch
from tcpapp.ending import Ending, State, cause_of_end, cause_of_loss
from tcpapp.errors import InvalidOption, NotConnected, TimedOut, UndecodableMessage, UnreadableStream, UnsendableMessage
from tcpapp.inbox import Inbox
from tcpapp.outbox import Outbox
from tcpapp.requests import bound, requests_by
from tcpapp.settings import Settings
from tcpapp.telemetry import AppFailed, Closed, Event, LateReply, MessagesSkipped, Opened

__all__ = ["MessageProtocol", "State"]


@implementer(IHalfCloseableProtocol)
class MessageProtocol(Protocol):
    """
    One connection: give it to an app, or hold it yourself and `send`, `receive`, `request` and `close`.

    Factories make it; a test takes it from a factory's ``buildProtocol`` and hands it a fake transport. Its methods
    belong to the reactor's thread. The Deferreds it returns fail with `NotConnected` when the connection is not open or
    ends before they fire; none of them waits for ever.
    """

    __slots__ = (
        "_clock",
        "_dispatch",
        "_ending",
        "_framing",
        "_inbox",
        "_outbox",
        "_settings",
        "connected",
        "factory",
        "transport",
    )

    transport: Any
    factory: Any

    def __init__(self, settings: Settings, factory: Any = None) -> None:
        self._settings = settings
        self.factory = factory
        self.transport = None
        self.connected = 0
        self._ending = Ending(self.abort)
        self._clock: IReactorTime | None = settings.clock

    @property
    def state(self) -> State:
        """Where it stands: `State.OPEN` while messages can be sent."""
        return self._ending.state

    @property
    def peer(self) -> IAddress:
        """The peer's address, as the transport gives it. Raises `NotConnected` where there is none (any more)."""
        return self._address("getPeer")

    @property
    def host(self) -> IAddress:
        """Our own address, as the transport gives it. Raises `NotConnected` where there is none (any more)."""
        return self._address("getHost")

    @property
    def clock(self) -> IReactorTime:
        """What the timers of this connection run on: the reactor, or a test's `Clock`. Raises `InvalidOption`."""
        if self._clock is None:
            raise InvalidOption("clock=None: this transport has no reactor, so the factory takes a clock, as Clock()")
        return self._clock

    def send(self, message: Any) -> Deferred[None]:
        """
        Send `message`; the Deferred fires when less than the write mark is unsent. It says nothing of the peer.

        Fails with `UnsendableMessage` for one that this framing or codec cannot send (the connection lives on), and
        with `NotConnected`. Cancelled before any of it was given to the transport, it is not sent.
        """
        if self.state is not State.OPEN:
            return fail(self._ending.error)
        try:
            data = self._frame(message)
        except UnsendableMessage as error:
            return fail(error)
        self._dispatch.flush()
        return self._outbox.send(data)

    def receive(self) -> Deferred[Any]:
        """
        The next message that no request waits for; it is taken before the app's ``received`` sees it.

        After the end of the connection the messages that came before it can still be received; then it fails with
        `NotConnected`. It fails with an `UndecodableMessage` that the codec delivers. Cancelled, it takes none.
        """
        if self.state is State.UNOPENED or (self._dispatch.hold & DEAF and not self._inbox):
            return fail(self._ending.error)
        return self._inbox.receive()

    def request(self, message: Any, timeout: float | None = None) -> Deferred[Any]:
        """
        Send `message` and wait for its reply, for `timeout` seconds (`None`: ``timeouts.request``; 0: no limit).

        Replies are matched in order, or by the factory's ``key``. Fails with `TimedOut`, `UnsendableMessage`,
        `NotConnected`. Cancelled or timed out, its late reply is dropped and the connection goes on. While the inbox
        is over its mark nothing is read, and so no reply either.
        """
        seconds = self._settings.timeouts.request if timeout is None else timeout
        if seconds < 0:  # who reckons with a deadline of his own has missed it
            return fail(TimedOut("request", 0))
        if self.state is not State.OPEN or self._ending.no_more_input:
            return fail(self._ending.error)
        requests = self._dispatch.requests
        if requests is None:
            requests = self._dispatch.requests = requests_by(self._settings.key, lambda: self._tell(LateReply))
        most = self._settings.limits.max_requests
        if len(requests) >= most:
            return fail(UnsendableMessage(f"{most} requests wait for replies, which is the limit (max_requests)"))
        try:
            data = self._frame(message)
            reply = requests.add(message)
        except Exception as error:  # whatever the user's key function raises: it was asked of the caller's message
            return fail(error)
        self._dispatch.flush()
        self._outbox.write(data)
        return bound(reply, seconds, self._clock)

    def pause(self) -> None:
        """Hand the app no further message, from this moment on, until `resume`. Reading stops at the inbox's mark."""
        if self.state is State.OPEN:
            self._dispatch.hold_back(PAUSED)

    def resume(self) -> None:
        """Undo `pause`. Each message is handed on once, in order."""
        if self.state is State.OPEN:
            self._dispatch.let_go(PAUSED)

    def drain(self, deadline: float | None = None) -> None:
        """
        Take no further message, let the app finish what it has in hand, then close.

        What is not finished after `deadline` seconds (`None`: ``timeouts.drain``) is cut.
        """
        self._end_input(CloseReason(EndedBy.US, "drained", "we are stopping; what was in hand is finished"))
        if self.state is State.OPEN:
            self._ending.within(self._settings.timeouts.drain if deadline is None else deadline, "drain-over", "drain")

    def close(self, grace: float | None = None) -> Deferred[CloseReason]:
        """
        Flush what was written and close; what is not gone after `grace` seconds (`None`: ``timeouts.grace``) is cut.

        The Deferred fires with the `CloseReason` when the connection is closed. Called again, a shorter `grace` holds.
        The app is handed no further message. Where ``received`` calls this, its reply still goes out, unless it is
        one to wait for.
        """
        if self.state is State.UNOPENED:
            return fail(self._ending.error)
        closed = self.when_closed()
        self._close(CloseReason(EndedBy.US, "closed", "close() was called"), grace)
        return closed

    def abort(self, reason: CloseReason | None = None) -> None:
        """Cut the connection now: what is unsent is lost. `reason` is told as the cause, if nothing ended it before."""
        if self._ending.cut(reason or CloseReason(EndedBy.US, "aborted", "abort() was called")):
            self._dispatch.hold_back(OVER | CUT)
            self._end_waiters()
            self.transport.abortConnection()

    def when_closed(self) -> Deferred[CloseReason]:
        """Fires with the `CloseReason` once the connection is closed. It never fails."""
        return self._ending.when_over()

    def __aiter__(self) -> Self:
        """``async for message in connection`` takes messages until the connection ends well."""
        return self

    async def __anext__(self) -> Any:
        """The next message. Raises `NotConnected` where the connection did not end well."""
        try:
            return await self.receive()
        except NotConnected as error:
            if error.reason.clean:
                raise StopAsyncIteration from None
            raise

    # What the transport calls.

    def connectionMade(self) -> None:
        """The connection is open. Twisted calls it."""
        settings = self._settings
        if self._clock is None:
            self._clock = getattr(self.transport, "reactor", None)
        self._framing = settings.framing.fresh()
        self._inbox = Inbox(settings.limits, self)
        self._outbox = Outbox(self.transport, self, settings.limits, settings.timeouts.send_progress, self._clock)
        self._ending.open(self._clock)
        failure: Failure | None = None
        try:
            handlers = settings.handlers()
        except Exception:  # an app that is a class is made here
            handlers, failure = Handlers(None, None), Failure()
        self._dispatch = Dispatch(
            self, handlers, self._framing, settings.codec, self._inbox, self._outbox, settings.limits.write_high
        )
        if self.factory is not None:
            self.factory.connection_opened(self)
        self._tell(Opened)
        if failure is not None:
            self.app_failed(failure)
        self._dispatch.start()

    def dataReceived(self, data: bytes) -> None:
        """Bytes came. Twisted calls it."""
        if self._dispatch.hold & DEAF:
            return
        framing = self._framing
        try:
            messages = framing.receive(data)
        except UnreadableStream as error:
            messages, framing.failure = [], error
        if messages:
            self._dispatch.arrive(messages)
        if framing.skipped:
            count, framing.skipped = framing.skipped, 0
            self._tell(MessagesSkipped, count, framing.max)
        if framing.failure is not None:
            self.unreadable(framing.failure)

    def readConnectionLost(self) -> None:
        """The peer closed its side: what came is still answered. Twisted calls it."""
        self._end_input(cause_of_end(self._framing))

    def writeConnectionLost(self) -> None:
        """Our side is closed for writing. Twisted calls it; it follows from our own closing."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The single end: everyone who waits is told, everything that runs is stopped. Twisted calls it."""
        if self.state is State.CLOSED:
            return
        flushed = self.state is State.CLOSING and reason.check(ConnectionDone) is not None
        ended = self._ending.over(cause_of_loss(reason, self._framing))
        unhandled = 0 if self._dispatch.pulled else len(self._inbox)
        waited_for = self._dispatch.waits_for
        if self.factory is not None:
            self.factory.connection_closed(self, ended)
        self._end_waiters()
        self._outbox.end(self._ending.error, flushed)
        self._dispatch.closed(ended)
        self._tell(Closed, ended, unhandled)
        self._ending.tell()
        self._dispatch.cancel_talk(waited_for)

    # What the inbox, the outbox and the dispatch call.

    def pause_reading(self) -> None:
        """The inbox is over its mark."""
        if self.state is State.OPEN:
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """The inbox is under its mark again."""
        if self.state is State.OPEN and not self._ending.no_more_input:
            self.transport.resumeProducing()

    def writing_blocked(self) -> None:
        """The peer does not take what the app sends: the app waits."""
        self._dispatch.hold_back(BLOCKED)

    def writing_resumed(self) -> None:
        """The peer takes it again."""
        self._dispatch.let_go(BLOCKED)

    def writing_stalled(self) -> None:
        """The peer took nothing for too long."""
        limit = self._settings.timeouts.send_progress
        self.abort(
            CloseReason(EndedBy.US, "send-stalled", f"the peer took (next to) nothing in {limit:g} s", limit, limit)
        )

    def too_much_unsent(self, unsent: int) -> None:
        """The peer takes less than is sent."""
        limit = self._settings.limits.max_unsent
        text = f"{unsent} bytes wait for the peer to take them; at most {limit} (max_unsent) may"
        self.abort(CloseReason(EndedBy.US, "too-much-unsent", text, unsent, limit))

    def unreadable(self, error: UnreadableStream) -> None:
        """The stream cannot be read on from here; what came before `error` is still handled."""
        self._end_input(CloseReason.from_unreadable(error))

    def app_failed(self, failure: Failure) -> None:
        """The app raised. That the connection it works with has ended is not its failure."""
        error = failure.value
        if isinstance(error, (NotConnected, CancelledError)) and self.state is not State.OPEN:
            return
        if isinstance(error, NotConnected) and self._ending.no_more_input and error.reason is self._ending.cause:
            cause = error.reason
        elif isinstance(error, UndecodableMessage):
            cause = CloseReason.from_unreadable(error)
        else:
            self._tell(AppFailed, failure)
            text = f"the app raised {type(error).__name__}: {str(error)[:200]!r}"
            cause = CloseReason(EndedBy.US, "app-failed", text, error=error)
        self._close(cause)

    def talk_ended(self) -> None:
        """The conversation came to its end, and the connection with it."""
        self._close(CloseReason(EndedBy.US, "closed", "the conversation came to its end"))

    def app_rests(self) -> None:
        """The app is not being called: what waited for that can be done."""
        if self.state is State.CLOSING:
            self._lose()
        elif self._ending.no_more_input and self._dispatch.done:
            self._close(self._ending.cause)

    # How it ends.

    def _end_input(self, cause: CloseReason) -> None:
        """No message will come any more: what came is still handled, then the connection is closed for `cause`."""
        if not self._ending.no_more(cause):
            return
        self._dispatch.hold_back(ENDING)
        if cause.by is not EndedBy.PEER:
            self.transport.pauseProducing()
        self._end_waiters()
        self.app_rests()
        seconds = self._settings.timeouts.half_close
        if self.state is State.OPEN and seconds and cause.rule != "drained":
            self._ending.within(seconds, "half-close-over", "half_close")

    def _close(self, cause: CloseReason, grace: float | None = None) -> None:
        """Flush and close for `cause`; while the app is being called, once it returns."""
        news = self._ending.close(cause)
        if news or grace is not None:
            self._ending.within(self._settings.timeouts.grace if grace is None else grace, "grace-over", "grace")
        if news:
            self._dispatch.hold_back(OVER)
            self._end_waiters()
            if not self._dispatch.working:
                self._lose()

    def _lose(self) -> None:
        if not self._dispatch.hold & CUT and self._outbox.finish():
            if self._ending.cause.by is not EndedBy.PEER:
                self.transport.resumeProducing()  # TLS waits for the peer's close_notify
            self.transport.loseConnection()

    def _end_waiters(self) -> None:
        error, requests, waited_for = self._ending.error, self._dispatch.requests, self._dispatch.waits_for
        self._inbox.end(error)
        if requests is not None:
            requests.end(error)
        if self._dispatch.waits_for is not waited_for and self.state is not State.OPEN:
            self._dispatch.hold_back(TOLD)

    def _address(self, getter: str) -> IAddress:
        try:
            return getattr(self.transport, getter)()  # type: ignore[no-any-return]  # a transport is any object here
        except (AttributeError, OSError):  # Twisted's own has dropped its socket by the end
            raise self._ending.error from None

    def _frame(self, message: Any) -> bytes:
        codec = self._settings.codec
        return self._framing.frame(message if codec is None else codec.encode(message))

    def _tell(self, kind: Callable[..., Event], *details: Any) -> None:
        if self._settings.telemetry:
            self._settings.telemetry.tell(kind(self, *details))
