"""A connection's own actions: it opens, which takes time with TLS, its timeouts end it, and it sends heartbeats."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from tcpapp import Limits, MessageClientFactory, MessageServerFactory, State, Telemetry, Timeouts, conversation
from tcpapp.apps import echo
from tcpapp.codecs import Json
from tcpapp.connection.protocol import protocol_of
from tcpapp.connection.settings import Settings
from tcpapp.errors import InvalidOption, NotConnected
from tcpapp.telemetry import AppFailed, Closed, NeverOpened, Opened
from tcpapp.testing.wire import Wire
from tests.peers import Peer, Switch, joined, outcome, stalled

# Timeouts for the peer of a server -----------------------------------------------------------------------------------


def ended(peer: Peer) -> tuple[str, float | None]:
    """Return the rule by which the connection ended, and its limit."""
    if peer.connection.state is not State.CLOSED:
        peer.leaves()
    return peer.reason.rule, peer.reason.limit


def test_a_client_that_says_nothing_is_closed() -> None:
    """A client that sends no whole message in ``first_message`` seconds is closed."""
    peer = Peer(echo, timeouts=Timeouts(first_message=5, message_timeout=0))
    peer.says(b"hel")
    peer.clock.advance(4.9)
    assert not peer.closing
    peer.clock.advance(0.1)
    assert peer.closing
    assert ended(peer) == ("first-message-timeout", 5)


def test_a_client_that_gets_a_greeting_need_not_send_first() -> None:
    """After a greeting, the connection does not wait for the first message of the client."""

    class Greeter:
        def opened(self, connection: Any) -> bytes:
            return b"welcome"

    peer = Peer(Greeter(), timeouts=Timeouts(first_message=5))
    peer.clock.advance(5)
    assert not peer.closing


def test_a_message_that_does_not_end_ends_the_connection() -> None:
    """Single bytes do not restart the time of a message, and earlier messages are answered."""
    app = Switch()
    peer = Peer(app, timeouts=Timeouts(message_timeout=10))
    peer.says(b"whole\nhal")
    for _ in range(9):
        peer.clock.advance(1)
        peer.says(b"f")
    assert not peer.paused
    peer.clock.advance(1)
    assert peer.paused
    app.pending[0].callback(b"answer")
    assert peer.hears() == b"answer\n"
    assert ended(peer) == ("message-timeout", 10)


def test_a_skipped_message_has_its_time_too() -> None:
    """If a skipped message never ends, `message_timeout` ends the connection."""
    peer = Peer(echo, "line:max=4:oversize=skip", timeouts=Timeouts(message_timeout=10))
    for _ in range(10):
        peer.says(b"too long ")
        peer.clock.advance(1)
    assert ended(peer) == ("message-timeout", 10)


def test_a_connection_on_which_nothing_passes_is_closed() -> None:
    """Messages and their answers keep a connection open. Without them it is closed as idle."""
    peer = Peer(echo, timeouts=Timeouts(idle=10))
    for _ in range(5):
        peer.says(b"here\n")
        peer.clock.advance(9)
    assert not peer.closing
    peer.clock.advance(1)
    assert ended(peer) == ("idle", 10)


def test_messages_of_the_app_keep_a_connection_whose_peer_is_silent() -> None:
    """While the app sends messages, a silent peer is not idle, except with ``idle_read``."""
    listener, owing = (Peer(echo, timeouts=Timeouts(idle=10, idle_read=each, first_message=0)) for each in (0, 15))
    for _ in range(3):
        for peer in (listener, owing):
            peer.clock.advance(9)
            if peer.connection.state is State.OPEN:
                peer.connection.send(b"news")
    assert not listener.closing
    assert ended(owing) == ("idle", 15)


def test_a_peer_can_be_closed_when_nothing_is_sent_to_it() -> None:
    """With ``idle_write``, a connection that sends nothing is closed, whatever its peer sends."""
    peer = Peer(lambda message, connection: None, timeouts=Timeouts(idle_write=10))
    for _ in range(10):
        peer.says(b"hello?\n")
        peer.clock.advance(1)
    assert ended(peer) == ("idle", 10)


def test_a_peer_that_waits_for_the_app_is_not_idle() -> None:
    """The idle time of a peer that waits for an answer begins with the answer."""
    app = Switch()
    peer = Peer(app, timeouts=Timeouts(idle=10, handler_timeout=0))
    peer.says(b"a hard one\n")
    peer.clock.advance(100)
    assert not peer.closing
    app.pending[0].callback(None)
    peer.clock.advance(9)
    assert not peer.closing
    peer.clock.advance(1)
    assert ended(peer) == ("idle", 10)


def test_a_peer_whose_messages_wait_is_not_idle() -> None:
    """A peer is not idle while its messages wait, and while reading is paused."""
    peer = Peer(
        timeouts=Timeouts(idle=10, message_timeout=10, first_message=0), limits=Limits(inbox_high=100, inbox_low=50)
    )
    peer.says(b"x" * 100 + b"\nhalf")
    assert peer.paused
    peer.clock.advance(100)
    assert not peer.closing
    peer.connection.receive()
    assert not peer.paused
    peer.clock.advance(9)
    assert not peer.closing
    peer.clock.advance(1)
    assert peer.closing or peer.connection.state is State.INPUT_CLOSED


@pytest.mark.parametrize("idles", [{"idle": 10}, {"idle_read": 10}], ids=["idle", "idle-read"])
def test_a_peer_has_all_of_its_time_after_a_pause_of_the_app(idles: dict[str, int]) -> None:
    """After `resume()`, the peer has the whole time in which it has to send, however long the app paused."""
    peer = Peer(echo, timeouts=Timeouts(first_message=0, **idles))
    peer.connection.pause()
    peer.clock.advance(7)
    peer.connection.resume()
    peer.clock.advance(9.5)
    peer.connection.resume()  # of no pause: it gives no more time
    assert not peer.closing
    peer.clock.advance(0.5)
    assert ended(peer) == ("idle", 10)


def test_a_clients_connection_can_be_silent() -> None:
    """A client's connection can be silent without end, unless ``idle_read`` is set."""
    for timeouts in (Timeouts(), Timeouts(idle_read=10)):
        transport = joined(MessageClientFactory(timeouts=timeouts))
        transport.reactor.advance(10_000)
        assert transport.disconnecting == bool(timeouts.idle_read)


