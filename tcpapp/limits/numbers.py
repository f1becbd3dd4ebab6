"""Fields that carry their own documentation, and the check of their values."""

from __future__ import annotations

import math
from dataclasses import Field, field, fields
from typing import Any

from tcpapp.errors import InvalidOption

__all__ = ["check", "choice", "number", "numbers_of", "switch"]

KIB = 1024
MIB = 1024 * KIB


def number(
    default: float, what: str, *, unit: str, why: str, least: float = 1, most: float | None = None, zero: str = ""
) -> Any:
    """A field that carries its own documentation; `zero` says what 0 means where 0 is allowed."""
    return field(
        default=default,
        metadata={"what": what, "unit": unit, "why": why, "least": 0 if zero else least, "most": most, "zero": zero},
    )


def choice(default: str, choices: tuple[str, ...], what: str) -> Any:
    """A field that is one of a few words."""
    return field(default=default, metadata={"what": what, "choices": choices})


def switch(default: bool, what: str) -> Any:
    """A field that is on (`True`) or off."""
    return field(default=default, metadata={"what": what, "choices": (True, False)})


def check(numbers: Any, whole: bool) -> None:
    """Raise `InvalidOption` for a value that is out of its bounds; `whole`: for one that is no `int`, too."""
    for each in fields(numbers):
        value, least, most = getattr(numbers, each.name), each.metadata["least"], each.metadata["most"]
        kinds = (int,) if whole else (int, float)
        # the comparison with infinity holds for no NaN either, and for an int of any length
        fits = not isinstance(value, bool) and isinstance(value, kinds) and least <= value < math.inf
        if not fits or (most is not None and value > most):
            kind = "a whole number" if whole else "a number"
            bounds = f"{least} or more" if most is None else f"{least} to {most}"
            off = f" (0: {each.metadata['zero']})" if each.metadata["zero"] else ""
            raise InvalidOption(f"{each.name}={value!r}: takes {kind} of {each.metadata['unit']}, {bounds}{off}")


def numbers_of(kind: type[Any]) -> tuple[Field[Any], ...]:
    """The fields of `Limits` or `Timeouts`; metadata: ``what``, ``unit``, ``why``, ``least``, ``most`` and ``zero``."""
    return fields(kind)
