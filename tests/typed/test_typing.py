"""What type checkers know of clients with values: mypy and pyright find the errors, and nothing else."""

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
    "mypy": ["mypy", "--cache-dir=/dev/null"],
    "pyright": ["basedpyright", "--level", "error", "--pythonpath", sys.executable],
}


@pytest.mark.parametrize("name", CHECKERS)
def test_what_is_wrong_is_found_and_nothing_else(name: str) -> None:
    """A question where an answer belongs, an option that there is not; and each type that is asserted is the one."""
    command = [sys.executable, "-m", *CHECKERS[name], str(SAMPLE)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    found = re.findall(r"clients\.py:(\d+):.*error", ran.stdout)
    assert [int(number) for number in found] == WRONG, ran.stdout + ran.stderr
    assert len(WRONG) == 6