def test_an_app_that_does_not_answer_ends_its_connection() -> None:
    """The Deferred of a late answer is cancelled, so that its work can stop. The app has not failed."""
    cancelled: list[Deferred[Any]] = []
    peer = Peer(lambda message, connection: Deferred(cancelled.append), timeouts=Timeouts(handler_timeout=10))
    peer.says(b"1\n2\n")
    peer.clock.advance(10)
    assert (len(cancelled), peer.closing) == (1, True)
    assert ended(peer) == ("handler-timeout", 10)
    assert peer.told(AppFailed) == []


def test_a_coroutine_that_does_not_answer_is_cancelled() -> None:
    """A coroutine that does not answer in time is cancelled at its await, and can clean up."""
    told: list[str] = []

    async def app(message: bytes, connection: Any) -> bytes:
        try:
            return await Deferred()
        except CancelledError:
            told.append("cancelled")
            raise

    peer = Peer(app, timeouts=Timeouts(handler_timeout=10))
    peer.says(b"1\n")
    peer.clock.advance(10)
    assert told == ["cancelled"]
    assert ended(peer) == ("handler-timeout", 10)


def test_a_canceller_that_raises_is_a_failure_of_the_app() -> None:
    """If the canceller of a late answer raises, the exception is reported as a failure of the app."""

    def cancel(deferred: Deferred[Any]) -> None:
        raise ValueError("not me")

    peer = Peer(lambda message, connection: Deferred(cancel), timeouts=Timeouts(handler_timeout=10))
    peer.says(b"1\n")
    peer.clock.advance(10)
    assert [type(each.failure.value) for each in peer.told(AppFailed)] == [ValueError]
    assert ended(peer) == ("handler-timeout", 10)


