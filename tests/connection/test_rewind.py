"""The bytes that another framing would read again: what is kept of a stream, how long, and how much of it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tcpapp import Timeouts, batch
from tcpapp.framing import Framing, Lines
from tests.peers import Peer, Switch

QUIET = Timeouts(first_message=0, idle=0, message_timeout=0)


def kept(peer: Peer) -> int:
    """Return how many bytes are kept for another framing."""
    rewind = peer.protocol._buffered.rewind
    return 0 if rewind is None else rewind.size


def rest(peer: Peer) -> bytes | None:
    """Return what another framing would read now."""
    result: bytes | None = peer.protocol._buffered.own_rewind().rest()
    return result


def test_the_synchronous_path_keeps_nothing() -> None:
    """An app that answers at once has no message in hand after the chunk, so nothing is kept, nor made for it."""
    peer = Peer(lambda message, connection: message, timeouts=QUIET)
    for chunk in (b"a\n", b"b\nc\n"):
        peer.says(chunk)
    assert peer.protocol._buffered.rewind is None
    for chunk in (b"d\ne", b"f\ng", b"\n"):
        peer.says(chunk)
        assert kept(peer) == 0


def test_a_message_in_hand_alone_keeps_nothing() -> None:
    """If nothing came behind the message in hand, no byte is kept."""
    app = Switch()
    peer = Peer(app, timeouts=QUIET)
    peer.says(b"a\n")
    assert (kept(peer), rest(peer)) == (0, b"")


def test_chunks_are_kept_from_the_message_in_hand_on() -> None:
    """With each answered message, the chunks before the next one are dropped."""
    app = Switch()
    peer = Peer(app, "raw", timeouts=QUIET)
    for chunk in (b"one", b"two", b"three"):
        peer.says(chunk)
    assert rest(peer) == b"twothree"
    app.pending[0].callback(None)
    assert (rest(peer), kept(peer)) == (b"three", len(b"three"))
    app.pending[1].callback(None)
    assert (rest(peer), kept(peer)) == (b"", 0)


def test_a_conversation_that_waits_for_a_message_keeps_nothing() -> None:
    """A large message that comes while the code waits for it is held once, by the framing."""
    peer = Peer(timeouts=QUIET)
    peer.connection.receive()
    peer.says(b"x" * 10_000)
    assert (kept(peer), peer.factory.info().buffered) == (0, 10_000)


def test_bytes_behind_an_unread_message_are_kept_for_code_that_fetches() -> None:
    """Code that does not wait for a message can still switch, so what came behind the last one is kept."""
    peer = Peer(timeouts=QUIET)
    peer.says(b"a\nb")
    peer.connection.receive()
    assert rest(peer) == b"b"


def test_a_framing_with_gaps_is_looked_at_more_closely() -> None:
    """Bytes between two messages of a framing that ignores them are kept, because another framing reads them."""
    app = Switch()
    peer = Peer(app, "slip", timeouts=QUIET)
    peer.says(b"\xc0a\xc0")
    assert kept(peer) == 0
    peer.says(b"\xc0b\xc0\xc0\xc0")
    app.pending[0].callback(None)
    assert (kept(peer), rest(peer)) == (2, b"\xc0\xc0")


def test_the_end_of_the_connection_frees_all() -> None:
    """After the end nothing is kept."""
    app = Switch()
    peer = Peer(app, timeouts=QUIET)
    peer.says(b"a\nb\nc")
    assert kept(peer) > 0
    peer.resets()
    assert peer.factory.info().buffered == 0


def test_what_is_kept_is_shortened_when_it_grows() -> None:
    """A stream whose chunks always end inside a message is shortened to what is behind the message in hand."""
    waits: list[Deferred[Any]] = []

    class App:
        async def received(self, message: bytes, connection: Any) -> None:
            waits.append(Deferred())
            await waits[-1]

    peer = Peer(App(), timeouts=QUIET)
    largest = 0
    for _ in range(600):
        peer.says(b"x" * 500 + b"\n" + b"y" * 499)
        while waits and not waits[-1].called:
            waits[-1].callback(None)
            peer.transport.turn()
        peer.says(b"\n")
        largest = max(largest, kept(peer))
        while not waits[-1].called and len(waits) % 3:
            waits[-1].callback(None)
            peer.transport.turn()
    assert largest < 140_000


def test_the_framing_alone_says_where_messages_end() -> None:
    """The framing of a connection is asked for the end of a message once for each switch, and not for each chunk."""
    asked: list[int] = []

    class Asked(Lines):
        def behind(self, mark: Any, data: bytes, count: int) -> bytes:
            asked.append(count)
            return super().behind(mark, data, count)

    framing: Framing = Asked()
    app = Switch()
    peer = Peer(app, framing, timeouts=QUIET)
    for _ in range(100):
        peer.says(b"a\nb\nc")
        while not app.pending[-1].called:
            app.pending[-1].callback(None)
    assert asked == []
    peer.says(b"\nd\ne")
    assert rest(peer) == b"d\ne"
    assert asked == [1]


def test_a_batch_app_keeps_nothing() -> None:
    """A batch app cannot switch, so nothing is kept for it."""
    waits: list[Deferred[Any]] = []

    @batch
    def app(messages: list[bytes], connection: Any) -> Deferred[Any]:
        waits.append(Deferred())
        return waits[-1]

    peer = Peer(app, timeouts=QUIET)
    peer.says(b"a\nb\nc")
    assert kept(peer) == 0


def test_the_message_in_hand_is_found_behind_earlier_chunks() -> None:
    """A message that was just handed on is found in a later chunk than the first that is kept."""
    first: Deferred[None] = Deferred()
    seen: list[bytes] = []

    def app(message: bytes, connection: Any) -> Any:
        seen.append(message)
        if message == b"three":
            connection.switch("line")
        return first if message == b"one" else None

    peer = Peer(app, "raw", timeouts=QUIET)
    for chunk in (b"one", b"two", b"three", b"a\n", b"b\n"):
        peer.says(chunk)
    first.callback(None)
    assert seen == [b"one", b"two", b"three", b"a", b"b"]


def test_a_long_message_whose_beginning_is_gone_is_not_shortened() -> None:
    """A message that began while nothing was in hand has no known place, and is kept as it is until its end."""
    peer = Peer(timeouts=QUIET)
    waits = peer.connection.receive().addErrback(lambda _: None)
    peer.says(b"x" * 1000)
    waits.cancel()
    peer.says(b"y" * 200_000)
    assert rest(peer) is None
    peer.says(b"\nnext")
    peer.connection.receive()
    assert rest(peer) == b"next"
