"""The handle of a proxy's toxic."""

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
    A fault: `type`, in which `streams`, with what `toxicity` and `attributes`. `FaultProxy.add` makes it.

    Used with ``with``, it is removed at the end. `number` counts a proxy's toxics from 1, in the order in which bytes
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
        Change these attributes, also in open connections and for held items.

        A connection that is no longer affected because of the `toxicity` gets what the toxic held. Raises
        `InvalidOption` for an invalid value, and then nothing is changed; and for a toxic that was removed.
        """
        if self._on_removed is None:
            raise InvalidOption(f"{self!r} was removed; add another")
        changed = checked(self.type, {**self.attributes, **attributes})
        self.toxicity = self.toxicity if toxicity is None else checked_toxicity(toxicity)
        self.attributes.update(changed)
        self._on_changed(self)

    def remove(self) -> None:
        """Remove it; held items are passed on. A second call does nothing."""
        on_removed, self._on_removed = self._on_removed, None
        if on_removed is not None:
            on_removed(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()
