"""Docstrings, comments, messages and pages are in plain words: sentences have named subjects and at most 35 words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from tests.environments import ROOT
from tests.sources import comments_in

pytestmark = [pytest.mark.once, pytest.mark.exhaustive]

INSTEAD = {
    r"ones? whom?": "name the subject: the peer, the client, the connection",
    r"those (who|whom|that|which)": "name them: the connections, the messages",
    r"(any|every|some)one who": "name the subject",
    r"he who": "name the subject",
    r"whom": "name the person or the thing in a sentence of its own",
    r"who(m?ever| comes?| sends?| goes| listens| reads?| waits?| says?| asks?| tells?)": "name the subject",
    r"that of": "name the thing again: the timeout of the server",
    r"what (is|was) (said|told) of": "what a text says about a thing",
    r"(is|are|be) told of": "is reported, is logged, listeners get",
    r"is to be known": "name the value or the fact",
    r"for want of": "because there is no",
    r"at the (least|most)": "at least, at most",
    r"as ever": "as before",
    r"in sips": "in small chunks",
    r"(the|whoever is) greedy": "the connections that hold the most",
    r"(is|are|be|was|were) taken in": "accepted",
    r"turn(s|ed)? away": "rejected",
    r"come to nothing": "fail",
    r"see to it that": "name what does it",
    r"so many \w+ (are|is|have|has)": "give the number its name",
    r"as one likes": "any number of times",
    r"lives on": "stays open",
    r"(brings?|bring) \w+ forth": "forms",
    r"so many find": "give the number its name",
}
"""Patterns of words that a reader has to read twice, and what to write in their place."""

ALLOWED: dict[str, str] = {}
"""Sentences that are permitted, each with its reason: at most ten."""

LONGEST = 35
"""The most words of a sentence. The aim is 25; a longer sentence than this is two sentences."""

LONGEST_SUBJECT = 72
"""The most characters of a subject, as of a commit."""

PAGES = sorted((ROOT / "docs").rglob("*.md")) + [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")]
OWN = Path(__file__)


def modules(*folders: str) -> list[Path]:
    """Return the Python files of these folders, without this file, which quotes the forbidden words."""
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if path != OWN]


CONNECTION = modules("tcpapp/connection")
PARTS = {
    "tcpapp": [path for path in modules("tcpapp") if path not in CONNECTION],
    "tcpapp.connection": CONNECTION,
    "tests": modules("tests"),
    "benchmarks": [*modules("benchmarks"), ROOT / "benchmarks" / "README.md"],
    "docs": [path for path in PAGES if "_build" not in path.parts],
    "changelog": [ROOT / "CHANGELOG.md"],
}

UNFINISHED: tuple[str, ...] = ()
"""Parts that are being rewritten: their checks are expected to fail, and it is an error if they pass."""

each_part = pytest.mark.parametrize(
    "part",
    [
        pytest.param(name, marks=pytest.mark.xfail(strict=True, reason="unfinished") if name in UNFINISHED else ())
        for name in PARTS
    ],
)


# The texts ----------------------------------------------------------------------------------------------------------


@dataclass
class Parts:
    """The parts of a module that are read here, each with its line."""

    strings: list[tuple[int, str]] = field(default_factory=list)
    docstrings: list[tuple[int, str]] = field(default_factory=list)
    undocumented: list[tuple[int, str]] = field(default_factory=list)


@cache
def parts_of(path: Path) -> Parts:
    """Return the strings of a module that are texts, its docstrings, also of attributes, and tests without one."""
    parts = Parts()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 1:
            parts.strings.append((node.lineno, node.value))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            parts.docstrings.append((node.lineno, node.value.value))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and is_undocumented(node):
            parts.undocumented.append((node.lineno, node.name))
    return parts


def is_undocumented(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a function is a test without a docstring."""
    return function.name.startswith("test_") and not ast.get_docstring(function)


