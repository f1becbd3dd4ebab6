"""
A proxy that breaks real connections: delays, cuts, slows and resets what passes between a client and a server.

It stands between real sockets, so that neither side need be of Twisted, and needs nothing of the kernel::

    async with FaultProxy(reactor, "tcp:127.0.0.1:5432") as proxy:
        client = await connect(proxy.endpoint)
        proxy.add("latency", latency=0.2, jitter=0.05)
        with proxy.add("reset_peer", stream="both", toxicity=0.5):
            ...
        async with proxy.down():
            ...

What can go wrong has the names and the meaning that `Toxiproxy <https://github.com/Shopify/toxiproxy#toxics>`_ gave it,
in seconds and bytes; Toxiproxy counts milliseconds (microseconds in ``slicer``) and kilobytes:

============== ================================ ========================================================================
toxic          attributes                       what it does
============== ================================ ========================================================================
``latency``    ``latency``, ``jitter=0``        all comes ``latency`` later, more or less by up to ``jitter``, in order
``bandwidth``  ``rate``                         ``rate`` bytes a second pass; 0: nothing passes, and nothing is lost
``slow_close`` ``delay``                        the end of the stream comes ``delay`` later
``timeout``    ``timeout=0``                    all bytes are dropped, and ``timeout`` after that began, the connection
                                                is closed; 0: it is closed when the toxic is removed
``reset_peer`` ``timeout=0``                    ``timeout`` after something comes, which is dropped, both are reset
``slicer``     ``average_size``,                what comes passes in pieces of ``average_size``, more or less by up to
               ``size_variation=0``,            ``size_variation``, ``delay`` after each other, and never in one turn
               ``delay=0``                      of the reactor
``limit_data`` ``bytes``                        so many bytes pass; with the last of them, the connection is closed
============== ================================ ========================================================================

Toxiproxy's ``down`` is the proxy's: `FaultProxy.disable`, ``enable`` and ``down``. Each toxic is for one stream
(``downstream``, from the server to the client, where nothing else is said) or both, and comes to each connection with
the probability ``toxicity``.

All else is as without it. A half-close is carried through, and so is a reset, each in order with the bytes before it;
a peer that does not read holds the other one; a server that cannot be connected resets the client; TLS passes
untouched. Two things are not: each end sees the proxy's address, and who writes to a peer that is gone learns of it a
write later. Over UNIX sockets a reset looks like an end, as there always; where an endpoint of the proxy itself speaks
TLS (``tls:``), one end closes both directions.

Where it differs from Toxiproxy: there a half-close closes both directions, what comes lets ``timeout`` begin again, and
toxicity is drawn anew with each change. As there, a connection on which nothing comes is not hit by ``reset_peer``;
`Connection` has it by hand: ``proxy.connections[0].reset()``.
"""

from __future__ import annotations

from tcpapp.testing.faultproxy.connection import Connection
from tcpapp.testing.faultproxy.plan import Counters
from tcpapp.testing.faultproxy.proxy import BOUND, FaultProxy, endpoint_of
from tcpapp.testing.faultproxy.toxic import Toxic

__all__ = ["BOUND", "Connection", "Counters", "FaultProxy", "Toxic", "endpoint_of"]
