"""The pages for operators: the current values, their sources, and their reasons."""

from __future__ import annotations

import sys

import pytest
from twisted.internet.testing import MemoryReactorClock

from tcpapp.process.configuration.checking import check
from tcpapp.process.configuration.options import OPTIONS
from tcpapp.process.configuration.showing import config_page, help_page, limits_page, switched_off
from tcpapp.process.configuration.sources import Given, from_file

GIVEN = {
    "listen": Given(("tcp:0", r"unix:/a\:b"), "--listen"),
    "app": Given(("upper",), "TCPAPP_APP"),
    "max-connections": Given(("5",), "app.toml: limits.max-connections"),
    "idle": Given(("0",), "--idle"),
    "drain": Given(("0",), "--drain"),
    "over-max-connections": Given(("wait",), "--over-max-connections"),
}


def test_the_configuration_is_shown_as_a_file_that_gives_the_same(tmp_path) -> None:
    """The shown configuration is an options file with the same values; each line names the source of its value."""
    page = config_page(GIVEN)
    path = tmp_path / "app.toml"
    path.write_text(page)
    shown, problems = from_file(str(path))
    assert problems == []
    assert set(shown) == set(OPTIONS)
    assert {name: shown[name].texts for name in GIVEN} == {name: each.texts for name, each in GIVEN.items()}
    once, again = (check(each, MemoryReactorClock()) for each in (GIVEN, shown))
    for name in ("limits", "timeouts", "policies", "app"):
        assert once.arguments[name] == again.arguments[name]
    for line in (
        r'listen = ["tcp:0", "unix:/a\\:b"]  # --listen',
        'app = "upper"  # TCPAPP_APP',
        "max-connections = 5  # app.toml",
        "grace = 5  # default",
        "deny = []  # default",
    ):
        assert line in page.splitlines()


def test_every_limit_is_shown_with_its_reason() -> None:
    """Each limit is shown with its reason, "OFF" if it is off, and its source if it is not the default."""
    page = " ".join(limits_page(GIVEN).split())
    for option in OPTIONS.values():
        if option.section in ("limits", "timeouts"):
            assert f"--{option.name} " in page
            assert f"why {option.default}: {option.field.metadata['why']}" in page
    assert "--idle 0 seconds, which is OFF (by --idle; the default is 600)" in page
    assert "--max-connections 5 connections (by app.toml: limits.max-connections; the default is 1000)" in page
    assert "--drain 0 seconds (by --drain" in page


def test_limits_that_are_off_are_listed() -> None:
    """`switched_off` lists a limit that is 0, unless 0 has another meaning."""
    assert switched_off(GIVEN) == [
        "--idle=0: no limit (Close a server's connection after this long without data in either direction)"
    ]


def test_an_option_with_a_long_name_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long option has a line of its own, so that the meanings stay in one column."""
    showing = sys.modules["tcpapp.process.configuration.showing"]
    monkeypatch.setitem(showing.FLAGS, "a-name-of-some-length", ("", "it is long"))
    lines = help_page("What it is.").splitlines()
    at = lines.index("  --a-name-of-some-length")
    assert lines[at + 1] == " " * 24 + "it is long"
