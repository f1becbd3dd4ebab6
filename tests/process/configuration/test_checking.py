"""The check of a configuration: from texts to settings, with all errors, and the app that is named."""

from __future__ import annotations

import re
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from tcpapp import Limits, Timeouts, apps, codecs
from tcpapp.errors import InvalidOption
from tcpapp.limits import Policies
from tcpapp.process.configuration.app_target import load_app
from tcpapp.process.configuration.checking import Checked, check
from tcpapp.process.configuration.problems import Problems
from tcpapp.process.configuration.sources import Given
from tests.framing.generators import memcached


def given(**values: Any) -> dict[str, Given]:
    """Return the values of an options file, with one text or several for each option."""
    names = {
        key.replace("_", "-"): (value,) if isinstance(value, str) else tuple(value) for key, value in values.items()
    }
    return {name: Given(texts, f"app.toml: {name}") for name, texts in names.items()}


def checked(**values: Any) -> Checked:
    """Return the result of the check of these values."""
    return check(given(**values), MemoryReactorClock())


def problems(**values: Any) -> list[str]:
    """Return all errors of these values."""
    with pytest.raises(Problems) as caught:
        checked(**values)
    return caught.value.texts


def problem(**values: Any) -> str:
    """Return the only error of these values."""
    [only] = problems(**values)
    return only


def test_an_option_that_is_not_given_has_its_default() -> None:
    """Without any value, each option has its default."""
    found = checked()
    assert (found.arguments["limits"], found.arguments["timeouts"], found.arguments["policies"]) == (
        Limits(),
        Timeouts(),
        Policies(),
    )
    assert (found.arguments["app"], found.arguments["codec"], found.arguments["heartbeat"], len(found.endpoints)) == (
        apps.echo,
        None,
        None,
        1,
    )
    assert (found.texts("listen"), found.texts("allow"), found.texts("app")) == (
        ("tcp:7007:interface=127.0.0.1",),
        (),
        ("echo",),
    )


def test_given_values_replace_the_defaults() -> None:
    """Given numbers, words, networks and a heartbeat message replace the defaults."""
    found = checked(
        listen=["tcp:0", "tcp6:0"],
        codec="text",
        heartbeat_message=r"pi\x6eg",
        allow=["192.0.2.0/24"],
        over_max_connections="wait",
        idle="0",
        no_delay="off",
    )
    policies, timeouts = found.arguments["policies"], found.arguments["timeouts"]
    assert (policies.no_delay, policies.over_max_connections, timeouts.idle) == (False, "wait", 0)
    assert (len(found.endpoints), found.arguments["heartbeat"]) == (2, "ping")
    assert isinstance(found.arguments["codec"], codecs.Text)
    assert [str(each) for each in found.arguments["networks"].allow] == ["192.0.2.0/24"]
    assert found.texts("allow") == ("192.0.2.0/24",)


def test_all_errors_are_reported_together() -> None:
    """All errors of a configuration are reported together, each with the place of its value."""
    found = problems(
        listen=["tcp:99999", "tcp:0"],
        framing="lin",
        codec="jsn",
        allow=["localhost"],
        deny=["192.0.2.1/24"],
        max_connections="many",
        drain="-1",
        over_max_connections="rest",
        app="ech",
    )
    places = [text.split(":", 2)[1].split("=")[0].strip() for text in found]
    assert places == [
        "listen",
        "framing",
        "codec",
        "allow",
        "deny",
        "max-connections",
        "drain",
        "over-max-connections",
        "app",
    ]
    assert all(text.startswith("app.toml: ") for text in found)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"inbox_low": "65537"},
            "app.toml: inbox-low=65537: takes at most the default of --inbox-high, which is 65536",
        ),
        ({"inbox_high": "8"}, "the default of --inbox-low=32768: takes at most app.toml: inbox-high, which is 8"),
        (
            {"inbox_low": "9", "inbox_high": "8"},
            "app.toml: inbox-low=9: takes at most app.toml: inbox-high, which is 8",
        ),
        ({"no_delay": "maybe"}, "app.toml: no-delay='maybe': takes on or off"),
        ({"listen": []}, "app.toml: listen: takes an endpoint, as tcp:7007:interface=127.0.0.1, or several"),
        ({"proxies": ["localhost"]}, "app.toml: proxies: 'localhost': takes a network or an address"),
        ({"heartbeat_message": "a:b"}, "app.toml: heartbeat-message: 'a:b': "),
        ({"heartbeat_message": r"a\nb"}, "app.toml: heartbeat-message: "),
        ({"heartbeat_message": "{", "codec": "json"}, "app.toml: heartbeat-message: '{': "),
    ],
)
def test_values_that_do_not_fit_together_are_reported(values: dict[str, Any], says: str) -> None:
    """When two values do not fit together, the error names both, with their sources."""
    assert problem(**values).startswith(says)