def comments_of(path: Path) -> Iterator[tuple[int, str]]:
    """Give each block of comments as one text, with the number of its last line."""
    block: list[str] = []
    last = 0
    for line, comment in comments_in(path.read_text(encoding="utf-8")):
        if block and line != last + 1:
            yield last, "\n".join(block)
            block = []
        block.append(comment.lstrip("#: "))
        last = line
    if block:
        yield last, "\n".join(block)


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Give the docstrings, comments, messages and log lines of a module, or the paragraphs of a page."""
    if path.suffix != ".py":
        yield from enumerate(without_code(path.read_text(encoding="utf-8")).split("\n\n"), 1)
        return
    yield from parts_of(path).strings
    yield from comments_of(path)


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """Give the docstrings of a module, also of attributes, or the paragraphs of a page."""
    if path.suffix != ".py":
        yield from texts_of(path)
        return
    yield from parts_of(path).docstrings


def without_code(page: str) -> str:
    """Return the page without its blocks of code and its hidden comments."""
    page = re.sub(r"^ *(`{3,})[^\n]*\n.*?^ *\1 *$", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"<!--.*?-->", "", page, flags=re.DOTALL)


def sentences(text: str) -> Iterator[str]:
    """Give the sentences of a text. An item of a list, a heading and a cell end a sentence; code is one word."""
    text = re.sub(r"``[^`]+``|`[^`]+`", "code", text)
    text = re.sub(r"::[ \t]*\n((?:[ \t]*\n)+)((?:[ \t]+\S.*\n?|[ \t]*\n)*)", _without_literal, text)
    for paragraph in re.split(r"\n\s*\n|^\s*[=|+-][=|+ :-]*$|\n(?=\s*(?:[-*|#]|\d+\.) )", text, flags=re.MULTILINE):
        for cell in re.split(r"\||(?<=\S) {2,}(?=\S)", re.sub(r"[ \t]*\n[ \t]*", " ", paragraph)):
            yield from re.split(r"(?<=[.!?])[)\"'”]*\s+(?=\S)", cell.strip())


def _without_literal(found: re.Match[str]) -> str:
    """Return the text that follows the literal block after ``::``."""
    lines = found[2].split("\n")
    first = next((line for line in lines if line.strip()), "")
    depth = len(first) - len(first.lstrip())
    rest = [i for i, line in enumerate(lines) if line.strip() and len(line) - len(line.lstrip()) < depth]
    return ":\n\n" + "\n".join(lines[rest[0] :] if rest else [])


def place(path: Path, line: int) -> str:
    """Return the file and the line of a text."""
    return f"{path.relative_to(ROOT)}:{line}"


# The checks ---------------------------------------------------------------------------------------------------------

HARD = re.compile(rf"\b(?:{'|'.join(INSTEAD)})\b", re.IGNORECASE)


@each_part
def test_texts_have_no_words_that_are_read_twice(part: str) -> None:
    """No text has a pattern of `INSTEAD`."""
    found = [
        f"{place(path, line)}: {hard[0]!r} in {sentence!r}"
        for path in PARTS[part]
        for line, text in texts_of(path)
        for sentence in sentences(text)
        for hard in [HARD.search(sentence)]
        if hard and sentence not in ALLOWED
    ]
    assert found == []


@each_part
def test_sentences_are_short(part: str) -> None:
    """No sentence has more than `LONGEST` words."""
    found = [
        f"{place(path, line)}: {len(sentence.split())} words: {sentence}"
        for path in PARTS[part]
        for line, text in prose_of(path)
        for sentence in sentences(text)
        if len(sentence.split()) > LONGEST and sentence not in ALLOWED
    ]
    assert found == []


def test_every_test_has_a_docstring() -> None:
    """Every test function has a docstring, which says what the test shows."""
    found = [
        f"{place(path, line)}: {name}"
        for path in [*modules("tests"), OWN]
        for line, name in parts_of(path).undocumented
    ]
    assert found == []


def entries() -> list[str]:
    """Return the entries of the changelog, each in one line."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return [" ".join(each.split()) for each in re.findall(r"^- (.*(?:\n  .*)*)", text, re.MULTILINE)]


