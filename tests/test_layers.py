"""
The layers hold: a package of tcpapp imports only from lines below its own, in the picture in tcpapp/__init__.py.

The imports are read from the syntax trees, also those inside functions and those for types alone.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

import tcpapp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tcpapp"
TESTS = ROOT / "tests"

pytestmark = pytest.mark.once

BESIDE = "∥"


@dataclass(frozen=True)
class Row:
    """A line of the picture: a package or a module at the top level of tcpapp, and its layer."""

    name: str
    is_package: bool
    layer: str
    later: bool


def rows_of(picture: str) -> list[Row]:
    """Return the lines of the picture, from the top to the bottom."""
    lines = re.findall(r"^ {4}(\w+)(/|\.py) +([0-9∥])  (\(later\))?", picture, re.MULTILINE)
    return [Row(name, suffix == "/", layer, bool(later)) for name, suffix, layer, later in lines]


ROWS = rows_of(tcpapp.__doc__ or "")
ROW = {row.name: row for row in ROWS}
HEIGHT = {row.name: -line for line, row in enumerate(ROWS)}

GROUND = {row.name for row in ROWS if row.layer == "0"}
NOT_ON_THE_GROUND = {"twisted", "asyncio", "socket", "ssl", "select", "time", "logging", "threading"}
"""Modules that layer 0 does not import: it does no I/O, keeps no time and logs nothing."""

ABOVE_THE_PUBLIC_NAMES = {row.name for row in ROWS if row.layer in {"6", "7"}}
IMPORT_THOSE_BESIDE = {"apps": ABOVE_THE_PUBLIC_NAMES, "testing": {"cli"}, "reactor": {"cli"}}
"""The packages beside the layers, and which packages import each of them."""

NAMES_THE_REACTOR = {"plugin", "cli"}
NAMES_THE_REACTOR_LATE = {"listen", "connect", "default_reactor", "running_reactor", "start"}
NAMES_THE_REACTOR_LATE |= {"installed_reactor", "_note_fork"}
"""The functions that look for the global reactor when they are called, and the functions that check for a fork."""

# Reading imports -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One name that a file imports, in full, the line, and the functions around it."""

    module: str
    line: int
    functions: tuple[str, ...]


def top_of(path: str) -> str:
    """Return the package or module at the top level that a file belongs to, by the file's path inside tcpapp/."""
    first = PurePosixPath(path).parts[0].removesuffix(".py")
    return "tcpapp" if first == "__init__" else first


def top_imported(module: str) -> str | None:
    """Return the package or module at the top level that this import names, or None for a module from elsewhere."""
    top, _, rest = module.partition(".")
    if top != "tcpapp":
        return None
    name = rest.partition(".")[0]
    return name if name in ROW else "tcpapp"


@cache
def imports_of(path: str, source: str) -> list[Import]:
    """Return each import of a file with its full name: ``from a import b`` can name a module ``a.b``."""
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

    def walk(node: ast.AST, functions: tuple[str, ...]) -> Iterator[Import]:
        for name in names(node):
            yield Import(name, node.lineno, functions)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            functions = (*functions, node.name)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, functions)

    return list(walk(ast.parse(source), ()))


# The rules -----------------------------------------------------------------------------------------------------------


def breaks_of(path: str, source: str) -> list[str]:
    """Return every rule that a file's imports break, by the file's path inside tcpapp/."""
    top = top_of(path)
    if top != "tcpapp" and top not in ROW:
        return [f"tcpapp/{path}: {top} has no line in the picture in tcpapp/__init__.py; enter it where it belongs"]
    return [
        f"tcpapp/{path}:{each.line}: {fault}"
        for each in imports_of(path, source)
        for fault in (upward(top, each), off_the_ground(top, each), reactor_named(top, each))
        if fault
    ]


def upward(top: str, each: Import) -> str | None:
    """Return the fault of an import that does not go down, or None."""
    target = top_imported(each.module)
    if target is None or target == top or may_import(top, target):
        return None
    return f"{top} imports {each.module}, and {target} is not below it"


def may_import(top: str, target: str) -> bool:
    """Tell whether the package `top` may import the package `target`."""
    if target in IMPORT_THOSE_BESIDE:
        return top in IMPORT_THOSE_BESIDE[target]
    if top == "tcpapp" or top in IMPORT_THOSE_BESIDE:  # the public names, and the packages beside the layers
        return target not in ABOVE_THE_PUBLIC_NAMES
    return top in ABOVE_THE_PUBLIC_NAMES if target == "tcpapp" else HEIGHT[target] < HEIGHT[top]


def off_the_ground(top: str, each: Import) -> str | None:
    """Return the fault of an import that layer 0 must not make, or None."""
    if top in GROUND and each.module.partition(".")[0] in NOT_ON_THE_GROUND:
        return f"{top} imports {each.module}, and layer 0 does no I/O, keeps no time and logs nothing"
    return None


