"""Faults of the machine: its network, its disk, its clock, its manager. The healthy clients are still served."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.processes import SECONDS, TCP, Manager, Process, Run, dial, ends, hear

pytestmark = pytest.mark.once


def served(client: socket.socket, message: bytes = b"are you there?") -> None:
    """Send the healthy client's message, and check its reply."""
    client.sendall(message + b"\n")
    assert hear(client, len(message) + 1) == message + b"\n"


def limited(what: str) -> Callable[[], None]:
    """Return a function that lowers the limits of a process before it begins."""
    return lambda: exec(f"import resource; resource.setrlimit({what})")


@pytest.fixture
def app(tmp_path: Path) -> Callable[[str], list[str]]:
    """Give ``app(source)``: the options that serve the ``app`` of this source."""

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
"""An app that takes all descriptors of its process, and gives them back."""


def test_descriptors_run_out(run: Run, app: Any) -> None:
    """
    Without free descriptors, new clients are closed and counted, with at most one log line a second. Then all is
    served.
    """
    process = run("--listen", TCP, *app(HOARDER), preexec_fn=limited("resource.RLIMIT_NOFILE, (64, 256)"))
    process.line(r"max_connections is 1000, but this process can have only 256 descriptors .* becomes 156")
    port = process.port()
    with dial(port) as healthy:
        served(healthy, b"take all there are")
        for _ in range(30):
            with dial(port) as turned_away:
                assert hear(turned_away, 1) == b""
        process.line(r"refused 127\.0\.0\.1:\d+: the system could not accept it \(EMFILE\): this process has no desc")
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
"""An app that logs its messages, on a disk that is full on request: then no file can grow."""


def test_log_that_cannot_be_written(run: Run, app: Any, tmp_path: Path) -> None:
    """
    When the disk is full, the server still serves and counts lost log lines. Once there is room, the log has their
    number.
    """
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
        while not (told := re.search(r"the log could not write (\d+) line\(s\): \[Errno \d+\] \S", log.read_text())):
            served(healthy, b"after")
    assert int(told[1]) >= 5
    assert "said b'before'" in log.read_text()
    process.signal(signal.SIGTERM)
    assert process.end()[0] == 0


TALKATIVE = """
from twisted.logger import Logger

def app(message, connection):
    if message == b"fail":
        raise ValueError("x" * 400)
    if message == b"talk":
        for number in range(300):
            Logger("mine").info("line {number}: {text}", number=number, text="x" * 1000)
    return message
"""
"""An app that logs, on request, more than a pipe can hold."""


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket"])
def test_log_that_nobody_reads(kind: str, twistd: list[str], app: Any, tmp_path: Path) -> None:
    """
    When no program reads the log, the server still serves, counts lost lines, and stops on SIGTERM.

    When the log is read again, it has the number of lost lines.
    """
    options = ["--listen", TCP, *app(TALKATIVE)]
    reads, writes = LOGS[kind]()
    popen = subprocess.Popen([*twistd, "-n", "tcpapp", *options], cwd=tmp_path, stdout=writes, stderr=writes)
    os.close(writes)
    try:
        hold_up(Unread(reads))
        popen.send_signal(signal.SIGTERM)
        assert popen.wait(SECONDS) == 0
    finally:
        popen.kill()
        popen.wait()
        os.close(reads)


def hold_up(log: Unread) -> None:
    """Let a server log more than `log` holds, read the log only after that, and fill it again."""
    port = log.until(rb"listening on 127\.0\.0\.1:(\d+)\D")
    with dial(port) as healthy:
        for _ in range(5):
            served(healthy, b"talk")
        for _ in range(5):
            with dial(port) as failing:
                failing.sendall(b"fail\n")
                assert hear(failing, 1) == b""
        served(healthy)
        lost = 0
        while lost < 1000:
            lost += log.until(rb"the log could not write (\d+) line\(s\): .*the log is full")
        assert lost < 1600
        for _ in range(2):
            served(healthy, b"talk")


def pipe() -> tuple[int, int]:
    """Return a pipe, as a container has for its log."""
    return os.pipe()


def terminal() -> tuple[int, int]:
    """Return a terminal, which its user can have stopped."""
    return pty.openpty()


