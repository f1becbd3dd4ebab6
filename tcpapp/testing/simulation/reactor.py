"""The reactor of a host: virtual time, a name service of its own, and no threads."""

# ruff: noqa: A002, N802, N803  # the names are those of Twisted's interfaces

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.base import DelayedCall, _ThreePhaseEvent
from twisted.internet.interfaces import (
    IDelayedCall,
    IHostnameResolver,
    IHostResolution,
    IReactorCore,
    IReactorPluggableNameResolver,
    IReactorSSL,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUNIX,
    IResolutionReceiver,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpapp.testing.simulation.parts import HostPart
from tcpapp.testing.simulation.timeline import Timeline, Turns
from tcpapp.testing.simulation.tls import over_tls, timed

__all__ = ["SimulatedReactor"]


LATE = 1e-6
"""
A timer fires this many seconds after its time: a real timer is never early, and never exactly on time.

`LoopingCall` relies on that: by rounding, a timer can be due slightly before its intended time.
"""


@implementer(IReactorTime)
class SimulatedTime:
    """
    The `IReactorTime` of one process of a host.

    ``seconds()`` is the host's wall clock, as with Twisted's reactors. It starts with the simulation at 0, and jumps
    with `Host.jump`. Timers run on it, too: a clock that is set back makes them late (twisted#2424), and a clock that
    is set forward makes them early. Timers of one process that were set at the same moment for the same moment fire in
    the order in which they were set. The seed chooses the order of all other events of one moment.
    """

    def __init__(self, host: HostPart, timeline: Timeline) -> None:
        self.host = host
        self.turns = Turns(host.simulation.decisions.stream(f"turns of {host.name}").draw, host.name)
        self.offset = host.offset
        self.timeline = timeline
        self._calls: dict[DelayedCall, None] = {}
        self._due = self._fire

    def seconds(self) -> float:
        """Return the time on the host's wall clock."""
        now: float = self.timeline.now + self.offset
        return now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> IDelayedCall:
        """Call a function in `delay` seconds, 0 or more."""
        assert delay >= 0, f"{delay} is not greater than or equal to 0 seconds"
        time = self.timeline.now + self.offset + delay
        call = DelayedCall(time, callable, args, kw, self._cancelled, self._push, self.seconds)
        self._calls[call] = None
        self._push(call)
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """Return all timers that are set."""
        return list(self._calls)

    def left(self) -> list[str]:
        """Return the names of the functions of all timers that are set and can fire."""
        return [name_of(call.func) for call in self._calls] if self.turns.alive else []

    def jump(self, offset: float) -> None:
        """Set the host's clock `offset` seconds ahead of the simulation's."""
        self.offset = offset
        for call in self._calls:
            self._push(call)

    def _push(self, call: DelayedCall) -> None:
        timeline = self.timeline
        now = timeline.now
        when = call.time - self.offset
        timeline.at(when + LATE if when > now else now, self.turns.place(now), self.turns, self._due, call)

    def _fire(self, call: DelayedCall) -> None:
        if call.delayed_time:
            call.activate_delay()
            self._push(call)
        elif call.time - self.offset <= self.timeline.now:
            del self._calls[call]
            call.called = 1
            self.host.simulation.trace.add(self.timeline.now, self.host.name, "timer", name_of(call.func))
            call.func(*call.args, **call.kw)

    def _cancelled(self, call: DelayedCall) -> None:
        del self._calls[call]
        self.timeline.withdrawn()


def name_of(called: Any) -> str:
    """Return the name of a called object, without its address in memory."""
    return str(getattr(called, "__qualname__", type(called).__qualname__))


@implementer(IHostResolution)
class Resolution:
    """A name that is being looked up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cancelled = False

    def cancel(self) -> None:
        """Give no result to the receiver."""
        self.cancelled = True


@implementer(IHostnameResolver)
class Names:
    """
    The name service of the simulation: hosts by their names, and ``localhost``. It answers even during a partition.
    """

    def __init__(self, reactor: SimulatedReactor) -> None:
        self._reactor = reactor

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[Any]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """
        Give the receiver the address of the host of this name, or none: at this moment, but after this method returns.
        """
        resolution = Resolution(hostName)

        def tell() -> None:
            if resolution.cancelled:
                return
            resolutionReceiver.resolutionBegan(resolution)
            ip = self._reactor.host.simulation.network.ip_of(hostName, self._reactor.host)
            if ip is not None and (addressTypes is None or IPv4Address in addressTypes):
                resolutionReceiver.addressResolved(IPv4Address("TCP", ip, portNumber))
            resolutionReceiver.resolutionComplete()

        self._reactor.callFromThread(tell)
        return resolution


class NoThreads:
    """A thread pool without threads: each call is done at once, in this thread."""

    def callInThread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call it, now."""
        self.callInThreadWithCallback(lambda _, __: None, function, *args, **kwargs)

    def callInThreadWithCallback(
        self, told: Callable[[bool, Any], Any] | None, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """Call a function now, and call `told` with its result."""
        try:
            result = function(*args, **kwargs)
        except Exception:  # noqa: BLE001  # an exception of the user's function is the result
            if told is not None:
                told(False, Failure())
        else:
            if told is not None:
                told(True, result)


@implementer(IReactorCore, IReactorTCP, IReactorSSL, IReactorUNIX, IReactorThreads, IReactorPluggableNameResolver)
class SimulatedReactor(SimulatedTime):
    """
    The reactor of a process on a simulated host. It is always running; a restarted host has a new one.

    TLS is Twisted's own, by endpoint strings, ``startTLS`` and factories. A ``TLSMemoryBIOFactory`` gets this reactor
    as its clock, whatever clock it had.

    It differs from a real reactor. It has no UDP, no IPv6 (``::`` stands for all IPv4 addresses), no descriptors, no
    child processes and no signals. Calls in threads are done at once, in this thread. No seed decides the random values
    of TLS: a run with TLS repeats its events, but not every byte. Over TLS, Twisted's cooperator drives a *pull*
    producer, on the global reactor.

    ``stop()`` fires the shutdown triggers. When these are done the process exits: its connections are closed as by the
    kernel.
    """

    running = True

    def __init__(self, host: HostPart, timeline: Timeline) -> None:
        super().__init__(host, timeline)
        self.nameResolver: IHostnameResolver = Names(self)
        self._triggers: dict[str, Any] = {}
        self._pool = NoThreads()

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Look up names with `resolver` from now on. Returns the previous resolver."""
        before, self.nameResolver = self.nameResolver, resolver
        return before

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """Call a function in a later turn of this moment."""
        timeline, turns = self.timeline, self.turns
        timeline.at(timeline.now, turns.place(timeline.now), turns, lambda _: callable(*args, **kw), None)

    def callInThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call a function now: there are no threads."""
        self._pool.callInThread(callable, *args, **kwargs)

    def getThreadPool(self) -> Any:
        """Return a thread pool for ``deferToThread``; it has no threads."""
        return self._pool

    def suggestThreadPoolSize(self, size: int) -> None:
        """Do nothing: there are no threads."""

    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen on a port of this host; 0 is any free port. Raises ``CannotListenError``."""
        return self.host.simulation.network.listen_tcp(self, port, timed(factory, self), backlog, interface)

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        """Connect to a port of a host. Returns an `IConnector`."""
        return self.host.simulation.network.connect_tcp(self, host, port, timed(factory, self), timeout)

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen as `listenTCP` does, over TLS."""
        return self.listenTCP(port, over_tls(contextFactory, factory, self, client=False), backlog, interface)

    def connectSSL(
        self, host: str, port: int, factory: Any, contextFactory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        """Connect as `connectTCP` does, over TLS. Returns an `IConnector`."""
        return self.connectTCP(host, port, over_tls(contextFactory, factory, self, client=True), timeout, bindAddress)

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool | int = 0
    ) -> Any:
        """
        Listen on a path of the host's own file system, which has only sockets. Descriptors cannot be sent. Raises
        ``CannotListenError``.
        """
        network = self.host.simulation.network
        return network.listen_unix(self, address, timed(factory, self), backlog, locked=bool(wantPID))

    def connectUNIX(self, address: Any, factory: Any, timeout: float = 30, checkPID: bool | int = 0) -> Any:
        """Connect to a path of this host. Returns an `IConnector`."""
        return self.host.simulation.network.connect_unix(self, address, timed(factory, self), timeout)

    def addSystemEventTrigger(self, phase: str, eventType: str, callable: Any, *args: Any, **kw: Any) -> Any:
        """Call a function before, during or after an event. The event is ``shutdown``: ``startup`` is over."""
        event = self._triggers.setdefault(eventType, _ThreePhaseEvent())
        return eventType, event.addTrigger(phase, callable, *args, **kw)

    def removeSystemEventTrigger(self, triggerID: Any) -> None:
        """Undo `addSystemEventTrigger`."""
        event, handle = triggerID
        self._triggers[event].removeTrigger(handle)

    def fireSystemEvent(self, eventType: str) -> None:
        """Call the triggers of an event."""
        if eventType in self._triggers:
            self._triggers[eventType].fireEvent()

    def callWhenRunning(self, callable: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """Call a function now: the reactor is running."""
        callable(*args, **kw)

    def stop(self) -> None:
        """Fire the shutdown triggers. When the triggers of the phase ``before`` are done, the process exits."""
        self.addSystemEventTrigger("after", "shutdown", self.crash)
        self.fireSystemEvent("shutdown")

    def crash(self) -> None:
        """End the process now, without shutdown triggers."""
        self.callFromThread(self.host.exit, self)

    def run(self) -> None:
        """Raise `RuntimeError`: the simulation runs the reactor."""
        raise RuntimeError("a simulated reactor is run by its simulation: sim.run()")

    def iterate(self, delay: float = 0) -> None:
        """Raise `RuntimeError`, as `run` does."""
        self.run()

    def resolve(self, name: str, timeout: Sequence[int] = ()) -> Any:
        """Raise `NotImplementedError`: use ``nameResolver``."""
        raise NotImplementedError("names are resolved by reactor.nameResolver")
