"""A login before an app: no message reaches the app without it, and tries and time are bounded."""

from __future__ import annotations

from typing import Any
from weakref import ref

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from tcpapp import State, batch, conversation
from tcpapp.apps.middleware import authenticated
from tcpapp.errors import InvalidOption
from tcpapp.limits import Timeouts
from tcpapp.telemetry import AppFailed
from tests.peers import Peer, outcome

QUIET = Timeouts(first_message=0, idle=0)


def check(message: bytes, connection: Any) -> bytes | None:
    """Let in a user with the right password."""
    name, _, password = message.partition(b" ")
    return name if password == b"right" else None


def echo(message: bytes, connection: Any) -> bytes:
    """Reply with the user and the message."""
    return connection.data.identity + b": " + message  # type: ignore[no-any-return]


async def waits(message: bytes, connection: Any) -> bytes:
    """Reply with the user and the message, as a coroutine."""
    return echo(message, connection)


@conversation
async def talks(connection: Any) -> None:
    """Reply in a conversation."""
    async for message in connection:
        await connection.send(echo(message, connection))


@batch
def all_of(messages: list[bytes], connection: Any) -> list[bytes]:
    """Reply to all at once."""
    return [echo(message, connection) for message in messages]


class Notes:
    """An app with all parts, which notes their calls."""

    log: list[Any]

    def opened(self, connection: Any) -> bytes:
        self.log.append("opened")
        return b"hello " + connection.data.identity  # type: ignore[no-any-return]

    def received(self, message: bytes, connection: Any) -> bytes:
        self.log.append(message)
        return message

    def closed(self, connection: Any, reason: Any) -> None:
        self.log.append("closed")

    def draining(self, connection: Any) -> bytes:
        return b"goodbye"


FORMS = [echo, waits, talks, all_of]


@pytest.mark.parametrize("app", FORMS)
def test_no_message_reaches_the_app_before_a_login(app: Any) -> None:
    """Messages are credentials until one is valid. Then the app gets the messages, and knows the identity."""
    peer = Peer(authenticated(app, check, welcome=b"welcome", denied=b"denied"), timeouts=QUIET)
    peer.says(b"hello\nann wrong\n")
    assert peer.hears() == b"denied\ndenied\n"
    peer.says(b"ann right\nhello\n")
    assert (peer.hears(), peer.connection.data.identity) == (b"welcome\nann: hello\n", b"ann")
    peer.says(b"bob right\n")
    assert peer.hears() == b"ann: bob right\n"
    peer.clock.advance(60)
    assert (peer.connection.is_open, peer.clock.getDelayedCalls()) == (True, [])


@pytest.mark.parametrize("app", FORMS)
def test_wrong_tries_are_bounded(app: Any) -> None:
    """After the last wrong try the peer gets the reply, and the connection is closed. Later messages are dropped."""
    peer = Peer(authenticated(app, check, tries=2, denied=b"denied"), timeouts=QUIET)
    peer.says(b"1\n2\nann right\nhello\n")
    assert (peer.hears(), peer.closing) == (b"denied\ndenied\n", True)
    peer.leaves()
    assert (peer.reason.rule, peer.reason.value, peer.reason.limit) == ("login-failed", 2, 2)
    assert str(peer.reason) == "login-failed (by us): none of 2 message(s) was valid credentials"
    assert peer.told(AppFailed) == []


@pytest.mark.parametrize("app", FORMS)
def test_the_time_for_a_login_is_bounded(app: Any) -> None:
    """A peer that sends nothing, or wrong credentials, is closed in time."""
    peer = Peer(authenticated(app, check, within=5), timeouts=QUIET)
    peer.clock.advance(4)
    peer.says(b"hello\n")
    assert (peer.hears(), peer.closing) == (b"", False)
    peer.clock.advance(1)
    assert peer.closing
    peer.leaves()
    assert str(peer.reason) == "login-failed (by us): no valid credentials came in 5 s"
    assert (peer.told(AppFailed), peer.clock.getDelayedCalls()) == ([], [])


@pytest.mark.parametrize("app", FORMS)
def test_a_check_can_be_async(app: Any) -> None:
    """While the check waits, the messages behind the credentials wait, and none is taken for credentials."""
    checks: list[tuple[bytes, Deferred[Any]]] = []

    async def asks(message: bytes, connection: Any) -> Any:
        checks.append((message, Deferred()))
        return await checks[-1][1]

    peer = Peer(authenticated(app, asks), timeouts=QUIET)
    peer.says(b"ann right\nhello\nagain\n")
    assert ([message for message, _ in checks], peer.hears()) == ([b"ann right"], b"")
    checks[0][1].callback(b"ann")
    assert (len(checks), peer.hears()) == (1, b"ann: hello\nann: again\n")


