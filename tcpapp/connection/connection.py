"""
One connection, as its user has it.

The way of a message::

    transport ─▶ dataReceived(chunk)
                   framing.receive(chunk)              once per chunk
                   codec, and replies to requests      where the connection has them
                   inbox                               only while the app is behind, or fetches messages itself
                   reply = app(message, connection)    in order, one at a time
                   framing.frame_all(replies)          once per chunk
    transport ◀─── write                               once per chunk

The way of a connection::

    UNOPENED ─▶ OPENING ─▶ OPEN ───────────────────────▶ CLOSING ─▶ CLOSED
                            │    close(), the app failed   ▲  written bytes are flushed, within the grace
                            └──────▶ INPUT_CLOSED ─────────┘
                    no message comes any more, and the app handles the messages that came
                    (the peer closed its side, the stream is unreadable, or the server drains)

`tcpapp.connection.lifecycle` has the table of all stages and events, which a connection executes.
"""

from __future__ import annotations

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IAddress
from typing_extensions import Self, override

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.fired import given
from tcpapp.connection.inbox import ABSENT
from tcpapp.connection.lifecycle import Stage, State
from tcpapp.connection.outcomes import REFUSED
from tcpapp.connection.pause_flags import NOT_RECEIVING, PAUSED
from tcpapp.connection.pending_requests import bound, requests_by
from tcpapp.connection.sent_stream import send_stream
from tcpapp.connection.stream_sources import source_of
from tcpapp.connection.switching import Switchable
from tcpapp.connection.ticks import Every
from tcpapp.connection.unhandled import failed
from tcpapp.connection.upgrades import Upgrades
from tcpapp.errors import NotConnected, TimedOut, UndecodableMessage, UnsendableMessage, without_frames
from tcpapp.proxy_protocol import Header
from tcpapp.transport.layers import session_on
from tcpapp.transport.proxy_header import header_below

if TYPE_CHECKING:
    from tcpapp.transport.tls.session import Session

__all__ = ["Connection", "State"]

Result = TypeVar("Result")


