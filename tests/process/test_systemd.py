"""Notifications to systemd: datagrams to the socket that systemd names, or none."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcpapp.process.systemd import Systemd


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Give the address of a notification socket, as systemd writes it, and the socket."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@tcpapp-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listening.setblocking(False)
        yield name, listening


def test_systemd_gets_each_state_of_the_service(manager: tuple[str, socket.socket]) -> None:
    """Each notification is one datagram in the words of sd_notify(3)."""
    name, listening = manager
    systemd = Systemd({"NOTIFY_SOCKET": name})
    assert systemd
    systemd.ready("listening on 127.0.0.1:7007")
    systemd.alive()
    systemd.stopping("draining")
    told = [listening.recv(1000) for _ in range(3)]
    assert told == [
        b"READY=1\nSTATUS=listening on 127.0.0.1:7007",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=draining",
    ]
    systemd.reloading()
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", listening.recv(1000))


def test_without_a_notification_socket_nothing_is_sent() -> None:
    """Without NOTIFY_SOCKET, no notification is sent, and there is no watchdog."""
    systemd = Systemd({"WATCHDOG_USEC": "1000000"})
    assert (bool(systemd), systemd.watchdog) == (False, 0.0)
    systemd.ready("listening")


def test_a_missing_manager_is_no_error(tmp_path: Path) -> None:
    """When the manager's socket does not exist, a notification raises nothing."""
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "none")}).alive()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_watchdog_is_notified_twice_in_its_time(environ: dict[str, str], seconds: float) -> None:
    """`watchdog` is half of WATCHDOG_USEC in seconds, if WATCHDOG_PID names this process or is missing."""
    assert Systemd({"NOTIFY_SOCKET": "@tcpapp", **environ}).watchdog == seconds
