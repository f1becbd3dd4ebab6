"""The connections of a server and of a client, over a simulated line that delays, cuts, stalls and resets."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tcpapp import Limits, MessageClientFactory, MessageServerFactory, State, Timeouts
from tcpapp.apps import echo
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import NotConnected, TimedOut
from tcpapp.testing.pipe import cut_at, each_byte, seeded_cuts
from tcpapp.testing.wire import Wire
from tests.peers import Switch, never, outcome

# Twisted itself passes such objects to pyOpenSSL.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")

KIB = 1024
SMALL = Limits(inbox_high=4 * KIB, inbox_low=2 * KIB, write_high=4 * KIB)
CAPACITY = 2 * KIB

LINES: dict[str, dict[str, Any]] = {
    "whole": {},
    "byte by byte": {"cuts": each_byte},
    "in pieces": {"cuts": partial(seeded_cuts, 1, most=300)},
    "far and thin": {"latency": 0.1, "bandwidth": 50_000.0},
    "small buffers": {"capacity": 100},
    "all of it": {"latency": 0.1, "bandwidth": 50_000.0, "capacity": 300, "cuts": partial(seeded_cuts, 2)},
}

LONG = 60.0
"""Seconds after which everything has arrived on each of these lines. A timeout of 30 seconds is not over twice."""


class Pair:
    """The connections of a server and of a client over a `Wire`, with the reasons of their ends."""

    def __init__(
        self, app: Any = echo, framing: str = "line", *, taker: Any = None, line: Any = None, **options: Any
    ) -> None:
        clock = Clock()
        server: Any = MessageServerFactory(app, framing, **options).buildProtocol(None)
        client: Any = MessageClientFactory(taker, framing, **options).buildProtocol(None)
        self.server, self.client = server.connection, client.connection
        self.wire = Wire(server, client, clock=clock, **(line or {}))
        while self.client.state is State.OPENING or self.server.state is State.OPENING:  # TLS is set up
            self.wire.clock.advance(0.1)
        self.closed = [outcome(each.when_closed()) for each in (self.server, self.client)]

    @property
    def rules(self) -> list[str]:
        """The rules by which the connections ended, the server's first. An open connection has none."""
        return [reason.rule for reasons in self.closed for reason in reasons]

    def nothing_is_left(self) -> bool:
        """Whether both connections have ended, each once, and left no timer."""
        return [len(each) for each in self.closed] == [1, 1] and not self.wire.clock.getDelayedCalls()


class Wires:
    """A maker of pairs, over TCP or over TLS."""

    def __init__(self, tls: Any = None) -> None:
        self.tls = tls

    def __call__(self, *arguments: Any, line: Any = None, **options: Any) -> Pair:
        return Pair(*arguments, line={**(line or {}), "tls": self.tls}, **options)


@pytest.fixture(params=["tcp", "tls"])
def pair(request: pytest.FixtureRequest, tls_certificates: Any) -> Wires:
    """Give a maker of `Pair`, over TCP and over TLS."""
    contexts = tls_certificates.server_options(), tls_certificates.client_options()
    return Wires(contexts if request.param == "tls" else None)


def requests(pair: Pair, count: int, size: int = 10) -> list[list[Any]]:
    """Send this many requests, one after the other, and return the results of each."""
    return [outcome(pair.client.request(b"%0*d" % (size, number))) for number in range(count)]


def answers(count: int, size: int = 10) -> list[list[Any]]:
    """Return the results of this many requests if all of them are answered."""
    return [[b"%0*d" % (size, number)] for number in range(count)]


# However the stream is cut --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["line", "int16", "varint", "netstring", "cobs", "fixed:size=10"])
def test_a_conversation_is_the_same_wherever_it_is_cut(framing: str) -> None:
    """At whatever byte the stream is cut, no message is lost, split, joined, or out of order."""
    size = sum(len(protocol_of(Pair(framing=framing).server)._frame(message)) for [message] in answers(3))
    for offset in range(1, size):
        pair = Pair(framing=framing, line={"cuts": lambda offset=offset: cut_at(offset)})
        replies = requests(pair, 3)
        pair.wire.flush()
        assert replies == answers(3)
        pair.wire.close()


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_conversation_is_the_same_on_every_line(line: Any, pair: Wires) -> None:
    """Requests are answered in order, over TCP and TLS. Then the client closes, and nothing is left."""
    two = pair(line=line)
    replies = requests(two, 30)
    two.wire.advance(LONG)
    assert replies == answers(30)
    closed = outcome(two.client.close())
    two.wire.advance(LONG)
    assert [reason.rule for reason in closed] == ["closed"]
    assert two.rules == ["end-of-stream", "closed"]
    assert two.nothing_is_left()


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_both_sides_can_send_at_once(line: Any, pair: Wires) -> None:
    """Both sides send at once, and neither side waits for the other."""
    seen: dict[str, list[bytes]] = {"server": [], "client": []}
    two = pair(
        lambda message, _: seen["server"].append(message),
        taker=lambda message, _: seen["client"].append(message),
        line=line,
    )
    sent = [outcome(end.send(b"%d" % number)) for number in range(50) for end in (two.server, two.client)]
    two.wire.advance(LONG)
    assert sent == [[None]] * 100
    assert seen == {"server": [b"%d" % number for number in range(50)]} | {"client": seen["server"]}
    two.wire.close()


