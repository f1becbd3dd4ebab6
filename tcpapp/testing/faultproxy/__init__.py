"""
A proxy between a client and a server that causes faults on real connections: it delays, cuts, slows and resets them.

It works with real sockets, so neither side needs Twisted. It needs no feature of the kernel::

    async with FaultProxy(reactor, "tcp:127.0.0.1:5432") as proxy:
        client = await connect(proxy.endpoint)
        proxy.add("latency", latency=0.2, jitter=0.05)
        with proxy.add("reset_peer", stream="both", toxicity=0.5):
            ...
        async with proxy.down():
            ...

The faults have the names and the meaning of `Toxiproxy <https://github.com/Shopify/toxiproxy#toxics>`_, but are in
seconds and bytes. Toxiproxy uses milliseconds (microseconds in ``slicer``) and kilobytes:

============== ================================ ========================================================================
toxic          attributes                       what it does
============== ================================ ========================================================================
``latency``    ``latency``, ``jitter=0``        all bytes come ``latency`` ± ``jitter`` later, in order
``bandwidth``  ``rate``                         ``rate`` bytes a second pass; 0: none passes, and none is lost
``slow_close`` ``delay``                        the end of the stream comes ``delay`` later
``timeout``    ``timeout=0``                    all bytes are dropped; ``timeout`` after that began, the connection
                                                is closed; 0: it is closed when the toxic is removed
``reset_peer`` ``timeout=0``                    bytes are dropped; ``timeout`` after the first, both sides are reset
``slicer``     ``average_size``,                bytes pass in pieces of ``average_size`` ± ``size_variation``,
               ``size_variation=0``,            each ``delay`` after the previous one, and never in one turn
               ``delay=0``                      of the reactor
``limit_data`` ``bytes``                        ``bytes`` bytes pass; after the last of them, the connection is closed
============== ================================ ========================================================================

Toxiproxy's ``down`` is `FaultProxy.disable`, ``enable`` and ``down``. A toxic is for one stream (by default
``downstream``, from the server to the client) or for both, and affects each connection with the probability
``toxicity``.

Otherwise the connection behaves as without the proxy. A half-close and a reset pass through, in order with the bytes
before them. A peer that does not read makes the other peer wait. If the server cannot be connected to, the client is
reset. TLS passes unchanged. Two things differ: each end sees the proxy's address, and a peer that writes to a closed
connection gets the error one write later. Over UNIX sockets a reset looks like a clean end, as without the proxy. If an
endpoint of the proxy itself uses TLS (``tls:``), an end closes both directions.

Differences from Toxiproxy: in Toxiproxy a half-close closes both directions, each chunk restarts ``timeout``, and
toxicity is drawn again with each change. As in Toxiproxy, ``reset_peer`` does not affect a connection without data. To
reset such a connection, call `ProxiedConnection.reset`: ``proxy.connections[0].reset()``.
"""

from __future__ import annotations

from tcpapp.testing.faultproxy.connection import ProxiedConnection
from tcpapp.testing.faultproxy.plan import Counters
from tcpapp.testing.faultproxy.proxy import BOUND, FaultProxy, endpoint_of
from tcpapp.testing.faultproxy.toxic import Toxic

__all__ = ["BOUND", "Counters", "FaultProxy", "ProxiedConnection", "Toxic", "endpoint_of"]
