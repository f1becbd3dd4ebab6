"""The options: each has a name of its own, a default, and a meaning."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from tcpapp.limits import Limits, Policies, Timeouts, numbers_of
from tcpapp.process.configuration.options import GROUPS, OPTIONS, is_off, set_by_options


def test_every_number_and_every_policy_has_its_option() -> None:
    """In the table of its kind."""
    for kind, section in ((Limits, "limits"), (Timeouts, "timeouts"), (Policies, "policies")):
        names = {each.name.replace("_", "-") for each in set_by_options(kind)}
        assert {each.name for each in OPTIONS.values() if each.section == section} == names


def test_only_what_means_nothing_to_a_server_has_no_option() -> None:
    """A server connects nowhere."""
    every = {each.name for kind in (Limits, Timeouts, Policies) for each in fields(kind)}
    assert every - {each.field.name for each in OPTIONS.values() if each.field} == {"connect"}


def test_no_two_options_have_one_name() -> None:
    """In whichever groups they are."""
    assert len(OPTIONS) == sum(map(len, GROUPS.values()))


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_every_option_tells_what_it_means(option) -> None:
    """Its name can be written in a shell, in a file and in the environment alike."""
    assert re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", option.name)
    assert option.meaning
    assert option.default


@pytest.mark.parametrize("field", [*numbers_of(Limits), *numbers_of(Timeouts)], ids=lambda field: field.name)
def test_what_is_off_is_what_was_on(field) -> None:
    """A number that is 0 by default, or whose 0 has another meaning, was not switched off."""
    assert not is_off(field, field.default)
    expected = field.default != 0 and field.metadata["zero"] not in (
        "",
        "cut at once",
        "all at once",
        "all addresses are one network",
    )
    assert is_off(field, 0) == expected
