"""What a machine may do to a server, its network, its disk, its clock, and who keeps it; the healthy are served on."""

from __future__ import annotations

import re
import signal
import socket
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.processes import SECONDS, TCP, Manager, Process, Run, dial, ends, hear

pytestmark = pytest.mark.once


def served(client: socket.socket, message: bytes = b"are you there?") -> None:
    """The healthy client asks, and is answered."""
    client.sendall(message + b"\n")
    assert hear(client, len(message) + 1) == message + b"\n"


def limited(what: str) -> Callable[[], None]:
    """What a process does before it begins, by which its limits are lower."""
    return lambda: exec(f"import resource; resource.setrlimit({what})")


@pytest.fixture
def app(tmp_path: Path) -> Callable[[str], list[str]]:
    """Give ``app(source)``: the options by which this source's ``app`` is served."""

    def write(source: str) -> list[str]:
        (tmp_path / "mine.py").write_text(source)
        return ["--app", "mine:app"]

    return write


HOARDER = """
import os

hoard = []

def app(message, connection):
    if message == b"take all there are":
        try:
            while True:
                hoard.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
    while message == b"give them back" and hoard:
        os.close(hoard.pop())
    return message
"""
"""An app that takes the process's last descriptor, and gives all of them back."""


def test_descriptors_run_out(run: Run, app: Any) -> None:
    """Whoever comes then is closed, counted, and told of once a second at the most; when there are some, it goes on."""
    process = run("--listen", TCP, *app(HOARDER), preexec_fn=limited("resource.RLIMIT_NOFILE, (64, 256)"))
    process.line(r"max_connections is 1000, and this process may have 256 descriptors, .* it will be 156")
    port = process.port()
    with dial(port) as healthy:
        served(healthy, b"take all there are")
        for _ in range(30):
            with dial(port) as turned_away:
                assert hear(turned_away, 1) == b""
        process.line(r"refused 127\.0\.0\.1:\d+: the system could not take it in \(EMFILE\): this process has no desc")
        served(healthy)
        served(healthy, b"give them back")
        with dial(port) as welcome:
            served(welcome)
    process.signal(signal.SIGTERM)
    code, rest, _ = process.end()
    assert code == 0
    assert rest.count("EMFILE") < 10


DISK = """
import resource
from twisted.logger import Logger

ANY = resource.RLIM_INFINITY

def app(message, connection):
    if message == b"be full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, ANY))
    elif message == b"have room":
        resource.setrlimit(resource.RLIMIT_FSIZE, (ANY, ANY))
    else:
        Logger("mine").info("said {message!r}", message=message)
    return message
"""
"""An app that logs what it gets, on a disk that is full when it is told to be: no file may grow then."""


def test_log_that_cannot_be_written(run: Run, app: Any, tmp_path: Path) -> None:
    """The server goes on, and counts the lines; when there is room again, the log says how many there were."""
    socket_file, log = f"{tmp_path}/socket", tmp_path / "log"
    with Manager(tmp_path) as manager:
        before = ("-n", f"--logfile={log}")
        process = run("--listen", f"unix:{socket_file}", *app(DISK), before=before, env=manager.environ)
        manager.told(b"READY=1")
    with dial(socket_file) as healthy:
        served(healthy, b"before")
        served(healthy, b"be full")
        for _ in range(5):
            served(healthy, b"lost")
        served(healthy, b"have room")
        while not (told := re.search(r"the log could not take (\d+) line\(s\): \[Errno \d+\] \S", log.read_text())):
            served(healthy, b"after")
    assert int(told[1]) >= 5
    assert "said b'before'" in log.read_text()
    process.signal(signal.SIGTERM)
    assert process.end()[0] == 0


BLOCKER = """
import threading
from twisted.internet import reactor

looked_at = threading.Event()

def app(message, connection):
    if message == b"compute":
        compute()
    return message

def compute():
    reactor.callFromThread = told
    looked_at.wait()
    del reactor.callFromThread

def told(*call):
    type(reactor).callFromThread(reactor, *call)
    looked_at.set()
"""
"""An app that computes until the thread that watches the reactor has looked where it stands."""


def test_app_that_blocks(run: Run, app: Any) -> None:
    """The log names the function, and the others are served when it is over."""
    process = run("--listen", TCP, *app(BLOCKER), "--blocked", "0.5")
    port = process.port()
    with dial(port) as client, dial(port) as healthy:
        client.sendall(b"compute\n")
        process.line(r"nothing was done for more than 0\.5 s \(blocked\)")
        process.line("in compute")
        assert hear(client, 8) == b"compute\n"
        served(healthy)
    ends(process)


CLOCK = """
import time
from twisted.internet import base, reactor

def app(message, connection):
    if message == b"ten years on":
        base.ReactorBase.seconds = lambda self: time.time() + 10 * 365 * 86400
        return b"%d" % (reactor.seconds() - time.monotonic())
    return message
"""
"""An app that sets the clock which Twisted's reactors go by."""


def test_clock_that_jumps(run: Run, app: Any) -> None:
    """Timers run by one that is never set: no wait is over, and none lasts for ever."""
    process = run("--listen", TCP, *app(CLOCK), "--idle", "30", "--max-age", "60", "--frame", "0.3")
    port = process.port()
    with dial(port) as healthy, dial(port) as slow:
        served(healthy)
        slow.sendall(b"half a mess")
        healthy.sendall(b"ten years on\n")
        assert hear(healthy, 2) == b"0\n"
        assert hear(slow, 1) == b""
        served(healthy)
    ends(process)


