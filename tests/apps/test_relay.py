"""What the proxies share: which targets are allowed, and the bytes between two ends."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.apps.relay import Proxy, Relay
from tcpapp.errors import InvalidOption
from tests.peers import NotedTransport


@pytest.mark.parametrize(
    ("host", "port", "allowed"),
    [
        ("example.com", 443, True),
        ("EXAMPLE.com.", 443, True),
        ("example.com", 80, False),
        ("a.example.com", 443, False),
        ("a.wild.org", 80, True),
        ("a.b.wild.org", 80, True),
        ("wild.org", 80, False),
        ("evilwild.org", 80, False),
        ("2001:db8::1", 22, True),
        ("127.0.0.1", 443, False),
        ("", 443, False),
        ("example.com\x00.evil.org", 443, False),
    ],
)
def test_a_target_is_allowed_by_its_name_and_its_port(host: str, port: int, allowed: bool) -> None:
    """Only a listed name with its port is allowed; a pattern allows names below it, and not the name itself."""
    proxy = Proxy(["Example.com:443", "*.wild.org:80", "[2001:db8::1]:22"])
    assert proxy.allows(host, port) is allowed


def test_nothing_is_allowed_by_default() -> None:
    """A proxy without targets serves nobody."""
    assert not Proxy([]).allows("example.com", 443)


@pytest.mark.parametrize("target", ["example.com", "example.com:", ":443", "a*.b:1", "a:0", "a:65536", "a:x", "a:²"])
def test_any_other_target_is_refused(target: str) -> None:
    """A target without a name or a port, or with a star inside, is an invalid option."""
    with pytest.raises(InvalidOption, match="NAME:PORT"):
        Proxy([target])


def pair() -> tuple[NotedTransport, NotedTransport]:
    """Return the transports of two joined ends: the target's, and the client's."""
    far, near = NotedTransport(), NotedTransport()
    target = Relay()
    far.connect(target)
    assert far.producerState == "paused"
    near.connect(Relay(target))
    return far, near


def test_bytes_are_passed_on_both_ways() -> None:
    """What one end receives, the other sends. The target is read from once the client's end is there."""
    far, near = pair()
    near.receive(b"ask")
    far.receive(b"answer")
    assert (far.value(), near.value()) == (b"ask", b"answer")


def test_a_slow_end_makes_the_other_peer_wait() -> None:
    """While one end does not take its bytes, the other end is not read from."""
    far, near = pair()
    near.stall()
    far.receive(b"x" * 300_000)
    assert far.producerState == "paused"
    near.go_on()
    for _ in range(10):
        near.turn()
        far.turn()
    assert near.value() == b"x" * 300_000


def test_each_side_is_closed_alone() -> None:
    """The end of one direction is passed on, and the other direction goes on."""
    far, near = pair()
    near.receive(b"ask")
    near.half_close()
    far.turn()
    assert far.finished
    far.receive(b"answer")
    near.turn()
    assert near.value() == b"answer"
    far.half_close()
    near.turn()
    assert near.finished


def test_the_loss_of_one_end_closes_the_other() -> None:
    """When one end is lost, the other is closed, behind what it has to send."""
    far, near = pair()
    far.receive(b"last")
    far.lose()
    near.turn()
    assert (near.value(), near.disconnecting) == (b"last", True)
    near.receive(b"late")


def test_a_transport_without_half_close_is_closed_as_a_whole() -> None:
    """TLS has no half-close, so the end of one direction closes both."""
    far, near = pair()
    far.loseWriteConnection = None  # type: ignore[assignment, method-assign]
    other: Any = far.protocol

    class Whole:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def unregisterProducer(self) -> None:
            self.calls.append("unregister")

        def loseConnection(self) -> None:
            self.calls.append("lose")

    other.transport = whole = Whole()
    near.half_close()
    assert whole.calls[:2] == ["unregister", "lose"]


def test_an_end_whose_other_is_gone_drops_what_comes() -> None:
    """Bytes, and the end of a direction, have no meaning where the other end is gone."""
    end = Relay()
    end.dataReceived(b"x")
    end.readConnectionLost()
    end.writeConnectionLost()
    end.connectionLost()