def pair() -> tuple[int, int]:
    """Return a pair of sockets, as systemd makes for a log."""
    one, other = socket.socketpair()
    return one.detach(), other.detach()


LOGS = {"pipe": pipe, "terminal": terminal, "socket": pair}


class Unread:
    """The log of a process, which is read only on request."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._text = b""

    def until(self, pattern: bytes) -> int:
        """Read until `pattern` is found, and return its group, which is a number."""
        while not (found := re.search(pattern, self._text)):
            more = os.read(self._descriptor, 4096)
            assert more, self._text
            self._text += more
        self._text = self._text[found.end() :]
        return int(found[1])


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
"""An app that computes until the thread that watches the event loop has found where it stalls."""


def test_app_that_blocks(run: Run, app: Any) -> None:
    """When the app blocks the event loop, the log names the function, and later other clients are served."""
    process = run("--listen", TCP, *app(BLOCKER), "--loop-stall", "0.5")
    port = process.port()
    with dial(port) as client, dial(port) as healthy:
        client.sendall(b"compute\n")
        process.line(r"the event loop stalled for more than 0\.5 s \(loop_stall\)")
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
"""An app that changes the clock of Twisted's reactors."""


def test_clock_that_jumps(run: Run, app: Any) -> None:
    """When the wall clock jumps, timers go on by a clock that is never set: no timeout ends early, and none is lost."""
    process = run("--listen", TCP, *app(CLOCK), "--idle", "30", "--max-age", "60", "--message-timeout", "0.3")
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
    """
    When the process is killed, clients get the end of the stream at once, and the next process can listen on the port.
    """
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
    """SIGHUP reloads a renewed certificate. While the new one is invalid, the old one stays in use."""
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


def test_bad_certificate_among_good_ones(run: Run, tmp_path: Path) -> None:
    """
    A bad certificate in a folder is logged, and the other certificates are used and renewed.

    A rotation in two writes ends no connection: the old certificate stays until both files fit.
    """
    authority, folder = trustme.CA(), tmp_path / "certificates"
    folder.mkdir()
    authority.cert_pem.write_to_path(str(tmp_path / "roots.pem"))

    def context() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(tmp_path / "roots.pem"))

    def shown(name: str) -> Any:
        with dial(port) as plain, context().wrap_socket(plain, server_hostname=name) as client:
            served(client)
            return client.getpeercert()["serialNumber"]

    def renew(name: str, *parts: str) -> None:
        made = authority.issue_cert(name)
        blobs = {"cert": made.cert_chain_pems[0].bytes(), "key": made.private_key_pem.bytes()}
        for each in parts:
            (folder / f"{name}.{each}.pem").write_bytes(blobs[each])

    def reload(says: str) -> None:
        process.signal(signal.SIGHUP)
        process.line(says)
        process.line("reloaded")

    renew("a.example", "cert", "key")
    renew("b.example", "cert", "key")
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    expired = authority.issue_cert("old.example", not_after=yesterday)
    expired.private_key_and_cert_chain_pem.write_to_path(str(folder / "old.pem"))
    process = run("--listen", f"tls:0:interface=127.0.0.1:path={folder}")
    process.line(r"certificate not loaded: .*old\.pem: the certificate has expired")
    port = process.port()
    before = shown("a.example"), shown("b.example")
    with context().wrap_socket(dial(port), server_hostname="a.example") as healthy:
        served(healthy)
        renew("a.example", "key")
        reload(r"certificate not loaded: .*a\.example\.cert\.pem: there is no private key")
        assert (shown("a.example"), shown("b.example")) == before
        served(healthy)
        renew("a.example", "cert", "key")
        renew("b.example", "cert", "key")
        reload(r"certificate not loaded: .*old\.pem")
        assert not {shown("a.example"), shown("b.example")} & set(before)
        served(healthy)
    ends(process)