def test_messages_at_once_and_the_order_of_their_replies_are_read() -> None:
    """`concurrency` is a number, 1 by default, and `replies` one of two words."""
    assert (checked().arguments["concurrency"], checked().arguments["replies"]) == (1, "in-order")
    found = checked(concurrency="100", replies="as-ready").arguments
    assert (found["concurrency"], found["replies"]) == (100, "as-ready")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"concurrency": "0"}, "concurrency: 0: takes a number of messages, from 1 on"),
        ({"concurrency": "many"}, "concurrency: 'many': takes a number of messages, from 1 on"),
        ({"replies": "as-redy"}, "replies: 'as-redy': takes in-order or as-ready; did you mean 'as-ready'?"),
    ],
)
def test_other_values_of_concurrency_and_replies_are_reported(values: dict[str, str], says: str) -> None:
    """Each wrong value is reported with its place, and with what it takes."""
    assert problem(**values) == f"app.toml: {says}"


def test_a_concurrency_is_reported_for_a_conversation(tmp_path: Path) -> None:
    """A conversation takes one message at a time, which is found when its app is read. An unknown app is one error."""
    (tmp_path / "talking.py").write_text(MINE)
    values = given(concurrency="2", app="talking:talk")
    with pytest.raises(Problems) as caught:
        check(values, MemoryReactorClock(), str(tmp_path))
    assert len(caught.value.texts) == 1
    assert caught.value.texts[0].startswith("app.toml: concurrency: 2: takes no @conversation")
    assert problem(concurrency="2", app="ech").startswith("app.toml: app: ")


def test_two_marks_that_fit_each_other_are_right() -> None:
    """A low and a high mark are accepted if they fit each other, even if neither fits the other's default."""
    assert checked(inbox_low="100000", inbox_high="200000").arguments["limits"].inbox_low == 100_000
    assert checked(inbox_low="1", inbox_high="2").arguments["limits"].inbox_high == 2


def test_a_heartbeat_is_not_checked_without_a_valid_framing() -> None:
    """When the framing is invalid, only this is reported, and not the heartbeat message."""
    assert re.match("app.toml: framing: ", problem(framing="lin", heartbeat_message="ping"))


def test_a_framing_in_a_module_and_its_heartbeat() -> None:
    """The option `framing` takes module:name, and then a heartbeat is a message as it is on the wire."""
    found = checked(framing="tests.framing.generators:memcached:max=50", heartbeat_message=r"version\r\n")
    assert found.arguments["framing"] == memcached(max=50)
    assert found.arguments["heartbeat"] == ([b"version"], None)
    wrong = problem(framing="tests.framing.generators:memcached", heartbeat_message="version")
    assert "heartbeat-message: 'version': not one message of tests.framing.generators:memcached: the stream" in wrong


# The app --------------------------------------------------------------------------------------------------------------

MINE = """
import sys
from tcpapp import conversation

def app(message, connection):
    return message

class Room:
    def received(self, message, connection):
        return message

    class Inner:
        def opened(self, connection): pass

@conversation
async def talk(connection): pass

room = Room()
number = 5
nothing = None

def one(message): pass

class Empty: pass
"""


@pytest.mark.parametrize("name", sorted(apps.BUILT_IN))
def test_a_built_in_is_found_by_its_name(name: str) -> None:
    """`load_app` finds an app of tcpapp by its name."""
    assert load_app(name) is apps.BUILT_IN[name]


