"""Makes endpoints with TLS from the values of an endpoint string."""

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
"""Seconds between two checks of the certificate files. Our choice: a renewed file is in use within a minute."""


def tls_server(endpoint: Any, values: Mapping[str, str], reactor: Any) -> TLSServerEndpoint:
    """
    Return an endpoint with TLS on `endpoint`, from the `values` of a server's ``tls:`` string. Raises `InvalidAddress`,
    the caller's fault, for an invalid value or file.

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
    """
    Return an endpoint with TLS through `endpoint`, from the `values` of a client's ``tls:`` string. Raises
    `InvalidAddress`, the caller's fault, for an invalid value or file.
    """
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
        """Connect with `factory` over TLS. Returns the Deferred of the endpoint below."""
        return wrapClientTLS(self._options, self._endpoint).connect(factory)

    def below(self, change: Callable[[Any], Any]) -> TLSClientEndpoint:
        """Return a copy with another endpoint below TLS: `change` gets the present one and returns the new one."""
        return TLSClientEndpoint(change(self._endpoint), self._options)


def _path(values: Mapping[str, str], name: str) -> Path | None:
    return Path(values[name]) if name in values else None


def _protocols(values: Mapping[str, str]) -> tuple[bytes, ...]:
    return tuple(each.encode() for each in values.get("alpn", "").split(",") if each)
