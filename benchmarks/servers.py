"""
The measured servers, each in a process of its own.

``python -m benchmarks.servers NAME`` serves on a free port of 127.0.0.1 and prints that port. It ends when its standard
input ends, or after `LIFETIME` seconds, so that no server outlives the run that started it.

Every echo server speaks the same frames: a 4-byte big-endian length, then the message. Servers whose name has ``-line``
speak lines that end in LF. Each server is written as its own documentation recommends, and does the same work.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import bounded

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocolFactory

LIFETIME = 300.0
"""Seconds after which a server ends on its own; the longest whole run takes less."""

MAX_CONNECTIONS = 11_000
"""More connections than any measurement opens."""

LENGTH = struct.Struct(">I")


# ---- on Twisted's epoll reactor, or on tcpapp's ----


def tcpapp_echo(framing: str = "int32") -> IProtocolFactory:
    """Return a factory that serves an echo function, with tcpapp's defaults for everything else."""
    from tcpapp import MessageServerFactory
    from tcpapp.limits import Limits

    def echo(message, connection):
        return message

    limits = Limits(max_connections=MAX_CONNECTIONS, accept_rate=MAX_CONNECTIONS)
    return MessageServerFactory(echo, framing=framing, limits=limits)


def tcpapp_form(form: str) -> IProtocolFactory:
    """Return a factory of the same echo, in another form of app."""
    from tcpapp import MessageServerFactory, conversation
    from tcpapp.limits import Limits

    async def coroutine(message, connection):
        return message

    def send(message, connection):
        connection.send(message)

    @conversation
    async def talk(connection):
        async for message in connection:
            await connection.send(message)

    app = {"async": coroutine, "send": send, "conversation": talk}[form]
    limits = Limits(max_connections=MAX_CONNECTIONS, accept_rate=MAX_CONNECTIONS)
    return MessageServerFactory(app, framing="int32", limits=limits)


def tcpapp_batch() -> IProtocolFactory:
    """Return a factory of the batch form, whose app gets all messages that came together, and returns all replies."""
    from tcpapp import MessageServerFactory, batch
    from tcpapp.limits import Limits

    @batch
    def echo(messages, connection):
        return messages

    limits = Limits(max_connections=MAX_CONNECTIONS, accept_rate=MAX_CONNECTIONS)
    return MessageServerFactory(echo, framing="int32", limits=limits)


def tcpapp_waiting(replies: str = "in-order") -> IProtocolFactory:
    """Return a factory whose app answers each message 10 ms later, and works on 1,000 of one connection at once."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    from tcpapp import MessageServerFactory

    def app(message, connection):
        return deferLater(reactor, 0.010, lambda: message)

    return MessageServerFactory(app, framing="int32", concurrency=1000, replies=replies)


def tcpapp_room() -> IProtocolFactory:
    """Return a factory that sends each message of a member to all members."""
    from tcpapp import MessageServerFactory, send_to_all
    from tcpapp.limits import Limits

    class Room:
        def __init__(self):
            self.members = set()

        def opened(self, connection):
            self.members.add(connection)

        def received(self, message, connection):
            send_to_all(self.members, message)

        def closed(self, connection, reason):
            self.members.discard(connection)

    limits = Limits(max_connections=MAX_CONNECTIONS, accept_rate=MAX_CONNECTIONS)
    return MessageServerFactory(Room(), framing="int32", limits=limits)


def twisted_room() -> IProtocolFactory:
    """Return a factory of the same room, with Twisted's receiver."""
    from twisted.internet.protocol import Factory
    from twisted.protocols.basic import Int32StringReceiver

    members = set()

    class Member(Int32StringReceiver):
        def connectionMade(self):
            members.add(self)

        def stringReceived(self, string: bytes) -> None:
            for each in members:
                each.sendString(string)

        def connectionLost(self, reason=None):
            members.discard(self)

    return Factory.forProtocol(Member)


def tcpapp_length() -> IProtocolFactory:
    """Return a factory that replies with the length of each message, which can be as long as any measured one."""
    from tcpapp import MessageServerFactory

    return MessageServerFactory(lambda message, connection: b"%d" % len(message), framing="int32:max=134217728")


