"""
The cost of virtual time: a simulated hour of clients that each send a message a second to an echo service.

``python -m benchmarks.simulation [clients] [seconds]`` prints the real seconds and the events a second.
"""

from __future__ import annotations

import sys
from time import perf_counter

from twisted.internet.task import LoopingCall

import tcpapp
from tcpapp.testing.simulation import Simulation

TRACED = 1000
"""Events that the trace keeps. Its digest covers all events."""


class Counting:
    """A client's app that counts the replies."""

    count = 0

    def received(self, message, connection):
        self.count += 1


def hour(clients: int = 100, seconds: float = 3600.0, seed: int = 1) -> tuple[Simulation, int]:
    """Run the simulation. Return it, and the number of replies."""
    sim = Simulation(seed, keep=TRACED)
    server = sim.host("server")
    sim.run(tcpapp.listen("tcp:7007", lambda message, _: message, reactor=server.reactor))
    counting = Counting()
    for number in range(clients):
        host = sim.host(f"client{number}")
        connecting = tcpapp.connect("tcp:server:7007", counting, reactor=host.reactor)

        def begin(connection, host=host):
            sending = LoopingCall(connection.send, b"hello, world")
            sending.clock = host.reactor
            sending.start(1.0, now=False)

        connecting.addCallback(begin)
    sim.run(until=seconds, at_most=10**9)
    return sim, counting.count


def main() -> None:
    clients, seconds = (int(each) for each in [*sys.argv[1:], "100", "3600"][:2]) if sys.argv[1:] else (100, 3600)
    start = perf_counter()
    sim, replies = hour(clients, seconds)
    took = perf_counter() - start
    events = sim.timeline.happened
    print(f"{clients} clients, {seconds} simulated seconds, {replies} replies, seed {sim.seed}")
    print(f"{took:.1f} s, {events} events, {events / took:,.0f} events/s, {len(sim.trace)} traced: {sim.trace.digest}")


if __name__ == "__main__":
    main()
