"""SLIP, compared with RFC 1055."""

from __future__ import annotations

import pytest

from tcpapp.errors import MalformedFrame, MessageTooLong, TruncatedMessage, UnsendableMessage
from tcpapp.framing import Slip
from tests.framing.streams import Outcome, ends, same, single

VECTORS = [
    (b"hello", b"\xc0hello\xc0"),
    (b"\xc0", b"\xc0\xdb\xdc\xc0"),
    (b"\xdb", b"\xc0\xdb\xdd\xc0"),
    (b"\xdb\xdc", b"\xc0\xdb\xdd\xdc\xc0"),
    (b"\xdb\xdd", b"\xc0\xdb\xdd\xdd\xc0"),
    (b"\xdb\xc0\xdb\xdb\xdc", b"\xc0\xdb\xdd\xdb\xdc\xdb\xdd\xdb\xdd\xdc\xc0"),
    (b"a\xc0b\xdbc", b"\xc0a\xdb\xdcb\xdb\xddc\xc0"),
]


@pytest.mark.parametrize(("message", "framed"), VECTORS)
def test_rfc_1055(message: bytes, framed: bytes) -> None:
    """A packet has END first and last, its own END and ESC are escaped, and it is received unchanged at any cut."""
    assert Slip().frame(message) == framed
    assert same(Slip(), framed * 2).messages == (message, message)
    assert Slip().frame_all([message, b"x"]) == framed + b"\xc0x\xc0"


def test_empty_packets() -> None:
    """Two ENDs in a row are no packet, one END separates two packets, and an empty packet cannot be sent."""
    assert same(Slip(), b"\xc0\xc0\xc0a\xc0b\xc0\xc0\xc0").messages == (b"a", b"b")
    assert same(Slip(), b"a\xc0").messages == (b"a",)
    for send in (Slip().frame, lambda message: Slip().frame_all([b"a", message])):
        with pytest.raises(UnsendableMessage, match="no empty packets"):
            send(b"")


@pytest.mark.parametrize("oversize", ["close", "skip"])
@pytest.mark.parametrize("wrong", [b"\xdba", b"\xdb\xdb", b"\xdb\xdb\xdd", b"a\xdb\xde", b"\xdb\xdd\xdb\x00", b"\xdb"])
def test_wrong_escapes(wrong: bytes, oversize: str) -> None:
    """Any other byte than DC or DD behind an ESC is malformed, and so is the end of the packet."""
    framing = Slip(oversize=oversize)
    stream = b"\xc0ok\xc0" + wrong + b"\xc0ok\xc0"
    assert same(framing, stream) == Outcome((b"ok",), MalformedFrame, 0)
    assert "behind an ESC (DB) comes DC or DD" in str(ends(framing, [wrong + b"\xc0"]))


def test_end_inside_an_escape() -> None:
    """A stream that ends behind an ESC is truncated, and the ESC counts as held."""
    state = Slip()
    state.receive(b"\xc0\xdb")
    assert state.held == 1
    with pytest.raises(TruncatedMessage, match="1 bytes"):
        state.finish()


def test_max_is_of_the_packet() -> None:
    """``max`` counts a packet as the app gets it, without its escapes."""
    message = b"\xc0" * 9
    assert same(Slip(max=9), Slip().frame(message)).messages == (message,)
    assert same(Slip(max=8), Slip().frame(message)) == Outcome((), MessageTooLong, 0)
    state = Slip(max=9)
    for byte in single(Slip().frame(message)[:-1]):
        state.receive(byte)
        assert state.held <= 10


def test_the_first_fault_counts() -> None:
    """When a packet is too long and malformed, the fault that comes first in the stream is raised."""
    assert same(Slip(max=3), b"abcd\xdbx\xc0") == Outcome((), MessageTooLong, 0)
    assert same(Slip(max=3), b"abc\xdbxde\xc0") == Outcome((), MalformedFrame, 0)
    assert same(Slip(max=3, oversize="skip"), b"abcd\xdbx\xc0") == Outcome((), MalformedFrame, 0)
    assert same(Slip(max=3, oversize="skip"), b"abcd\xdb\xdc\xc0ok\xc0") == Outcome((b"ok",), None, 1)
