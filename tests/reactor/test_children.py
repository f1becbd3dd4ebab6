"""The signal that a child has ended."""

from __future__ import annotations

import signal

import pytest

from tcpapp.reactor import children


def test_it_has_the_processes_reaped_and_can_be_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    reaped: list[str] = []
    monkeypatch.setattr(children, "reapAllProcesses", lambda: reaped.append("reaped"))
    before = signal.getsignal(signal.SIGCHLD)
    signals = children.ChildSignals(lambda call: call())
    try:
        signals.install()
        assert reaped == ["reaped"]  # those that ended before
        signal.raise_signal(signal.SIGCHLD)
        assert reaped == ["reaped"] * 2
        signals.uninstall()
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)
