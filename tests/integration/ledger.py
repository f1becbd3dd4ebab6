"""
A ledger of numbered requests, kept at both ends, through faults and drains.

``python -m tests.integration.ledger 100000`` lets 50 clients make 100,000 requests to a real server. They go through a
`FaultProxy` whose toxics change by a seed, while the server drains three times. Then it prints the results. A failed
request is not tried again, so that each number stands for one request. ``ledger 100000 0 uvloop`` has the seed 0, and
runs on the uvloop reactor.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater, react

from tcpapp import MessageServerFactory, MessageService, State, Telemetry, Timeouts, connect
from tcpapp.errors import NotConnected, TimedOut
from tcpapp.testing.faultproxy import FaultProxy
from tests.patience import PATIENCE

CLIENTS = 50
BATCH = 20
DRAINS = 3

PHASES: list[tuple[str, dict[str, Any]]] = [
    ("latency", {"latency": 0.003, "jitter": 0.002, "stream": "both"}),
    ("slicer", {"average_size": 7, "size_variation": 5, "stream": "both", "toxicity": 0.2}),
    ("reset_peer", {"timeout": 0.005, "stream": "both", "toxicity": 0.3}),
    ("limit_data", {"bytes": 500, "toxicity": 0.5}),
    ("timeout", {"timeout": 0.02, "toxicity": 0.3}),
    ("slow_close", {"delay": 0.01}),
    ("bandwidth", {"rate": 200_000, "stream": "both"}),
    ("down", {}),
]


class Progress:
    """A condition that coroutines wait for. It is checked after each event, so that no test waits for a time."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def happened(self) -> None:
        """Check the conditions after an event, and wake each coroutine whose condition holds."""
        for condition, waiter in list(self._waiting):
            if not waiter.called and condition():
                waiter.callback(None)
        self._waiting = [each for each in self._waiting if not each[1].called]

    def until(self, reactor: Any, condition: Callable[[], bool], most: float) -> Deferred[None]:
        """Return a Deferred that fires when `condition` holds, or after `most` seconds."""
        waiter: Deferred[None] = Deferred()
        late = reactor.callLater(most, lambda: None if waiter.called else waiter.callback(None))
        self._waiting.append((condition, waiter))
        waiter.addBoth(lambda _: late.cancel() if late.active() else None)
        self.happened()
        return waiter


class Ledger:
    """The ledger: the requests, the handled messages, and the result of each."""

    def __init__(self, requests: int, seed: int) -> None:
        self.requests = requests
        self.random = Random(seed)
        self.asked = 0
        self.told: dict[int, list[Any]] = {}
        self.sent: dict[int, list[Any]] = {}
        self.handled: Counter[int] = Counter()
        self.noted: Counter[int] = Counter()
        self.drained_with: set[int] = set()
        self.calm = False
        self.lost: list[int] = []
        self.refused = 0
        self.open = 0
        self._by_connection: dict[Any, list[int]] = {}
        self.progress = Progress()

    # The server's app.

    def received(self, message: bytes, connection: Any) -> bytes | None:
        """Handle a request, or note a message without a reply."""
        number = int(message[1:])
        if message[:1] == b"n":
            self.noted[number] += 1
            return None
        self.handled[number] += 1
        if self.calm:
            self._by_connection.setdefault(connection, []).append(number)
        return message

    def opened(self, connection: Any) -> None:
        """Count a connected client."""
        self.open += 1
        self.progress.happened()

    def closed(self, connection: Any, reason: Any) -> None:
        """
        Note which requests the server had handled on a connection that the drain ended: each of them has its reply.
        """
        self.open -= 1
        numbers = self._by_connection.pop(connection, ())
        if reason.rule == "drained":
            self.drained_with.update(numbers)

    # The clients.

    async def client(self, reactor: Any, proxy: FaultProxy) -> None:
        """Make requests until all are made, and reconnect whenever the connection is lost."""
        timeouts = Timeouts(connect=PATIENCE, request=PATIENCE)  # a busy machine is no fault
        while self.asked < self.requests:
            try:
                connection = await connect(proxy.endpoint, framing="int32", timeouts=timeouts, reactor=reactor)
            except Exception:  # noqa: BLE001 - refused, reset, cut: the client reconnects after each
                self.refused += 1
                self.progress.happened()
                # Real time, as a client waits before it reconnects. Otherwise 50 clients would only reconnect.
                await deferLater(reactor, 0.01)
                continue
            while self.asked < self.requests and connection.state is State.OPEN:
                await DeferredList([self._ask(connection) for _ in range(BATCH)])
            await connection.close()

    def _ask(self, connection: Any) -> Deferred[Any]:
        number = self.asked
        self.asked += 1
        told = self.told[number] = []
        sent = self.sent[number] = []
        connection.send(b"n%d" % number).addBoth(sent.append)
        asking: Deferred[Any] = connection.request(b"r%d" % number)
        return asking.addBoth(self._tell, told)

    def _tell(self, result: Any, told: list[Any]) -> None:
        told.append(result)
        self.progress.happened()

    def reached(self, reactor: Any, target: int, most: float) -> Deferred[None]:
        """Return a Deferred that fires when this many requests were made, or after `most` seconds."""
        return self.progress.until(reactor, lambda: len(self.told) >= target, most)

    def refused_again(self, reactor: Any, most: float) -> Deferred[None]:
        """Return a Deferred that fires when a client could not connect, or after `most` seconds."""
        refused = self.refused
        return self.progress.until(reactor, lambda: self.refused > refused, most)

    def all_there(self, reactor: Any) -> Deferred[None]:
        """
        Return a Deferred that fires when all clients are connected or all requests are made, or after `PATIENCE`
        seconds.
        """
        return self.progress.until(reactor, lambda: self.open >= CLIENTS or self.asked >= self.requests, PATIENCE)

    def heard(self, reactor: Any) -> Deferred[None]:
        """
        Return a Deferred that fires when all requests handled before a drain have a result, or after `PATIENCE`
        seconds.
        """
        return self.progress.until(reactor, lambda: all(self.told[number] for number in self.drained_with), PATIENCE)

    # The results.

    def faults(self) -> list[str]:
        """Return the errors in the ledger: none, if all is right."""
        found = []
        for number in range(self.asked):
            for what, told in (("request", self.told[number]), ("send", self.sent[number])):
                if len(told) != 1:
                    found.append(f"{what} {number} fired {len(told)} times")
            reply = self.told[number][0] if self.told[number] else None
            if isinstance(reply, bytes):
                if reply != b"r%d" % number:
                    found.append(f"request {number} was given the reply {reply!r}")
                if not self.handled[number]:
                    found.append(f"request {number} was answered by nobody")
            elif reply is not None and not reply.check(NotConnected, TimedOut):
                found.append(f"request {number} failed with {reply.value!r}")
            if number in self.drained_with and not isinstance(reply, bytes):
                found.append(f"request {number} was handled before a drain, and its reply was lost")
        for what, counter in (("request", self.handled), ("note", self.noted)):
            found += [f"{what} {number} came {count} times" for number, count in counter.items() if count > 1]
        return found

    @property
    def answered(self) -> int:
        """Return how many requests were answered."""
        return sum(isinstance(reply, bytes) for told in self.told.values() for reply in told)


