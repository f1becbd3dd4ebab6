"""
The commands of the units in ``deploy``, run as systemd runs them, serve a socket that is handed over.

The tests run without systemd. `LAUNCH` gives the process what another process can give it: sockets, environment, limits
and restrictions. `NOT_DONE_HERE` lists what only systemd can do.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tcpapp.limits import Timeouts
from tests.processes import ROOT, SECONDS, Process, dial, hear

pytestmark = pytest.mark.once

NOT_DONE_HERE = {
    "Type": "systemd waits for READY=1, as the tests do",
    "NotifyAccess": "systemd checks the sender",
    "Restart": "nothing is started anew",
    "RestartSec": "as Restart",
    "KillMode": "the tests send the signals",
    "DynamicUser": "a user of systemd's own",
    "SystemCallArchitectures": "a filter that systemd compiles",
    "SystemCallFilter": "as SystemCallArchitectures",
    "RestrictAddressFamilies": "as SystemCallArchitectures",
    "RestrictNamespaces": "as SystemCallArchitectures",
    "RestrictRealtime": "as SystemCallArchitectures",
    "RestrictSUIDSGID": "as SystemCallArchitectures",
    "LockPersonality": "as SystemCallArchitectures",
    "PrivateDevices": "needs a mount of /dev",
    "ProcSubset": "needs a mount of /proc, and a process namespace",
    "ProtectProc": "as ProcSubset",
    "ProtectClock": "of no use to a process without capabilities",
    "ProtectControlGroups": "covered by a file system that is read-only",
    "ProtectHome": "the interpreter of the tests can be in one",
    "ProtectHostname": "as ProtectClock",
    "ProtectKernelLogs": "as ProtectClock",
    "ProtectKernelModules": "as ProtectClock",
    "ProtectKernelTunables": "as ProtectClock",
}
"""Lines of the service unit that neither `LAUNCH` nor a test does, each with the reason."""

DONE_HERE = {
    *("ExecStartPre", "ExecStart", "ExecReload", "WatchdogSec", "TimeoutStopSec", "WorkingDirectory"),
    *("LimitNOFILE", "UMask", "NoNewPrivileges", "AmbientCapabilities", "CapabilityBoundingSet"),
    *("MemoryDenyWriteExecute", "ProtectSystem", "PrivateTmp"),
}

LAUNCH = """
import ctypes, json, os, resource, subprocess, sys

given = json.loads(sys.argv[1])
if given["read_only"]:  # ProtectSystem=strict, and PrivateTmp=yes: what is mounted here is seen by this process alone
    for words in given["mounts"]:
        subprocess.run(["mount", *words], check=True)
libc = ctypes.CDLL(None, use_errno=True)
for number, value in given["prctl"]:
    if libc.prctl(number, value, 0, 0, 0):
        sys.exit(f"prctl({number}): {os.strerror(ctypes.get_errno())}")
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
files = given["files"] if hard == resource.RLIM_INFINITY else min(hard, given["files"])  # only systemd can raise it
resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, files), files))
os.umask(given["umask"])
for at, descriptor in enumerate(given["sockets"]):
    os.dup2(descriptor, 3 + at)
