"""Type checkers and clients with typed values: mypy and pyright find each error, and no other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Path(__file__).with_name("clients.py")
WRONG = [number for number, line in enumerate(SAMPLE.read_text().splitlines(), 1) if line.endswith("# wrong")]

CHECKERS = {
    "mypy": ["mypy"],
    "pyright": ["basedpyright", "--level", "error", "--pythonpath", sys.executable],
}


@pytest.mark.parametrize("name", CHECKERS)
def test_type_checkers_find_the_errors_and_no_others(name: str) -> None:
    """A type checker reports each line of the sample that is marked as wrong, and no other line."""
    command = [sys.executable, "-m", *CHECKERS[name], str(SAMPLE)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    found = re.findall(r"clients\.py:(\d+):.*error", ran.stdout)
    assert [int(number) for number in found] == WRONG, ran.stdout + ran.stderr
    assert len(WRONG) == 8
