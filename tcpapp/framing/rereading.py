"""
Which bytes are behind a message: what another framing reads when a connection switches in mid-stream.

A framing returns messages, and not where they end. So the end of a message is searched when it is needed, which is
seldom: the bytes are cut once more, from the state before them, in smaller and smaller pieces. For that state a
connection keeps a `Mark` while a message is unfinished. A mark costs little, because held bytes are not copied.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import ismemberdescriptor
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from typing_extensions import override

from tcpapp.errors import UnreadableStream, without_frames

__all__ = ["Mark", "ReadFromHeld", "Rereadable"]

Mark = tuple[Any, int, Any]
"""The state of a stream: what is held, how many bytes of it were held then, and the values of its own attributes."""

PIECES: Final = (16384, 512, 16, 1)
"""
The sizes of the pieces in which the end of a message is searched. Our choice: at most 32 pieces of each size are cut,
where the largest read of Twisted (64 KiB) is searched. So the search takes about as long as cutting it four times.
"""

NO_STATE: Final = frozenset({"max", "oversize", "failure", "skipped", "_held", "__weakref__"})
"""The slots of every framing that are not its own state."""

LASTING: Final = (int, bytes, str, float, NoneType)
"""The types of values that cannot change in place."""


class Rereadable:
    """
    The part of a `tcpapp.framing.Framing` that finds the end of a message.

    - `_gapless`: each byte belongs to a message. So nothing is behind the last message where none is unfinished.
    - `_by_chunk`: the messages depend on the cuts, so chunks must not be joined.
    """

    __slots__ = ()

    _gapless: ClassVar[bool] = False
    _by_chunk: ClassVar[bool] = False
    _has_bodies: ClassVar[bool] = False
    _own_names: ClassVar[tuple[str, ...]] = ()
    _own_values: ClassVar[Any]
    _foreign: ClassVar[bool] = False

    if TYPE_CHECKING:  # what every framing has
        _held: bytes | bytearray
        _defaults: ClassVar[dict[str, Any]]
        fresh: Callable[[], Any]
        receive: Callable[[bytes], list[bytes]]

    @property
    def gaps(self) -> int | None:
        """How many times bytes came that are of no message; `None` where that is not known."""
        return 0 if self._gapless else None

    @property
    def in_body(self) -> bool:
        """Whether the stream is inside the body of a message, which was returned already."""
        return False

    @property
    def open_body_end(self) -> int | None:
        """How many bytes came behind the body that the last chunk began in. A framing without bodies has none."""
        return None

    @property
    def body_end(self) -> tuple[int, int] | None:
        """How many bytes came behind the last body that ended in the chunk, and how many messages before its end."""
        return None

    @classmethod
    def _note_state(cls) -> None:
        """
        Note where framings of this class keep their own state; its `_defaults` are known.

        It is `_foreign` where the class, or one above it, is not tcpapp's: its attributes can change in place.
        """
        slots = {name for each in cls.__mro__ for name, slot in vars(each).items() if ismemberdescriptor(slot)}
        names = cls._own_names = tuple(sorted(slots - NO_STATE - set(cls._defaults)))
        cls._own_values = attrgetter(*names) if len(names) > 1 else staticmethod(partial(_values_of, names))
        cls._foreign = any(issubclass(each, Rereadable) and not _is_ours(each) for each in cls.__mro__)

    def mark(self) -> Mark | None:
        """
        The present state, for `resumed`. The stream must not have failed.

        `None` where it cannot be kept: an attribute of a framing of your own can change in place, as a list does. Then
        the connection keeps the received bytes of an unfinished message instead.
        """
        held = self._held
        if not self._foreign:
            return held, len(held), self._own_values(self)
        values = _values(self)
        return (held, len(held), values) if all(isinstance(each, LASTING) for each in values.values()) else None

    def resumed(self, mark: Mark | None) -> Any:
        """A framing of the same configuration that goes on from `mark`; `None` is the start of a stream."""
        state = self.fresh()
        if mark is not None:
            held, size, values = mark
            state._held = held[:size]
            for name, value in values.items() if self._foreign else zip(self._own_names, values, strict=True):
                setattr(state, name, value)
        return state

    def behind(self, mark: Mark | None, data: bytes, count: int) -> bytes:
        """
        The bytes of `data` behind its first `count` messages, where the stream was at `mark` before `data`.

        `data` must have so many messages; the body of a message is a part of it. Skipped messages do not count. Work is
        linear in the held bytes and `data`.
        """
        at = end = 0
        for size in PIECES if count else ():
            state, end = self.resumed(mark), at
            found = _count(state, data[:at])
            while end < len(data) and (found < count or (found == count and state.in_body)):
                at, end = end, end + size
                found += _count(state, data[at:end])
        return data[end:]

    def skipped_in(self, data: bytes) -> int:
        """How many messages of `data`, which begins between two messages, are skipped."""
        state = self.fresh()
        _count(state, data)
        return int(state.skipped)


class ReadFromHeld(Rereadable):
    """The same for a parser, which has read nothing but the bytes of an unfinished message."""

    __slots__ = ()
    _has_bodies = True

    if TYPE_CHECKING:
        _reader: Any

    @property
    @override
    def gaps(self) -> int:
        """How many times bytes came that are no message."""
        return int(self._reader.dropped)

    @property
    @override
    def body_end(self) -> tuple[int, int] | None:
        """How many bytes came behind the last body that ended in the chunk, and how many messages before its end."""
        ended: tuple[int, int] | None = self._reader.body_end
        return ended

    @property
    @override
    def open_body_end(self) -> int | None:
        """How many bytes came behind the body that the chunk began in; `None` where it did not, or has not ended."""
        ended: int | None = self._reader.open_body_end
        return ended

    @override
    def mark(self) -> Mark:
        """The present state: the bytes of the unfinished message, which are not copied."""
        return self._held, len(self._held), None

    @override
    def resumed(self, mark: Mark | None) -> Any:
        """A framing that has read the bytes of the unfinished message again."""
        state = self._before_chunk()
        if mark is not None and mark[1]:
            state.receive(bytes(mark[0][: mark[1]]))
        return state

    def _before_chunk(self) -> Any:
        """A framing that reads the last chunk again. A subclass knows what else its messages depend on."""
        return self.fresh()


def _count(state: Any, piece: bytes) -> int:
    """How many messages end in `piece`. A failure behind them has no meaning here."""
    try:
        return len(state.receive(piece)) if piece else 0
    except UnreadableStream as error:
        without_frames(error)  # they would keep the framing, which keeps the error
        return 0


def _is_ours(kind: type[Any]) -> bool:
    return kind.__module__.startswith("tcpapp.framing.")


def _values_of(names: tuple[str, ...], state: object) -> tuple[Any, ...]:
    return tuple([getattr(state, name) for name in names])


def _values(state: Any) -> dict[str, Any]:
    """All values that `state` keeps beside its configuration and the held bytes."""
    values = {name: getattr(state, name) for name in state._own_names if hasattr(state, name)}
    own = {name: value for name, value in getattr(state, "__dict__", {}).items() if name not in state._defaults}
    return values | own
