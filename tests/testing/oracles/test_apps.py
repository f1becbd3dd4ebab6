"""`check_app` passes apps without leaks. It names each kind of leak, with the events that led to it."""

from __future__ import annotations

import gc

import pytest
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from tcpapp import conversation
from tcpapp.apps.chat import Chat
from tcpapp.connection.protocol import protocol_of
from tcpapp.framing import Fixed, Lines, resp
from tcpapp.testing.oracles import apps, check_app
from tcpapp.testing.oracles.visits import Visit
from tcpapp.testing.strategies import Deliver

EXAMPLES = 20

ENOUGH = 200
"""Examples that find each fault by chance. With 20 examples, one run of ten misses a fault."""


def echo(message, connection):
    return message


@conversation
async def talk(connection):
    async for message in connection:
        await connection.send(message)


class Ticks:
    """An app that runs a timer while it is connected."""

    def opened(self, connection):
        self.ticking = LoopingCall(lambda: None)
        self.ticking.clock = protocol_of(connection).clock
        self.ticking.start(10)

    def closed(self, connection, reason):
        self.ticking.stop()


async def slowly(message, connection):
    await deferLater(protocol_of(connection).clock, 5)
    return message


class Lingers:
    """An app whose `closed` takes 5 seconds."""

    def closed(self, connection, reason):
        return deferLater(protocol_of(connection).clock, 5)


def logs(message, connection):
    Logger().info("a message came")


def closes(message, connection):
    connection.close()
    return message


GOOD = {
    "a function": (echo, {}),
    "a conversation": (talk, {}),
    "a class": (Ticks, {}),
    "a class of ours": (Chat, {}),
    "an instance": (Ticks(), {}),
    "no app": (None, {}),
    "one that logs": (logs, {}),
    "one that closes": (closes, {}),
    "one that takes its time": (slowly, {}),
    "one that takes its time after the end": (Lingers, {"within": 5}),
    "a codec": (echo, {"codec": "json", "messages": [{}, [1]]}),
    "a framing": (echo, {"framing": Fixed(3)}),
    "a spec": (echo, {"framing": "int8"}),
    "messages": (echo, {"messages": [b"hello"]}),
    "a strategy": (echo, {"messages": st.sampled_from([b"hello"])}),
}


MEASURED = {"one that logs", "one that takes its time after the end", "a codec", "a framing", "a strategy"}
"""The apps that show the most of the code. Coverage is not measured for the others."""


@pytest.mark.parametrize(
    ("app", "options"),
    [
        pytest.param(*each, id=name, marks=() if name in MEASURED else pytest.mark.exhaustive)
        for name, each in GOOD.items()
    ],
)
def test_an_app_without_leaks_passes(app, options):
    """`check_app` passes apps of each form, with any framing, codec or messages, if they leave nothing behind."""
    check_app(app, examples=EXAMPLES, **options)


@pytest.mark.exhaustive
def test_without_examples_the_profile_sets_the_number_of_connections():
    """Without `examples`, `check_app` runs as many connections as Hypothesis's profile says."""
    check_app(echo)


def test_a_connection_that_nothing_ends_is_ended():
    """A visit whose events do not end the connection ends it itself, also if the connection would notice no reset."""
    Visit(echo, Lines(), {}, 0.0).go([])


# Faults --------------------------------------------------------------------------------------------------------------


class LeavesATimer:
    def opened(self, connection):
        protocol_of(connection).clock.callLater(30, print, "idle")


class LeavesATimerAfterAMessage:
    def received(self, message, connection):
        if message == b"hello":
            protocol_of(connection).clock.callLater(30, print, "idle")


def raises(message, connection):
    return message if message.isascii() else message.decode()


def replies_what_cannot_be_sent(message, connection):
    return [message]


class RaisesWhenClosed:
    def closed(self, connection, reason):
        raise KeyError(reason.rule)


class RaisesLater:
    def opened(self, connection):
        protocol_of(connection).clock.callLater(0, lambda: 1 / 0)


class HangsAtTheEnd:
    def closed(self, connection, reason):
        return Deferred()


async def hangs_as_a_coroutine(message, connection):
    while True:
        try:
            await Deferred()
        except CancelledError:
            continue


@conversation
async def hangs_in_a_conversation(connection):
    while True:
        try:
            await Deferred()
        except CancelledError:
            continue


def drops_a_failure(message, connection):
    fail(ZeroDivisionError())


class LogsAnError:
    log = Logger()

    def closed(self, connection, reason):
        self.log.error("closed by {reason}", reason=reason.rule)


class TellsTheEndItself:
    def closed(self, connection, reason):
        if not hasattr(self, "told"):
            self.told = True
            protocol_of(connection)._dispatcher.closed(reason)


FAULTS = {
    LeavesATimer: ("the app leaves no timer behind", "timer: print('idle'), due in 30 s"),
    LeavesATimerAfterAMessage: ("the app leaves no timer behind", "due in 30 s"),
    raises: ("the app raises no exception, whatever the peer sends", "UnicodeDecodeError"),
    replies_what_cannot_be_sent: ("the app raises no exception, whatever the peer sends", "UnsendableMessage"),
    RaisesWhenClosed: ("the app raises no exception, whatever the peer sends", "KeyError"),
    RaisesLater: ("every exception is handled", "ZeroDivisionError"),
    HangsAtTheEnd: ("the app leaves no waiting Deferred or coroutine behind", "closed(CloseReason("),
    hangs_as_a_coroutine: ("the app leaves no waiting Deferred or coroutine behind", "received(b"),
    hangs_in_a_conversation: (
        "the app leaves no waiting Deferred or coroutine behind",
        "the conversation hangs_in_a_conversation, line ",
    ),
    drops_a_failure: ("every exception is handled", "ZeroDivisionError"),
    LogsAnError: ("no error is logged", "closed by "),
    TellsTheEndItself: ("the end of the connection is reported once", "it was reported 2 times"),
}


