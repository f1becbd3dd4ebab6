"""
The TLS handshakes of a server's connections, which take turns.

OpenSSL does all the work for a message of the handshake in one call: for a ClientHello, key exchange and signature.
That takes 0.15 ms with an ECDSA key and 0.4 ms with an RSA key of 2048 bits. A client that begins handshakes and
leaves them spends less on each. So each piece of a handshake is a step (`tcpapp.limits.fairness.StepScheduler`). One
turn of the event loop has one step, and between two steps the messages of other connections are handled.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime

from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.read_control import HANDSHAKE_STEP, ReadControl
from tcpapp.limits.fairness import StepScheduler

__all__ = ["Handshake"]


class Handshake:
    """
    Gives the received bytes to `layer`, a connection's TLS, in steps, until `end`.

    While bytes wait for a turn, nothing is read, so no more bytes wait than came at once. Until `end`, the layer and
    this object refer to each other. Without a `clock` there are no turns.
    """

    __slots__ = ("_clock", "_deadlines", "_layer", "_pending", "_read_control", "_step_scheduler")

    def __init__(
        self,
        layer: Any,
        step_scheduler: StepScheduler,
        read_control: ReadControl,
        deadlines: Deadlines,
        clock: IReactorTime | None,
    ) -> None:
        self._layer = layer
        self._step_scheduler = step_scheduler
        self._read_control = read_control
        self._clock = clock
        self._deadlines = deadlines
        self._pending: list[bytes] = []
        layer.dataReceived = self.receive
        if clock is not None:
            step_scheduler.note_step(clock)  # accepting the connection took as long as a step

    def receive(self, data: bytes) -> None:
        """Bytes came. The transport calls it instead of the layer's ``dataReceived``."""
        self._deadlines.peer_spoke = True
        self._pending.append(data)
        if self._clock is None:
            self._run_step()
        elif len(self._pending) == 1:
            self._step_scheduler.run(self._run_step, self._clock)
            if self._pending:
                self._read_control.pause(HANDSHAKE_STEP)

    def end(self) -> None:
        """The handshake is done, or the connection has ended: bytes go to the layer itself. Can be called twice."""
        vars(self._layer).pop("dataReceived", None)
        if self._pending:
            self._pending.clear()
            self._step_scheduler.cancel(self._run_step)

    def _run_step(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        self._read_control.resume(HANDSHAKE_STEP)
        self._layer.__class__.dataReceived(self._layer, data)
