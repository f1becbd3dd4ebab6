"""The reader of PROXY headers: the table of streams, at any cut, and the other promises of a reader."""

from __future__ import annotations

import socket
import struct
import sys
import time
import tracemalloc
from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tcpapp.close_reason import EndedBy
from tcpapp.errors import InvalidOption, MalformedProxyHeader, UnreadableStream
from tcpapp.proxy_protocol import DEFAULT_MAX, Family, Header, HeaderReader, InetAddress, frame
from tests.examples import MANY
from tests.proxy_protocol.cases import BAD, GOOD, INET, LINE, REST, SIGNATURE, cuts, outcome, read, tcp4, tlv, v2
from tests.proxy_protocol.strategies import chunks_of, headers

each_good = pytest.mark.parametrize(("stream", "header"), GOOD.values(), ids=GOOD)
each_bad = pytest.mark.parametrize(("stream", "words"), BAD.values(), ids=BAD)

# The table


@each_good
def test_a_header_is_read(stream: bytes, header: Header) -> None:
    """The reader gives the header and the bytes behind it, the same at any cut."""
    for chunks in cuts(stream + REST):
        assert read(HeaderReader(), chunks) == (header, REST)


@each_good
def test_every_byte_of_a_header_is_needed(stream: bytes, header: Header) -> None:
    """The reader gives the header with its last byte, and not before."""
    for chunks in cuts(stream[:-1]):
        reader = HeaderReader()
        assert read(reader, chunks) == (None, b"")
        assert reader.held == len(stream) - 1
        assert reader.receive(stream[-1:]) == header
        assert reader.rest == b""


@each_bad
def test_an_invalid_stream_raises_its_error(stream: bytes, words: str) -> None:
    """An invalid stream raises an error with the same words, at any cut and whatever follows."""
    said = {str(outcome(HeaderReader(), chunks)) for each in (stream, stream + REST) for chunks in cuts(each)}
    assert len(said) == 1
    assert words in said.pop()


@each_bad
def test_an_invalid_stream_raises_with_its_first_wrong_byte(stream: bytes, words: str) -> None:
    """Before the first wrong byte of an invalid stream, the reader asks for more."""
    for chunks in cuts(stream[:-1]):
        assert outcome(HeaderReader(), chunks) == (None, b"")


@each_bad
def test_an_error_is_fit_for_a_log(stream: bytes, words: str) -> None:
    """The text of an error is one short line without control characters, whatever the peer sent."""
    said = str(outcome(HeaderReader(), [stream]))
    assert said.isprintable()
    assert len(said) < 4 * 107 + 200


# The other promises of a reader


def test_a_line_of_one_byte_too_many() -> None:
    """A line whose CRLF comes one byte too late is refused."""
    stream = b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n"
    for chunks in cuts(stream):
        assert "a PROXY line of more than 107 bytes" in outcome(HeaderReader(), chunks)


def test_bytes_behind_the_header_are_in_rest() -> None:
    """`rest` has the bytes behind the header in its chunk, and then the whole of each later chunk."""
    reader = HeaderReader()
    assert reader.receive(LINE[:20]) is None
    assert reader.rest == b""
    header = reader.receive(LINE[20:] + b"hello")
    assert (reader.header, reader.rest) == (header, b"hello")
    assert reader.receive(b" and more") is header
    assert reader.rest == b" and more"
    assert reader.receive(b"") is header
    assert reader.rest == b""
    reader.finish()


def test_the_example_of_the_docstring_works() -> None:
    """The calls in the docstring of `HeaderReader` give the shown results."""
    reader = HeaderReader()
    assert reader.receive(b"PROXY TCP4 192.168.0.1 ") is None
    assert str(reader.receive(b"192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n").source) == "192.168.0.1:56324"
    assert reader.rest == b"GET / HTTP/1.1\r\n"


def test_a_second_header_is_data() -> None:
    """A proxy behind a proxy writes only its own header (section 4.1), so a second header is data."""
    reader = HeaderReader()
    reader.receive(LINE * 2)
    assert reader.rest == LINE


def test_an_empty_chunk_changes_nothing() -> None:
    """An empty chunk before, inside and behind a header changes nothing."""
    reader = HeaderReader()
    assert reader.receive(b"") is None
    assert read(reader, [LINE[:7], b"", LINE[7:], b""])[0] == GOOD["the example"][1]


