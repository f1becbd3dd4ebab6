"""Every page of the documentation is followed to its end: files are written, commands run, and what is shown is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents import Reader, blocks_of
from tests.environments import ROOT

pytestmark = pytest.mark.once

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if "_build" not in path.parts)
TUTORIAL = "tutorial/test-first.md"
"""It needs an environment to install into, and has a test of its own."""


@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL])
def test_what_a_page_says_is_so(page: str, tmp_path: Path) -> None:
    Reader(tmp_path).follow((DOCS / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_block_that_is_not_looked_at(page: str) -> None:
    """Every fence is a block that the reader knows, or Sphinx's own, in braces."""
    text = (DOCS / page).read_text(encoding="utf-8")
    fences = re.findall(r"^ *```+(?!\s*$)(.*)$", text, re.MULTILINE)
    assert [each for each in fences if not each.startswith("{")] == [each.language for each in blocks_of(text)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_a_place_in_the_tree(page: str) -> None:
    """What Sphinx would warn of: a page that no other leads to."""
    trees = [DOCS / "index.md", DOCS / "reference" / "index.md"]
    listed = {
        (tree.parent / line).relative_to(DOCS).as_posix() + ".md"
        for tree in trees
        for block in re.findall(r"```\{toctree\}\n(.*?)```", tree.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.splitlines()
        if line and not line.startswith(":")
    }
    assert page in listed | {"index.md"}
