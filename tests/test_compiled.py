"""What is compiled is what is said to be, and is what is tested where the tests are to run on it."""

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
    """What `setup.py` says, when it is not asked to compile anything."""
    source = (ROOT / "setup.py").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    exec(source.partition("\nif os.environ")[0], found)
    return found


@pytest.mark.parametrize("path", settings()["COMPILED"])
def test_a_module_is_compiled_where_it_is_to_be(path: str) -> None:
    """`make test-compiled` tests the compiled ones; all else the sources."""
    module = import_module(path.removesuffix(".py").replace("/", "."))
    assert module.__file__ is not None
    assert module.__file__.endswith(tuple(EXTENSION_SUFFIXES)) == WANTED


@pytest.mark.parametrize("path", settings()["COMPILED"])
def test_its_source_is_there_too(path: str) -> None:
    """For a Python for which it was not compiled."""
    assert (Path(tcpapp.__file__).parent.parent / path).is_file()


def test_the_compiler_is_the_one_that_checks_the_types() -> None:
    """One version of each, in one place more: setuptools reads it before it has read anything else."""
    needed = (ROOT / "setup.cfg").read_text(encoding="utf-8").split()
    assert all(each in needed for each in settings()["COMPILER"])
