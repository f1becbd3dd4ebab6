"""The end of a message, which is searched for a framing that reads on from there."""

from __future__ import annotations

import gc
import random

import pytest
from typing_extensions import override

from tcpapp.errors import UnreadableStream
from tcpapp.framing import Delimited, Fixed, Framing, Lines, Netstrings, Raw, Slip
from tcpapp.framing.rereading import PIECES
from tests.framing.streams import FRAMINGS

COUNTED = [each for each in FRAMINGS if not isinstance(each, Raw)]
"""The framings whose messages do not depend on the cuts."""


def stream_of(framing: Framing, source: random.Random, messages: int = 8) -> list[bytes]:
    """Return frames of random messages that `framing` can send, some of them too long where it skips those."""
    frames: list[bytes] = []
    while len(frames) < messages:
        size = framing.size if isinstance(framing, Fixed) else source.randrange(1, min(framing.max, 20) + 1)
        message = bytes(source.choices(b"xyz0123456789", k=size))
        try:
            frames.append(framing.frame(message))
        except Exception:  # noqa: BLE001 - a frame that needs other bytes: it is not of interest here
            frames.append(framing.frame(bytes(framing.size if isinstance(framing, Fixed) else 3)))
    return frames


def naive_end(framing: Framing, before: bytes, data: bytes, count: int) -> int:
    """Return where message number `count` of `data` ends, by cutting byte for byte."""
    state = framing.fresh()
    if before:
        state.receive(before)
    found = at = 0
    while found < count:
        found += len(state.receive(data[at : at + 1]))
        at += 1
    return at


@pytest.mark.exhaustive
@pytest.mark.parametrize("framing", COUNTED, ids=repr)
def test_the_bytes_behind_a_message_are_found_at_every_place(framing: Framing) -> None:
    """For every message of a chunk, and every chunk of a stream, the bytes behind it are found to the byte."""
    source = random.Random(framing.max)
    try:
        frames = stream_of(framing, source)
    except Exception:  # noqa: BLE001 - with this small max and header, such messages cannot be sent
        pytest.skip("no such messages")
    stream = b"".join(frames)
    for cut in range(len(stream)):
        state = framing.fresh()
        state.receive(stream[:cut])
        mark = state.mark() if state.unfinished else None
        data = stream[cut:] + b"\xc0\x00" * 3
        before = stream[:cut] if state.unfinished else b""
        count = len(framing.resumed(mark).receive(data))
        for each in range(1, count + 1):
            end = naive_end(framing, before, data, each)
            assert framing.behind(mark, data, each) == data[end:], (cut, each)


def test_nothing_is_behind_no_message_but_all_bytes() -> None:
    """Behind no message are all bytes."""
    assert Lines().behind(None, b"a\nb", 0) == b"a\nb"


def test_slices_of_raw_bytes_are_not_searched() -> None:
    """The messages of `Raw` are slices of a chunk, which end at multiples of ``max``."""
    framing = Raw(max=3)
    assert [framing.behind(None, b"abcdefgh", count) for count in range(4)] == [b"abcdefgh", b"defgh", b"gh", b""]


def test_the_search_is_linear_in_a_large_chunk() -> None:
    """A chunk of any size is cut about once for each size of piece, and not once for each message."""
    chunk = b"x\n" * 100_000
    cut: list[int] = []

    class Counted(Lines):
        @override
        def receive(self, chunk: bytes) -> list[bytes]:
            cut.append(len(chunk))
            return super().receive(chunk)

    assert Counted().behind(None, chunk, 99_999) == b"x\n"
    assert sum(cut) <= 2 * len(PIECES) * len(chunk)
    assert len(cut) < 200


def test_a_failure_behind_the_message_does_not_matter() -> None:
    """The bytes behind a message are found where the framing cannot read them."""
    framing = Netstrings()
    assert framing.behind(None, b"2:ab,\x16\x03\x01tls", 1) == b"\x16\x03\x01tls"


