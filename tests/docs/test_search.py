"""The documentation's search finds the words that operators look for, by the index that Sphinx makes of the pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sphinx.search.en import SearchEnglish

from tests.environments import ROOT
from tests.patience import PATIENCE

pytestmark = pytest.mark.once

WANTED = {
    "Prometheus": "how-to/monitor",
    "monitoring": "how-to/monitor",
    "health check": "how-to/monitor",
    "ulimit": "how-to/operate",
    "rolling restart": "how-to/operate",
    "backpressure": "how-to/operate",
    "watchdog": "how-to/run-under-systemd",
    "Docker": "how-to/run-in-a-container",
    "Dockerfile": "how-to/run-in-a-container",
    "Kubernetes": "how-to/run-in-a-container",
    "DDoS": "reference/hostile-peers",
    "SYN flood": "reference/hostile-peers",
}
"""What is looked for, and the page that has to be among those that are found."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give what the search of the built documentation looks in."""
    built = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "--quiet", "-b", "html", "-d", str(built / "doctrees")]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(built / "html")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    text = (built / "html" / "searchindex.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return found


@cache
def stem(word: str) -> str:
    """What the index has in the place of a word."""
    return SearchEnglish({}).stem(word.lower())


def pages_with(index: dict[str, Any], word: str) -> set[str]:
    """The pages that have this word, in their text or in a title."""
    found: set[int] = set()
    for terms in (index["terms"], index["titleterms"]):
        numbers = terms.get(stem(word), [])
        found |= {numbers} if isinstance(numbers, int) else set(numbers)
    return {index["docnames"][number] for number in found}


@pytest.mark.parametrize("words", WANTED)
def test_the_search_leads_to_a_page(words: str, index: dict[str, Any]) -> None:
    """All words that are typed in are on it."""
    pages = set.intersection(*(pages_with(index, word) for word in words.split()))
    assert WANTED[words] in pages


def test_what_no_page_has_is_not_found(index: dict[str, Any]) -> None:
    assert pages_with(index, "zookeeper") == set()


def test_the_pages_that_are_wanted_are_there() -> None:
    assert [page for page in WANTED.values() if not Path(ROOT / "docs" / f"{page}.md").exists()] == []
