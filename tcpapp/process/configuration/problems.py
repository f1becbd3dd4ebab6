"""The exception that lists all errors of a configuration."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Problems"]


class Problems(Exception):
    """A configuration is invalid. `texts` has a line for each error. The caller's fault."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = list(texts)
        super().__init__("; ".join(self.texts))