@pytest.mark.usefixtures("no_collector")
def test_a_failure_behind_the_message_leaves_nothing_in_memory() -> None:
    """The framings that found the failure are freed without the collector."""

    class Own(Netstrings):
        """A framing that no other test has."""

    framing = Own()
    assert framing.skipped_in(b"x:") == 0
    del framing
    assert [each for each in gc.get_objects() if type(each) is Own] == []


def test_a_mark_is_not_changed_by_what_comes_later() -> None:
    """A stream that went on from a mark can be resumed there again, also where its bytes are held in one buffer."""
    framing = Lines()
    for piece in (b"a", b"b", b"c"):
        framing.receive(piece)
    mark = framing.mark()
    framing.receive(b"d")
    for _ in range(2):
        assert framing.resumed(mark).receive(b"\n") == [b"abc"]
    assert framing.receive(b"\n") == [b"abcd"]


def test_a_mark_keeps_what_is_being_skipped() -> None:
    """A stream that is inside a skipped message is resumed inside it."""
    framing = Lines(max=2, oversize="skip")
    framing.receive(b"long")
    assert framing.behind(framing.mark(), b"er\nok\nrest", 1) == b"rest"


class Pairs(Framing):
    """A framing of one's own: two bytes are a message. It keeps its `calls`, and what came in `pieces`."""

    def __init__(self, *, keeps: type = int, max: int = 1024) -> None:  # noqa: A002 - the public name
        self.keeps = keeps
        super().__init__(max=max)

    @override
    def _start(self) -> None:
        super()._start()
        self.own = self.keeps()

    @override
    def receive(self, chunk: bytes) -> list[bytes]:
        self._check()
        if isinstance(self.own, int):
            self.own += 1
        data = self._with_held(chunk)
        even = len(data) // 2 * 2
        if data[even:]:
            self._hold(data[even:])
        return [data[at : at + 2] for at in range(0, even, 2)]

    @override
    def frame(self, message: bytes) -> bytes:
        return message


class Slotted(Delimited):
    """A framing of one's own with slots, on one of tcpapp's."""

    __slots__ = ("own",)

    @override
    def _start(self) -> None:
        super()._start()
        self.own = 5


def test_a_framing_of_ones_own_has_marks_where_its_state_cannot_change_in_place() -> None:
    """The attributes of a framing of one's own are in its marks, with slots or without."""
    pairs = Pairs()
    pairs.receive(b"abc")
    resumed = pairs.resumed(pairs.mark())
    assert (resumed.own, resumed.receive(b"d"), resumed.keeps) == (1, [b"cd"], int)
    slotted = Slotted(b"|")
    slotted.receive(b"ab")
    slotted.own = 7
    resumed_slots = slotted.resumed(slotted.mark())
    assert (resumed_slots.own, resumed_slots.receive(b"|")) == (7, [b"ab"])


def test_a_framing_whose_state_can_change_in_place_has_no_marks() -> None:
    """A list, for example, would change with the stream, so there is no mark."""
    pairs = Pairs(keeps=list)
    pairs.receive(b"abc")
    assert pairs.mark() is None


def test_only_framings_with_bytes_between_messages_have_gaps() -> None:
    """The byte-stuffed framings ignore empty frames between messages. In the others each byte is of a message."""
    assert {type(each).__name__ for each in FRAMINGS if each.gaps is None} == {"Slip", "Cobs"}
    assert Slip().behind(None, b"\xc0ab\xc0\xc0\xc0", 1) == b"\xc0\xc0"


def test_the_search_ends_where_a_framing_breaks_its_contract() -> None:
    """A framing whose messages depend on the cuts can have fewer messages in the search, which ends all the same."""

    class Whimsical(Pairs):
        @override
        def receive(self, chunk: bytes) -> list[bytes]:
            raise UnreadableStream("never")

    assert Whimsical().behind(None, b"abcd", 2) == b""


def test_a_framing_without_bodies_is_never_in_one() -> None:
    """A framing whose messages have no bodies knows of no end of one, whatever comes."""
    framing = Lines()
    framing.receive(b"one\ntw")
    assert (framing.in_body, framing.body_end, framing.open_body_end) == (False, None, None)
