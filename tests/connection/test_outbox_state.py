"""The state of an outbox: another outbox sends its bytes."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from tcpapp.connection.outbox_state import OutboxState, dump_outbox, has_sends, load_outbox
from tests.connection.outboxes import Rig


def test_another_outbox_sends_the_unsent_bytes() -> None:
    """Another outbox sends waiting, begun and gathered bytes in order, and the first outbox keeps its own."""
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
    """Bytes in the transport's own buffer are not in the state, and loading an empty state writes nothing."""
    rig, other = Rig(), Rig()
    assert dump_outbox(rig.outbox) == OutboxState(b"", 0)
    rig.block()
    assert dump_outbox(rig.outbox) == OutboxState(b"", 0)
    load_outbox(other.outbox, OutboxState(b"", 0))
    assert other.transport.writes == []


def test_has_sends_is_true_while_a_send_waits() -> None:
    """`has_sends` is true while a `send()` waits, and false for replies and after the last byte was taken."""
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


def test_a_cancelled_send_does_not_count_for_has_sends() -> None:
    """A cancelled `send()` does not wait, although the rest of its begun message is in the state."""
    rig = Rig()
    sent = rig.outbox.send(b"b" * 45)
    sent.addErrback(lambda failure: failure.trap(CancelledError))
    sent.cancel()
    assert (has_sends(rig.outbox), dump_outbox(rig.outbox)) == (False, OutboxState(b"b" * 25, 1))
