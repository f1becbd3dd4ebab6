"""Notifications to systemd: datagrams, on the socket that it names, or nothing."""

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
    """Give the address of a socket, as systemd writes it, and the socket."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@tcpapp-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listening.setblocking(False)
        yield name, listening


def test_it_is_told_what_becomes_of_the_service(manager: tuple[str, socket.socket]) -> None:
    """A datagram each, in the words of sd_notify(3)."""
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


def test_where_nobody_asks_nothing_is_told() -> None:
    """Nor is there a watchdog."""
    systemd = Systemd({"WATCHDOG_USEC": "1000000"})
    assert (bool(systemd), systemd.watchdog) == (False, 0.0)
    systemd.ready("listening")


def test_a_manager_that_is_gone_harms_nothing(tmp_path: Path) -> None:
    """The service goes on."""
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
def test_the_watchdog_hears_of_it_twice_in_its_time(environ: dict[str, str], seconds: float) -> None:
    """If it watches this process."""
    assert Systemd({"NOTIFY_SOCKET": "@tcpapp", **environ}).watchdog == seconds
