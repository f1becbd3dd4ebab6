"""`connect`: one connection, which the caller uses directly."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from typing_extensions import Unpack

from tcpapp.client.factory import MessageClientFactory
from tcpapp.connection.connection import Connection
from tcpapp.connection.protocol import MessageProtocol
from tcpapp.connection.settings import Options
from tcpapp.framing import Framing
from tcpapp.telemetry import RateLimitedLog, Telemetry
from tcpapp.transport.endpoint_strings import client_endpoint
from tcpapp.transport.fork_check import check_fork
from tcpapp.transport.proxy_header import ProxyHeaderClient, ProxyHeaderSource

__all__ = ["connect", "dial"]

NEVER = 2**31 - 1
"""Seconds for a timer of Twisted that cannot be switched off: 68 years."""

LOG = RateLimitedLog()
"""The log of all connections of `connect`. They share it, so that many connections make no more lines than a server."""


def connect(
    endpoint: str | IStreamClientEndpoint,
    app: Any = None,
    *,
    framing: Framing | str = "line",
    reactor: Any = None,
    proxy_header: ProxyHeaderSource | None = None,
    **options: Unpack[Options],
) -> Deferred[Connection]:
    """
    Connect to `endpoint`, a Twisted client endpoint string such as ``"tcp:localhost:7007"`` or an endpoint object.

    For a host name in a string, all its addresses are tried, alternating between families
    (`tcpapp.transport.happy_eyeballs`). A connection with itself counts as refused.

    The Deferred fires with the open `Connection`; with TLS, after the handshake. It fails with Twisted's own
    ``ConnectionRefusedError``, ``DNSLookupError`` or ``TimeoutError`` (after ``timeouts.connect`` seconds in total), or
    with the error of OpenSSL or service_identity about a certificate. Cancelling it stops connecting.

    `InvalidAddress`, `InvalidFraming` and `InvalidOption` are raised at once, before anything is opened. So is `Forked`
    in a forked child of the process in which the reactor ran. All are the caller's fault. `proxy_header` is a PROXY
    header that is sent first. See `Settings` for the `options`. Without `reactor`, the global reactor is used.
    """
    if reactor is None:
        from twisted.internet import reactor as global_reactor  # late: a program chooses its reactor first

        reactor = global_reactor
    check_fork(reactor, "connect")
    options.setdefault("clock", reactor)
    if options.get("telemetry") is None:
        options["telemetry"] = Telemetry(LOG)
    factory = MessageClientFactory(app, framing, **options)
    return dial(factory, endpoint, reactor, proxy_header)


def dial(
    factory: MessageClientFactory,
    endpoint: str | IStreamClientEndpoint,
    reactor: Any,
    proxy_header: ProxyHeaderSource | None = None,
) -> Deferred[Connection]:
    """Make one more connection with `factory`. Fires and fails as `connect` does."""
    seconds = factory.settings.timeouts.connect
    # The endpoint's own timer must not run out before ours, whose error names the timeout.
    chosen: Any = client_endpoint(reactor, endpoint, int(seconds) + 2 if seconds else NEVER)
    if proxy_header is not None:
        chosen = ProxyHeaderClient(chosen, proxy_header)
    connecting: Deferred[Any] = chosen.connect(factory)
    connecting.addCallback(_opened)
    if seconds:
        connecting.addTimeout(seconds, reactor, lambda _, after: _timed_out(endpoint, after))
    return connecting


def _opened(protocol: MessageProtocol) -> Deferred[Connection]:
    """
    Return a Deferred of the connection of `protocol` that fires when it is open. Cancelling it cuts the connection.
    """
    connection = protocol.connection

    def give_up(failure: Failure) -> Failure:
        connection.abort()
        return failure

    return connection.when_open().addErrback(give_up)


def _timed_out(endpoint: object, seconds: float) -> None:
    raise ConnectTimeout(f"{endpoint}: not connected after {seconds:g} s (connect)")
