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

    UNOPENED ─▶ OPENING ─▶ OPEN ───────────────────────▶ CLOSING ─▶ CLOSED
                            │    close(), the app failed   ▲  what is written is flushed, within the grace
                            └──────▶ INPUT_CLOSED ─────────┘
                    no message comes any more, and the app handles those that came
                    (the peer closed its side, sent what cannot be read, or the server drains)

`tcpapp.connection.lifecycle` has the table of all stages and events, which a connection executes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IAddress, IReactorTime
from typing_extensions import Self

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.handlers import value_of
from tcpapp.connection.lifecycle import Stage, State
from tcpapp.connection.outcomes import REFUSED
from tcpapp.connection.pause_flags import NOT_RECEIVING, PAUSED
from tcpapp.connection.pending_requests import bound, requests_by
from tcpapp.connection.protocol import ConnectionProtocol
from tcpapp.connection.starttls import Upgrade
from tcpapp.connection.unhandled import failed
from tcpapp.errors import InvalidOption, NotConnected, TimedOut, UnsendableMessage
from tcpapp.proxy_protocol import Header
from tcpapp.telemetry import LateReply
from tcpapp.transport.layers import session_on, tls_layer
from tcpapp.transport.proxy_header import header_below

if TYPE_CHECKING:
    from tcpapp.transport.tls.session import Session

__all__ = ["MessageProtocol", "State"]


