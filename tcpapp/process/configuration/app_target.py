"""Importing the app that ``--app`` names."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from tcpapp.apps import BUILT_IN
from tcpapp.connection.handlers import handlers_of
from tcpapp.errors import InvalidOption
from tcpapp.spec import suggest

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
        app: Any = _import(module_name, folder)
        for name in path.split("."):
            if not hasattr(app, name):
                raise InvalidOption(f"there is no {name!r} in {module_name}{suggest(name, dir(app))}")
            app = getattr(app, name)
        handlers_of(app)
    except InvalidOption as error:
        raise InvalidOption(f"{target!r}: {error}") from error
    return app


def _built_in(name: str) -> Any:
    if name not in BUILT_IN:
        raise InvalidOption(f"takes module:name, or one of {', '.join(sorted(BUILT_IN))}{suggest(name, BUILT_IN)}")
    return BUILT_IN[name]


def _import(name: str, folder: str) -> ModuleType:
    try:
        if (here := folder or str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # the module's own code can raise anything, and a script can exit
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidOption(f"importing {name!r} failed: {told}{_place_of(error)}") from error


def _place_of(error: BaseException) -> str:
    """Return the place in the app's own code that raised `error`: no traceback is printed that would show it."""
    ours = ("<frozen", __file__, importlib.__file__)
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(ours)]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
