"""`check_framing` passes every framing of tcpapp, and names each promise that a framing breaks."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import strategies as st

from tcpapp.errors import MalformedFrame, UnreadableStream, UnsendableMessage
from tcpapp.framing import Fixed, LengthPrefixed, Lines, Parser, Raw
from tcpapp.testing.oracles import check_framing, costs
from tests.framing.streams import FRAMINGS
from tests.testing.oracles.own import Own

OF_BYTES = [each for each in FRAMINGS if not isinstance(each, Parser)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("framing", OF_BYTES, ids=str)
def test_every_framing_of_tcpapp_keeps_every_promise(framing):
    """`check_framing` passes every framing of tcpapp whose messages are bytes. The others have tests of their own."""
    check_framing(lambda: framing, examples=10, costs=False)


@pytest.mark.exhaustive
@pytest.mark.parametrize("framing", [Lines(), LengthPrefixed(), LengthPrefixed(1), Fixed(2000), Own()], ids=repr)
def test_the_framings_of_tcpapp_cost_little(framing):
    """Framings of tcpapp, and one of a user, pass the checks of memory and time."""
    check_framing(lambda: framing, examples=10)


FEW = [Raw(max=7), Fixed(3), Fixed(300), LengthPrefixed(1), LengthPrefixed(1, offset=1, strip=0, max=9)]


@pytest.mark.usefixtures("little_flood")
@pytest.mark.parametrize("framing", FEW, ids=str)
def test_each_kind_of_framing_passes(framing):
    """`check_framing` passes streams without messages, messages of one size, and messages that keep their header."""
    check_framing(lambda: framing, examples=5)


@pytest.mark.parametrize("messages", [[b"hello", b"x"], st.sampled_from([b"hello"])], ids=["some", "a strategy"])
def test_the_user_can_give_messages(messages):
    """`check_framing` takes messages as a list or as a strategy."""
    check_framing(Own, messages, examples=10, costs=False)


class Tagged(Own):
    """A framing of lines that begin with ``+``, as Redis's do. It does not check the messages it sends."""

    __slots__ = ()

    def receive(self, chunk):
        messages = []
        for message in super().receive(chunk):
            if message[:1] != b"+":
                return self._fail(MalformedFrame(f"no tag: {message[:16]!r}"), messages)
            messages.append(message)
        return messages


TAGGED = st.binary(max_size=9).map(lambda text: b"+" + text.replace(b"\n", b""))


GIVEN = {"some": [b"+OK", b"+hello"], "one of one byte": [b"+"], "a strategy": TAGGED}


@pytest.mark.usefixtures("little_flood")
@pytest.mark.parametrize("messages", GIVEN.values(), ids=GIVEN)
def test_only_the_given_messages_are_sent(messages):
    """When the user gives messages, the oracle sends no others, not even to check the limit or the time."""
    check_framing(Tagged, messages, examples=10)


@pytest.mark.exhaustive
def test_without_examples_the_profile_sets_the_number_of_streams():
    """Without `examples`, `check_framing` tries as many streams as Hypothesis's profile says."""
    check_framing(Own, costs=False)


def test_a_small_max_is_checked_in_place_of_a_large_one():
    """A framing with a `max` of a tebibyte is checked quickly, since its limit is checked with a small `max`."""
    check_framing(lambda: Lines(max=1 << 40), examples=5, costs=False)
    check_framing(lambda: Fixed(10, max=1 << 40), [b"z" * 10], examples=5, costs=False)
    check_framing(lambda: Fixed(10, max=1 << 40), examples=1, costs=False)


# Faults --------------------------------------------------------------------------------------------------------------


class DropsAByte(Own):
    __slots__ = ()

    def receive(self, chunk):
        return [message.removesuffix(b"\0") for message in super().receive(chunk)]


class ForgetsAcrossChunks(Own):
    __slots__ = ()

    def receive(self, chunk):
        self._held = b""
        return super().receive(chunk)


class RaisesAnything(Own):
    __slots__ = ()

    def receive(self, chunk):
        chunk.replace(b"\xff", b"").decode("ascii" if b"\xdb" in chunk and b"!" not in chunk else "latin-1")
        return super().receive(chunk)


class RaisesAtTheEnd(Own):
    __slots__ = ()

    def finish(self):
        raise KeyError("end")


class LimitOneTooHigh(Own):
    __slots__ = ()

    def receive(self, chunk):
        self.max += 1
        try:
            return super().receive(chunk)
        finally:
            self.max -= 1


class NoLimit(Own):
    __slots__ = ()

    def receive(self, chunk):
        limit, self.max = self.max, 1 << 40
        try:
            return super().receive(chunk)
        finally:
            self.max = limit


