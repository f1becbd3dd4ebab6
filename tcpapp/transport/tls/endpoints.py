"""From the values of an endpoint string to an endpoint with TLS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from tcpapp.errors import InvalidAddress
from tcpapp.transport.tls.client import client_options
from tcpapp.transport.tls.contexts import ServerContexts, ServerSpec, TLSServerEndpoint

__all__ = ["TLSClientEndpoint", "tls_client", "tls_server"]

WATCH = "60"
"""Seconds between two checks of the certificate files: our choice; a renewed one is in use within a minute."""


def tls_server(endpoint: Any, values: Mapping[str, str], reactor: Any) -> TLSServerEndpoint:
    """
    TLS on `endpoint`, with the `values` of a server's ``tls:`` string. Raises `InvalidAddress` for an invalid one.

    The files are read, and their errors are reported, before any client connects.
    """
    if "certificate" not in values and "path" not in values:
        raise InvalidAddress("it takes a certificate=, or a path= of a directory of them")
    if ("clients" in values) != ("clientRoots" in values):
        raise InvalidAddress(
            "clients= and clientRoots= go together: whether clients need a certificate, and the authorities for it"
        )
    spec = ServerSpec(
        certificate=_path(values, "certificate"),
        key=_path(values, "privateKey"),
        chain=_path(values, "chain"),
        directory=_path(values, "path"),
        clients=values.get("clients", ""),
        authorities=_path(values, "clientRoots"),
        protocols=_protocols(values),
        minimum=values.get("minimum", "1.2"),
    )
    return TLSServerEndpoint(endpoint, ServerContexts(spec), reactor, float(values.get("watch", WATCH)))


def tls_client(endpoint: Any, values: Mapping[str, str]) -> TLSClientEndpoint:
    """TLS through `endpoint`, with the `values` of a client's ``tls:`` string. Raises `InvalidAddress`."""
    if "privateKey" in values and "certificate" not in values:
        raise InvalidAddress("a privateKey= goes with a certificate=")
    options = client_options(
        values.get("hostname", values["host"]),
        trust=_path(values, "trustRoots"),
        certificate=_path(values, "certificate"),
        key=_path(values, "privateKey"),
        protocols=_protocols(values),
        minimum=values.get("minimum", "1.2"),
    )
    return TLSClientEndpoint(endpoint, options)


@implementer(IStreamClientEndpoint)
class TLSClientEndpoint:
    """Connects through another endpoint, and sets up TLS there."""

    def __init__(self, endpoint: Any, options: Any) -> None:
        self._endpoint = endpoint
        self._options = options

    def connect(self, factory: Any) -> Any:
        """As for every endpoint."""
        return wrapClientTLS(self._options, self._endpoint).connect(factory)

    def below(self, change: Callable[[Any], Any]) -> TLSClientEndpoint:
        """The same endpoint, with the endpoint below TLS changed by `change`."""
        return TLSClientEndpoint(change(self._endpoint), self._options)


def _path(values: Mapping[str, str], name: str) -> Path | None:
    return Path(values[name]) if name in values else None


def _protocols(values: Mapping[str, str]) -> tuple[bytes, ...]:
    return tuple(each.encode() for each in values.get("alpn", "").split(",") if each)
