"""Commands by their names, as the apps `memcached` and `redis` have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

__all__ = ["Command", "Commands", "number"]

Run = TypeVar("Run", bound=Callable[..., Any])


class Command(NamedTuple):
    """A function that runs a command, and how many words can be behind its name."""

    run: Callable[..., Any]
    least: int
    most: float


class Commands:
    """A table of commands."""

    def __init__(self) -> None:
        self._commands: dict[bytes, Command] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._commands

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._commands)

    def add(self, *names: bytes, least: int = 0, most: float = 0) -> Callable[[Run], Run]:
        """Decorate the function that runs these commands, which take `least` to `most` words."""

        def added(run: Run) -> Run:
            self._commands.update(dict.fromkeys(names, Command(run, least, max(least, most))))
            return run

        return added

    def find(self, name: bytes) -> Command | None:
        """The command of this name."""
        return self._commands.get(name)


def number(word: bytes, least: int, most: int) -> int | None:
    """The whole number that `word` writes in digits, with a minus sign or without; `None` for any other word."""
    digits = word[1:] if word[:1] == b"-" else word
    if not digits.isdigit() or len(digits) > len(b"%d" % most) + 1:
        return None
    value = int(word)
    return value if least <= value <= most else None