@pytest.mark.parametrize("versions", [(1,), [2], {1, 2}, range(1, 3), (2, 1, 2)])
def test_only_the_given_versions_are_accepted(versions: tuple[int, ...]) -> None:
    """A header of another version fails at its first byte, and the error names the accepted version."""
    for version, stream, name in ((1, LINE, "'PROXY TCP4 '"), (2, v2(0x21, 0x11, INET), repr(SIGNATURE.decode()))):
        reader = HeaderReader(versions=versions)
        if version in versions:
            assert reader.receive(stream).version == version
        else:
            with pytest.raises(MalformedProxyHeader, match="a PROXY header begins with") as caught:
                reader.receive(stream[:1])
            assert name not in str(caught.value)
            assert f"(version {3 - version})" in str(caught.value)


@pytest.mark.parametrize("versions", [(), (0,), (1, 3), {"1"}])
def test_invalid_versions_are_refused(versions: tuple[int, ...]) -> None:
    """`versions` takes 1, 2 or both; an empty list is refused, because a server does not guess."""
    with pytest.raises(InvalidOption, match=r"^versions=.*: takes 1, 2 or both, as in versions=\(1, 2\)$"):
        HeaderReader(versions=versions)


@pytest.mark.parametrize("most", [106, 65552, -1, True, 4096.0, "4096", None])
def test_an_invalid_max_is_refused(most: object) -> None:
    """`max` takes a whole number from 107 to 65551."""
    with pytest.raises(InvalidOption, match=r"^max=.*: takes a whole number, 107 to 65551$"):
        HeaderReader(max=most)


@pytest.mark.parametrize("most", [107, 500, DEFAULT_MAX, 65551])
def test_max_is_of_the_whole_header(most: int) -> None:
    """A header of `max` bytes is read; a header of one byte more is refused when its length has come."""
    longest = v2(0x20, 0x00, bytes(most - 16))
    assert outcome(HeaderReader(max=most), [longest + REST]) == (GOOD["v2 LOCAL"][1], REST)
    if most < 65551:
        reader = HeaderReader(max=most)
        with pytest.raises(MalformedProxyHeader) as caught:
            reader.receive(v2(0x20, 0x00, length=most - 15))
        assert (caught.value.value, caught.value.limit) == (most + 1, most)


@pytest.mark.parametrize("name", ["the worst case", "the longest TCP6", "v2 TCP6"])
def test_the_smallest_max_fits_ordinary_headers(name: str) -> None:
    """The longest line, and the addresses of version 2, fit into 107 bytes."""
    stream, header = GOOD[name]
    assert outcome(HeaderReader(max=107), [stream + REST]) == (header, REST)


@pytest.mark.parametrize(
    ("stream", "value", "limit"),
    [
        (b"PROXY UNKNOWN ".ljust(106, b"x"), 108, 107),
        (v2(0x21, 0x11, length=11), 11, 12),
        (v2(0x21, 0x00, length=5000), 5016, 4096),
        (b"GET", None, None),
    ],
)
def test_an_error_has_the_length_and_the_limit(stream: bytes, value: int | None, limit: int | None) -> None:
    """The error of a wrong length has the length and its limit; another error has neither."""
    with pytest.raises(MalformedProxyHeader) as caught:
        HeaderReader().receive(stream)
    assert (caught.value.value, caught.value.limit) == (value, limit)


def test_a_failure_has_a_close_reason() -> None:
    """The error of a reader gives a `CloseReason` with the rule "malformed-proxy-header"."""
    with pytest.raises(UnreadableStream) as caught:
        HeaderReader().receive(b"GET / HTTP/1.1\r\n")
    reason = caught.value.close_reason()
    assert (reason.by, reason.rule) == (EndedBy.US, "malformed-proxy-header")


@pytest.mark.parametrize("stream", [b"GET", tcp4(b"\4"), b"PROXY TCP4 x\r\n"])
def test_failure_is_terminal(stream: bytes) -> None:
    """After a failure, every call raises the same error again, and its traceback does not grow."""
    reader = HeaderReader()
    with pytest.raises(MalformedProxyHeader) as caught:
        reader.receive(stream)
    for call in [lambda: reader.receive(LINE), lambda: reader.receive(b""), reader.finish] * 9:
        with pytest.raises(MalformedProxyHeader) as again:
            call()
        assert again.value is caught.value is reader.failure
    depth, trace = 0, caught.value.__traceback__
    while trace is not None:
        depth, trace = depth + 1, trace.tb_next
    assert depth < 6
    assert (reader.held, reader.header, reader.rest) == (0, None, b"")


