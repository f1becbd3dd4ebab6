"""The former names of options. Errors and warnings name the new name by this table; nothing else reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, Final, TypeVar

__all__ = ["RENAMED", "new_name", "says_new_names"]

RENAMED: Final = {
    "answer": "handler_timeout",
    "blocked": "loop_stall",
    "crowded": "over_per_address",
    "frame": "message_timeout",
    "full": "over_max_connections",
    "too_fast": "over_rate",
}
"""The new name of each option that was renamed."""

Kind = TypeVar("Kind")


def new_name(name: str) -> str | None:
    """Return the new name of an option, spelled as `name` is (``too-fast``, ``too_fast``); `None` for other names."""
    new = RENAMED.get(name.replace("-", "_"))
    return new.replace("_", "-") if new and "-" in name else new


def says_new_names(kind: type[Kind]) -> type[Kind]:
    """
    Make the constructor of a dataclass name the new field when it is called with a former name.

    The constructor then raises `TypeError`, as it does for every unknown name.
    """
    made: Callable[..., None] = kind.__init__
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # it is a dataclass

    @wraps(made)
    def init(self: Any, *args: Any, **values: Any) -> None:
        for name in values:
            if RENAMED.get(name) in known:
                raise TypeError(f"{kind.__name__}({name}=...): {name} is now {RENAMED[name]}")
        made(self, *args, **values)

    kind.__init__ = init  # type: ignore[method-assign]
    return kind
