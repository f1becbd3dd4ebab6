"""
The TLS handshakes of a server's connections, which take turns.

OpenSSL does all that a message of the handshake asks for in one call: for a ClientHello, key exchange and signature.
That is 0.15 ms with an ECDSA key and 0.4 ms with an RSA key of 2048 bits, and a client that begins handshakes and
leaves them spends less on each. So each piece of a handshake is a step (`tcpapp.limits.fairness.Steps`): there is one
in a turn of the event loop, and what other connections bring is handled between two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

from tcpapp.connection.read_control import STEP, Reading
from tcpapp.limits.fairness import Steps

__all__ = ["Handshake"]


class Handshake:
    """
    Gives `layer`, a connection's TLS, the bytes that come, in steps, until `end`. `heard` is called before each.

    While bytes wait for their turn, nothing is read: no more waits than came at once. Until `end`, the layer and this
    refer to each other. Without a `clock` there are no turns.
    """

    __slots__ = ("_clock", "_heard", "_kept", "_layer", "_reading", "_steps")

    def __init__(
        self, layer: Any, steps: Steps, reading: Reading, clock: IReactorTime | None, heard: Callable[[], None]
    ) -> None:
        self._layer = layer
        self._steps = steps
        self._reading = reading
        self._clock = clock
        self._heard = heard
        self._kept: list[bytes] = []
        layer.dataReceived = self.receive
        if clock is not None:
            steps.count(clock)  # to make the connection took as long as a step does

    def receive(self, data: bytes) -> None:
        """Bytes came. The transport calls it, in the place of the layer's ``dataReceived``."""
        self._heard()
        self._kept.append(data)
        if self._clock is None:
            self._step()
        elif len(self._kept) == 1:
            self._steps.take(self._step, self._clock)
            if self._kept:
                self._reading.hold(STEP)

    def end(self) -> None:
        """The handshake is done, or the connection has ended: bytes go to the layer itself. It may be told again."""
        vars(self._layer).pop("dataReceived", None)
        if self._kept:
            self._kept.clear()
            self._steps.leave(self._step)

    def _step(self) -> None:
        data = b"".join(self._kept)
        self._kept.clear()
        self._reading.let(STEP)
        self._layer.__class__.dataReceived(self._layer, data)
