"""The page about faults, for operators, is correct."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from tcpapp.close_reason import CloseReason
from tcpapp.limits import Limits, Policies, Timeouts, numbers_of
from tests.faults import (
    test_clients,
    test_hostile_machines,
    test_hostile_memory,
    test_hostile_peers,
    test_hostile_tls,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "hostile-peers.md"
ROWS = re.findall(r"^\| (.*) \| (.*) \| (.*) \| (.*) \| `(test_\w+)` \|$", PAGE.read_text(), re.MULTILINE)
REFUSALS = {"not-accepted", "max-per-address", "network-denied", "proxy-header-timeout"}


def test_every_row_has_its_test_and_every_test_its_row() -> None:
    """Each row of the page names a test of these modules, and each test has a row."""
    modules = (test_hostile_peers, test_hostile_tls, test_hostile_memory, test_hostile_machines, test_clients)
    tests = {name for each in modules for name in vars(each) if name.startswith("test_")}
    assert {row[4] for row in ROWS} == tests


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[4])
def test_the_rules_and_numbers_of_a_row_exist(row: tuple[str, ...]) -> None:
    """The rules in a row can end or refuse connections, and the numbers in a row are options."""
    rules = set(re.findall(r"``([a-z-]+)``", CloseReason.__doc__ or "")) | REFUSALS
    rules |= {each.metadata["rule"] for each in numbers_of(Timeouts)}
    names = {each.name for kind in (Limits, Timeouts) for each in numbers_of(kind)} | {
        each.name for each in fields(Policies)
    }
    for rule in re.findall(r"`([\w-]+)`", row[2]):
        assert rule in rules
    for number in re.findall(r"`(\w+)`", row[3]):
        assert number in names | {"max", "max_keys"}