class MessageProtocol(ConnectionProtocol):
    """
    One connection: give it to an app, or hold it yourself and `send`, `receive`, `request` and `close`.

    Factories make it; a test takes it from a factory's ``buildProtocol`` and hands it a fake transport. Its methods
    belong to the reactor's thread. The Deferreds it returns fail with `NotConnected` when the connection is not open or
    ends before they fire; none of them waits for ever. Where nobody takes that failure it is not logged as an unhandled
    error, since the end of the connection is told once (see `tcpapp.connection.unhandled`). Every other failure is.
    """

    __slots__ = ()

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
        return header_below(self.transport)

    @property
    def is_open(self) -> bool:
        """Whether messages can go both ways: it is open, and neither side has said that it ends."""
        return self._lifecycle.stage.is_open

    @property
    def unread(self) -> int:
        """How many messages came that neither the app nor a `receive` has taken; they can be, after the end as well."""
        return 0 if self._lifecycle.stage is Stage.UNOPENED else len(self._inbox)

    @property
    def error(self) -> NotConnected:
        """What those are told who want something of it when it is not open (any more)."""
        return self._lifecycle.error

    @property
    def clock(self) -> IReactorTime:
        """What the timers of this connection run on: the reactor, or a test's `Clock`. Raises `InvalidOption`."""
        if self._clock is None:
            raise InvalidOption("clock=None: this transport has no reactor, so the factory takes a clock, as Clock()")
        return self._clock

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
        if not self._lifecycle.stage.sends:
            self._settings.counters.failed_sends += 1
            return failed(self._lifecycle.error)
        try:
            data = self._frame(message)
        except UnsendableMessage as error:
            return fail(error)
        self._dispatcher.flush()
        return self._outbox.send(data)

    def receive(self) -> Deferred[Any]:
        """
        The next message that no request waits for; it is taken before the app's ``received`` sees it.

        After the end of the connection the messages that came before it can still be received; then it fails with
        `NotConnected`. It fails with an `UndecodableMessage` that the codec delivers. Cancelled, it takes none.
        """
        stage = self._lifecycle.stage
        if not stage.is_open:
            if stage is Stage.UNOPENED or (self._dispatcher.pauses & NOT_RECEIVING and self._has_no_more):
                return failed(self._lifecycle.error)
            if stage is Stage.CLOSED:
                return self._inbox.receive()
        received = self._dispatcher.receive()
        if self._inbox.refusal is not None:
            self.settle(REFUSED)
        if self._buffered.reported:
            self._buffered.update()
        return received

    def request(self, message: Any, timeout: float | None = None) -> Deferred[Any]:
        """
        Send `message` and wait for its reply, for `timeout` seconds (`None`: ``timeouts.request``; 0: no limit).

        Replies are matched in order, or by the factory's ``key``. Fails with `TimedOut`, `UnsendableMessage`,
        `NotConnected`; the first two are logged where nobody takes them, for nothing else tells of them. Cancelled or
        timed out, its late reply is dropped and the connection goes on. While the inbox is over its mark nothing is
        read, and so no reply either.
        """
        seconds = self._settings.timeouts.request if timeout is None else timeout
        if seconds < 0:  # who reckons with a deadline of his own has missed it
            return fail(TimedOut("request", 0))
        if not self._lifecycle.stage.is_open:
            return failed(self._lifecycle.error)
        requests = self._dispatcher.requests
        if requests is None:
            requests = self._dispatcher.requests = requests_by(self._settings.key, self._late_reply)
        most = self._settings.limits.max_requests
        if len(requests) >= most:
            return fail(UnsendableMessage(f"{most} requests wait for replies, which is the limit (max_requests)"))
        try:
            data = self._frame(message)
            reply = requests.add(message)
        except Exception as error:  # whatever the user's key function raises: it was asked of the caller's message
            return fail(error)
        self._dispatcher.flush()
        self._outbox.write(data)
        return bound(reply, seconds, self._clock)

    def _late_reply(self) -> None:
        """A reply came that no request waits for."""
        self._settings.counters.late_replies += 1
        self._emit(LateReply)

    @property
    def tls(self) -> Session | None:
        """What was agreed on by TLS, and who the peer is by its certificate; `None` where there is no TLS yet."""
        session: Session | None = session_on(self.transport)
        return session

    def start_tls(self, context: Any, last: Any = None) -> Deferred[Session]:
        """
        Go on with TLS, in mid-conversation (STARTTLS): send `last`, if it is given, as the last message in plain.

        `context` is a `ServerContexts` (or Twisted's `CertificateOptions`) of a server, and of a client what
        `client_options` gives. The Deferred fires with the `Session` when the handshake is done; the app is handed no
        message until then. It fails with what `when_open` fails with. Whatever else came in plain behind the message
        that asked for TLS may be anyone's (CVE-2011-0411), and ends the connection.

        Fails with `InvalidOption` where there is TLS already, or this transport has none.
        """
        if not self._lifecycle.stage.sends:
            return failed(self._lifecycle.error)
        if tls_layer(self.transport) is not None or not hasattr(self.transport, "startTLS"):
            return fail(InvalidOption("start_tls: takes a connection without TLS, whose transport can have it"))
        try:
            data = b"" if last is None else self._frame(value_of(last))
        except UnsendableMessage as error:
            return fail(error)
        self._dispatcher.flush()
        if data:
            self._outbox.write(data)
        if seconds := self._settings.timeouts.tls_handshake:
            self._deadlines.start("tls_handshake", seconds)
        upgrade = self._upgrade = Upgrade(self._parts, self._dispatcher, self)
        self.settle(upgrade.begin(self.transport, context))
        if (layer := tls_layer(self.transport)) is not None:
            self._set_up_tls(layer)
        return upgrade.done

    def pause(self) -> None:
        """Hand the app no further message, from this moment on, until `resume`. Reading stops at the inbox's mark."""
        if self._lifecycle.stage.sends:
            self._dispatcher.pause(PAUSED)

    def resume(self) -> None:
        """Undo `pause`. Each message is handed on once, in order."""
        if self._lifecycle.stage.sends:
            self.settle(self._dispatcher.resume(PAUSED))

    def drain(self, deadline: float | None = None) -> None:
        """
        Take no further message, let the app finish what it has in hand, then close.

        What is not finished after `deadline` seconds (`None`: ``timeouts.drain``) is cut.
        """
        self._drain(CloseReason(EndedBy.US, "drained", "we are stopping; what was in hand is finished"), deadline)

    def close(self, grace: float | None = None) -> Deferred[CloseReason]:
        """
        Flush what was written and close; what is not gone after `grace` seconds (`None`: ``timeouts.grace``) is cut.

        The Deferred fires with the `CloseReason` when the connection is closed. Called again, a shorter `grace` holds.
        The app is handed no further message. Where ``received`` calls this, its reply still goes out, unless it is
        one to wait for.
        """
        if self._lifecycle.stage is Stage.UNOPENED:
            return fail(self._lifecycle.error)
        closed = self.when_closed()
        self._close(CloseReason(EndedBy.US, "closed", "close() was called"), grace)
        return closed

    def abort(self, reason: CloseReason | None = None) -> None:
        """Cut the connection now: what is unsent is lost. `reason` is told as the cause, if nothing ended it before."""
        self._abort(reason or CloseReason(EndedBy.US, "aborted", "abort() was called"))

    def when_open(self) -> Deferred[Self]:
        """
        Fires with this connection once it is open, which with TLS is when the handshake is done.

        Fails with the error that ended it before that: OpenSSL's, Twisted's, or `NotConnected`.
        """
        return self._lifecycle.when_open().addCallback(lambda _: self)

    def when_closed(self) -> Deferred[CloseReason]:
        """Fires with the `CloseReason` once the connection is closed. It never fails."""
        return self._lifecycle.when_over()

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

    @property
    def _has_no_more(self) -> bool:
        """Whether no message is here, or waits for its turn, nor one that ended the input."""
        return not (self._inbox or self._inbox.refusal is not None or self._throttle.pending)

    def _address(self, getter: str) -> IAddress:
        try:
            return getattr(self.transport, getter)()  # type: ignore[no-any-return]  # a transport is any object here
        except (AttributeError, OSError):  # Twisted's own has dropped its socket by the end
            raise self._lifecycle.error from None
