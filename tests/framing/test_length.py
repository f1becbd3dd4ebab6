"""Length-prefixed messages, compared with the documentation of frameworks that have the same options."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.errors import InvalidFraming, MalformedFrame, MessageTooLong, TruncatedMessage, UnsendableMessage
from tcpapp.framing import LengthPrefixed, from_string
from tests.framing.streams import Outcome, ends, read, same, single

HELLO, WORLD = b"HELLO, WORLD", b"Hello world"

DOCUMENTED = [
    # Netty, LengthFieldBasedFrameDecoder: every example of its documentation, in its order.
    ("netty-1", {"width": 2, "strip": 0}, b"\x00\x0c" + HELLO, b"\x00\x0c" + HELLO),
    ("netty-2", {"width": 2, "strip": 2}, b"\x00\x0c" + HELLO, HELLO),
    ("netty-3", {"width": 2, "adjust": -2, "strip": 0}, b"\x00\x0e" + HELLO, b"\x00\x0e" + HELLO),
    ("netty-4", {"width": 3, "offset": 2, "strip": 0}, b"\xca\xfe\0\0\x0c" + HELLO, b"\xca\xfe\0\0\x0c" + HELLO),
    ("netty-5", {"width": 3, "adjust": 2, "strip": 0}, b"\0\0\x0c\xca\xfe" + HELLO, b"\0\0\x0c\xca\xfe" + HELLO),
    ("netty-6", {"width": 2, "offset": 1, "adjust": 1, "strip": 3}, b"\xca\0\x0c\xfe" + HELLO, b"\xfe" + HELLO),
    ("netty-7", {"width": 2, "offset": 1, "adjust": -3, "strip": 3}, b"\xca\0\x10\xfe" + HELLO, b"\xfe" + HELLO),
    # tokio, LengthDelimitedCodec: every example of its documentation, in its order. In the seventh, the
    # length counts from behind the skipped bytes, which are one byte more than the header: `adjust` is this byte.
    ("tokio-1", {"width": 2, "strip": 0}, b"\x00\x0b" + WORLD, b"\x00\x0b" + WORLD),
    ("tokio-2", {"width": 2}, b"\x00\x0b" + WORLD, WORLD),
    ("tokio-3", {"width": 2, "adjust": -2, "strip": 0}, b"\x00\x0d" + WORLD, b"\x00\x0d" + WORLD),
    ("tokio-4", {"width": 3, "adjust": 2, "strip": 0}, b"\0\0\x0b\xca\xfe" + WORLD, b"\0\0\x0b\xca\xfe" + WORLD),
    ("tokio-5", {"width": 2, "offset": 1, "adjust": 1, "strip": 3}, b"\xca\0\x0b\xfe" + WORLD, b"\xfe" + WORLD),
    ("tokio-6", {"width": 2, "offset": 1, "adjust": -3, "strip": 3}, b"\xca\0\x0f\xfe" + WORLD, b"\xfe" + WORLD),
    ("tokio-7", {"width": 3, "adjust": 1, "strip": 4}, b"\0\0\x0b\xff" + WORLD, WORLD),
    # tokio, its tests: the other byte order, a header before the length, a length that counts its own field.
    ("tokio-little", {"order": "little"}, b"\x09\0\0\0abcdefghi", b"abcdefghi"),
    ("tokio-offset", {"width": 2, "offset": 4}, b"zzzz\0\x09abcdefghi", b"abcdefghi"),
    ("tokio-all", {"width": 2, "offset": 2, "strip": 0}, b"xx\0\x09abcdefghi", b"xx\0\x09abcdefghi"),
    ("tokio-includes", {"width": 2, "adjust": -2}, b"\0\x0babcdefghi", b"abcdefghi"),
    # Erlang, gen_tcp: {packet, 1}, {packet, 2}, {packet, 4}, unsigned and big-endian.
    ("packet-1", {"width": 1}, b"\x05hello", b"hello"),
    ("packet-2", {"width": 2}, b"\0\x05hello", b"hello"),
    ("packet-4", {"width": 4}, b"\0\0\0\x05hello", b"hello"),
]
each_documented = pytest.mark.parametrize(
    ("options", "frame", "message"), [case[1:] for case in DOCUMENTED], ids=[case[0] for case in DOCUMENTED]
)


@each_documented
def test_documented_frames(options: dict[str, object], frame: bytes, message: bytes) -> None:
    """Each frame of the frameworks' documentation gives the documented message, however it is cut."""
    assert same(LengthPrefixed(**options), frame * 2) == Outcome((message, message), None, 0)