@pytest.mark.parametrize(
    "target", ["mine:app", "mine:Room", "mine:Room.Inner", "mine:room", "mine:talk", "deep.er:app"]
)
def test_an_app_is_found_in_the_current_directory(target: str, here: Path) -> None:
    """`load_app` finds any form of app in a module or package of the current directory, by a dotted name."""
    (here / "deep").mkdir()
    for path in ("mine.py", "deep/er.py"):
        (here / path).write_text(MINE)
    app = load_app(target)
    module, _, path = target.partition(":")
    assert app is attrgetter(path)(sys.modules[module])
    assert sys.path.count(str(here)) == 1
    assert load_app(target) is app
    assert sys.path.count(str(here)) == 1


def test_an_app_of_a_user_is_loaded(here: Path) -> None:
    """The option `app` takes module:name."""
    (here / "mine.py").write_text(MINE)
    assert checked(app="mine:app").arguments["app"] is sys.modules["mine"].app


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("ech", "time, upper; did you mean 'echo'?"),
        ("", "takes module:name, or one of"),
        ("mine", "takes module:name, or one of"),
        ("absent:app", "importing 'absent' failed: ModuleNotFoundError: No module named 'absent'"),
        ("mine.py:app", "importing 'mine.py' failed: ModuleNotFoundError"),
        (":app", "importing '' failed: ValueError: Empty module name"),
        (".mine:app", "importing '.mine' failed: TypeError"),
        ("mine:", "there is no '' in mine"),
        ("mine:rom", "there is no 'rom' in mine; did you mean 'room'?"),
        ("mine:room.receive", "there is no 'receive' in mine; did you mean 'received'?"),
        ("mine:number.app", "there is no 'app' in mine"),
        ("mine:app:more", "there is no 'app:more' in mine"),
        ("mine:number", "5 is no app: it takes a function of (message, connection)"),
        ("mine:one", "one(message): takes (message, connection)"),
        ("mine:Empty", "Empty: a class that is an app has any of opened, received and closed"),
        ("mine:sys", "<module 'sys' (built-in)> is no app"),
    ],
)
def test_a_target_without_an_app_is_refused(target: str, says: str, here: Path) -> None:
    """The error of a target without an app quotes the target, and names the missing part or a valid form."""
    (here / "mine.py").write_text(MINE)
    with pytest.raises(InvalidOption) as caught:
        load_app(target)
    assert str(caught.value).startswith(f"{target!r}: ")
    assert says in str(caught.value)
    assert says in problem(app=target)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import absent", "ModuleNotFoundError: No module named 'absent' ({path}, line 1)"),
        ("\n1 / 0", "ZeroDivisionError: division by zero ({path}, line 2)"),
        ("raise ValueError('two\\n  lines')", "ValueError: two lines ({path}, line 1)"),
        ("raise SystemExit(3)", "SystemExit: 3 ({path}, line 1)"),
        ("app = ", "SyntaxError: invalid syntax (broken.py, line 1)"),
        (
            "import tcpapp\n@tcpapp.conversation\ndef app(): pass",
            "InvalidOption: app: @conversation takes an async function",
        ),
        ("assert False", "AssertionError"),
    ],
)
def test_a_module_that_cannot_be_imported(source: str, says: str, here: Path) -> None:
    """When the module of an app raises, the error is one line with the exception and its place."""
    (here / "broken.py").write_text(source)
    said = problem(app="broken:app")
    assert said.startswith("app.toml: app: 'broken:app': importing 'broken' failed: ")
    assert says.format(path=here / "broken.py") in said


@pytest.mark.parametrize("app", apps.FRAMINGS)
def test_an_app_that_takes_one_framing_brings_it(app: str) -> None:
    """An app for the messages of one framing is served with this framing, without the option."""
    found = checked(app=app)
    assert str(found.arguments["framing"]) == apps.FRAMINGS[app]
    assert found.given["framing"] == Given((apps.FRAMINGS[app],), f"the app {app}")


def test_an_app_that_takes_one_framing_is_refused_with_another() -> None:
    """An app is refused with a framing whose messages it does not take; options of its framing are free."""
    assert problem(app="redis", framing="line") == "app.toml: framing='line': the app redis takes the framing resp"
    assert str(checked(app="redis", framing="resp:max=4096").arguments["framing"]) == "resp:max=4096"
