"""
A chat room with 20 members over a network where everything goes wrong, and the promises that still hold.

`scenario` is one run of it, by the seed of its simulation. Members come, send numbered lines, and some leave. Meanwhile
links are partitioned, shortened and slowed down, connections reset, clocks jump, readers are slow, and any process, the
room's too, can crash or exit and be started again. A member that lost its connection comes back, under a new name.
Whatever happens, these promises hold:

- a line reaches every member whose connection was open, at both ends, from before the line until the end, if the
  sender's was, too. It comes once, and in the sender's order. No member ever gets a line twice, or out of order
- every waiting call got a result or a reason, except in processes that are gone
- every connection ended with a reason, the same at every place
- nothing is left: no timer, no connection, no port
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import ConnectError, DNSLookupError

import tcpapp
from tcpapp.apps.chat import Chat, Room
from tcpapp.errors import NotConnected
from tcpapp.testing.simulation import FAULTS, faults, simulate

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from tcpapp.testing.simulation import Host, Simulation

MEMBERS = 20
WORDS = 3
"""The most lines that each life sends."""

TALK = 30.0
"""Seconds in which members come and talk, and in which things go wrong."""

SETTLED = 90.0
"""Seconds after which what was delayed has come: lines are whole again, and slow readers have caught up."""

RULES = {
    "closed",
    "drained",
    "end-of-stream",
    "truncated-message",
    "send-stalled",
    "first-message-timeout",
    "message-timeout",
    "idle",
    "half-close-over",
    "grace-over",
    "lost",
}
"""
The ways in which a connection of this scenario can end.

Where the other end crashed, or the line was cut for good, the server's waits are what ends it.
"""


class House:
    """One life of the server: its room, its members, and how the connections of former members ended."""

    def __init__(self, host: Host) -> None:
        self.reactor = host.reactor
        self.seats: dict[Chat, None] = {}
        self.ended: list[tcpapp.CloseReason] = []
        house = self

        class Seat(Chat):
            room = Room()

            def opened(self, connection: Any) -> None:
                house.seats[self] = None
                super().opened(connection)

            def closed(self, connection: Any, reason: tcpapp.CloseReason) -> None:
                del house.seats[self]
                house.ended.append(reason)
                super().closed(connection, reason)

        self.listening: Deferred[tcpapp.Listening] = tcpapp.listen("tcp:7007", Seat, reactor=host.reactor)

    @property
    def present(self) -> set[str]:
        """The names of those whose connection is up, as the server knows."""
        return {seat.name for seat in self.seats}


class Visit:
    """One life of a member, from connecting to the end: what it said and when, what it heard, and how it ended."""

    def __init__(self, sim: Simulation, host: Host, name: str) -> None:
        self.sim = sim
        self.host = host
        self.reactor = host.reactor
        self.name = name
        self.joined: float | None = None
        self.said: list[tuple[float, bytes]] = []
        self.heard: dict[str, list[bytes]] = defaultdict(list)
        self.reasons: list[tcpapp.CloseReason] = []
        self.waits: list[Deferred[Any]] = []
        self.told: list[Any] = []
        self.connection: Any = None
        self.over: Deferred[None] = Deferred()
        self.connecting = tcpapp.connect("tcp:server:7007", self, reactor=self.reactor)
        self.wait(self.connecting.addCallbacks(self.join, self.failed))

    # What happens to it.

    def opened(self, connection: Any) -> None:
        self.connection = connection
        self.wait(connection.when_closed())

    def received(self, message: bytes, connection: Any) -> None:
        text = message.decode()
        if text.startswith("Hello, "):
            self.joined = self.sim.now
        speaker, colon, said = text.partition(": ")
        if colon and speaker.startswith("member"):
            self.heard[speaker].append(said.encode())

    def closed(self, connection: Any, reason: tcpapp.CloseReason) -> None:
        self.reasons.append(reason)
        self.over.callback(None)

    def failed(self, failure: Failure) -> None:
        failure.trap(ConnectError, DNSLookupError, CancelledError)
        self.over.callback(None)

    # What it does.

    def join(self, _: object) -> None:
        """Take a name; then say things, and perhaps leave."""
        self.send(self.name.encode())
        left = max(TALK - self.sim.now, 1.0)
        for _number in range(WORDS):
            self.sim.call_later(self.sim.between(left / 30, left), self.say)
        if self.sim.chance(0.2):
            self.sim.call_later(self.sim.between(left / 6, left), self.send, b"/quit")

    def say(self) -> None:
        """Say something in the room, if the connection is up."""
        if self.open and self.connection.state is tcpapp.State.OPEN and self.joined is not None:
            text = b"%d" % len(self.said)
            self.said.append((self.sim.now, text))
            self.send(text)

    def send(self, text: bytes) -> None:
        if self.alive:
            self.wait(self.connection.send(text).addErrback(lambda failure: failure.trap(NotConnected)))

    def wait(self, deferred: Deferred[Any]) -> None:
        self.waits.append(deferred.addBoth(self.told.append))

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.host.reactor is self.reactor and self.host.running

    @property
    def open(self) -> bool:
        """Whether its connection is up, as far as it knows: of a reset that was lost on the way it does not know."""
        return self.alive and self.connection is not None and not self.reasons


class Town:
    """The server's host and the members', and all lives there were."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.visits: list[Visit] = []
        self.houses: list[House] = []
        sim.host("server", lambda host: self.houses.append(House(host)))
        for number in range(MEMBERS):
            sim.host(f"member{number}", self.live)

    def live(self, host: Host) -> None:
        """Begin a life; when it is over, and there is still time, another one."""
        visit = Visit(self.sim, host, f"{host.name}-{len(self.visits)}")
        self.visits.append(visit)
        visit.over.addCallback(lambda _: self.sim.call_later(self.sim.between(0.1, 3.0), self.live_again, visit))

    def live_again(self, visit: Visit) -> None:
        if visit.alive and self.sim.now < TALK:
            self.live(visit.host)

    @property
    def stayed(self) -> list[Visit]:
        """Those whose connection is up, as both its ends know."""
        return [visit for visit in self.visits if visit.open and visit.name in self.houses[-1].present]

    async def end(self) -> None:
        """End all that goes on, in order."""
        for visit in self.visits:
            visit.connecting.cancel()
        await gatherResults([visit.connection.close() for visit in self.visits if visit.open])
        listening = await self.houses[-1].listening
        await listening.close()


