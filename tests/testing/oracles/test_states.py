"""`check_framing`: a framing that loses a part of its state, or accepts a wrong one, is named."""

from __future__ import annotations

from itertools import count
from typing import ClassVar

import pytest

from tcpapp.errors import InvalidState
from tcpapp.framing import Framing
from tcpapp.testing.oracles import check_framing
from tests.testing.oracles.own import Own


class Numbering(Own):
    """A framing that counts its messages, and writes the count into its state."""

    __slots__ = ("count",)

    def _start(self):
        super()._start()
        self.count = 0

    def receive(self, chunk):
        messages = super().receive(chunk)
        self.count += len(messages)
        return messages

    def _write_state(self, state):
        super()._write_state(state)
        state.write_number(self.count)

    def _read_state(self, state):
        super()._read_state(state)
        self.count = state.read_number("count")


def test_a_framing_that_writes_its_state_passes():
    """A framing with `_write_state` and `_read_state` keeps every promise."""
    check_framing(Numbering, examples=20, costs=False)


# Faults --------------------------------------------------------------------------------------------------------------


class WritesNothing(Numbering):
    """A framing that counts its messages, and does not write the count."""

    __slots__ = ()

    def _write_state(self, state):
        Own._write_state(self, state)

    def _read_state(self, state):
        Own._read_state(self, state)


class RaisesWhenDumped(Own):
    __slots__ = ()

    def dump(self):
        raise RuntimeError("not now")


class DumpsText(Own):
    __slots__ = ()

    def dump(self):
        return super().dump().decode("latin-1")


class RefusesItsOwn(Own):
    """A framing that refuses to load a state with held bytes."""

    __slots__ = ()

    def load(self, state):
        super().load(state)
        if self._held:
            self._start()
            raise InvalidState("too much")


class ForgetsHeldBytes(Own):
    __slots__ = ()

    def load(self, state):
        super().load(state)
        self._held = b""


class Otherwise(Own):
    """A framing that receives other messages while it is in `marked`, which is in no state."""

    __slots__ = ()
    marked: ClassVar[list[Framing]] = []

    def receive(self, chunk):
        messages = super().receive(chunk)
        return [each.upper() for each in messages] if any(each is self for each in self.marked) else messages


class OtherwiseWhenLoaded(Otherwise):
    __slots__ = ()

    def load(self, state):
        super().load(state)
        self.marked.append(self)


class OtherwiseOnceDumped(Otherwise):
    __slots__ = ()

    def dump(self):
        self.marked.append(self)
        return super().dump()


class ChangedByDump(Own):
    __slots__ = ()

    def dump(self):
        state = super().dump()
        self._held = b""
        return state


class DumpsAnew(Own):
    """A framing that dumps another state each time."""

    __slots__ = ()
    numbers = count()

    def _write_state(self, state):
        super()._write_state(state)
        state.write_number(next(self.numbers))

    def _read_state(self, state):
        super()._read_state(state)
        state.read_number("dumps")


class DumpsAFailure(Own):
    __slots__ = ()

    def dump(self):
        failure, self.failure = self.failure, None
        try:
            return super().dump()
        finally:
            self.failure = failure


class RaisesAnythingAfterAFailure(Own):
    __slots__ = ()

    def dump(self):
        if self.failure is not None:
            raise RuntimeError("it is over")
        return super().dump()


class AcceptsAPart(Own):
    """A framing that loads a wrong state as the state of a fresh stream."""

    __slots__ = ()

    def load(self, state):
        try:
            super().load(state)
        except InvalidState:
            self._start()


class RaisesAnythingWhenLoaded(Numbering):
    __slots__ = ()

    def _read_state(self, state):
        super()._read_state(state)
        if self.count > 200:
            raise ZeroDivisionError


class KeepsAPartOfWhatItRefuses(Own):
    __slots__ = ()

    def load(self, state):
        try:
            super().load(state)
        except InvalidState:
            self._held = b"x"
            raise


class HoldsMoreLater(Numbering):
    """A framing that does not check a loaded count, and holds more if the count is high."""

    __slots__ = ()

    def receive(self, chunk):
        if self.count > 200:
            self._hold(chunk * 1000)
            return []
        return super().receive(chunk)


class RaisesAnythingLater(Numbering):
    """A framing that does not check a loaded count, and raises an error if the count is high."""

    __slots__ = ()

    def receive(self, chunk):
        if self.count > 200:
            raise ZeroDivisionError
        return super().receive(chunk)


FAULTS = {
    WritesNothing: "dump() returns the state of every stream that has not failed",
    RaisesWhenDumped: "dump() returns the state of every stream that has not failed",
    DumpsText: "dump() returns bytes",
    RefusesItsOwn: "load() accepts each state that dump() returns",
    ForgetsHeldBytes: "load() restores the attributes of the dumped framing",
    OtherwiseWhenLoaded: "a stream goes on after dump() and load() as it would have without them",
    OtherwiseOnceDumped: "dump() does not change the framing",
    ChangedByDump: "dump() does not change the framing",
    DumpsAnew: "dump() does not change the framing",
    DumpsAFailure: "dump() raises InvalidState for a stream that has failed",
    RaisesAnythingAfterAFailure: "dump() raises InvalidState for a stream that has failed",
    AcceptsAPart: "load() raises InvalidState for a state that is cut or has bytes behind its end",
    RaisesAnythingWhenLoaded: "load() raises no other error than InvalidState",
    KeepsAPartOfWhatItRefuses: "after load() has raised, the framing is fresh",
    HoldsMoreLater: "a framing holds at most max bytes and one chunk",
    RaisesAnythingLater: "receive() raises no other error than UnreadableStream",
}


def broken_by(kind: type[Framing]) -> list[str]:
    with pytest.raises(AssertionError) as caught:
        check_framing(lambda: kind(max=200), examples=20, costs=False)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_a_planted_fault_is_named(kind):
    """The error has the promise in its first line, and the example in the lines after it."""
    first, *facts = broken_by(kind)
    assert first == f"{kind.__name__}(max=200) breaks a promise: {FAULTS[kind]}"
    assert any(fact.startswith(("  chunks: ", "  state: ")) for fact in facts)


def test_an_attribute_that_would_be_lost_is_named():
    """The error has the chunks, the attribute, and what to define."""
    text = "\n".join(broken_by(WritesNothing))
    assert "  chunks: [b'\\n']\n" in text
    assert "would lose count: write it in _write_state, and read it in _read_state" in text


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_states_can_be_left_out(kind):
    """With ``states=False``, no fault of a state is found."""
    check_framing(lambda: kind(max=200), examples=5, costs=False, states=False)
