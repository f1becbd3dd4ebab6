"""The corpora without a fuzzer: the checks of each target hold for its inputs, and for some random bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPORA = Path(__file__).resolve().parent / "corpora"
INPUTS = [
    pytest.param(path.parent.name, path, id=f"{path.parent.name}/{path.name}") for path in sorted(CORPORA.glob("*/*"))
]


def test_every_target_has_a_corpus() -> None:
    """Each target has a corpus, and each corpus has a target."""
    assert {path.name for path in CORPORA.iterdir()} == set(TARGETS)


@pytest.mark.parametrize(("name", "path"), INPUTS)
def test_an_input_breaks_nothing(name: str, path: Path) -> None:
    """No input of a corpus breaks its target, including each input that broke it once."""
    TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=200))
def test_any_bytes_break_nothing(name: str, data: bytes) -> None:
    """A few random bytes do not break a target."""
    TARGETS[name](data)
