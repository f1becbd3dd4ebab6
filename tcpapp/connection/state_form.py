r"""
The form in which a connection's state is put into bytes: a version, and sections with names::

    74 63 70 61 70 70 2D 73 74 61 74 65 0A   "tcpapp-state\n"
    00 01                                    the version
    06 75 6E 73 65 6E 74                     the length of a section's name, and the name: "unsent"
    00 00 00 00 00 00 00 06                  the length of the section
    68 65 6C 6C 6F 0A                        the section: here "hello\n"
    …                                        the next section, up to the end

Numbers are in network byte order. A version has its own sections, and a state has each of them once. Bytes of messages
stand in it as they are, each message behind its length in 8 bytes. All other facts are in one section, as JSON.

Reading never runs code of the state (as pickle does), and takes no more memory than the state itself. Whatever the
bytes are, they are read whole, or refused with `InvalidState`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Any, Final

from tcpapp.errors import InvalidState

__all__ = [
    "LONGEST_TIME",
    "MAGIC",
    "MOST_FACTS",
    "Facts",
    "pack",
    "pack_facts",
    "pack_messages",
    "unpack",
    "unpack_facts",
    "unpack_messages",
]

MAGIC: Final = b"tcpapp-state\n"
"""The first bytes of every state."""

LONGEST_TIME: Final = 1_000_000_000
"""The most seconds of an age or a wait, 31 years. Our choice: more than any connection lasts, and less than reactors
can add to a clock."""

MOST_COUNT: Final = 2**63 - 1
"""The greatest count. Our choice: no connection counts so far, and other languages have such numbers, too."""

MOST_FACTS: Final = 16 * 1024
"""The most bytes of JSON. Our choice: the facts take less than 1 KiB, and deep nesting is not possible."""

VERSION = Struct(">H")
SIZE = Struct(">Q")


def pack(version: int, sections: Mapping[str, bytes]) -> bytes:
    """The state with these sections, in their order."""
    parts = [MAGIC, VERSION.pack(version)]
    for name, section in sections.items():
        parts += [bytes([len(name)]), name.encode("ascii"), SIZE.pack(len(section)), section]
    return b"".join(parts)


def unpack(state: bytes, readable: Mapping[int, Iterable[str]]) -> tuple[int, dict[str, bytes]]:
    """
    The version and the sections of a state. `readable` has the names of the sections of each version that can be read.

    Raises `InvalidState` unless each of these sections is there once, and nothing else.
    """
    start = len(MAGIC) + VERSION.size
    if not state.startswith(MAGIC) or len(state) < start:
        raise InvalidState(f"it is no state of a connection: it begins with {state[:start]!r}, not with {MAGIC!r}")
    [version] = VERSION.unpack_from(state, len(MAGIC))
    if version not in readable:
        known = " or ".join(map(str, readable))
        raise InvalidState(f"the state has version {version}; this tcpapp reads version {known}")
    names = tuple(readable[version])
    sections: dict[str, bytes] = {}
    place = start
    while place < len(state):
        name, place, end = _section_at(state, place)
        if name in sections:
            raise InvalidState(f"the state has the section {name!r} twice")
        if name not in names:
            has = ", ".join(names)
            raise InvalidState(f"the state has an unknown section '{name}'; version {version} has {has}")
        if end > len(state):
            raise InvalidState(
                f"the state was cut in its section {name!r}: {len(state) - place} of {end - place} bytes"
            )
        sections[name] = state[place:end]
        place = end
    for name in names:
        if name not in sections:
            raise InvalidState(f"the state has no section {name!r}, which version {version} has")
    return version, sections


def _section_at(state: bytes, place: int) -> tuple[str, int, int]:
    """The name of the section whose head is at this place, and where it begins and ends."""
    name_ends = place + 1 + state[place]
    begins = name_ends + SIZE.size
    if begins > len(state):
        raise InvalidState("the state was cut between two sections")
    name = state[place + 1 : name_ends].decode("ascii", "backslashreplace")
    return name, begins, begins + SIZE.unpack_from(state, name_ends)[0]


def pack_messages(messages: Iterable[bytes]) -> bytes:
    """The section of these messages."""
    parts: list[bytes] = []
    for message in messages:
        parts += (SIZE.pack(len(message)), message)
    return b"".join(parts)


def unpack_messages(name: str, section: bytes, *, longest: int, most: int, size: int) -> list[bytes]:
    """
    The messages of the section `name`: at most `most` of them, of `longest` bytes each and `size` bytes in all.

    Raises `InvalidState` for a section with more, or that was cut.
    """
    messages: list[bytes] = []
    place = total = 0
    while place < len(section):
        if place + SIZE.size > len(section):
            raise InvalidState(f"{name}: it was cut in the length of a message")
        [length] = SIZE.unpack_from(section, place)
        place += SIZE.size
        if length > longest:
            raise InvalidState(f"{name}: a message of {length} bytes; the framing's max is {longest}")
        if place + length > len(section):
            raise InvalidState(f"{name}: it was cut in a message of {length} bytes")
        messages.append(section[place : place + length])
        place += length
        total += length
        if len(messages) > most:
            raise InvalidState(f"{name}: more than {most} messages; at most {most} can wait in this connection")
        if total > size:
            raise InvalidState(f"{name}: messages of {total} bytes; at most {size} bytes can wait in this connection")
    return messages


def pack_facts(values: Mapping[str, Any]) -> bytes:
    """The section of these facts: numbers, flags, `None`, and objects of them."""
    return json.dumps(values, allow_nan=False, separators=(",", ":")).encode("ascii")


def unpack_facts(section: bytes) -> Facts:
    """The facts of a section. Raises `InvalidState` for anything but an object of JSON."""
    if len(section) > MOST_FACTS:
        raise InvalidState(f"facts: {len(section)} bytes; at most {MOST_FACTS} are read")
    try:
        values = json.loads(section, object_pairs_hook=_once, parse_constant=_refuse_constant)
    except InvalidState:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidState(f"facts: they are no JSON: {type(error).__name__}") from error
    if not isinstance(values, dict):
        raise InvalidState(f"facts: they are {_shown(values)}, and not an object")
    return Facts("", values)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names stand there once."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise InvalidState("facts: they are no JSON of ours: a name stands there twice")
    return values


def _refuse_constant(name: str) -> None:
    raise InvalidState(f"facts: they are no JSON: {name}")


class Facts:
    """
    Facts of a state, each read once by its name and its type. The end is `end`, which refuses facts that nobody read.

    Every method raises `InvalidState` for a fact that is missing, or of another type.
    """

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        self._name = name
        self._values = values

    def has(self, name: str) -> bool:
        """Whether a fact of this name is there, and was not read yet."""
        return name in self._values

    def seconds(self, name: str) -> float:
        """A time: 0 to `LONGEST_TIME` seconds."""
        value = self._take(name)
        if not _is_number(value, 0, LONGEST_TIME):
            raise self._wrong(name, value, f"seconds, 0 to {LONGEST_TIME}")
        return float(value)

    def seconds_or_none(self, name: str) -> float | None:
        """A time, or that there is none."""
        return None if self._take_none(name) else self.seconds(name)

    def number_or_none(self, name: str, least: float, most: float) -> float | None:
        """A number from `least` to `most`, or that there is none."""
        if self._take_none(name):
            return None
        value = self._take(name)
        if not _is_number(value, least, most):
            raise self._wrong(name, value, f"a number from {least} to {most}")
        return float(value)

    def count(self, name: str) -> int:
        """A whole number from 0 on."""
        value = self._take(name)
        if type(value) is not int or not 0 <= value <= MOST_COUNT:
            raise self._wrong(name, value, f"a whole number from 0 to {MOST_COUNT}")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._take(name)
        if type(value) is not bool:
            raise self._wrong(name, value, "true or false")
        return value

    def text_or_none(self, name: str) -> str | None:
        """A text, or that there is none."""
        if self._take_none(name):
            return None
        value = self._take(name)
        if type(value) is not str:
            raise self._wrong(name, value, "a text")
        return value

    def facts(self, name: str) -> Facts:
        """Facts inside these."""
        value = self._take(name)
        if type(value) is not dict:
            raise self._wrong(name, value, "an object")
        return Facts(f"{self._name}{name} ", value)

    def end(self) -> None:
        """All facts were read. Raises `InvalidState` if there are more."""
        for name in self._values:
            raise InvalidState(f"facts: {self._name}has an unknown {name[:40]!r}")

    def _take_none(self, name: str) -> bool:
        if self._values.get(name, self) is not None:
            return False
        del self._values[name]
        return True

    def _take(self, name: str) -> Any:
        if name not in self._values:
            raise InvalidState(f"facts: {self._name}has no {name!r}")
        return self._values.pop(name)

    def _wrong(self, name: str, value: object, takes: str) -> InvalidState:
        return InvalidState(f"facts: {self._name}{name}={_shown(value)}: takes {takes}")


def _is_number(value: object, least: float, most: float) -> bool:
    return type(value) in (int, float) and least <= value <= most  # type: ignore[operator]  # it is one of the two


def _shown(value: object) -> str:
    """A value of JSON in an error, cut: it can be as long as the state."""
    return f"{value!r:.40}"
