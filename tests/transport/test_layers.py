"""The transports below a connection, as seen through the layers on top of them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import ServerFactory
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from tcpapp.testing.transport import FakeTransport
from tcpapp.transport.layers import bottom_of, send_at_once, serves_tls, sets_up_tls, talks_to_itself


@implementer(IOpenSSLServerConnectionCreator)
class Contexts:
    """The connection creator that a TLS factory needs."""

    def serverConnectionForTLS(self, protocol: Any) -> Any:
        """Do nothing: no test calls this."""


def layer(below: Any, kind: Any = ProtocolWrapper) -> Any:
    """Return a layer of this kind on the transport `below`."""
    made = kind(None, None)
    made.transport = below
    return made


def test_the_bottom_is_below_all_layers() -> None:
    """`bottom_of` gives the transport below all layers, or the transport itself if it has none."""
    transport = FakeTransport()
    assert bottom_of(transport) is transport
    assert bottom_of(layer(layer(transport))) is transport


def test_tls_is_set_up_until_its_handshake_is_done() -> None:
    """`sets_up_tls` is true for a TLS layer until its handshake is done, and false for any other layer."""
    tls = layer(FakeTransport(), TLSMemoryBIOProtocol)
    assert sets_up_tls(tls)
    tls._handshakeDone = True
    assert not sets_up_tls(tls)
    assert not sets_up_tls(layer(layer(FakeTransport(), TLSMemoryBIOProtocol)))
    assert not sets_up_tls(FakeTransport())


def test_nothing_is_tls_where_tls_is_not_imported() -> None:
    """`sets_up_tls` does not import pyOpenSSL, so it works where pyOpenSSL is not installed."""
    program = (
        "import sys; from tcpapp.transport.layers import sets_up_tls;"
        " print(sets_up_tls(object()), 'OpenSSL' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown == "False False\n"


def test_a_port_serves_tls_by_its_factory() -> None:
    """`serves_tls` is true for a port with a TLS factory, and false for another port or a ``stdio:`` transport."""
    port = tcp.Port(0, TLSMemoryBIOFactory(Contexts(), False, ServerFactory()))
    assert serves_tls(port)
    assert not serves_tls(tcp.Port(0, ServerFactory()))
    assert not serves_tls(object())


def test_small_writes_go_out_at_once_below_all_layers() -> None:
    """`send_at_once` sets TCP_NODELAY below all layers, and does nothing for a transport without TCP."""
    transport = FakeTransport()
    send_at_once(layer(layer(transport)))
    assert transport.getTcpNoDelay()
    send_at_once(object())


def test_a_socket_that_takes_no_option_any_more_raises_nothing() -> None:
    """A socket that its peer reset before it was accepted refuses the option, and `send_at_once` raises nothing."""

    class Gone:
        """A transport whose socket refuses every option."""

        def setTcpNoDelay(self, enabled: bool) -> None:
            raise OSError(22, "Invalid argument")

    send_at_once(Gone())


HERE = IPv4Address("TCP", "127.0.0.1", 50000)


@pytest.mark.parametrize(
    ("host", "peer", "itself"),
    [
        (HERE, HERE, True),
        (HERE, IPv4Address("TCP", "127.0.0.1", 50001), False),
        (IPv6Address("TCP", "::1", 50000), IPv6Address("TCP", "::1", 50000), True),
        (UNIXAddress(None), UNIXAddress(None), False),
    ],
)
def test_a_connection_with_itself_has_two_equal_addresses(host: Any, peer: Any, itself: bool) -> None:
    """A connection whose host and peer are equal is one with itself; UNIX sockets have no addresses to compare."""
    transport = FakeTransport()
    transport.hostAddr, transport.peerAddr = host, peer
    assert talks_to_itself(transport) is itself


def test_a_transport_without_addresses_does_not_talk_to_itself() -> None:
    """A transport without addresses is not a connection with itself."""
    assert not talks_to_itself(object())
