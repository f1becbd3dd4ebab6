"""Events for listeners, and the log lines that operators read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass, fields, is_dataclass
from inspect import isabstract
from types import SimpleNamespace
from typing import Any, get_origin

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionLost
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from tcpapp import telemetry as telemetry_module
from tcpapp.close_reason import CLEAN_RULES, CloseReason, EndedBy
from tcpapp.connection.connection import Connection, State
from tcpapp.connection.protocol import MessageProtocol, protocol_of
from tcpapp.connection.settings import Settings
from tcpapp.limits.admission import Refusal
from tcpapp.telemetry import (
    AppFailed,
    Closed,
    Event,
    LateReply,
    LimitNear,
    Line,
    MessagesSkipped,
    NeverOpened,
    Opened,
    RateLimitedLog,
    Refused,
    Telemetry,
    log,
)
from tcpapp.telemetry import events as events_module
from tcpapp.testing.transport import FakeTransport

PEER = IPv4Address("TCP", "192.0.2.7", 4711)
CONNECTION: Any = SimpleNamespace(peer=PEER)
EVENT = LateReply(CONNECTION)


def events_of(telemetry: Telemetry) -> list[Event]:
    """Return a list that gets all events from now on."""
    events: list[Event] = []
    telemetry.listen(events.append)
    return events


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Give the lines of tcpapp's log, each with its level."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"] == "tcpapp":
            found.append(f"{event['log_level'].name} {formatEvent(event)}")

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


# Listening -----------------------------------------------------------------------------------------------------------


def test_telemetry_is_true_while_there_is_a_listener() -> None:
    """A `Telemetry` is false without a listener, so that no event is made in vain."""
    telemetry = Telemetry()
    states = [bool(telemetry)]
    stop = telemetry.listen(lambda event: None)
    states.append(bool(telemetry))
    stop()
    states.append(bool(telemetry))
    assert states == [False, True, False]
    assert Telemetry(log)


def test_every_listener_gets_an_event_in_order() -> None:
    """An event goes to the listeners of the constructor, then to later listeners, in their order."""
    told: list[tuple[str, Event]] = []
    telemetry = Telemetry(lambda event: told.append(("first", event)), lambda event: told.append(("second", event)))
    telemetry.listen(lambda event: told.append(("third", event)))
    telemetry.emit(EVENT)
    assert told == [("first", EVENT), ("second", EVENT), ("third", EVENT)]


def test_a_listener_that_stops_is_not_called_any_more() -> None:
    """A stopped listener gets no event, and the others do; stopping again does nothing."""
    telemetry = Telemetry()
    first: list[Event] = []
    stop = telemetry.listen(first.append)
    second = events_of(telemetry)
    telemetry.emit(EVENT)
    stop()
    stop()
    telemetry.emit(EVENT)
    assert (first, second) == ([EVENT], [EVENT, EVENT])


def test_emitting_without_listeners_does_nothing() -> None:
    """`emit` without a listener does nothing."""
    Telemetry().emit(EVENT)


def test_a_listener_can_stop_and_add_listeners() -> None:
    """When a listener stops or adds other listeners during an event, this holds from the next event on."""
    telemetry = Telemetry()
    later: list[Event] = []
    stops: list[Any] = []
    telemetry.listen(lambda event: [stop() for stop in stops] and telemetry.listen(later.append))
    stopped: list[Event] = []
    stops.append(telemetry.listen(stopped.append))
    telemetry.emit(EVENT)
    assert (stopped, later) == ([EVENT], [])
    telemetry.emit(EVENT)
    assert (stopped, later) == ([EVENT], [EVENT])


def test_a_listener_can_emit_an_event() -> None:
    """An event that a listener emits reaches the listeners at once, before the event that caused it."""
    telemetry = Telemetry()
    other = Refused(PEER, 1, Refusal("max-connections", 1, 1))
    telemetry.listen(lambda event: telemetry.emit(other) if event is EVENT else None)
    events = events_of(telemetry)
    telemetry.emit(EVENT)
    assert [other, EVENT] == events


def test_a_listener_that_raises_is_logged(lines: list[str], logged_errors: Any) -> None:
    """A listener that raises is logged with the event's name, once a second; the next listener gets the event."""
    now = 100.0

    def failing(event: Event) -> None:
        raise ZeroDivisionError(f"a broken counter of {NASTY.name!r}")

    telemetry = Telemetry(failing, seconds=lambda: now)
    events = events_of(telemetry)
    telemetry.emit(EVENT)
    telemetry.emit(EVENT)
    assert events == [EVENT, EVENT]
    assert lines == ["critical a telemetry listener failed on 'LateReply'"]
    now = 101.0
    telemetry.emit(EVENT)
    assert lines[1:] == ["warn left out 1 line(s) like the next one", lines[0]]
    assert [ZeroDivisionError] * 2 == [each.type for each in logged_errors.take()]