if given["sockets"]:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(given["sockets"])))
os.chdir(given["folder"])
os.execv(given["command"][0], given["command"])
"""
"""The program that does what systemd does between fork and exec."""

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 24, 38, 65


class Unit:
    """A unit file of ``deploy``."""

    def __init__(self, name: str) -> None:
        parser = configparser.RawConfigParser(strict=False, delimiters=("=",), interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
        parser.read(ROOT / "deploy" / name)
        self.values = dict(parser["Service" if name.endswith(".service") else "Socket"])

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def says(self, name: str) -> bool:
        """Return whether this setting is on."""
        return self.values.get(name, "no") == "yes"


SERVICE, SOCKET = Unit("tcpapp.service"), Unit("tcpapp.socket")


def read_only() -> str:
    """Return the reason why a process cannot have a read-only file system here, or an empty text if it can."""
    try:
        ran = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except OSError as error:
        return str(error)
    return ran.stderr


class Launched:
    """
    A service that the unit's commands start, with one socket handed over. It receives the service's notifications.
    """

    def __init__(self, twistd: list[str], folder: Path, confined: bool) -> None:
        self._twistd = twistd
        self._folder = folder
        self._confined = confined
        self.processes: list[Process] = []
        host = SOCKET["ListenStream"].rpartition(":")[0]
        self.socket = socket.create_server((host, 0), backlog=int(SOCKET["Backlog"]))
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        self.manager.settimeout(SECONDS)

    def configure(self, listen: str) -> None:
        """Write the options file of the service."""
        (self._folder / "tcpapp.toml").write_text(f"listen = [{json.dumps(listen)}]\napp = 'echo'\n")

    def run(self, name: str, *sockets: socket.socket) -> Process:
        """Run the unit's command of this `name`. As in systemd, only ``ExecStart=`` gets sockets."""
        words = shlex.split(SERVICE[name].replace("/etc/tcpapp/", f"{self._folder}/"))
        assert words[0] == "/opt/tcpapp/bin/twistd"
        prctl = [(PR_SET_NO_NEW_PRIVS, 1)] if SERVICE.says("NoNewPrivileges") else []
        if SERVICE.says("MemoryDenyWriteExecute"):
            prctl.append((PR_SET_MDWE, 1))
        if self._confined and SERVICE["CapabilityBoundingSet"] == "":
            prctl = [*((PR_CAPBSET_DROP, each) for each in range(38)), *prctl]  # CAP_LAST_CAP of Linux 5.8 is 39
        folder = str(self._folder)
        given = {
            "read_only": self._confined and SERVICE["ProtectSystem"] == "strict",
            "mounts": [["--bind", folder, folder], ["-o", "remount,bind,ro", "/"]],
            "prctl": prctl,
            "files": int(SERVICE["LimitNOFILE"]),
            "umask": int(SERVICE["UMask"], 8),
            "sockets": [each.fileno() for each in sockets],
            "folder": folder,
            "command": [*self._twistd, *words[1:]],
        }
        environ = {"PATH": os.defpath, "LANG": "C.UTF-8"}
        if sockets:
            seconds = int(SERVICE["WatchdogSec"])
            environ |= {"NOTIFY_SOCKET": f"{folder}/notify", "WATCHDOG_USEC": str(seconds * 1_000_000)}
            environ["LISTEN_FDNAMES"] = ":".join([SOCKET["FileDescriptorName"]] * len(sockets))
        command = [sys.executable, "-c", LAUNCH, json.dumps(given)]
        if self._confined:
            command = ["unshare", "--map-root-user", "--mount", *command]
        self.processes.append(Process(command, self._folder, env=environ, pass_fds=[each.fileno() for each in sockets]))
        return self.processes[-1]

    def told(self, beginning: bytes) -> bytes:
        """Return the next notification that begins with `beginning`."""
        while not (told := self.manager.recv(1000)).startswith(beginning):
            pass
        return told

    def end(self) -> None:
        for each in self.processes:
            each.clean_up()
        self.manager.close()
        self.socket.close()


IDS = ["plain-alone", "tls-alone", "tls-confined"]


@pytest.fixture
def launched(request: pytest.FixtureRequest, twistd: list[str], tmp_path: Path) -> Iterator[Launched]:
    """Give `Launched`: as an ordinary process, or, with the parameter True, read-only and without capabilities."""
    if request.param and (why := read_only()):
        pytest.skip(f"no file system can be read-only to one process here: {why}")
    made = Launched(twistd, tmp_path, request.param)
    yield made
    made.end()


def secured(folder: Path) -> tuple[str, Callable[[socket.socket], socket.socket]]:
    """Return an endpoint string for TLS on the handed-over socket, and the function with which a client begins TLS."""
    authority, path = trustme.CA(), folder / "cert.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    authority.cert_pem.write_to_path(str(folder / "roots.pem"))
    context = ssl.create_default_context(cafile=str(folder / "roots.pem"))
    return rf"tls:certificate={path}:endpoint=systemd\:name=tcpapp", lambda plain: context.wrap_socket(
        plain, server_hostname="localhost"
    )


