"""Which transports hold bytes that the system has not accepted."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.testing import StringTransport

from tcpapp.transport.unsent import holds_bytes


class Holding:
    """A transport with the buffers of Twisted's, or of our reactor."""

    def __init__(self, **state: Any) -> None:
        self.__dict__ |= state


@pytest.mark.parametrize(
    ("state", "holds"),
    [
        ({"dataBuffer": b"abc", "offset": 1}, True),
        ({"dataBuffer": b"abc", "offset": 3}, False),
        ({"dataBuffer": b"", "offset": 0, "_tempDataLen": 4}, True),
        ({"dataBuffer": b"", "offset": 0, "_tempDataLen": 0, "_blocked": True}, True),
        ({"dataBuffer": b"", "offset": 0, "_tempDataLen": 0, "_blocked": False}, False),
    ],
)
def test_each_buffer_counts(state: dict[str, Any], holds: bool) -> None:
    """Bytes count in each of Twisted's buffers, and while the kernel blocks our reactor."""
    assert holds_bytes(Holding(**state)) == holds


def test_a_transport_without_a_buffer_holds_nothing() -> None:
    """Transports of another kind hold no bytes that can be seen."""
    assert not holds_bytes(StringTransport())