@pytest.mark.parametrize("app", [echo, waits])
def test_messages_that_are_handled_at_once_wait_for_the_check(app: Any) -> None:
    """With `concurrency`, a message behind the credentials waits for the check, and needs none of its own."""
    checks: list[tuple[bytes, Deferred[Any]]] = []

    def asks(message: bytes, connection: Any) -> Deferred[Any]:
        checks.append((message, Deferred()))
        return checks[-1][1]

    peer = Peer(authenticated(app, asks, denied=b"denied"), timeouts=QUIET, concurrency=10)
    peer.says(b"1\n2\n3\n")
    assert [message for message, _ in checks] == [b"1"]
    checks[0][1].callback(None)
    assert [message for message, _ in checks] == [b"1", b"2"]
    checks[1][1].callback(b"ann")
    assert (len(checks), peer.hears()) == (2, b"denied\nann: 3\n")


def test_the_app_begins_with_the_login() -> None:
    """The app's `opened` is called at the login, and its greeting follows the welcome. Then `closed` is called, too."""
    log: list[Any] = []
    app = type("App", (Notes,), {"log": log})
    peer = Peer(authenticated(app, check, welcome=b"welcome"), timeouts=QUIET)
    assert log == []
    peer.says(b"ann right\nx\n")
    assert (peer.hears(), log) == (b"welcome\nhello ann\nx\n", ["opened", b"x"])
    peer.connection.drain()
    peer.leaves()
    assert (peer.hears(), log) == (b"goodbye\n", ["opened", b"x", "closed"])


def test_without_a_login_no_part_of_the_app_is_called() -> None:
    """An app does not learn of a connection that never logged in, nor of its drain, nor of its end."""
    log: list[Any] = []
    app = type("App", (Notes,), {"log": log})
    peer = Peer(authenticated(app, check), timeouts=QUIET)
    peer.says(b"x\n")
    peer.connection.drain()
    peer.leaves()
    assert (peer.hears(), log, peer.told(AppFailed)) == (b"", [], [])


def test_an_app_can_log_its_peer_out() -> None:
    """Without an identity, messages are credentials again. The app gets one `opened`, and its `closed` at the end."""
    log: list[Any] = []

    class App(Notes):
        def received(self, message: bytes, connection: Any) -> bytes:
            if message == b"log out":
                connection.data.identity = None
            return message

    App.log = log
    peer = Peer(authenticated(App, check, welcome=b"welcome", denied=b"denied"), timeouts=QUIET)
    peer.says(b"ann right\nlog out\nx\n")
    assert peer.hears() == b"welcome\nhello ann\nlog out\ndenied\n"
    peer.says(b"bob right\ny\nlog out\n")
    assert peer.hears() == b"welcome\ny\nlog out\n"
    peer.leaves()
    assert log == ["opened", "closed"]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("app", FORMS)
@pytest.mark.parametrize("said", [b"", b"wrong\n", b"ann right\nhello\n"])
def test_nothing_is_kept_of_an_ended_connection(app: Any, said: bytes) -> None:
    """Whether its peer has logged in or not, a connection is freed at its end."""
    peer = Peer(authenticated(app, check), timeouts=QUIET)
    if said:
        peer.says(said)
    peer.leaves()
    kept = ref(peer.connection)
    peer.connection = peer.transport.connection = None
    peer.events.clear()
    assert kept() is None


def test_a_greeting_is_the_only_reply_without_a_welcome() -> None:
    """Without `welcome`, the greeting of the app is the reply to valid credentials."""
    peer = Peer(authenticated(type("App", (Notes,), {"log": []}), check), timeouts=QUIET)
    peer.says(b"ann right\n")
    assert peer.hears() == b"hello ann\n"


def test_the_greeting_of_a_batch_app_comes_before_its_replies() -> None:
    """What `opened` returns at the login is sent before the replies to the messages behind the credentials."""

    class App:
        def opened(self, connection: Any) -> bytes:
            return b"hello " + connection.data.identity  # type: ignore[no-any-return]

        def received_all(self, messages: list[bytes], connection: Any) -> list[bytes]:
            return messages

    peer = Peer(authenticated(App, check, welcome=b"welcome", denied=b"denied"), timeouts=QUIET)
    peer.says(b"wrong\nann right\n1\n2\n")
    assert peer.hears() == b"denied\nwelcome\nhello ann\n1\n2\n"


@pytest.mark.parametrize("app", FORMS)
def test_an_error_of_the_check_lets_nobody_in(app: Any) -> None:
    """A check that raises is a failure of the app, and closes the connection."""

    def fails(message: bytes, connection: Any) -> Any:
        raise ZeroDivisionError

    peer = Peer(authenticated(app, fails), timeouts=QUIET)
    peer.says(b"ann right\nhello\n")
    peer.leaves()
    assert (peer.hears(), peer.reason.rule, len(peer.told(AppFailed))) == (b"", "app-failed", 1)


