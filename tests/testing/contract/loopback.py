"""Carriers for the contract over real sockets: TCP, UNIX and TLS, on a running reactor."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    clientFromString,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamServerEndpoint
from zope.interface import implementer

from tcpapp.testing.contract.sockets import Sockets
from tcpapp.testing.faultproxy import FaultProxy, endpoint_of

LOOPBACK = "127.0.0.1"


def tcp(reactor: Any) -> Sockets:
    listen = TCP4ServerEndpoint(reactor, 0, interface=LOOPBACK)
    return Sockets(reactor, listen, lambda port: TCP4ClientEndpoint(reactor, LOOPBACK, port.getHost().port))


def unix(reactor: Any, path: str) -> Sockets:
    listen = UNIXServerEndpoint(reactor, path)
    return Sockets(reactor, listen, lambda port: UNIXClientEndpoint(reactor, path), unix=True)


def tls(reactor: Any, contexts: tuple[Any, Any]) -> Sockets:
    server, client = contexts
    listen = SSL4ServerEndpoint(reactor, 0, server, interface=LOOPBACK)

    def connect(port: Any) -> Any:
        return wrapClientTLS(client, TCP4ClientEndpoint(reactor, LOOPBACK, port.getHost().port))

    return Sockets(reactor, listen, connect, tls=True)


@implementer(IStreamServerEndpoint)
class Fronted:
    """
    A server endpoint that puts a fault proxy in front of each port it opens. The last of `proxies` fronts the last
    port.
    """

    def __init__(self, reactor: Any, endpoint: Any, listen: str) -> None:
        self.reactor = reactor
        self.endpoint = endpoint
        self.where = listen
        self.proxies: list[FaultProxy] = []

    async def listen(self, protocolFactory: Any) -> Any:  # noqa: N803  # Twisted's name
        port = await self.endpoint.listen(protocolFactory)
        proxy = FaultProxy(self.reactor, endpoint_of(port.getHost()), self.where.format(len(self.proxies)))
        self.proxies.append(await proxy.start())
        return port


class Proxied(Sockets):
    """Connections through a fault proxy without toxics: all but the addresses is as on sockets."""

    direct = False

    def __init__(self, reactor: Any, endpoint: Any, listen: str, *, unix: bool = False) -> None:
        self.front = Fronted(reactor, endpoint, listen)
        super().__init__(
            reactor, self.front, lambda port: clientFromString(reactor, self.front.proxies[-1].endpoint), unix=unix
        )

    async def close(self) -> None:
        await super().close()
        while self.front.proxies:
            await self.front.proxies.pop().stop()


def proxied_tcp(reactor: Any) -> Proxied:
    return Proxied(reactor, TCP4ServerEndpoint(reactor, 0, interface=LOOPBACK), f"tcp:0:interface={LOOPBACK}")


def proxied_unix(reactor: Any, path: str) -> Proxied:
    return Proxied(reactor, UNIXServerEndpoint(reactor, path), f"unix:{path}.proxy{{}}", unix=True)
