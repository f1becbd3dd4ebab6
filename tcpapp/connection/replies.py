"""
The replies of an app on their way to the outbox. The replies to one chunk are framed and written together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.python.failure import Failure

from tcpapp.codecs import Codec
from tcpapp.connection.handlers import value_of, without_codec
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import APP_FAILED, Settler
from tcpapp.connection.pause_flags import AWAITING_REPLY, CONNECTION_CLOSING, HANDLING, RECEIVE_ONLY, SWITCHING
from tcpapp.errors import UnsendableMessage
from tcpapp.framing import Framing
from tcpapp.framing.loops import total_length

__all__ = ["Replies", "replies_of"]

HEADER: Final = 8
"""The bytes that a frame is taken to add to its message: our choice. Most framings of tcpapp add 1 to 8."""


class Replies:
    """
    The replies of one connection's app that are not written yet.

    `pauses` is 0 while messages go straight to the app. `framing` frames the replies.
    """

    __slots__ = ("_codec", "_next", "_outbox", "_replies", "_settler", "framing", "pauses")

    def __init__(self, settler: Settler, framing: Framing, codec: Codec[Any] | None, outbox: Outbox) -> None:
        self._settler = settler
        self.framing = framing
        self._next: tuple[Framing, Codec[Any] | None] | None = None
        self._codec = codec
        self._outbox = outbox
        self._replies: list[Any] = []
        self.pauses = RECEIVE_ONLY

    def switch(self, framing: Framing, codec: Codec[Any] | None) -> None:
        """Frame the replies by `framing` and `codec`, once the app has no message of the old framing in hand."""
        self._next = framing, codec
        self.pauses |= SWITCHING
        self._end_switch()

    def _end_switch(self) -> None:
        """If the app has no message of the old framing any more, use the new one: the replies before are written."""
        if self._next is not None and not self.pauses & (HANDLING | AWAITING_REPLY):
            self._use(*self._next)
            self._next = None
            self.pauses &= ~SWITCHING

    def _use(self, framing: Framing, codec: Codec[Any] | None) -> None:
        self.framing, self._codec = framing, codec

    def change_framings(self, change: Callable[[Framing], Framing]) -> None:
        """Replace each framing of the replies by what `change` gives for it."""
        self.framing = change(self.framing)
        if self._next is not None:
            self._next = change(self._next[0]), self._next[1]

    def flush(self) -> None:
        """Write the replies so far, before other bytes are sent."""
        messages = len(self._replies)
        if messages and (data := self._framed(messages)):
            self._outbox.write(data, messages)

    def _framed(self, count: int) -> bytes:
        """
        Frame the `count` replies together. If a reply cannot be sent, the replies before it are written. Where they are
        too long for one write, they are framed one by one: then no write ends inside a short reply.
        """
        replies = self._replies
        if count > 1 and not 0 <= total_length(replies) <= self._outbox.write_high - HEADER * count:
            self._frame_each()
            return b""
        try:
            data = self.framing.frame_all(replies) if count > 1 else self.framing.frame(replies[0])
        except UnsendableMessage:
            self._frame_each()
            return b""
        replies.clear()
        return data

    def _frame_each(self) -> None:
        """
        Frame the replies one by one, and send them. The first reply that cannot be sent is the app's failure, and no
        reply behind it is sent.

        A `Reply` with bytes in a batch can be sent. It comes here, because the fast path does not look for it.
        """
        replies = self._replies.copy()
        framed: list[bytes] = []
        self._replies.clear()
        failure = None
        try:
            framed += (self.framing.frame(without_codec(reply)) for reply in replies)
        except UnsendableMessage:
            failure = Failure()
        if framed:
            self._outbox.write_all(framed)
        if failure is not None:
            self._app_failed(failure)

    def _send_reply(self, reply: Any) -> None:
        if reply is not None and not self.pauses & CONNECTION_CLOSING:
            self.flush()
            codec = self._codec
            self._outbox.write(
                self.framing.frame(without_codec(reply) if codec is None else codec.encode(value_of(reply)))
            )

    def _app_failed(self, failure: Failure) -> None:
        self._settler.settle(APP_FAILED, failure)


def replies_of(replies: Any) -> list[Any]:
    """The replies of a batch app; `None` means no reply. Raises `UnsendableMessage` for anything but a list."""
    if replies is None:
        return []
    if not isinstance(replies, list):
        raise UnsendableMessage(f"{replies!r:.80} in reply to a batch: takes a list of replies, or None")
    return replies
