"""Random programs see the same on the uvloop reactor and on Twisted's epoll reactor, which runs beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import LoopingCall, deferLater
from typing_extensions import override

from tcpapp.testing.contract.differential import compare, program
from tcpapp.testing.contract.sockets import Sockets
from tests.testing.contract.loopback import tcp, tls, unix

epollreactor = pytest.importorskip("twisted.internet.epollreactor")
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")

SEEDS = range(1000, 1150)
TURNS = 12
"""Rounds after which no byte is on its way between two sockets of one process, on a quiet machine."""


@pytest.fixture(scope="module")
def epoll(global_reactor: Any) -> Iterator[Any]:
    """Give an epoll reactor that the global reactor drives."""
    reactor = epollreactor.EPollReactor()
    turning = LoopingCall(reactor.iterate, 0)
    turning.clock = global_reactor
    turning.start(0.0005)
    yield reactor
    turning.stop()
    reactor.removeAll()
    for each in reactor._internalReaders:
        reactor.removeReader(each)
        each.connectionLost(None)
    reactor._poller.close()


def at_rest(carrier: Sockets, reactor: Any, ours: Any) -> Sockets:
    """
    Change the carrier so that its turn lasts until a turn changes nothing: on a busy machine the kernel takes its time.

    Twisted's TLS has its timers on the global reactor, so that reactor runs together with this one.
    """

    class AtRest(type(carrier)):  # type: ignore[misc]
        @override
        async def turn(self) -> None:
            before: Any = None
            while before != (now := [(list(each.notes), len(each.data)) for each in self._ends]):
                before = now
                for _ in range(TURNS):
                    reactor.iterate(0)
                    await deferLater(ours, 0)
                await super().turn()

    carrier.__class__ = AtRest
    return carrier


@pytest.mark.no_leaks  # the sockets of the reactors themselves
@pytest.mark.parametrize("seed", SEEDS)
@pytest_twisted.ensureDeferred
async def test_a_tcp_connection_does_the_same_on_both_reactors(seed: int, global_reactor: Any, epoll: Any) -> None:
    """A random program over TCP has the same calls and bytes on the uvloop reactor as on epoll."""
    await compare(tcp(global_reactor), at_rest(tcp(epoll), epoll, global_reactor), program(seed))


@pytest.mark.no_leaks
@pytest.mark.parametrize("seed", SEEDS[:50])
@pytest_twisted.ensureDeferred
async def test_a_unix_connection_does_the_same_on_both_reactors(
    seed: int, global_reactor: Any, epoll: Any, tmp_path: Any
) -> None:
    """A random program over a UNIX socket has the same calls and bytes on the uvloop reactor as on epoll."""
    here, there = (str(tmp_path / name) for name in ("here", "there"))
    await compare(unix(global_reactor, here), at_rest(unix(epoll, there), epoll, global_reactor), program(seed))


@pytest.mark.no_leaks
@pytest.mark.parametrize("seed", SEEDS[:50])
@pytest_twisted.ensureDeferred
async def test_a_tls_connection_does_the_same_on_both_reactors(
    seed: int, global_reactor: Any, epoll: Any, contexts: Any
) -> None:
    """A random program over TLS, without half-close, has the same calls and bytes on the uvloop reactor as on epoll."""
    carrier = at_rest(tls(epoll, contexts), epoll, global_reactor)
    await compare(tls(global_reactor, contexts), carrier, program(seed, half_close=False))
