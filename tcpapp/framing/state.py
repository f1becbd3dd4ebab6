"""
The state of a stream as bytes: the form of `Framing.dump`, and the classes that write and read it.

A state is numbers and bytes, one behind the other, and is read in the order in which it was written. This is the state
of a `Lines` that holds ``hel``::

    01                the version of this form
    01 07 'Lines()'   the framing, without max and oversize
    01 02 00 00       what the framing keeps beside the held bytes: here two numbers
    01 03 'hel'       the held bytes, as they are

A number is its size in bytes (0 to 9), then its bytes, the highest first and not zero. Bytes are their length, a
number, then themselves. So each content has one form.
"""

from __future__ import annotations

from functools import lru_cache
from inspect import ismemberdescriptor
from typing import Any, Final

from tcpapp.errors import InvalidState
from tcpapp.spec import line_of

__all__ = ["MOST", "OLDEST", "VERSION", "StateReader", "StateWriter", "lost", "pack", "unpack"]

VERSION: Final = 1
"""The version that is written. A change of the form, or of what a framing of tcpapp writes, makes it one higher."""

OLDEST: Final = max(1, VERSION - 1)
"""The oldest version that is read: two releases that follow each other can hand connections over."""

LONGEST: Final = 9
"""The most bytes of a number: a netstring that is skipped can have 10**20 bytes, more than 64 bits can count."""

MOST: Final = 256**LONGEST - 1
"""The highest number."""


class StateWriter:
    """Takes the numbers and bytes of a state, in order."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray] = []

    def write_number(self, value: int) -> None:
        """Write a whole number, from 0 to `MOST`, or a flag. Raises `InvalidState` for any other."""
        if not isinstance(value, int) or not 0 <= value <= MOST:
            raise InvalidState(f"{value}: a number in a state is whole, 0 to {MOST}")
        size = (value.bit_length() + 7) // 8
        self._pieces.append(bytes([size]) + value.to_bytes(size, "big"))

    def write_bytes(self, value: bytes | bytearray) -> None:
        """Write bytes. They are copied when the state is joined, and must not change until then."""
        self.write_number(len(value))
        self._pieces.append(value)

    def joined(self) -> bytes:
        """All that was written."""
        return b"".join(self._pieces)


class StateReader:
    """
    Gives the numbers and bytes of a state, in the order in which they were written.

    Each call raises `InvalidState`, and nothing else, if the state does not hold such a value here. `name` says what is
    read, for the text of the error.
    """

    __slots__ = ("_at", "_state")

    def __init__(self, state: bytes) -> None:
        self._state = state
        self._at = 0

    def read_number(self, name: str, most: int = MOST) -> int:
        """The next number, from 0 to `most`."""
        size = self._take(1, name)[0]
        if size > LONGEST:
            raise InvalidState(f"{name}: a number of {size} bytes; takes 0 to {LONGEST}")
        digits = self._take(size, name)
        if digits[:1] == b"\0":
            raise InvalidState(f"{name}: a number that begins with a zero byte; takes its shortest form")
        value = int.from_bytes(digits, "big")
        if value > most:
            raise InvalidState(f"{name}: {value}; takes 0 to {most}")
        return value

    def read_flag(self, name: str) -> bool:
        """The next number, 0 or 1, as a flag."""
        return bool(self.read_number(name, 1))

    def read_bytes(self, name: str, most: int) -> bytes:
        """The next bytes, at most `most` of them."""
        return self._take(self.read_number(f"bytes of {name}", most), name)

    def finish(self) -> None:
        """Raise `InvalidState` if a part of the state was not read."""
        left = len(self._state) - self._at
        if left:
            raise InvalidState(f"{left} bytes behind the end of the state; it ends after {self._at}")

    def _take(self, size: int, name: str) -> bytes:
        end = self._at + size
        missing = end - len(self._state)
        if missing > 0:
            needed = "1 more is needed" if missing == 1 else f"{missing} more are needed"
            raise InvalidState(f"the state ends after {len(self._state)} bytes, inside {name}; {needed}")
        taken = self._state[self._at : end]
        self._at = end
        return taken


def pack(kind: str, own: bytes, held: bytes | bytearray) -> bytes:
    """The state of a framing of this `kind`: its `own` part, which it has written itself, and the held bytes."""
    state = StateWriter()
    state.write_bytes(_encoded(kind))
    state.write_bytes(own)
    state.write_bytes(held)
    return b"".join([bytes([VERSION]), *state._pieces])


def unpack(state: bytes, kind: str) -> tuple[bytes, bytes]:
    """
    The framing's own part and the held bytes of a `state` that `pack` has made.

    Raises `InvalidState`, and nothing else, for any other bytes, and for the state of another `kind` of framing.
    """
    if not isinstance(state, bytes):
        raise InvalidState(f"a state is bytes, not {type(state).__name__}")
    reader = StateReader(state)
    version = reader._take(1, "the version")[0]
    if not OLDEST <= version <= VERSION:
        raise InvalidState(f"a state of version {version}; this version of tcpapp reads {OLDEST} to {VERSION}")
    found = reader.read_bytes("the framing's name", MOST)
    if found != _encoded(kind):
        other = line_of(found.decode("utf-8", "replace"))
        raise InvalidState(f"a state of {other}; here it is loaded into {line_of(kind)}")
    own, held = reader.read_bytes("the framing's own part", MOST), reader.read_bytes("the held bytes", MOST)
    reader.finish()
    return own, held


def _encoded(kind: str) -> bytes:
    return kind.encode("utf-8", "backslashreplace")


def lost(before: object, after: object) -> list[str]:
    """Return the names of the attributes that differ in two states. A missing attribute differs from any value."""
    first, second = _attributes(before), _attributes(after)
    names = sorted(first.keys() | second.keys())
    return [name for name in names if not _is_same(first.get(name, lost), second.get(name, lost))]


def _attributes(state: object) -> dict[str, Any]:
    """What is set in the slots and in the dictionary of `state`."""
    kind: Any = type(state)
    return {name: getattr(state, name) for name in _slots(kind) if hasattr(state, name)} | getattr(
        state, "__dict__", {}
    )


@lru_cache(maxsize=64)
def _slots(kind: type) -> tuple[str, ...]:
    """The slots of a class. Finding them took half of the time of a dump, and a server dumps all its connections."""
    return tuple(name for each in kind.__mro__ for name, value in vars(each).items() if ismemberdescriptor(value))


def _is_same(first: object, second: object) -> bool:
    return first is second or first == second
