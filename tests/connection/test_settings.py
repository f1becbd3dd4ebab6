"""The common settings of one factory's connections: the defaults, and errors before anything is opened."""

from __future__ import annotations

from dataclasses import fields
from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from tcpapp import telemetry as told
from tcpapp.codecs import Json, Text
from tcpapp.connection.handlers import Handlers
from tcpapp.connection.settings import CHANGEABLE, SET_OF, Options, Settings
from tcpapp.errors import InvalidFraming, InvalidOption
from tcpapp.framing import Lines, Netstrings
from tcpapp.limits import Limits, Policies, Timeouts
from tcpapp.limits.networks import Networks
from tcpapp.telemetry import LateReply, Telemetry


def echo(message, connection):
    return message


def test_every_setting_has_a_default() -> None:
    """By default there are lines of bytes, no app, and all limits and timeouts."""
    settings = Settings()
    assert (None, Lines, None, None, None) == (
        settings.app,
        type(settings.framing),
        settings.codec,
        settings.key,
        settings.clock,
    )
    assert (Limits(), Timeouts()) == (settings.limits, settings.timeouts)
    handlers = settings.handlers()
    assert [getattr(handlers, name) for name in Handlers.__slots__] == [None] * 7


def test_every_setting_is_kept() -> None:
    """Each given value is kept, under the same name."""
    given: dict[str, Any] = {
        "app": echo,
        "framing": Netstrings(),
        "codec": Json(),
        "limits": Limits(max_requests=1),
        "timeouts": Timeouts(grace=1),
        "key": len,
        "clock": Clock(),
        "telemetry": Telemetry(),
        "networks": Networks(deny=["192.0.2.0/24"]),
        "policies": Policies(over_max_connections="wait"),
        "proxies": Networks(allow=["10.0.0.0/8"]),
        "heartbeat": {"ping": 1},
        "random": Random(1),
        "concurrency": 7,
        "replies": "as-ready",
    }
    settings = Settings(**given)
    assert given == {name: getattr(settings, name) for name in given}
    assert set(Options.__annotations__) == set(given) - {"app", "framing"}


def test_every_option_can_be_none() -> None:
    """`None` is accepted for each option, and means its default."""
    given, default = Settings(**dict.fromkeys(Options.__annotations__)), Settings()  # type: ignore[misc]
    for name in Options.__annotations__:
        assert type(getattr(default, name)) is type(getattr(given, name))
    assert (Limits(), Timeouts()) == (given.limits, given.timeouts)


def test_specs_are_read() -> None:
    """A framing and a codec can be given as their specs."""
    settings = Settings(None, "netstring:max=10", codec="text")
    assert (Netstrings, 10, Text) == (type(settings.framing), settings.framing.max, type(settings.codec))


def test_the_app_speaks_the_codec() -> None:
    """With a codec, `handlers()` decodes the messages for the app, and encodes its replies."""
    assert Settings(echo, codec="json").handlers().received(b"[1]", None) == b"[1]"


