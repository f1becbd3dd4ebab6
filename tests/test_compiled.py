"""The compiled path of a message: what it is made of, and when it is used."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tcpapp
from tcpapp import compiled

ROOT = Path(__file__).resolve().parent.parent

compiled_here = pytest.mark.skipif(not tcpapp.accelerated, reason="tcpapp is not compiled here")


def attributes(module: str) -> dict[str, set[str]]:
    """The attributes of each class of `module` that has ``__slots__``."""
    found = {}
    for node in ast.parse(ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")).body:
        for each in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "__slots__":
                value = ast.literal_eval(each.value)
                found[node.name] = {value} if isinstance(value, str) else set(value)
    return found


def declared(module: str) -> dict[str, set[str]]:
    """The attributes of each class in the .pxd file of `module`."""
    text = ROOT.joinpath(*module.split(".")).with_suffix(".pxd").read_text(encoding="utf-8")
    _, *classes = re.split(r"^cdef class (\w+).*:$", text, flags=re.MULTILINE)
    return {
        name: set(re.findall(r"^    cdef public [\w ]+ (\w+)$", body, flags=re.MULTILINE))
        for name, body in zip(classes[::2], classes[1::2], strict=True)
    }


@pytest.mark.parametrize("module", compiled.MODULES)
def test_each_module_is_loaded_as_the_package_says(module: str) -> None:
    """``tcpapp.accelerated`` is true of every module in the list, or of none."""
    path = import_module(module).__file__
    assert path is not None
    assert path.endswith(tuple(EXTENSION_SUFFIXES)) == tcpapp.accelerated


@pytest.mark.parametrize("module", [each for each in compiled.MODULES if not each.endswith(".loops")])
def test_a_pxd_file_has_all_attributes_of_a_class(module: str) -> None:
    """A class that a .pxd file declares has exactly these attributes when it is compiled."""
    there, has = attributes(module), declared(module)
    assert {name: there[name] for name in has} == has


def test_the_names_of_the_modules_differ_in_their_last_part() -> None:
    """The extension has a function of that name for each."""
    assert len({each.rpartition(".")[2] for each in compiled.MODULES}) == len(compiled.MODULES)


def test_the_loops_have_the_same_names_in_both_sources() -> None:
    """``loops.py`` and ``loops.pyx`` give other modules the same functions."""
    folder = ROOT / "tcpapp" / "framing"
    names = [
        re.search(r"^__all__ = (\[[^]]*\])", (folder / name).read_text(encoding="utf-8"), re.MULTILINE)
        for name in ("loops.py", "loops.pyx")
    ]
    first, second = [each and each[1] for each in names]
    assert first is not None
    assert first == second


def test_the_digest_changes_with_any_source(tmp_path: Path) -> None:
    """A change in a Python source, in its types, or in a Cython source makes another digest."""
    for module in compiled.MODULES:
        for path in compiled.sources(module, ROOT):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    same = compiled.digest(tmp_path)
    assert same == compiled.digest(ROOT)
    for name in ("connection/outbox.py", "connection/outbox.pxd", "framing/loops.pyx"):
        path = tmp_path / "tcpapp" / name
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        assert compiled.digest(tmp_path) != same
        path.write_bytes(before)


# In this process, with a stand-in for the extension: children are not measured.


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for the extension, made from the sources that are here."""
    found = SimpleNamespace(DIGEST=compiled.digest(ROOT), __file__="/somewhere/_core.so")
    monkeypatch.setattr(compiled, "import_module", lambda name: found)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.delenv("TCPAPP_ACCELERATED", raising=False)
    return found


def test_the_modules_are_found_in_the_file_of_the_extension(core: SimpleNamespace) -> None:
    """Only the modules in the list are, and each is loaded from that file by its own name."""
    assert compiled.use()
    finder: Any = sys.meta_path[0]
    specs = [finder.find_spec(each) for each in compiled.MODULES]
    assert [(each.name, each.origin) for each in specs] == [(each, core.__file__) for each in compiled.MODULES]
    assert finder.find_spec("tcpapp.errors") is None


