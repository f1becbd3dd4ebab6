"""STOMP: frames with headers, escapes, and bodies before a NUL or of a length."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.errors import MalformedFrame, MessageTooLong, TruncatedMessage, UnsendableMessage
from tcpapp.framing.stomp import HEARTBEAT, StompFrame, stomp
from tcpapp.testing.oracles import check_framing


def received(stream: bytes) -> list[StompFrame]:
    """Return the frames of a stream that ends well."""
    framing = stomp()
    messages = framing.receive(stream)
    framing.finish()
    return messages


STREAMS = {
    b"CONNECT\naccept-version:1.2\nhost:stomp.github.org\n\n\0": StompFrame(
        "CONNECT", {"accept-version": "1.2", "host": "stomp.github.org"}
    ),
    b"SEND\ndestination:/queue/a\ncontent-type:text/plain\n\nhello queue a\n\0": StompFrame(
        "SEND", {"destination": "/queue/a", "content-type": "text/plain"}, b"hello queue a\n"
    ),
    b"SEND\r\ndestination:/queue/a\r\n\r\nhello\0": StompFrame("SEND", {"destination": "/queue/a"}, b"hello"),
    b"DISCONNECT\n\n\0": StompFrame("DISCONNECT", {}),
    b"SEND\ndestination:a\ncontent-length:3\n\na\0b\0": StompFrame(
        "SEND", {"destination": "a", "content-length": "3"}, b"a\0b"
    ),
    b"SEND\ncontent-length:0\n\n\0": StompFrame("SEND", {"content-length": "0"}),
    b"MESSAGE\nfoo:World\nfoo:Hello\n\n\0": StompFrame("MESSAGE", {"foo": "World"}),
    b"MESSAGE\na\\cb:c\\\\n\\r\\n\n\n\0": StompFrame("MESSAGE", {"a:b": "c\\n\r\n"}),
    b"CONNECTED\nserver:a\\n:1\n\n\0": StompFrame("CONNECTED", {"server": "a\\n:1"}),
    b"MESSAGE\n x : y \nempty:\n\n\0": StompFrame("MESSAGE", {" x ": " y ", "empty": ""}),
    b"MESSAGE\nurl:http://a\n\n\0": StompFrame("MESSAGE", {"url": "http://a"}),
    "MESSAGE\ngrüße:ß\n\n\0".encode(): StompFrame("MESSAGE", {"grüße": "ß"}),
}
"""Streams of one frame; the first ones are of the specification."""


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_gives_its_frame(stream: bytes) -> None:
    """A frame with its command, its headers and its body is read; of a repeated header, the first counts."""
    assert received(stream) == [STREAMS[stream]]


@pytest.mark.parametrize("stream", STREAMS)
def test_a_frame_is_received_as_it_was_sent(stream: bytes) -> None:
    """The bytes that are made of a frame give this frame again."""
    assert received(stomp().frame(STREAMS[stream])) == [STREAMS[stream]]


def test_line_ends_between_frames_are_no_messages() -> None:
    """Line ends between two frames, which can be heart-beats, are left out. A stream can end behind them."""
    frame = b"DISCONNECT\n\n\0"
    assert received(b"\n\r\n" + frame + b"\n\n" + frame + b"\r\n") == [StompFrame("DISCONNECT", {})] * 2


def test_any_number_of_heart_beats_is_read() -> None:
    """Heart-beats do not count as a part of a frame, so more of them than `max` end no stream, and none is held."""
    framing = stomp(max=20)
    for _ in range(100):
        assert framing.receive(b"\n") == []
        assert framing.held == 0
    assert framing.receive(b"DISCONNECT\n\n\0") == [StompFrame("DISCONNECT", {})]


def test_a_heart_beat_is_sent_as_a_line_end() -> None:
    """The message `HEARTBEAT` is sent as LF."""
    assert stomp().frame(HEARTBEAT) == b"\n"


def test_a_header_is_sent_with_escapes() -> None:
    r"""CR, LF, ``:`` and the backslash are sent as escapes."""
    assert stomp().frame(StompFrame("SEND", {"a:b": "\\\r\nc"})) == b"SEND\na\\cb:\\\\\\r\\nc\n\n\0"


@pytest.mark.parametrize("command", ["CONNECT", "CONNECTED"])
def test_a_header_of_a_connect_frame_is_sent_without_escapes(command: str) -> None:
    """In CONNECT and CONNECTED nothing is escaped, so what would need an escape cannot be sent."""
    assert stomp().frame(StompFrame(command, {"a": "b:c\\d"})) == command.encode() + b"\na:b:c\\d\n\n\0"
    for headers in ({"a:b": "c"}, {"a": "b\nc:d"}, {"a": "b\rc"}, {"a\n": "b"}):
        with pytest.raises(UnsendableMessage):
            stomp().frame(StompFrame(command, headers))


def test_a_body_with_a_nul_is_sent_with_its_length() -> None:
    """A body with a NUL gets a content-length. Another body gets none: some brokers take that for binary data."""
    assert stomp().frame(StompFrame("SEND", {}, b"a\0")) == b"SEND\ncontent-length:2\n\na\0\0"
    assert stomp().frame(StompFrame("SEND", {}, b"a")) == b"SEND\n\na\0"


MALFORMED = {
    "a command in small letters": b"send\n\n\0",
    "a command with a space": b"SEND \n\n\0",
    "a command of 33 letters": b"S" * 33 + b"\n\n\0",
    "a command with a CR": b"SE\rND\n\n\0",
    "a NUL between frames": b"\0",
    "a header without a colon": b"SEND\na\n\n\0",
    "a header without a name": b"SEND\n:a\n\n\0",
    "a header with a CR": b"SEND\na:b\rc\n\n\0",
    "a header with two CRs": b"SEND\na:b\r\r\n\n\0",
    "a header with a NUL": b"SEND\na:b\0c\n\n\0",
    "an unknown escape": b"SEND\na:\\t\n\n\0",
    "half an escape": b"SEND\na:b\\\n\n\0",
    "a header that is not UTF-8": b"SEND\na:\xff\n\n\0",
    "no NUL after the length": b"SEND\ncontent-length:1\n\nab\0",
    "a length with a sign": b"SEND\ncontent-length:+1\n\na\0",
    "a negative length": b"SEND\ncontent-length:-1\n\na\0",
    "a length with a space": b"SEND\ncontent-length: 1\n\na\0",
    "a length with an underscore": b"SEND\ncontent-length:1_0\n\naaaaaaaaaa\0",
    "an empty length": b"SEND\ncontent-length:\n\n\0",
    "a length in other digits": "SEND\ncontent-length:\N{ARABIC-INDIC DIGIT ONE}\n\na\0".encode(),
    "1,001 headers": b"SEND\n" + b"a:b\n" * 1001 + b"\n\0",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_frame_is_refused(case: str) -> None:
    """A stream that is no frame of STOMP ends with an error."""
    with pytest.raises(MalformedFrame):
        stomp().receive(MALFORMED[case] + b"\n" * 64)


@pytest.mark.parametrize(
    "stream",
    [b"SEND\na:" + b"b" * 10_240 + b"\n\n\0", b"SEND" * 20, b"SEND\ncontent-length:999999999999\n\n"],
    ids=["a long header", "a long command", "a long body"],
)
def test_what_is_too_long_is_refused(stream: bytes) -> None:
    """A line or a body that is too long ends the stream, before it is whole."""
    with pytest.raises(MessageTooLong):
        stomp().receive(stream)


def test_a_frame_with_1000_headers_is_read() -> None:
    """As many headers as are permitted, and a header of 10 KiB, are read and sent."""
    most = StompFrame("SEND", {str(each): "x" for each in range(1000)})
    long = StompFrame("SEND", {"a": "b" * 10_238})
    assert received(stomp().frame(most) + stomp().frame(long)) == [most, long]


def test_a_stream_that_ends_inside_a_frame_is_truncated() -> None:
    """A stream that ends before the NUL of its frame ends with an error."""
    framing = stomp()
    framing.receive(b"SEND\n\nhel")
    with pytest.raises(TruncatedMessage):
        framing.finish()


@pytest.mark.parametrize(
    "message",
    [
        StompFrame("send", {}),
        StompFrame("SEND\n\n\0SEND", {}),
        StompFrame("", {}, b"body"),
        StompFrame("", {"a": "b"}),
        StompFrame("SEND", {"": "b"}),
        StompFrame("SEND", {"a": "b\0"}),
        StompFrame("SEND", {"a": "\ud800"}),
        StompFrame("SEND", {"a": 5}),  # type: ignore[dict-item]  # what an app can do wrong
        StompFrame("SEND", {"a": "b" * 10_239}),
        StompFrame("SEND", {str(each): "x" for each in range(1001)}),
        StompFrame("SEND", {"content-length": "4"}, b"hello"),
        StompFrame("SEND", {"content-length": "05"}, b"hello"),
        StompFrame("SEND", {}, "hello"),  # type: ignore[arg-type]
        "SEND",
        b"SEND\n\n\0",
        None,
    ],
)
def test_a_message_that_is_no_frame_is_not_sent(message: Any) -> None:
    """A message that its peer would not read as the same frame cannot be sent."""
    with pytest.raises(UnsendableMessage):
        stomp().frame(message)


@pytest.mark.exhaustive
def test_the_promises_of_every_framing_hold() -> None:
    """Frames with and without bodies keep the promises of every framing."""
    check_framing(stomp, list(STREAMS.values())[::2], examples=20)
