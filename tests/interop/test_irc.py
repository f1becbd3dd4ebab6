"""Twisted's own client of IRC joins a room of tcpapp, and a client of tcpapp joins a room of Twisted's server."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ClientFactory
from twisted.words.protocols.irc import IRCClient
from twisted.words.service import InMemoryWordsRealm, IRCFactory
from zope.interface import implementer

import tcpapp
from tcpapp.framing.irc import IrcMessage
from tests.patience import PATIENCE

ROOM = "#room"


class Room:
    """A server of IRC with one room: it greets, lets members join, and sends each message back to the member."""

    def __init__(self) -> None:
        self.name = "*"
        self.left: Deferred[str] = Deferred()

    def received(self, message: IrcMessage, connection: tcpapp.Connection) -> IrcMessage | None:
        match message:
            case IrcMessage("QUIT", (farewell,)):
                self.left.callback(farewell)
            case IrcMessage("NICK", (name,)):
                self.name = name
            case IrcMessage("USER"):
                return IrcMessage("001", (self.name, f"Welcome, {self.name}"), "server")
            case IrcMessage("JOIN", (room, *_)):
                return IrcMessage("JOIN", (room,), f"{self.name}!user@host")
            case IrcMessage("PRIVMSG", (room, text)):
                return IrcMessage("PRIVMSG", (room, f"{text}: yes"), "server!user@host")
            case IrcMessage("PING", words):
                return IrcMessage("PONG", words, "server")
        return None


class Member(IRCClient):
    """Twisted's client: it joins the room when it is welcome, and says a sentence there."""

    nickname = "ann"

    def __init__(self, heard: Deferred[tuple[str, str, str]]) -> None:
        self.heard = heard

    def signedOn(self) -> None:
        self.join(ROOM)

    def joined(self, channel: str) -> None:
        self.msg(channel, "hello all :)")

    def privmsg(self, user: str, channel: str, message: str) -> None:
        self.heard.callback((user, channel, message))
        self.quit("bye all")


@pytest_twisted.ensureDeferred
async def test_twisteds_client_talks_in_a_room_of_tcpapp(global_reactor: Any) -> None:
    """Twisted's client joins, speaks, and hears what the server of tcpapp says."""
    app, heard = Room(), Deferred[Any]()
    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", app, framing="irc", reactor=global_reactor)
    factory = ClientFactory()
    factory.noisy = False
    factory.buildProtocol = lambda address: Member(heard)  # type: ignore[method-assign]
    global_reactor.connectTCP("127.0.0.1", server.port, factory)
    assert await heard.addTimeout(PATIENCE, global_reactor) == ("server!user@host", ROOM, "hello all :): yes")
    assert await app.left.addTimeout(PATIENCE, global_reactor) == "bye all"
    await server.close()


@implementer(ICredentialsChecker)
class Anyone:
    """Lets everyone log in to Twisted's server."""

    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials: Any) -> Deferred[str]:
        name: str = credentials.username
        return succeed(name)


@pytest_twisted.ensureDeferred
async def test_a_client_of_tcpapp_talks_in_a_room_of_twisteds_server(global_reactor: Any) -> None:
    """A client logs in to Twisted's server, joins a room, and hears what another client says there."""
    realm = InMemoryWordsRealm("server")
    realm.createGroupOnRequest = True
    factory = IRCFactory(realm, Portal(realm, [Anyone()]))
    factory.noisy = False
    port = global_reactor.listenTCP(0, factory, interface="127.0.0.1")
    members = [await member(global_reactor, port.getHost().port, name) for name in ("ann", "ben")]
    ann, ben = members
    await ben.send(IrcMessage("PRIVMSG", (ROOM, "hello all :)")))
    said = await until(ann, "PRIVMSG")
    assert (said.source.partition("!")[0], said.parameters) == ("ben", (ROOM, "hello all :)"))
    for each in members:
        await each.close()
    await port.stopListening()


async def member(reactor: Any, port: int, name: str) -> tcpapp.Connection:
    """Return a client that has joined the room."""
    client = await tcpapp.connect(f"tcp:127.0.0.1:{port}", framing="irc:side=client", reactor=reactor)
    login = [("PASS", ("secret",)), ("NICK", (name,)), ("USER", (name, "0", "*", "A real name"))]
    for command, parameters in login:
        await client.send(IrcMessage(command, parameters))
    await until(client, "001")
    await client.send(IrcMessage("JOIN", (ROOM,)))
    assert (await until(client, "353")).parameters[2] == ROOM
    return client


async def until(client: tcpapp.Connection, command: str) -> IrcMessage:
    """Return the next message with this command."""
    message: IrcMessage = await client.receive()
    while message.command != command:
        message = await client.receive()
    return message
