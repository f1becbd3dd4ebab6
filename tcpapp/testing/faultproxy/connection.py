"""
A connection through the proxy: a side towards the client, a side towards the server, and a stream in each direction.

::

    client ──▶ Side ─▶ upstream:   toxics ─▶ gate ─▶ Side ──▶ server
    client ◀── Side ◀─ downstream: gate ◀─ toxics ◀─ Side ◀── server

A stream that holds more than its bound pauses its source. The gate holds the bytes that the transport of its target
does not accept. So a peer that does not read makes the other peer wait, as without a proxy.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import connectProtocol
from twisted.logger import Logger

from tcpapp.connection.waiters import Waiters
from tcpapp.testing.faultproxy.kinds import KINDS, STREAMS
from tcpapp.testing.faultproxy.side import Side
from tcpapp.testing.faultproxy.stages import Mark
from tcpapp.testing.faultproxy.stream import Stream
from tcpapp.transport.addresses import describe

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from tcpapp.testing.faultproxy.plan import Plan
    from tcpapp.testing.faultproxy.toxic import Toxic

__all__ = ["ProxiedConnection"]

_log = Logger(namespace="tcpapp")

BOTH: Final = STREAMS["both"]


class ProxiedConnection:
    """
    A connection through a proxy. Its `number` counts from 1, in the order in which clients came.

    `client` is the client's address.
    """

    def __init__(self, plan: Plan, number: int, client: IAddress) -> None:
        self.number = number
        self.client = client
        self._plan = plan
        self._joined = False
        self._finished = False
        self._gone: Waiters[None] = Waiters()
        self._connecting: Deferred[Any] = succeed(None)
        self.client_side = here = Side(self._client_connected, self._lost)
        self.server_side = there = Side(self._join, self._lost)
        ways = zip(BOTH, ((here, there), (there, here)), strict=True)
        self._streams = {
            name: Stream(plan.clock, plan.bound, source, sink, self._marked, self._passed)
            for name, (source, sink) in ways
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number}, of {describe(self.client)}>"

    @property
    def bytes_upstream(self) -> int:
        """The number of bytes that were passed on to the server."""
        return self._streams["upstream"].passed

    @property
    def bytes_downstream(self) -> int:
        """The number of bytes that were passed on to the client."""
        return self._streams["downstream"].passed

    @property
    def held(self) -> int:
        """The number of bytes that came and were not passed on yet, of both streams."""
        return sum(each.pipe.held for each in self._streams.values())

    # Called by a test.

    def reset(self) -> None:
        """Reset both sides when all passed-on bytes are sent. Bytes that a toxic holds are lost."""
        if self._finish():
            self._plan.counters.reset += 1
            self._reset()

    def close(self) -> None:
        """Close both sides when all passed-on bytes are sent. Bytes that a toxic holds are lost."""
        if self._finish():
            self._plan.counters.cut += 1
            self._close()

    def cut(self) -> Deferred[None]:
        """Reset both sides now; unsent bytes are lost. Fires when both sockets are closed."""
        if self._finish():
            self._plan.counters.cut += 1
        gone = self._gone.wait()
        self._abort()
        return gone

    # Toxics.

    def apply(self, toxic: Toxic) -> None:
        """Activate `toxic` with its current attributes, if it affects this connection."""
        hit = self._chance(toxic, "toxicity").random() < toxic.toxicity
        for name in toxic.streams:
            if self._joined and not self._finished:
                self._apply(toxic, name, hit)

    def _apply(self, toxic: Toxic, name: str, hit: bool) -> None:
        stream = self._streams[name]
        stage = stream.pipe.stage(toxic.number)
        if stage is not None and hit:
            stage.changed()
            stream.balance()
        elif stage is not None:
            stream.pipe.remove(toxic.number)
        elif hit:
            make = KINDS[toxic.type].stage
            stream.pipe.insert(toxic.number, make(self._plan.clock, toxic.attributes, self._chance(toxic, name)))

    def withdraw(self, toxic: Toxic) -> None:
        """Deactivate `toxic` on this connection."""
        for each in self._streams.values():
            if each.pipe.stage(toxic.number) is not None:
                each.pipe.remove(toxic.number)

    def _chance(self, toxic: Toxic, what: str) -> Random:
        # a text is hashed by SHA-512, so the seed is the same in every process
        return Random(f"{self._plan.seed}/{self.number}/{toxic.number}/{what}")  # noqa: S311 # repeatable, not secret

    # Connecting: the client is not read until the server is connected.

    def _client_connected(self) -> None:
        self.client_side.pause()
        self._connecting = connectProtocol(self._plan.upstream, self.server_side).addErrback(self._refused)

    def _refused(self, failure: Failure) -> None:
        self.server_side.lost = True
        if self._finish():
            self._plan.counters.refused += 1
            _log.info("{connection} is reset, for its server {error}", connection=self, error=failure.getErrorMessage())
            self._reset()
        self._lost()

    def _join(self) -> None:
        if self._finished:  # the endpoint could not be cancelled, and has connected
            self._abort()
            return
        self._joined = True
        for each in self._streams.values():
            each.sink.feed_from(each.pipe.gate)
        for toxic in self._plan.toxics:
            self.apply(toxic)
        self.client_side.resume()

    # Passing on.

    def _passed(self, stream: Stream, size: int) -> None:
        if stream is self._streams["upstream"]:
            self._plan.counters.bytes_upstream += size
        else:
            self._plan.counters.bytes_downstream += size

    def _marked(self, stream: Stream, mark: Mark) -> None:
        if mark is Mark.RESET:
            self.reset()
        elif mark is Mark.CLOSE:
            self.close()
        else:
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        """Note that one direction has ended. Finish if the other has ended, too, or can no longer be received."""
        stream.ended = True
        if not stream.source.lost and not all(each.ended for each in self._streams.values()):
            stream.sink.half_close()
        else:
            self._finish()
            self._close()

    # Ending.

    def _finish(self) -> bool:
        """Stop passing on. Returns whether the connection was still passing on before."""
        before, self._finished = self._finished, True
        for each in self._streams.values():
            each.pipe.stop()
        return not before

    def _close(self) -> None:
        self.client_side.close()
        self.server_side.close()
        self._connecting.cancel()

    def _reset(self) -> None:
        self.client_side.reset()
        self.server_side.reset()
        self._connecting.cancel()

    def _abort(self) -> None:
        self.client_side.abort()
        self.server_side.abort()
        self._connecting.cancel()

    def _lost(self) -> None:
        """Note that a side is lost. When both are lost, the connection is over."""
        if self.client_side.lost and self.server_side.lost:
            self._plan.over(self.number)
            self._gone.fire(None)
