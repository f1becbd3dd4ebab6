"""The commands between ``MULTI`` and ``EXEC`` of one connection of `redis`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tcpapp.apps.cache import LARGEST
from tcpapp.apps.redis_keys import TOO_LARGE, Refused
from tcpapp.framing.resp import ErrorReply

__all__ = ["MOST_BYTES", "Transaction"]

MOST_BYTES = 4 * 1024 * 1024
"""The most bytes of the commands in a transaction. Our choice: a pipeline of 10,000 short commands."""

WORD_COST = 64
"""Bytes that count for a word in addition to its own bytes, so that empty words count, too."""


class Transaction:
    """Commands that wait for ``EXEC``. If a command was `refused`, ``EXEC`` runs none of them."""

    def __init__(self) -> None:
        self.refused = False
        self._commands: list[tuple[bytes, list[bytes]]] = []
        self._bytes = 0

    def add(self, name: bytes, words: list[bytes]) -> bool:
        """Queue a command. Returns `False` if there are too many."""
        self._bytes += sum(map(len, words)) + WORD_COST * (1 + len(words))
        if self._bytes > MOST_BYTES:
            return False
        self._commands.append((name, words))
        return True

    def replies(self, run: Callable[[bytes, list[bytes]], Any]) -> Iterator[Any]:
        """Run the commands, and give their replies. Beyond the size of a value, errors take the place of replies."""
        size = 0
        for name, words in self._commands:
            try:
                reply = run(name, words)
            except Refused as refused:
                reply = refused.reply
            size += _size(reply)
            yield reply if size <= LARGEST else ErrorReply(TOO_LARGE)


def _size(reply: Any) -> int:
    if isinstance(reply, list):
        return sum(map(_size, reply)) + WORD_COST
    return len(reply) + WORD_COST if isinstance(reply, bytes) else WORD_COST
