"""The error of a configuration, with all that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Problems"]


class Problems(Exception):
    """What is wrong with a configuration: `texts`, all of them, a line each."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = list(texts)
        super().__init__("; ".join(self.texts))
