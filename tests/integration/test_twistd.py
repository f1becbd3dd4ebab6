"""``twistd tcpapp`` as a process: its service, its output, and its end."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT, SECONDS, TCP, Process, Run, dial, ends, hear

pytestmark = pytest.mark.once

BUSY = rf"twistd tcpapp: Couldn't listen on 127\.0\.0\.1:\d+: \[Errno \d+\] {os.strerror(errno.EADDRINUSE)}\.\n"

MINE = """
import shutil
import signal
from twisted.internet import reactor
from twisted.internet.defer import Deferred

waiting = []

def answer():
    for each in waiting:
        each.callback(b"done")

signal.signal(signal.SIGUSR2, lambda *_: reactor.callFromThread(answer))

def app(message, connection):
    print("in hand:", message.decode(), flush=True)
    waiting.append(Deferred())
    return waiting[-1]
"""
"""An app that answers its messages when the process gets SIGUSR2."""


# Serving --------------------------------------------------------------------------------------------------------------


def test_an_app_of_tcpapp_is_served(run: Run) -> None:
    """An app of tcpapp is served at the port that the log names, and SIGTERM ends the process cleanly."""
    process = run("--listen", TCP, "--app", "chat")
    with dial(process.port()) as client:
        client.sendall(b"ann\n/who\n")
        client.shutdown(socket.SHUT_WR)
        heard = rb"Welcome\. What is your name\?\nHello, ann\. .*\nHere: ann\n"
        assert re.fullmatch(heard, hear(client, 1000))
    ends(process)


def test_an_app_of_the_user_is_imported_and_can_read_the_info_of_its_server(run: Run, tmp_path: Path) -> None:
    """
    ``--app`` imports the user's app from the current directory.

    An app reads from its connection's factory that the server serves, at which address, and since when.
    """
    (tmp_path / "mine.py").write_text(
        "from tcpapp import protocol_of\n"
        "def app(message, connection):\n"
        "    info = protocol_of(connection).factory.info()\n"
        "    return f'{info.state} {info.addresses[0]} {0 <= info.uptime < 600} {info.connections}'.encode()\n"
    )
    process = run("--listen", TCP, "--app", "mine:app")
    port = process.port()
    with dial(port) as client:
        client.sendall(b"?\n")
        expected = b"serving 127.0.0.1:%d True 1\n" % port
        assert hear(client, len(expected)) == expected
    ends(process)


def test_one_process_serves_several_endpoints(run: Run, tmp_path: Path) -> None:
    """One process serves two ports and a UNIX socket, and removes the socket's file at its end."""
    process = run("--listen", TCP, "--listen", TCP, "--listen", f"unix:{tmp_path}/socket:mode=600")
    places = [process.port(), process.port(), process.line(r"listening on unix:(.*)")[1]]
    assert places[2] == f"{tmp_path}/socket"
    for place in places:
        with dial(place) as client:
            client.sendall(b"hello\n")
            assert hear(client, 6) == b"hello\n"
    ends(process)
    assert not (tmp_path / "socket").exists()


def test_options_of_the_command_line_apply(run: Run) -> None:
    """The framing, the codec and the limits of the command line apply to the server."""
    process = run("--listen", TCP, "--framing", "int16:max=20", "--codec", "json", "--max-connections", "1")
    port = process.port()
    with dial(port) as client, dial(port) as other:
        assert hear(other, 1) == b""
        client.sendall(b'\0\x0b{"a": [1] }')
        assert hear(client, 11) == b'\0\x09{"a":[1]}'
        client.sendall(b"\0\x02{]")
        assert hear(client, 1) == b""
    process.line(r"refused 127\.0\.0\.1:\d+: 1 connections are open, which is the limit")
    process.line("closed: undecodable-message")
    ends(process)


def test_the_service_runs_on_another_reactor(run: Run) -> None:
    """With twistd's ``--reactor`` the service runs on that reactor, and ends as on the default one."""
    process = run("--listen", TCP, before=("-n", "--reactor=asyncio"))
    with dial(process.port()) as client:
        client.sendall(b"hello\n")
        assert hear(client, 6) == b"hello\n"
    ends(process)


# Ending ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_hand(run: Run, tmp_path: Path) -> Iterator[tuple[Process, socket.socket]]:
    """Give a process whose app handles a message, and the client that waits for the reply."""
    (tmp_path / "mine.py").write_text(MINE)
    process = run("--listen", TCP, "--app", "mine:app")
    with dial(process.port()) as client:
        client.sendall(b"work\n")
        process.line("in hand: work")
        yield process, client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_the_message_that_is_handled(number: int, in_hand: tuple[Process, socket.socket]) -> None:
    """After SIGTERM or Ctrl-C the port closes, the message is still answered, and the exit code is 0."""
    process, client = in_hand
    port = client.getpeername()[1]
    process.signal(number)
    process.line(f"{signal.Signals(number).name}: stopping")
    process.line(r"draining 1 connection\(s\), for 15 s at most")
    process.line(r"no longer listening on 127\.0\.0\.1")
    with pytest.raises(ConnectionRefusedError):
        dial(port)
    process.signal(signal.SIGUSR2)
    assert hear(client, 100) == b"done\n"
    code, rest, err = process.end()
    assert (code, err) == (0, "")
    assert "Traceback" not in rest