@each_documented
def test_a_received_message_is_sent_as_the_same_frame(options: dict[str, object], frame: bytes, message: bytes) -> None:
    """A received message is sent as the same frame, except that stripped header bytes are zero."""
    framing = LengthPrefixed(**options)
    sent = framing.frame(message)
    assert len(sent) == len(frame)
    header = slice(framing.offset, framing.offset + framing.width)
    assert sent[header] == frame[header]
    assert sent[framing.strip :] == message
    stripped = bytearray(sent[: framing.strip])
    stripped[header] = b""
    assert not any(stripped)
    assert framing.fresh().receive(sent) == [message]
    assert framing.frame_all([message] * 3) == sent * 3


def test_a_message_can_have_its_header() -> None:
    """With strip=0, a message has its header, and its length is written into this header."""
    framing = LengthPrefixed(2, offset=2, strip=0)
    assert framing.frame(b"\xca\xfe??hello") == b"\xca\xfe\0\x05hello"


@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("order", ["big", "little"])
def test_widths_and_orders(width: int, order: str) -> None:
    """The length has every width from 1 to 8 bytes, in both orders."""
    framing = LengthPrefixed(width, order)
    stream = framing.frame_all([b"hello", b"", b"x" * 200])
    assert stream.startswith((5).to_bytes(width, order) + b"hello")
    assert same(framing, stream).messages == (b"hello", b"", b"x" * 200)


@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("oversize", ["close", "skip"])
def test_the_greatest_length(width: int, oversize: str) -> None:
    """The greatest length of a field is an unsigned number, and no value has a special meaning."""
    framing = LengthPrefixed(width, max=100, oversize=oversize)
    stream = b"\xff" * width + b"hello"
    assert same(framing, stream) == Outcome((), MessageTooLong if oversize == "close" else TruncatedMessage, 0)


def test_too_long_says_what_is_announced() -> None:
    """`MessageTooLong` has the announced and the accepted length, and is raised when the length has come."""
    error = ends(LengthPrefixed(), [struct.pack(">I", 2_000_000)])
    assert str(error) == "a message of 2000000 bytes is announced; at most 1048576 (max) are accepted"
    assert (error.value, error.limit) == (2_000_000, 1_048_576)


def test_max_is_of_the_message() -> None:
    """``max`` counts the message as the app gets it: without a stripped header, and with a kept one."""
    assert same(LengthPrefixed(2, max=5), b"\0\x05hello").failure is None
    assert same(LengthPrefixed(2, strip=0, max=7), b"\0\x05hello").failure is None
    assert same(LengthPrefixed(2, strip=0, max=6), b"\0\x05hello").failure is MessageTooLong
    assert same(LengthPrefixed(2, strip=4, max=3), b"\0\x05hello").messages == (b"llo",)


@pytest.mark.parametrize(
    ("options", "stream"),
    [
        ({"width": 2, "adjust": -2}, b"\0\x01"),
        ({"width": 2, "adjust": -2, "strip": 0}, b"\0\x00"),
        ({"width": 2, "offset": 1, "adjust": -3}, b"x\0\x02"),
        ({"width": 1, "strip": 4}, b"\x02abc"),
        ({"width": 2, "adjust": -300, "strip": 0}, b"\0\xff"),
        ({"width": 1, "adjust": -3, "oversize": "skip"}, b"\x02"),
    ],
)
def test_lengths_too_small(options: dict[str, object], stream: bytes) -> None:
    """A frame that is shorter than its header, or than the bytes to strip, is malformed."""
    framing = LengthPrefixed(**options)
    assert same(framing, stream) == Outcome((), MalformedFrame, 0)
    assert "a frame has at least" in str(ends(framing, [stream]))


def test_messages_before_a_malformed_one() -> None:
    """Whole messages before a malformed frame are delivered."""
    assert same(LengthPrefixed(1, adjust=-1), b"\x03hi\x00") == Outcome((b"hi",), MalformedFrame, 0)