class Connection(Upgrades):
    """
    One connection: an app is given it, or you hold it yourself and `send`, `receive`, `request` and `close`.

    `tcpapp.connect` gives it, and an app gets it with each message. Its other side, which the transport calls, is a
    `tcpapp.MessageProtocol`: ``protocol.connection`` is the connection, and `tcpapp.protocol_of` gives the protocol. A
    unit test makes the protocol by a factory's ``buildProtocol``, and gives it a fake transport.

    Call its methods in the reactor's thread only. Its Deferreds fail with `NotConnected` when the connection is not
    open or ends before they fire, so none of them waits for ever. Such a failure is not logged as an unhandled error,
    because the end of the connection is reported once (see `tcpapp.connection.unhandled`). Every other unhandled
    failure is logged.
    """

    __slots__ = ("__weakref__", "_protocol")

    def __init__(self, protocol: Switchable) -> None:
        self._protocol = protocol

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state.value}>"

    @property
    def id(self) -> int:
        """Its number, which no other connection of this process has. They are given in the order of the connections."""
        return self._protocol._id

    @property
    def state(self) -> State:
        """Its state. Messages can be sent in `State.OPEN` and `State.INPUT_CLOSED`, and come in `State.OPEN` only."""
        return self._protocol._lifecycle.stage.state

    @property
    def peer(self) -> IAddress:
        """The peer's address, as the transport gives it. Raises `NotConnected` where there is none (any more)."""
        return self._address("getPeer")

    @property
    def host(self) -> IAddress:
        """Our own address, as the transport gives it. Raises `NotConnected` where there is none (any more)."""
        return self._address("getHost")

    @property
    def proxy(self) -> Header | None:
        """The PROXY header of a connection that came through a proxy, or `None`. `peer` is the client that it names."""
        return header_below(self._protocol.transport)

    @property
    def is_open(self) -> bool:
        """Whether messages can go both ways: the connection is open, and neither side has begun to end it."""
        return self._protocol._lifecycle.stage.is_open

    @property
    def unread(self) -> int:
        """How many messages the inbox holds, for the app or `receive`. `receive` can take them after the end, too."""
        protocol = self._protocol
        return 0 if protocol._lifecycle.stage is Stage.UNOPENED else len(protocol._inbox)

    @property
    def data(self) -> SimpleNamespace:
        """
        What the app keeps about this connection, as attributes: ``connection.data.user = b"ann"``. Empty at first.

        An app that is a function keeps the state of a connection here. An app that is a class has ``self`` for that.
        The connection drops it at its end, after the app's ``closed``. A connection with such data is not moved to
        another process: the server drains it.
        """
        protocol = self._protocol
        if protocol._data is None:
            protocol._data = SimpleNamespace()
        return protocol._data

    def send(self, message: Any) -> Deferred[None]:
        """
        Send `message`. The Deferred fires when fewer than ``write_high`` bytes are unsent. It does not confirm
        receipt.

        The caller need not wait for it: while the peer reads too slowly, messages wait here, up to ``max_unsent``.
        With a codec, `message` is a value. It can be `None` where the codec has that value (JSON's null).

        Fails with `UnsendableMessage` for a message that this framing or codec cannot send; the connection stays open.
        Fails with `NotConnected` when the connection is not open: ``failed_sends`` of the factory's `Info` and of
        `Closed` counts that. To cancel it prevents the sending, unless the transport has a part of the message already.
        """
        protocol = self._protocol
        if not protocol._lifecycle.stage.sends:
            protocol._settings.counters.failed_sends += 1
            return failed(protocol._lifecycle.error)
        try:
            codec = protocol._codec
            data = protocol._framing.frame(message if codec is None else codec.encode(message))
        except UnsendableMessage as error:
            return fail(error)
        dispatcher = protocol._dispatcher
        if dispatcher._replies:
            dispatcher.flush()
        return protocol._outbox.send(data)

    def send_stream(self, source: Any, size: int | None = None) -> Deferred[int]:
        """
        Send raw bytes, however many, after all earlier messages and before all later ones. No frame is put around them.

        `source` is a path, a binary file from its position on, an iterable or an async iterable of bytes, or bytes. The
        peer must know where they end: by a message before them, or because the connection is closed. At most one
        piece is in memory, and the next is taken when fewer than ``write_high`` bytes are unsent. The kernel sends a
        regular file over a plain socket (sendfile).

        The Deferred fires as the Deferred of `send`, with the number of bytes. With `size`, exactly as many are sent: a
        file is read no further, and a source of any other size fails with `UnsendableStream`. The size of a regular
        file is, by default, what it has at the call.

        Fails with `NotConnected`, as `send`; with an `OSError` or `InvalidOption` at once, where `source` cannot be
        opened, and nothing is sent. What the source raises later fails it too, and cuts the connection: the peer could
        not find the next message. So does cancelling. A path is opened and closed here, a generator is closed, and a
        file that you opened stays open.
        """
        protocol = self._protocol
        if not protocol._lifecycle.stage.sends:
            protocol._settings.counters.failed_sends += 1
            return failed(protocol._lifecycle.error)
        try:
            found = source_of(source, size)
        except Exception as error:  # OSError, or what the user's __iter__ raises
            return fail(error)
        protocol._dispatcher.flush()
        return send_stream(protocol, found)

    def receive(self) -> Deferred[Any]:
        """
        The next message that no request waits for. The app's ``received`` does not get it.

        After the end of the connection, the messages that came before the end can still be received. Then `receive`
        fails with `NotConnected`. It fails with an `UndecodableMessage` that the codec delivers. A cancelled `receive`
        takes no message.
        """
        protocol = self._protocol
        stage = protocol._lifecycle.stage
        if stage.is_open and protocol._bodies is None:
            message = protocol._dispatcher.take_now()
            if message is not ABSENT:
                if protocol._buffered.reported:
                    protocol._buffered.update()
                return fail(message) if isinstance(message, UndecodableMessage) else given(message)
        elif not stage.is_open:
            if stage is Stage.UNOPENED or (protocol._dispatcher.pauses & NOT_RECEIVING and protocol._has_no_more):
                return failed(protocol._lifecycle.error)
            if stage in (Stage.CLOSED, Stage.TAKEN_OVER):
                return protocol._inbox.receive()
        if protocol._bodies is not None:
            protocol._bodies.discard_given()
        received = protocol._dispatcher.receive()
        if protocol._inbox.refusal is not None:
            protocol.settle(REFUSED)
        if protocol._buffered.reported:
            protocol._buffered.update()
        return received

    def request(self, message: Any, timeout: float | None = None) -> Deferred[Any]:
        """
        Send `message` and wait for its reply, for `timeout` seconds (`None`: ``timeouts.request``; 0: no limit).

        Replies are matched in order, or by the factory's ``key``. Fails with `TimedOut`, `UnsendableMessage` or
        `NotConnected`. Twisted logs the first two where no errback takes them, because nothing else reports them. The
        late reply to a cancelled or timed-out request is dropped, and the connection stays open. While the inbox is
        over its high-water mark nothing is read, and so no reply either.
        """
        protocol = self._protocol
        seconds = protocol._settings.timeouts.request if timeout is None else timeout
        if seconds < 0:  # the caller counts down to a deadline, which has passed
            return fail(TimedOut("request", 0))
        if not protocol._lifecycle.stage.is_open:
            return failed(protocol._lifecycle.error)
        requests = protocol._dispatcher.requests
        if requests is None:
            requests = protocol._dispatcher.requests = requests_by(protocol._settings.key)
        most = protocol._settings.limits.max_requests
        if len(requests) >= most:
            return fail(UnsendableMessage(f"{most} requests wait for replies, which is the limit (max_requests)"))
        try:
            data = protocol._frame(message)
            reply = requests.add(message)
        except Exception as error:  # the user's key function can raise anything, and the caller gets it
            return fail(error)
        protocol._dispatcher.flush()
        protocol._outbox.write(data)
        return bound(reply, seconds, protocol._clock)

    def _discard_bodies(self) -> None:
        """Discard the bodies of messages that the app has got, and neither read nor kept."""
        bodies = self._protocol._bodies
        if bodies is not None:
            bodies.discard_given()

    @property
    def tls(self) -> Session | None:
        """The session that TLS agreed on, with the peer's certificate; `None` where there is no TLS yet."""
        session: Session | None = session_on(self._protocol.transport)
        return session

    def spawn(self, coroutine: Coroutine[Any, Any, Result], *, background: bool = False) -> Deferred[Result]:
        """
        Run `coroutine` as a task of this connection, beside the app. It starts at once, up to its first ``await``.

        The Deferred fires with its result, and cancels the task when it is cancelled. A failure of the task is a
        failure of the app, and closes the connection. When no more messages come (a drain, a half-close), the
        connection waits for its tasks as for a pending reply. It does not wait for a `background` task, which has no
        end of its own.

        At the end, a task that waits for a message, a reply or a tick learns of it by that. All other tasks are
        cancelled. Then the connection waits for all tasks, for at most ``timeouts.grace`` seconds, before the app's
        ``closed`` is called and `when_closed` fires. So a task that awaits ``close()`` is cancelled there. No deadline
        counts what a task does.

        Raises `NotConnected` where messages cannot be sent, `TooManyTasks` where ``max_tasks`` tasks run, and
        `InvalidOption` for an object that is no coroutine. A refused coroutine is closed.
        """
        return self._protocol._spawn(coroutine, background)

    def every(self, seconds: float, *, now: bool = False) -> Every:
        """
        Ticks for periodic work: ``async for skipped in connection.every(5)``. The first one is due in `seconds`, or
        `now`.

        Each tick is due a multiple of `seconds` after this call, so delays do not add up. If the work of a tick takes
        longer, the ticks in that time are `skipped`: the loop gets their number with the next tick. The loop ends when
        no more messages come, or the connection closes. It runs by the clock of the connection's timers.

        Raises `InvalidOption` for an invalid number, and for an open connection that has no clock.
        """
        protocol = self._protocol
        if self.is_open:
            protocol.clock  # noqa: B018 - it raises where there is none
        return Every(seconds, protocol._own_tasks().ticks, lambda: self.is_open, now=now)

    def pause(self) -> None:
        """Hand the app no further message until `resume`. Reading stops when the inbox reaches its high-water mark."""
        protocol = self._protocol
        if protocol._lifecycle.stage.sends:
            protocol._dispatcher.pause(PAUSED)

    def resume(self) -> None:
        """Undo `pause`. Each message is handed on once, in order."""
        protocol = self._protocol
        if protocol._lifecycle.stage.sends:
            protocol.settle(protocol._dispatcher.resume(PAUSED))

    def drain(self, deadline: float | None = None) -> None:
        """
        Read no further message, let the app finish the messages that came, then close.

        After `deadline` seconds (`None`: ``timeouts.drain``) the connection is cut, finished or not.
        """
        reason = CloseReason(EndedBy.US, "drained", "we are stopping; what was in hand is finished")
        self._protocol._drain(reason, deadline)

    def close(self, grace: float | None = None, reason: CloseReason | None = None) -> Deferred[CloseReason]:
        """
        Flush the written bytes and close. After `grace` seconds (`None`: ``timeouts.grace``) the connection is cut.
        `reason` becomes its `CloseReason`, if it has none yet.

        The Deferred fires with the `CloseReason` when the connection is closed. A second call can only shorten the
        grace. The app gets no further message. When ``received`` calls this, its reply is still sent, unless that is a
        Deferred or a coroutine.
        """
        protocol = self._protocol
        if protocol._lifecycle.stage is Stage.UNOPENED:
            return fail(protocol._lifecycle.error)
        closed = self.when_closed()
        protocol._cancel_take_over()
        protocol._close(reason or CloseReason(EndedBy.US, "closed", "close() was called"), grace)
        return closed

    def abort(self, reason: CloseReason | None = None) -> None:
        """Cut the connection now: unsent bytes are lost. `reason` becomes its `CloseReason`, if it has none yet."""
        self._protocol._abort(reason or CloseReason(EndedBy.US, "aborted", "abort() was called"))

    def when_open(self) -> Deferred[Self]:
        """
        Fires with this connection once it is open: with TLS, when the handshake is done.

        Fails with the error that ended it before it was open: OpenSSL's, Twisted's, or `NotConnected`.
        """
        return self._protocol._lifecycle.when_open().addCallback(lambda _: self)

    def when_closed(self) -> Deferred[CloseReason]:
        """Fires with the `CloseReason` once the connection is closed. It never fails."""
        return self._protocol._lifecycle.when_over()

    def __aiter__(self) -> Self:
        """``async for message in connection`` takes messages until the connection ends well."""
        return self

    async def __anext__(self) -> Any:
        """The next message. Raises `NotConnected` where the connection did not end well."""
        protocol = self._protocol
        if protocol._bodies is None and protocol._lifecycle.stage.is_open:
            message = protocol._dispatcher.take_now()
            if message is not ABSENT:
                if protocol._buffered.reported:
                    protocol._buffered.update()
                if isinstance(message, UndecodableMessage):
                    raise message
                return message
        try:
            return await self.receive()
        except NotConnected as error:
            if error.reason.clean:
                without_frames(error)  # Python 3.12 keeps them, and this connection, in memory
                raise StopAsyncIteration from None
            raise

    def _address(self, getter: str) -> IAddress:
        protocol = self._protocol
        try:
            return getattr(protocol.transport, getter)()  # type: ignore[no-any-return]  # a transport is any object here
        except (AttributeError, OSError):  # Twisted's transports have dropped their socket by then
            raise protocol._lifecycle.error from None
