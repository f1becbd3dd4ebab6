"""
The tower holds: a file of tcpapp imports only from rows below its own.

The imports are read from the syntax trees, also those inside functions. A new file must be given its place in `TOWER`.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tcpapp"
TESTS = ROOT / "tests"

TOWER = (
    # floor 0: bytes, messages and values. No Twisted, no clock, no log
    {"errors"},
    {"close_reason"},
    {"spec", "pace", "hints", "hostnames", "decoded_size", "value_types", "msgpack_keys"},
    {"peer_keys"},
    {"framing", "codecs"},
    {"proxy_protocol"},
    {"networks"},
    # floor 1: one conversation
    {"tls", "proxied", "adopted", "listeners", "forks", "awaiting", "unlogged"},
    {"transports", "log_lines"},
    {"happy_eyeballs"},
    {"limits", "addresses"},
    {"alarm", "traffic", "accepting"},
    {"info"},
    {"admission"},
    {"telemetry", "deadlines", "keepalive", "turns", "memory", "holds"},
    {"doors"},
    {"inbox", "outbox", "requests", "ending", "app"},
    {"settings", "reading"},
    {"dispatch"},
    {"intake"},
    {"load", "upgrade", "handshake"},
    {"arrival"},
    {"link"},
    {"connection"},
    # floor 2: many of them
    {"server", "client"},
    {"listening", "recovering"},
    {"pool", "futures"},
    {"aio", "blocking"},
    # floor 3: a service that starts and stops
    {"service"},
    # what `import tcpapp` gives
    {"tcpapp"},
    # beside the tower, on the public package
    {"apps", "testing", "reactor"},
    # floor 4: the command line
    {"configuration", "systemd", "lag", "log_stream", "lost_lines"},
    {"process"},
    {"plugin", "cli"},
)
"""The rooms, each a module or a package of tcpapp, row over row. Rooms of one row do not import each other."""

LATER = {"cli"}
"""Rooms that are planned and not built."""

UPWARD_TYPES = {
    ("errors", "close_reason"): "NotConnected carries the reason of the close, which may carry an error in turn",
    ("telemetry", "connection"): "an event names the connection it happened on",
    ("app", "connection"): "the contract names what an app is handed",
}
"""The only imports that point upward, for types alone, under TYPE_CHECKING; each with its reason."""

GROUND = {"errors", "close_reason", "spec", "pace", "hints", "framing", "codecs", "proxy_protocol"}
GROUND |= {"hostnames", "decoded_size", "value_types", "msgpack_keys", "peer_keys"}
NOT_ON_THE_GROUND = {"twisted", "asyncio", "socket", "ssl", "select", "time", "logging", "threading"}
"""What floor 0 does without: it does no I/O, keeps no time and logs nothing."""

NAMES_THE_REACTOR = {"plugin", "cli"}
NAMES_THE_REACTOR_LATE = {"listen", "connect", "default_reactor", "running_reactor", "start"}
NAMES_THE_REACTOR_LATE |= {"installed_reactor", "_note_fork"}
"""The convenience functions, which look for the global reactor when they are called; and what looks whether it ran."""

# Reading imports -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One module that a file names: its full name, the line, and whether it is for types alone or in a function."""

    module: str
    line: int
    types_only: bool
    functions: tuple[str, ...]


def room_of(path: str) -> str:
    """Return the room of a file, by its path inside tcpapp/."""
    first = PurePosixPath(path).parts[0].removesuffix(".py")
    return "tcpapp" if first == "__init__" else first


def room_imported(module: str) -> str | None:
    """Return the room of tcpapp that this import enters, or None for a module from elsewhere."""
    top, _, rest = module.partition(".")
    if top != "tcpapp":
        return None
    room = rest.partition(".")[0]
    return room if any(room in row for row in TOWER) else "tcpapp"