def test_a_second_signal_cuts_all_connections(in_hand: tuple[Process, socket.socket]) -> None:
    """A second signal ends the wait: the client is reset, the log says so, and the exit code is 0."""
    process, client = in_hand
    process.signal(signal.SIGTERM)
    process.line("draining 1")
    process.signal(signal.SIGINT)
    with pytest.raises(ConnectionResetError):
        hear(client, 1)
    process.line("SIGINT, while stopping: cutting every connection")
    process.line(r"cut 1 connection\(s\) that did not end by themselves")
    code, rest, err = process.end()
    assert (code, err) == (0, "")
    assert "Traceback" not in rest


def test_the_drain_has_a_deadline(run: Run, tmp_path: Path) -> None:
    """``--drain`` bounds the end: after it the connection is cut, and the exit code is 0."""
    (tmp_path / "mine.py").write_text(MINE)
    process = run("--listen", TCP, "--app", "mine:app", "--drain", "0.1")
    with dial(process.port()) as client:
        client.sendall(b"work\n")
        process.line("in hand")
        process.signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            hear(client, 1)
    process.line(r"drain-over \(by us\): it was not finished in 0\.1 s \(drain\)")
    assert process.end()[0] == 0


def test_an_endless_conversation_does_not_delay_the_end(run: Run) -> None:
    """The ``time`` app, which sends for ever, ends with the server, and no connection is cut."""
    process = run("--listen", TCP, "--app", "time")
    with dial(process.port()) as client:
        assert hear(client, 1)
        process.signal(signal.SIGTERM)
        while hear(client, 1):
            pass
    code, rest, _ = process.end()
    assert code == 0
    assert "that did not end by themselves" not in rest


def test_a_process_ends_cleanly_after_its_socket_was_removed(run: Run, tmp_path: Path) -> None:
    """When the file of its UNIX socket was removed before, the process still ends cleanly."""
    process = run("--listen", f"unix:{tmp_path}/socket")
    process.line("listening on unix:")
    with dial(f"{tmp_path}/socket") as client:
        client.sendall(b"hello\n")
        assert hear(client, 6) == b"hello\n"
        (tmp_path / "socket").unlink()
        ends(process)
        assert hear(client, 1) == b""


# Starts that fail -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reactor", ["default", "asyncio"])
def test_a_port_in_use_ends_the_process_with_one_line(reactor: str, run: Run, tmp_path: Path) -> None:
    """When a port is in use, the process prints one line, logs one line and exits with 1, and leaves no file."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
        before = ("-n", f"--reactor={reactor}", f"--pidfile={tmp_path}/pid")
        code, out, err = run("--listen", f"unix:{tmp_path}/socket", "--listen", taken, before=before).end()
    assert code == 1
    assert re.fullmatch(BUSY, err)
    assert out.count("Couldn't listen") == 1
    assert "Traceback" not in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--framnig=line"], "option --framnig not recognized; did you mean 'framing'\\?"),
        (
            ["--app=mine:app"],
            r"--app: 'mine:app': importing 'mine' failed: ZeroDivisionError: .* \(.*mine.py, line 1\)",
        ),
    ],
)
def test_a_wrong_command_line_ends_the_process_with_one_line(
    options: list[str], says: str, run: Run, tmp_path: Path
) -> None:
    """
    A wrong command line prints one line on stderr, starts nothing, and exits with 1.

    `tests.test_plugin` has the lines of other errors.
    """
    (tmp_path / "mine.py").write_text("1 / 0")
    code, out, err = run(*options).end()
    assert (code, out) == (1, "")
    assert re.fullmatch(f"twistd tcpapp: {says}\n", err)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


# As a daemon ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def daemon(run: Run, tmp_path: Path) -> Iterator[Callable[..., tuple[tuple[int, str, str], Callable[[], bytes]]]]:
    """
    Give ``daemon(*options)``: it returns the result of the starting command, and a function that waits for the end.

    The daemon has inherited a pipe, which ends when the daemon does.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:

        def start(*options: str) -> tuple[tuple[int, str, str], Callable[[], bytes]]:
            before = (f"--pidfile={tmp_path}/pid", f"--logfile={tmp_path}/log")
            process = run(*options, before=before, pass_fds=[writing])
            os.close(writing)
            return process.end(), pipe.read

        yield start
        if (tmp_path / "pid").exists():
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_daemon_starts_serves_and_ends(daemon: Any, tmp_path: Path) -> None:
    """
    The command returns without output, and the daemon serves. SIGTERM to the process in the pid file ends it cleanly.
    """
    said, ended = daemon("--listen", TCP)
    assert said == (0, "", "")
    log = tmp_path / "log"
    port = re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read_text())
    with dial(int(port[1])) as client:
        client.sendall(b"hello\n")
        assert hear(client, 6) == b"hello\n"
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
        assert hear(client, 1) == b""
    assert ended() == b""
    assert "SIGTERM: stopping" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert not (tmp_path / "pid").exists()