async def scenario(sim: Simulation) -> list[Visit]:
    """One run; raises `AssertionError` for what does not hold."""
    town = Town(sim)
    faults(sim, until=TALK, every=1.0, kinds=tuple(FAULTS))
    await sim.sleep(SETTLED)
    check_what_was_heard(town.visits, town.stayed)
    house = town.houses[-1]
    count = len(house.seats) + len(house.ended)
    await town.end()
    check_the_end(town.visits, house.ended, count)
    assert sim.left() == []
    return town.visits


def check_what_was_heard(visits: list[Visit], stayed: list[Visit]) -> None:
    """Nothing was lost between members that `stayed`; nothing was doubled or out of order, whichever members left."""
    speakers = {visit.name: visit for visit in visits}
    for listener in visits:
        for name, heard in listener.heard.items():
            said = [text for _, text in speakers[name].said]
            places = [said.index(text) for text in heard]
            assert places == sorted(set(places)), f"{listener.name} heard {heard} of {said}"
    for listener in stayed:
        for speaker in stayed:
            if listener is not speaker and listener.joined is not None:
                heard = listener.heard.get(speaker.name, [])
                since = [text for at, text in speaker.said if at > listener.joined]
                assert heard[len(heard) - len(since) :] == since, f"{listener.name} heard {heard} of {since}"


def check_the_end(visits: list[Visit], ended: list[tcpapp.CloseReason], count: int) -> None:
    """Everybody whose process runs was told, once, and knows why."""
    assert len(ended) == count
    living = [visit for visit in visits if visit.alive]
    for visit in living:
        assert len(visit.told) == len(visit.waits)
        assert len(visit.reasons) == (visit.connection is not None)
        assert set(visit.reasons) <= {each for each in visit.told if isinstance(each, tcpapp.CloseReason)}
    for reason in [*ended, *(each for visit in living for each in visit.reasons)]:
        assert reason.rule in RULES, reason
        assert reason.detail


if __name__ == "__main__":
    runs = int(sys.argv[1])
    made = simulate(scenario, seeds=range(runs), keep=2000)
    sys.stdout.write(f"{made:,} runs of a chat room of {MEMBERS}: all holds\n")
