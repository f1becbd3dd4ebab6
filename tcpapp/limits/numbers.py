"""Dataclass fields that carry their own documentation, and the check of their values."""

from __future__ import annotations

import inspect
import math
from dataclasses import Field, field, fields
from typing import Any, TypeVar

from tcpapp.errors import InvalidOption

__all__ = ["check", "choice", "documented", "number", "numbers_of", "switch", "timeout"]

Kind = TypeVar("Kind")

KIB = 1024
MIB = 1024 * KIB


def number(
    default: float,
    what: str,
    *,
    unit: str,
    why: str,
    least: float = 1,
    most: float | None = None,
    zero: str = "",
    side: str = "",
) -> Any:
    """
    Return a dataclass field for a number, with its documentation as metadata.

    - `what`: what the number does, as an order: "Accept at most …".
    - `unit` and `why`: its unit, and the reason for its default.
    - `least` and `most`: the smallest and the greatest allowed number.
    - `zero`: what 0 means, if 0 is allowed.
    - `side`: ``"server"`` or ``"client"`` if the number has no meaning for the other side.
    """
    about = {"what": what, "unit": unit, "why": why, "most": most, "zero": zero, "side": side}
    return field(default=default, metadata={**about, "least": 0 if zero else least})


def timeout(
    default: float,
    what: str,
    *,
    why: str,
    rule: str = "",
    overdue: str = "",
    since: str = "",
    zero: str = "no limit",
    least: float = 1,
    most: float | None = None,
    side: str = "",
    fixed: bool = False,
) -> Any:
    """
    Return a field for a number of seconds; arguments that are not named here are as in `number`.

    - `rule`: the rule of the `CloseReason`, if this timeout ends connections.
    - `overdue`: the text of that reason, with ``{seconds:g}`` in it.
    - `since`: the start of a wait that begins again and again while a connection is open. It is the time of the last
      bytes that ``"came"``, were ``"sent"``, or ``"passed"`` in either direction, or of the last ``"heartbeat"``.
    - `fixed`: whether a running process cannot change it.
    """
    made = number(default, what, unit="seconds", why=why, least=least, most=most, zero=zero, side=side)
    wait = {"rule": rule, "overdue": overdue, "since": since, "fixed": fixed}
    return field(default=default, metadata={**made.metadata, **wait})


def choice(default: str, choices: tuple[str, ...], what: str, *, side: str = "") -> Any:
    """Return a field whose value is one of a few words; `side` is as in `number`."""
    return field(default=default, metadata={"what": what, "choices": choices, "side": side})


def switch(default: bool, what: str) -> Any:
    """Return a field that is on (`True`) or off."""
    return field(default=default, metadata={"what": what, "choices": (True, False), "side": ""})


def documented(kind: type[Kind]) -> type[Kind]:
    """Add a list of its fields, each with its default and its reason, to the docstring of a class."""
    kind.__doc__ = "\n\n".join([inspect.cleandoc(kind.__doc__ or ""), *map(_line, numbers_of(kind))])
    return kind


def _line(each: Field[Any]) -> str:
    about = each.metadata
    side = f" It means nothing to a {'client' if about['side'] == 'server' else 'server'}." if about["side"] else ""
    if "choices" in about:
        words = " or ".join(f"``{word!r}``" for word in about["choices"])
        return f"- ``{each.name}`` ({words}; ``{each.default!r}`` by default): {about['what']}.{side}"
    value = f"{each.default:,} {about['unit']}".replace(".0 ", " ")
    zero = f"; 0: {about['zero']}" if about["zero"] else ""
    rule = f" It ends a connection as ``{about['rule']}``." if about.get("rule") else ""
    return f"- ``{each.name}`` ({value}{zero}): {about['what']}.{rule}{side} Its default: {about['why']}."


def check(numbers: Any, whole: bool) -> None:
    """Raise `InvalidOption` for a value that is out of its bounds; with `whole`, also for a value that is no `int`."""
    for each in fields(numbers):
        value, least, most = getattr(numbers, each.name), each.metadata["least"], each.metadata["most"]
        kinds = (int,) if whole else (int, float)
        # the comparison with infinity is also false for NaN, and works for an int of any length
        fits = not isinstance(value, bool) and isinstance(value, kinds) and least <= value < math.inf
        if not fits or (most is not None and value > most):
            kind = "a whole number" if whole else "a number"
            bounds = f"{least} or more" if most is None else f"{least} to {most}"
            off = f" (0: {each.metadata['zero']})" if each.metadata["zero"] else ""
            raise InvalidOption(f"{each.name}={value!r}: takes {kind} of {each.metadata['unit']}, {bounds}{off}")


def numbers_of(kind: type[Any]) -> tuple[Field[Any], ...]:
    """Return the fields of `Limits`, `Timeouts` or `Recovery` that `number` and `timeout` made, with their metadata."""
    return fields(kind)