# Backpressure ---------------------------------------------------------------------------------------------------------


def held_by(two: Pair) -> int:
    """Return the bytes of messages that both connections hold, sent or received, at this moment."""
    boxes = [box for end in map(protocol_of, (two.server, two.client)) for box in (end._inbox.size, end._outbox.unsent)]
    transports = (two.wire.server_transport, two.wire.client_transport)
    return sum(boxes) + sum(len(each.dataBuffer) + each._tempDataLen for each in transports)


def send_all(two: Pair, sent: list[int], count: int) -> None:
    """Let the client send this many messages of 100 bytes, each once the previous one is under way."""

    def send_next(_: object) -> None:
        if len(sent) < count:
            sent.append(len(sent))
            two.client.send(b"%0100d" % sent[-1]).addCallback(lambda _: two.wire.clock.callLater(0, send_next, None))

    send_next(None)


def test_a_client_that_takes_no_replies_can_send_no_more_requests(pair: Wires) -> None:
    """
    If a client takes no message, it stops reading. Then the server stops writing and reading, and the client writing.

    The held bytes are bounded meanwhile. When the client takes the messages, all of them are there, in order.
    """
    two = pair(limits=SMALL, line={"capacity": CAPACITY})
    sent: list[int] = []
    send_all(two, sent, 2000)
    two.wire.advance(5)
    assert len(sent) < 500
    assert held_by(two) < 4 * (SMALL.inbox_high + SMALL.write_high)
    stopped = len(sent)
    two.wire.advance(5)
    assert len(sent) == stopped
    received: list[bytes] = []

    def take(message: bytes) -> None:
        received.append(message)
        if len(received) < 2000:
            two.client.receive().addCallback(take)

    two.client.receive().addCallback(take)
    for _ in range(100):
        two.wire.advance(1)
        assert held_by(two) < 4 * (SMALL.inbox_high + SMALL.write_high)
    assert received == [b"%0100d" % number for number in range(2000)]
    two.wire.close()


@pytest.mark.parametrize("bandwidth", [None, 20_000.0])
def test_a_slow_app_holds_the_client_back(bandwidth: float | None, pair: Wires) -> None:
    """With a slow app, the messages that server and client hold are bounded, and none is lost."""
    app = Switch()
    two = pair(app, limits=SMALL, line={"capacity": CAPACITY, "bandwidth": bandwidth})
    sent: list[int] = []
    send_all(two, sent, 500)
    two.wire.advance(10)
    assert (len(app.seen), len(sent) < 250) == (1, True)
    while len(app.seen) < 500:
        app.pending[-1].callback(None)
        two.wire.advance(0.1)
    assert app.seen == [b"%0100d" % number for number in range(500)]
    two.wire.close()


# Clean ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
@pytest.mark.parametrize("who", ["server", "client"])
def test_messages_that_were_sent_before_the_close_arrive(who: str, line: Any, pair: Wires) -> None:
    """Either side can send and close at once: the other side gets every message, and then the end."""
    seen: list[bytes] = []
    app = lambda message, _: seen.append(message)  # noqa: E731
    two = pair(app, taker=app, line=line, limits=SMALL)
    closing = two.server if who == "server" else two.client
    sent = [outcome(closing.send(b"%0200d" % number)) for number in range(40)]
    closed = outcome(closing.close())
    two.wire.advance(LONG)
    assert seen == [b"%0200d" % number for number in range(40)]
    assert sent == [[None]] * 40
    assert [reason.rule for reason in closed] == ["closed"]
    assert sorted(two.rules) == ["closed", "end-of-stream"]
    assert two.nothing_is_left()


@pytest.mark.parametrize("latency", [0.0, 0.5])
def test_both_close_at_once(latency: float, pair: Wires) -> None:
    """If both sides close at once, each side ends with the reason that it closed."""
    two = pair(line={"latency": latency})
    two.wire.flush()
    closed = [outcome(two.server.close()), outcome(two.client.close())]
    two.wire.advance(LONG)
    assert [[reason.rule for reason in each] for each in closed] == [["closed"]] * 2
    assert two.nothing_is_left()


