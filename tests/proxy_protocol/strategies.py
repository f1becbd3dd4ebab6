"""Strategies for any valid header and any cut of a stream."""

from __future__ import annotations

from hypothesis import strategies as st

from tcpapp.proxy_protocol import Command, Family, Header, InetAddress, Ssl, SslClient, SslType, Tlv, Type

ports = st.integers(0, 0xFFFF)
plain = st.binary(max_size=40)
ascii_bytes = st.text(st.characters(max_codepoint=127), max_size=20).map(str.encode)
utf8_bytes = st.text(max_size=20).map(str.encode)
paths = st.one_of(
    st.binary(max_size=108).filter(lambda path: b"\0" not in path),
    st.binary(max_size=107).map(lambda name: b"\0" + name).filter(lambda path: not path.endswith(b"\0")),
)


def tlvs_of(kinds: dict[int, st.SearchStrategy[bytes]], others: list[int]) -> st.SearchStrategy[tuple[Tlv, ...]]:
    """Draw TLVs of these kinds with their values, and of the other types with any bytes."""
    named = [st.builds(Tlv, st.just(int(kind)), values) for kind, values in kinds.items()]
    return st.lists(st.one_of(*named, st.builds(Tlv, st.sampled_from(others), plain)), max_size=5).map(tuple)


ssls = st.builds(
    Ssl,
    st.integers(0, 0xFF).map(SslClient),
    st.integers(0, 0xFFFFFFFF),
    tlvs_of(
        {kind: utf8_bytes if kind is SslType.CN else ascii_bytes for kind in SslType if kind != SslType.CLIENT_CERT},
        [SslType.CLIENT_CERT, 0, 0x29, 0xFF],
    ),
)
tlvs = tlvs_of(
    {
        Type.AUTHORITY: utf8_bytes,
        Type.UNIQUE_ID: st.binary(max_size=128),
        Type.SSL: ssls.map(bytes),
        Type.NETNS: ascii_bytes,
    },
    [Type.ALPN, Type.NOOP, 0, 0x06, 0x21, 0xE0, 0xF7, 0xFF],
)


def addresses(family: Family) -> st.SearchStrategy[InetAddress | bytes | None]:
    """Draw an address of this family."""
    if family is Family.UNSPEC:
        return st.none()
    if family in {Family.UNIX_STREAM, Family.UNIX_DGRAM}:
        return paths
    return st.builds(InetAddress, st.ip_addresses(v=4 if family in {Family.TCP4, Family.UDP4} else 6), ports)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """Draw a header of either version and any family, with TLVs where a header can have them."""
    version = draw(st.sampled_from([1, 2]))
    families = [Family.UNSPEC, Family.TCP4, Family.TCP6] if version == 1 else list(Family)
    family = draw(st.sampled_from(families))
    commands = [Command.PROXY] if version == 1 or family is not Family.UNSPEC else list(Command)
    carried = draw(tlvs) if version == 2 and family is not Family.UNSPEC else ()
    return Header(
        version,
        draw(st.sampled_from(commands)),
        family,
        draw(addresses(family)),
        draw(addresses(family)),
        carried,
    )


@st.composite
def chunks_of(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """Draw a cut of this stream into chunks."""
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[first:last] for first, last in zip([0, *places], [*places, len(stream)], strict=True)]