def tcpapp_bodies() -> IProtocolFactory:
    """Return a factory that reads a body, sends it back as it comes, or sends as many bytes of its own or of a file."""
    import tempfile

    from tcpapp import MessageServerFactory
    from tcpapp.framing import parser, stream, until

    block = bytes(1 << 16)
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it is open as long as the process

    @parser
    def bodies():
        """Read a command and a number of bytes, which come behind some commands."""
        command, size = (yield until(b"\r\n")).split()
        return command, int(size), (yield stream(int(size))) if command in (b"put", b"echo") else None

    async def app(message, connection):
        command, size, body = message
        if command == b"put":
            length = 0
            async for piece in body:
                length += len(piece)
            return b"%d\r\n" % length
        if command == b"file":
            file.truncate(size)
            file.seek(0)
        source = {b"echo": body, b"file": file}.get(command, (block for _ in range(size // len(block))))
        await connection.send_stream(source, size=size)
        return None

    return MessageServerFactory(app, framing=bodies())


def tcpapp_unguarded() -> IProtocolFactory:
    """Return a factory of the same echo without the guards: no timeout, and no limit of turns or memory."""
    from tcpapp import MessageServerFactory
    from tcpapp.limits import Limits, Timeouts, numbers_of

    def echo(message, connection):
        return message

    off = {
        each.name: 0 for each in numbers_of(Timeouts) if each.metadata["zero"] and each.name not in ("grace", "drain")
    }
    limits = Limits(max_connections=MAX_CONNECTIONS, accept_rate=0, messages_per_turn=0, max_buffered=0)
    return MessageServerFactory(echo, framing="int32", limits=limits, timeouts=Timeouts(**off))


def twisted_int32() -> IProtocolFactory:
    """Return a factory of an echo with Twisted's own receiver of such frames."""
    from twisted.internet.protocol import Factory
    from twisted.protocols.basic import Int32StringReceiver

    class Echo(Int32StringReceiver):
        def stringReceived(self, string: bytes) -> None:
            self.sendString(string)

    return Factory.forProtocol(Echo)


def twisted_line() -> IProtocolFactory:
    """Return a factory of an echo with Twisted's own receiver of lines."""
    from twisted.internet.protocol import Factory
    from twisted.protocols.basic import LineReceiver

    class Echo(LineReceiver):
        delimiter = b"\n"

        def lineReceived(self, line: bytes) -> None:
            self.sendLine(line)

    return Factory.forProtocol(Echo)


def twisted_bare() -> IProtocolFactory:
    """
    Return the smallest possible Twisted echo: it sends bytes back as they come, and keeps nothing.

    It shows the minimum of memory.
    """
    from twisted.internet.protocol import Factory, Protocol

    class Echo(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data)

    return Factory.forProtocol(Echo)


def amp_echo() -> tuple[Any, IProtocolFactory]:
    """Return an AMP command that returns its argument, and the factory that answers it."""
    from twisted.internet.protocol import Factory
    from twisted.protocols.amp import AMP, Command, String

    class Echo(Command):
        arguments = [(b"data", String())]  # noqa: RUF012 - as in AMP
        response = [(b"data", String())]  # noqa: RUF012

    class Answers(AMP):
        @Echo.responder
        def echo(self, data: bytes) -> dict[str, bytes]:
            return {"data": data}

    return Echo, Factory.forProtocol(Answers)


def serve_twisted(
    name: str,
    make_factory: Callable[[], IProtocolFactory],
    port: int,
    installer: Any,
    *,
    tls: bool = False,
    small: bool = False,
) -> None:
    """Serve a factory on a reactor until standard input ends. With `small`, the kernel's buffers are small."""
    installer.install()
    from twisted.internet import reactor, stdio
    from twisted.internet.protocol import Protocol

    try:
        from tcpapp.process.twistd_service import leave_to_stay
    except ImportError:  # a revision before the packages, which is compared with this one
        from tcpapp.process import leave_to_stay

    class UntilEnd(Protocol):
        def dataReceived(self, data: bytes) -> None:
            print(json.dumps(bounded.told()), flush=True)

        def connectionLost(self, reason: object = None) -> None:
            if reactor.running:
                reactor.stop()

    factory = make_factory()
    ports = [reactor.listenTCP(port, factory, backlog=1024, interface="127.0.0.1")]
    with tempfile.TemporaryDirectory() as folder:
        if tls:
            ports.append(listen_with_tls(name, reactor, factory, Path(folder) / "cert.pem"))
        if small:
            for each in ports:  # connections inherit from their port
                each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, bounded.SEND_BUFFER)
                each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, bounded.RECEIVE_BUFFER)
        stdio.StandardIO(UntilEnd())
        reactor.callWhenRunning(leave_to_stay)  # as `twistd tcpapp` does; here for all servers on Twisted
        reactor.callLater(LIFETIME, reactor.stop)
        announce(*(port.getHost().port for port in ports))
        reactor.run()


def listen_with_tls(name: str, reactor: Any, factory: Any, path: Path) -> Any:
    """
    Listen with the same factory on a second port, through a ``tls:`` endpoint. It accepts as `tcpapp.listen` does.
    """
    from twisted.internet.defer import Deferred

    from benchmarks.handshake import write_certificate
    from tcpapp.transport.endpoint_strings import server_endpoint
    from tcpapp.transport.socket_activation import ports_of

    write_certificate(name, path)
    listening: Deferred[Any] = server_endpoint(reactor, f"tls:0:interface=127.0.0.1:certificate={path}").listen(factory)
    factory.accept_control.clock = reactor
    for each in ports_of(listening.result):
        factory.accept_control.add(each)
    return listening.result


# ---- on asyncio ----


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo with asyncio's streams: read exactly, write, drain."""
    try:
        while True:
            header = await reader.readexactly(4)
            message = await reader.readexactly(LENGTH.unpack(header)[0])
            writer.write(header + message)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def answer_later(message: bytes, writer: asyncio.StreamWriter) -> None:
    """Answer after 10 ms."""
    await asyncio.sleep(0.010)
    writer.write(message)


async def echo_later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each message in a task of its own."""
    tasks = set()
    try:
        while True:
            header = await reader.readexactly(4)
            message = await reader.readexactly(LENGTH.unpack(header)[0])
            task = asyncio.create_task(answer_later(header + message, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


class EchoProtocol(asyncio.Protocol):
    """An echo with an asyncio protocol, which cuts frames out of a buffer by hand, and writes once for each chunk."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data if self.buffer else data
        replies, at, end = [], 0, len(buffer)
        while end - at >= 4:
            after = at + 4 + LENGTH.unpack_from(buffer, at)[0]
            if after > end:
                break
            message = buffer[at + 4 : after]
            replies.append(LENGTH.pack(len(message)) + message)
            at = after
        self.buffer = buffer[at:]
        self.transport.write(b"".join(replies))  # type: ignore[attr-defined]


class RoomProtocol(EchoProtocol):
    """A room with an asyncio protocol, which sends each message of a member to all."""

    members: set[Any] = set()  # noqa: RUF012 - it is of all members

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self  # what an echo would write goes to all
        self.own = transport
        self.buffer = b""
        self.members.add(transport)

    def write(self, data: bytes) -> None:
        for each in self.members:
            each.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.members.discard(self.own)


async def room_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send each message of a member to all with asyncio's streams."""
    members = RoomProtocol.members
    members.add(writer)
    try:
        while True:
            header = await reader.readexactly(4)
            message = await reader.readexactly(LENGTH.unpack(header)[0])
            for each in members:
                each.write(header + message)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        members.discard(writer)
        writer.close()


async def serve_asyncio(start: Callable[[], asyncio._CoroutineLike[asyncio.Server]]) -> None:
    """Serve on asyncio's own loop until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await start()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    announce(server.sockets[0].getsockname()[1])
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(ended.wait(), LIFETIME)
    server.close()


def asyncio_streams() -> asyncio._CoroutineLike[asyncio.Server]:
    """Start a server on asyncio streams."""
    return asyncio.start_server(echo_stream, "127.0.0.1", 0, backlog=1024)


def asyncio_waiting() -> asyncio._CoroutineLike[asyncio.Server]:
    """Start a server on asyncio streams that answers each message later."""
    return asyncio.start_server(echo_later, "127.0.0.1", 0, backlog=1024)


def asyncio_protocol() -> asyncio._CoroutineLike[asyncio.Server]:
    """Start a server with an asyncio protocol."""
    return asyncio.get_running_loop().create_server(EchoProtocol, "127.0.0.1", 0, backlog=1024)


def asyncio_stream_room() -> asyncio._CoroutineLike[asyncio.Server]:
    """Start a room on asyncio streams."""
    return asyncio.start_server(room_stream, "127.0.0.1", 0, backlog=1024)


def asyncio_room() -> asyncio._CoroutineLike[asyncio.Server]:
    """Start a room with an asyncio protocol."""
    return asyncio.get_running_loop().create_server(RoomProtocol, "127.0.0.1", 0, backlog=1024)


FORMS = ("async", "send", "conversation")
"""The forms of app beside a function that returns its reply."""

TWISTED: dict[str, Callable[[], IProtocolFactory]] = {
    "tcpapp": tcpapp_echo,
    "tcpapp-unguarded": tcpapp_unguarded,
    "tcpapp-compiled": tcpapp_echo,
    "tcpapp-batch": tcpapp_batch,
    "tcpapp-batch-compiled": tcpapp_batch,
    "tcpapp-tls": tcpapp_echo,
    "tcpapp-tls-rsa": tcpapp_echo,
    "tcpapp-length": tcpapp_length,
    "tcpapp-bodies": tcpapp_bodies,
    "tcpapp-room": tcpapp_room,
    "tcpapp-room-compiled": tcpapp_room,
    **{f"tcpapp-{form}": partial(tcpapp_form, form) for form in FORMS},
    **{f"tcpapp-{form}-compiled": partial(tcpapp_form, form) for form in FORMS},
    "tcpapp-waiting": tcpapp_waiting,
    "tcpapp-waiting-ready": partial(tcpapp_waiting, "as-ready"),
    "twisted-room": twisted_room,
    "tcpapp-line": lambda: tcpapp_echo("line"),
    "twisted-int32": twisted_int32,
    "twisted-line": twisted_line,
    "twisted-bare": twisted_bare,
    "twisted-amp": lambda: amp_echo()[1],
    **{f"bounded-{name}": partial(make, bounded.BOUND) for name, make in bounded.FACTORIES.items()},
    **{f"tcpapp-{name}": partial(make, 0) for name, make in bounded.FACTORIES.items()},
    **{f"bounded-{name}-tls": partial(bounded.FACTORIES[name], bounded.BOUND) for name in ("echo", "large")},
}
REACTORS = {"": "twisted.internet.epollreactor", "uvloop": "tcpapp.reactor"}
"""The reactor of a server on Twisted: the epoll reactor, or with `@uvloop` after its name, `tcpapp.reactor`."""
ASYNCIO = {
    "asyncio-streams": asyncio_streams,
    "asyncio-protocol": asyncio_protocol,
    "asyncio-waiting": asyncio_waiting,
    "uvloop-protocol": asyncio_protocol,
    "asyncio-room": asyncio_stream_room,
    "uvloop-room": asyncio_room,
}


def announce(*ports: int) -> None:
    """Print the port, and the second port with TLS, if there is one."""
    print(*ports, flush=True)


def main(name: str, port: int) -> None:
    """Serve as `name` until standard input ends."""
    factory, _, reactor = name.partition("@")
    if not factory.endswith("-compiled"):
        os.environ["TCPAPP_ACCELERATED"] = "0"  # before anything of tcpapp is imported
    if factory in TWISTED:
        installer = importlib.import_module(REACTORS[reactor])
        small = factory.startswith("bounded-")
        serve_twisted(factory, TWISTED[factory], port, installer, tls="-tls" in factory, small=small)
    elif name in ASYNCIO:
        if name.startswith("uvloop"):
            import uvloop

            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(serve_asyncio(ASYNCIO[name]))
    else:
        sys.exit(f"{name!r}: takes one of {', '.join([*TWISTED, *ASYNCIO])}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m benchmarks.servers NAME [PORT]")
    main(sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 0)
