"""The token bucket: how long to wait, and how many items can come now."""

from __future__ import annotations

from tcpapp.limits.token_bucket import Pace


def test_as_many_may_come_at_once_as_in_a_second():
    """Then one after the other; a quiet second gives all of it back, and a quiet hour no more."""
    pace = Pace(4)
    assert [pace.wait(100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.25]
    assert pace.wait(100.25) == 0.25
    assert pace.wait(100.5) == 0.25
    for later in (102.0, 3702.0):
        assert [pace.wait(later) for _ in range(4)] == [0.0, 0.0, 0.0, 0.25]


def test_who_comes_too_fast_is_reckoned_up():
    """A turn of the reactor accepts several: the wait after it is as long as they need."""
    pace = Pace(10)
    assert [round(pace.wait(0.0), 9) for _ in range(12)][-3:] == [0.1, 0.2, 0.3]


def test_a_clock_that_is_set_back_gives_no_credit_and_takes_none():
    pace = Pace(2)
    assert pace.wait(100.0) == 0.0
    assert pace.wait(50.0) == 0.5
    assert pace.wait(50.5) == 0.5


def test_without_a_rate_nobody_waits():
    pace = Pace(0)
    assert {pace.wait(0.0) for _ in range(1000)} == {0.0}


def test_several_may_come_at_a_time():
    """Each counts; more than the credit make the next one wait for all of them."""
    pace = Pace(10)
    assert pace.credit(1.0) == 10
    assert pace.wait(1.0, 4) == 0.0
    assert pace.credit(1.0) == 6
    assert round(pace.wait(1.0, 16), 9) == 1.1
    assert pace.credit(2.0) == 0.0
    assert pace.until_next() == 0.1
    assert round(pace.credit(2.1), 9) == 1.0
    assert round(pace.until_next(), 9) == 0.0
