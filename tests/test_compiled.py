"""The compiled modules: `setup.py` lists them, and the tests run on them if TCPAPP_COMPILED is 1."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

import tcpapp

ROOT = Path(__file__).resolve().parent.parent
WANTED = os.environ.get("TCPAPP_COMPILED") == "1"


def settings() -> dict[str, Any]:
    """Return the names that `setup.py` defines before it compiles anything."""
    source = (ROOT / "setup.py").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    exec(source.partition("\nif os.environ")[0], found)
    return found


@pytest.mark.parametrize("path", settings()["COMPILED"])
def test_a_module_is_compiled_only_under_test_compiled(path: str) -> None:
    """`make test-compiled` tests the compiled modules, and all other commands test the sources."""
    module = import_module(path.removesuffix(".py").replace("/", "."))
    assert module.__file__ is not None
    assert module.__file__.endswith(tuple(EXTENSION_SUFFIXES)) == WANTED


@pytest.mark.parametrize("path", settings()["COMPILED"])
def test_a_compiled_module_has_its_source(path: str) -> None:
    """The source of a compiled module is there, too, for a Python that it was not compiled for."""
    assert (Path(tcpapp.__file__).parent.parent / path).is_file()


def test_the_compiler_is_the_one_that_checks_the_types() -> None:
    """`setup.py` compiles with the versions of mypy and its types that setup.cfg has."""
    needed = (ROOT / "setup.cfg").read_text(encoding="utf-8").split()
    assert all(each in needed for each in settings()["COMPILER"])
