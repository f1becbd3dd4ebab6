"""
A chat room with 20 members over a network with many faults, and the promises that still hold.

`scenario` is one run, by the seed of its simulation. Members join, send numbered lines, and some leave. Meanwhile links
are partitioned, shortened and slowed down, connections are reset, clocks jump, and readers are slow. Any process, also
the server's, can crash or exit and start again. A member whose connection was lost joins again under a new name.
These promises hold in every run:

- a line reaches every member whose connection was open at both ends from before the line until the end, if the
  sender's was, too. It comes once, and in the sender's order. No member gets a line twice, or out of order
- every waiting call gets a result or a reason, except in processes that are gone
- every connection ends with a reason, which is the same everywhere
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
"""Lines that a member sends at most in one life."""

TALK = 30.0
"""Seconds in which members join and talk, and in which faults happen."""

SETTLED = 90.0
"""Seconds after which all delayed bytes have arrived: links are whole again, and slow readers have caught up."""

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
The rules by which a connection of this scenario can end.

When the other end has crashed, or the line was cut for good, a timeout of the server ends the connection.
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
        """Return the names of the members whose connection is open at the server."""
        return {seat.name for seat in self.seats}


class Visit:
    """One life of a member, from connecting to its end: what it said and when, what it heard, and how it ended."""

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

    # Events of the connection.

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

    # Actions of the member.

    def join(self, _: object) -> None:
        """Take a name, say lines later, and perhaps leave."""
        self.send(self.name.encode())
        left = max(TALK - self.sim.now, 1.0)
        for _number in range(WORDS):
            self.sim.call_later(self.sim.between(left / 30, left), self.say)
        if self.sim.chance(0.2):
            self.sim.call_later(self.sim.between(left / 6, left), self.send, b"/quit")

    def say(self) -> None:
        """Say a line in the room, if the connection is open."""
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
        """Return whether the member's process runs."""
        return self.host.reactor is self.reactor and self.host.running

    @property
    def open(self) -> bool:
        """
        Return whether the connection is open at the member's end, which knows nothing of a reset that was lost on its
        way.
        """
        return self.alive and self.connection is not None and not self.reasons


class Town:
    """The hosts of the server and of the members, and all their lives."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.visits: list[Visit] = []
        self.houses: list[House] = []
        sim.host("server", lambda host: self.houses.append(House(host)))
        for number in range(MEMBERS):
            sim.host(f"member{number}", self.live)

    def live(self, host: Host) -> None:
        """Begin a life of a member. When it is over and there is still time, begin another one."""
        visit = Visit(self.sim, host, f"{host.name}-{len(self.visits)}")
        self.visits.append(visit)
        visit.over.addCallback(lambda _: self.sim.call_later(self.sim.between(0.1, 3.0), self.live_again, visit))

    def live_again(self, visit: Visit) -> None:
        if visit.alive and self.sim.now < TALK:
            self.live(visit.host)

    @property
    def stayed(self) -> list[Visit]:
        """Return the members whose connection is open at both ends."""
        return [visit for visit in self.visits if visit.open and visit.name in self.houses[-1].present]

    async def end(self) -> None:
        """Close all connections, and then the server."""
        for visit in self.visits:
            visit.connecting.cancel()
        await gatherResults([visit.connection.close() for visit in self.visits if visit.open])
        listening = await self.houses[-1].listening
        await listening.close()


async def scenario(sim: Simulation) -> list[Visit]:
    """Run the chat room once. Raise `AssertionError` when a promise does not hold."""
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
    """
    Check that members that `stayed` lost no line of each other, and that no member heard a line twice or out of order.
    """
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
    """Check that each running member learned once how its connection ended, and that each end has a known rule."""
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
