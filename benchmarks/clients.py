"""
Clients: calls over one connection beside Twisted's AMP, and thousands of clients that lose their server at once.

Callers and servers are Python, each in a process and, if there are two, on a processor of its own. The results of calls
are checked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.echo import ROOT, Server, serving
from benchmarks.machine import pin, processors, raise_file_limit
from benchmarks.report import Row, ratio_row

CALLS = "calls over one connection, 64 in flight, 64-byte payloads"
BACK = "5,000 clients whose server is killed, and comes back after 5 s"
INFLIGHT = 64
PAYLOAD = b"x" * 64
CLIENTS = 1000
PROCESSES = 5
"""Processes of clients. A single process would pause for garbage collection, and the pauses would be measured."""
DOWN = 5.0
BIN = 0.1
"""The width of the bins in which attempts are counted, in seconds."""
PATIENCE = 120.0


# The callers, each in a process of its own: ``python -m benchmarks.clients NAME PORT SECONDS``.


def call_with_tcpapp(reactor: Any, port: int, again: Any) -> Any:
    """Call `Client.request` again and again."""
    from tcpapp import Client

    client: Client[bytes, bytes] = Client(f"tcp:127.0.0.1:{port}", framing="int32", reactor=reactor)

    def go(reply: bytes | None = None) -> None:
        if again(reply):
            client.request(PAYLOAD).addCallback(go)

    return client.start().addCallback(lambda _: [go() for _ in range(INFLIGHT)])


def call_with_connection(reactor: Any, port: int, again: Any) -> Any:
    """Call `Connection.request` again and again, on a connection of `connect`."""
    from tcpapp import connect

    def begin(connection: Any) -> None:
        def go(reply: bytes | None = None) -> None:
            if again(reply):
                connection.request(PAYLOAD).addCallback(go)

        for _ in range(INFLIGHT):
            go()

    return connect(f"tcp:127.0.0.1:{port}", framing="int32", reactor=reactor).addCallback(begin)


def call_with_amp(reactor: Any, port: int, again: Any) -> Any:
    """Call AMP's ``callRemote`` again and again."""
    from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
    from twisted.protocols.amp import AMP

    from benchmarks.servers import amp_echo

    command = amp_echo()[0]

    def begin(protocol: Any) -> None:
        def go(reply: dict[str, bytes] | None = None) -> None:
            if again(None if reply is None else reply["data"]):
                protocol.callRemote(command, data=PAYLOAD).addCallback(go)

        for _ in range(INFLIGHT):
            go()

    return connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), AMP()).addCallback(begin)


CALLERS = {"tcpapp": call_with_tcpapp, "tcpapp-connection": call_with_connection, "amp": call_with_amp}


def count_calls(name: str, port: int, seconds: float) -> None:
    """Call for this long, after a warm-up, and print how many calls a second were answered."""
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import reactor

    counted = [0]

    def again(reply: bytes | None) -> bool:
        if reply is not None and reply != PAYLOAD:
            sys.exit(f"{reply!r} came back")
        counted[0] += 1
        return True

    def begin() -> None:
        counted[0] = 0
        began = time.perf_counter()
        reactor.callLater(seconds, end, began)  # type: ignore[attr-defined]

    def end(began: float) -> None:
        print(counted[0] / (time.perf_counter() - began), flush=True)
        os._exit(0)  # calls in flight are not needed any more

    CALLERS[name](reactor, port, again).addErrback(lambda failure: sys.exit(failure.getTraceback()))
    reactor.callLater(0.3, begin)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


def come_back(port: int) -> None:
    """
    Connect all clients. Whenever all are connected, print the times of their attempts; no process reads before that.
    """
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import reactor

    from tcpapp import Client
    from tcpapp.client.reconnecting import Connected, Connecting, Waiting

    raise_file_limit(CLIENTS + 1000)
    there: set[Any] = set()
    attempts: list[float] = []

    def watch(state: Any) -> None:
        now = time.monotonic()
        if isinstance(state, Connecting):
            attempts.append(now)
        elif isinstance(state, Connected):
            there.add(state.connection)
            if len(there) == CLIENTS:
                print(*attempts, flush=True)
        elif isinstance(state, Waiting):
            there.clear()  # all of them are lost together

    def begin(number: int = 0) -> None:
        for _ in range(20):  # a little at a time: this part is not measured
            client: Client[Any, Any] = Client(f"tcp:127.0.0.1:{port}", framing="int32", reactor=reactor)
            client.watch(watch)
            client.startService()
        if number + 20 < CLIENTS:
            reactor.callLater(0.05, begin, number + 20)  # type: ignore[attr-defined]

    reactor.callWhenRunning(begin)  # type: ignore[attr-defined]
    reactor.callLater(PATIENCE, reactor.stop)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


