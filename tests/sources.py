"""
The parts of Python files that the checks of names and words read.

One regular expression finds strings and comments: `tokenize` takes twenty times as long. Syntax trees are not kept,
because their millions of nodes would slow down Python's garbage collector.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

STRING_OR_COMMENT = re.compile(
    r'''
    """(?:\\.|[^\\])*?""" | \'\'\'(?:\\.|[^\\])*?\'\'\'       # strings of several lines
    | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'
    | \#[^\n]*
    ''',
    re.VERBOSE | re.DOTALL,
)


def comments_in(source: str) -> Iterator[tuple[int, str]]:
    """Give each comment with its line."""
    line, counted = 1, 0
    for found in STRING_OR_COMMENT.finditer(source):
        if found[0].startswith("#"):
            line += source.count("\n", counted, found.start())
            counted = found.start()
            yield line, found[0]


def names_in(source: str) -> Iterator[tuple[str, int]]:
    """Give each name and keyword, outside of strings and comments, with its line."""
    code = STRING_OR_COMMENT.sub(lambda found: '""' + "\n" * found[0].count("\n"), source)
    for number, line in enumerate(code.splitlines(), 1):
        for name in re.findall(r"\b[^\W\d]\w*", line):
            yield name, number
