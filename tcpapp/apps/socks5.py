"""
A SOCKS5 proxy (RFC 1928), which asks for a name and a password where it has users (RFC 1929).

It shows a protocol in stages, each with its own framing. Serve an instance with the targets that it allows, and with
the framing `greeting`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hmac import compare_digest
from ipaddress import ip_address
from typing import Any

from tcpapp.apps.relay import Proxy
from tcpapp.connection.connection import Connection
from tcpapp.errors import MalformedFrame
from tcpapp.framing import exactly, parser

__all__ = ["Socks5", "greeting", "login", "request"]

REPLY = b"\x05%c\0\x01\0\0\0\0\0\0"  # with a code, and no address
CODES = {"DNSLookupError": 4, "ConnectionRefusedError": 5}  # 1 stands for all other errors


@parser(max=600)
def greeting() -> Any:
    """The methods by which the client can log in."""
    version, count = yield exactly(2)
    if version != 5:
        raise MalformedFrame(f"a client of SOCKS {version}; takes 5")
    return (yield exactly(count))


@parser(max=600)
def login() -> Any:
    """The client's name and password."""
    _, size = yield exactly(2)
    name = yield exactly(size)
    return name, (yield exactly((yield exactly(1))[0]))


@parser(max=600)
def request() -> Any:
    """The command, and the host and the port of its target."""
    _, command, _, kind = yield exactly(4)
    if kind not in (1, 3, 4):
        raise MalformedFrame(f"an address of kind {kind}; takes 1, 3 or 4")
    data = yield exactly({1: 4, 4: 16}.get(kind) or (yield exactly(1))[0])
    host = data.decode("latin-1") if kind == 3 else str(ip_address(data))
    return command, host, int.from_bytes((yield exactly(2)), "big")


class Socks5(Proxy):
    """The proxy. `users` are passwords by name; without any, nobody has to log in."""

    def __init__(self, allow: Iterable[str], users: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(allow, **options)
        self.users = {name.encode(): password.encode() for name, password in (users or {}).items()}

    async def received(self, message: Any, connection: Connection) -> Any:
        """Take the message of a stage. Go on to the next stage, or close."""
        if isinstance(message, bytes):
            method = 2 if self.users else 0
            connection.switch(login() if self.users else request())
            return b"\x05%c" % method if method in message else self.refuse(b"\x05\xff", connection)
        if len(message) == 2:
            connection.switch(request())
            known = message[0] in self.users and compare_digest(self.users[message[0]], message[1])
            return b"\x01\0" if known else self.refuse(b"\x01\x01", connection)
        command, host, port = message
        if command != 1 or not self.allows(host, port):
            return self.refuse(REPLY % (7 if command != 1 else 2), connection)
        try:
            connection.take_over(await self.connect(host, port, connection))
        except Exception as error:  # noqa: BLE001 - a connection can fail in any way
            return self.refuse(REPLY % CODES.get(type(error).__name__, 1), connection)
        return REPLY % 0
