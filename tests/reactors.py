"""More reactors for pytest-twisted: ``-p tests.reactors --reactor=select`` and ``--reactor=uvloop``."""

from __future__ import annotations

import pytest_twisted


def install_select_reactor() -> None:
    """Install Twisted's select reactor, which every platform has."""
    from twisted.internet import selectreactor

    pytest_twisted._install_reactor(selectreactor.install, selectreactor.SelectReactor)


def install_uvloop_reactor() -> None:
    """Install tcpapp's own reactor, which runs on uvloop."""
    from tcpapp.reactor import uvloopreactor

    pytest_twisted._install_reactor(uvloopreactor.install, uvloopreactor.UvloopReactor)


pytest_twisted.reactor_installers["select"] = install_select_reactor
pytest_twisted.reactor_installers["uvloop"] = install_uvloop_reactor
