"""Limits, timeouts, policies and recovery: their defaults, their bounds, and their reasons."""

from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from tcpapp.errors import InvalidOption
from tcpapp.limits import Limits, Policies, Recovery, Timeouts, numbers_of

FIELDS = [field for kind in (Limits, Timeouts) for field in numbers_of(kind)]
NUMBERS = [pytest.param(kind, field.name, id=field.name) for kind in (Limits, Timeouts) for field in numbers_of(kind)]


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("max_connections", 1000),
        ("max_per_address", 0),
        ("max_per_network", 0),
        ("network_ipv4", 24),
        ("network_ipv6", 64),
        ("accept_rate", 1000),
        ("inbox_high", 64 * 1024),
        ("inbox_low", 32 * 1024),
        ("write_high", 64 * 1024),
        ("max_unsent", 32 * 1024 * 1024),
        ("max_requests", 1024),
        ("max_tasks", 100),
        ("messages_per_turn", 256),
        ("message_rate", 0),
        ("byte_rate", 0),
        ("max_buffered", 256 * 1024 * 1024),
        ("heartbeats_missed", 2),
        ("age_jitter", 10),
        ("keepalive_count", 4),
    ],
)
def test_limits_have_defaults(name: str, default: int) -> None:
    """A limit that is not given has this default."""
    assert default == getattr(Limits(), name)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("connect", 30.0),
        ("tls_handshake", 10.0),
        ("first_message", 60.0),
        ("message_timeout", 60.0),
        ("idle", 600.0),
        ("idle_read", 0.0),
        ("idle_write", 0.0),
        ("handler_timeout", 60.0),
        ("loop_stall", 1.0),
        ("max_age", 0.0),
        ("heartbeat", 60.0),
        ("keepalive", 60.0),
        ("keepalive_interval", 15.0),
        ("user_timeout", 120.0),
        ("request", 30.0),
        ("send_progress", 30.0),
        ("half_close", 30.0),
        ("grace", 5.0),
        ("drain", 15.0),
        ("drain_jitter", 5.0),
    ],
)
def test_timeouts_have_defaults(name: str, default: float) -> None:
    """A timeout that is not given has this default, in seconds."""
    assert default == getattr(Timeouts(), name)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_number_has_a_text_a_unit_and_a_reason(field: object) -> None:
    """Each number says what it bounds, in which unit, and why it has this default."""
    told = field.metadata  # type: ignore[attr-defined]
    assert told["what"]
    assert told["unit"] in {
        "connections",
        "bytes",
        "requests",
        "tasks",
        "seconds",
        "bits",
        "clients a second",
        "heartbeats",
        "percent",
        "probes",
        "messages",
        "messages a second",
        "microseconds",
        "bytes a second",
    }
    assert len(told["why"]) > 10


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_reason_names_a_source_or_says_our_choice(field: object) -> None:
    """The reason of a default names software or a standard, or says that the number is our choice."""
    assert re.search(
        r"our choice|RFC|Twisted|Netty|Redis|Kafka|Thousand Island|nginx|NATS|gRPC|RabbitMQ|Go's", field.metadata["why"]
    )  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_a_given_number_replaces_the_default(kind: type[Limits | Timeouts], name: str) -> None:
    """A number that is given has this value."""
    given = 30 if name.startswith(("network", "age", "keepalive")) else 40_000
    assert getattr(kind(**{name: given}), name) == given


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
@pytest.mark.parametrize("value", [-1, True, "10", None, math.nan, math.inf, -math.inf, [], 1j])
def test_a_value_that_is_no_finite_number_is_refused(kind: type[Limits | Timeouts], name: str, value: object) -> None:
    """A negative or infinite number, or a value that is no number, raises InvalidOption with the name of the option."""
    with pytest.raises(InvalidOption, match=rf"^{name}={re.escape(repr(value))}: takes a"):
        kind(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_connections": 0}, "max_connections=0: takes a whole number of connections, 1 or more"),
        ({"max_connections": 1.0}, "max_connections=1.0: takes a whole number of connections, 1 or more"),
        ({"inbox_high": 0}, "inbox_high=0: takes a whole number of bytes, 1 or more"),
        ({"inbox_low": -1}, "inbox_low=-1: takes a whole number of bytes, 0 or more"),
        ({"inbox_low": 9, "inbox_high": 8}, "inbox_low=9: takes at most inbox_high, which is 8"),
        ({"write_high": 0}, "write_high=0: takes a whole number of bytes, 1 or more"),
        ({"max_unsent": 0}, "max_unsent=0: takes a whole number of bytes, 1 or more"),
        ({"max_requests": 0}, "max_requests=0: takes a whole number of requests, 1 or more"),
        (
            {"max_per_address": -1},
            "max_per_address=-1: takes a whole number of connections, 0 or more (0: as many as max_connections)",
        ),
        (
            {"network_ipv4": 33},
            "network_ipv4=33: takes a whole number of bits, 0 to 32 (0: all addresses are one network)",
        ),
        (
            {"network_ipv6": 129},
            "network_ipv6=129: takes a whole number of bits, 0 to 128 (0: all addresses are one network)",
        ),
    ],
)
def test_an_invalid_limit_says_what_it_takes(settings: dict[str, int], says: str) -> None:
    """The error of an invalid limit has its name, its unit, and the numbers that it takes."""
    with pytest.raises(InvalidOption) as caught:
        Limits(**settings)
    assert says == str(caught.value)


