"""Echo: every message is sent back."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp import MessageServerFactory
from tcpapp.apps import echo
from tests.peers import joined


@pytest.mark.parametrize("message", [b"", b"hello", "hallo", {"n": 1}, None, [b"\0"]])
def test_a_message_comes_back(message: Any) -> None:
    """`echo` returns the message itself, whatever the message is."""
    assert echo(message, None) is message


@pytest.mark.parametrize(
    ("framing", "codec", "data"),
    [
        ("line", None, b"one\n\ntwo\n"),
        ("line", None, b"a line that ends in CR\r\r\n"),
        ("raw", None, b"\0anything\xff"),
        ("int16", None, b"\0\0\0\3abc"),
        ("line", "text", "grüße\n".encode()),
        ("line", "json", b'{"a":[1,2.5,"x"]}\n'),
    ],
)
def test_a_connection_gets_its_own_bytes_back(framing: str, codec: str | None, data: bytes) -> None:
    """With every framing and codec, a client gets the bytes that it has sent."""
    client = joined(MessageServerFactory(echo, framing, codec=codec))
    client.receive(data)
    client.receive(data)
    assert client.value() == data * 2
