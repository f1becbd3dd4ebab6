"""Scenes that several tests play: services of tcpapp's, on simulated hosts."""

from __future__ import annotations

import tcpapp
from tcpapp.apps.chat import Chat, Room
from tcpapp.errors import NotConnected
from tcpapp.testing.simulation import faults


def upper(message, connection):
    return message.upper()


def pair(sim, app=upper, **options):
    """A server with `app` and a client's host, and a connection between them, which may be idle for ever."""
    options.setdefault("timeouts", tcpapp.Timeouts(first_message=0, idle=0))
    server, client = sim.host("server"), sim.host("client")
    listening = sim.run(tcpapp.listen("tcp:7007", app, reactor=server.reactor, **options))
    connection = sim.run(tcpapp.connect("tcp:server:7007", reactor=client.reactor, **options))
    return server, client, listening, connection


class Member:
    """A client of a chat: what it heard."""

    def __init__(self):
        self.heard = []

    def received(self, message, connection):
        self.heard.append(message)


async def chat(sim, clients=4, messages=5, kinds=()):
    """Members who say something now and then, while there may be faults; the members."""
    opened = []

    class NewRoom(Chat):
        room = Room()

        def opened(self, connection):
            opened.append(connection)
            super().opened(connection)

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
    for connection in opened:  # in order: the server has them in a set, whose order no seed decides
        await connection.close()
    await listening.close()
    return members