def test_the_log_listens_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the telemetry has only a log, and each factory has a telemetry of its own."""
    events: list[Any] = []
    monkeypatch.setattr("tcpapp.connection.settings.RateLimitedLog", lambda: events.append)
    settings = Settings()
    event = LateReply(None)  # type: ignore[arg-type]
    settings.telemetry.emit(event)
    assert ([event], True) == (events, bool(settings.telemetry))
    assert settings.telemetry is not Settings().telemetry


def test_no_event_is_made_of_a_near_limit_without_a_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    """`limit_near()` makes no event if the telemetry has no listener."""
    monkeypatch.setattr("tcpapp.connection.settings.LimitNear", None)  # to make one would raise
    Settings(telemetry=Telemetry()).limit_near("max_buffered", 80, 100)


def test_telemetry_without_a_listener_stays_silent() -> None:
    """A given telemetry is not replaced by the log, although it is false without a listener."""
    silent = Telemetry()
    assert (silent, False) == (Settings(telemetry=silent).telemetry, bool(silent))


# What can change ------------------------------------------------------------------------------------------------------


def test_single_values_change_by_their_names() -> None:
    """A value changes by its name, in whichever set it is, and all others stay."""
    settings = Settings(limits=Limits(max_connections=10, message_rate=5), timeouts=Timeouts(grace=1))
    settings.change(message_rate=3, idle=7, over_max_connections="wait", max_buffered=1000)
    assert settings.limits == Limits(max_connections=10, message_rate=3, max_buffered=1000)
    assert (settings.timeouts, settings.policies) == (Timeouts(grace=1, idle=7), Policies(over_max_connections="wait"))
    assert settings.memory_budget.limit == 1000


def test_values_that_depend_on_each_other_change_together() -> None:
    """Two values that depend on each other change together, in whichever order they are given."""
    for names in (("inbox_high", "inbox_low"), ("inbox_low", "inbox_high")):
        settings = Settings(limits=Limits(inbox_high=100, inbox_low=50))
        settings.change(**{name: {"inbox_high": 10, "inbox_low": 5}[name] for name in names})
        assert settings.limits == Limits(inbox_high=10, inbox_low=5)


def test_a_whole_set_replaces_the_current_one() -> None:
    """In a new set, values without a name have their defaults. A value that is given besides changes the new set."""
    settings = Settings(limits=Limits(max_connections=10, message_rate=5))
    settings.change(limits=Limits(byte_rate=100), max_unsent=1000, timeouts=None)
    assert settings.limits == Limits(byte_rate=100, max_unsent=1000)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"max_connections": 5, "idle": -1}, InvalidOption, "idle=-1: takes a number of seconds"),
        ({"max_connections": 0, "idle": 1}, InvalidOption, "max_connections=0: takes a whole number"),
        ({"max_connections": None}, InvalidOption, "max_connections=None: takes a whole number"),
        (
            {"max_connections": 5, "over_max_connections": "maybe"},
            InvalidOption,
            "over_max_connections='maybe': takes refuse or reset or wait",
        ),
        ({"inbox_low": 100_000}, InvalidOption, "inbox_low"),
        ({"max_connections": 5, "limits": 7}, InvalidOption, "limits=7: takes a Limits"),
        ({"max_connections": 5, "networks": {}}, InvalidOption, "networks={}: takes a Networks"),
        (
            {"idle": 5, "max_conections": 5},
            TypeError,
            "max_conections: there is no such setting to change; did you mean 'max_connections'?",
        ),
        ({"codec": "json"}, TypeError, "codec: there is no such setting to change"),
    ],
)
def test_all_changes_hold_or_none(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    """If one change is invalid, nothing changes, and the error names the invalid one."""
    settings = Settings(limits=Limits(message_rate=5))
    before = [getattr(settings, name) for name in CHANGEABLE]
    with pytest.raises(error) as caught:
        settings.change(**changes)
    assert text in str(caught.value)
    assert all(getattr(settings, name) is each for name, each in zip(CHANGEABLE, before, strict=True))
    assert settings.memory_budget.limit == settings.limits.max_buffered


def test_every_value_has_a_name_of_its_own() -> None:
    """No name is in two sets, and no value has the name of a set."""
    names = [each.name for kind in (Limits, Timeouts, Policies) for each in fields(kind)]
    assert sorted([*SET_OF, *CHANGEABLE]) == sorted({*names, *CHANGEABLE})
    assert len(names) == len(SET_OF)


# Invalid settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"framing": "no-such"}, InvalidFraming, "no-such"),
        ({"codec": "no-such"}, InvalidOption, "no-such"),
        ({"limits": 5}, InvalidOption, "limits=5: takes a Limits"),
        ({"limits": Timeouts()}, InvalidOption, f"limits={Timeouts()!r}: takes a Limits"),
        ({"limits": Limits}, InvalidOption, f"limits={Limits!r}: takes a Limits"),
        ({"limits": 0}, InvalidOption, "limits=0: takes a Limits"),
        ({"timeouts": {"grace": 1}}, InvalidOption, "timeouts={'grace': 1}: takes a Timeouts"),
        ({"telemetry": False}, InvalidOption, "telemetry=False: takes a Telemetry"),
        ({"telemetry": told.log}, InvalidOption, f"telemetry={told.log!r}: takes a Telemetry"),
        ({"key": "id"}, InvalidOption, "key='id': takes a function"),
        ({"app": 5}, InvalidOption, "5 is no app"),
        (
            {"limit": Limits()},
            TypeError,
            "unknown argument 'limit': there are codec, limits, timeouts, policies, key, clock,",
        ),
        ({"zeal": 1, "aim": 1}, TypeError, "unknown argument 'aim': there are codec,"),
        ({"concurency": 4}, TypeError, "; did you mean 'concurrency'?"),
        ({"body_timeout": 4}, TypeError, "unknown argument 'body_timeout': write timeouts=Timeouts(body_timeout=…)"),
    ],
    ids=[
        "framing",
        "codec",
        "limits",
        "timeouts-for-limits",
        "a-class",
        "falsy-limits",
        "timeouts",
        "falsy-telemetry",
        "a-listener",
        "key",
        "app",
        "misspelt",
        "two-unknown",
        "similar",
        "a-field-of-a-set",
    ],
)
def test_an_invalid_setting_is_refused(given: dict[str, Any], error: type[Exception], text: str) -> None:
    """An invalid setting is refused at once, by an error that names the setting and its valid values."""
    with pytest.raises(error) as caught:
        Settings(**given)
    assert text in str(caught.value)