class LimitOneTooLow(Own):
    __slots__ = ()

    def receive(self, chunk):
        messages = super().receive(chunk)
        if any(len(message) == self.max for message in messages):
            return self._fail(self._too_long(self.max), [])
        return messages


class SendsOneTooLong(Own):
    __slots__ = ()

    def frame(self, message):
        over = isinstance(message, bytes) and len(message) == self.max + 1
        return super().frame(message[:-1] if over else message)


class SendsOneTooShort(Own):
    __slots__ = ()

    def frame(self, message):
        if isinstance(message, bytes) and len(message) == self.max:
            raise UnsendableMessage("too long")
        return super().frame(message)


class SkipsNothing(Own):
    __slots__ = ()
    # As Own has it, oversize="skip" closes.


class EndsAnywhere(Own):
    __slots__ = ()

    def finish(self):
        self._check()
        self._held = b""


class EndsNowhere(Own):
    __slots__ = ()

    def _arrived(self):
        return len(self._held)


class HasToBegin(Own):
    """A framing that treats a stream without a byte as a truncated one."""

    __slots__ = ("begun",)

    def _start(self):
        super()._start()
        self.begun = False

    def receive(self, chunk):
        self.begun = self.begun or bool(chunk)
        return super().receive(chunk)

    def _arrived(self):
        return super()._arrived() if self.begun else 0


class EndsWrongly(Own):
    __slots__ = ()

    def finish(self):
        self._check()
        if self._held:
            self._fail(MalformedFrame("an end"), [])


class Late(Own):
    """A framing that keeps the second message back until the third is there, if it differs from the first."""

    __slots__ = ("first", "kept")

    def _start(self):
        super()._start()
        self.first, self.kept = None, []

    def receive(self, chunk):
        ready = []
        for message in super().receive(chunk):
            if self.first is not None and self.first != message and not self.kept:
                self.kept = [message]
            else:
                ready += [*self.kept, message]
                self.kept = []
            self.first = message if self.first is None else self.first
        return ready


class NotBytes(Own):
    __slots__ = ()

    def receive(self, chunk):
        return [bytearray(message) for message in super().receive(chunk)]


class FailureForgotten(Own):
    __slots__ = ()

    def _fail(self, failure, messages):
        try:
            return super()._fail(failure, messages)
        finally:
            self.failure = None


class FailsOnce(Own):
    __slots__ = ()

    def finish(self):
        if self.failure is None:
            super().finish()


class FailsAnewEachTime(Own):
    __slots__ = ()

    def _check(self):
        if self.failure is not None:
            raise type(self.failure)("again")


class Hoards(Own):
    """A framing that holds bytes which it does not report."""

    __slots__ = ("hoard",)

    def _start(self):
        super()._start()
        self.hoard = []

    def receive(self, chunk):
        self.hoard.append(chunk)
        try:
            return super().receive(chunk)
        except UnreadableStream:
            self.failure = None
            self._held = b""
            return []


class HoldsTooMuch(Own):
    __slots__ = ()

    @property
    def held(self):
        return len(self._held) and self.max + 100


class Stale(Own):
    __slots__ = ()

    def fresh(self):
        state = super().fresh()
        state._held = self._held
        return state


class NeverFresh(Own):
    __slots__ = ()

    def fresh(self):
        raise RuntimeError("none left")


class OneForAll(Own):
    """A framing whose `fresh()` gives another `max`."""

    __slots__ = ("configured",)

    def fresh(self):
        state = super().fresh()
        state.max += 1
        return state


class Shared(Own):
    """A framing whose instances keep their unfinished bytes in one place."""

    __slots__ = ()
    rest = bytearray()

    def receive(self, chunk):
        self._held = bytes(self.rest)
        self.rest.clear()
        messages = super().receive(chunk)
        self.rest[:] = self._held
        self._held = b""
        return messages

    def finish(self):
        self.rest.clear()


class FramesOtherwise(Own):
    __slots__ = ()

    def frame_all(self, messages):
        return b"\n".join(messages)


class SendsText(Own):
    __slots__ = ()

    def frame(self, message):
        return super().frame(message.encode() if isinstance(message, str) else message)


class RefusesWrongly(Own):
    __slots__ = ()

    def frame(self, message):
        return super().frame(message + b"")


class JoinsAnew(Own):
    """A framing that copies all held bytes with every chunk."""

    __slots__ = ()

    def receive(self, chunk):
        self._held = bytes(self._held) + chunk
        whole, self._held = self._held, b""
        return super().receive(whole)


WORKED = [0]
"""Bytes that the framings below have read or copied again. Tests count them in place of time."""


