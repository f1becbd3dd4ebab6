"""
TLS in mid-conversation (STARTTLS): one connection on its way from plain bytes to encrypted ones.

An attacker between the two ends can put plain bytes behind the message that asks for TLS. After the handshake these
bytes would look like the peer's own (CVE-2011-0411). So no plain bytes must be left when TLS is set up.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.dispatcher import Dispatcher
from tcpapp.connection.inbox import Inbox
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import NOTHING, UNSECURED, Settler
from tcpapp.connection.pause_flags import TLS_STARTING
from tcpapp.connection.throttle import Throttle
from tcpapp.connection.unhandled import unlogged
from tcpapp.framing import Framing

__all__ = ["StartTLS"]

PLAIN = CloseReason(EndedBy.US, "plain-before-tls", "bytes came in plain behind the message that asked for TLS")
ABANDONED = CloseReason(EndedBy.US, "aborted", "nobody waits any longer for TLS to be set up")
BEHIND = CloseReason(EndedBy.US, "tls-failed", "bytes wait for the peer to take them, and would be sent with TLS")


class StartTLS:
    """
    The upgrade of one connection to TLS. `done` fires with the session that `secured` gets. `framing` reads it.

    `cause` is the close reason when the outcome is `UNSECURED`.
    """

    def __init__(
        self,
        parts: tuple[Framing, Throttle, Inbox, Outbox],
        dispatcher: Dispatcher,
        settler: Settler,
    ) -> None:
        self.framing, self._throttle, self._inbox, self._outbox = parts
        self._dispatcher = dispatcher
        self.cause = ABANDONED
        self.done: Deferred[Any] = Deferred(lambda _: settler.settle(UNSECURED))

    def begin(self, transport: Any, context: Any) -> int:
        """
        Send the last plain bytes, and begin the handshake. The app gets no message until it is done.

        Returns the outcome.
        """
        self._dispatcher.pause(TLS_STARTING)
        self._dispatcher.flush()
        self._outbox.uncork_now()
        if self._outbox.behind:
            return self._refuse(BEHIND)
        if self._has_begun:
            return self._refuse(PLAIN)
        transport.startTLS(context)
        return NOTHING

    def secured(self, session: Any) -> int:
        """The handshake is done. Returns the outcome."""
        if self._inbox or self._throttle.pending or self._has_begun:
            return self._refuse(PLAIN)
        outcome = self._dispatcher.resume(TLS_STARTING)
        self.done.callback(session)
        return outcome

    @property
    def pending(self) -> bool:
        """Whether the handshake is not done."""
        return not self.done.called

    @property
    def _has_begun(self) -> bool:
        """Whether a message has begun in plain. Its first bytes can be a header, which is not held."""
        return self.framing.held > 0 or self.framing.unfinished

    def _refuse(self, cause: CloseReason) -> int:
        self.cause = cause
        return UNSECURED

    def failed(self, error: BaseException) -> None:
        """The connection has ended."""
        if not self.done.called:
            unlogged(self.done, error).errback(error)