def reactor_named(top: str, each: Import) -> str | None:
    """Return the fault of an import of the global reactor, or None."""
    if f"{each.module}.".startswith("twisted.internet.reactor."):
        if top in NAMES_THE_REACTOR or NAMES_THE_REACTOR_LATE & set(each.functions):
            return None
        return f"{top} names the global reactor; it is handed one"
    return None


FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
SOURCES = {path: (PACKAGE / path).read_text(encoding="utf-8") for path in FILES}


@pytest.mark.exhaustive
def test_a_file_imports_only_from_below() -> None:
    """No import of a file breaks a rule of the layers."""
    assert [fault for path in FILES for fault in breaks_of(path, SOURCES[path])] == []


def test_the_picture_has_each_package_and_module() -> None:
    """Each package and module at the top level has one line in the picture, and exists unless it is marked as later."""
    there = {(top_of(path), "/" in path) for path in FILES} - {("tcpapp", False)}
    assert sorted((row.name, row.is_package) for row in ROWS if not row.later) == sorted(there)
    assert len(ROWS) == len(ROW)


def test_the_layers_of_the_picture_go_down() -> None:
    """The layers of the picture go down from the top, and the packages beside the layers come last."""
    layers = [row.layer for row in ROWS]
    assert layers == sorted(layers, key=lambda layer: -1 if layer == BESIDE else int(layer), reverse=True)
    assert {row.name for row in ROWS if row.layer == BESIDE} == set(IMPORT_THOSE_BESIDE)


# Circles -------------------------------------------------------------------------------------------------------------


def module_of(path: str) -> str:
    """Return the full name of the module in this file."""
    return ".".join(["tcpapp", *PurePosixPath(path).with_suffix("").parts]).removesuffix(".__init__")


