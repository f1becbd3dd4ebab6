"""What changes in the middle of a conversation: plain bytes to TLS, one framing to another, one protocol to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IProtocol

from tcpapp.codecs import Codec
from tcpapp.connection.handlers import value_of
from tcpapp.connection.switching import Switchable
from tcpapp.connection.unhandled import failed
from tcpapp.errors import InvalidOption, UnsendableMessage
from tcpapp.framing import Framing
from tcpapp.transport.layers import tls_layer

if TYPE_CHECKING:
    from tcpapp.transport.tls.session import Session

__all__ = ["Upgrades"]


class Upgrades:
    """The calls of a `Connection` that change how its bytes are read and written from then on."""

    __slots__ = ()

    _protocol: Switchable

    def start_tls(self, context: Any, last: Any = None) -> Deferred[Session]:
        """
        Go on with TLS, in mid-conversation (STARTTLS): send `last`, if it is given, as the last message in plain.

        `context` of a server is a `ServerContexts` (or Twisted's `CertificateOptions`); of a client, the result of
        `client_options`. The Deferred fires with the `Session` when the handshake is done. Until then the app gets no
        message. It fails with the same errors as `when_open`. Plain bytes behind the message that asked for TLS can
        come from an attacker (CVE-2011-0411), so they end the connection.

        Fails with `InvalidOption` where there is TLS already, or this transport has none.
        """
        protocol = self._protocol
        if not protocol._lifecycle.stage.sends:
            return failed(protocol._lifecycle.error)
        transport = protocol.transport
        if tls_layer(transport) is not None or not hasattr(transport, "startTLS"):
            return fail(InvalidOption("start_tls: takes a connection without TLS, whose transport can have it"))
        try:
            data = b"" if last is None else protocol._frame(value_of(last))
        except UnsendableMessage as error:
            return fail(error)
        return protocol._start_tls(context, data)

    def switch(self, framing: Framing | str, *, codec: Codec[Any] | str | None = ...) -> None:  # type: ignore[assignment]
        """
        Read what comes behind the message in hand by another `framing`: an instance, or a spec.

        ::

            def received(self, message, connection):  # a server of one's own protocol, which has a "RAW" command
                if message == b"RAW":
                    connection.switch("raw")
                    return b"OK"  # still a line; what `send` sends from now on is raw

        It holds to the byte: what was received behind this message is read by the new framing, also from the same
        chunk, and also if the old framing could not read it. The reply to this message is framed by the old framing,
        and whatever `send` and `request` send after this call by the new one. So is the codec: `codec` is a `Codec`, a
        spec, or `None`. Without it, the codec stays; a parser has messages of its own.

        The message in hand is the message that the app is handling: until it returns, or until its reply is there. In
        ``opened``, no message is; then all that comes is read by the new framing. For a conversation, and for code
        that uses `receive` and `request`, it is the last message that they got.

        Raises `InvalidFraming` for an invalid spec, and `NotConnected` where no message can come. Raises
        `InvalidOption` where no message is in hand (a ``receive()`` waits), and where several can be: in a `batch` app,
        and with a concurrency over 1. Then nothing has changed.
        """
        self._protocol._switch(framing, codec)

    def take_over(self, protocol: IProtocol) -> None:
        """
        Give the transport to another Twisted `protocol`, with all bytes behind the message in hand.

        ::

            def received(self, message, connection):
                if message == b"CHAT":
                    connection.take_over(ChatProtocol())
                    return b"OK"  # it is sent before the protocol gets the transport

        The app gets no further message. Once it has answered, and the transport has all bytes that were sent, the
        app's ``closed`` is called with a reason whose rule is ``taken-over``, and the connection holds nothing any
        more. Then the protocol gets ``makeConnection``, the bytes in ``dataReceived``, and all further calls of the
        transport, with or without TLS. A conversation has answered when it returns, within ``timeouts.half_close``.
        If the connection ends before, or `close` is called, the protocol gets nothing.

        The connection keeps its place in the server: it counts for ``max_connections``, `when_closed` fires when the
        transport is lost, and `close`, `abort` and the drain of the server end it, a drain at its deadline. Its
        timeouts, its rates, its counts and its memory budget end: the protocol has to bound these itself.

        Raises the same errors as `switch`, and `InvalidOption` for what is no protocol.
        """
        self._protocol._take_over(protocol)
