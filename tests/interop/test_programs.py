"""Programs that are not part of tcpapp talk with its server line by line: socat, and each program called nc."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol

import tcpapp
from tests.environments import ROOT
from tests.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable


README = ROOT / "README.md"


class Program(ProcessProtocol):
    """A process that gets `stdin` and an end of file. `ended` fires with its output once it has exited."""

    def __init__(self, stdin: bytes) -> None:
        self.stdin = stdin
        self.stdout = b""
        self.ended: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.stdin)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self.stdout += data

    def processEnded(self, reason: Any) -> None:
        if reason.check(ProcessDone):
            self.ended.callback(self.stdout)
        else:
            self.ended.errback(reason)


async def run(reactor: Any, arguments: list[str], stdin: bytes) -> bytes:
    program = Program(stdin)
    process = reactor.spawnProcess(program, arguments[0], arguments, env=None)
    try:
        return await program.ended.addTimeout(PATIENCE, reactor)
    except BaseException:
        if process.pid:
            process.signalProcess("KILL")
        raise


PROGRAMS: dict[str, Callable[[str, int], list[str]]] = {
    "socat": lambda path, port: [path, "-t", "20", "-", f"TCP:127.0.0.1:{port}"],
    "ncat": lambda path, port: [path, "127.0.0.1", str(port)],
}

NETCATS = ("ncat", "nc.openbsd", "nc.traditional")
"""Programs that can be installed as ``nc``: nmap's, and Debian's two."""


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest_twisted.ensureDeferred
async def test_a_program_that_half_closes_gets_every_answer(
    program: str, ending: bytes, requires_program: Callable[[str], str], global_reactor: Any
) -> None:
    """A program sends 500 lines and half-closes, and still gets all 500 answers before the connection ends."""
    path = requires_program(program)
    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", reversed_, reactor=global_reactor)
    lines = [b"line number %d" % n for n in range(500)]
    answers = await run(global_reactor, PROGRAMS[program](path, server.port), b"".join(each + ending for each in lines))
    await server.close()
    assert answers == b"".join(each[::-1] + b"\n" for each in lines)


@pytest.mark.parametrize("program", NETCATS)
@pytest_twisted.ensureDeferred
async def test_the_readmes_command_gets_every_answer_whichever_nc_it_is(
    program: str, requires_program: Callable[[str], str], global_reactor: Any
) -> None:
    """With the options in the README, each program called ``nc`` gets every answer."""
    path = requires_program(program)
    (options,) = re.findall(r"\| nc (.*) 127\.0\.0\.1 7007$", README.read_text(encoding="utf-8"), re.MULTILINE)
    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", reversed_, reactor=global_reactor)
    answers = await run(global_reactor, [path, *options.split(), "127.0.0.1", str(server.port)], b"hello\nworld\n")
    await server.close()
    assert answers == b"olleh\ndlrow\n"


async def reversed_(message: bytes, connection: tcpapp.Connection) -> bytes:
    return message[::-1]
