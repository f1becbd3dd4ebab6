"""The protocol of NATS, as servers and clients read and write it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.errors import MalformedFrame, MessageTooLong, TruncatedMessage, UnsendableMessage
from tcpapp.framing import from_string, nats
from tcpapp.framing.nats import NatsMessage
from tcpapp.testing.oracles import check_framing
from tests.framing.streams import Outcome, ends, read, same

SERVER, CLIENT = nats(), nats(side="client")
HEADERS = b"NATS/1.0\r\nA: b\r\n\r\n"

FROM_CLIENTS = {
    b'CONNECT {"verbose":false, "name":"a  b"}\r\n': NatsMessage((b"CONNECT", b'{"verbose":false, "name":"a  b"}')),
    b"PUB greet 5\r\nhello\r\n": NatsMessage((b"PUB", b"greet"), b"hello"),
    b"PUB greet reply 0\r\n\r\n": NatsMessage((b"PUB", b"greet", b"reply"), b""),
    b"HPUB greet 18 23\r\n" + HEADERS + b"hello\r\n": NatsMessage((b"HPUB", b"greet"), b"hello", HEADERS),
    b"HPUB greet reply 18 18\r\n" + HEADERS + b"\r\n": NatsMessage((b"HPUB", b"greet", b"reply"), b"", HEADERS),
    b"SUB greet.> 9\r\n": NatsMessage((b"SUB", b"greet.>", b"9")),
    b"SUB greet workers 9\r\n": NatsMessage((b"SUB", b"greet", b"workers", b"9")),
    b"UNSUB 9\r\n": NatsMessage((b"UNSUB", b"9")),
    b"UNSUB 9 5\r\n": NatsMessage((b"UNSUB", b"9", b"5")),
    b"PING\r\n": NatsMessage((b"PING",)),
    b"PONG\r\n": NatsMessage((b"PONG",)),
}
"""Lines of the client protocol that a client sends, and what a server receives."""

FROM_SERVERS = {
    b'INFO {"server_id":"x"}\r\n': NatsMessage((b"INFO", b'{"server_id":"x"}')),
    b"MSG greet 9 5\r\nhello\r\n": NatsMessage((b"MSG", b"greet", b"9"), b"hello"),
    b"MSG greet 9 reply 7\r\nMSG a\r\n\r\n": NatsMessage((b"MSG", b"greet", b"9", b"reply"), b"MSG a\r\n"),
    b"HMSG greet 9 18 18\r\n" + HEADERS + b"\r\n": NatsMessage((b"HMSG", b"greet", b"9"), b"", HEADERS),
    b"HMSG greet 9 reply 18 20\r\n" + HEADERS + b"hi\r\n": NatsMessage(
        (b"HMSG", b"greet", b"9", b"reply"), b"hi", HEADERS
    ),
    b"+OK\r\n": NatsMessage((b"+OK",)),
    b"-ERR 'Unknown Protocol Operation'\r\n": NatsMessage((b"-ERR", b"'Unknown Protocol Operation'")),
    b"PING\r\n": NatsMessage((b"PING",)),
    b"PONG\r\n": NatsMessage((b"PONG",)),
}
"""Lines of the client protocol that a server sends, and what a client receives."""


@pytest.mark.parametrize(("stream", "message"), FROM_CLIENTS.items())
def test_a_server_receives_each_message_of_a_client(stream: bytes, message: NatsMessage) -> None:
    """A message is its words without the lengths, its payload and its headers; a client sends it as the same bytes."""
    assert same(SERVER, stream) == Outcome((message,), None, 0)
    assert CLIENT.frame(message) == stream


@pytest.mark.parametrize(("stream", "message"), FROM_SERVERS.items())
def test_a_client_receives_each_message_of_a_server(stream: bytes, message: NatsMessage) -> None:
    """A message is its words without the lengths, its payload and its headers; a server sends it as the same bytes."""
    assert same(CLIENT, stream) == Outcome((message,), None, 0)
    assert SERVER.frame(message) == stream


def test_messages_can_come_one_after_the_other() -> None:
    """Messages in one stream are cut where they end."""
    assert read(SERVER, [b"".join(FROM_CLIENTS)]).messages == tuple(FROM_CLIENTS.values())
    assert read(CLIENT, [b"".join(FROM_SERVERS)]).messages == tuple(FROM_SERVERS.values())


def test_verbs_and_spaces_are_read_as_nats_server_reads_them() -> None:
    """A verb can be in any case, tabs separate words, too, and a line can end with LF or with a space."""
    stream = b"ping\nPub\tgreet   5 \nhello\r\nConnect\t{}\r\n"
    expected = (b"PING",), (b"PUB", b"greet"), (b"CONNECT", b"{}")
    assert tuple(each.words for each in same(SERVER, stream).messages) == expected


@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n",
        b"HELLO\r\n",
        b"MSG greet 9 5\r\nhello\r\n",
        b"PING 5\r\n",
        b"CONNECT\r\n",
        b"PUB 5\r\nhello\r\n",
        b"PUB\r\n",
        b"PUB a b c 5\r\nhello\r\n",
        b"HPUB a 5\r\nhello\r\n",
        b"HPUB a b c 1 2\r\n",
        b"HPUB a 6 5\r\nhello!\r\n",
        b"SUB a\r\n",
        b"SUB a b c d\r\n",
        b"UNSUB\r\n",
        b"PUB a +5\r\nhello\r\n",
        b"PUB a -5\r\nhello\r\n",
        b"PUB a 1_0\r\n",
        b"PUB a \xd9\xa5\r\nhello\r\n",
        b"HPUB a x 5\r\nhello\r\n",
        b"PUB a 3\r\nhello\r\n",
        b"PUB a\0 5\r\nhello\r\n",
        b"PUB a\rb 5\r\nhello\r\n",
        b"\x00\x80\r\n",
    ],
)
def test_malformed_lines(stream: bytes) -> None:
    """A verb of the other side, another number of words, a false length and control characters are malformed."""
    assert same(SERVER, b"PING\r\n" + stream) == Outcome((NatsMessage((b"PING",)),), MalformedFrame, 0)


def test_a_client_refuses_the_verbs_of_clients() -> None:
    """A client receives only what servers send, and the error names that."""
    assert "takes INFO, MSG, HMSG, PING, PONG, +OK, -ERR" in str(ends(CLIENT, [b"PUB a 5\r\nhello\r\n"]))


def test_lines_are_bounded() -> None:
    """A client's line has 4,096 bytes at most, and a server's 32 KiB, since an ``INFO`` names a whole cluster."""
    assert read(SERVER, [b"CONNECT " + b"x" * 4088 + b"\r\n"]).failure is MessageTooLong
    assert read(SERVER, [b"CONNECT " + b"x" * 4087 + b"\r\n"]).failure is None
    assert type(ends(SERVER, [b"x" * 4098])) is MessageTooLong
    assert read(CLIENT, [b"INFO " + b"x" * 32000 + b"\r\n"]).failure is None
    assert type(ends(CLIENT, [b"x" * 32770])) is MessageTooLong


def test_a_payload_is_bounded() -> None:
    """A length that does not fit into ``max`` is refused before the payload comes."""
    for size in (b"1048576", b"999999999999999999"):
        assert type(ends(SERVER, [b"PUB a " + size + b"\r\n"])) is MessageTooLong
        assert type(ends(SERVER, [b"HPUB a 5 " + size + b"\r\nhello"])) is MessageTooLong
    assert same(SERVER, b"PUB a 5\r\nhel") == Outcome((), TruncatedMessage, 0)


@pytest.mark.parametrize(
    "message",
    [
        NatsMessage(()),
        NatsMessage((b"HELLO",)),
        NatsMessage((b"ping",)),
        NatsMessage((b"PING", b"x")),
        NatsMessage((b"PING",), b"x"),
        NatsMessage((b"PUB", b"a")),
        NatsMessage((b"PUB", b"a"), "x"),  # type: ignore[arg-type]
        NatsMessage((b"PUB", b"a"), b"x", HEADERS),
        NatsMessage((b"HPUB", b"a"), b"x"),
        NatsMessage((b"PUB", b"a b"), b"x"),
        NatsMessage((b"PUB", b"a\r\nPING"), b"x"),
        NatsMessage((b"HPUB", b"a\tb"), b"x", HEADERS),
        NatsMessage((b"CONNECT", b"{}\r\nPING")),
        NatsMessage((b"CONNECT", b"")),
        NatsMessage((b"CONNECT", b" {}")),
        NatsMessage((b"CONNECT", "{}")),  # type: ignore[arg-type]
        NatsMessage((b"INFO", b"{\t}")),
        b"PING",
        (b"PING",),
        None,
    ],
)
def test_a_message_that_a_peer_would_read_otherwise_is_not_sent(message: Any) -> None:
    """A message is sent only if the peer reads the same message."""
    with pytest.raises(UnsendableMessage):
        CLIENT.frame(message)


words = st.binary(min_size=1, max_size=9).map(lambda each: bytes(33 + byte % 94 for byte in each))
payloads = st.binary(max_size=20)
both = st.sampled_from([NatsMessage((b"PING",)), NatsMessage((b"PONG",))])
of_clients = st.one_of(
    both,
    st.builds(lambda subject, payload: NatsMessage((b"PUB", subject), payload), words, payloads),
    st.builds(
        lambda subject, headers, payload: NatsMessage((b"HPUB", subject), payload, headers), words, payloads, payloads
    ),
    st.builds(lambda subject, sid: NatsMessage((b"SUB", subject, sid)), words, words),
    st.builds(lambda first, second: NatsMessage((b"CONNECT", first + b"  " + second)), words, words),
)
of_servers = st.one_of(
    both,
    st.builds(lambda subject, sid, payload: NatsMessage((b"MSG", subject, sid), payload), words, words, payloads),
    st.builds(lambda text: NatsMessage((b"-ERR", b"'" + text + b"'")), words),
    st.just(NatsMessage((b"+OK",))),
)


@given(of_clients, of_servers)
def test_what_is_sent_is_received(request_: NatsMessage, said: NatsMessage) -> None:
    """Each message is received as it was sent."""
    assert read(SERVER, [CLIENT.frame(request_)]).messages == (request_,)
    assert read(CLIENT, [SERVER.frame(said)]).messages == (said,)


@pytest.mark.exhaustive
def test_the_server_side_keeps_the_promises_of_a_framing() -> None:
    """The kit's check holds for what clients send."""
    check_framing(nats, of_clients, frame=CLIENT.frame, examples=20)


@pytest.mark.exhaustive
def test_the_client_side_keeps_the_promises_of_a_framing() -> None:
    """The kit's check holds for what servers send."""
    check_framing(lambda: nats(side="client"), of_servers, frame=SERVER.frame, examples=20)


def test_specs() -> None:
    """The spec has the side; a server's is the default."""
    assert from_string("nats") == SERVER
    assert from_string("nats:side=client:max=2000") == nats(side="client", max=2000)
    assert str(CLIENT) == "nats:side=client"