def test_kill(run: Run) -> None:
    """Clients are told at once that nothing more comes, and the next process has the port at once."""
    process = run("--listen", TCP)
    port = process.port()
    with dial(port) as client:
        served(client)
        process.signal(signal.SIGKILL)
        assert process.popen.wait(SECONDS) == -signal.SIGKILL
        assert hear(client, 1) == b""
        again = run("--listen", f"tcp:{port}:interface=127.0.0.1")
        assert again.port() == port
        with dial(port) as healthy:
            served(healthy)
    ends(again)


def test_certificate_that_is_renewed(run: Run, tmp_path: Path) -> None:
    """A hang-up has it read anew, and checked first: the old one is shown while the new one is wrong."""
    authority, path = trustme.CA(), tmp_path / "cert.pem"
    authority.cert_pem.write_to_path(str(tmp_path / "roots.pem"))

    def shown() -> Any:
        context = ssl.create_default_context(cafile=str(tmp_path / "roots.pem"))
        with dial(port) as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
            served(client)
            return client.getpeercert()["serialNumber"]

    def renew(*names: str) -> None:
        authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(str(path))

    renew("localhost")
    process = run("--listen", f"tls:0:interface=127.0.0.1:certificate={path}")
    port = process.port()
    first = shown()
    with ssl.create_default_context(cafile=str(tmp_path / "roots.pem")).wrap_socket(
        dial(port), server_hostname="localhost"
    ) as healthy:
        served(healthy)
        path.write_text("junk")
        process.signal(signal.SIGHUP)
        process.line(r"not reloaded: .*cert\.pem")
        assert shown() == first
        renew("localhost")
        process.signal(signal.SIGHUP)
        process.line("reloaded")
        assert shown() != first
        served(healthy)
    ends(process)


# What is wrong from the start -----------------------------------------------------------------------------------------


def refuses(process: Process, says: str) -> None:
    """It ends with 1, and one line that says why."""
    code, out, err = process.end()
    assert code == 1
    assert re.fullmatch(rf"twistd tcpapp: {says}\n", err)
    assert "Traceback" not in out


def test_port_that_is_taken(run: Run) -> None:
    """One line, and 1; who has the port serves on."""
    process = run("--listen", TCP)
    port = process.port()
    with dial(port) as healthy:
        refuses(run("--listen", f"tcp:{port}:interface=127.0.0.1"), rf"Couldn't listen on 127\.0\.0\.1:{port}: .*")
        served(healthy)
    ends(process)


def test_unix_socket_that_a_crash_left(run: Run, tmp_path: Path) -> None:
    """Its path is taken over, with the mode that is asked for, but not while somebody listens there."""
    path = f"{tmp_path}/socket"
    process = run("--listen", f"unix:{path}:mode=600")
    process.line("listening on unix:")
    refuses(run("--listen", f"unix:{path}:mode=600"), rf"Couldn't listen on unix:{path}: .+")
    with dial(path) as healthy:
        served(healthy)
    process.signal(signal.SIGKILL)
    process.popen.wait(SECONDS)
    assert Path(path).exists()
    again = run("--listen", f"unix:{path}:mode=600")
    again.line("listening on unix:")
    assert Path(path).stat().st_mode & 0o777 == 0o600
    with dial(path) as healthy:
        served(healthy)
    ends(again)


@pytest.mark.parametrize("wrong", ["missing", "unreadable", "expired"])
def test_certificate_that_cannot_be_used(wrong: str, run: Run, tmp_path: Path) -> None:
    """It is read at the start, and not when the first client comes; nothing is listened on."""
    path = tmp_path / "cert.pem"
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    made = trustme.CA().issue_cert("localhost", not_after=yesterday if wrong == "expired" else None)
    if wrong != "missing":
        made.private_key_and_cert_chain_pem.write_to_path(str(path))
    if wrong == "unreadable":
        path.write_bytes(path.read_bytes().replace(b"BEGIN CERTIFICATE", b"BEGIN NOTHING"))
    process = run("--listen", f"tls:0:interface=127.0.0.1:certificate={path}", "--listen", f"unix:{tmp_path}/socket")
    says = {"missing": "a readable file", "unreadable": "certificate", "expired": "expired"}[wrong]
    refuses(process, rf".*{re.escape(str(path))}.*{says}.*")
    assert not (tmp_path / "socket").exists()


NO_IPV6 = """
import errno
import os
import socket

from tcpapp.apps import echo as app

class Socket(socket.socket):
    def __init__(self, family=-1, *args, **options):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        super().__init__(family, *args, **options)

socket.socket = Socket
"""
"""An app that takes IPv6 from its process."""


def test_address_family_that_is_missing(run: Run, app: Any) -> None:
    """It says so, and listens on the rest only if it is told to."""
    endpoints = ["--listen", TCP, "--listen", r"tcp6:0:interface=\:\:1", *app(NO_IPV6)]
    refuses(
        run(*endpoints), r"Couldn't listen on ::1:0: .*no such addresses; --missing-family=skip listens on the others"
    )
    process = run(*endpoints, "--missing-family", "skip")
    port = process.port()
    process.line("not listened on, for missing_family is skip: Couldn't listen on ::1:0")
    with dial(port) as healthy:
        served(healthy)
    ends(process)