# The evaluation.


def calls_a_second(name: str, server: Server, seconds: float) -> float:
    """Run a caller, and return its figure."""
    command = [sys.executable, "-m", "benchmarks.clients", name, str(server.port), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        pin(process.pid, processors().load)
        out, _ = process.communicate(timeout=PATIENCE)
    return float(out)


def calls(rounds: int, seconds: float) -> list[Row]:
    """Measure a `Client`, a bare connection, and AMP, in turn."""
    found: dict[str, list[float]] = {name: [] for name in CALLERS}
    with serving("tcpapp") as ours, serving("twisted-amp") as amps:
        for _ in range(rounds):
            for name in CALLERS:
                found[name].append(calls_a_second(name, amps if name == "amp" else ours, seconds))
    return [
        ratio_row(CALLS, "Client.request", found["tcpapp"], "Twisted AMP", found["amp"], 5.0),
        ratio_row(CALLS, "Connection.request", found["tcpapp-connection"], "Twisted AMP", found["amp"]),
    ]


def overflows() -> int:
    """Return how many clients found no room in this machine's backlogs."""
    names, values = (
        line.split() for line in Path("/proc/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")
    )
    return int(values[names.index("ListenOverflows")])


def coming_back() -> list[Row]:
    """Measure how clients reconnect, once, since it takes half a minute."""
    raise_file_limit(CLIENTS * PROCESSES + 1000)
    before = overflows()
    with serving("tcpapp") as first:
        port = first.port
        command = [sys.executable, "-m", "benchmarks.clients", "back", str(port), "0"]
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(PROCESSES)]
        for each in clients:
            pin(each.pid, processors().load)
        for each in clients:
            wait_for_all(each.stdout)
        lost = time.monotonic()
        os.kill(first.pid, signal.SIGKILL)
    time.sleep(max(0.0, lost + DOWN - time.monotonic()))
    with serving("tcpapp", port):
        there = time.monotonic()
        attempts = [when for each in clients for when in wait_for_all(each.stdout)]
        all_back = time.monotonic()
        for each in clients:
            each.kill()
            each.communicate()
    made = [each for each in attempts if each >= lost]
    bins = Counter(int((each - lost) / BIN) for each in made)
    share = 100 * max(bins.values()) / len(made)
    return [
        Row(
            BACK,
            "until all are back",
            "s",
            [all_back - there],
            [all_back - there],
            compared_unit="s",
            goal=60.0,
            at_least=False,
        ),
        Row(
            BACK,
            f"attempts in the fullest {BIN:g} s, of {len(made)}",
            "%",
            [share],
            [share],
            compared_unit="%",
            goal=5.0,
            at_least=False,
        ),
        Row(
            BACK,
            "refused by a full backlog",
            "clients",
            [float(overflows() - before)],
            [float(overflows() - before)],
            compared_unit="clients",
            goal=0.0,
            at_least=False,
        ),
    ]


def wait_for_all(lines: Any) -> list[float]:
    """Wait until all clients are connected, and return the times of their attempts."""
    line = lines.readline()
    if not line:
        raise RuntimeError("the clients ended before all were connected")
    return [float(each) for each in line.split()]


def run(rounds: int, quick: bool) -> list[Row]:
    """Return all rows."""
    found = calls(rounds, 0.5 if quick else 1.5)
    return found if quick else found + coming_back()


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in {*CALLERS, "back"}:
        sys.exit(f"usage: python -m benchmarks.clients {'|'.join(CALLERS)}|back PORT SECONDS")
    if sys.argv[1] == "back":
        come_back(int(sys.argv[2]))
    else:
        count_calls(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