def imports_of(path: str, source: str) -> Iterator[Import]:
    """Yield what a file imports, each name in full: ``from a import b`` may name a module ``a.b``."""
    package = ["tcpapp", *PurePosixPath(path).parts[:-1]]

    def names(node: ast.AST) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            return [f"{module}.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Attribute):
            return [name] if (name := ast.unparse(node)) == "twisted.internet.reactor" else []
        if isinstance(node, ast.Constant):
            return [node.value] if node.value == "twisted.internet.reactor" else []
        return []

    def walk(node: ast.AST, types_only: bool, functions: tuple[str, ...]) -> Iterator[Import]:
        for name in names(node):
            yield Import(name, node.lineno, types_only, functions)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            functions = (*functions, node.name)
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        for child in ast.iter_child_nodes(node):
            yield from walk(child, types_only or (for_types and child in node.body), functions)

    yield from walk(ast.parse(source), False, ())


# The rules -----------------------------------------------------------------------------------------------------------


def height(room: str) -> int:
    return next(index for index, row in enumerate(TOWER) if room in row)


def breaks_of(path: str, source: str) -> list[str]:
    """Return every rule that a file's imports break, by the file's path inside tcpapp/."""
    room = room_of(path)
    if not any(room in row for row in TOWER):
        return [f"tcpapp/{path}: this room has no place in TOWER; enter it in the row it belongs to"]
    return [
        f"tcpapp/{path}:{each.line}: {fault}"
        for each in imports_of(path, source)
        for fault in (upward(room, each), off_the_ground(room, each), reactor_named(room, each))
        if fault
    ]


def upward(room: str, each: Import) -> str | None:
    target = room_imported(each.module)
    if target in {None, room} or height(target) < height(room):
        return None
    if each.types_only and (room, target) in UPWARD_TYPES:
        return None
    return f"{room} imports {each.module}, and {target} is not below it"


def off_the_ground(room: str, each: Import) -> str | None:
    if room in GROUND and each.module.partition(".")[0] in NOT_ON_THE_GROUND:
        return f"{room} imports {each.module}, and floor 0 does no I/O, keeps no time and logs nothing"
    return None


def reactor_named(room: str, each: Import) -> str | None:
    if f"{each.module}.".startswith("twisted.internet.reactor."):
        if room in NAMES_THE_REACTOR or NAMES_THE_REACTOR_LATE & set(each.functions):
            return None
        return f"{room} names the global reactor; it is handed one"
    return None


FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_a_file_imports_only_from_below(path: str) -> None:
    assert breaks_of(path, (PACKAGE / path).read_text(encoding="utf-8")) == []


def test_the_tower_has_no_room_that_is_gone() -> None:
    """A room stands once, and its files are there."""
    rooms = [room for row in TOWER for room in row]
    assert sorted(rooms) == sorted({room_of(path) for path in FILES} | LATER)


def test_every_exception_is_in_use() -> None:
    """An upward import that has gone is struck from the list."""
    used = {
        (room_of(path), room_imported(each.module))
        for path in FILES
        for each in imports_of(path, (PACKAGE / path).read_text(encoding="utf-8"))
        if each.types_only
    }
    assert set(UPWARD_TYPES) - used == set()


@pytest.mark.parametrize("path", FILES)
def test_a_module_has_a_test_module_of_its_name(path: str) -> None:
    """
    tests/test_a.py tests tcpapp/a.py; the modules of a package share the tests in tests/<package>/.

    Whether those reach all of it is for coverage to say.
    """
    folder, name = TESTS / PurePosixPath(path).parent, PurePosixPath(path).stem
    expected = f"test_{name}.py" if folder == TESTS and path != "__init__.py" else "test_*.py"
    assert list(folder.glob(expected)), f"tcpapp/{path} has no tests in {folder.relative_to(ROOT)}/{expected}"


PLUGINS = ["tcpapp_plugin.py", "tcpapp_reactor.py"]


@pytest.mark.parametrize("folder", ["twisted", "twisted/plugins"])
def test_the_plugin_folders_are_no_packages(folder: str) -> None:
    """An ``__init__.py`` there would hide Twisted itself."""
    assert sorted(path.name for path in (ROOT / folder).glob("*.py")) == PLUGINS * (folder != "twisted")


def test_the_plugin_file_is_one_service_maker() -> None:
    """twistd loads it for every command, so it names tcpapp.plugin and does not import it."""
    tree = ast.parse((ROOT / "twisted/plugins/tcpapp_plugin.py").read_text(encoding="utf-8"))
    docstring, imported, maker = tree.body
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(imported) == "from twisted.application.service import ServiceMaker"
    assert ast.unparse(maker).startswith("tcpapp = ServiceMaker('tcpapp', 'tcpapp.plugin', ")


def test_the_reactors_file_is_one_reactor() -> None:
    """It names tcpapp.reactor and does not import it: that is done where it is asked for."""
    tree = ast.parse((ROOT / "twisted/plugins/tcpapp_reactor.py").read_text(encoding="utf-8"))
    docstring, imported, reactor = tree.body
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(imported) == "from twisted.application.reactors import Reactor"
    assert ast.unparse(reactor).startswith("uvloop = Reactor('uvloop', 'tcpapp.reactor', ")


# The public names ----------------------------------------------------------------------------------------------------


def origins() -> dict[str, str]:
    """Return the names that tcpapp/__init__.py takes in, each with the module it takes it from."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def test_the_public_names_are_those_of_the_modules() -> None:
    """`tcpapp.__all__` holds names that exist, each public in the module it comes from, or a module itself."""
    package = importlib.import_module("tcpapp")
    assert sorted(set(package.__all__)) == sorted(package.__all__)
    for name in package.__all__:
        if not isinstance(getattr(package, name), ModuleType):
            assert name in importlib.import_module(origins()[name]).__all__


def test_a_public_name_comes_from_where_the_type_checker_sees_it() -> None:
    """They are imported when they are used; the list of where from is that of the imports for types."""
    package = importlib.import_module("tcpapp")
    seen = {name: name if module == "tcpapp" else module.removeprefix("tcpapp.") for name, module in origins().items()}
    del seen["TYPE_CHECKING"], seen["annotations"], seen["import_module"]
    assert seen == package._ROOMS
    assert sorted(package.__all__) == sorted(seen)


def test_public_names_are_listed_before_they_are_used() -> None:
    package = importlib.import_module("tcpapp")
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="module 'tcpapp' has no attribute 'Sever'"):
        package.Sever  # noqa: B018 - the attribute is asked for


def test_importing_the_package_loads_nothing_of_twisteds() -> None:
    """Nor does pytest, for the kit's plugin."""
    code = "import tcpapp.testing.pytest_plugin, sys; print([each for each in sys.modules if 'twisted' in each])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# The rules are rules -------------------------------------------------------------------------------------------------

PLANTED = {
    "straight up": ("framing/lines.py", "from tcpapp.connection import MessageProtocol"),
    "a module of the package": ("spec.py", "from tcpapp import framing"),
    "the whole package": ("limits.py", "import tcpapp"),
    "a dotted import": ("server.py", "import tcpapp.service"),
    "a relative import": ("framing/lines.py", "from ..limits import Limits"),
    "a relative module": ("inbox.py", "from . import connection"),
    "sideways": ("client.py", "from tcpapp.server import MessageServerFactory"),
    "inside a function": ("errors.py", "def late():\n    from tcpapp.spec import split"),
    "for types": ("spec.py", "if TYPE_CHECKING:\n    from tcpapp.codecs import Codec"),
    "an exception, but not for types": ("errors.py", "from tcpapp.close_reason import CloseReason"),
    "an exception, but in the else": ("errors.py", "if TYPE_CHECKING:\n  pass\nelse:\n  import tcpapp.close_reason"),
    "testing from above": ("service.py", "from tcpapp.testing import FakeTransport"),
    "a new room": ("helpers.py", "import os"),
    "Twisted on the ground": ("framing/lines.py", "from twisted.internet.defer import Deferred"),
    "Twisted on the ground, late": ("codecs.py", "def late():\n    import twisted.logger"),
    "a clock on the ground": ("close_reason.py", "import time"),
    "the reactor": ("server.py", "from twisted.internet import reactor"),
    "the reactor's methods": ("server.py", "from twisted.internet.reactor import callLater"),
    "the reactor, late": ("connection.py", "def made(self):\n    from twisted.internet import reactor"),
    "the reactor, for types": ("app.py", "if TYPE_CHECKING:\n    from twisted.internet import reactor"),
    "the reactor as an attribute": ("client.py", "import twisted\nlater = twisted.internet.reactor.callLater"),
    "the reactor by its name": ("client.py", "reactor = sys.modules['twisted.internet.reactor']"),
}
ALLOWED = {
    "down": ("connection.py", "from tcpapp.inbox import Inbox"),
    "a module, down": ("settings.py", "from tcpapp import codecs, framing"),
    "its own package": ("framing/lines.py", "from tcpapp.framing.base import Framing"),
    "its own package, relative": ("framing/lines.py", "from .base import Framing"),
    "an exception": ("errors.py", "if TYPE_CHECKING:\n    from tcpapp.close_reason import CloseReason"),
    "apps from the public package": ("apps/echo.py", "import tcpapp"),
    "the plugin": ("plugin.py", "from twisted.internet import reactor\nfrom tcpapp import apps, service"),
    "the reactor in listen": ("service.py", "def listen():\n    from twisted.internet import reactor"),
    "the reactor's interfaces": ("client.py", "from twisted.internet.interfaces import IReactorTime"),
}


@pytest.mark.parametrize(("path", "source"), PLANTED.values(), ids=PLANTED)
def test_a_planted_break_is_found(path: str, source: str) -> None:
    [fault] = breaks_of(path, source)
    assert fault.startswith(f"tcpapp/{path}:")


@pytest.mark.parametrize(("path", "source"), ALLOWED.values(), ids=ALLOWED)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert breaks_of(path, source) == []