@pytest.mark.parametrize("stream", [LINE, v2(0x21, 0x11, INET)])
def test_a_stream_that_ends_inside_the_header(stream: bytes) -> None:
    """A stream that ends inside the header raises an error with the number of bytes that had come."""
    for size in range(1, len(stream)):
        reader = HeaderReader()
        reader.receive(stream[:size])
        with pytest.raises(MalformedProxyHeader, match=f"ended inside a PROXY header, of which {size} bytes") as caught:
            reader.finish()
        assert caught.value.value == size
        assert reader.failure is caught.value


def test_an_empty_stream() -> None:
    """A stream that ends without a byte, as a port check does, raises an error with the value 0."""
    reader = HeaderReader()
    with pytest.raises(MalformedProxyHeader, match=r"^the stream ended before a PROXY header, which must") as caught:
        reader.finish()
    assert caught.value.value == 0


def test_readers_share_nothing() -> None:
    """Two readers have no state in common."""
    one, other = HeaderReader(), HeaderReader()
    one.receive(LINE[:20])
    assert other.receive(v2(0x20, 0)) == GOOD["v2 LOCAL"][1]
    assert one.receive(LINE[20:]) == GOOD["the example"][1]


# Any bytes

beginnings = st.sampled_from(
    [b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ::1 ", b"PROXY UNKNOWN", SIGNATURE, SIGNATURE + b"\x21\x11"]
    + [v2(0x21, 0x11, INET, length=12 + more) for more in range(30)]
)
pieces = st.lists(
    st.one_of(st.binary(max_size=9), st.sampled_from([b" ", b"\r\n", b"1", b"::", b"\x03\0\4", b"\x20\0\5"]))
)
streams = st.builds(lambda start, rest: start + b"".join(rest), beginnings, pieces)


@pytest.mark.exhaustive
@settings(max_examples=MANY)
@given(st.one_of(st.binary(max_size=200), streams), st.data())
def test_any_bytes(stream: bytes, data: st.DataObject) -> None:
    """Any bytes give a header, a MalformedProxyHeader, or a wait for more, the same at any cut."""
    expected = outcome(HeaderReader(), [stream])
    assert outcome(HeaderReader(), [stream[at : at + 1] for at in range(len(stream))]) == expected
    assert outcome(HeaderReader(), data.draw(chunks_of(stream))) == expected


@pytest.mark.exhaustive
@settings(max_examples=MANY)
@given(st.sampled_from([stream for stream, _ in GOOD.values() if len(stream) < 500]), st.data())
def test_headers_with_a_few_bytes_changed(stream: bytes, data: st.DataObject) -> None:
    """
    A header with a few changed bytes gives the same outcome at any cut.

    A header that is read can be written and read again.
    """
    changed = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    expected = outcome(HeaderReader(), [bytes(changed)])
    assert outcome(HeaderReader(), data.draw(chunks_of(bytes(changed)))) == expected
    if isinstance(expected, tuple) and expected[0] is not None:
        assert HeaderReader().receive(frame(expected[0])) == expected[0]


@pytest.mark.exhaustive
@settings(max_examples=200)
@given(header=headers(), rest=st.binary(max_size=50), checksum=st.booleans(), data=st.data())
def test_a_written_header_is_read_unchanged(header: Header, rest: bytes, checksum: bool, data: st.DataObject) -> None:
    """Any valid header is read as it was written, at any cut, with the bytes behind it."""
    has_room = header.version == 2 and header.relayed
    written = frame(header, checksum=checksum and has_room)
    found, behind = read(HeaderReader(), data.draw(chunks_of(written + rest)))
    assert behind == rest
    if checksum and has_room:
        assert found.crc32c is not None
        assert found.tlvs[:-1] == header.tlvs
        assert (found.family, found.source, found.destination) == (header.family, header.source, header.destination)
        assert frame(found) == written
    else:
        assert found == header


@pytest.mark.exhaustive
@given(header=headers().filter(lambda header: header.version == 2 and header.relayed), data=st.data())
def test_a_checksum_finds_any_flipped_bit(header: Header, data: st.DataObject) -> None:
    """Whichever bit of a header is flipped, the header is not read as one with a correct checksum."""
    written = frame(header, checksum=True)
    place = data.draw(st.integers(0, 8 * len(written) - 1))
    turned = bytearray(written)
    turned[place // 8] ^= 1 << place % 8
    found = outcome(HeaderReader(), [bytes(turned)])
    # The flipped bit can make the header LOCAL or UNSPEC, make it longer, or remove the checksum: no checksum helps
    # against that.
    assert isinstance(found, str) or found[0] is None or found[0].crc32c is None


addresses = st.one_of(
    st.ip_addresses().map(str),
    st.lists(st.sampled_from(["", "0", "1", "ffff", "F", "00001", "g", "1.2.3.4", "01.2.3.4", "1.2.3", "%1"])).map(
        ":".join
    ),
    st.lists(st.sampled_from(["0", "1", "00", "01", "255", "256", "", "+1", "0x1"]), max_size=5).map(".".join),
    st.text("0123456789abcdefABCDEFx.:%/[]", max_size=20),
)


@pytest.mark.exhaustive
@settings(max_examples=300)
@given(st.sampled_from([Family.TCP4, Family.TCP6]), addresses)
@example(Family.TCP6, "::ffff:1.2.3.4")
@example(Family.TCP6, "1:2:3:4:5:6:7::")
def test_version_1_accepts_the_addresses_of_inet_pton(family: Family, address: str) -> None:
    """Version 1 accepts the addresses that inet_pton of the C library accepts, with the same result."""
    other, kind = ("0.0.0.0", socket.AF_INET) if family is Family.TCP4 else ("::", socket.AF_INET6)
    expected = None
    with suppress(OSError):
        expected = InetAddress(ip_address(socket.inet_pton(kind, address)), 1)
    found = outcome(HeaderReader(), [f"PROXY {family.name} {address} {other} 1 2\r\n".encode()])
    assert (None if isinstance(found, str) else found[0].source) == expected


# Memory and time


@pytest.mark.parametrize("start", [b"PROXY UNKNOWN ", v2(0x20, 0, length=4080), b""])
def test_no_more_than_max_is_held(start: bytes) -> None:
    """At most `max` bytes are held, of a long chunk and of many short ones."""
    for chunks in ([start + bytes(1 << 20)], [start, *[b"x"] * 5000], [start, *[bytes(1000)] * 9]):
        reader = HeaderReader()
        for chunk in chunks:
            if outcome(reader, [chunk]) != (None, b""):
                break
            assert reader.held <= 4096
            assert sys.getsizeof(reader._held) < 2 * 4096


@pytest.mark.parametrize(("start", "most"), [(v2(0x20, 0x00), 1.25 * (1 << 20)), (b"GET / ", 1 << 16)])
def test_a_long_chunk_is_not_copied(start: bytes, most: float) -> None:
    """Of a long chunk, only the bytes behind the header are copied, once; an invalid chunk is not copied."""
    chunk = start + bytes(1 << 20)
    reader = HeaderReader()
    tracemalloc.start()
    try:
        outcome(reader, [chunk])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most


def test_a_reader_is_small() -> None:
    """A reader takes less than 250 bytes, because each new connection has one."""
    reader = HeaderReader()
    assert sys.getsizeof(reader) + sys.getsizeof(reader._held) < 250
    assert not hasattr(reader, "__dict__")


@pytest.mark.exhaustive
def test_time_is_linear() -> None:
    """Sixteen times as many bytes, one at a time, take less than forty times the CPU time."""

    def seconds(size: int) -> float:
        stream = v2(0x21, 0x11, INET + tlv(4, bytes(size - 31)))
        best = float("inf")
        for _ in range(3):
            reader = HeaderReader(max=65551)
            began = time.process_time()
            for at in range(size):
                reader.receive(stream[at : at + 1])
            best = min(best, time.process_time() - began)
            assert reader.header is not None
        return best

    assert seconds(16_000) < 40 * seconds(1_000)


def test_the_wire_is_as_the_specification_draws_it() -> None:
    """A header with the union `proxy_addr` of section 2.2, packed as C packs it, is read and written unchanged."""
    ports = struct.pack(">HH", 56324, 443)
    unions = {
        0x11: ip_address("192.168.0.1").packed + ip_address("192.168.0.11").packed + ports,
        0x21: ip_address("2001:db8::1").packed + ip_address("2001:db8::2").packed + ports,
        0x31: b"/run/client" + bytes(97) + b"/run/server" + bytes(97),
    }
    for family, union in unions.items():
        header = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack(">BBH", 0x21, family, len(union)) + union
        assert frame(HeaderReader().receive(header)) == header