def test_an_extension_that_does_not_fit_is_passed_over(core: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was made from other sources, is not there, or is not wanted. Where it must be used, that is an error."""
    before = list(sys.meta_path)
    monkeypatch.setenv("TCPAPP_ACCELERATED", "0")
    assert not compiled.use()
    monkeypatch.delenv("TCPAPP_ACCELERATED")
    core.DIGEST = "of others"
    assert not compiled.use()
    monkeypatch.setenv("TCPAPP_ACCELERATED", "1")
    with pytest.raises(ImportError, match=r"TCPAPP_ACCELERATED=1: /somewhere/_core.so was compiled from other sources"):
        compiled.use()
    monkeypatch.setattr(compiled, "import_module", import_module)
    monkeypatch.setitem(sys.modules, "tcpapp._core", None)
    with pytest.raises(ImportError, match="tcpapp is not compiled for this Python"):
        compiled.use()
    assert sys.meta_path == before


def test_a_source_in_cython_is_compiled_in_place_of_the_one_in_python() -> None:
    """The loops have both; all others have only one."""
    assert compiled.source_of("tcpapp.framing.loops", ROOT).name == "loops.pyx"
    assert compiled.source_of("tcpapp.connection.outbox", ROOT).name == "outbox.py"


# In another process.


def accelerated_in(folder: Path, **environ: str) -> str:
    """What ``tcpapp.accelerated`` is in a Python that finds tcpapp in `folder`."""
    found = subprocess.run(
        [sys.executable, "-c", "import tcpapp; print(tcpapp.accelerated, tcpapp.__file__)"],
        capture_output=True,
        check=True,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "TCPAPP_ACCELERATED"}
        | {"PYTHONPATH": str(folder)}
        | environ,
        text=True,
    ).stdout.split()
    assert found[1].startswith(str(folder))
    return found[0]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the files of the package that an import of it needs, and those of the extension."""
    folder = tmp_path / "tcpapp"
    folder.mkdir()
    for path in [*(ROOT / "tcpapp").glob("_core.*"), ROOT / "tcpapp/__init__.py", ROOT / "tcpapp/compiled.py"]:
        (folder / path.name).symlink_to(path) if path.suffix == ".so" else (folder / path.name).write_bytes(
            path.read_bytes()
        )
    for module in compiled.MODULES:
        for path in compiled.sources(module, ROOT):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return tmp_path


@compiled_here
def test_the_extension_is_used_where_it_fits(package: Path) -> None:
    """A copy of the package with its extension is accelerated."""
    assert accelerated_in(package) == "True"


@compiled_here
def test_the_environment_prevents_it(package: Path) -> None:
    """With ``TCPAPP_ACCELERATED=0`` the Python sources run, although the extension fits."""
    assert accelerated_in(package, TCPAPP_ACCELERATED="0") == "False"


@compiled_here
@pytest.mark.parametrize("name", ["connection/outbox.py", "connection/outbox.pxd", "framing/loops.pyx"])
def test_an_extension_of_other_sources_is_not_used(package: Path, name: str) -> None:
    """After a change of a source, the Python sources run."""
    with (package / "tcpapp" / name).open("a") as file:
        file.write("\n# changed\n")
    assert accelerated_in(package) == "False"


def test_without_an_extension_the_sources_are_used(package: Path) -> None:
    """A package without the extension runs from its Python sources."""
    for each in (package / "tcpapp").glob("_core.*"):
        each.unlink()
    assert accelerated_in(package) == "False"


def test_an_extension_that_cannot_be_loaded_is_not_used(package: Path) -> None:
    """A file that the system cannot load is passed over."""
    for each in (package / "tcpapp").glob("_core.*"):
        each.unlink()
    (package / "tcpapp" / f"_core{EXTENSION_SUFFIXES[0]}").write_bytes(b"of another platform")
    assert accelerated_in(package) == "False"


@compiled_here
def test_an_extension_that_must_be_used_and_cannot_be_is_an_error(package: Path) -> None:
    """With ``TCPAPP_ACCELERATED=1`` the import says why the extension is not used."""
    with (package / "tcpapp" / "connection" / "outbox.py").open("a") as file:
        file.write("\n# changed\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        accelerated_in(package, TCPAPP_ACCELERATED="1")
    assert "was compiled from other sources" in failed.value.stderr