async def keep(reactor: Any, requests: int, seed: int = 0) -> Ledger:
    """Make the requests, and return the ledger."""
    ledger = Ledger(requests, seed)
    factory = MessageServerFactory(ledger, "int32", telemetry=Telemetry(), clock=reactor)
    service = MessageService(factory, ["tcp:0:interface=127.0.0.1"], reactor)
    service.startService()
    address: Any = service.addresses[0]
    proxy = FaultProxy(reactor, f"tcp:127.0.0.1:{address.port}", seed=seed)
    await proxy.start()
    try:
        clients = [Deferred.fromCoroutine(ledger.client(reactor, proxy)) for _ in range(CLIENTS)]
        await trouble(reactor, ledger, service, proxy)
        await DeferredList(clients, fireOnOneErrback=True, consumeErrors=True)
    finally:
        await proxy.stop()
        await service.stopService()
    return ledger


async def trouble(reactor: Any, ledger: Ledger, service: MessageService, proxy: FaultProxy) -> None:
    """
    Add one toxic after the other, in an order that the seed gives, and drain without toxics after each third of them.
    """
    steps = [*PHASES * DRAINS]
    ledger.random.shuffle(steps)
    share = ledger.requests // (len(steps) + DRAINS + 1)
    target = 0
    for step, (kind, attributes) in enumerate(steps):
        target += share
        if kind == "down":
            async with proxy.down():
                await ledger.refused_again(reactor, 1.0)
        else:
            with proxy.add(kind, **attributes):
                await ledger.reached(reactor, target, 1.0)
        if (step + 1) % len(PHASES) == 0:
            await drain(reactor, ledger, service)
            target += share


async def drain(reactor: Any, ledger: Ledger, service: MessageService) -> None:
    """End the faults, drain while requests are in flight, and serve again."""
    service.suspend()  # otherwise clients reconnect at once, and connections are always open
    service.factory.abort()
    await service.wait_for(0)
    ledger.calm = True
    service.resume()
    await ledger.all_there(reactor)
    await ledger.reached(reactor, min(ledger.asked + CLIENTS * BATCH, ledger.requests), PATIENCE)
    assert await service.drain(PATIENCE, 0) == 0
    await ledger.heard(reactor)  # the next toxic would cut replies that the proxy has not passed on yet
    ledger.calm = False
    service.resume()


async def main(reactor: Any) -> None:
    """Keep the ledger for the number of requests on the command line, and print it."""
    requests = int(sys.argv[1]) if sys.argv[1:] else 100_000
    ledger = await keep(reactor, requests, seed=int(sys.argv[2]) if sys.argv[2:] else 0)
    faults = ledger.faults()
    said = (
        f"{ledger.asked} requests by {CLIENTS} clients through faults and {DRAINS} drains: {ledger.answered} answered, "
        f"{sum(ledger.handled.values())} handled, {len(ledger.drained_with)} of them before a drain"
    )
    sys.stdout.write("\n".join([said, *faults[:20], ""]))
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    if "uvloop" in sys.argv[3:]:
        from tcpapp.reactor import install

        install()
    react(main)