# The events of a connection ------------------------------------------------------------------------------------------


class Unheard(Telemetry):
    """A `Telemetry` without listeners. It keeps in `emitted` the events that are emitted all the same."""

    __slots__ = ("emitted",)

    def __init__(self) -> None:
        super().__init__()
        self.emitted: list[Event] = []

    def emit(self, event: Event) -> None:
        self.emitted.append(event)


def connected(*arguments: Any, **options: Any) -> tuple[FakeTransport, Connection]:
    """Return a connection with these `Settings`, and its transport."""
    protocol = MessageProtocol(Settings(*arguments, **options))
    return FakeTransport(peerAddress=PEER, protocol=protocol), protocol.connection


def converse(telemetry: Telemetry) -> None:
    """Let a connection cause every event except a rejection."""

    def app(message: bytes, connection: Any) -> None:
        raise ZeroDivisionError

    transport, connection = connected(app, "line:max=5:oversize=skip", telemetry=telemetry)
    reply = connection.request(b"a?")
    reply.addErrback(lambda failure: None)
    reply.cancel()
    transport.receive(b"a!\n")
    transport.receive(b"too long\n")
    transport.receive(b"b\n")
    transport.turn()


def test_a_connection_emits_its_events() -> None:
    """A connection emits each event when it happens, with itself as the event's connection."""
    telemetry = Telemetry()
    events = events_of(telemetry)
    converse(telemetry)
    assert [Opened, LateReply, MessagesSkipped, AppFailed, Closed] == [type(each) for each in events]
    assert len({each.connection for each in events if not isinstance(each, Refused)}) == 1
    skipped, failed, closed = events[2:]
    assert isinstance(skipped, MessagesSkipped)
    assert (skipped.count, skipped.limit) == (1, 5)
    assert isinstance(failed, AppFailed)
    assert ZeroDivisionError is failed.failure.type
    assert isinstance(closed, Closed)
    assert (closed.reason.rule, closed.unhandled) == ("app-failed", 0)


