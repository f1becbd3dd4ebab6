"""
The accept loop of a listening port, in place of Twisted's.

When accept(2) fails for a single client, Twisted's own loop pauses or logs two tracebacks. It also leaks a connection
whose descriptor the event loop rejects. This loop differs:

- an error of one client (see `CLIENT_ERRORS`): the error is counted, and the next client is accepted at once;
- no descriptor is left (EMFILE): the reserved descriptor is released to accept, count and close the waiting clients;
- the event loop cannot watch the connection (``epoll_ctl`` fails): the connection is closed and counted;
- TLS connections: one is accepted in each turn of the event loop, alternating with handshakes;
- any other error, or `MOST_IN_A_ROW` errors of clients in a row: `failed` learns that the system can accept no client.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["AcceptLoop", "Failed", "StepRunner"]

Failed = Callable[["IAddress | None", str, bool], None]
"""
A function that is called for each failed accept: with the client's address (`None`: not known), the name of the
system's error such as ``EMFILE``, and whether the system can accept no client now.
"""


class StepRunner(Protocol):
    """Runs work that takes as long as a TLS handshake, one step in each turn of the event loop."""

    def run_step(self, step: Callable[[], None]) -> None:
        """Call `step` in this turn of the event loop, or in a later one."""

    def cancel_step(self, step: Callable[[], None]) -> None:
        """Remove `step`, if it still waits for its turn."""


CLIENT_ERRORS = frozenset(
    getattr(errno, name)
    for name in (
        # accept(2), "Error handling": Linux passes on the pending network error of the new socket
        *("ENETDOWN", "EPROTO", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH"),
        "ECONNABORTED",  # the client left before it was accepted
        "EPERM",  # a firewall rule forbids the connection
        "EINTR",
    )
    if hasattr(errno, name)  # ENONET exists only on Linux
)
"""Errors of accept(2) that concern a single client. That client is gone after the error."""

MOST_IN_A_ROW = 100
"""
This many errors of clients in a row count as an error of the system. Our choice: as many as the clients that Twisted
accepts in a turn.

EOPNOTSUPP can be both: a pending error of a client, and the error of a socket that cannot accept at all.
"""

_NO_CLIENT_WAITS = {errno.EAGAIN, errno.EWOULDBLOCK}
_log = Logger(namespace="tcpapp")


class AcceptLoop:
    """
    Accepts the clients of `port`, a TCP or UNIX port of Twisted's.

    `most` returns the number of clients to accept in a turn (at least one), and `failed` is called for each failed
    accept. With `step_runner`, one client is accepted in each turn.
    """

    def __init__(
        self, port: Any, most: Callable[[], int], failed: Failed, step_runner: StepRunner | None = None
    ) -> None:
        self._port = port
        self._most = most
        self._failed = failed
        self._step_runner = step_runner
        self._in_a_row = 0
        self._waits = False
        self._has_options = False

    def options_set(self, passed_on: bool) -> None:
        """
        Note that options of connections were set on the port's socket, and whether later connections inherit them.

        The clients in the backlog can lack them, so ``passes_options_on`` of the port is false until no client waits.
        """
        self._has_options = passed_on
        self._port.passes_options_on = False

    def turn(self) -> None:
        """Accept the waiting clients, as many as a turn allows. The reactor calls it as the port's ``doRead``."""
        if self._step_runner is None:
            self._accept(max(1, min(self._port.numberAccepts, self._most())))
        elif not self._waits:
            self._waits = True
            self._step_runner.run_step(self._accept_one)

    def leave(self) -> None:
        """Accept no more clients, because the port was paused or closed."""
        if self._waits and self._step_runner is not None:
            self._waits = False
            self._step_runner.cancel_step(self._accept_one)

    def _accept_one(self) -> None:
        self._waits = False
        self._accept(1)

    def _accept(self, most: int) -> None:
        """Accept at most this many clients."""
        port = self._port
        accepted = 0
        for _ in range(most):
            try:
                client, address = port.socket.accept()
            except OSError as error:
                if self._goes_on(error):
                    continue
                break
            self._in_a_row = 0
            accepted += 1
            self._connect(client, address)
        if accepted and (openings := getattr(port.reactor, "openings", None)) is not None:
            openings.now()  # uvloop takes over the new connections in this turn
        # as Twisted does: accept more in the next turn if more clients can wait
        port.numberAccepts = port.numberAccepts + 20 if accepted == most else max(1, accepted)

    def _goes_on(self, error: OSError) -> bool:
        """Return whether the next client can be accepted now, after this `error` of accept(2)."""
        if error.errno in _NO_CLIENT_WAITS:
            self._in_a_row = 0
            self._port.passes_options_on = self._has_options
            return False
        if error.errno == errno.EMFILE and tcp._reservedFD.available():
            self._close_waiting_clients()
            return False
        error_name = errno.errorcode.get(error.errno or 0, str(error))
        self._in_a_row += 1
        if error.errno in CLIENT_ERRORS and self._in_a_row < MOST_IN_A_ROW:
            self._failed(None, error_name, False)
            return True
        self._in_a_row = 0
        self._failed(None, error_name, True)
        return False

    def _close_waiting_clients(self) -> None:
        """Accept with the reserved descriptor, and close. So the clients learn at once that they are not served."""
        closed = []
        with tcp._reservedFD:
            for _ in range(MOST_IN_A_ROW):
                try:
                    client, address = self._port.socket.accept()
                except OSError:
                    break
                client.close()
                closed.append(address)
        for address in closed:  # only now, with a reserved descriptor again: a listener can need one
            self._failed(_address_of(address), "EMFILE", False)

    def _connect(self, client: socket.socket, address: Any) -> None:
        """Let the port's factory serve a `client`; close its socket if that fails."""
        port = self._port
        if len(address) == 4 and address[3]:  # IPv6, with the interface of a link-local address
            address = (socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0], *address[1:])
        transport = None
        try:
            protocol = port.factory.buildProtocol(port._buildAddr(address))
            if protocol is None:
                client.close()
                return
            number, port.sessionno = port.sessionno, port.sessionno + 1
            transport = port.transport(client, protocol, address, port, number, port.reactor)
            protocol.makeConnection(transport)
        except Exception as error:  # noqa: BLE001 - an error of one client must not concern other clients
            if isinstance(error, OSError) and error.errno is not None:
                self._failed(_address_of(address), errno.errorcode.get(error.errno, str(error)), False)
            else:
                _log.failure("a client could not be served")
            if transport is not None:
                transport.connectionLost(Failure(error))
            client.close()


def _address_of(accepted: Any) -> IAddress:
    """An address from accept(2), as an address of Twisted's."""
    if not isinstance(accepted, tuple):
        return UNIXAddress(None)
    return (IPv6Address if ":" in accepted[0] else IPv4Address)("TCP", *accepted[:2])
