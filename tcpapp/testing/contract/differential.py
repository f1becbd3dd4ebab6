"""
Differential tests: the same random program runs on two kinds of transports, and each end must see the same on both.

The checks of the contract test known rules; a random program finds unknown differences. It is drawn from a seed, step
by step: one end writes, pauses, resumes, half-closes, closes, aborts, registers or unregisters a producer, or prepares
one of these actions for the next ``dataReceived``. After each step both carriers come to rest, and the calls of both
ends are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

from tcpapp.testing.contract.carrier import Broken, Carrier, HalfCloseableEnd

__all__ = ["Step", "compare", "program"]

STEPS: Final = 12
"""The steps of a program: enough to bring a connection into any state, and to check it there."""

SMALL: Final = 100
"""The most bytes of a small write, which arrives in one piece over any carrier, and fits into every buffer."""

LARGE: Final = 100_000
"""
The bytes of a large write, which pauses a producer: over Twisted's ``bufferSize``, and below the kernels' capacity.
"""

CALLS: Final = (
    *["write"] * 6,
    "write large",
    *["pause"] * 2,
    *["resume"] * 3,
    *["half-close"] * 2,
    "close",
    "abort",
    "produce",
    "stop producing",
)
"""The possible actions of a step, repeated by their frequency."""

REACTIONS: Final = ("write", "write", "pause", "half-close", "close", "abort")
"""The possible actions of an end inside ``dataReceived``."""


LAST_TURNS: Final = 3
"""The turns at the end in which late or repeated calls would come."""


class Step(NamedTuple):
    """
    One step of a program: the end, its action, and the number of bytes. `later`: inside its next ``dataReceived``.
    """

    end: str
    call: str
    size: int = 0
    later: bool = False


def program(seed: int, steps: int = STEPS, *, half_close: bool = True) -> list[Step]:
    """
    Return the program of a seed, which is the same in every run. `half_close` says whether it can close one direction
    alone.
    """
    chance = Random(f"program {seed}")  # noqa: S311 - repeatable, not secret
    drawn: list[Step] = []
    holding = dict.fromkeys(("client", "server"), False)  # whether an action waits for the next bytes
    while len(drawn) < steps:
        end, later = chance.choice(tuple(holding)), chance.random() < 0.2
        call = chance.choice(REACTIONS if later else CALLS)
        other = "server" if end == "client" else "client"
        if (call == "half-close" and not half_close) or (call == "write large" and holding[other]):
            continue
        if later or call == "pause":
            holding[end] = True
        drawn.append(Step(end, call, chance.randint(1, SMALL) if call == "write" else 0, later))
    return drawn


class Actor(HalfCloseableEnd):
    """An end that does steps and notes them. Prepared steps are done when bytes come."""

    def __init__(self) -> None:
        super().__init__()
        self.reactions: list[Step] = []
        self.written = 0

    def dataReceived(self, data: bytes) -> None:
        """Keep received bytes, and do the prepared steps."""
        super().dataReceived(data)
        if self.reactions:
            self.do(self.reactions.pop(0))

    def do(self, step: Step) -> None:
        """Do the step now. An exception is noted."""
        call: Callable[[Any], object] = getattr(self, f"_{step.call.replace(' ', '_').replace('-', '_')}")
        try:
            with self.calling():
                call(step)
        except Exception as error:  # noqa: BLE001 - any exception must be the same on both
            self.notes.append(f"{step.call} raised {type(error).__name__}")

    def _write(self, step: Step) -> None:
        self.written += 1
        self.transport.write(bytes([self.written % 256]) * step.size)

    def _write_large(self, _: Step) -> None:
        self._write(Step("", "write", LARGE))

    def _pause(self, _: Step) -> None:
        self.transport.pauseProducing()

    def _resume(self, _: Step) -> None:
        self.transport.resumeProducing()

    def _half_close(self, _: Step) -> None:
        if self.reason is None:  # on a lost connection, Twisted's transport gives the reactor an invalid descriptor
            self.transport.loseWriteConnection()

    def _close(self, _: Step) -> None:
        self.transport.loseConnection()

    def _abort(self, _: Step) -> None:
        self.transport.abortConnection()

    def _produce(self, _: Step) -> None:
        self.transport.registerProducer(self, True)

    def _stop_producing(self, _: Step) -> None:
        self.transport.unregisterProducer()

    # The methods of a push producer without bytes of its own.

    def pauseProducing(self) -> None:
        """Note that it must pause."""
        self.notes.append("producer paused")

    def resumeProducing(self) -> None:
        """Note that it can resume."""
        self.notes.append("producer resumed")

    def stopProducing(self) -> None:
        """Note that it must stop."""
        self.notes.append("producer stopped")


class Scene:
    """Two actors on one carrier."""

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self.ends = {"client": Actor(), "server": Actor()}

    async def open(self) -> None:
        """Connect the actors, without Nagle's algorithm, so that no write waits for an earlier one."""
        await self.carrier.connect(self.ends["server"], self.ends["client"])
        for actor in self.ends.values():
            actor.transport.setTcpNoDelay(True)

    def do(self, step: Step) -> None:
        """Do a step, or prepare it for the next ``dataReceived``."""
        actor = self.ends[step.end]
        if step.later:
            actor.reactions.append(step)
        else:
            actor.do(step)

    @property
    def seen(self) -> dict[str, tuple[list[str], bytes]]:
        """The calls and the bytes that each end has seen."""
        return {name: (list(actor.notes), bytes(actor.data)) for name, actor in self.ends.items()}


async def compare(carrier: Carrier, reference: Carrier, steps: list[Step]) -> None:
    """
    Run the program on both carriers, and close the connections. Raises `Broken` at the first step with different
    results.

    `reference` must be a carrier that comes to rest in one turn, such as a carrier without a network. `carrier` gets a
    turn, and then up to 2,000 more until its ends have seen the same. In a few more turns at the end nothing must come
    any more.
    """
    one, other = Scene(reference), Scene(carrier)
    try:
        await one.open()
        await other.open()
        for count, step in enumerate(steps, 1):
            one.do(step)
            await reference.turn()
            other.do(step)
            await carrier.turn()
            await _agree(one, other, steps[:count])
        for _ in range(LAST_TURNS):
            await carrier.turn()
        await _agree(one, other, steps)
    finally:
        await carrier.close()
        await reference.close()


async def _agree(one: Scene, other: Scene, done: list[Step]) -> None:
    try:  # on a busy machine, the reference has possibly seen more by now than after its turn
        await other.carrier.until(lambda: other.seen == one.seen, "the same")
    except Broken:
        raise Broken(f"after {done}:\nexpected {_shown(one.seen)}\n   found {_shown(other.seen)}") from None


def _shown(seen: dict[str, tuple[list[str], bytes]]) -> str:
    return "; ".join(f"{name}: {', '.join(notes)} ({len(data)} bytes)" for name, (notes, data) in seen.items())
