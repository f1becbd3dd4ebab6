"""Chat: names, joins and leaves, and what a member cannot do to other terminals and to the server."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tcpapp import Limits, MessageServerFactory, State, Timeouts
from tcpapp.apps.chat import HELP, LONGEST_LINE, Chat, Room, chat
from tests.peers import NotedTransport, joined

WELCOME = "Welcome. What is your name?"
BAD_NAME = "A name is 1 to 20 letters, digits, - and _. What is your name?"


class Client:
    """A user at a terminal that sends and reads lines."""

    def __init__(self, transport: NotedTransport) -> None:
        self.connection: Any = transport.connection
        self.transport = transport

    def say(self, line: str | bytes) -> None:
        self.transport.receive((line.encode() if isinstance(line, str) else line) + b"\n")

    def hear(self) -> list[str]:
        """Return the lines since the last call."""
        data = self.transport.value().decode()
        self.transport.clear()
        return data.splitlines()

    def leave(self) -> None:
        self.transport.reset()


class House:
    """A server with a room of its own."""

    def __init__(self, **options: Any) -> None:
        self.room = Room()
        app = type("ChatHere", (Chat,), {"room": self.room})
        self.factory = MessageServerFactory(app, clock=Clock(), **options)

    def enter(self, name: str | None = None) -> Client:
        """Connect a client, and return it; with a name, the client has joined and has read everything so far."""
        client = Client(joined(self.factory))
        if name is not None:
            client.say(name)
            client.hear()
        return client


def test_the_app_is_the_class() -> None:
    """The app is the class `Chat`: each connection has its own object, and all objects share one room."""
    assert chat is Chat
    assert Chat().room is Chat().room


# Names ----------------------------------------------------------------------------------------------------------------


def test_a_newcomer_is_asked_for_a_name() -> None:
    """A new client is asked for its name before it sends anything."""
    assert House().enter().hear() == [WELCOME]


@pytest.mark.parametrize("name", ["ann", "A", "0", "x" * 20, "ann-2_b", "Änne", "李", " ann ", "ann\r", "a\x1bnn"])
def test_a_valid_name_is_accepted(name: str) -> None:
    """A name has letters and digits of any script, - and _; control characters and outer blanks are removed."""
    house = House()
    client = house.enter()
    client.say(name)
    [member] = house.room.members
    assert client.hear()[1:] == [f"Hello, {member}. {HELP}"]
    assert member == name.replace("\x1b", "").strip()


@pytest.mark.parametrize("name", ["", " ", "x" * 21, "-ann", "_ann", "an n", "/who", "ann!", "a:b", "\x1b[2J", b"\xff"])
def test_an_invalid_name_is_refused(name: str | bytes) -> None:
    """An invalid name is refused, and the client can try again."""
    house = House()
    client = house.enter()
    client.say(name)
    assert client.hear()[1:] == [BAD_NAME]
    assert house.room.members == {}
    client.say("ann")
    assert list(house.room.members) == ["ann"]


def test_a_name_belongs_to_one_member() -> None:
    """A name of another member is refused until this member has left."""
    house = House()
    first, second = house.enter("ann"), house.enter()
    second.say("ann")
    assert second.hear()[1:] == ["ann is here already. What is your name?"]
    first.leave()
    second.say("ann")
    assert second.hear() == [f"Hello, ann. {HELP}"]


# Talking --------------------------------------------------------------------------------------------------------------


def test_a_line_of_a_member_goes_to_the_other_members() -> None:
    """A line goes with the sender's name to every other member, but not to a client without a name."""
    house = House()
    ann, bob, cem, stranger = house.enter("ann"), house.enter("bob"), house.enter("cem"), house.enter()
    for each in (ann, bob, stranger):
        each.hear()
    ann.say("hello")
    assert [each.hear() for each in (ann, bob, cem, stranger)] == [[], ["ann: hello"], ["ann: hello"], []]


def test_members_learn_of_joins_and_leaves() -> None:
    """Members learn that another member joins or leaves, but not that a client without a name leaves."""
    house = House()
    ann, stranger = house.enter("ann"), house.enter()
    bob = house.enter("bob")
    assert ann.hear() == ["* bob joined"]
    stranger.leave()
    assert ann.hear() == []
    bob.leave()
    assert ann.hear() == ["* bob left"]
    assert list(house.room.members) == ["ann"]


def test_the_command_who_lists_the_members() -> None:
    """`/who` lists the names of all members in order, also the sender's own name."""
    house = House()
    house.enter("cem")
    house.enter("ann")
    bob = house.enter("bob")
    house.enter()
    bob.say("/who")
    assert bob.hear() == ["Here: ann, bob, cem"]


