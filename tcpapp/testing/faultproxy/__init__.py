"""
A proxy that breaks real connections between a client and a server: it delays, cuts, slows and resets them.

It works between real sockets, so neither side needs Twisted, and it needs no feature of the kernel::

    async with FaultProxy(reactor, "tcp:127.0.0.1:5432") as proxy:
        client = await connect(proxy.endpoint)
        proxy.add("latency", latency=0.2, jitter=0.05)
        with proxy.add("reset_peer", stream="both", toxicity=0.5):
            ...
        async with proxy.down():
            ...

The faults have the names and meanings of `Toxiproxy <https://github.com/Shopify/toxiproxy#toxics>`_, in seconds and
bytes. Toxiproxy counts milliseconds (microseconds in ``slicer``) and kilobytes:

============== ================================ ========================================================================
toxic          attributes                       what it does
============== ================================ ========================================================================
``latency``    ``latency``, ``jitter=0``        all comes ``latency`` later, plus or minus up to ``jitter``, in order
``bandwidth``  ``rate``                         ``rate`` bytes a second pass; 0: nothing passes, and nothing is lost
``slow_close`` ``delay``                        the end of the stream comes ``delay`` later
``timeout``    ``timeout=0``                    all bytes are dropped, and ``timeout`` after that began, the connection
                                                is closed; 0: it is closed when the toxic is removed
``reset_peer`` ``timeout=0``                    ``timeout`` after something comes, which is dropped, both are reset
``slicer``     ``average_size``,                bytes pass in pieces of ``average_size``, plus or minus up to
               ``size_variation=0``,            ``size_variation``, ``delay`` after each other, and never in one turn
               ``delay=0``                      of the reactor
``limit_data`` ``bytes``                        ``bytes`` bytes pass; with the last of them, the connection is closed
============== ================================ ========================================================================

Toxiproxy's ``down`` is a method of the proxy: `FaultProxy.disable`, ``enable`` and ``down``. Each toxic is for one
stream (by default ``downstream``, from the server to the client) or both, and affects each connection with the
probability ``toxicity``.

Otherwise the connection behaves as without the proxy. A half-close and a reset pass through, each in order with the
bytes before it. A peer that does not read makes the other one wait. If the server cannot be connected, the client is
reset. TLS passes unchanged. Two things differ: each end sees the proxy's address, and a peer that writes to a closed
connection learns of it one write later. Over UNIX sockets a reset looks like an end, as always there. If an endpoint of
the proxy itself uses TLS (``tls:``), one end closes both directions.

Differences from Toxiproxy: there a half-close closes both directions, each chunk restarts ``timeout``, and toxicity is
drawn again with each change. As there, ``reset_peer`` does not affect a connection without data. Call
`ProxiedConnection.reset` for that: ``proxy.connections[0].reset()``.
"""

from __future__ import annotations

from tcpapp.testing.faultproxy.connection import ProxiedConnection
from tcpapp.testing.faultproxy.plan import Counters
from tcpapp.testing.faultproxy.proxy import BOUND, FaultProxy, endpoint_of
from tcpapp.testing.faultproxy.toxic import Toxic

__all__ = ["BOUND", "Counters", "FaultProxy", "ProxiedConnection", "Toxic", "endpoint_of"]
