"""The handle of a toxic of a proxy."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from typing_extensions import Self

from tcpapp.errors import InvalidOption
from tcpapp.testing.faultproxy.kinds import checked, checked_stream, checked_toxicity

__all__ = ["Toxic"]


class Toxic:
    """
    A fault of this `type` in these `streams`, with a `toxicity` and `attributes`. `FaultProxy.add` returns it.

    A ``with`` block removes it at its end. `number` counts the toxics of a proxy from 1, in the order in which bytes
    pass them.
    """

    def __init__(
        self,
        type: str,  # noqa: A002  # Toxiproxy's name for it
        stream: str,
        toxicity: float,
        attributes: dict[str, Any],
        *,
        number: int,
        on_changed: Callable[[Toxic], None],
        on_removed: Callable[[Toxic], None],
    ) -> None:
        self.attributes = checked(type, attributes)
        self.streams = checked_stream(stream)
        self.toxicity = checked_toxicity(toxicity)
        self.type = type
        self.stream = stream
        self.number = number
        self._on_changed = on_changed
        self._on_removed: Callable[[Toxic], None] | None = on_removed

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.attributes.items())
        return f"<{type(self).__name__} {self.type} {self.stream}: {values}, toxicity={self.toxicity!r}>"

    def update(self, *, toxicity: float | None = None, **attributes: Any) -> None:
        """
        Change these attributes, also for open connections and held items.

        If a new `toxicity` no longer affects a connection, the held items of the connection are passed on. Raises
        `InvalidOption`, the caller's fault, for an invalid value and for a toxic that was removed; then nothing is
        changed.
        """
        if self._on_removed is None:
            raise InvalidOption(f"{self!r} was removed; add another")
        changed = checked(self.type, {**self.attributes, **attributes})
        self.toxicity = self.toxicity if toxicity is None else checked_toxicity(toxicity)
        self.attributes.update(changed)
        self._on_changed(self)

    def remove(self) -> None:
        """Remove the toxic. Held items are passed on. A second call does nothing."""
        on_removed, self._on_removed = self._on_removed, None
        if on_removed is not None:
            on_removed(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()
