"""
Clients that reconnect through many faults, with an account of each message.

``python -m tests.integration.accounts 600`` runs for 600 seconds. Ten clients send numbered notes and requests through
a `FaultProxy`. Its toxics change by a seed, and its server goes down and starts again. At the end the accounts of both
sides are compared.
"""

from __future__ import annotations

import sys
from collections import Counter
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import react
from twisted.python.failure import Failure

from tcpapp import Client, Recovery, Timeouts, listen
from tcpapp.client.reconnecting import Connecting, Waiting
from tcpapp.errors import MaybeSent, NeverSent, TimedOut
from tcpapp.testing.faultproxy import FaultProxy

from .ledger import PHASES, Progress

CLIENTS = 10
BATCH = 20
QUICK = Recovery(first_wait=0.02, longest_wait=0.1, healthy_after=0.05, max_waiting=10_000)
REQUEST = 2.0
"""The timeout of a request, in seconds."""

WORDS = 5 * BATCH
"""Results that are given while one fault lasts, and again before the next fault, unless it takes too long."""

AT_MOST = 0.5
"""Seconds of real time that one fault lasts at most: some toxics let nothing pass, so that no result is given."""


class Accounts:
    """The accounts of all messages: which were sent, which came, and the result of each."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.number = 0
        self.words: dict[int, list[Any]] = {}
        self.idempotent: set[int] = set()
        self.came: Counter[int] = Counter()
        self.listed: Counter[int] = Counter()
        self.connections = 0
        self.given = 0
        self.progress = Progress()
        self.over = False

    def received(self, message: bytes, connection: Any) -> bytes | None:
        """Note a note, or answer a request, as the server's app."""
        self.came[int(message[1:])] += 1
        return None if message[:1] == b"n" else message

    async def client(self, reactor: Any, proxy: FaultProxy) -> None:
        """Run one client, from its start to its end."""
        client: Client[bytes, bytes] = Client(
            proxy.endpoint,
            framing="int32",
            recovery=QUICK,
            timeouts=Timeouts(connect=1, request=REQUEST),
            reactor=reactor,
        )
        client.watch(lambda state: self._list(client) if isinstance(state, (Connecting, Waiting)) else None)
        client.startService()
        while not self.over:
            await DeferredList([each for _ in range(BATCH) for each in self._use(client)])
        await client.drain(10)
        self._list(client)

    def _use(self, client: Client[bytes, bytes]) -> list[Deferred[Any]]:
        """Send one note and one request."""
        note, request = self.number, self.number + 1
        self.number += 2
        idempotent = self.random.random() < 0.3
        if idempotent:
            self.idempotent.add(request)
        using: list[tuple[int, Deferred[Any]]] = [
            (note, client.send(b"n%d" % note)),
            (request, client.request(b"r%d" % request, idempotent=idempotent)),
        ]
        return [deferred.addBoth(self._give, self.words.setdefault(number, [])) for number, deferred in using]

    def _give(self, word: Any, words: list[Any]) -> None:
        words.append(word)
        self.given += 1
        self.progress.happened()

    def _list(self, client: Client[bytes, bytes]) -> None:
        """Note which messages were sent on a lost connection; waiting messages are counted elsewhere."""
        self.connections += 1
        self.progress.happened()
        for each in client.undelivered():
            if isinstance(each, MaybeSent):
                self.listed[int(each.message[1:])] += 1

    def lost_again(self, reactor: Any) -> Deferred[None]:
        """
        Return a Deferred that fires when each client has failed to connect at least once, or after `AT_MOST` seconds.
        """
        tried = self.connections
        return self.progress.until(reactor, lambda: self.connections >= tried + 2 * CLIENTS, AT_MOST)

    def words_given(self, reactor: Any) -> Deferred[None]:
        """Return a Deferred that fires when `WORDS` more results were given, or after `AT_MOST` seconds."""
        given = self.given
        return self.progress.until(reactor, lambda: self.given >= given + WORDS, AT_MOST)

    def faults(self) -> list[str]:
        """Return the errors in the accounts: none, if all is right."""
        return [fault for number in range(self.number) for fault in self._faults_of(number)]

    def _faults_of(self, number: int) -> list[str]:
        words, came = self.words.get(number, []), self.came[number]
        if len(words) != 1:
            return [f"{number} was given {len(words)} words"]
        word = words[0].value if isinstance(words[0], Failure) else words[0]
        is_request = number % 2 == 1
        found = []
        if came > 1 and number not in self.idempotent:
            found.append(f"{number} came {came} times")
        if isinstance(word, NeverSent) and came and number not in self.idempotent:
            found.append(f"{number} was never sent, and came")
        if is_request and isinstance(word, bytes) and (word != b"r%d" % number or not came):
            found.append(f"{number} was answered with {word!r}, and came {came} times")
        if not is_request and word is None and not came and not self.listed[number]:
            found.append(f"{number} was lost silently")
        if not isinstance(word, (bytes, NeverSent, MaybeSent, TimedOut, type(None))):
            found.append(f"{number} failed with {word!r}")
        return found

    def count(self, kind: type) -> int:
        """Return how many messages have a result of this kind."""
        words = (word.value if isinstance(word, Failure) else word for words in self.words.values() for word in words)
        return sum(isinstance(word, kind) for word in words)


async def account(reactor: Any, seconds: float, seed: int = 0) -> Accounts:
    """Run clients and faults for this many seconds, and return the accounts."""
    accounts = Accounts(seed)
    server: Any = await listen("tcp:0:interface=127.0.0.1", accounts, framing="int32", reactor=reactor)
    proxy = FaultProxy(reactor, f"tcp:127.0.0.1:{server.port}", seed=seed)
    await proxy.start()
    clients = [Deferred.fromCoroutine(accounts.client(reactor, proxy)) for _ in range(CLIENTS)]
    until = reactor.seconds() + seconds
    steps: list[tuple[str, dict[str, Any]]] = []
    while reactor.seconds() < until:
        if not steps:
            steps = [*PHASES]
            accounts.random.shuffle(steps)
        kind, attributes = steps.pop()
        if kind == "down":
            port = server.port
            await server.close(0)
            await accounts.lost_again(reactor)
            server = await listen(f"tcp:{port}:interface=127.0.0.1", accounts, framing="int32", reactor=reactor)
        else:
            with proxy.add(kind, **attributes):
                await accounts.words_given(reactor)
        await accounts.words_given(reactor)
    accounts.over = True
    await DeferredList(clients, fireOnOneErrback=True, consumeErrors=True)
    await proxy.stop()
    await server.close(1)
    return accounts


async def main(reactor: Any) -> None:
    """Keep accounts for the time on the command line, and print them."""
    seconds = float(sys.argv[1]) if sys.argv[1:] else 600.0
    accounts = await account(reactor, seconds, seed=int(sys.argv[2]) if sys.argv[2:] else 0)
    faults = accounts.faults()
    said = (
        f"{seconds:g} s, {CLIENTS} clients, {accounts.number} messages: {accounts.count(bytes)} requests answered, "
        f"{accounts.count(TimedOut)} timed out, {accounts.count(MaybeSent)} may be lost, "
        f"{accounts.count(NeverSent)} never sent, {accounts.listed.total()} listed as undelivered; "
        f"{len(faults)} not accounted for"
    )
    sys.stdout.write("\n".join([said, *faults[:20], ""]))
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    react(main)