def test_a_client_that_half_closes_is_answered() -> None:
    """A slow app still answers a client that has half-closed. Then the server closes, and both ends are clean."""
    app = Switch()
    two = Pair(app)
    replies = requests(two, 2)
    two.wire.flush()
    two.wire.half_close("client")
    two.wire.flush()
    assert (replies, two.rules) == ([[], []], [])
    for each in (b"one", b"two"):
        app.pending[-1].callback(each)
        two.wire.flush()
    assert replies == [[b"one"], [b"two"]]
    assert two.rules == ["end-of-stream", "end-of-stream"]
    assert two.nothing_is_left()


def test_a_server_that_half_closes_is_answered() -> None:
    """A client's app still answers a server that has half-closed, and both ends are clean."""
    app = Switch()
    two = Pair(None, taker=app)
    asked = outcome(two.server.request(b"who are you?"))
    two.wire.flush()
    two.wire.half_close("server")
    two.wire.flush()
    assert (asked, two.rules) == ([], [])
    app.pending[0].callback(b"me")
    two.wire.flush()
    assert asked == [b"me"]
    assert two.rules == ["end-of-stream", "end-of-stream"]
    assert two.nothing_is_left()


def test_both_half_close_at_once() -> None:
    """If both sides half-close, both connections end, and a caller that waits for a reply gets `NotConnected`."""
    two = Pair(never, line={"latency": 0.1})
    [reply] = requests(two, 1)
    two.wire.flush()
    two.wire.half_close("server")
    two.wire.half_close("client")
    two.wire.advance(LONG)
    assert [NotConnected] == [type(each) for each in reply]
    assert two.nothing_is_left()


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_drain_answers_what_has_arrived(line: Any, pair: Wires) -> None:
    """A server that drains finishes the request that its app has, and then both connections end cleanly."""
    app = Switch()
    two = pair(app, line=line)
    [reply] = requests(two, 1)
    two.wire.advance(5)
    two.server.drain(10)
    two.wire.advance(5)
    assert reply == []
    app.pending[0].callback(b"done")
    two.wire.advance(5)
    assert (reply, two.rules) == ([b"done"], ["drained", "end-of-stream"])
    two.wire.advance(LONG)
    assert two.nothing_is_left()


# Ends by the network and by timeouts ----------------------------------------------------------------------------------


def waits_of(end: Any) -> dict[str, list[Any]]:
    """Send, request and receive on a connection, and return the results of each call."""
    return {
        "send": outcome(end.send(b"x")),
        "request": outcome(end.request(b"reply?", timeout=0)),
        "receive": outcome(end.receive()),
    }


def test_a_reset_is_reported_to_both_ends(pair: Wires) -> None:
    """After a reset both connections are lost, and all waiting calls on both sides get the reason, once."""
    two = pair(never, taker=never, limits=SMALL, line={"capacity": CAPACITY})
    two.wire.flush()
    two.wire.stall()
    for end in (two.server, two.client):
        outcome(end.send(b"x" * 50 * KIB))
    two.wire.advance(0)
    waits = [waits_of(two.server), waits_of(two.client)]
    two.wire.advance(1)
    assert waits == [{"send": [], "request": [], "receive": []}] * 2
    two.wire.go_on()
    two.wire.reset()
    two.wire.advance(1)
    assert two.rules == ["lost", "lost"]
    for each, [reason] in zip(waits, two.closed, strict=True):
        assert {name: [(type(error), error.reason) for error in told] for name, told in each.items()} == {
            name: [(NotConnected, reason)] for name in each
        }
    assert two.nothing_is_left()


def test_messages_that_came_before_a_reset_are_received() -> None:
    """A reply and a message that were on the line before the reset are still received."""
    two = Pair(echo, line={"latency": 0.5})
    [reply] = requests(two, 1)
    two.wire.advance(0.7)
    two.server.send(b"news")
    two.wire.advance(0)
    two.wire.to_client.reset()
    two.wire.advance(1)
    assert (reply, outcome(two.client.receive()), two.rules[-1]) == (answers(1)[0], [b"news"], "lost")
    two.wire.close()


@pytest.mark.parametrize("seconds", [0, 3])
def test_a_line_that_stalls_is_given_up(seconds: int, pair: Wires) -> None:
    """
    After ``send_progress`` seconds without a read of the peer, the connection is cut.

    Slow reading is no stall: each read restarts the seconds.
    """
    two = pair(never, limits=SMALL, timeouts=Timeouts(send_progress=5), line={"capacity": CAPACITY})
    two.wire.flush()
    sent = outcome(two.client.send(b"x" * 100 * KIB))
    protocol_of(two.server).transport.pauseProducing()
    two.wire.advance(seconds)
    two.wire.stall()
    two.wire.advance(4.9 - seconds)
    assert (sent, two.rules) == ([], [])
    two.wire.advance(0.2)
    assert [NotConnected] == [type(each) for each in sent]
    assert two.client.when_closed().result.rule == "send-stalled"
    protocol_of(two.server).transport.resumeProducing()
    two.wire.go_on()
    two.wire.advance(1)
    assert two.rules == ["lost", "send-stalled"]
    assert two.nothing_is_left()


