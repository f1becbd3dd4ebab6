"""`listen`: serve an app on any endpoint, and control the open ports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from errno import EADDRNOTAVAIL, EAFNOSUPPORT
from socket import gaierror
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, DeferredList, gatherResults, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.python.failure import Failure
from typing_extensions import Unpack

from tcpapp.connection.connection import Connection
from tcpapp.connection.settings import Options
from tcpapp.framing import Framing
from tcpapp.server.accept_control import PausablePort
from tcpapp.server.factory import MessageServerFactory
from tcpapp.telemetry.statistics import Info
from tcpapp.transport.addresses import describe
from tcpapp.transport.endpoint_strings import server_endpoint
from tcpapp.transport.fork_check import check_fork
from tcpapp.transport.socket_activation import NothingHandedOver, ports_of

__all__ = ["Listening", "close_port", "close_ports", "lacks_family", "listen", "why_not"]


class Listening:
    """The open ports of a server, and the connections that came through them. `listen` returns it."""

    def __init__(self, ports: Sequence[IListeningPort], factory: MessageServerFactory) -> None:
        self._ports = [each for port in ports for each in ports_of(port)]
        # asked now, because a closed port no longer knows its address
        self._addresses = [port.getHost() for port in self._ports]
        self._factory = factory
        self._pausable_ports: list[PausablePort] = [factory.accept_control.add(port) for port in self._ports]
        self._suspended = False
        self._stopping: Deferred[None] | None = None

    @property
    def address(self) -> IAddress:
        """The first address of the ports, with the real port number if 0 was asked for. It stays after closing."""
        return self.addresses[0]

    @property
    def addresses(self) -> list[IAddress]:
        """The addresses of all ports, in the order in which they were asked for. They stay after closing."""
        return list(self._addresses)

    @property
    def port(self) -> int | None:
        """The number of the first TCP port; `None` for a UNIX socket."""
        return getattr(self.address, "port", None)

    @property
    def factory(self) -> MessageServerFactory:
        """The factory that makes the connections."""
        return self._factory

    @property
    def connections(self) -> AbstractSet[Connection]:
        """
        The open and closing connections, in the order in which they opened. A snapshot: later connections do not change
        it.
        """
        return dict.fromkeys(self._factory.connections).keys()

    @property
    def refused(self) -> int:
        """The number of clients that were rejected: over a limit, or from a network that is not allowed."""
        return self._factory.refused

    def suspend(self) -> None:
        """Accept no client until `resume`. New clients wait in the backlog; open connections continue."""
        self._suspended = True
        for pausable in self._pausable_ports:
            pausable.pause("suspended")

    def resume(self) -> None:
        """Accept clients again after `suspend`."""
        self._suspended = False
        for pausable in self._pausable_ports:
            pausable.resume("suspended")

    def wait_for(self, at_most: int) -> Deferred[None]:
        """Return a Deferred that fires when at most `at_most` connections are open or closing. It can be cancelled."""
        return self._factory.wait_for(at_most)

    def info(self) -> Info:
        """Return the statistics of the server now."""
        return self._factory.info(() if self._stopping else self.addresses, self._suspended)

    def change(self, **changes: Any) -> None:
        """
        Change settings of the running server, as ``change(max_connections=50, idle=300)``; see
        `MessageServerFactory.change`.

        All changes take effect, or none. Raises `InvalidOption` for an invalid value, and `TypeError` for an unknown
        name; both are the caller's fault.
        """
        self._factory.change(**changes)

    def drain(self, deadline: float | None = None, jitter: float | None = None) -> Deferred[int]:
        """
        Stop listening, let every connection finish its work, and close it.

        After `deadline` seconds (`None`: ``timeouts.drain``) the remaining connections are cut. For `jitter` see
        `MessageServerFactory.drain`. The Deferred fires with the number of cut connections when all is closed.
        """
        stopped = self._stop()
        return self._factory.drain(deadline, jitter).addCallback(lambda cut: stopped.addCallback(lambda _: cut))

    def close(self, grace: float | None = None) -> Deferred[None]:
        """
        Stop listening, and close every connection within `grace` seconds (`None`: ``timeouts.grace``). Fires when all
        is closed.
        """
        stopped = self._stop()
        return self._factory.close(grace).addCallback(lambda _: stopped)

    def _stop(self) -> Deferred[None]:
        """Close the ports. Every caller gets a Deferred of its own, which fires when they are closed."""
        if self._stopping is None:
            for pausable in self._pausable_ports:
                self._factory.accept_control.remove(pausable)
            self._stopping = close_ports(self._ports)
        told: Deferred[None] = Deferred()
        self._stopping.addBoth(told.callback)
        return told


def close_port(port: Any) -> Deferred[None]:
    """
    Stop listening on `port`; fires when it is closed.

    Fails with `OSError` if the file of a UNIX socket cannot be removed, for example because the process gave up its
    privileges. Twisted then leaves the socket open, with clients waiting in its backlog. This function closes it in any
    case.
    """

    def not_removed(failure: Failure) -> None:
        failure.trap(OSError)
        port.socket.close()
        if not failure.check(FileNotFoundError):
            failure.raiseException()

    if not hasattr(port, "stopListening"):  # the port of a stdio: endpoint is the transport of its one connection
        return succeed(None)
    return maybeDeferred(port.stopListening).addCallbacks(lambda _: None, not_removed)


def close_ports(ports: Sequence[Any]) -> Deferred[None]:
    """Stop listening on all `ports`, as `close_port` does. Fires when all are closed, or fails with the first error."""
    closing = [close_port(port) for port in ports]
    return gatherResults(closing, consumeErrors=True).addCallbacks(lambda _: None, _first_error)


def listen(
    endpoint: str | IStreamServerEndpoint | Sequence[str | IStreamServerEndpoint],
    app: Any,
    *,
    framing: Framing | str = "line",
    reactor: Any = None,
    **options: Unpack[Options],
) -> Deferred[Listening]:
    """
    Serve `app` on `endpoint`: a Twisted server endpoint string such as ``"tcp:7007"``, an endpoint object, or a list of
    these.

    The Deferred fires with the `Listening`. It fails with Twisted's ``CannotListenError`` if one endpoint cannot be
    listened on; then all are closed. `InvalidAddress`, `InvalidFraming` and `InvalidOption`, the caller's fault, are
    raised at once, before anything is opened. See `Settings` for the `options`. Without `reactor`, the global reactor
    is used.
    """
    if reactor is None:
        from twisted.internet import reactor as global_reactor  # late: a program chooses its reactor first

        reactor = global_reactor
    check_fork(reactor, "listen")
    options.setdefault("clock", reactor)
    factory = MessageServerFactory(app, framing, **options)
    several = list(endpoint) if isinstance(endpoint, (list, tuple)) else [endpoint]
    places = [server_endpoint(reactor, each) for each in several]
    opening = DeferredList([place.listen(factory) for place in places], consumeErrors=True)
    skip = factory.settings.policies.missing_family == "skip"
    return opening.addCallback(_all_or_none, skip).addCallback(Listening, factory)


def lacks_family(failure: Failure) -> bool:
    """
    Return whether listening failed because an address family is missing: the kernel has no IPv6, or no IPv6 address.
    """
    error: Any = failure.value
    if not isinstance(error, CannotListenError):
        return False
    number = getattr(error.socketError, "errno", None)
    return number == EAFNOSUPPORT or (number == EADDRNOTAVAIL and ":" in str(error.interface))


def why_not(error: CannotListenError | OSError) -> str:
    """
    Return one line that says where it cannot listen, and why. Twisted's own text shows ``any:b'/run/app.sock'`` and
    ``:::7007``.
    """
    if isinstance(error, OSError):
        return f"Couldn't listen: {error}."
    if isinstance(error, NothingHandedOver):
        return str(error)
    reason: Any = error.socketError
    if not isinstance(error.port, int):
        return f"Couldn't listen on {describe(UNIXAddress(error.port))}: {reason}."
    host = error.interface or "0.0.0.0"  # noqa: S104  # the meaning of no interface
    if isinstance(reason, gaierror):  # Twisted has looked up the interface behind the %
        reason = f"this machine has no network interface {host.partition('%')[2]!r} ({reason})"
    elif lacks_family(Failure(error)):
        reason = f"{reason}: this machine has no such addresses; --missing-family=skip listens on the others"
    where = describe((IPv6Address if ":" in host else IPv4Address)("TCP", host, error.port))
    return f"Couldn't listen on {where}: {reason}."


def _all_or_none(results: list[tuple[bool, Any]], skip: bool) -> Any:
    """
    Return the ports if all were opened; otherwise, close all of them and fail with the first error.

    With `skip`, ports whose address family is missing can be left out, but not all of them.
    """
    ports = [found for opened, found in results if opened]
    missing = [found for opened, found in results if not opened and skip and lacks_family(found)]
    failures = [found for opened, found in results if not opened and found not in missing]
    if ports and not failures:
        return ports
    failures = failures or missing
    closed = DeferredList([close_ports(ports_of(port)) for port in ports], consumeErrors=True)
    return closed.addCallback(_returning(failures[0]))


def _returning(result: Any) -> Callable[[object], Any]:
    return lambda _: result


def _first_error(failure: Failure) -> Any:
    return failure.value.subFailure  # type: ignore[union-attr]  # gatherResults' FirstError
