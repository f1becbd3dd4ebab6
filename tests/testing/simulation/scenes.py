"""Scenes that several tests run: services of tcpapp on simulated hosts."""

from __future__ import annotations

import tcpapp
from tcpapp.apps.chat import Chat, Room
from tcpapp.errors import NotConnected
from tcpapp.testing.simulation import faults


def upper(message, connection):
    return message.upper()


def pair(sim, app=upper, **options):
    """
    Return the host of a server with `app`, the host of a client, the server, and a connection without idle timeouts.
    """
    options.setdefault("timeouts", tcpapp.Timeouts(first_message=0, idle=0))
    server, client = sim.host("server"), sim.host("client")
    listening = sim.run(tcpapp.listen("tcp:7007", app, reactor=server.reactor, **options))
    connection = sim.run(tcpapp.connect("tcp:server:7007", reactor=client.reactor, **options))
    return server, client, listening, connection


class Member:
    """A client of a chat, which keeps the lines it receives."""

    def __init__(self):
        self.heard = []

    def received(self, message, connection):
        self.heard.append(message)


async def chat(sim, clients=4, messages=5, kinds=()):
    """Let members of a chat send lines now and then, with faults of these `kinds` meanwhile. Return the members."""

    class NewRoom(Chat):
        room = Room()

    server = sim.host("server")
    listening = await tcpapp.listen("tcp:7007", NewRoom, reactor=server.reactor)
    members = []

    def say(connection, text):
        connection.send(text).addErrback(lambda failure: failure.trap(NotConnected))

    for number in range(clients):
        member = Member()
        members.append(member)
        client = sim.host(f"client{number}")
        connection = await tcpapp.connect("tcp:server:7007", member, reactor=client.reactor)
        say(connection, b"member%d" % number)
        for count in range(messages):
            sim.call_later(sim.between(5.0, 25.0), say, connection, b"number %d" % count)
    if kinds:
        faults(sim, until=30.0, every=2.0, kinds=kinds)
    await sim.sleep(60.0)
    for connection in listening.connections:
        await connection.close()
    await listening.close()
    return members


async def clients_that_come_back(sim):
    """Run a client and a pool whose server crashes three times, and drains. Random values decide how they reconnect."""
    limits = tcpapp.Limits(accept_rate=5)
    server = sim.host("server", boot=lambda host: tcpapp.listen("tcp:7007", upper, limits=limits, reactor=host.reactor))
    options = {"reactor": sim.host("client").reactor, "random_order": True}
    client = tcpapp.Client(["tcp:server:7007", "tcp:10.0.0.1:7007"], **options)
    pool = tcpapp.Pool("tcp:server:7007", 3, reactor=sim.host("pool").reactor)
    await client.start()
    await pool.start()
    for _ in range(3):
        server.crash()
        await sim.sleep(3.0)
        server.restart()
        await sim.sleep(30.0)
        for number in range(5):
            await pool.request(b"%d" % number, timeout=60)
    other = await tcpapp.listen("tcp:7008", upper, limits=limits, reactor=server.reactor)
    for _ in range(10):
        await tcpapp.connect("tcp:server:7008", reactor=sim.hosts[1].reactor)
    await sim.sleep(10.0)
    await other.drain(deadline=20.0, jitter=10.0)
    await client.stop()
    await pool.stop()
