"""
A chat room with 20 members over a network where everything goes wrong, and what holds all the same.

`scenario` is one run of it, by the seed of its simulation. Members come, say numbered things, and some leave; meanwhile
lines are parted, connections reset, readers slow, and clocks jump. Nothing of that excuses these:

- what a member said is heard by everyone whose connection was up from before it was said until the end, as both its
  ends see it, if the speaker's was, too: once, and in the speaker's order; and nobody ever hears anything twice, or
  out of order
- everyone who waited for something was told: what came, or why nothing comes
- every connection ended with a reason, the same wherever it is told
- nothing is left: no timer, no connection
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults

import tcpapp
from tcpapp.apps.chat import Chat, Room
from tcpapp.errors import NotConnected
from tcpapp.testing.simulation import faults, simulate

if TYPE_CHECKING:
    from tcpapp.testing.simulation import Simulation

MEMBERS = 20
WORDS = 5
"""What each member says, at the most."""

TALK = 30.0
"""Seconds in which members come and talk, and in which things go wrong."""

SETTLED = 60.0
"""Seconds after which what was delayed has come: lines are whole again, and slow readers have caught up."""

RULES = {
    "closed",
    "drained",
    "end-of-stream",
    "truncated-message",
    "send-stalled",
    "half-close-over",
    "grace-over",
    "lost",
}
"""The ways in which a connection of this scenario can end."""


class Member:
    """One member: what it said and when, what it heard, and how its connection ended."""

    def __init__(self, sim: Simulation, name: bytes) -> None:
        self.sim = sim
        self.name = name
        self.joined: float | None = None
        self.said: list[tuple[float, bytes]] = []
        self.heard: dict[bytes, list[bytes]] = defaultdict(list)
        self.reasons: list[tcpapp.CloseReason] = []
        self.waits: list[Deferred[Any]] = []
        self.told: list[Any] = []
        self.connection: Any = None

    def opened(self, connection: Any) -> None:
        self.connection = connection
        self.waits.append(connection.when_closed().addBoth(self.told.append))

    def received(self, message: bytes, connection: Any) -> None:
        if message.startswith(b"Hello, "):
            self.joined = self.sim.now
        speaker, colon, text = message.partition(b": ")
        if colon and speaker.startswith(b"member"):
            self.heard[speaker].append(text)

    def closed(self, connection: Any, reason: tcpapp.CloseReason) -> None:
        self.reasons.append(reason)

    def say(self, text: bytes) -> None:
        """Say something in the room, if the connection is up."""
        if self.connection.state is tcpapp.State.OPEN and self.joined is not None:
            self.said.append((self.sim.now, text))
            self._send(text)

    def join(self) -> None:
        """Take a name; then say things, and perhaps leave."""
        self._send(self.name)
        for number in range(WORDS):
            self.sim.call_later(self.sim.between(1.0, TALK), self._say_next, number)
        if self.sim.chance(0.2):
            self.sim.call_later(self.sim.between(5.0, TALK), self._send, b"/quit")

    def _say_next(self, number: int) -> None:
        self.say(b"%d after %d" % (len(self.said), number))

    def _send(self, text: bytes) -> None:
        sent = self.connection.send(text).addErrback(lambda failure: failure.trap(NotConnected))
        self.waits.append(sent.addBoth(self.told.append))

    @property
    def open(self) -> bool:
        """Whether its connection is up, as far as it knows: of a reset that was lost on the way it does not know."""
        return not self.reasons


async def scenario(sim: Simulation) -> list[Member]:
    """One run; raises `AssertionError` for what does not hold."""
    ended: list[tcpapp.CloseReason] = []
    gone: set[str] = set()

    class Seat(Chat):
        room = Room()

        def closed(self, connection: Any, reason: tcpapp.CloseReason) -> None:
            ended.append(reason)
            gone.add(self.name)
            super().closed(connection, reason)

    server = sim.host("server")
    listening = await tcpapp.listen("tcp:7007", Seat, reactor=server.reactor)
    members = [Member(sim, b"member%d" % number) for number in range(MEMBERS)]
    clients = [sim.host(member.name.decode()) for member in members]
    for member, client in zip(members, clients, strict=True):
        connecting = tcpapp.connect("tcp:server:7007", member, reactor=client.reactor)
        connecting.addCallback(lambda _, member=member: member.join())
        await connecting
    faults(sim, until=TALK, every=1.0, kinds=("partition", "reset", "slow", "jump"))
    await sim.sleep(SETTLED)
    check_what_was_heard(members, [member for member in members if member.open and member.name.decode() not in gone])
    count = len(listening.connections) + len(ended)
    await gatherResults([member.connection.close() for member in members if member.open])
    await listening.close()
    check_the_end(members, ended, count)
    assert not [call for host in sim.hosts for call in host.reactor.getDelayedCalls()]
    return members


def check_what_was_heard(members: list[Member], stayed: list[Member]) -> None:
    """Nothing was lost between those who `stayed`; nothing was doubled or out of order, whoever left."""
    for listener in members:
        for speaker in members:
            said = [text for _, text in speaker.said]
            heard = listener.heard.get(speaker.name, [])
            places = [said.index(text) for text in heard]
            assert places == sorted(set(places)), f"{listener.name!r} heard {heard} of {said}"
            if listener in stayed and speaker in stayed and listener is not speaker and listener.joined is not None:
                since = [text for at, text in speaker.said if at > listener.joined]
                assert heard[len(heard) - len(since) :] == since, f"{listener.name!r} heard {heard} of {since}"


def check_the_end(members: list[Member], ended: list[tcpapp.CloseReason], count: int) -> None:
    """Everybody was told, once, and knows why."""
    assert len(ended) == count
    for member in members:
        assert len(member.reasons) == 1
        assert len(member.told) == len(member.waits)
        assert member.reasons[0] in member.told
    for reason in [*ended, *(member.reasons[0] for member in members)]:
        assert reason.rule in RULES, reason
        assert reason.detail


if __name__ == "__main__":
    runs = int(sys.argv[1])
    made = simulate(scenario, seeds=range(runs), keep=2000)
    sys.stdout.write(f"{made:,} runs of a chat room of {MEMBERS}: all holds\n")