def test_smallest_frames() -> None:
    """A frame that is only a header gives an empty message, or the header with strip=0."""
    assert same(LengthPrefixed(1, adjust=-1), b"\x01\x01").messages == (b"", b"")
    assert same(LengthPrefixed(1, strip=0), b"\x00\x00").messages == (b"\0", b"\0")
    assert same(LengthPrefixed(1, strip=3), b"\x02ab\x02cd").messages == (b"", b"")


def test_a_long_header_arrives_in_pieces() -> None:
    """A header of 300 bytes is read whole, byte by byte, and however else it is cut."""
    framing = LengthPrefixed(1, offset=300)
    assert same(framing, b"h" * 300 + b"\x02hi").messages == (b"hi",)


@pytest.mark.parametrize(
    ("options", "message", "why"),
    [
        ({"width": 1}, b"x" * 256, "a message of 256 bytes; at most 255 "),
        ({"width": 1, "adjust": -1}, b"x" * 255, "a message of 255 bytes; at most 254 "),
        ({"width": 2}, b"x" * 65536, "a message of 65536 bytes; at most 65535 "),
        ({"width": 1, "adjust": 3}, b"hi", "a length of -1; "),
        ({"width": 2, "strip": 0}, b"h", "a message of 1 bytes; .* its first 2 are header"),
        ({"width": 2, "offset": 2, "strip": 1}, b"hi", "its first 3 are header"),
    ],
)
def test_messages_that_cannot_be_sent(options: dict[str, object], message: bytes, why: str) -> None:
    """A message whose length does not fit into the field, or that lacks its header, is not sent."""
    framing = LengthPrefixed(**options)
    for send in (framing.frame, lambda message: framing.frame_all([b"y" * 5, message])):
        with pytest.raises(UnsendableMessage, match=why):
            send(message)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"width": 0}, "width=0: takes a whole number, 1 to 8"),
        ({"width": 9}, "width=9: takes a whole number, 1 to 8"),
        ({"width": "4"}, "width='4': takes a whole number, 1 to 8"),
        ({"order": "native"}, "order='native': takes 'big' or 'little'"),
        ({"offset": -1}, "offset=-1: takes a whole number, 0 to 65535"),
        ({"strip": -1}, "strip=-1: takes a whole number, 0 to 65535"),
        ({"strip": 70000}, "strip=70000: takes a whole number, 0 to 65535"),
        ({"adjust": 1.5}, "adjust=1.5: takes a whole number, negative too"),
        ({"adjust": True}, "adjust=True: takes a whole number, negative too"),
    ],
)
def test_wrong_options(options: dict[str, object], why: str) -> None:
    """The error of an invalid option names the option and its valid values."""
    with pytest.raises(InvalidFraming, match=f"^{why}$"):
        LengthPrefixed(**options)


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"width": 1}, 255),
        ({"width": 2}, 65_535),
        ({"width": 3}, 1 << 20),
        ({"width": 1, "offset": 1, "adjust": -2}, 253),
        ({"width": 1, "strip": 0}, 256),
        ({"width": 1, "strip": 5}, 251),
        ({"width": 2, "adjust": 10}, 65_545),
    ],
)
def test_a_default_max_is_no_more_than_can_be_announced(options: dict[str, Any], most: int) -> None:
    """The default ``max`` is 1 MiB, or as much as the length field can announce; a larger ``max`` is refused."""
    framing = LengthPrefixed(**options)
    assert (framing.max, "max" in str(framing), from_string(str(framing))) == (most, False, framing)
    assert [len(each) for each in read(framing, [framing.frame(b"x" * most)]).messages] == [most]
    assert LengthPrefixed(**options, max=most) == framing
    if most < 1 << 20:
        with pytest.raises(InvalidFraming, match=f"^max={most + 1}: takes \\d+ to {most}, the messages that a length"):
            LengthPrefixed(**options, max=most + 1)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("int8:max=100000", "int8: max=100000: takes 1 to 255, the messages that a length of 1 byte can announce"),
        ("int16:max=65536", "int16: max=65536: takes 1 to 65535, the messages that a length of 2 bytes can announce"),
        ("length:adjust=9:max=8", "length: max=8: takes 9 to "),
        ("length:offset=4:strip=0:max=7", "length: max=7: takes 8 to "),
        ("length:adjust=2000000", "length: max=1048576: takes 2000000 to "),
        ("length:width=1:adjust=-256", "length: adjust=-256, strip=1: no message fits into such a frame"),
        ("length:width=1:strip=300", "length: adjust=0, strip=300: no message fits into such a frame"),
    ],
)
def test_a_max_that_no_frame_can_have_is_refused(spec: str, says: str) -> None:
    """A ``max`` that no frame could reach, or under which no frame fits, is refused."""
    with pytest.raises(InvalidFraming) as caught:
        from_string(spec)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(("spec", "width"), [("int8", 1), ("int16", 2), ("int24", 3), ("int32", 4), ("int64", 8)])
