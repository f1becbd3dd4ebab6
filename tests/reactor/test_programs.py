"""Programs that were not written for this reactor serve on it: tcpapp's own server, and servers of Twisted."""

from __future__ import annotations

import ftplib
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE
from tests.processes import Process, dial

AMP_SERVER = """
from twisted.application.service import Application
from twisted.application.strports import service
from twisted.internet.protocol import Factory
from twisted.protocols.amp import AMP, Command, Integer

class Sum(Command):
    arguments = [(b"a", Integer()), (b"b", Integer())]
    response = [(b"total", Integer())]

class Adding(AMP):
    @Sum.responder
    def sum(self, a, b):
        return {"total": a + b}

application = Application("amp")
service("tcp:0:interface=127.0.0.1", Factory.forProtocol(Adding)).setServiceParent(application)
"""

AMP_CALL = b"\x00\x04_ask\x00\x011\x00\x08_command\x00\x03Sum\x00\x01a\x00\x0220\x00\x01b\x00\x0222\x00\x00"
AMP_ANSWER = b"\x00\x07_answer\x00\x011\x00\x05total\x00\x0242\x00\x00"


@pytest.fixture
def twistd_on_uvloop(twistd: list[str], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Give ``start(*arguments)``: it runs twistd with ``--reactor=uvloop``, in a folder of its own."""
    started: list[Process] = []

    def start(*arguments: str) -> Process:
        started.append(Process([*twistd, "--reactor=uvloop", "-n", *arguments], tmp_path))
        return started[-1]

    yield start
    for each in started:
        each.clean_up()


def ends(process: Process) -> None:
    """Stop the process with SIGTERM, and check that it ends cleanly."""
    process.signal(signal.SIGTERM)
    assert process.end()[0] in (0, -signal.SIGTERM)


def test_a_tcpapp_server_echoes(twistd_on_uvloop: Any) -> None:
    """tcpapp's echo server replies under `twistd --reactor=uvloop`, and ends with exit code 0 on SIGTERM."""
    process = twistd_on_uvloop("tcpapp", "--app", "echo", "--listen", "tcp:0:interface=127.0.0.1")
    with dial(process.port()) as peer:
        peer.sendall(b"hello\n")
        assert peer.recv(100) == b"hello\n"
    ends(process)
    assert process.popen.returncode == 0


def test_a_web_server_sends_a_page(twistd_on_uvloop: Any, tmp_path: Path) -> None:
    """Twisted's web server under `twistd --reactor=uvloop` sends a page of 500 KB."""
    (tmp_path / "page.txt").write_bytes(b"page\n" * 100_000)
    process = twistd_on_uvloop("web", "--path", ".", "--listen", "tcp:0:interface=127.0.0.1")
    port = int(process.line(r"Site starting on (\d+)")[1])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/page.txt", timeout=PATIENCE) as page:
        assert page.read() == b"page\n" * 100_000
    ends(process)


def test_an_ftp_server_sends_a_file(twistd_on_uvloop: Any, tmp_path: Path) -> None:
    """Twisted's FTP server under `twistd --reactor=uvloop` sends a file of 700 KB."""
    (tmp_path / "file").write_bytes(b"content" * 100_000)
    process = twistd_on_uvloop("ftp", "--port", "0", "--root", str(tmp_path))
    port = int(process.line(r"FTPFactory starting on (\d+)")[1])
    found = bytearray()
    with ftplib.FTP() as client:
        client.connect("127.0.0.1", port, timeout=PATIENCE)
        client.login()
        client.retrbinary("RETR file", found.extend)
    assert found == b"content" * 100_000
    ends(process)


def test_an_amp_server_answers_a_call(twistd_on_uvloop: Any, tmp_path: Path) -> None:
    """An AMP server of Twisted under `twistd --reactor=uvloop` answers a call."""
    (tmp_path / "amp.tac").write_text(AMP_SERVER)
    process = twistd_on_uvloop("-y", "amp.tac")
    port = int(process.line(r"Factory starting on (\d+)")[1])
    with dial(port) as peer:
        peer.sendall(AMP_CALL)
        assert peer.recv(1000) == AMP_ANSWER
    ends(process)


def test_a_web_server_that_twist_starts_replies(tmp_path: Path) -> None:
    """Twisted's web server replies under `twist --reactor=uvloop`."""
    code = "import sys; from twisted.application.twist._twist import Twist; Twist.main(['twist', *sys.argv[1:]])"
    command = [sys.executable, "-c", code, "--reactor=uvloop", "web", "--listen", "tcp:0:interface=127.0.0.1"]
    process = Process(command, tmp_path)
    try:
        with dial(int(process.line(r"Site starting on (\d+)")[1])) as peer:
            peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert peer.recv(100).startswith(b"HTTP/1.")
        ends(process)
    finally:
        process.clean_up()


FORKED = """
import os
from twisted.internet import reactor
from twisted.internet.protocol import ClientFactory, Factory, Protocol

class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

class Ask(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello")
    def dataReceived(self, data):
        print("got", data, flush=True)
        self.transport.loseConnection()
    def connectionLost(self, reason):
        reactor.stop()

port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
reading, writing = os.pipe()
if os.fork():
    os.read(reading, 1)
    os._exit(0)
os.write(writing, b"x")
reactor.connectTCP("127.0.0.1", port.getHost().port, ClientFactory.forProtocol(Ask))
reactor.run()
"""


@pytest.mark.parametrize("install", ["tcpapp.reactor", "twisted.internet.epollreactor"])
def test_a_program_can_fork_before_it_runs_the_reactor(install: str, tmp_path: Path) -> None:
    """A program can open its ports, fork, and run the reactor in the child, as twistd does to become a daemon."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {install} as it; it.install()\n{FORKED}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.stdout == "got b'hello'\n"
    assert done.stderr == ""