def test_no_event_is_made_without_a_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection makes no event and emits none while its telemetry has no listener."""
    unheard = Unheard()
    converse(unheard)
    assert unheard.emitted == []
    names = (
        "stages.Opened",
        "stages.Closed",
        "stages.AppFailed",
        "protocol.MessagesSkipped",
        "protocol.LateReply",
    )
    for name in names:
        monkeypatch.setattr(f"tcpapp.connection.{name}", None)  # making an event would raise
    converse(Telemetry())


# The log -------------------------------------------------------------------------------------------------------------

BAD = CloseReason(EndedBy.PEER, "malformed-frame", "no frame begins with b'\\x1b'")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(Opened(CONNECTION), [], id="opened"),
        *(
            pytest.param(Closed(CONNECTION, CloseReason(EndedBy.US, rule, "well"), 0), [], id=rule)
            for rule in sorted(CLEAN_RULES)
        ),
        pytest.param(
            Closed(CONNECTION, BAD, 0),
            ["info 192.0.2.7:4711: closed: malformed-frame (by peer): no frame begins with b'\\x1b'"],
            id="closed-badly",
        ),
        pytest.param(
            Closed(CONNECTION, CloseReason(EndedBy.US, "closed", "well"), 2),
            ["warn 192.0.2.7:4711: 2 message(s) were not handled"],
            id="unhandled",
        ),
        pytest.param(
            Closed(CONNECTION, BAD, 3),
            [
                "warn 192.0.2.7:4711: 3 message(s) were not handled",
                f"info 192.0.2.7:4711: closed: {BAD}",
            ],
            id="unhandled-and-closed-badly",
        ),
        pytest.param(
            Refused(PEER, 1000, Refusal("max-connections", 1000, 1000)),
            ["warn refused 192.0.2.7:4711: 1000 connections are open, which is the limit (max_connections)"],
            id="refused",
        ),
        pytest.param(
            Refused(None, 1000, Refusal("not-accepted", detail="the system could not accept it (ENFILE)")),
            ["warn refused a client: the system could not accept it (ENFILE)"],
            id="refused-by-the-system",
        ),
        pytest.param(
            MessagesSkipped(CONNECTION, 2, 10),
            ["warn 192.0.2.7:4711: left out 2 message(s) over 10 bytes"],
            id="skipped",
        ),
        pytest.param(
            LimitNear("max_buffered", 80, 100),
            ["warn connections hold 80 of 100 bytes (max_buffered): the largest holders are not read from"],
            id="memory-short",
        ),
        pytest.param(
            LimitNear("max_connections", 80, 100),
            ["warn 80 connections are open, near 100 (max_connections): raise the limit, or find the cause"],
            id="connections-near-their-limit",
        ),
        pytest.param(
            LimitNear("max_per_network", 8, 10, "192.0.2.0/24"),
            [
                (
                    "warn 8 connections from 192.0.2.0/24 are open, near 10 (max_per_network): "
                    "raise the limit, or find the cause"
                )
            ],
            id="a-network-near-its-limit",
        ),
        pytest.param(
            NeverOpened(CONNECTION, BAD),
            ["info 192.0.2.7:4711: not opened: malformed-frame (by peer): no frame begins with b'\\x1b'"],
            id="never-opened",
        ),
        pytest.param(
            NeverOpened(CONNECTION, CloseReason(EndedBy.NETWORK, "lost", "reset"), probe=True), [], id="probe-of-tls"
        ),
        pytest.param(Closed(CONNECTION, CloseReason(EndedBy.NETWORK, "lost", "reset"), 0, probe=True), [], id="probe"),
        pytest.param(
            Closed(CONNECTION, CloseReason(EndedBy.PEER, "malformed-frame", "\x07" + "x" * 1000), 0),
            ["info 192.0.2.7:4711: closed: malformed-frame (by peer): \\x07" + "x" * 366 + "..."],
            id="cut",
        ),
        pytest.param(
            LateReply(CONNECTION), ["info 192.0.2.7:4711: dropped a reply that no request waits for"], id="late-reply"
        ),
    ],
)
def test_each_event_has_its_lines(event: Event, expected: list[str], lines: list[str]) -> None:
    """An event that an operator must know makes a line; a clean end makes none."""
    log(event)
    assert expected == lines


def test_an_app_that_fails_is_logged_with_its_traceback(lines: list[str], logged_errors: Any) -> None:
    """The line of a failed app names the peer; an observer finds the exception, and a safe text of it."""
    try:
        raise ZeroDivisionError("the app's fault\x1b[2J")
    except ZeroDivisionError:
        failure = Failure()
    log(AppFailed(CONNECTION, failure))
    assert len(lines) == 1
    assert lines[0].startswith("critical ")
    assert "192.0.2.7:4711" in lines[0]
    [logged] = logged_errors.take()
    assert logged.value is failure.value
    assert logged.getTraceback().endswith("ZeroDivisionError: the app's fault\\x1b[2J\n")


def test_a_recorder_that_fails_is_logged_once(lines: list[str], logged_errors: Any) -> None:
    """The log has one line and a traceback with safe text for a recorder that raises, and the connection goes on."""

    class Recorder:
        def received(self, messages: Any) -> None:
            raise ZeroDivisionError("the recorder's fault\x1b[2J")

    transport, connection = connected(lambda message, connection: message, telemetry=Telemetry(RateLimitedLog()))
    protocol_of(connection).record(Recorder())
    transport.receive(b"hello\n")
    transport.receive(b"hello\n")
    assert lines == ["critical a recorder failed on the connection of 192.0.2.7:4711, and is detached"]
    [logged] = logged_errors.take()
    assert logged.getTraceback().endswith("ZeroDivisionError: the recorder's fault\\x1b[2J\n")
    assert transport.value() == b"hello\nhello\n"


def test_a_reply_that_is_too_long_is_one_line(lines: list[str], logged_errors: Any) -> None:
    """The line of a reply that is too long has its length and the limit, and no traceback."""
    transport, _ = connected(lambda message, connection: b"x" * 11, "line:max=10", telemetry=Telemetry(log))
    transport.receive(b"hello\n")
    transport.turn()
    says = "a message of 11 bytes; at most 10 (max) are sent: make it shorter, or the framing's max larger"
    assert lines == [
        f"error 192.0.2.7:4711: the app failed: it gave a reply that cannot be sent: {says}",
        f"info 192.0.2.7:4711: closed: app-failed (by us): the app raised UnsendableMessage: {says}",
    ]
    assert logged_errors.take() == []


def test_a_message_that_the_app_could_not_send_has_a_traceback(lines: list[str], logged_errors: Any) -> None:
    """When a coroutine app sends a message that is too long, the traceback shows the line of the app."""

    async def app(message: bytes, connection: Any) -> None:
        await connection.send(b"x" * 11)

    transport, _ = connected(app, "line:max=10", telemetry=Telemetry(log))
    transport.receive(b"hello\n")
    transport.turn()
    [logged] = logged_errors.take()
    assert lines[0].startswith("critical the app failed on the connection of 192.0.2.7:4711")
    assert "in app\n" in logged.getTraceback()


NASTY = UNIXAddress(b"/tmp/\x1b[2J\r\nforged: a line\x00")


@pytest.mark.parametrize(
    "event",
    [
        Closed(SimpleNamespace(peer=NASTY), BAD, 1),  # type: ignore[arg-type]
        Refused(NASTY, 1, Refusal("max-connections", 1, 1)),
        MessagesSkipped(SimpleNamespace(peer=NASTY), 1, 1),  # type: ignore[arg-type]
        LateReply(SimpleNamespace(peer=NASTY)),  # type: ignore[arg-type]
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_address_is_escaped_in_a_log_line(event: Event, lines: list[str]) -> None:
    """The path of a UNIX socket is escaped in a log line: it cannot add a line or move the cursor."""
    log(event)
    assert lines
    assert all(each.isprintable() and "\\x1b[2J\\r\\nforged" in each for each in lines)


@pytest.mark.parametrize(
    "nasty",
    [b"{0} {log_level} {peer!r}", b"\x1b[2J\r\x00\x07", "\u202e\u2028".encode(), b"\xff\x85"],
    ids=["format", "terminal", "unicode", "not-unicode"],
)
@pytest.mark.parametrize(
    ("framing", "codec"),
    [("netstring", None), ("varint:max=4", None), ("mllp", None), ("line", "json"), ("line", "text"), ("raw", "text")],
)
def test_bytes_of_a_peer_are_escaped_in_a_log_line(
    nasty: bytes, framing: str, codec: str | None, lines: list[str]
) -> None:
    """The line of a malformed message is printable, is one line, and its bytes are not used as a format of the log."""
    transport, _ = connected(lambda message, connection: None, framing, codec=codec)
    transport.receive(nasty + b"\n")
    transport.turn()
    transport.lose()
    assert all(each.isprintable() and each.startswith("info 192.0.2.7:4711: closed: ") for each in lines)
    assert len(lines) <= 1


def test_a_connection_that_ends_well_makes_no_line(lines: list[str]) -> None:
    """A connection that the peer closes after a reply makes no log line."""
    transport, connection = connected(lambda message, connection: message)
    transport.receive(b"hello\n")
    transport.half_close()
    transport.turn()
    assert connection.state is State.CLOSED
    assert lines == []
    assert Opened(CONNECTION).lines() == ()


def test_a_connection_that_is_lost_makes_a_line(lines: list[str]) -> None:
    """A lost connection makes one log line with the reason."""
    transport, _ = connected(lambda message, connection: message)
    transport.lose(ConnectionLost())
    assert len(lines) == 1
    assert lines[0].startswith("info 192.0.2.7:4711: closed: lost (by network): ")


def is_event(each: object) -> bool:
    """
    Tell whether it is a class of events.

    In Python 3.10, an alias such as ``Iterable[Line]`` is an instance of `type`, too.
    """
    return isinstance(each, type) and get_origin(each) is None and issubclass(each, Event)


KINDS = [each for each in vars(events_module).values() if is_event(each) and is_dataclass(each)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_event_cannot_be_changed(kind: type) -> None:
    """The fields of an event cannot be set: one listener cannot change the event of the next."""
    event = kind(*[None] * len(fields(kind)))
    with pytest.raises(FrozenInstanceError):
        setattr(event, fields(kind)[0].name, CONNECTION)


@dataclass(frozen=True)
class Chilled(Event):
    """An event that a user of tcpapp adds."""

    degrees: int

    def lines(self) -> list[Line]:
        return [Line("warn", "it is {degrees} degrees", {"degrees": self.degrees})]


def test_a_new_event_is_one_class(lines: list[str]) -> None:
    """Listeners get an event of a new class, and the log has its lines, at the usual rate of lines."""
    telemetry = Telemetry(log, RateLimitedLog(lambda: 100.0))
    told = events_of(telemetry)
    for degrees in range(20):
        telemetry.emit(Chilled(degrees))
    assert told == [Chilled(degrees) for degrees in range(20)]
    assert lines.count("warn it is 7 degrees") == 2
    assert lines.count("warn it is 19 degrees") == 1


def test_every_event_can_be_imported() -> None:
    """Every class of events is in ``tcpapp.telemetry.__all__``."""
    classes = {each for each in vars(events_module).values() if is_event(each)}
    assert {each.__name__ for each in classes if not isabstract(each)} == {each.__name__ for each in KINDS}
    assert set(telemetry_module.__all__) >= {each.__name__ for each in KINDS}


# A flood of lines -----------------------------------------------------------------------------------------------------


def test_a_flood_of_clients_makes_a_line_a_second(lines: list[str], logged_errors: Any) -> None:
    """Rejected clients make one line a second for each reason; the next line says how many were left out."""
    now = 100.0
    calm = RateLimitedLog(lambda: now)
    full, denied = Refusal("max-connections", 5, 5), Refusal("network-denied")
    for _ in range(147):
        calm(Refused(PEER, 5, full))
    calm(Refused(PEER, 5, denied))
    assert len(lines) == 2
    now = 101.0
    calm(Refused(PEER, 5, full))
    assert lines[2] == "warn left out 146 line(s) like the next one"
    assert len(lines) == 4
    now = 102.0
    calm(Refused(PEER, 5, full))
    assert len(lines) == 5


def test_ends_of_one_kind_make_a_few_lines_a_second(lines: list[str], logged_errors: Any) -> None:
    """Ends and events of one kind make ten lines a second; failures of an app make one for each line that raises."""
    calm = RateLimitedLog(lambda: 100.0)
    for _ in range(30):
        calm(Closed(CONNECTION, BAD, 0))
        calm(Closed(CONNECTION, CloseReason(EndedBy.US, "closed", "well"), 0))
        calm(NeverOpened(CONNECTION, CloseReason(EndedBy.US, "tls-failed", "no")))
        calm(AppFailed(CONNECTION, Failure(ValueError())))
        calm(AppFailed(CONNECTION, Failure(KeyError())))
        calm(LateReply(CONNECTION))
        calm(MessagesSkipped(CONNECTION, 1, 10))
    assert len(lines) == 10 + 10 + 2 + 10 + 10
    assert len(logged_errors.take()) == 2


def test_each_limit_that_is_near_has_a_rate_of_its_own(lines: list[str]) -> None:
    """A flood of alarms for `max_connections` does not suppress the alarm for `max_buffered`."""
    calm = RateLimitedLog(lambda: 100.0)
    for _ in range(30):
        calm(LimitNear("max_connections", 80, 100))
    calm(LimitNear("max_buffered", 80, 100))
    assert len(lines) == 11