def test_pid_file_with_the_id_of_its_own_process(run: Run, tmp_path: Path) -> None:
    """
    A server starts although its pid file holds its own process id. A killed process in a container leaves such a file.
    """
    pid_file = tmp_path / "twistd.pid"
    own = lambda: pid_file.write_text(f"{os.getpid()}\n")  # noqa: E731 - the process calls it before it begins
    process = run("--listen", TCP, before=("-n", f"--pidfile={pid_file}"), preexec_fn=own)
    process.line("removed .*twistd.pid: it was left by an earlier process with this process's id")
    with dial(process.port()) as healthy:
        served(healthy)
        assert int(pid_file.read_text()) == process.popen.pid
    ends(process)
    assert not pid_file.exists()


FORKING = """
import os
import signal

from tcpapp import blocking
from tcpapp.errors import Forked
from twisted.internet.threads import deferToThread

def app(message, connection):
    if message == b"fork":
        return deferToThread(ask, f"tcp:127.0.0.1:{connection.host.port}")
    return message

def ask(where):
    with blocking.connect(where) as client:
        assert client.request(b"parent") == b"parent"
        told, tell = os.pipe()
        child = os.fork()
        if not child:
            signal.alarm(15)
            try:
                client.request(b"child", timeout=1)
            except Forked as error:
                os.write(tell, str(error).partition(":")[0].encode())
            os._exit(0)
        os.close(tell)
        with open(told, "rb") as said:
            answer = said.read()
        os.waitpid(child, 0)
        return client.request(answer or b"it hung")
"""
"""
An app with a connected client, whose process forks.

The reply is the error that the child got, sent by the parent's client.
"""


def test_fork_with_a_client_at_work(run: Run, app: Any) -> None:
    """After a fork, the client in the child fails at once, and the client and the server of the parent still work."""
    process = run("--listen", TCP, *app(FORKING))
    port = process.port()
    with dial(port) as client, dial(port) as healthy:
        client.sendall(b"fork\n")
        served(healthy)
        assert hear(client, 8) == b"request\n"
        served(healthy)
    ends(process)


# Faults at the start --------------------------------------------------------------------------------------------------


def refuses(process: Process, says: str) -> None:
    """Check that the process ends with 1, and prints one line with the reason."""
    code, out, err = process.end()
    assert code == 1
    assert re.fullmatch(rf"twistd tcpapp: {says}\n", err)
    assert "Traceback" not in out


def test_port_that_is_taken(run: Run) -> None:
    """
    When the port is taken, the process prints one line and exits with 1. The process that has the port still serves.
    """
    process = run("--listen", TCP)
    port = process.port()
    with dial(port) as healthy:
        refuses(run("--listen", f"tcp:{port}:interface=127.0.0.1"), rf"Couldn't listen on 127\.0\.0\.1:{port}: .*")
        served(healthy)
    ends(process)


def test_unix_socket_that_a_crash_left(run: Run, tmp_path: Path) -> None:
    """
    A UNIX socket that a crash has left is replaced, with the requested mode, unless another process listens there.
    """
    path = f"{tmp_path}/socket"
    process = run("--listen", f"unix:{path}:mode=600")
    process.line("listening on unix:")
    refuses(
        run("--listen", f"unix:{path}:mode=600"), rf"Couldn't listen on unix:{path}: another process listens there.*"
    )
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


