"""Things in a user's own module, by their names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tcpapp.target import InvalidTarget, load

MODULE = """
class Outer:
    class Inner:
        value = 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a module, whose import leaves no trace."""
    (tmp_path / "outer_module.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "outer_module", raising=False)
    return tmp_path


def test_a_name_with_dots(folder: Path) -> None:
    """A thing is found by names with dots between them."""
    assert load("outer_module", "Outer.Inner.value", str(folder)) == 5


def test_the_current_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder ``""`` is the current directory, which is added to the path once."""
    monkeypatch.chdir(folder)
    for _ in range(2):
        assert load("outer_module", "Outer", "").Inner.value == 5
    assert sys.path.count(str(folder)) == 1


def test_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder, a module is found where Python finds it."""
    monkeypatch.chdir(folder)
    with pytest.raises(InvalidTarget, match="importing 'outer_module' failed: ModuleNotFoundError"):
        load("outer_module", "Outer")
    assert load("os.path", "join") is __import__("os").path.join


def test_a_name_that_is_not_there(folder: Path) -> None:
    """The error names the missing name, and a similar one."""
    with pytest.raises(InvalidTarget, match=r"there is no 'Iner' in outer_module; did you mean 'Inner'\?"):
        load("outer_module", "Outer.Iner", str(folder))


def test_a_module_that_raises(folder: Path) -> None:
    """The error has the exception of the module, and its place."""
    path = folder / "raising_module.py"
    path.write_text("\n1 / 0\n")
    with pytest.raises(InvalidTarget) as caught:
        load("raising_module", "x", str(folder))
    why = f"ZeroDivisionError: division by zero ({path}, line 2)"
    assert str(caught.value) == f"importing 'raising_module' failed: {why}"
