"""Upper: every message is sent back in capitals."""

from __future__ import annotations

import pytest

from tcpapp import MessageServerFactory
from tcpapp.apps import upper
from tests.peers import joined


@pytest.mark.parametrize(
    ("codec", "received", "sent"),
    [
        (None, b"hello\n", b"HELLO\n"),
        (None, b"\nA1!\n", b"\nA1!\n"),
        (None, "grüße\n".encode(), "GRüßE\n".encode()),
        ("text", "grüße\n".encode(), "GRÜSSE\n".encode()),
        ("json", b'"hello"\n', b'"HELLO"\n'),
    ],
)
def test_a_message_comes_back_in_capitals(codec: str | None, received: bytes, sent: bytes) -> None:
    """In bytes, ASCII letters become capitals; with a codec, all letters do."""
    client = joined(MessageServerFactory(upper, codec=codec))
    client.receive(received)
    assert client.value() == sent


def test_the_app_can_be_awaited_in_a_test() -> None:
    """The app is a coroutine function, and a test can run it without a server."""
    with pytest.raises(StopIteration) as ended:
        upper(b"hello", None).send(None)
    assert ended.value.value == b"HELLO"
