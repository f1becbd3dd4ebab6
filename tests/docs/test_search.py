"""The built documentation: its search finds what operators look for, and its pages show what the code says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from sphinx.search.en import SearchEnglish

import tcpapp
from tcpapp import State
from tcpapp.limits import Limits, Policies, Recovery, Timeouts
from tcpapp.process.configuration.options import set_by_options
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
    "password login": "how-to/log-in",
    "session state": "how-to/keep-state",
    "periodic timer": "how-to/work-periodically",
    "database pool": "how-to/use-a-database",
    "thread pool": "how-to/call-what-blocks",
    "file upload": "how-to/send-big-files",
    "broadcast": "how-to/publish-to-many",
    "pubsub": "how-to/publish-to-many",
    "vulnerability": "security",
}
"""Searched words, and the page that must be among the results."""


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the built documentation."""
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
    return built / "html"


@pytest.fixture(scope="module")
def index(html: Path) -> dict[str, Any]:
    """Give the index of the built documentation's search."""
    text = (html / "searchindex.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return found


@cache
def stem(word: str) -> str:
    """Return the stem of a word, which the index has in place of the word."""
    return SearchEnglish({}).stem(word.lower())


def pages_with(index: dict[str, Any], word: str) -> set[str]:
    """Return the pages that have this word in their text or in a title."""
    found: set[int] = set()
    for terms in (index["terms"], index["titleterms"]):
        numbers = terms.get(stem(word), [])
        found |= {numbers} if isinstance(numbers, int) else set(numbers)
    return {index["docnames"][number] for number in found}


@pytest.mark.parametrize("words", WANTED)
def test_the_search_leads_to_a_page(words: str, index: dict[str, Any]) -> None:
    """The wanted page has all the searched words."""
    pages = set.intersection(*(pages_with(index, word) for word in words.split()))
    assert WANTED[words] in pages


def words_of(page: Path) -> str:
    """Return the text of a page, without its markup and with plain apostrophes."""
    text = unescape(re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8")))
    return " ".join(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())


def test_every_number_is_on_its_page_with_its_reason(html: Path) -> None:
    """The page of the limits shows every number with its reason, by its option or, without an option, by its name."""
    shown = words_of(html / "reference" / "limits" / "limits.html")
    for kind in (Limits, Timeouts, Policies, Recovery):
        for each in fields(kind):
            by_option = kind is not Recovery and each in set_by_options(kind)
            name = f"--{each.name.replace('_', '-')}" if by_option else each.name
            assert f" {name} " in shown
            assert " ".join(each.metadata["what"].split()) in shown
            assert each.metadata.get("why", "") in shown


def test_the_picture_of_the_layers_is_on_its_page(html: Path) -> None:
    """The page of the layers shows each line of the picture in `tcpapp.__doc__`."""
    shown = words_of(html / "explanation" / "layers.html")
    lines = re.findall(r"^ {4}(\w+(?:/|\.py) +[0-9∥] .*)$", tcpapp.__doc__ or "", re.MULTILINE)
    assert len(lines) > 10
    assert [line for line in lines if " ".join(line.split()) not in shown] == []


def test_the_way_of_an_end_is_on_its_page(html: Path) -> None:
    """The page of the connection shows all its states, and the order in which parts of it end."""
    shown = words_of(html / "explanation" / "inside-a-connection.html")
    states = [each.name for each in State]
    assert [name for name in states if name not in shown] == []
    assert "socket, transport, framing, inbox, app" in shown


def test_a_word_that_no_page_has_is_not_found(index: dict[str, Any]) -> None:
    """The search finds no page for a word that no page has."""
    assert pages_with(index, "zookeeper") == set()


def test_the_wanted_pages_exist() -> None:
    """Each page in `WANTED` exists."""
    assert [page for page in WANTED.values() if not Path(ROOT / "docs" / f"{page}.md").exists()] == []