def broken_by(app, **options):
    with pytest.raises(AssertionError) as caught:
        check_app(app, examples=ENOUGH, **options)
    return str(caught.value)


@pytest.mark.parametrize("app", FAULTS, ids=lambda app: app.__name__)
def test_a_planted_fault_is_named(app, logged_errors):
    """The first line of the error names the broken promise; the events and the leak follow in the next lines."""
    promise, found = FAULTS[app]
    text = broken_by(app)
    first, happened, *_ = text.splitlines()
    assert first == f"{app!r} breaks a promise: {promise}"
    assert happened.startswith("  what happened: [")
    assert found in text
    logged_errors.take(ZeroDivisionError)


def test_the_example_is_the_smallest():
    """The reported example is the smallest: one message and the end."""
    text = broken_by(hangs_as_a_coroutine, messages=[b"x"])
    assert text.splitlines()[1:] == [
        "  what happened: [Deliver(data=b'x\\n'), Leave()]",
        "  chunks: [b'x\\n']",
        "  messages: [b'x']",
        "  sent: b''",
        "  found: received(b'x')",
    ]


def test_the_error_shows_chunks_messages_and_sent_bytes():
    """The error lists all chunks, the messages up to the fault, and the sent bytes."""

    def fails_late(message, connection):
        return message if message != b"fail" else 1 / 0

    visit = Visit(fails_late, Lines(max=9), {}, 0.0)
    with pytest.raises(AssertionError) as caught:
        visit.go([Deliver(b"one\n"), Deliver(b"fa"), Deliver(b"il\n"), Deliver(b"x" * 10), Deliver(b"y\n")])
    assert caught.value.args[0].splitlines()[2:5] == [
        "  chunks: [b'one\\n', b'fa', b'il\\n', b'xxxxxxxxxx', b'y\\n']",
        "  messages: [b'one', b'fail']",
        "  sent: b'one\\n'",
    ]


def test_an_example_that_hypothesis_finds_is_shrunk():
    """An app that fails at one kind of message is reported with the shortest events that make it fail."""

    def rare(message, connection):
        return message if message != b"a" else 1 / 0

    text = broken_by(rare, messages=st.sampled_from([b"bbbb", b"a"]))
    assert "what happened: [Deliver(data=b'a\\n'), " in text


def test_an_error_that_cannot_be_repeated_is_reported():
    """When an app fails only once, Hypothesis cannot repeat the error, and the first error is reported."""
    seen = []

    def once(message, connection):
        seen.append(message)
        return 1 / 0 if len(seen) == 5 else None

    assert "ZeroDivisionError" in broken_by(once, messages=st.just(b"x"))


def test_within_bounds_the_time_that_the_app_has_after_the_end():
    """An app that works longer after the end of a connection than `within` seconds is reported."""
    assert "the app leaves no timer behind" in broken_by(Lingers, within=4)


def test_failures_that_wait_for_the_collector_are_found(monkeypatch, logged_errors):
    """A failure in a cycle, which the quick check after each connection misses, is found at the end."""
    monkeypatch.setattr("tcpapp.testing.oracles.visits.gc.collect", lambda generation=2: None)

    def collect(leaks):
        monkeypatch.undo()
        return leaks.take()

    monkeypatch.setattr(apps.Leaks, "take", collect)

    def in_a_cycle(message, connection):
        deferred = fail(ZeroDivisionError())
        deferred.itself = deferred

    gc.disable()
    try:
        text = broken_by(in_a_cycle, messages=[b"x"])
    finally:
        gc.enable()
    assert "every exception is handled\n  found: " in text
    logged_errors.take(ZeroDivisionError)


@pytest.mark.parametrize("framing", ["raw", "int16", Lines(max=3, oversize="skip")], ids=str)
def test_options_reach_the_factory(framing):
    """`check_app` takes a framing or a spec, and passes other options to the factory."""
    check_app(echo, framing, examples=5, key=lambda message: message[:1])


def switches(message, connection):
    """Read on by other framings: the codec of a parser is another one for each."""
    connection.switch(resp(version=3))
    return [b"switched"]


class HangsOnceItSwitched:
    left = None

    def received(self, message, connection):
        self.left = Deferred()
        return switches(message, connection)

    def closed(self, connection, reason):
        return self.left


def test_an_app_that_switches_its_framing_is_watched_before_and_after():
    """After a switch to another framing, the end is still counted, and a Deferred that waits is found."""
    options = {"framing": "resp", "messages": [[b"hello"]], "frame": resp(side="client").frame, "examples": EXAMPLES}
    check_app(switches, **options)
    with pytest.raises(AssertionError, match="the app leaves no waiting Deferred or coroutine behind"):
        check_app(HangsOnceItSwitched, **options)
