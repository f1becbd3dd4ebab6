"""The strategies: drawn messages can be sent, drawn chunks join to the stream, and each schedule ends."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.framing import Lines
from tcpapp.testing import strategies
from tcpapp.testing.strategies import Abort, Advance, Deliver, HalfClose, Leave, Read, Reset, Stall
from tests.framing.streams import FRAMINGS
from tests.patience import PATIENCE


@pytest.mark.exhaustive
@given(framing=st.sampled_from(FRAMINGS), data=st.data())
def test_messages_can_be_sent(framing, data):
    """Each message that `messages` draws can be sent by its framing."""
    message = data.draw(strategies.messages(framing))
    assert strategies.sendable(framing, message)


@given(strategies.messages(Lines(), longest=100))
def test_messages_are_at_most_as_long_as_longest(message):
    """`messages` draws no message longer than `longest`."""
    assert len(message) <= 100


@pytest.mark.exhaustive
@given(framing=st.sampled_from(FRAMINGS), data=st.data())
def test_cuts_join_to_the_stream(framing, data):
    """The chunks that `cuts` draws join to the stream."""
    stream = data.draw(strategies.streams(framing))
    assert b"".join(data.draw(strategies.cuts(stream))) == stream


@pytest.mark.exhaustive
@given(strategies.schedules(b"0123456789"))
def test_a_schedule_delivers_in_order_and_ends_once(events):
    """A schedule delivers the stream or its beginning in order, and has exactly one end, as its last event."""
    delivered = b"".join(each.data for each in events if isinstance(each, Deliver))
    assert b"0123456789".startswith(delivered)
    assert [each for each in events if isinstance(each, (Leave, Reset, Abort))] == events[-1:]
    assert all(0 <= each.seconds <= 3600 for each in events if isinstance(each, Advance))
    assert {type(each) for each in events} <= {Deliver, Advance, HalfClose, Leave, Reset, Abort, Stall, Read}


@pytest.mark.exhaustive
@given(strategies.schedules(st.just(b"x"), others=()))
def test_a_schedule_without_other_events(events):
    """With `others=()` a schedule has no event but chunks, waits, a half-close and an end."""
    assert {type(each) for each in events} <= {Deliver, Advance, HalfClose, Leave, Reset, Abort}


@pytest.mark.parametrize(
    ("module", "missing"),
    [("strategies", "hypothesis"), ("oracles", "hypothesis"), ("certificates", "trustme")],
)
def test_a_missing_package_is_named(module, missing):
    """When an optional package is missing, the error names the package, and the extra that installs it."""
    code = f"import sys; sys.modules[{missing!r}] = None; import tcpapp.testing.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1].lower()
    assert f"needs {missing}: pip install 'tcpapp[testing]'" in last