def test_each_answer_has_its_own_time() -> None:
    """Each answer has the whole `handler_timeout`, however long all answers take together."""
    app = Switch()
    peer = Peer(app, timeouts=Timeouts(handler_timeout=10))
    peer.says(b"1\n2\n3\n")
    for number in range(3):
        peer.clock.advance(9)
        app.pending[number].callback(b"yes")
    peer.clock.advance(100)
    assert peer.hears() == b"yes\n" * 3
    assert not peer.closing


def test_a_peer_that_does_not_take_its_answers_is_cut() -> None:
    """A peer that reads nothing for ``send_progress`` seconds is cut."""
    peer = stalled(lambda message, connection: b"x" * 100_000, timeouts=Timeouts(send_progress=10))
    peer.says(b"1\n")
    peer.clock.advance(10)
    assert peer.transport.aborted
    peer.resets()
    assert ended(peer) == ("send-stalled", 10)


# The maximum age -----------------------------------------------------------------------------------------------------


def test_a_connection_of_age_finishes_its_messages() -> None:
    """At its maximum age a connection answers the messages that it has, and then closes cleanly."""
    app = Switch()
    peer = Peer(app, timeouts=Timeouts(max_age=100, handler_timeout=0), limits=Limits(age_jitter=0))
    peer.says(b"1\n")
    peer.clock.advance(100)
    peer.slips_in(b"2\n")
    assert not peer.closing
    app.pending[0].callback(b"one")
    assert peer.hears() == b"one\n"
    assert ended(peer) == ("max-age", 100)
    assert peer.reason.clean


def test_a_connection_of_age_is_cut_after_the_time_of_a_drain() -> None:
    """At the maximum age the pending answers have the seconds of a drain, and no more."""
    peer = Peer(
        Switch(), timeouts=Timeouts(max_age=100, handler_timeout=0, drain=7, half_close=1), limits=Limits(age_jitter=0)
    )
    peer.says(b"1\n")
    peer.clock.advance(100)
    peer.clock.advance(6.9)
    assert not peer.transport.aborted
    peer.clock.advance(0.1)
    assert peer.transport.aborted
    peer.resets()
    assert ended(peer) == ("drain-over", 7)


def test_connections_that_opened_together_do_not_end_together() -> None:
    """Each connection has its own maximum age, within the jitter, drawn from the given random source."""
    ages = []
    for seed in range(50):
        peer = Peer(
            echo,
            timeouts=Timeouts(max_age=100, idle=0, first_message=0),
            limits=Limits(age_jitter=20),
            random=Random(seed),
        )
        ages.append(peer.protocol._deadlines.ends("max_age"))
    assert 80 <= min(ages) < 90
    assert 110 < max(ages) <= 120


# Heartbeats ----------------------------------------------------------------------------------------------------------


def test_a_silent_peer_is_sent_heartbeats_and_given_up() -> None:
    """A silent peer is cut after it has missed its number of heartbeats, and all waiting calls get the reason."""
    peer = Peer(None, heartbeat=b"ping", timeouts=Timeouts(heartbeat=10, first_message=0))
    waiting = outcome(peer.connection.receive())
    for _ in range(29):
        peer.clock.advance(1)
    assert (peer.hears(), peer.transport.aborted) == (b"ping\nping\n", False)
    peer.clock.advance(1)
    assert peer.transport.aborted
    peer.resets()
    assert ended(peer) == ("heartbeat-missed", 30)
    assert [NotConnected] == [type(each) for each in waiting]


