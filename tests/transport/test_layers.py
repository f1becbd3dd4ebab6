"""The transports below a connection, seen through the layers on them."""

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
    """What a factory of TLS is made with."""

    def serverConnectionForTLS(self, protocol: Any) -> Any:
        """Not called here."""


def layer(below: Any, kind: Any = ProtocolWrapper) -> Any:
    """A layer of this kind, which has a transport."""
    made = kind(None, None)
    made.transport = below
    return made


def test_the_bottom_is_below_all_layers() -> None:
    """And a transport without any is its own."""
    transport = FakeTransport()
    assert bottom_of(transport) is transport
    assert bottom_of(layer(layer(transport))) is transport


def test_tls_is_set_up_until_its_handshake_is_done() -> None:
    """And nothing else is: a layer that is no TLS, or TLS further below, reports no handshake."""
    tls = layer(FakeTransport(), TLSMemoryBIOProtocol)
    assert sets_up_tls(tls)
    tls._handshakeDone = True
    assert not sets_up_tls(tls)
    assert not sets_up_tls(layer(layer(FakeTransport(), TLSMemoryBIOProtocol)))
    assert not sets_up_tls(FakeTransport())


def test_nothing_is_tls_where_tls_is_not_imported() -> None:
    """Asking does not import it: pyOpenSSL may not be there."""
    program = (
        "import sys; from tcpapp.transport.layers import sets_up_tls;"
        " print(sets_up_tls(object()), 'OpenSSL' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown == "False False\n"


def test_a_port_serves_tls_by_its_factory() -> None:
    """A transport without a factory, as from a ``stdio:`` endpoint, serves none."""
    port = tcp.Port(0, TLSMemoryBIOFactory(Contexts(), False, ServerFactory()))
    assert serves_tls(port)
    assert not serves_tls(tcp.Port(0, ServerFactory()))
    assert not serves_tls(object())


def test_small_writes_go_out_at_once_below_all_layers() -> None:
    """Where TCP is what is below."""
    transport = FakeTransport()
    send_at_once(layer(layer(transport)))
    assert transport.getTcpNoDelay()
    send_at_once(object())


def test_a_socket_that_takes_no_option_any_more_raises_nothing() -> None:
    """Its peer reset it before it was accepted: the transport will report it."""

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
def test_a_connection_with_itself_is_told_by_its_addresses(host: Any, peer: Any, itself: bool) -> None:
    """UNIX sockets have none to compare."""
    transport = FakeTransport()
    transport.hostAddr, transport.peerAddr = host, peer
    assert talks_to_itself(transport) is itself


def test_a_transport_without_addresses_does_not_talk_to_itself() -> None:
    assert not talks_to_itself(object())
