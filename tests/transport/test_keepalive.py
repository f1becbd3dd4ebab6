"""TCP keepalive: the options of a socket, and transports without them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.protocols.policies import ProtocolWrapper

from tcpapp.limits import Limits, Timeouts
from tcpapp.testing.transport import FakeTransport
from tcpapp.transport import keepalive

LIMITS = Limits(keepalive_count=7)
TIMEOUTS = Timeouts(keepalive=20.5, keepalive_interval=3, user_timeout=41.5)


class Transport:
    """A transport like Twisted's own, with a socket and the switch for keepalive."""

    def __init__(self, family: int = socket.AF_INET) -> None:
        self.socket = socket.socket(family)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def told(self, name: str) -> int:
        """Return the value of this option in the system."""
        return self.socket.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))


@pytest.fixture
def transport() -> Iterator[Transport]:
    """Give a transport, and close its socket afterwards."""
    made = Transport()
    yield made
    made.socket.close()


NUMBERS = {"TCP_KEEPIDLE": 21, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 7, "TCP_USER_TIMEOUT": 41_500}


@pytest.mark.parametrize(("name", "value"), NUMBERS.items())
def test_each_number_is_set_on_the_socket(transport: Transport, name: str, value: int) -> None:
    """`switch_on` sets keepalive and its numbers in whole seconds, rounded up; the user timeout in milliseconds."""
    if not hasattr(socket, name):
        pytest.skip(f"this system has no {name}")
    keepalive.switch_on(transport, LIMITS, TIMEOUTS)
    assert transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert transport.told(name) == value


def test_keepalive_is_set_on_the_socket_below_all_layers(transport: Transport) -> None:
    """`switch_on` sets keepalive on the socket below all layers, such as TLS."""
    layers: Any = [ProtocolWrapper(None, None) for _ in range(2)]  # type: ignore[arg-type]
    layers[1].transport, layers[0].transport = layers[0], transport
    keepalive.switch_on(layers[1], LIMITS, TIMEOUTS)
    assert transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_keepalive_of_zero_changes_nothing(transport: Transport) -> None:
    """With keepalive=0 and user_timeout=0, keepalive is off, and the options keep the system's values."""
    before = [transport.told(name) for name in NUMBERS if hasattr(socket, name)]
    keepalive.switch_on(transport, LIMITS, Timeouts(keepalive=0, user_timeout=0))
    assert not transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert before == [transport.told(name) for name in NUMBERS if hasattr(socket, name)]


def test_a_number_that_this_system_does_not_know_is_left_out(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option that this system does not have is skipped, and the others are set."""
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)
    keepalive.switch_on(transport, LIMITS, TIMEOUTS)
    assert transport.told("TCP_KEEPCNT") == 7


def test_a_socket_that_is_gone_raises_nothing(transport: Transport) -> None:
    """A socket that its peer reset before it was accepted refuses every option, and `switch_on` raises nothing."""
    transport.setTcpKeepAlive = lambda enabled: None  # type: ignore[method-assign]
    family = transport.socket.family

    class Gone:
        """A socket that refuses every option."""

        def __init__(self) -> None:
            self.family = family

        def setsockopt(self, *option: Any) -> None:
            raise OSError(22, "Invalid argument")

        def close(self) -> None:
            """Do nothing: there is no socket."""

    transport.socket.close()
    transport.socket = Gone()  # type: ignore[assignment]
    keepalive.switch_on(transport, LIMITS, TIMEOUTS)


def test_transports_without_tcp_raise_nothing() -> None:
    """`switch_on` does nothing for a UNIX socket or a pipe, and only calls the switch of a fake transport."""
    unix = Transport(socket.AF_UNIX)
    unix.setTcpKeepAlive = lambda enabled: None  # type: ignore[method-assign]
    keepalive.switch_on(unix, LIMITS, TIMEOUTS)
    unix.socket.close()
    keepalive.switch_on(object(), LIMITS, TIMEOUTS)
    fake = FakeTransport()
    keepalive.switch_on(fake, LIMITS, TIMEOUTS)
    assert fake.getTcpKeepAlive()