def handed_over(twistd: list[str], folder: Path, sockets: list[socket.socket], *options: str) -> Process:
    """Serve with these sockets, as systemd hands them over, each with the name ``app``."""
    copies = [f"{3 + at}<&{each.fileno()}" for at, each in enumerate(sockets)]
    script = f'exec {" ".join(copies)}; LISTEN_PID=$$ exec "$@"'
    environ = os.environ | {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": ":".join(["app"] * len(sockets))}
    words = ["bash", "-c", script, "bash", *twistd, "-n", "tcpapp", *options]
    return Process(words, folder, env=environ, pass_fds=[each.fileno() for each in sockets])


def test_socket_that_is_handed_over_as_another(twistd: list[str], tmp_path: Path) -> None:
    """
    A socket that is handed over tells its family itself, although the endpoint names another one.

    Logged addresses are right, denied networks are denied, and all sockets of one name are served.
    """
    dual = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    ipv4 = socket.create_server(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in (dual, ipv4)]
    options = ["--listen", "systemd:domain=INET:name=app", "--deny", "127.0.0.0/9"]
    process = handed_over(twistd, tmp_path, [dual, ipv4], *options)
    try:
        process.line(rf"listening on \[::\]:{ports[0]}")
        process.line(rf"listening on 127\.0\.0\.1:{ports[1]}")
        with socket.create_connection(("127.0.0.1", ports[1]), SECONDS, ("127.128.0.1", 0)) as healthy:
            served(healthy)
            with dial(ports[0]) as denied, pytest.raises(ConnectionResetError):
                denied.recv(1)
            process.line(r"refused 127\.0\.0\.1:\d+: its network is not allowed")
            with socket.create_connection(("127.0.0.1", ports[0]), SECONDS, ("127.128.0.1", 0)) as mapped:
                served(mapped)
            served(healthy)
        ends(process)
    finally:
        process.clean_up()
        dual.close()
        ipv4.close()


def test_unix_socket_that_is_handed_over_as_another(twistd: list[str], tmp_path: Path) -> None:
    """
    A UNIX socket that is handed over for a TCP endpoint is refused with one line and exit code 1, and keeps its mode.
    """
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(str(path))
        local.listen()
        path.chmod(0o600)
        process = handed_over(twistd, tmp_path, [local], "--listen", "systemd:domain=INET:name=app")
        try:
            refuses(process, r"--listen: .*: the socket 'app' is of domain UNIX: write domain=UNIX, or leave .*")
        finally:
            process.clean_up()
        process = handed_over(twistd, tmp_path, [local], "--listen", "systemd:name=app")
        try:
            process.line("listening on unix:")
            with dial(str(path)) as healthy:
                served(healthy)
            ends(process)
        finally:
            process.clean_up()
        assert path.stat().st_mode & 0o777 == 0o600


def test_unix_socket_by_the_umask(run: Run, tmp_path: Path) -> None:
    """Without a mode, the umask sets the mode of a UNIX socket."""
    umask = 0o027
    process = run("--listen", f"unix:{tmp_path}/socket", before=("-n", f"--umask={umask:o}"))
    process.line("listening on unix:")
    assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o666 & ~umask
    with dial(f"{tmp_path}/socket") as healthy:
        served(healthy)
    ends(process)


def test_certificate_that_cannot_be_used(run: Run, tmp_path: Path) -> None:
    """
    Certificates are checked at the start: the process exits with one line for each error, and opens no endpoint.
    """
    missing, unreadable, expired = (tmp_path / f"{name}.pem" for name in ("missing", "unreadable", "expired"))
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    trustme.CA().issue_cert("localhost", not_after=yesterday).private_key_and_cert_chain_pem.write_to_path(str(expired))
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(unreadable))
    unreadable.write_bytes(unreadable.read_bytes().replace(b"BEGIN CERTIFICATE", b"BEGIN NOTHING"))
    listen = [f"tls:0:interface=127.0.0.1:certificate={path}" for path in (missing, unreadable, expired)]
    process = run(*(f"--listen={each}" for each in (*listen, f"unix:{tmp_path}/socket")))
    code, out, err = process.end()
    assert (code, "Traceback" in out) == (1, False)
    says = {missing: "a readable file", unreadable: "certificate", expired: "expired"}
    lines = [rf"  --listen: .*{re.escape(str(path))}.*{text}.*\n" for path, text in says.items()]
    assert re.fullmatch("".join(["twistd tcpapp: 3 things are wrong:\n", *lines]), err)
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
"""An app whose process has no IPv6."""


def test_address_family_that_is_missing(run: Run, app: Any) -> None:
    """
    Without IPv6 the process exits with one line. With ``--missing-family=skip`` it listens on the other endpoints.
    """
    endpoints = ["--listen", TCP, "--listen", r"tcp6:0:interface=\:\:1", *app(NO_IPV6)]
    refuses(
        run(*endpoints),
        r"Couldn't listen on \[::1\]:0: .*no such addresses; --missing-family=skip listens on the others\.",
    )
    process = run(*endpoints, "--missing-family", "skip")
    port = process.port()
    process.line(r"skipped, because missing_family is skip: Couldn't listen on \[::1\]:0")
    with dial(port) as healthy:
        served(healthy)
    ends(process)