def test_a_line_that_goes_on_in_time_loses_nothing(pair: Wires) -> None:
    """A stall of the line that is shorter than the timeouts is only a delay."""
    two = pair(limits=SMALL, timeouts=Timeouts(send_progress=5), line={"capacity": CAPACITY})
    for _ in range(3):
        two.wire.stall()
        replies = requests(two, 100, size=200)
        two.wire.advance(4)
        assert replies == [[]] * 100
        two.wire.go_on()
        two.wire.advance(1)
        assert replies == answers(100, size=200)
    two.wire.close()


def test_a_line_that_is_cut_is_noticed_by_a_request(pair: Wires) -> None:
    """A cut line is not reported: the request times out, and the close ends when its grace is over."""
    two = pair(timeouts=Timeouts(request=3, grace=2))
    two.wire.flush()
    two.wire.cut()
    [reply] = requests(two, 1)
    two.wire.advance(2.9)
    assert reply == []
    two.wire.advance(0.2)
    assert [TimedOut] == [type(each) for each in reply]
    assert two.client.state is State.OPEN
    closed = outcome(two.client.close())
    two.wire.advance(2.1)
    assert len(closed) == 1
    assert closed[0].rule in {"closed", "grace-over"}  # over TLS it waits for the other end's close, which never comes
    assert two.server.state is State.OPEN
    two.wire.close()


def test_a_close_that_takes_too_long_is_cut() -> None:
    """If a slow line cannot carry all bytes within the grace, the rest is lost, and both sides know it."""
    seen: list[bytes] = []
    two = Pair(lambda message, _: seen.append(message), line={"bandwidth": 1000.0, "capacity": CAPACITY})
    for number in range(200):
        two.client.send(b"%0100d" % number).addErrback(lambda failure: failure.trap(NotConnected))
    closed = outcome(two.client.close(grace=3))
    two.wire.advance(2.9)
    assert closed == []
    two.wire.advance(LONG)
    assert [reason.rule for reason in closed] == ["grace-over"]
    assert two.rules == ["lost", "grace-over"]
    assert 10 < len(seen) < 60
    assert seen == [b"%0100d" % number for number in range(len(seen))]
    assert two.nothing_is_left()


@pytest.mark.parametrize("end", ["abort", "close"])
def test_an_end_from_within_an_app_tells_its_client(end: str, pair: Wires) -> None:
    """An app that ends its connection inside a call ends it once. A reply is sent only with `close`."""

    def app(message: bytes, connection: Any) -> bytes:
        outcome(connection.close()) if end == "close" else connection.abort()
        return b"goodbye"

    two = pair(app, line={"cuts": each_byte})
    [reply] = requests(two, 1)
    two.wire.advance(LONG)
    told = [each if isinstance(each, bytes) else type(each) for each in reply]
    assert (told, two.rules) == (
        ([b"goodbye"], ["closed", "end-of-stream"]) if end == "close" else ([NotConnected], ["aborted", "lost"])
    )
    assert two.nothing_is_left()


def test_a_peer_that_is_cut_inside_a_message_differs_from_a_peer_that_ends() -> None:
    """Wherever a stream ends, only an end between two messages is clean. Otherwise the message is truncated."""
    stream = b"\0\5hello\0\5world"
    for size in range(len(stream) + 1):
        two = Pair(framing="int16")
        two.wire.client_transport.write(stream[:size])
        two.wire.half_close("client")
        two.wire.flush()
        whole = size in {0, 7, 14}
        assert two.rules[0] == ("end-of-stream" if whole else "truncated-message")
        two.wire.close()
        assert two.nothing_is_left()


def test_a_request_that_is_cancelled_on_a_stalled_line_takes_no_other_reply(pair: Wires) -> None:
    """A cancelled request gets only the cancellation, and the other requests get their own replies."""
    two = pair()
    two.wire.stall()
    waiting: list[Deferred[bytes]] = [two.client.request(b"%d" % number) for number in range(4)]
    told = [outcome(each) for each in waiting]
    waiting[1].cancel()
    two.wire.go_on()
    two.wire.flush()
    assert [told[0], told[2], told[3]] == [[b"0"], [b"2"], [b"3"]]
    assert len(told[1]) == 1
    two.wire.close()
