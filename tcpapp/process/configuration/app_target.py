"""Importing the app that ``--app`` names."""

from __future__ import annotations

from typing import Any

from tcpapp.apps import BUILT_IN
from tcpapp.connection.handlers import handlers_of
from tcpapp.errors import InvalidOption
from tcpapp.spec import suggest
from tcpapp.target import InvalidTarget, load

__all__ = ["load_app"]


def load_app(target: str, folder: str = "") -> Any:
    """
    Return the app that `target` names: the name of a built-in app, or ``module:name``.

    Modules are imported from `folder` (by default, the current directory), too.

    Raises `InvalidOption`, the caller's fault, if the app does not exist, cannot be imported, or is no app.
    """
    module_name, colon, path = target.partition(":")
    try:
        if not colon:
            return _built_in(target)
        app = load(module_name, path, folder)
        handlers_of(app)
    except (InvalidTarget, InvalidOption) as error:
        raise InvalidOption(f"{target!r}: {error}") from error
    return app


def _built_in(name: str) -> Any:
    if name not in BUILT_IN:
        raise InvalidOption(f"takes module:name, or one of {', '.join(sorted(BUILT_IN))}{suggest(name, BUILT_IN)}")
    return BUILT_IN[name]
