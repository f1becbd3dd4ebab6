"""The token bucket: how long to wait for the next item, and how many items can come now."""

from __future__ import annotations

from tcpapp.limits.token_bucket import TokenBucket


def test_as_many_items_can_come_at_once_as_in_a_second():
    """With 4 items a second, 4 can come at once, then one each quarter; a quiet second or hour allows 4 again."""
    bucket = TokenBucket(4)
    assert [bucket.take(100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.25]
    assert bucket.take(100.25) == 0.25
    assert bucket.take(100.5) == 0.25
    for later in (102.0, 3702.0):
        assert [bucket.take(later) for _ in range(4)] == [0.0, 0.0, 0.0, 0.25]


def test_arrivals_over_the_rate_are_added_up():
    """Each item over the rate makes the wait longer, because one turn of the reactor can accept several clients."""
    bucket = TokenBucket(10)
    assert [round(bucket.take(0.0), 9) for _ in range(12)][-3:] == [0.1, 0.2, 0.3]


def test_a_clock_that_is_set_back_gives_no_credit_and_takes_none():
    """After the clock was set back, the wait is as long as without any time passed."""
    bucket = TokenBucket(2)
    assert bucket.take(100.0) == 0.0
    assert bucket.take(50.0) == 0.5
    assert bucket.take(50.5) == 0.5


def test_without_a_rate_no_item_waits():
    """With a rate of 0, every item can come at once."""
    bucket = TokenBucket(0)
    assert {bucket.take(0.0) for _ in range(1000)} == {0.0}


def test_several_items_can_come_at_a_time():
    """`take` counts several items; if these are more than available, the next item waits for all of them."""
    bucket = TokenBucket(10)
    assert bucket.available(1.0) == 10
    assert bucket.take(1.0, 4) == 0.0
    assert bucket.available(1.0) == 6
    assert round(bucket.take(1.0, 16), 9) == 1.1
    assert bucket.available(2.0) == 0.0
    assert bucket.until_next() == 0.1
    assert round(bucket.available(2.1), 9) == 1.0
    assert round(bucket.until_next(), 9) == 0.0


def test_another_bucket_goes_on_from_the_tokens_of_this_one():
    """Another bucket, on a clock of its own, goes on with the tokens or the debt of this one."""
    for taken in (3, 10, 25):
        bucket, other = TokenBucket(10), TokenBucket(10)
        bucket.take(1000.0, taken)
        other.load(5.0, bucket.available(1000.5))
        assert round(other.until_next(), 9) == round(bucket.until_next(), 9)
        assert round(other.available(6.0), 9) == round(bucket.available(1001.5), 9)


def test_a_bucket_goes_on_with_no_more_tokens_than_it_holds():
    """A bucket takes over at most as many tokens as it can hold, if the other bucket's rate was greater."""
    bucket = TokenBucket(4)
    bucket.load(5.0, 100.0)
    assert bucket.available(5.0) == 4


def test_a_rate_below_one_allows_an_item_now_and_then():
    """With an item every ten seconds, one can come at first, and never two at once."""
    bucket = TokenBucket(0.1)
    assert bucket.available(1000.0) == 1
    assert [bucket.take(1000.0) for _ in range(2)] == [10.0, 20.0]
    assert bucket.available(2000.0) == 1
    bucket.load(5.0, 7)
    assert bucket.available(5.0) == 1
