"""
The server as a Twisted service: it listens on any number of endpoints, stops without losing a message, and can start
again.

::

    MessageService                 one factory for all endpoints: the limits hold for them together
    ├── EndpointService            tcp:7007:interface=127.0.0.1
    └── EndpointService            unix:/run/app.sock

It stops in this order: stop listening on every endpoint → let every connection finish its work, for at most `drain`
seconds → cut the remaining connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from tcpapp.server.accept_control import PausablePort
from tcpapp.server.factory import MessageServerFactory
from tcpapp.server.listener import close_ports, lacks_family, why_not
from tcpapp.telemetry.statistics import Info
from tcpapp.transport.addresses import describe
from tcpapp.transport.endpoint_strings import server_endpoint
from tcpapp.transport.socket_activation import ports_of

__all__ = ["EndpointService", "MessageService"]

_log = Logger(namespace="tcpapp")


class EndpointService(Service):
    """
    Listens on one endpoint with `factory`. It can be started and stopped any number of times.

    `addresses` are the addresses where it listens: one, or several for sockets that were handed over under one name.
    `missing` is the error if the endpoint was skipped, because this machine lacks its address family.
    """

    def __init__(self, endpoint: IStreamServerEndpoint, factory: MessageServerFactory) -> None:
        self._endpoint = endpoint
        self._factory = factory
        self._listening: Deferred[IListeningPort | None] | None = None
        self.addresses: list[IAddress] = []
        self._pausable_ports: list[PausablePort] = []
        self.missing: Failure | None = None
        self._suspended = False

    def privilegedStartService(self) -> None:
        """
        Listen while the process still has its privileges. Raises an error that occurs at once, such as
        ``CannotListenError``.

        An error that occurs later is logged, and `addresses` stays empty.
        """
        super().privilegedStartService()
        self._listen()

    def startService(self) -> None:
        """Listen, unless `privilegedStartService` did. Raises the same errors."""
        super().startService()
        if self._listening is None:
            try:
                self._listen()
            except BaseException:
                self.running = 0
                raise

    @property
    def address(self) -> IAddress | None:
        """The first of `addresses`; `None` if it does not listen."""
        return self.addresses[0] if self.addresses else None

    def reload(self) -> bool:
        """Reload the certificates of a TLS endpoint. Returns whether they were valid; true without TLS."""
        reload = getattr(self._endpoint, "reload", None)
        return True if reload is None else bool(reload())

    def stopService(self) -> Deferred[None]:
        """
        Stop listening; fires when the port is closed, and never fails. Connections stay open: the factory closes them.
        """
        super().stopService()
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        if not self.addresses:
            listening.cancel()
        return listening.addCallback(self._unlisten).addErrback(self._log_unclosed)

    def set_suspended(self, suspended: bool) -> None:
        """Accept no client while the service is `suspended`."""
        self._suspended = suspended
        for pausable in self._pausable_ports:
            (pausable.pause if suspended else pausable.resume)("suspended")

    def _listen(self) -> None:
        failures: list[Failure] = []
        self.missing = None

        def failed(failure: Failure) -> None:
            if self._factory.settings.policies.missing_family == "skip" and lacks_family(failure):
                self.missing = failure
                error = why_not(failure.value)  # type: ignore[arg-type]  # lacks_family has checked its type
                _log.warn("skipped, because missing_family is skip: {error}", error=error)
            elif self._listening is None:  # an error that occurs at once is raised by the caller; a stop is no error
                failures.append(failure)
            else:
                _log.failure("cannot listen", failure=failure)

        listening: Deferred[Any] = self._endpoint.listen(self._factory)
        listening.addCallback(self._listens).addErrback(failed)
        if failures:
            failures[0].raiseException()
        self._listening = listening

    def _listens(self, port: IListeningPort) -> IListeningPort:
        self.addresses = [each.getHost() for each in ports_of(port)]
        self._pausable_ports = [self._factory.accept_control.add(each) for each in ports_of(port)]
        self.set_suspended(self._suspended)
        for address in self.addresses:
            _log.info("listening on {address}", address=describe(address))
        return port

    def _unlisten(self, port: IListeningPort | None) -> Any:
        if port is None:
            return None
        addresses, self.addresses = self.addresses, []
        pausable_ports, self._pausable_ports = self._pausable_ports, []
        for pausable in pausable_ports:
            self._factory.accept_control.remove(pausable)
        return close_ports(ports_of(port)).addCallback(self._log_closed, addresses)

    def _log_closed(self, _: object, addresses: list[IAddress]) -> None:
        for address in addresses:
            _log.info("no longer listening on {address}", address=describe(address))

    def _log_unclosed(self, failure: Failure) -> None:
        _log.error("cannot stop listening properly: {error}", error=failure.getErrorMessage())


class MessageService(MultiService):
    """
    A Twisted service that serves the app of `factory` on `endpoints`: endpoint strings, or endpoint objects.

    Raises `InvalidAddress`, the caller's fault, for an invalid endpoint. Starting raises the errors of listening, and
    then nothing is listened on.
    """

    def __init__(
        self, factory: MessageServerFactory, endpoints: Iterable[str | IStreamServerEndpoint], reactor: Any
    ) -> None:
        super().__init__()
        self.factory = factory
        """The factory that makes the connections."""
        self._suspended = False
        if factory.accept_control.clock is None:
            factory.accept_control.clock = reactor
        for endpoint in endpoints:
            EndpointService(server_endpoint(reactor, endpoint), factory).setServiceParent(self)

    @property
    def addresses(self) -> list[IAddress]:
        """The addresses where it listens now, with the real port number where 0 was asked for."""
        return [address for each in self._endpoint_services() for address in each.addresses]

    def privilegedStartService(self) -> None:
        """Listen on all endpoints, or on none, while the process has its privileges. Raises the errors of listening."""
        try:
            super().privilegedStartService()
            self._check_that_it_listens()
        except BaseException:
            self._stop_listening()
            raise

    def startService(self) -> None:
        """Listen on all endpoints, or on none, unless `privilegedStartService` did. Raises the errors of listening."""
        try:
            super().startService()
            self._check_that_it_listens()
        except BaseException:
            self.running = 0
            self._stop_listening()
            raise

    def suspend(self) -> None:
        """
        Accept no client until `resume`, also after a restart of the service. New clients wait in the backlog; open
        connections continue.
        """
        self._suspended = True
        for each in self._endpoint_services():
            each.set_suspended(self._suspended)

    def resume(self) -> None:
        """Accept clients again after `suspend` or `drain`."""
        self._suspended = False
        for each in self._endpoint_services():
            each.set_suspended(self._suspended)

    def drain(self, deadline: float | None = None, jitter: float | None = None) -> Deferred[int]:
        """
        Accept no client, let every connection finish its work, and close it. See `MessageServerFactory.drain`.

        After that the service is suspended: `resume` lets it accept clients again.
        """
        self.suspend()
        return self.factory.drain(deadline, jitter)

    def wait_for(self, at_most: int) -> Deferred[None]:
        """Return a Deferred that fires when at most `at_most` connections are open or closing. It can be cancelled."""
        return self.factory.wait_for(at_most)

    def info(self) -> Info:
        """Return the statistics of the server now."""
        return self.factory.info(self.addresses, self._suspended)

    def change(self, **changes: Any) -> None:
        """
        Change settings of the running server, as ``change(max_connections=50, idle=300)``; see
        `MessageServerFactory.change`.

        All changes take effect, or none. Raises `InvalidOption` for an invalid value, and `TypeError` for an unknown
        name; both are the caller's fault.
        """
        self.factory.change(**changes)

    def stopService(self) -> Deferred[None]:
        """Stop listening and drain. Fires when no connection is left, within ``timeouts.drain`` seconds."""
        unlistened = maybeDeferred(super().stopService)
        if self.factory.connections:
            _log.info(
                "draining {count} connection(s), for {seconds:g} s at most",
                count=len(self.factory.connections),
                seconds=self.factory.settings.timeouts.drain,
            )
        drained = self.factory.drain().addCallback(self._log_cut)
        both = DeferredList([unlistened, drained], fireOnOneErrback=True, consumeErrors=True)
        return both.addCallback(lambda _: None)

    def reload_certificates(self) -> bool:
        """
        Reload the certificates of all TLS endpoints, for later connections. Returns whether all were valid.

        If the files of an endpoint are invalid, the error is logged, and its old certificates stay in use.
        """
        return not [each for each in self._endpoint_services() if not each.reload()]

    def cut(self) -> None:
        """Cut the connections that are still open: end a drain that was begun, without waiting any longer."""
        self.factory.abort()

    def _log_cut(self, cut: int) -> None:
        if cut:
            _log.warn("cut {count} connection(s) that did not end by themselves", count=cut)

    def _endpoint_services(self) -> list[EndpointService]:
        return [each for each in self if isinstance(each, EndpointService)]

    def _check_that_it_listens(self) -> None:
        """Raise an error if all endpoints were skipped: a server must listen on one at least."""
        missing = [each.missing for each in self._endpoint_services()]
        if missing and missing[0] is not None and None not in missing:
            missing[0].raiseException()

    def _stop_listening(self) -> None:
        for each in self._endpoint_services():
            each.stopService()  # it never fails
