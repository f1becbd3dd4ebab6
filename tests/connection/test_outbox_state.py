"""The outbox of a connection, whose bytes another outbox sends."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from tcpapp.connection.outbox_state import OutboxState, dump_outbox, has_sends, load_outbox
from tests.connection.outboxes import Rig


def test_another_outbox_sends_what_this_one_has_not() -> None:
    """What waits, what a message has left, and what is gathered, in this order; this outbox keeps it."""
    rig, other = Rig(), Rig()
    rig.outbox.write(b"a" * 25)  # the transport has twenty of them
    rig.outbox.write(b"bb", 2)
    rig.outbox.write(b"c")
    rig.outbox.cork()
    rig.outbox.write(b"ddd", 3)
    rig.outbox.write(b"e")
    state = OutboxState(b"aaaaabbcddde", 8)
    assert state == dump_outbox(rig.outbox) == dump_outbox(rig.outbox)
    load_outbox(other.outbox, state)
    rig.outbox.uncork()
    for each in (rig, other):
        while each.outbox.behind:
            each.transport.flush()
    assert rig.transport.value() == b"a" * 20 + other.transport.value() == b"a" * 25 + b"bbcddde"
    assert (rig.outbox.messages, other.outbox.messages, other.outbox.bytes) == (8, 8, 12)


def test_an_outbox_whose_transport_has_all_bytes_holds_nothing() -> None:
    """The transport's own buffer is not its, and nothing is written for it."""
    rig, other = Rig(), Rig()
    assert dump_outbox(rig.outbox) == OutboxState(b"", 0)
    rig.block()
    assert dump_outbox(rig.outbox) == OutboxState(b"", 0)
    load_outbox(other.outbox, OutboxState(b"", 0))
    assert other.transport.writes == []


def test_a_send_waits_until_the_transport_takes_more() -> None:
    """Whether its bytes wait here, or the transport has them and is over its mark."""
    rig = Rig()
    assert not has_sends(rig.outbox)
    rig.block()
    rig.outbox.write(b"a")
    assert not has_sends(rig.outbox)
    rig.outbox.send(b"b" * 45)
    assert has_sends(rig.outbox)
    while rig.outbox.blocked:
        assert has_sends(rig.outbox)
        rig.transport.flush()
    assert not has_sends(rig.outbox)


def test_a_send_that_was_cancelled_waits_no_longer() -> None:
    """Its bytes still do, where the transport has a part of them."""
    rig = Rig()
    sent = rig.outbox.send(b"b" * 45)
    sent.addErrback(lambda failure: failure.trap(CancelledError))
    sent.cancel()
    assert (has_sends(rig.outbox), dump_outbox(rig.outbox)) == (False, OutboxState(b"b" * 25, 1))