class LooksAgain(Own):
    """A framing that scans all held bytes with every chunk."""

    __slots__ = ()

    def receive(self, chunk):
        self._check()
        self._held = self._held or bytearray()
        self._held += chunk
        WORKED[0] += len(self._held)
        found = [self._held.find(each) for each in (b"\r", b"\0", b"\n")]  # so often that little else takes time
        if found[-1] < 0 and len(self._held) <= self.max:
            return []
        whole, self._held = bytes(self._held), b""
        return super().receive(whole)


class CutsOneByOne(Own):
    """A framing that copies the rest of the chunk after every few messages in it."""

    __slots__ = ()

    def receive(self, chunk):
        messages = []
        while b"\n" in chunk:
            WORKED[0] += len(chunk)
            *few, chunk = chunk.split(b"\n", 3)
            messages += super().receive(b"\n".join([*few, b""]))
        return messages + super().receive(chunk)


FAULTS = {
    DropsAByte: "frame() and receive() give each message back unchanged",
    ForgetsAcrossChunks: "a stream gives the same messages and the same error, however it is cut",
    RaisesAnything: "receive() raises no other error than UnreadableStream",
    RaisesAtTheEnd: "finish() raises no other error than UnreadableStream",
    LimitOneTooHigh: "receive() returns no message longer than max",
    NoLimit: "receive() returns no message longer than max",
    LimitOneTooLow: "receive() returns a message of max bytes",
    SendsOneTooLong: "frame() and frame_all() raise UnsendableMessage for a message longer than max",
    SendsOneTooShort: "frame() accepts a message of max bytes",
    EndsAnywhere: "finish() raises TruncatedMessage for a stream that ends inside a message",
    EndsNowhere: "frame() and receive() give each message back unchanged",
    HasToBegin: "finish() accepts a stream that ends between two messages",
    EndsWrongly: "finish() raises TruncatedMessage for a stream that ends inside a message",
    Late: "receive() returns a message as soon as all its bytes have arrived",
    NotBytes: "receive() returns a list of bytes",
    FailureForgotten: "failure is the error that ended the stream",
    FailsOnce: "after an error, receive() and finish() raise the same error again",
    FailsAnewEachTime: "after an error, receive() and finish() raise the same error again",
    Stale: "fresh() returns an equal framing that has received no byte",
    NeverFresh: "fresh() returns a framing for a new stream",
    OneForAll: "fresh() returns an equal framing that has received no byte",
    HoldsTooMuch: "a framing holds at most max bytes and one chunk",
    Shared: "fresh() returns a framing that shares no state with this one",
    FramesOtherwise: "frame_all() returns the joined results of frame() for each message",
    SendsText: "frame() and frame_all() raise UnsendableMessage for a message that is not bytes",
    RefusesWrongly: "frame() and frame_all() raise UnsendableMessage for a message that is not bytes",
}


def broken_by(make, **options):
    with pytest.raises(AssertionError) as caught:
        check_framing(make, **options)
    return str(caught.value)


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_a_planted_fault_is_named(kind):
    """The first line of the error names the broken promise, and the example follows in the next lines."""
    first, *facts = broken_by(lambda: kind(max=200), examples=20, costs=False).splitlines()
    assert first == f"{kind.__name__}(max=200) breaks a promise: {FAULTS[kind]}"
    assert facts


def test_a_framing_that_skips_nothing_is_found():
    """`check_framing` reports a framing with ``oversize="skip"`` that closes instead of skipping."""
    text = broken_by(lambda: SkipsNothing(max=9, oversize="skip"), costs=False)
    assert "receive() skips a message one byte longer than max, and returns the next one" in text


def test_a_message_over_max_must_be_a_message_too_long():
    """`check_framing` reports a framing that raises another error than `MessageTooLong` for a message over `max`."""

    class Truncates(Own):
        __slots__ = ()

        def _too_long(self, size, seen=""):
            return MalformedFrame("long")

    text = broken_by(lambda: Truncates(max=9), costs=False)
    assert "receive() raises MessageTooLong for a message one byte longer than max" in text


def test_the_example_is_the_smallest():
    """The reported example is the smallest: the shortest message, cut once."""
    text = broken_by(lambda: ForgetsAcrossChunks(max=9), costs=False)
    assert "  stream: b'x\\n'\n  chunks: [b'x', b'\\n']\n" in text


def test_an_example_that_hypothesis_finds_is_shrunk():
    """A framing that changes one byte is reported with that byte as the only message."""

    class Rare(Own):
        __slots__ = ()

        def receive(self, chunk):
            return [message.replace(b"\xfe", b"") for message in super().receive(chunk)]

    text = broken_by(lambda: Rare(max=9), examples=1000, costs=False)
    assert "messages: [b'\\xfe']" in text
    assert "chunks: [b'\\xfe\\n']" in text