@pytest.mark.parametrize("app", FORMS)
def test_a_check_that_comes_too_late_lets_nobody_in(app: Any) -> None:
    """If the time is over while the check waits, its result does not matter."""
    result: Deferred[Any] = Deferred()
    peer = Peer(authenticated(app, lambda message, connection: result, within=5), timeouts=QUIET)
    peer.transport.stall()
    peer.connection.send(b"x" * 1000)  # its flush delays the end
    peer.says(b"ann right\nhello\n")
    peer.clock.advance(5)
    assert peer.connection.state is State.CLOSING
    result.callback(b"ann")
    assert not hasattr(peer.connection.data, "identity")
    peer.transport.go_on()
    peer.transport.turn()
    assert (peer.hears(), peer.reason.rule) == (b"x" * 1000 + b"\n", "login-failed")


def test_a_message_that_waited_for_a_failed_check_is_dropped() -> None:
    """With `concurrency`, messages that waited for the last wrong try are neither checked nor handled."""
    checks: list[bytes] = []
    result: Deferred[Any] = Deferred()

    def asks(message: bytes, connection: Any) -> Deferred[Any]:
        checks.append(message)
        return result

    peer = Peer(authenticated(echo, asks, tries=1), timeouts=QUIET, concurrency=10)
    peer.transport.stall()
    peer.connection.send(b"x" * 1000)
    peer.says(b"1\n2\n3\n")
    result.callback(None)
    assert (checks, peer.connection.state) == ([b"1"], State.CLOSING)
    peer.transport.go_on()
    peer.transport.turn()
    assert (peer.hears(), peer.told(AppFailed)) == (b"x" * 1000 + b"\n", [])


@pytest.mark.parametrize("app", FORMS)
def test_a_peer_that_leaves_before_its_login_is_no_failure(app: Any) -> None:
    """A peer that closes its side, or resets, without a login leaves nothing."""
    for end in (Peer.half_closes, Peer.resets):
        peer = Peer(authenticated(app, check), timeouts=QUIET)
        peer.says(b"hello\n")
        end(peer)
        peer.transport.turn()
        assert (peer.told(AppFailed), peer.clock.getDelayedCalls()) == ([], [])


def test_a_half_close_behind_the_credentials_is_answered() -> None:
    """A peer that sends its credentials and a request, and closes its side, gets the reply."""
    for app in FORMS:
        peer = Peer(authenticated(app, check), timeouts=QUIET)
        peer.says(b"ann right\nhello\n")
        peer.half_closes()
        assert (peer.hears(), peer.closing) == (b"ann: hello\n", True)


def test_a_connection_whose_opening_was_elsewhere_needs_a_login() -> None:
    """Without the call of `opened`, as on a connection from another process, no message reaches the app either."""
    app = authenticated(echo, check)
    peer = Peer(None, timeouts=QUIET)
    told = [outcome(ensureDeferred(app.received(each, peer.connection))) for each in (b"hello", b"ann right")]
    assert (told, peer.connection.data.identity) == ([[None], [None]], b"ann")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"check": 5}, "check=5: takes a function of"),
        ({"tries": 0}, "tries=0: takes a number above 0"),
        ({"within": True}, "within=True: takes a number above 0"),
        ({"within": "1"}, "within='1': takes a number above 0"),
    ],
)
def test_invalid_arguments_are_refused(options: Any, says: str) -> None:
    """`authenticated` takes a function for the check, and numbers above 0."""
    with pytest.raises(InvalidOption, match=says):
        authenticated(echo, **{"check": check, **options})


class Greets:
    """An app that sends its greeting, in place of returning it."""

    def opened(self, connection: Any) -> None:
        connection.send(b"hello")

    def received(self, message: bytes, connection: Any) -> bytes:
        return message


class GreetsAll:
    """The same for batches."""

    def opened(self, connection: Any) -> None:
        connection.send(b"hello")

    def received_all(self, messages: list[bytes], connection: Any) -> list[bytes]:
        return messages


@pytest.mark.parametrize(("app", "options"), [(Greets, {}), (Greets, {"concurrency": 4}), (GreetsAll, {})])
def test_the_welcome_comes_before_what_the_app_sends_when_it_opens(app: Any, options: dict[str, int]) -> None:
    """The replies to credentials come in order, and before a greeting that the app sends by itself."""
    peer = Peer(authenticated(app, check, welcome=b"welcome", denied=b"denied"), timeouts=QUIET, **options)
    peer.says(b"ann wrong\nann right\nhi\n")
    assert peer.hears() == b"denied\nwelcome\nhello\nhi\n"


@pytest.mark.parametrize("wrong", [5, lambda message: True, lambda: True], ids=["number", "one", "none"])
def test_a_check_takes_a_message_and_its_connection(wrong: Any) -> None:
    """A check with other arguments is refused at once, and not at the first login."""
    with pytest.raises(InvalidOption, match=r"check=.*: takes a function of \(message, connection\)"):
        authenticated(echo, wrong)


def test_a_check_without_a_signature_is_taken() -> None:
    """Some functions in C do not say what they take, and are called as they are."""
    peer = Peer(authenticated(echo, dict), timeouts=QUIET)
    assert peer.connection.is_open
