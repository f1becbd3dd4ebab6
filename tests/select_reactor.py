"""Gives pytest-twisted a reactor more: ``-p tests.select_reactor --reactor=select``."""

from __future__ import annotations

import pytest_twisted


def install_select_reactor() -> None:
    """Install Twisted's select reactor, which every platform has."""
    from twisted.internet import selectreactor

    pytest_twisted._install_reactor(selectreactor.install, selectreactor.SelectReactor)


pytest_twisted.reactor_installers["select"] = install_select_reactor
