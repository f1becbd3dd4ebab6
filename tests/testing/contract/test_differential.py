"""Random programs see the same events on the kit's transports as on sockets, and differences are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

from tcpapp.testing.contract import Broken, End
from tcpapp.testing.contract.differential import CALLS, REACTIONS, Actor, Step, compare, program
from tcpapp.testing.contract.fakes import FakeTransports, Wires
from tests.testing.contract.loopback import tcp, tls

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")

ON_SOCKETS = range(60)
IN_MEMORY = range(500)
ABORTED = Failure(ConnectionAborted())


def result_of(comparing: Any) -> None:
    """Run the coroutine `comparing`, which needs no reactor, and raise its exception."""
    results: list[Any] = []
    Deferred.fromCoroutine(comparing).addBoth(results.append)
    [result] = results
    if result is not None:
        result.raiseException()


# Both transports see the same -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", ON_SOCKETS)
@pytest_twisted.ensureDeferred
async def test_a_wire_is_like_a_tcp_connection(seed: int, global_reactor: Any) -> None:
    """A random program without TLS has the same calls and bytes on a wire as on a TCP connection."""
    await compare(tcp(global_reactor), Wires(), program(seed))


@pytest.mark.parametrize("seed", ON_SOCKETS[:30])
@pytest_twisted.ensureDeferred
async def test_a_wire_with_tls_is_like_a_tls_connection(seed: int, global_reactor: Any, contexts: Any) -> None:
    """A random program over TLS has the same calls and bytes on a wire as on a TLS connection."""
    await compare(tls(global_reactor, contexts), Wires(tls=contexts), program(seed, half_close=False))


@pytest.mark.once
def test_a_fake_transport_is_like_a_wire() -> None:
    """Random programs have the same calls and bytes on a fake transport as on a wire."""
    for seed in IN_MEMORY:
        result_of(compare(FakeTransports(), Wires(), program(seed)))


# Differences are found ------------------------------------------------------------------------------------------------


class Flawed(Wires):
    """A wire whose two transports have a flaw each."""

    def __init__(self, spoil: Callable[[Any], object]) -> None:
        super().__init__()
        self._spoil = spoil

    async def connect(self, server: End, client: End) -> None:
        await super().connect(server, client)
        for end in (server, client):
            self._spoil(end.transport)


FLAWS: dict[str, Callable[[Any], object]] = {
    "a pause is not heeded": lambda transport: setattr(transport, "pauseProducing", lambda: None),
    "a pause is for ever": lambda transport: setattr(transport, "resumeProducing", lambda: None),
    "an abort is a close": lambda transport: setattr(transport, "abortConnection", transport.loseConnection),
    "a close is an abort": lambda transport: setattr(transport, "loseConnection", transport.abortConnection),
    "half a close is a whole one": lambda transport: setattr(
        transport, "loseWriteConnection", transport.loseConnection
    ),
    "a producer is never paused": lambda transport: setattr(transport, "bufferSize", 1 << 20),
    "a producer is forgotten": lambda transport: setattr(transport, "registerProducer", lambda *_: None),
    "a byte is lost": lambda transport: setattr(
        transport, "write", lambda data, write=transport.write: write(data[1:])
    ),
    "bytes are turned round": lambda transport: setattr(
        transport, "write", lambda data, write=transport.write: write(data + b"!")
    ),
    "a loss is told inside the call": lambda transport: setattr(
        transport, "abortConnection", lambda lose=transport.connectionLost: lose(ABORTED)
    ),
}
"""The flaws that are planted into a transport."""


@pytest.mark.once
@pytest.mark.parametrize("spoil", FLAWS.values(), ids=FLAWS)
def test_a_flaw_is_found(spoil: Callable[[Any], object]) -> None:
    """One of the first programs finds each flaw. The error names the steps, and what each end has seen."""

    def comparing() -> None:
        for seed in IN_MEMORY:
            result_of(compare(Flawed(spoil), Wires(), program(seed)))

    with pytest.raises(Broken, match=r"(?s)after \[Step\(.*\nexpected client: made.* bytes\).*\n   found client: made"):
        comparing()


def test_an_event_after_the_last_step_is_found() -> None:
    """A difference that comes after the last step is found, too."""

    class Late(Wires):
        turns = 0

        async def turn(self) -> None:
            await super().turn()
            self.turns += 1
            if self.turns == 3:
                self._wires[0].client.dataReceived(b"!")

    with pytest.raises(Broken, match=r"found client: made, data \(1 bytes\)"):
        result_of(compare(Late(), Wires(), [Step("client", "pause")]))


def test_both_carriers_are_closed_after_an_error() -> None:
    """When a carrier cannot connect, `compare` raises its error and closes both carriers."""

    class Closing(Wires):
        closed = False

        async def close(self) -> None:
            await super().close()
            self.closed = True

    class Refusing(Closing):
        async def connect(self, server: End, client: End) -> None:
            raise Broken("no connection")

    one, other = Closing(), Refusing()
    with pytest.raises(Broken, match="no connection"):
        result_of(compare(other, one, []))
    assert one.closed
    assert other.closed


# Programs -------------------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_program_each_time() -> None:
    """
    A seed gives the same program each time, another seed gives another program, and a program has the given number of
    steps.
    """
    assert program(7) == program(7)
    assert program(7) != program(8)
    assert len(program(7, 30)) == 30


def test_programs_make_every_call() -> None:
    """
    The programs of 200 seeds make all calls at both ends, at once and later. Without half-close, they make all others.
    """
    done = {step[:2] for seed in range(100) for step in program(seed) if not step.later}
    assert done == {(end, call) for end in ("client", "server") for call in CALLS}
    later = {step[:2] for seed in range(200) for step in program(seed) if step.later}
    assert later == {(end, call) for end in ("client", "server") for call in REACTIONS}
    calls = {step.call for seed in range(100) for step in program(seed, half_close=False)}
    assert calls == {*CALLS} - {"half-close"}


def test_an_exception_of_a_step_is_noted() -> None:
    """When a step raises, the exception is noted and compared like other events."""
    seen: list[Actor] = []

    class Noting(Wires):
        async def connect(self, server: Any, client: Any) -> None:
            seen.append(client)
            await super().connect(server, client)

    steps = [Step("client", "produce"), Step("client", "produce")]
    result_of(compare(Noting(), Wires(), steps))
    assert "produce raised RuntimeError" in seen[0].notes
