"""Names are the terms of the field: no identifier, option or page has a private word that was renamed."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tcpapp.limits import Timeouts, numbers_of
from tcpapp.limits.renamed import RENAMED
from tcpapp.process.configuration.options import OPTIONS
from tests.sources import names_in

pytestmark = [pytest.mark.once, pytest.mark.exhaustive]

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for folder in ("tcpapp", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").iterdir()])

LISTS = """
words: crowd crowded crowds deaf door doors greedy gulp gulps intake relieve relieved sip sips squeeze squeezed

names: Accepting Announced Announcement Arrival CalmLog Dispatch InTurn LoopWatch LostLines NeverRests Pace Proxied
  TurnedAway _dispatch _ending _load _own _peer_hand _resters all_let_in app_rests beat cancel_talk gather_on
  gathers_on give_no_more has_the_turn hinted hold_back is_shut let_in load_changed look_back peers_turn reckon
  spoken_to take_away tell_left_out too_fast turn_of watchful

classes: Alarm Budget Counts Door Doors Ending Gate Hand Intake Life Link Load Memory Queue Reading Sending Sips Steps
  Traffic Turns User
"""
"""Words that no name and no page has, names that were renamed, and names that only classes of the test kit have."""

WORDS, NAMES, CLASSES = (frozenset(part.partition(":")[2].split()) for part in LISTS.strip().split("\n\n"))

ALLOWED = {
    "tcpapp/limits/renamed.py": RENAMED.keys(),  # the table of former and new names
    "tests/test_names.py": WORDS | NAMES,  # these lists
    "tcpapp/client/futures.py": {"_ending"},  # how a coroutine ends
    "tcpapp/testing/faultproxy/side.py": {"_ending"},  # how a side of the proxy ends
    "tcpapp/transport/tls/contexts.py": {"_load"},  # loads certificates
    "tests/transport/tls/test_contexts.py": {"_load"},
    "tests/testing/contract/loopback.py": {"Proxied"},  # a carrier behind the fault proxy
}
"""Files in which a former name has another meaning."""


def words_of(name: str) -> set[str]:
    """Return the words of a name, in small letters."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_no_identifier_is_a_former_name() -> None:
    """No identifier of a module, of its tests or of the benchmarks is a former name."""
    found = [
        f"{path}:{line}: {name}"
        for path in SOURCES
        for name, line in names_in(path.read_text(encoding="utf-8"))
        if is_former(name) and name not in ALLOWED.get(str(path.relative_to(ROOT)), ())
    ]
    assert found == []


@cache
def is_former(name: str) -> bool:
    """Tell whether a name was renamed, or has a word that no name has."""
    return name in NAMES or not words_of(name).isdisjoint(WORDS)


def test_no_class_has_a_former_name() -> None:
    """No class outside of the test kit has a former name."""
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "tcpapp").rglob("*.py")
        if "testing" not in path.parts
        for name in re.findall(r"^ *class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if name in CLASSES
    ]
    assert found == []


def test_no_test_is_named_after_an_unnamed_subject() -> None:
    """No name of a test begins with, or has, a subject such as "who" or "those"."""
    unnamed = re.compile(r"^test_(who|whoever|whom|those|one_that|one_who|one_whose)_|_whom_|_whoever_|_those_who_")
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if unnamed.search(name)
    ]
    assert found == []


def test_no_option_and_no_rule_has_a_former_name() -> None:
    """No option and no rule of a timeout has a former name."""
    assert not {name.replace("-", "_") for name in OPTIONS} & RENAMED.keys()
    rules = {each.metadata.get("rule") for each in numbers_of(Timeouts)}
    assert {"handler-timeout", "message-timeout"} <= rules
    assert not {"answer-timeout", "frame-timeout"} & rules


def without_renames(text: str) -> str:
    """Return a page without its tables of renamed things, which the changelog has."""
    return re.sub(r"^### Renamed$.*?(?=^##)", "", text, flags=re.MULTILINE | re.DOTALL)


def test_no_page_has_a_former_name() -> None:
    """No page has a former name: in prose, as an option, a key, a variable or a rule."""
    dashed = "|".join(name.replace("_", "-") for name in RENAMED)
    patterns = [
        rf"\b(?:{'|'.join(WORDS)})\b",
        rf"\B--(?:{dashed})\b(?!-)",
        rf"^(?:{'|'.join(RENAMED)}|{dashed}) = ",
        rf"\bTCPAPP_(?:{'|'.join(RENAMED).upper()})\b",
        rf"\b(?:Timeouts|Policies)\((?:[^()]*, )?(?:{'|'.join(RENAMED)})=",
        r"\b(?:answer|frame)-timeout\b",
        r"\btimeouts\.(?:answer|frame|blocked)\b|\bpolicies\.(?:full|crowded|too_fast)\b",
        rf"`(?:{'|'.join(NAMES)})`",
    ]
    former = re.compile("|".join(patterns), re.MULTILINE)
    found = [f"{path}: {match[0]}" for path in PAGES for match in former.finditer(without_renames(path.read_text()))]
    assert found == []
