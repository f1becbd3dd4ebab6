"""Programs on pages that following the page does not call: each does what its page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock, StringTransport

import tcpapp
from tests.documents import programs_of
from tests.environments import ROOT
from tests.patience import PATIENCE

pytestmark = pytest.mark.once


def programs(page: str) -> dict[str, str]:
    return programs_of((ROOT / "docs" / page).read_text(encoding="utf-8"))


def defined(page: str, name: str) -> dict[str, Any]:
    """Return the names that a program of a page defines."""
    names: dict[str, Any] = {}
    exec(compile(programs(page)[name], name, "exec"), names)
    return names


def test_the_typed_codec_validates() -> None:
    """The typed codec answers a valid point, and closes the connection after an invalid one."""
    points = defined("reference/codecs.md", "points.py")
    protocol = tcpapp.MessageServerFactory(points["app"], codec=points["codec"]).buildProtocol(None)
    assert protocol
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(b'{"x":1,"y":2}\n')
    protocol.dataReceived(b'{"x":"one"}\n')
    assert transport.value() == b'{"x":2,"y":1}\n'
    assert transport.disconnecting


def test_the_dns_client_matches_replies_by_id() -> None:
    """
    The DNS client connects to port 53 of the server, and gives each query its own reply when they come in another
    order.
    """
    dns = defined("how-to/write-a-client.md", "dns.py")
    reactor = MemoryReactorClock()
    connecting = dns["connect"](reactor, "192.0.2.1")
    host, port, factory, _, _ = reactor.tcpClients[0]
    transport = StringTransport()
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(transport)
    answers: list[bytes] = []
    connection = connecting.result
    for query in (b"\0\1?", b"\0\2?"):
        connection.request(query).addCallback(answers.append)
    protocol.dataReceived(b"\0\3\0\2!" + b"\0\3\0\1!")
    assert (host, port, transport.value()) == ("192.0.2.1", 53, b"\0\3\0\1?\0\3\0\2?")
    assert answers == [b"\0\2!", b"\0\1!"]


ORDERING_BUGS = {
    "a reply that takes longer is overtaken": """
from tcpapp import protocol_of

def app(message, connection):
    later = 0.1 if message.endswith(b"0") else 0.0
    protocol_of(connection).clock.callLater(later, connection.send, message.upper())
""",
    "messages that came together are answered the other way round": """
from tcpapp import batch

@batch
def app(messages, connection):
    return [message.upper() for message in reversed(messages)]
""",
    "after a gap of five seconds, the first message waits and the next ones do not": """
from tcpapp import protocol_of

class app:
    until = None

    def received(self, message, connection):
        now = protocol_of(connection).clock.seconds()
        waits, self.until = self.until is not None and now > self.until, now + 5
        if not waits:
            return message.upper()
        protocol_of(connection).clock.callLater(0.1, connection.send, message.upper())
""",
}


@pytest.mark.parametrize("bug", ORDERING_BUGS.values(), ids=ORDERING_BUGS)
def test_the_simulation_finds_a_planted_ordering_bug(bug: str, tmp_path: Path) -> None:
    """The simulation finds each planted bug, and the error says how to replay it."""
    for name, code in (programs("how-to/test-an-app.md") | {"mine.py": bug}).items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "bad_network", "test_kit.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout
    assert "SimulationFailed: AssertionError: " in done.stdout
    assert "replay(scenario, " in done.stdout
