"""Carriers that are real sockets: TCP, UNIX and TLS, on a reactor that runs."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    wrapClientTLS,
)

from tcpapp.testing.contract.sockets import Sockets

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