def test_quit_says_goodbye() -> None:
    """`/quit` is answered, then the connection is closed, and the other members learn of it."""
    house = House()
    ann, bob = house.enter("ann"), house.enter("bob")
    ann.hear()
    bob.say("/quit")
    assert bob.hear() == ["Goodbye."]
    bob.transport.turn()
    assert bob.connection.state is State.CLOSED
    assert ann.hear() == ["* bob left"]


@pytest.mark.parametrize(("line", "word"), [("/dance", "/dance"), ("/", "/"), ("/who is", "/who"), ("/QUIT", "/QUIT")])
def test_an_unknown_command_is_reported_to_its_sender(line: str, word: str) -> None:
    """A mistyped command is reported to its sender, and not sent to other members."""
    house = House()
    ann, bob = house.enter("ann"), house.enter("bob")
    ann.hear()
    bob.say(line)
    assert (bob.hear(), ann.hear()) == ([f"There is no {word}. {HELP}"], [])


@pytest.mark.parametrize("line", ["", " ", "\t", "\x1b", "\x07\x07\x07"])
def test_a_line_without_words_is_not_passed_on(line: str) -> None:
    """A line without printable characters is not sent to other members."""
    house = House()
    ann, bob = house.enter("ann"), house.enter("bob")
    ann.hear()
    bob.say(line)
    assert (bob.hear(), ann.hear()) == ([], [])


@pytest.mark.parametrize(
    ("line", "heard"),
    [
        ("\x1b[2Jgone", "[2Jgone"),
        ("\x1b]0;title\x07x", "]0;titlex"),
        ("\x9b31mred", "31mred"),
        ("one\rann: two", "one ann: two"),
        ("bell\x07back\x08", "bellback"),
        ("a\0b", "ab"),
        ("\u202eright to left", "right to left"),
        ("\u2028new line", "new line"),
        ("tab\there", "tab here"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("grüße 李 ✓", "grüße 李 ✓"),
    ],
)
def test_control_characters_are_removed(line: str | bytes, heard: str) -> None:
    """No control character or line break of a member reaches other members; words of any script do."""
    house = House()
    ann, bob = house.enter("ann"), house.enter("bob")
    ann.hear()
    bob.say(line)
    assert ann.hear() == [f"bob: {heard}"]


def test_long_lines_are_cut() -> None:
    """A line is cut after `LONGEST_LINE` characters."""
    house = House()
    ann, bob = house.enter("ann"), house.enter("bob")
    ann.hear()
    bob.say("x" * (LONGEST_LINE + 1))
    assert ann.hear() == ["bob: " + "x" * LONGEST_LINE]


# Slow and closing members ---------------------------------------------------------------------------------------------


def test_a_member_that_left_needs_no_message(logged_errors: Any) -> None:
    """A member whose connection is closing gets no line; that is no error, and the other members get it."""
    house = House()
    ann, bob, cem = house.enter("ann"), house.enter("bob"), house.enter("cem")
    bob.hear()
    ann.transport.stall()
    bob.say("still there?")
    ann.connection.close()
    cem.say("hello?")
    assert bob.hear() == ["cem: hello?"]
    ann.transport.go_on()
    ann.transport.turn()
    assert ann.hear()[-1] == "bob: still there?"
    assert bob.hear() == ["* ann left"]
    assert logged_errors.take() == []


def test_a_slow_member_does_not_delay_the_others() -> None:
    """While a member reads nothing, the others get their lines; when it reads again, it gets all lines."""
    house = House(limits=Limits(write_high=100))
    slow, bob, cem = house.enter("slow"), house.enter("bob"), house.enter("cem")
    for each in (slow, bob):
        each.hear()
    slow.transport.stall()
    for number in range(100):
        cem.say(f"line {number}")
    lines = [f"cem: line {number}" for number in range(100)]
    assert (slow.hear(), bob.hear()) == ([], lines)
    slow.transport.go_on()
    slow.transport.turn()
    assert slow.hear() == lines


def test_a_member_that_reads_nothing_for_long_is_cut() -> None:
    """A member that reads nothing is cut when `max_unsent` bytes wait, and the other members learn of it."""
    house = House(limits=Limits(write_high=100, max_unsent=1000), timeouts=Timeouts(send_progress=30))
    slow, bob, cem = house.enter("slow"), house.enter("bob"), house.enter("cem")
    bob.hear()
    slow.transport.stall()
    for number in range(100):
        cem.say(f"line {number}")
    slow.transport.turn()
    assert slow.connection.when_closed().result.rule == "too-much-unsent"
    assert "* slow left" in bob.hear()
    assert sorted(house.room.members) == ["bob", "cem"]
