"""The values of toxics, and the errors of invalid ones."""

from __future__ import annotations

import math

import pytest

from tcpapp.errors import InvalidOption
from tcpapp.testing.faultproxy.kinds import KINDS, checked, checked_stream, checked_toxicity

RIGHT = {
    "latency": ({"latency": 1}, {"latency": 1, "jitter": 0.0}),
    "bandwidth": ({"rate": 0.5}, {"rate": 0.5}),
    "slow_close": ({"delay": 0}, {"delay": 0}),
    "timeout": ({}, {"timeout": 0.0}),
    "reset_peer": ({"timeout": 3}, {"timeout": 3}),
    "slicer": ({"average_size": 2}, {"average_size": 2, "size_variation": 0, "delay": 0.0}),
    "limit_data": ({"bytes": 0}, {"bytes": 0}),
}


@pytest.mark.parametrize("name", KINDS)
def test_values_that_are_left_out_have_their_defaults(name):
    """Attributes of a toxic that are not given have their defaults."""
    given, expected = RIGHT[name]
    assert checked(name, given) == expected


WRONG = {
    "no such toxic": ("latncy", {}, "'latncy' is no toxic; there are latency, .*; did you mean 'latency'"),
    "nothing like a toxic": (7, {}, "7 is no toxic; there are latency, .*limit_data$"),
    "down": ("down", {}, r"'down' is the whole proxy's: await proxy\.disable\(\)"),
    "no such attribute": (
        "latency",
        {"latency": 1, "jiter": 1},
        "latency has no 'jiter'; it takes latency, jitter, toxicity; did you mean 'jitter'",
    ),
    "one is missing": ("bandwidth", {}, "bandwidth needs rate=: bytes a second, 0"),
    "one more is missing": ("limit_data", {}, "limit_data needs bytes=: a whole number of bytes"),
    "less than nothing": ("latency", {"latency": -1}, "latency: latency=-1: takes a number of seconds, 0 or more"),
    "no number": ("slow_close", {"delay": "1"}, "slow_close: delay='1': takes a number of seconds"),
    "NaN": ("timeout", {"timeout": math.nan}, "timeout: timeout=nan: takes a number of seconds"),
    "infinity": ("reset_peer", {"timeout": math.inf}, "reset_peer: timeout=inf: takes a number of seconds"),
    "a truth": ("bandwidth", {"rate": True}, "bandwidth: rate=True: takes bytes a second"),
    "half a byte": ("limit_data", {"bytes": 0.5}, "limit_data: bytes=0.5: takes a whole number of bytes, 0 or more"),
    "slices of nothing": ("slicer", {"average_size": 0}, "slicer: average_size=0: takes a whole number of bytes, 1"),
    "slices that may be of nothing": (
        "slicer",
        {"average_size": 3, "size_variation": 3},
        "slicer: size_variation=3: takes less than average_size, which is 3",
    ),
}


@pytest.mark.parametrize(("name", "given", "said"), WRONG.values(), ids=WRONG)
def test_invalid_values_of_toxics_are_refused(name, given, said):
    """The error names the invalid value, and says which values are valid."""
    with pytest.raises(InvalidOption, match=said):
        checked(name, given)


def test_a_stream_names_its_directions():
    """`upstream` and `downstream` name one direction each, and `both` names both."""
    assert checked_stream("downstream") == ("downstream",)
    assert checked_stream("upstream") == ("upstream",)
    assert checked_stream("both") == ("upstream", "downstream")


@pytest.mark.parametrize(
    ("stream", "said"),
    [("upstraem", "stream='upstraem': takes downstream, upstream, both; did you mean 'upstream'"), (None, "None")],
)
def test_an_invalid_stream_is_refused(stream, said):
    """An unknown stream is refused, and the error lists the known ones and suggests the nearest."""
    with pytest.raises(InvalidOption, match=said):
        checked_stream(stream)


@pytest.mark.parametrize("toxicity", [0, 0.5, 1.0])
def test_a_probability_is_a_toxicity(toxicity):
    """A probability from 0 to 1 is a valid toxicity."""
    assert checked_toxicity(toxicity) == toxicity


@pytest.mark.parametrize("toxicity", [-0.1, 1.1, "1", math.nan, True])
def test_an_invalid_toxicity_is_refused(toxicity):
    """A toxicity that is no number from 0 to 1 is refused."""
    with pytest.raises(InvalidOption, match=r"toxicity=.*: takes a probability, from 0\.0"):
        checked_toxicity(toxicity)