def test_presets(spec: str, width: int) -> None:
    """The specs ``int8`` to ``int64`` are unsigned big-endian lengths, and `str` gives these specs."""
    assert from_string(spec) == LengthPrefixed(width)
    assert str(LengthPrefixed(width)) == spec
    assert str(LengthPrefixed(width, max=9, oversize="skip")) == f"{spec}:max=9:oversize=skip"


def test_dns_over_tcp() -> None:
    """``int16`` puts two bytes of length before a DNS message (RFC 1035, section 4.2.2)."""
    query = bytes.fromhex("abcd01000001000000000000") + b"\x07example\x03com\0\0\x01\0\x01"
    assert from_string("int16").frame(query) == b"\0\x1d" + query


@given(
    st.sampled_from([LengthPrefixed(1), LengthPrefixed(4, "little"), LengthPrefixed(3, max=40, oversize="skip")]),
    st.lists(st.tuples(st.sampled_from([0, 1, 5, 12, 40, 41]), st.sampled_from([1, 4, 6, 22, 40, 90])), max_size=8),
    st.integers(1, 900),
)
def test_runs_of_one_length(framing: LengthPrefixed, runs: list[tuple[int, int]], piece: int) -> None:
    """Long runs of messages of one length, which are cut many at a time, are received at any cut."""
    numbers = iter(range(1000))
    messages = [b"%d" % next(numbers) * size for size, count in runs for _ in range(count)]
    messages = [message[:size] for message, size in zip(messages, lengths(runs), strict=True)]
    stream = b"".join([len(each).to_bytes(framing.width, framing.order) + each for each in messages])
    fitting = tuple(each for each in messages if len(each) <= framing.max)
    expected = Outcome(fitting, None, len(messages) - len(fitting))
    for chunks in ([stream], [stream[at : at + piece] for at in range(0, len(stream), piece)], single(stream)):
        assert read(framing, chunks) == expected


@pytest.mark.parametrize("size", [1024, 1025])
def test_runs_of_large_messages(size: int) -> None:
    """Runs of messages around 1 KiB, above which messages are cut one at a time, are received."""
    framing = LengthPrefixed(2)
    messages = [bytes([number]) * size for number in range(50)]
    stream = framing.frame_all(messages)
    for chunks in ([stream], [stream[at : at + 5000] for at in range(0, len(stream), 5000)]):
        assert read(framing, chunks) == Outcome(tuple(messages), None, 0)


def lengths(runs: list[tuple[int, int]]) -> list[int]:
    """Return each length as often as its run says."""
    return [size for size, count in runs for _ in range(count)]


def test_a_run_that_ends_in_a_fault() -> None:
    """A message over ``max`` behind a long run of messages ends the stream after the whole run is delivered."""
    framing = LengthPrefixed(2, max=5)
    stream = framing.frame_all([b"hello"] * 100) + b"\0\x06" + b"hello!"
    for chunks in ([stream], single(stream)):
        assert read(framing, chunks) == Outcome((b"hello",) * 100, MessageTooLong, 0)


def test_messages_of_many_lengths_are_sent_together() -> None:
    """`frame_all` gives the bytes of `frame` for messages of one length and of many."""
    framing = LengthPrefixed(2)
    for messages in ([b"a", b"b"], [b"a", b"bc", b""], [b""], [b"", b""]):
        assert framing.frame_all(messages) == b"".join([framing.frame(message) for message in messages])
