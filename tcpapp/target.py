"""
Targets: ``module:name`` names a thing in a user's own module, as uvicorn and gunicorn spell it.

An app is a target (``--app mine:shout``), and so is a framing (``--framing mine:memcached``).
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from tcpapp.spec import suggest

__all__ = ["InvalidTarget", "load"]


class InvalidTarget(ValueError):
    """There is no such module, it cannot be imported, or it has no such name. The error says which, and why."""


def load(module_name: str, path: str, folder: str | None = None) -> Any:
    """
    Import a module, and return the thing in it at `path`: a name, or names with dots between them.

    Modules are imported from `folder`, too (``""``: the current directory; `None`: from no other than Python's own).
    Raises `InvalidTarget`, the caller's fault.
    """
    found: Any = _import(module_name, folder)
    for name in path.split("."):
        if not hasattr(found, name):
            raise InvalidTarget(f"there is no {name!r} in {module_name}{suggest(name, dir(found))}")
        found = getattr(found, name)
    return found


def _import(name: str, folder: str | None) -> ModuleType:
    try:
        if folder is not None and (here := folder or str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # the module's own code can raise anything, and a script can exit
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidTarget(f"importing {name!r} failed: {told}{_place_of(error)}") from error


def _place_of(error: BaseException) -> str:
    """Return the place in the user's own code that raised `error`: no traceback is printed that would show it."""
    ours = ("<frozen", __file__, importlib.__file__)
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(ours)]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