def test_a_client_sends_heartbeats_too() -> None:
    """A client sends heartbeats, and any received bytes are an answer."""
    transport = joined(MessageClientFactory(heartbeat=b"ping", timeouts=Timeouts(heartbeat=10, message_timeout=0)))
    for _ in range(10):
        transport.reactor.advance(10)
        transport.receive(b"po")
    assert transport.value() == b"ping\n" * 10
    assert transport.connection.state is State.OPEN


def test_a_heartbeat_can_be_made_for_each_connection() -> None:
    """A function can make the heartbeat, as a value if there is a codec. The function can also return no heartbeat."""
    numbers = iter([{"ping": 1}, None, {"ping": 2}])
    peer = Peer(
        None,
        codec=Json(),
        heartbeat=lambda connection: next(numbers),
        timeouts=Timeouts(heartbeat=10, first_message=0),
        limits=Limits(heartbeats_missed=9),
    )
    for _ in range(3):
        peer.clock.advance(10)
    assert peer.hears() == b'{"ping":1}\n{"ping":2}\n'


def test_a_peer_that_does_not_read_is_sent_no_heartbeats() -> None:
    """A peer that does not read gets no heartbeats, because they would only add unsent bytes."""
    peer = stalled(heartbeat=b"ping", timeouts=Timeouts(heartbeat=10, send_progress=0, first_message=0))
    peer.connection.send(b"x" * 100_000)
    before = peer.protocol.info().unsent
    peer.clock.advance(10)
    assert before == peer.protocol.info().unsent


def test_a_heartbeat_that_fails_is_the_apps_failure() -> None:
    """If the function for heartbeats raises, its connection is closed, and the failure is reported."""

    def heartbeat(connection: Any) -> bytes:
        raise ValueError("no pulse")

    peer = Peer(echo, heartbeat=heartbeat, timeouts=Timeouts(heartbeat=10))
    peer.clock.advance(10)
    assert len(peer.told(AppFailed)) == 1
    assert ended(peer)[0] == "app-failed"


@pytest.mark.parametrize(("heartbeat", "codec"), [("text", None), (b"two\nlines", None), (object(), "json")])
def test_a_heartbeat_that_cannot_be_sent_is_refused_at_once(heartbeat: Any, codec: str | None) -> None:
    """An unsendable heartbeat is refused by the settings, before anything is opened."""
    with pytest.raises(InvalidOption, match=r"^heartbeat="):
        Settings(None, heartbeat=heartbeat, codec=codec)


# Opening over TLS ----------------------------------------------------------------------------------------------------

# Twisted itself passes such objects to pyOpenSSL.
tls = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")


class Secured:
    """The connections of a server and of a client before a TLS handshake, and the calls of the app."""

    def __init__(self, certificates: Any, *, timeouts: Timeouts | None = None, trusting: bool = True) -> None:
        self.told: list[str] = []
        self.events: list[Any] = []
        self.clock = Clock()
        app = self
        options: dict[str, Any] = {"timeouts": timeouts, "telemetry": Telemetry(self.events.append)}
        self.factory = MessageServerFactory(app, **options)
        server: Any = self.factory.buildProtocol(None)
        client: Any = MessageClientFactory(timeouts=timeouts, telemetry=Telemetry()).buildProtocol(None)
        self.server, self.client = server.connection, client.connection
        contexts = certificates.server_options(), certificates.client_options("localhost" if trusting else "liar")
        self.wire = Wire(server, client, clock=self.clock, tls=contexts, latency=1.0)

    def opened(self, connection: Any) -> None:
        self.told.append("opened")

    def received(self, message: bytes, connection: Any) -> bytes:
        return message.upper()

    def closed(self, connection: Any, reason: Any) -> None:
        self.told.append(reason.rule)