@pytest.mark.exhaustive
def test_garbage_alone_finds_some_faults():
    """Random bytes find a framing that fails at a byte which no message has."""

    class Delicate(Own):
        __slots__ = ()

        def receive(self, chunk):
            if b"\x80" in chunk:
                raise ZeroDivisionError
            return super().receive(chunk)

    text = broken_by(lambda: Delicate(max=9), messages=[b"x"], examples=300, costs=False)
    assert "receive() raises no other error than UnreadableStream" in text
    assert "chunks: [b'\\x80']" in text


def test_long_examples_are_cut_short():
    """No line of a report has 350 characters or more, even if the messages are long."""
    assert all(len(line) < 350 for line in broken_by(lambda: LimitOneTooHigh(max=2000), costs=False).splitlines())


def test_a_factory_that_makes_no_framing_is_named():
    """`check_framing` reports a `make` that returns no framing."""
    assert "make() returns a Framing" in broken_by(lambda: "line")


def test_an_exception_of_a_strategy_is_raised_unchanged():
    """An exception of the user's strategy is raised with its own traceback, and is not reported as a broken promise."""

    def wrong(message):
        raise AssertionError("the strategy is wrong")

    with pytest.raises(AssertionError, match="the strategy is wrong") as caught:
        check_framing(Own, st.just(b"x").map(wrong), examples=5, costs=False)
    assert caught.traceback[-1].name == "wrong"


def test_given_messages_that_cannot_be_sent_are_reported():
    """`check_framing` reports given messages that the framing cannot send."""
    assert "not sent: [b'two\\nlines']" in broken_by(Own, messages=[b"one", b"two\nlines"])


LIMITS = [LimitOneTooHigh, LimitOneTooLow, SendsOneTooLong, SendsOneTooShort]


@pytest.mark.parametrize("messages", [GIVEN["some"], TAGGED], ids=["some", "a strategy"])
@pytest.mark.parametrize("kind", LIMITS, ids=lambda kind: kind.__name__)
def test_given_messages_find_faults_of_limits(kind, messages):
    """Given messages alone find each fault at the limit `max`."""

    class TaggedToo(kind, Tagged):
        __slots__ = ()

    assert FAULTS[kind] in broken_by(TaggedToo, messages=messages, examples=10, costs=False)


def test_given_messages_find_a_framing_that_skips_nothing():
    """The longest given message, sent after a shorter one, is one byte over the limit of this check."""
    text = broken_by(lambda: Tagged(oversize="skip"), messages=GIVEN["some"], costs=False)
    promise = "receive() skips a message one byte longer than max, and returns the next one"
    assert f"{promise}\n  max: 5\n  stream: b'+OK\\n+hello\\n" in text


# Costs ---------------------------------------------------------------------------------------------------------------


def test_memory_is_counted_by_the_allocator_and_not_by_held():
    """A framing that holds more memory than it reports is found, since Python's allocator counts the memory."""
    with pytest.raises(AssertionError, match="as Python's allocator counts it"):
        costs.check_memory(Hoards(max=9))


def test_tracing_of_allocations_goes_on():
    """If allocations are traced before the check of memory, they are traced after it, too."""
    tracemalloc.start()
    try:
        costs.check_memory(Own())
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


@pytest.fixture
def counted(little_flood, monkeypatch):
    """Count the work of a planted fault in place of its time, which says little on a busy machine."""

    def spent(framing, chunks):
        before = WORKED[0]
        costs.feed(framing.fresh(), chunks)
        return (WORKED[0] - before) / 1e8  # as at 100 megabytes a second

    monkeypatch.setattr(costs, "spent", spent)


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (JoinsAnew, "each byte is copied at most a few times, however long the message is"),
        (LooksAgain, "for one long message in many chunks, four times the bytes take about four times as long"),
        (CutsOneByOne, "for many messages in one chunk, four times the bytes take about four times as long"),
    ],
    ids=["copied", "looked at again", "cut one by one"],
)
def test_quadratic_work_is_found(kind, promise):
    """The check of time reports a framing that copies or scans held bytes again with every chunk or message."""
    with pytest.raises(AssertionError, match=promise):
        costs.check_time(kind())


@pytest.mark.usefixtures("counted")
def test_quadratic_work_is_found_with_given_messages():
    """The check of time uses the given messages, and reports a framing that copies the rest again and again."""
    with pytest.raises(AssertionError, match="many messages in one chunk"):
        costs.check_time(CutsOneByOne(), [b"given"])


def test_the_time_of_a_framing_that_sends_nothing_is_not_checked():
    """The check of time passes a framing that can send no message."""

    class Mute(Own):
        __slots__ = ()

        def frame(self, message):
            raise UnsendableMessage("nothing")

    costs.check_time(Mute())