@pytest.mark.parametrize(
    ("kind", "launched"), [("plain", False), ("tls", False), ("tls", True)], indirect=["launched"], ids=IDS
)
def test_the_units_serve(kind: str, launched: Launched, tmp_path: Path) -> None:
    """
    The check before the start passes without the socket. The started service also serves clients that connected
    earlier.
    """
    listen, speak = secured(tmp_path) if kind == "tls" else ("systemd:name=tcpapp", lambda plain: plain)
    launched.configure(listen)
    check = launched.run("ExecStartPre")
    code, out, err = check.end()
    assert (code, err) == (0, "")
    assert re.search("the configuration is good; sockets that are handed over could not be checked: ", out)

    port = launched.socket.getsockname()[1]
    early = dial(port)
    service = launched.run("ExecStart", launched.socket)
    with speak(early) as client:
        client.sendall(b"hello\n")
        assert hear(client, 6) == b"hello\n"
        assert launched.told(b"READY=1") == b"READY=1\nSTATUS=listening on 127.0.0.1:%d" % port
        assert launched.told(b"WATCHDOG=1")
        reload = SERVICE["ExecReload"].replace("$MAINPID", str(service.popen.pid))
        subprocess.run(shlex.split(reload), check=True)
        assert launched.told(b"RELOADING=1")
        assert launched.told(b"READY=1")
    service.line("reloaded: ")
    service.signal(signal.SIGTERM)
    assert launched.told(b"STOPPING=1")
    assert service.end()[0] == 0

    waiting = dial(port)  # the socket is systemd's: between two processes, clients wait
    again = launched.run("ExecStart", launched.socket)
    with speak(waiting) as client:
        client.sendall(b"again\n")
        assert hear(client, 6) == b"again\n"
    again.signal(signal.SIGTERM)
    assert again.end()[0] == 0


@pytest.mark.parametrize("launched", [False], indirect=True)
def test_a_start_without_the_socket_fails_with_one_line(launched: Launched) -> None:
    """When no socket was handed over, the start fails with one line on stderr, and no traceback."""
    launched.configure("systemd:name=tcpapp")
    code, out, err = launched.run("ExecStart").end()
    assert code == 1
    assert re.fullmatch(r"twistd tcpapp: Couldn't listen on systemd:name=tcpapp: no socket was handed over .*\n", err)
    assert "Traceback" not in out


@pytest.mark.parametrize("launched", [True], indirect=True)
def test_a_confined_service_cannot_write_elsewhere(launched: Launched) -> None:
    """
    A confined service cannot create a socket outside of the test's folder, so `LAUNCH` restricts it as it promises.
    """
    launched.configure("unix:/usr/app.sock")
    code, _, err = launched.run("ExecStart").end()
    assert (code, err) == (
        1,
        "twistd tcpapp: Couldn't listen on unix:/usr/app.sock: [Errno 30] Read-only file system.\n",
    )


def test_each_line_of_the_unit_is_tested_or_has_a_reason() -> None:
    """Each line of the service unit is in `DONE_HERE`, or in `NOT_DONE_HERE` with the reason why no test does it."""
    assert set(SERVICE.values) <= DONE_HERE | set(NOT_DONE_HERE)
    assert set(NOT_DONE_HERE) <= set(SERVICE.values)


def test_the_unit_gives_the_service_time_to_drain() -> None:
    """systemd stops the service later than the drain's deadline, and the watchdog waits at least 30 seconds."""
    assert int(SERVICE["TimeoutStopSec"]) > Timeouts().drain
    assert int(SERVICE["WatchdogSec"]) >= 30


def test_the_unit_lets_tls_make_its_callbacks() -> None:
    """The unit allows memory that is writable and executable, since the callbacks of cffi need it."""
    assert not SERVICE.says("MemoryDenyWriteExecute")