@tls
def test_an_app_gets_its_connection_once_tls_is_set_up(tls_certificates: Any) -> None:
    """Before TLS is set up, nothing can be sent, and the connection already counts for admission."""
    line = Secured(tls_certificates)
    states = [each.state for each in (line.server, line.client)]
    assert (states, line.told, len(line.factory.connections)) == ([State.OPENING] * 2, [], 0)
    assert len(line.factory.admission) == 1
    early, when_open = outcome(line.client.send(b"early")), outcome(line.client.when_open())
    assert ([NotConnected], []) == ([type(each) for each in early], when_open)
    line.clock.pump([1.0] * 4)
    assert (line.told, when_open, len(line.factory.connections)) == (["opened"], [line.client], 1)
    assert [Opened] == [type(each) for each in line.events]
    reply = outcome(line.client.request(b"hello"))
    line.clock.pump([1.0] * 3)
    assert reply == [b"HELLO"]


@tls
def test_a_handshake_that_does_not_end_is_cut(tls_certificates: Any) -> None:
    """The app is not called for a cut handshake. The event has the reason, and the place is free again."""
    line = Secured(tls_certificates, timeouts=Timeouts(tls_handshake=0.5))
    when_open = outcome(line.server.when_open())
    line.clock.pump([0.5] * 9)
    [event] = line.events
    assert (type(event), event.reason.rule, event.reason.limit) == (NeverOpened, "tls-handshake-timeout", 0.5)
    assert (line.told, len(line.factory.admission)) == ([], 0)
    assert [event.reason] == [each.reason for each in when_open]
    assert line.clock.getDelayedCalls() == []


@tls
def test_a_handshake_can_take_for_ever_without_a_limit(tls_certificates: Any) -> None:
    """With `tls_handshake=0` no timer runs during a handshake."""
    line = Secured(tls_certificates, timeouts=Timeouts(tls_handshake=0))
    assert protocol_of(line.server)._deadlines.started == ()


@tls
def test_a_handshake_that_fails_fails_its_waiters(tls_certificates: Any) -> None:
    """The waiters get the error of the library that refused the handshake, and no app is called."""
    line = Secured(tls_certificates, trusting=False)
    when_open = outcome(line.client.when_open())
    line.clock.pump([1.0] * 6)
    [error] = when_open
    assert "liar" in str(error)
    assert line.told == []


@tls
@pytest.mark.parametrize("how", ["close", "drain", "abort"])
def test_a_connection_in_its_handshake_is_cut_by_every_end(tls_certificates: Any, how: str) -> None:
    """During a handshake, close, drain and abort cut the connection, because nothing has to be flushed or finished."""
    line = Secured(tls_certificates)
    getattr(line.server, how)()
    line.clock.pump([1.0] * 4)
    assert line.server.state is State.CLOSED
    assert line.told == []
    assert not any(isinstance(each, Closed) for each in line.events)


@tls
def test_a_server_that_drains_cuts_connections_in_a_tls_handshake(tls_certificates: Any) -> None:
    """A drain waits for connections in a handshake as for all others, and does not count them as cut."""
    line = Secured(tls_certificates)
    drained = outcome(line.factory.drain())
    line.clock.pump([1.0] * 4)
    assert drained == [0]


def test_a_handshake_after_the_opening_opens_nothing_again() -> None:
    """A handshake in mid-conversation does not open the connection a second time."""
    peer = Peer(echo)
    peer.protocol.handshakeCompleted()
    assert len(peer.told(Opened)) == 1


def test_a_conversation_gets_the_reason_of_an_idle_timeout() -> None:
    """If an idle timeout ends a conversation's connection, its waiting call gets the reason."""
    told: list[Any] = []

    @conversation
    async def talk(connection: Any) -> None:
        try:
            await connection.receive()
        except NotConnected as error:
            told.append(error.reason.rule)

    peer = Peer(talk, timeouts=Timeouts(idle=10, first_message=0))
    peer.clock.advance(10)
    assert told == ["idle"]
