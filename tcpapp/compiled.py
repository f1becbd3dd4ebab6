"""
The compiled path of a message: which modules it has, and whether it is used.

``setup.py`` compiles these modules with Cython, where there is a C compiler, into one extension, ``tcpapp._core``. It
is made from the same files that Python runs where it is not there: beside each module, a ``.pxd`` file gives the types
of its attributes. Only `tcpapp.framing.loops` has a second source, ``loops.pyx``.

The extension is used if it was made from the very sources that are here. The environment variable
``TCPAPP_ACCELERATED=0`` prevents it; with ``TCPAPP_ACCELERATED=1`` it is an error if it cannot be used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from hashlib import sha256
from importlib import import_module
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

__all__ = ["MODULES", "digest", "source_of", "use"]

MODULES = (
    "tcpapp.framing.loops",
    "tcpapp.framing.sized",
    "tcpapp.framing.length",
    "tcpapp.framing.decoded",
    "tcpapp.framing.want_types",
    "tcpapp.framing.reader",
    "tcpapp.telemetry.counters",
    "tcpapp.connection.shared_timer",
    "tcpapp.connection.deadlines",
    "tcpapp.connection.inbox",
    "tcpapp.connection.waiting_bytes",
    "tcpapp.connection.shared_message",
    "tcpapp.connection.unsent_queue",
    "tcpapp.connection.outbox",
    "tcpapp.connection.replies",
    "tcpapp.connection.answers",
    "tcpapp.connection.matching",
    "tcpapp.connection.conversation",
    "tcpapp.connection.app_calls",
    "tcpapp.connection.streamed_replies",
    "tcpapp.connection.dispatcher",
    "tcpapp.connection.reply_slot",
    "tcpapp.connection.concurrent_dispatcher",
    "tcpapp.connection.throttle",
    "tcpapp.connection.buffered_bytes",
    "tcpapp.connection.receiver",
    "tcpapp.connection.rewind",
    "tcpapp.codecs.msgpack_keys",
    "tcpapp.reactor.transfer",
)
"""The modules that are compiled. The last parts of their names differ: the extension has one function for each."""

SUFFIXES = (".pyx", ".py", ".pxd")


def sources(module: str, root: Path) -> Iterator[Path]:
    """The files that `module` is compiled from, in the folder `root` that has the package."""
    for suffix in SUFFIXES:
        path = root.joinpath(*module.split(".")).with_suffix(suffix)
        if path.is_file():
            yield path


def source_of(module: str, root: Path) -> Path:
    """The file of `module` that is compiled."""
    return next(sources(module, root))


def digest(root: Path) -> str:
    """What names the state of all sources. It differs as soon as one of them does."""
    found = sha256()
    for module in MODULES:
        for path in sources(module, root):
            found.update(path.read_bytes())
    return found.hexdigest()


class _Finder:
    """Finds the compiled modules, in the file of the extension."""

    def __init__(self, path: str) -> None:
        self.path = path

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """What Python loads `name` by; `None` if that is no compiled module."""
        if name not in MODULES:
            return None
        return spec_from_file_location(name, self.path, loader=ExtensionFileLoader(name, self.path))


def use() -> bool:
    """
    Let Python import the compiled modules, if there are any that fit. Returns whether it does.

    Raises `ImportError` where it does not, and ``TCPAPP_ACCELERATED`` is 1.
    """
    wanted = os.environ.get("TCPAPP_ACCELERATED")
    if wanted == "0":
        return False
    core, reason = _fitting()
    if core is not None:
        sys.meta_path.insert(0, _Finder(core.__file__))
    elif wanted == "1":
        raise ImportError(f"TCPAPP_ACCELERATED=1: {reason}; build it with `python setup.py build_ext --inplace`")
    return core is not None


def _fitting() -> tuple[Any, str]:
    """The extension, if it fits; otherwise `None`, and the reason."""
    try:
        core = import_module("tcpapp._core")
    except ImportError as error:
        return None, f"tcpapp is not compiled for this Python ({error})"
    if digest(Path(__file__).resolve().parent.parent) != core.DIGEST:
        return None, f"{core.__file__} was compiled from other sources"
    return core, ""
