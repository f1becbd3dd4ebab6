"""A number of messages a second for each connection: messages over it wait, or are refused."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp import batch, conversation
from tcpapp.apps.middleware import rate_limited
from tcpapp.errors import InvalidOption
from tcpapp.limits import Timeouts
from tests.peers import Peer

QUIET = Timeouts(first_message=0, idle=0, handler_timeout=0, half_close=0)


def echo(message: bytes, connection: Any) -> bytes:
    """Reply with the message."""
    return message


async def waits(message: bytes, connection: Any) -> bytes:
    """Reply with the message, as a coroutine."""
    return message


@conversation
async def talks(connection: Any) -> None:
    """Reply in a conversation."""
    async for message in connection:
        await connection.send(message)


@batch
def all_of(messages: list[bytes], connection: Any) -> list[bytes]:
    """Reply to all at once."""
    return messages


@batch
def none_of(messages: list[bytes], connection: Any) -> None:
    """Reply to none."""


@pytest.mark.parametrize("app", [echo, waits, talks])
def test_messages_over_the_rate_wait(app: Any) -> None:
    """With two messages a second, two are answered at once, and then one each half second, in order."""
    peer = Peer(rate_limited(app, 2), timeouts=QUIET)
    peer.says(b"1\n2\n3\n4\n5\n")
    assert peer.hears() == b"1\n2\n"
    peer.clock.advance(0.4)
    assert peer.hears() == b""
    peer.clock.advance(0.1)
    assert peer.hears() == b"3\n"
    peer.clock.pump([0.5, 0.5])
    assert peer.hears() == b"4\n5\n"
    peer.clock.advance(10)
    peer.says(b"6\n7\n8\n")
    assert peer.hears() == b"6\n7\n"


def test_each_connection_has_a_rate_of_its_own() -> None:
    """One connection that is over its rate does not slow another one."""
    app = rate_limited(echo, 1)
    fast, other = Peer(app, timeouts=QUIET), Peer(app, timeouts=QUIET)
    fast.says(b"1\n" * 10)
    other.says(b"1\n")
    assert (fast.hears(), other.hears()) == (b"1\n", b"1\n")


def test_a_connection_over_its_rate_is_not_read_from() -> None:
    """Messages that wait fill the inbox, and then reading stops, so that TCP makes the peer wait."""
    peer = Peer(rate_limited(echo, 1), timeouts=QUIET)
    peer.says(b"x" * 1000 + b"\n")
    for _ in range(200):
        peer.says(b"x" * 1000 + b"\n")
    assert peer.paused


def test_a_rate_below_one_is_a_message_now_and_then() -> None:
    """With 0.1 messages a second, one is answered at once, and then one each ten seconds."""
    peer = Peer(rate_limited(echo, 0.1), timeouts=QUIET)
    peer.says(b"1\n2\n3\n")
    assert peer.hears() == b"1\n"
    peer.clock.pump([10, 9])
    assert peer.hears() == b"2\n"
    peer.clock.advance(1)
    assert peer.hears() == b"3\n"


@pytest.mark.parametrize("app", [echo, waits, talks, all_of])
def test_messages_over_the_rate_can_be_refused(app: Any) -> None:
    """With a reply, messages over the rate get it at once, and do not count."""
    peer = Peer(rate_limited(app, 2, reply=b"slow down"), timeouts=QUIET)
    peer.says(b"1\n2\n3\n4\n")
    assert peer.hears() == b"1\n2\nslow down\nslow down\n"
    peer.says(b"5\n")
    assert peer.hears() == b"slow down\n"
    peer.clock.advance(0.5)
    peer.says(b"6\n7\n")
    assert peer.hears() == b"6\nslow down\n"


def test_a_batch_waits_as_a_whole() -> None:
    """A batch is handled when the rate allows all of its messages."""
    peer = Peer(rate_limited(all_of, 2), timeouts=QUIET)
    peer.says(b"1\n2\n")
    peer.says(b"3\n4\n5\n")
    assert peer.hears() == b"1\n2\n"
    peer.clock.advance(1.4)
    assert peer.hears() == b""
    peer.clock.advance(0.1)
    assert peer.hears() == b"3\n4\n5\n"


def test_a_batch_without_replies_can_be_cut() -> None:
    """The messages of a batch over the rate are refused, also if the app replies to none."""
    peer = Peer(rate_limited(none_of, 2, reply=b"no"), timeouts=QUIET)
    peer.says(b"1\n2\n3\n")
    assert peer.hears() == b"no\n"


@pytest.mark.parametrize("app", [echo, talks])
def test_a_message_that_waits_leaves_no_timer_at_the_end(app: Any) -> None:
    """When the connection ends, a message that waits for the rate is dropped, and its timer is cancelled."""
    peer = Peer(rate_limited(app, 1), timeouts=QUIET)
    peer.says(b"1\n2\n")
    peer.resets()
    assert (peer.hears(), peer.clock.getDelayedCalls()) == (b"1\n", [])


@pytest.mark.parametrize("number", [0, -1, float("inf"), float("nan"), "5", None, True])
def test_an_invalid_rate_is_refused(number: Any) -> None:
    """`rate_limited` takes a finite number above 0."""
    with pytest.raises(InvalidOption, match=r"^rate_limited: per_second=.*: takes a number above 0$"):
        rate_limited(echo, number)
