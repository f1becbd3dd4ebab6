"""The options: each has its own name, a default, and a meaning."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from tcpapp.limits import Limits, Policies, Timeouts, numbers_of
from tcpapp.process.configuration.options import GROUPS, OPTIONS, is_off, set_by_options


def test_every_number_and_every_policy_has_its_option() -> None:
    """Each limit, timeout and policy has an option in the table of its kind."""
    for kind, section in ((Limits, "limits"), (Timeouts, "timeouts"), (Policies, "policies")):
        names = {each.name.replace("_", "-") for each in set_by_options(kind)}
        assert {each.name for each in OPTIONS.values() if each.section == section} == names


def test_only_the_connect_timeout_has_no_option() -> None:
    """`connect` is the only number without an option, because a server connects nowhere."""
    every = {each.name for kind in (Limits, Timeouts, Policies) for each in fields(kind)}
    assert every - {each.field.name for each in OPTIONS.values() if each.field} == {"connect"}


def test_no_two_options_have_one_name() -> None:
    """No option is in two groups."""
    assert len(OPTIONS) == sum(map(len, GROUPS.values()))


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_every_option_has_a_meaning_and_a_default(option) -> None:
    """Each option has a meaning and a default, and its name is valid in a shell, a file and the environment."""
    assert re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", option.name)
    assert option.meaning
    assert option.default


@pytest.mark.parametrize("field", [*numbers_of(Limits), *numbers_of(Timeouts)], ids=lambda field: field.name)
def test_an_option_is_off_only_if_its_default_is_on(field) -> None:
    """A number counts as off if it is 0, its default is not 0, and 0 means that there is no limit."""
    assert not is_off(field, field.default)
    expected = field.default != 0 and field.metadata["zero"] not in (
        "",
        "cut at once",
        "all at once",
        "all addresses are one network",
    )
    assert is_off(field, 0) == expected