@pytest.mark.parametrize(
    ("name", "zero"),
    [
        ("connect", "no limit"),
        ("request", "no limit"),
        ("send_progress", "no limit"),
        ("half_close", "no limit"),
        ("grace", "cut at once"),
        ("drain", "cut at once"),
    ],
)
def test_an_invalid_timeout_says_what_it_takes(name: str, zero: str) -> None:
    """The error of an invalid timeout has its name, its unit, the least number, and what 0 means."""
    with pytest.raises(InvalidOption) as caught:
        Timeouts(**{name: -0.5})
    assert f"{name}=-0.5: takes a number of seconds, 0 or more (0: {zero})" == str(caught.value)


def test_a_timeout_can_be_zero_or_a_fraction() -> None:
    """A timeout takes 0, and a fraction of a second."""
    assert Timeouts(grace=0).grace == 0
    assert Timeouts(grace=0.001).grace == 0.001


def test_the_low_mark_can_equal_the_high_mark_or_be_zero() -> None:
    """The low mark of the inbox can be equal to the high mark, or 0."""
    assert Limits(inbox_low=8, inbox_high=8).inbox_low == 8
    assert Limits(inbox_low=0).inbox_low == 0


def test_a_limit_can_be_too_large_for_a_float() -> None:
    """A whole number that is too large for a float is a valid limit."""
    assert Limits(max_unsent=10**400).max_unsent == 10**400


@pytest.mark.parametrize("numbers", [Limits(), Timeouts()])
def test_numbers_are_shared_and_so_cannot_change(numbers: Limits | Timeouts) -> None:
    """All connections of a factory share one `Limits` and one `Timeouts`, so their fields cannot be set."""
    with pytest.raises(FrozenInstanceError):
        numbers.drain = 1  # type: ignore[misc, union-attr]


@pytest.mark.parametrize("kind", [Limits, Timeouts, Recovery])
def test_the_reference_shows_each_number_with_its_reason(kind: type[Any]) -> None:
    """The docstring of `Limits`, `Timeouts` and `Recovery`, which the reference shows, has a line for each field."""
    lines = [line for line in (kind.__doc__ or "").splitlines() if line.startswith("- ")]
    assert [re.findall("``(.*?)``", line)[0] for line in lines] == [each.name for each in numbers_of(kind)]
    for line, each in zip(lines, numbers_of(kind), strict=True):
        assert f"{each.metadata['what']}." in line
        assert line.endswith(f" Its default: {each.metadata['why']}.")


def test_the_reference_shows_the_rule_and_the_side_of_a_number() -> None:
    """The line of a timeout names the rule by which it ends a connection, and the side that it means nothing to."""
    (idle,) = [line for line in (Timeouts.__doc__ or "").splitlines() if line.startswith("- ``idle``")]
    assert idle.startswith("- ``idle`` (600 seconds; 0: no limit): Close a server's connection after this long")
    assert "It ends a connection as ``idle``. It means nothing to a client." in idle
    (connect,) = [line for line in (Timeouts.__doc__ or "").splitlines() if line.startswith("- ``connect``")]
    assert "It means nothing to a server." in connect


