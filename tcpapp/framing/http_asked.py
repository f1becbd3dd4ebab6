"""
What a client of HTTP/1.1 has asked, and has no response to yet.

The same head of a response has a body behind it if the request was GET, and none if it was HEAD. So a client notes the
method of each request that it sends, and reads the responses by these notes, in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from typing_extensions import Self, override

from tcpapp.errors import UnsendableMessage
from tcpapp.framing.parsers import Parser
from tcpapp.framing.reader import Parse
from tcpapp.framing.state import StateReader, StateWriter

__all__ = ["Asked", "Asking", "asking"]

MOST_ASKED = 10_000
"""The most requests without a response: our choice. Against a server that never answers, a client notes no more."""

METHODS = ("GET", "HEAD", "CONNECT")
"""The methods that are noted, each by its place here. The first stands for all methods but the others."""

KINDS = {method.encode(): kind for kind, method in enumerate(METHODS)}


class Asked:
    """
    The `kinds` of the requests without a response, a byte for each, the oldest first.

    `answered_now` are the kinds of the requests whose responses ended in the last chunk.
    """

    __slots__ = ("answered_now", "kinds")

    def __init__(self) -> None:
        self.kinds = bytearray()
        self.answered_now = bytearray()

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Asked) and self.kinds == other.kinds

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def method(self) -> str:
        """The method of the request that the next response is for."""
        return METHODS[self.kinds[0] if self.kinds else 0]

    def note(self, framed: bytes) -> None:
        """Note a request that is sent. Raises `UnsendableMessage` if too many have no response."""
        if len(self.kinds) == MOST_ASKED:
            raise UnsendableMessage(f"{MOST_ASKED} requests have no response yet, and more are not sent")
        self.kinds.append(KINDS.get(framed[: framed.find(b" ")], 0))

    def answered(self) -> None:
        """Forget the oldest request: its response has come."""
        self.answered_now += self.kinds[:1]
        del self.kinds[:1]


class Asking(Parser):
    """A parser of two sides, of which the client knows what it asked; made by `asking`."""

    __slots__ = ()

    _reads: ClassVar[Callable[..., Parse]]

    side: str
    bodies: str
    _asked: Asked

    @override
    def _start(self) -> None:
        self._asked = Asked()  # type: ignore[misc]  # `asking` gives it its slot: it has none beside a parser's
        super()._start()

    @override
    def _reading(self) -> Callable[[], Parse]:
        return partial(self._reads, self.side, self.bodies, self._asked)

    @override
    def alone(self, message: bytes) -> Self:
        """A fresh framing for `message` alone, which came as the response to HEAD if it ends behind its head."""
        state = self.fresh()
        if message.find(b"\r\n\r\n") == len(message) - 4:
            state._asked.note(b"HEAD ")
        return state

    @override
    def receive(self, chunk: bytes) -> list[Any]:
        """The messages that are now whole. Raises `UnreadableStream`."""
        self._asked.answered_now.clear()
        return super().receive(chunk)

    @override
    def _before_chunk(self) -> Self:
        state = self.fresh()
        state._asked.kinds += self._asked.answered_now + self._asked.kinds
        return state

    @override
    def frame(self, message: Any) -> bytes:
        framed = super().frame(message)
        if self.side == "client" and not framed.startswith(b"HTTP/"):
            self._asked.note(framed)
        return framed

    @override
    def frame_all(self, messages: list[Any]) -> bytes:
        if self.side == "server":
            return super().frame_all(messages)
        return b"".join([self.frame(message) for message in messages])

    @override
    def _write_state(self, state: StateWriter) -> None:
        state.write_bytes(self._asked.kinds)
        super()._write_state(state)

    @override
    def _read_state(self, state: StateReader) -> None:
        kinds = state.read_bytes("methods of requests", MOST_ASKED)
        if kinds.strip(bytes(range(len(METHODS)))) or (kinds and self.side == "server"):
            raise self._impossible("methods of requests")
        self._asked.kinds += kinds
        super()._read_state(state)


def asking(reads: Callable[[str, str, Asked], Parse]) -> Callable[[type[Parser]], type[Parser]]:
    """Make a parser `Asking`: `reads` gets its side, its bodies and the `Asked` of the stream, and reads a message."""

    def made(parser: type[Parser]) -> type[Parser]:
        own = {"__slots__": ("_asked",), "_reads": staticmethod(reads)}
        kept = {name: getattr(parser, name) for name in ("__doc__", "__module__", "__qualname__")}
        return type(parser.__name__, (Asking, parser), {**own, **kept})

    return made