def graph_of(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the modules that each module names in an import, for types and in functions as well."""
    modules = {module_of(path) for path in sources}
    return {
        module_of(path): {
            name if name in modules else name.rpartition(".")[0]
            for name in (each.module for each in imports_of(path, source))
            if name in modules or name.rpartition(".")[0] in modules
        }
        - {module_of(path)}
        for path, source in sources.items()
    }


def in_circles(graph: Mapping[str, Iterable[str]]) -> set[str]:
    """Return the modules that import each other in a circle, and modules between two circles."""
    left = {module: set(targets) for module, targets in graph.items()}
    while ends := {module for module, targets in left.items() if not targets & left.keys()}:
        left = {module: targets for module, targets in left.items() if module not in ends}
    while tops := left.keys() - {target for targets in left.values() for target in targets}:
        left = {module: targets for module, targets in left.items() if module not in tops}
    return set(left)


@pytest.mark.exhaustive
def test_no_modules_import_each_other_in_a_circle() -> None:
    """No two modules import each other in a circle, not for types either: what they share is in a third module."""
    assert in_circles(graph_of(SOURCES)) == set()


def test_a_planted_circle_is_found() -> None:
    """Two modules that import each other for types and inside a function are found."""
    circle = {
        "spec.py": "import os",
        "errors.py": "if TYPE_CHECKING:\n    from tcpapp.close_reason import CloseReason",
        "close_reason.py": "def late():\n    from tcpapp import errors, spec",
        "server/factory.py": "from tcpapp.errors import Forked",
    }
    assert in_circles(graph_of(circle)) == {"tcpapp.errors", "tcpapp.close_reason"}


# Packages and their tests --------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("package", [row.name for row in ROWS if row.is_package and not row.later])
def test_a_package_says_what_it_imports_and_where_a_new_thing_goes(package: str) -> None:
    """The docstring of a package ends with the packages that it imports, and where a new thing of its kind goes."""
    imported = {
        top_imported(each.module)
        for path, source in SOURCES.items()
        if top_of(path) == package
        for each in imports_of(path, source)
    } - {None, package}
    text = " ".join((ast.get_docstring(ast.parse(SOURCES[f"{package}/__init__.py"])) or "").split())
    found = re.search(r" Imports ([^.]*)\. New here: .*\.$", text)
    assert found, f"tcpapp/{package}/__init__.py ends with 'Imports … .' and 'New here: … .'"
    assert set(re.findall(r"`(\w+)`", found[1])) == imported


ONE_BY_ONE = {"client", "codecs", "connection", "limits", "process", "server", "telemetry", "transport"}
"""Packages in which each module has a test module of its name."""

TESTED_TOGETHER = {
    "client/test_connect.py": {"connect", "factory"},
    "client/test_handing_over.py": {"loop_calls"},
    "codecs/test_codecs.py": {"base", "specs", "structured", "text"},
    "connection/test_app.py": {"app", "handlers"},
    "connection/test_tasks.py": {"spawning", "tasks"},
    "limits/test_limits.py": {"limits", "numbers", "policies", "recovery", "timeouts"},
    "telemetry/test_telemetry.py": {"bus", "events", "log"},
    "transport/test_endpoint_reader.py": {"endpoint_kinds", "endpoint_reader", "endpoint_values"},
}
"""The exceptions in these packages: test modules of several modules."""


def test_a_module_has_a_test_module_of_its_name() -> None:
    """
    The folders of tests/ mirror the folders of tcpapp/.

    Modules of the packages that are not in `ONE_BY_ONE` share the tests of their folder; coverage shows what these
    reach.
    """
    expected = {path: own_tests(path) for path in FILES}
    assert {path: tests for path, tests in expected.items() if not list(TESTS.glob(tests))} == {}


def own_tests(path: str) -> str:
    """Return the pattern of the paths of a module's tests."""
    folder, name = PurePosixPath(path).parent, PurePosixPath(path).stem
    expected = f"{folder}/test_*.py"
    if name != "__init__" and (str(folder) in ONE_BY_ONE or str(folder) == "."):
        own = f"{folder}/test_{name}.py"
        expected = next(
            (shared for shared, names in TESTED_TOGETHER.items() if shared.startswith(f"{folder}/") and name in names),
            own,
        )
    return expected


LONGEST_FUNCTION = 40
"""The most lines of a function, as in the codebases that serve as models."""


@pytest.mark.exhaustive
def test_a_function_is_short() -> None:
    """No function has more than `LONGEST_FUNCTION` lines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    lengths = {
        f"{path}:{each.lineno}: {each.name}": (each.end_lineno or 0) - each.lineno + 1
        for path in FILES
        for each in ast.walk(ast.parse(SOURCES[path]))
        if isinstance(each, kinds)
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}


LONGEST_FILE = 400
"""The most lines of a file: a reader keeps a file of this length in mind."""


def test_a_file_is_short() -> None:
    """No file has more than `LONGEST_FILE` lines."""
    lengths = {path: len(source.splitlines()) for path, source in SOURCES.items()}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


PLUGINS = ["tcpapp_plugin.py", "tcpapp_reactor.py"]


@pytest.mark.parametrize("folder", ["twisted", "twisted/plugins"])
def test_the_plugin_folders_are_no_packages(folder: str) -> None:
    """The folders of plugins have no ``__init__.py``, which would hide Twisted itself."""
    assert sorted(path.name for path in (ROOT / folder).glob("*.py")) == PLUGINS * (folder != "twisted")


def test_the_plugin_file_is_one_service_maker() -> None:
    """twistd loads the plugin file for every command, so the file names tcpapp.plugin and does not import it."""
    tree = ast.parse((ROOT / "twisted/plugins/tcpapp_plugin.py").read_text(encoding="utf-8"))
    docstring, imported, maker = tree.body
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(imported) == "from twisted.application.service import ServiceMaker"
    assert ast.unparse(maker).startswith("tcpapp = ServiceMaker('tcpapp', 'tcpapp.plugin', ")


def test_the_reactors_file_is_one_reactor() -> None:
    """The plugin file of the reactor names tcpapp.reactor, and does not import it."""
    tree = ast.parse((ROOT / "twisted/plugins/tcpapp_reactor.py").read_text(encoding="utf-8"))
    docstring, imported, reactor = tree.body
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(imported) == "from twisted.application.reactors import Reactor"
    assert ast.unparse(reactor).startswith("uvloop = Reactor('uvloop', 'tcpapp.reactor', ")


# The public names ----------------------------------------------------------------------------------------------------


def origins() -> dict[str, str]:
    """Return the names that tcpapp/__init__.py imports, each with its module."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def test_the_public_names_are_those_of_the_modules() -> None:
    """Each name in `tcpapp.__all__` is public in the module that it comes from, or is a module itself."""
    assert sorted(set(tcpapp.__all__)) == sorted(tcpapp.__all__)
    for name in tcpapp.__all__:
        if not isinstance(getattr(tcpapp, name), ModuleType):
            assert name in importlib.import_module(origins()[name]).__all__


def test_a_public_name_comes_from_where_the_type_checker_sees_it() -> None:
    """`_HOMES`, from which names are imported when they are used, equals the imports for type checkers."""
    seen = origins()
    del seen["TYPE_CHECKING"], seen["annotations"], seen["import_module"], seen["use"]
    modules = {name for name in seen if isinstance(getattr(tcpapp, name), ModuleType)}
    assert modules == tcpapp._MODULES
    homes = {name: f"{home}.{name}" if name in modules else home for name, home in seen.items()}
    assert homes == {name: f"tcpapp.{home}" for name, home in tcpapp._HOMES.items()}
    assert sorted(tcpapp.__all__) == sorted(seen)


def test_public_names_are_listed_before_they_are_used() -> None:
    """`dir(tcpapp)` has all public names, and an unknown name raises AttributeError."""
    assert set(tcpapp.__all__) <= set(dir(tcpapp))
    with pytest.raises(AttributeError, match="module 'tcpapp' has no attribute 'Sever'"):
        tcpapp.Sever  # noqa: B018 - the attribute is asked for


def test_importing_the_package_does_not_load_twisted() -> None:
    """Importing tcpapp, or the plugin for pytest, imports no module of Twisted."""
    code = "import tcpapp.testing.pytest_plugin, sys; print([each for each in sys.modules if 'twisted' in each])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# The checks find planted faults --------------------------------------------------------------------------------------

PLANTED = {
    "straight up": ("framing/lines.py", "from tcpapp.connection.connection import MessageProtocol"),
    "a package by its name": ("spec.py", "from tcpapp import framing"),
    "the whole package": ("limits/limits.py", "import tcpapp"),
    "a public name": ("server/factory.py", "from tcpapp import MessageProtocol"),
    "a dotted import": ("connection/protocol.py", "import tcpapp.server.service"),
    "a relative import": ("framing/lines.py", "from ..limits import Limits"),
    "a relative module": ("errors.py", "from . import connection"),
    "up within a layer": ("server/factory.py", "from tcpapp.client.connect import connect"),
    "inside a function": ("close_reason.py", "def late():\n    from tcpapp.errors import TcpAppError"),
    "for types": ("telemetry/events.py", "if TYPE_CHECKING:\n    from tcpapp.connection import connection"),
    "the public names from above": ("__init__.py", "from tcpapp.process import systemd"),
    "apps from below": ("connection/settings.py", "from tcpapp.apps import BUILT_IN"),
    "testing from above": ("process/systemd.py", "from tcpapp.testing.wire import Wire"),
    "one beside the other": ("apps/chat.py", "from tcpapp.testing.wire import Wire"),
    "beside the layers, from above": ("testing/wire.py", "from tcpapp.plugin import makeService"),
    "a new module": ("helpers.py", "import os"),
    "Twisted on the ground": ("framing/lines.py", "from twisted.internet.defer import Deferred"),
    "Twisted on the ground, late": ("codecs/text.py", "def late():\n    import twisted.logger"),
    "a clock on the ground": ("close_reason.py", "import time"),
    "the reactor": ("server/factory.py", "from twisted.internet import reactor"),
    "the reactor's methods": ("server/factory.py", "from twisted.internet.reactor import callLater"),
    "the reactor, late": ("connection/protocol.py", "def made(self):\n    from twisted.internet import reactor"),
    "the reactor, for types": ("connection/app.py", "if TYPE_CHECKING:\n    from twisted.internet import reactor"),
    "the reactor as an attribute": ("client/pool.py", "import twisted\nlater = twisted.internet.reactor.callLater"),
    "the reactor by its name": ("client/pool.py", "reactor = sys.modules['twisted.internet.reactor']"),
}
ALLOWED = {
    "down": ("connection/connection.py", "from tcpapp.limits import Limits"),
    "down within a layer": ("telemetry/log.py", "from tcpapp.transport.addresses import describe"),
    "a package, down": ("connection/settings.py", "from tcpapp import codecs, framing"),
    "its own package": ("framing/lines.py", "from tcpapp.framing.base import Framing"),
    "its own package, relative": ("framing/lines.py", "from .base import Framing"),
    "apps from the public package": ("apps/echo.py", "import tcpapp"),
    "apps from above": ("process/configuration/checking.py", "from tcpapp.apps import BUILT_IN"),
    "the plugin": ("plugin.py", "from twisted.internet import reactor\nfrom tcpapp import apps, process"),
    "the reactor in listen": ("server/listener.py", "def listen():\n    from twisted.internet import reactor"),
    "the reactor's interfaces": ("client/pool.py", "from twisted.internet.interfaces import IReactorTime"),
}


@pytest.mark.parametrize(("path", "source"), PLANTED.values(), ids=PLANTED)
def test_a_planted_break_is_found(path: str, source: str) -> None:
    """Each import in `PLANTED` breaks one rule, and is found."""
    [fault] = breaks_of(path, source)
    assert fault.startswith(f"tcpapp/{path}:")


@pytest.mark.parametrize(("path", "source"), ALLOWED.values(), ids=ALLOWED)
def test_an_allowed_import_passes(path: str, source: str) -> None:
    """No import in `ALLOWED` breaks a rule."""
    assert breaks_of(path, source) == []
