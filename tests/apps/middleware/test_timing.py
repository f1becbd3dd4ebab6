"""The time that an app takes for each message: measured in every form, by any clock, for metrics or for the log."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from tcpapp import batch, conversation
from tcpapp.apps.middleware import Timings, timing
from tcpapp.apps.middleware.timing import BOUNDS, LINES, rates
from tcpapp.errors import InvalidOption
from tests.peers import NotedTransport, Peer


@pytest.fixture(autouse=True)
def fresh_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test write its lines, whatever the tests before it have written. No time passes in a test."""
    rates._buckets.clear()
    monkeypatch.setattr(rates, "_seconds", lambda: 0.0)


def spent(clock: Clock, seconds: float) -> None:
    """Work for some seconds, by this clock."""
    clock.rightNow += seconds


def test_a_synchronous_app_is_measured_until_it_returns() -> None:
    """The duration of a message is the time from the call of the app until it returns its reply."""
    clock, durations = Clock(), list[float]()

    def app(message: bytes, connection: Any) -> bytes:
        spent(clock, int(message))
        return message

    peer = Peer(timing(app, durations.append, seconds=clock.seconds))
    peer.says(b"1\n2\n")
    assert (peer.hears(), durations) == (b"1\n2\n", [1, 2])


def test_an_async_app_is_measured_until_its_reply_is_there() -> None:
    """The duration of a message includes what a coroutine or a Deferred waits for."""
    for is_async in (True, False):
        clock, durations = Clock(), list[float]()

        async def waits(message: bytes, connection: Any, clock: Clock = clock) -> bytes:
            await deferLater(clock, int(message))
            return message

        def defers(message: bytes, connection: Any, clock: Clock = clock) -> Deferred[bytes]:
            return deferLater(clock, int(message), lambda: message)

        peer = Peer(timing(waits if is_async else defers, durations.append, seconds=clock.seconds))
        peer.says(b"1\n2\n")
        clock.pump([1, 1, 1])
        assert (peer.hears(), durations) == (b"1\n2\n", [1, 2])


def test_a_message_that_fails_is_measured() -> None:
    """A message counts also when the app raises, at once or later."""
    for is_async in (True, False):
        clock, durations = Clock(), list[float]()

        def fails(message: bytes, connection: Any, clock: Clock = clock) -> bytes:
            spent(clock, 3)
            raise ZeroDivisionError

        async def fails_later(message: bytes, connection: Any, clock: Clock = clock) -> bytes:
            await deferLater(clock, 3)
            raise ZeroDivisionError

        peer = Peer(timing(fails_later if is_async else fails, durations.append, seconds=clock.seconds))
        peer.says(b"1\n")
        if is_async:
            clock.advance(3)
        peer.leaves()
        assert (durations, peer.reason.rule) == ([3], "app-failed")


def test_a_conversation_is_measured_until_it_asks_for_the_next_message() -> None:
    """A conversation is done with a message when it receives again, or ends."""
    clock, durations = Clock(), list[float]()

    @conversation
    async def talk(connection: Any) -> None:
        for _ in range(2):
            message = await connection.receive()
            await deferLater(clock, int(message))
            await connection.send(message)

    peer = Peer(timing(talk, durations.append, seconds=clock.seconds))
    peer.says(b"1\n2\n")
    clock.pump([1, 1, 1])
    assert (peer.hears(), durations) == (b"1\n2\n", [1, 2])


def test_a_batch_is_measured_as_one() -> None:
    """The messages of a batch have one duration."""
    clock, durations = Clock(), list[float]()

    @batch
    def app(messages: list[bytes], connection: Any) -> list[bytes]:
        spent(clock, 5)
        return messages

    peer = Peer(timing(app, durations.append, seconds=clock.seconds))
    peer.says(b"1\n2\n")
    assert (peer.hears(), durations) == (b"1\n2\n", [5])


def test_without_a_function_the_log_has_a_line_for_each_connection(said: list[str]) -> None:
    """At the end of a connection, the log has its number of messages and their durations. No messages, no line."""
    clock = Clock()

    class App:
        def received(self, message: bytes, connection: Any) -> None:
            spent(clock, int(message) / 1000)

        def closed(self, connection: Any, reason: Any) -> None:
            connection.data.log.append("closed")

    app = timing(App, seconds=clock.seconds)
    peer, silent = Peer(app), Peer(app)
    log = peer.connection.data.log = silent.connection.data.log = []
    peer.says(b"1\n" * 98 + b"40\n7\n")
    peer.leaves()
    silent.leaves()
    assert [each.rpartition(": ")[2] for each in said] == [
        "100 message(s), mean 1.45 ms, half within 2.5 ms, 99% within 10 ms, slowest 40 ms"
    ]
    assert log == ["closed", "closed"]


def test_the_log_is_not_flooded(said: list[str]) -> None:
    """Many connections that end at once make a few lines."""
    app = timing(lambda message, connection: None)
    for _ in range(3 * LINES):
        peer = Peer(app)
        peer.says(b"x\n")
        peer.leaves()
    assert len(said) == LINES


def test_a_transport_without_addresses_has_a_line_too(said: list[str]) -> None:
    """The line says "a peer" where the transport has no address."""

    class Nameless(NotedTransport):
        def getPeer(self) -> Any:
            raise AttributeError

    peer = Peer(timing(lambda message, connection: None), transport=Nameless())
    peer.says(b"x\n")
    peer.leaves()
    assert said[-1].startswith("a peer: 1 message(s), mean ")


def test_timings_are_a_histogram() -> None:
    """`Timings` count by upper bound as a histogram of Prometheus, and have the sum and the longest duration."""
    timings = Timings()
    for seconds in (0.00001, 0.003, 0.003, 0.2, 30):
        timings(seconds)
    assert (timings.count, timings.total, timings.slowest) == (5, 30.20601, 30)
    buckets = timings.buckets
    assert list(buckets) == [*BOUNDS, inf]
    assert [buckets[bound] for bound in (0.00001, 0.0025, 0.005, 0.1, 0.25, 10, inf)] == [1, 1, 3, 3, 4, 4, 5]
    assert [timings.quantile(share) for share in (0, 0.2, 0.5, 0.6, 0.8, 1)] == [
        0.00001,
        0.00001,
        0.005,
        0.005,
        0.25,
        30,
    ]
    assert str(timings) == "5 message(s), mean 6.04 s, half within 5 ms, 99% within 30 s, slowest 30 s"


def test_timings_without_durations_are_empty() -> None:
    """Without durations, all numbers are 0."""
    timings = Timings()
    assert (timings.count, timings.total, timings.slowest, timings.quantile(0.5)) == (0, 0, 0, 0)
    assert str(timings) == "no messages"


def test_timings_can_be_shared_by_all_connections() -> None:
    """One `Timings` for the whole server collects the durations of all connections."""
    timings = Timings()
    app = timing(lambda message, connection: message, timings)
    for _ in range(2):
        Peer(app).says(b"a\nb\n")
    assert timings.count == 4
    assert 0 < timings.slowest <= timings.total


def test_what_cannot_record_is_refused() -> None:
    """`timing` takes a function for the durations."""
    with pytest.raises(InvalidOption, match=r"timing: record=5: takes a function of a number of seconds"):
        timing(lambda message, connection: None, 5)  # type: ignore[arg-type]
