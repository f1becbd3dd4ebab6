"""Text lines, and messages separated by any other delimiter."""

from __future__ import annotations

from typing_extensions import override

from tcpapp.framing.base import DEFAULT_MAX, Oversize, marker
from tcpapp.framing.state import StateReader
from tcpapp.framing.terminated import Terminated

__all__ = ["Delimited", "Lines"]


class Delimited(Terminated):
    """
    Messages, each followed by the delimiter `by`, which is not part of them. With ``by=b"\\x03"``::

        'hello' 03  →  hello

    The leftmost delimiter counts, without overlaps, also across chunks. A message that would form a delimiter, inside
    or together with the one after it, cannot be sent. ``max`` counts a message without its delimiter.

    Errors: `MessageTooLong`; `TruncatedMessage` if the stream does not end behind a delimiter.
    Source: tokio's ``AnyDelimiterCodec``, Netty's ``DelimiterBasedFrameDecoder``.
    """

    __slots__ = ("by",)
    frames_alike = True
    _name = "delimited"

    by: bytes

    def __init__(self, by: bytes, *, max: int = DEFAULT_MAX, oversize: Oversize = "close") -> None:  # noqa: A002
        self.by = marker("by", by)
        super().__init__(max=max, oversize=oversize)

    @override
    def receive(self, chunk: bytes) -> list[bytes]:
        """The messages that are now whole. Raises `MessageTooLong`."""
        if self.failure is not None:
            self._check()
        if self._held or self._dropped:
            if not self._ends_in(chunk, self.by):
                return self._extend(chunk, self._longest_end(), [])
            chunk = self._with_held(chunk)
        messages = self._split(chunk)
        tail = messages.pop()
        if self._dropped:
            del messages[0]
            self._dropped = 0
            self.skipped += 1
        if len(chunk) > self.max:
            messages = self._sift(messages)
            if self.failure is not None:
                return messages
        return self._extend(tail, self._longest_end(), messages) if tail else messages

    @override
    def _read_state(self, state: StateReader) -> None:
        super()._read_state(state)
        self._check_unfinished(self.by, self._longest_end())

    @override
    def _most_held(self) -> int:
        return self.max + len(self._longest_end()) - 1

    def _split(self, chunk: bytes) -> list[bytes]:
        return chunk.split(self.by)

    def _longest_end(self) -> bytes:
        """The longest possible sequence of bytes between two messages."""
        return self.by

    @override
    def frame(self, message: bytes) -> bytes:
        """
        `message` and the delimiter. Raises `UnsendableMessage`, also if the receiver would split it at another place.
        """
        return self._ended(message, self.by)

    @override
    def frame_all(self, messages: list[bytes]) -> bytes:
        """Each of `messages` and a delimiter. Raises `UnsendableMessage` as `frame` does."""
        framed = self._all_ended(messages, self.by)
        return super().frame_all(messages) if framed is None else framed


class Lines(Delimited):
    """
    Text lines::

        'hello' 0A     →  hello
        'hello' 0D 0A  →  hello

    By default a line ends with LF, one CR before it is removed, and LF is sent. `LineReceiver`, ``nc`` and ``telnet``
    can all work with this. A message that ends in CR is sent with CR LF, because LF alone would remove its CR. So every
    received message can be sent. A message that holds LF cannot. With a `delimiter` such as ``b"\\r\\n"``, exactly that
    one is accepted and sent, as in `Delimited`. ``max`` counts a line without its ending.

    Errors: `MessageTooLong`; `TruncatedMessage` if the stream ends inside a line.
    Source: tokio's ``LinesCodec``, Netty's ``LineBasedFrameDecoder``.
    """

    __slots__ = ("delimiter",)
    frames_alike = True
    _name = "line"

    delimiter: bytes | None

    def __init__(
        self,
        delimiter: bytes | None = None,
        *,
        max: int = DEFAULT_MAX,  # noqa: A002 - the public name
        oversize: Oversize = "close",
    ) -> None:
        self.delimiter = delimiter if delimiter is None else marker("delimiter", delimiter)
        super().__init__(self._by(), max=max, oversize=oversize)

    def _by(self) -> bytes:
        return b"\n" if self.delimiter is None else self.delimiter

    @override
    def _start(self) -> None:
        super()._start()
        self.by = self._by()

    @override
    def _split(self, chunk: bytes) -> list[bytes]:
        # One pass over the chunk in C removes the CR of every line, so no line needs its own step.
        if self.delimiter is None and b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n")
        return chunk.split(self.by)

    @override
    def _longest_end(self) -> bytes:
        return b"\r\n" if self.delimiter is None else self.delimiter

    @override
    def frame(self, message: bytes) -> bytes:
        """`message` and the line's ending. Raises `UnsendableMessage` if it would be received differently."""
        framed = super().frame(message)
        return message + b"\r\n" if self.delimiter is None and message.endswith(b"\r") else framed

    @override
    def frame_all(self, messages: list[bytes]) -> bytes:
        """Each of `messages` and a line's ending. Raises `UnsendableMessage` as `frame` does."""
        framed = super().frame_all(messages)
        if self.delimiter is None and b"\r\n" in framed:
            return b"".join([self.frame(message) for message in messages])
        return framed