VERBS = """
Accept Add Allow Answer Apply Ask Cancel Close Compare Continue Count Deliver Drop Encode End Escape Fail Fix Free Go
Ignore Keep Leave Let Limit Log Move Name Poll Raise Read Refuse Reject Remove Rename Report Require Reset Return Run
Send Serve Share Split Start Stop Treat Try Use Wait Watch
"""
"""The verbs with which an entry of the changelog can begin; a new verb is added here."""


def test_an_entry_of_the_changelog_begins_with_a_subject() -> None:
    """An entry begins as a commit does: with a verb, and at most 72 characters up to the first stop."""
    subjects = [re.split(r"(?<=\.)\s", entry)[0] for entry in entries()]
    assert [each for each in subjects if len(each) > LONGEST_SUBJECT or each.split()[0] not in VERBS.split()] == []


# The tests of the checks --------------------------------------------------------------------------------------------


def test_the_allow_list_is_short_and_used() -> None:
    """`ALLOWED` has at most ten sentences, and each is in a text."""
    everything = " ".join(" ".join(path.read_text("utf-8").split()) for files in PARTS.values() for path in files)
    assert len(ALLOWED) <= 10
    assert [each for each in ALLOWED if each not in everything] == []


@pytest.mark.parametrize("text", ["One who floods is read less.", "A peer,\nwhom nobody knows.", "That of `send`."])
def test_a_hard_text_is_found(text: str) -> None:
    """A text with a pattern of `INSTEAD` is found."""
    assert any(HARD.search(sentence) for sentence in sentences(text))


def test_sentences_end_with_stops_items_and_cells() -> None:
    """A stop, an item of a list and a cell of a table end a sentence."""
    text = (
        "One. Two\nlines!\n\n- an item: `a b c`\n- another\n\n| cell | and cell |\n|---|---|\n\n== ==\na    b\n== ==\n"
    )
    assert [each for each in sentences(text) if each.strip("-")] == [
        "One.",
        "Two lines!",
        "- an item: code",
        "- another",
        "cell",
        "and cell",
        "a",
        "b",
    ]


def test_a_literal_block_is_no_sentence() -> None:
    """A literal block is not part of a sentence."""
    text = "Use it so::\n\n    one\n    two\n\nMore."
    assert [each for each in sentences(text) if each] == ["Use it so:", "More."]


def test_code_on_a_page_is_no_sentence() -> None:
    """Code and hidden comments of a page are no sentences."""
    assert without_code("a\n```python\nx = 1\n```\nb<!-- c -->").split() == ["a", "b"]


def test_comments_and_docstrings_are_read(tmp_path: Path) -> None:
    """`texts_of` gives comments, docstrings and texts of a module; `prose_of` gives only docstrings."""
    path = tmp_path / "module.py"
    path.write_text(
        '"""A docstring of it."""\n\n# a comment\n# of two lines\nx = 1  # alone\ny = "no docstring at all"\n'
    )
    assert {text for _, text in texts_of(path)} == {
        "A docstring of it.",
        "no docstring at all",
        "a comment\nof two lines\nalone",
    }
    assert list(prose_of(path)) == [(1, "A docstring of it.")]


def test_a_test_without_a_docstring_is_found(tmp_path: Path) -> None:
    """A test without a docstring is found, also in a class and as a coroutine; other functions need none."""
    path = tmp_path / "test_module.py"
    path.write_text(
        "def test_one():\n    assert True\n\n"
        'def test_two():\n    """Says what it shows."""\n\n'
        'class Tests:\n    async def test_three(self):\n        ""\n\n'
        "def helper():\n    return 1\n"
    )
    assert parts_of(path).undocumented == [(1, "test_one"), (8, "test_three")]
