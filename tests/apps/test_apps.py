"""The apps of tcpapp: each is found by its name, and can be served."""

from __future__ import annotations

import importlib

import pytest

from tcpapp import MessageServerFactory, apps


def test_every_module_is_an_app_by_its_name() -> None:
    """`BUILT_IN` has each app under the name of its module."""
    assert sorted(apps.BUILT_IN) == sorted(name for name in apps.__all__ if not name.isupper())
    for name, app in apps.BUILT_IN.items():
        assert getattr(importlib.import_module(f"tcpapp.apps.{name}"), name) is app


@pytest.mark.parametrize("name", sorted(apps.BUILT_IN))
def test_the_table_has_each_app(name: str) -> None:
    """The docstring of the package has a row for each app."""
    assert f"`{name}`" in (apps.__doc__ or "")


@pytest.mark.parametrize("name", sorted(apps.BUILT_IN))
def test_each_app_can_be_served(name: str) -> None:
    """A factory accepts each app."""
    assert MessageServerFactory(apps.BUILT_IN[name]).settings.app is apps.BUILT_IN[name]
