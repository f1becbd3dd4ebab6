"""The outbox keeps its order in any order of events."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from tests.connection.outboxes import CLOSED, HIGH, Rig
from tests.peers import outcome

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "send"]), st.integers(0, 45)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.sampled_from(["cork", "uncork", "flush", "flush"]), st.none()),
    ),
    max_size=40,
)


class Message:
    """The model's record of one message."""

    def __init__(self, data: bytes, deferred: Deferred[None] | None) -> None:
        self.data = data
        self.deferred = deferred
        self.told = [] if deferred is None else outcome(deferred)


class Model:
    """An outbox as a plain list of messages that were not withdrawn, beside the real one."""

    def __init__(self) -> None:
        self.rig = Rig(max_unsent=10**6)
        self.messages: list[Message] = []
        self.sends: list[Message] = []
        self.count = 0

    @property
    def stream(self) -> bytes:
        return b"".join(each.data for each in self.messages)

    def step(self, event: str, argument: Any) -> None:
        if event in ("write", "send"):
            self.count += 1
            data = bytes([self.count % 256]) * argument
            deferred = getattr(self.rig.outbox, event)(data)
            self.messages.append(Message(data, deferred))
            if deferred is not None:
                self.sends.append(self.messages[-1])
        elif event == "cancel":
            waiting = [each for each in self.sends if not each.told]
            if waiting:
                self.cancel(waiting[argument % len(waiting)])
        elif event == "flush":
            self.flush()
        else:
            getattr(self.rig.outbox, event)()

    def cancel(self, message: Message) -> None:
        """Cancel a send. If the transport has no byte of the message, it is withdrawn; otherwise it is sent."""
        place = self.messages.index(message)
        before = sum(len(each.data) for each in self.messages[:place])
        given = len(self.rig.transport.value())
        message.deferred.cancel()
        assert [CancelledError] == [type(each) for each in message.told]
        if given <= before:
            del self.messages[place]

    def end_of(self, message: Message) -> int:
        """Return where `message` ends in the stream."""
        return sum(len(each.data) for each in self.messages[: self.messages.index(message) + 1])

    def flush(self) -> None:
        """Flush the transport, and check that the sends whose bytes it had fire."""
        given, end, had = len(self.rig.transport.value()), 0, []
        for each in self.messages:
            end += len(each.data)
            if end <= given:
                had.append(each)
        self.rig.transport.flush()
        assert all(each.told for each in had if each.deferred is not None)

    def compare(self) -> None:
        outbox, given, stream = self.rig.outbox, self.rig.transport.value(), self.stream
        assert stream.startswith(given)
        assert len(stream) - len(given) == outbox.unsent + outbox._corked_size
        assert self.rig.transport.paused == outbox.blocked
        assert all(len(each.told) <= 1 for each in self.sends)
        assert outbox.blocked == bool(self.rig.deadlines.started)
        if not outbox.blocked:
            assert outbox.unsent == 0
            assert all(each.told for each in self.sends)
        assert self.rig.transport.kept <= 2 * HIGH


@given(events=EVENTS, flushed=st.booleans(), finished=st.booleans())
def test_the_transport_gets_all_that_was_not_withdrawn_in_order(
    events: list[tuple[str, Any]], flushed: bool, finished: bool
) -> None:
    """In any order of events, nothing is lost, doubled or reordered, and each `send` fires once."""
    model = Model()
    for event in events:
        model.step(*event)
        model.compare()
    if finished:
        model.rig.finish()
        while model.rig.transport.producer:
            model.flush()
        assert model.stream == model.rig.transport.value()
        assert (model.rig.outbox.unsent, model.rig.outbox._sends) == (0, 0)
    else:
        model.rig.outbox.uncork()
    given = len(model.rig.transport.value())
    waiting = [each for each in model.sends if not each.told]
    has = [model.end_of(each) <= given for each in waiting]
    model.rig.end(CLOSED, flushed)
    assert [[None] if flushed and all_given else [CLOSED] for all_given in has] == [each.told for each in waiting]
    assert all(len(each.told) == 1 for each in model.sends)
    assert model.rig.deadlines.started == ()


@given(events=EVENTS)
def test_a_peer_that_takes_all_gets_all(events: list[tuple[str, Any]]) -> None:
    """When the peer goes on reading, everything is sent, every `send` fires, and the sender is resumed."""
    model = Model()
    for event in events:
        model.step(*event)
    model.rig.outbox.uncork()
    while model.rig.outbox.blocked:
        model.step("flush", None)
    model.compare()
    assert model.stream == model.rig.transport.value()
    assert all(each.told for each in model.sends)
    assert model.rig.sender.events[-1:] in ([], ["resumed"])