def test_the_reference_shows_the_words_of_a_policy() -> None:
    """The docstring of `Policies` has a line for each policy, with its words, its default and its side."""
    lines = [line for line in (Policies.__doc__ or "").splitlines() if line.startswith("- ")]
    assert [re.findall("``(.*?)``", line)[0] for line in lines] == [each.name for each in fields(Policies)]
    assert lines[1].startswith("- ``over_per_address`` (``'refuse'`` or ``'reset'``; ``'refuse'`` by default): ")
    assert lines[1].endswith(" It means nothing to a client.")


def test_a_setting_of_one_side_names_its_side() -> None:
    """A setting that means nothing to one side names the other: a server connects nowhere, a client accepts nothing."""
    sides = {each.name: each.metadata["side"] for kind in (Limits, Timeouts, Policies) for each in fields(kind)}
    assert [name for name, side in sides.items() if side == "client"] == ["connect"]
    assert [name for name, side in sides.items() if side == "server"] == [
        "max_connections",
        "max_per_address",
        "max_per_network",
        "network_ipv4",
        "network_ipv6",
        "accept_rate",
        "proxy_header",
        "first_message",
        "idle",
        "loop_stall",
        "drain_jitter",
        "over_max_connections",
        "over_per_address",
        "missing_family",
    ]


@pytest.mark.parametrize("field", numbers_of(Timeouts), ids=lambda field: field.name)
def test_a_timeout_with_a_rule_has_a_text(field: Any) -> None:
    """A timeout that ends connections has a rule, and a text for the log with its number of seconds."""
    assert bool(field.metadata["rule"]) == ("{seconds:g} s" in field.metadata["overdue"])
    assert field.metadata["since"] in {"", "came", "sent", "passed", "heartbeat"}


# Policies ------------------------------------------------------------------------------------------------------------


def test_policies_have_defaults() -> None:
    """By default, clients without room are closed, connections over their rate wait, and no small write waits."""
    assert (Policies().over_max_connections, Policies().over_per_address, Policies().over_rate) == (
        "refuse",
        "refuse",
        "wait",
    )
    assert Policies().no_delay is True


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"over_max_connections": "rest"},
            "over_max_connections='rest': takes refuse or reset or wait; did you mean 'reset'?",
        ),
        ({"over_per_address": "wait"}, "over_per_address='wait': takes refuse or reset"),
        ({"over_rate": 1}, "over_rate=1: takes wait or refuse or reset"),
        ({"no_delay": "on"}, "no_delay='on': takes True or False"),
        ({"no_delay": 1}, "no_delay=1: takes True or False"),
    ],
)
def test_an_invalid_policy_says_what_it_takes(given: dict[str, Any], says: str) -> None:
    """The error of an invalid policy lists the words that the policy takes."""
    with pytest.raises(InvalidOption, match=f"^{re.escape(says)}$"):
        Policies(**given)


@pytest.mark.parametrize("field", fields(Policies), ids=lambda field: field.name)
def test_a_policy_takes_each_of_its_words_and_its_help_names_them(field: Any) -> None:
    """An operator reads in --help which words there are, and what each of them does."""
    for word in field.metadata["choices"]:
        assert getattr(Policies(**{field.name: word}), field.name) == word
        assert (f"({word})" if isinstance(word, str) else ": on or off.") in field.metadata["what"]


# Recovery ------------------------------------------------------------------------------------------------------------


def test_recovery_has_defaults() -> None:
    """Each number of `Recovery` has a default, a text and a reason."""
    recovery = Recovery()
    assert (recovery.first_wait, recovery.longest_wait, recovery.healthy_after, recovery.prepare) == (2, 30, 10, 10)
    assert (recovery.max_waiting, recovery.max_waiting_bytes) == (1024, 8 * 1024 * 1024)
    assert (recovery.retry_percent, recovery.retries_least) == (20, 10)
    assert all(each.metadata["why"] and each.metadata["what"] for each in numbers_of(Recovery))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"first_wait": 0}, "first_wait=0: takes a number of seconds, 0.001 or more"),
        ({"first_wait": 40}, "first_wait=40: takes at most longest_wait, which is 30.0"),
        ({"max_waiting": 0}, "max_waiting=0: takes a number of messages, 1 or more"),
        ({"retry_percent": 1001}, "retry_percent=1001: takes a number of percent, 0 to 1000"),
    ],
)
def test_an_invalid_recovery_says_what_it_takes(wrong: dict[str, float], says: str) -> None:
    """The error of an invalid number of `Recovery` names the numbers that it takes."""
    with pytest.raises(InvalidOption) as caught:
        Recovery(**wrong)
    assert str(caught.value) == says