def test_a_daemon_that_cannot_listen_reports_the_reason_and_exits_with_1(daemon: Any, tmp_path: Path) -> None:
    """The starting command prints the reason and returns 1. The log has the reason once, and no pid file is left."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        (code, out, err), ended = daemon("--listen", f"tcp:{other.getsockname()[1]}:interface=127.0.0.1")
    ended()
    assert (code, out) == (1, "")
    assert "Couldn't listen on 127.0.0.1:" in err
    assert os.strerror(errno.EADDRINUSE) in err
    assert "Traceback" not in err
    log = (tmp_path / "log").read_text()
    assert log.count("Couldn't listen") == 1
    assert "Traceback" not in log
    assert not (tmp_path / "pid").exists()


# Configuration and reload ---------------------------------------------------------------------------------------------


def test_sighup_changes_limits_while_the_service_runs(run: Run, tmp_path: Path) -> None:
    """
    SIGHUP applies the limits in the file to later clients, and open connections stay. An error in the file changes
    nothing.
    """
    file = tmp_path / "app.toml"
    file.write_text(f'listen = ["{TCP}"]\nmax-connections = 1\n')
    process = run("--config=app.toml")
    port = process.port()
    with dial(port) as client:
        client.sendall(b"hello\n")
        assert hear(client, 6) == b"hello\n"
        with dial(port) as other:
            assert hear(other, 1) == b""
        file.write_text(f'listen = ["{TCP}"]\nmax-connections = 2\n')
        process.signal(signal.SIGHUP)
        process.line("reloaded: limits")
        with dial(port) as other:
            other.sendall(b"hello\n")
            assert hear(other, 6) == b"hello\n"
        file.write_text("max-connections = many")
        process.signal(signal.SIGHUP)
        process.line(r"not reloaded: app\.toml: \S")
        client.sendall(b"still\n")
        assert hear(client, 6) == b"still\n"
    ends(process)


def test_systemd_is_notified(run: Run, tmp_path: Path) -> None:
    """The process notifies systemd when it is ready, while it is alive, when it reloads, and when it stops."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(SECONDS)
        environ = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        process = run("--listen", TCP, env=environ)
        port = process.port()
        assert manager.recv(1000) == b"READY=1\nSTATUS=listening on 127.0.0.1:%d" % port
        assert manager.recv(1000) == manager.recv(1000) == b"WATCHDOG=1"
        process.signal(signal.SIGHUP)
        told = b""
        while not told.startswith(b"RELOADING=1\nMONOTONIC_USEC="):
            told = manager.recv(1000)
        while told == b"WATCHDOG=1" or told.startswith(b"RELOADING"):
            told = manager.recv(1000)
        assert told.startswith(b"READY=1")
        process.signal(signal.SIGTERM)
        while not told.startswith(b"STOPPING=1"):
            told = manager.recv(1000)
        assert process.end()[0] == 0


def test_a_socket_that_is_handed_over_is_served(twistd: list[str], tmp_path: Path) -> None:
    """
    A socket that is handed over as descriptor 3, as systemd does, is served, also to clients that connected earlier.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        early = dial(listening.getsockname()[1])
        early.sendall(b"early\n")
        program = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"
        script = f'exec 3<&{listening.fileno()}; exec "$@"'
        options = ["-n", "tcpapp", "--listen", "systemd:domain=INET:name=tcpapp"]
        command = ["bash", "-c", script, "bash", sys.executable, "-c", program, *twistd, *options]
        environ = os.environ | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "tcpapp"}
        process = Process(command, tmp_path, env=environ, pass_fds=[listening.fileno()])
        try:
            process.port()
            with early:
                assert hear(early, 6) == b"early\n"
            ends(process)
        finally:
            process.clean_up()


# The unit files -------------------------------------------------------------------------------------------------------


def test_the_unit_files_are_right(tmp_path: Path) -> None:
    """``systemd-analyze verify`` finds no error in the unit files."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    for name in ("tcpapp.service", "tcpapp.socket"):
        text = (ROOT / "deploy" / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/tcpapp/bin/twistd", "/bin/true").replace("/opt/tcpapp", "/"))
    units = [str(tmp_path / name) for name in ("tcpapp.service", "tcpapp.socket")]
    found = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
