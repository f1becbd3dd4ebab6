"""
A Redis server: ``twistd tcpapp --app redis --listen tcp:6379``.

It has strings and counters that expire, channels, and transactions, in both versions of RESP, for any client of Redis.
The items are in the memory of this process, at most 64 MiB of them: for a new item, the one goes that was not used for
the longest time. There is no password, and nothing is written to disk.

It shows the second form of app: a class, with an object for each connection. All objects share one `Cache`.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final

from tcpapp.apps.cache import LARGEST, Cache
from tcpapp.apps.commands import Command, Commands, number
from tcpapp.apps.redis_channels import Channels, Subscriber
from tcpapp.apps.redis_keys import OK, SYNTAX, TOO_LARGE, Keys, Refused
from tcpapp.apps.redis_keys import commands as on_keys
from tcpapp.apps.redis_transaction import Transaction
from tcpapp.close_reason import CloseReason
from tcpapp.connection.connection import Connection
from tcpapp.connection.handlers import Reply
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import NotConnected
from tcpapp.framing.resp import SimpleString, resp

__all__ = ["Redis", "redis"]

NO_REPLY: Final = object()
"""The result of a command that has sent its replies itself."""

MOST_WATCHED = 1000
"""The most keys that a connection watches. Our choice: a transaction watches a few."""

LONGEST_KEY = 250
"""The most bytes of a watched key, and of the name of a client. Our choice: as many as of a key in memcached."""

NO_PASSWORD = b"ERR AUTH called without any password configured for the default user"

WHILE_SUBSCRIBED = {b"SUBSCRIBE", b"UNSUBSCRIBE", b"PSUBSCRIBE", b"PUNSUBSCRIBE", b"PING", b"QUIT"}
"""What a client of version 2 can say while it has subscriptions: it takes all that it hears for a message of those."""

NOT_QUEUED = {b"EXEC", b"DISCARD", b"MULTI", b"WATCH", b"QUIT"}
"""What is run at once in a transaction."""

QUEUED = {*on_keys, b"PING", b"ECHO", b"PUBLISH"}
"""What can be part of a transaction."""

commands = Commands()


class Redis:
    """One connection. For items and channels of your own, make a subclass with its own `cache` and `channels`."""

    cache = Cache()
    channels = Channels()

    def __init__(self) -> None:
        self.version = 2
        self.name: bytes | None = None
        self._transaction: Transaction | None = None
        self._watched: dict[bytes, int] = {}

    def opened(self, connection: Connection) -> None:
        """Begin without subscriptions."""
        self.connection = connection
        self.subscriber = Subscriber(connection)

    def closed(self, connection: Connection, reason: CloseReason) -> None:
        """End all subscriptions."""
        self.channels.leave(self.subscriber)

    def received(self, message: list[bytes], connection: Connection) -> Reply[Any] | None:
        """Reply to a command."""
        if type(message) is not list:
            raise TypeError("the app redis takes the messages of the framing resp: --framing resp")
        name, *words = message
        try:
            value = self._reply(name.upper(), words)
        except Refused as refused:
            value = refused.reply
        return None if value is NO_REPLY else Reply(value)

    def _reply(self, name: bytes, words: list[bytes]) -> Any:
        if self._transaction is not None and name not in NOT_QUEUED:
            return self._enqueue(self._transaction, name, words)
        if self.version == 2 and len(self.subscriber) and name not in WHILE_SUBSCRIBED:
            raise Refused(b"ERR only (P)SUBSCRIBE, (P)UNSUBSCRIBE, PING and QUIT are allowed with subscriptions")
        return self._run(name, words)

    def _run(self, name: bytes, words: list[bytes]) -> Any:
        command = _found(name, words)
        return command.run(self._keys() if name in on_keys else self, *words)

    def _keys(self) -> Keys:
        return Keys(self.cache, protocol_of(self.connection).clock.seconds())

    # The connection

    @commands.add(b"HELLO", most=inf)
    def hello(self, *words: bytes) -> object:
        """Go on in another version of RESP, and say what this server is. The reply has that version, too."""
        version = number(words[0], 2, 3) if words else self.version
        if version is None:
            raise Refused(b"NOPROTO unsupported protocol version")
        left = [*words[1:]]
        while left:
            option = left.pop(0).upper()
            if option == b"AUTH":
                raise Refused(NO_PASSWORD)
            if option != b"SETNAME" or not left:
                raise Refused(SYNTAX)
            self._take_name(left.pop(0))
        if version != self.version:
            self.version = version
            most = protocol_of(self.connection).factory.settings.framing.max
            self.connection.switch(resp(version=3 if version == 3 else 2, max=most))
        about = {b"server": b"redis", b"version": b"7.0.0", b"mode": b"standalone", b"role": b"master", b"modules": []}
        self._send({**about, b"proto": version, b"id": self.connection.id})
        return NO_REPLY

    def _send(self, value: Any) -> None:
        self.connection.send(value).addErrback(lambda failure: failure.trap(NotConnected))

    @commands.add(b"AUTH", least=1, most=2)
    def log_in(self, *words: bytes) -> None:
        """Refuse a password, as there is none."""
        raise Refused(NO_PASSWORD)

    @commands.add(b"CLIENT", least=1, most=3)
    def client(self, what: bytes, *words: bytes) -> Any:
        """Note the name of the client, or reply with its name or its number."""
        what = what.upper()
        if what == b"SETNAME" and len(words) == 1:
            self._take_name(*words)
        elif what == b"GETNAME" and not words:
            return self.name
        elif what == b"ID" and not words:
            return self.connection.id
        elif what != b"SETINFO" or len(words) != 2:
            raise Refused(b"ERR unknown subcommand or wrong number of arguments for 'client' command")
        return OK

    def _take_name(self, name: bytes) -> None:
        if len(name) > LONGEST_KEY:
            raise Refused(b"ERR too long a name")
        self.name = name

    @commands.add(b"PING", most=1)
    def ping(self, *text: bytes) -> Any:
        """Reply ``PONG``, or with the text."""
        if self.version == 2 and len(self.subscriber):
            return [b"pong", *(text or [b""])]
        return text[0] if text else SimpleString(b"PONG")

    @commands.add(b"ECHO", least=1)
    def echo(self, text: bytes) -> bytes:
        """Reply with the text."""
        return text

    @commands.add(b"SELECT", least=1)
    def select(self, index: bytes) -> SimpleString:
        """Use database 0, which is the only one."""
        if index != b"0":
            raise Refused(b"ERR DB index is out of range")
        return OK

    @commands.add(b"COMMAND", most=inf)
    def describe(self, *words: bytes) -> list[Any]:
        """Describe no command: a client that asks for it goes on without."""
        return []

    @commands.add(b"QUIT")
    def quit(self) -> object:
        """Close the connection, after the reply."""
        self._send(OK)
        self.connection.close()
        return NO_REPLY

    # Transactions

    @commands.add(b"MULTI")
    def begin(self) -> SimpleString:
        """Queue the commands from here on."""
        if self._transaction is not None:
            raise Refused(b"ERR MULTI calls can not be nested")
        self._transaction = Transaction()
        return OK

    def _enqueue(self, transaction: Transaction, name: bytes, words: list[bytes]) -> SimpleString:
        try:
            _found(name, words)
            if name not in QUEUED:
                raise Refused(b"ERR this command is not allowed inside a transaction")
            if not transaction.add(name, words):
                raise Refused(b"ERR too many commands in a transaction")
        except Refused:
            transaction.refused = True
            raise
        return SimpleString(b"QUEUED")

    @commands.add(b"EXEC")
    def execute(self) -> list[Any] | None:
        """Run the queued commands, and reply with their replies, or with null if a watched key has changed."""
        transaction, watched = self._end_transaction(b"EXEC")
        if transaction.refused:
            raise Refused(b"EXECABORT Transaction discarded because of previous errors.")
        if any(self._changes(key) != changes for key, changes in watched.items()):
            return None
        return [*transaction.replies(self._run)]

    @commands.add(b"DISCARD")
    def discard(self) -> SimpleString:
        """Forget the queued commands."""
        self._end_transaction(b"DISCARD")
        return OK

    def _end_transaction(self, name: bytes) -> tuple[Transaction, dict[bytes, int]]:
        transaction, watched = self._transaction, self._watched
        if transaction is None:
            raise Refused(b"ERR %b without MULTI" % name)
        self._transaction, self._watched = None, {}
        return transaction, watched

    @commands.add(b"WATCH", least=1, most=inf)
    def watch(self, *keys: bytes) -> SimpleString:
        """Let the next transaction run only if these keys do not change before it."""
        if self._transaction is not None:
            raise Refused(b"ERR WATCH inside MULTI is not allowed")
        if len(self._watched.keys() | keys) > MOST_WATCHED or max(map(len, keys)) > LONGEST_KEY:
            raise Refused(b"ERR too many watched keys, or too long a key")
        for key in keys:
            self._watched.setdefault(key, self._changes(key))
        return OK

    def _changes(self, key: bytes) -> int:
        """A number that is another one after each change of a key; 0 while it is not there."""
        item = self._keys().find(key)
        return 0 if item is None else item.unique

    @commands.add(b"UNWATCH")
    def unwatch(self) -> SimpleString:
        """Watch no key any more."""
        self._watched = {}
        return OK

    # Channels

    @commands.add(b"SUBSCRIBE", least=1, most=inf)
    def subscribe(self, *names: bytes) -> object:
        """Hear what is published in channels."""
        return self._subscribe(b"subscribe", names)

    @commands.add(b"PSUBSCRIBE", least=1, most=inf)
    def subscribe_to_patterns(self, *names: bytes) -> object:
        """Hear what is published in the channels that match patterns."""
        return self._subscribe(b"psubscribe", names)

    def _subscribe(self, what: bytes, names: tuple[bytes, ...]) -> object:
        for name in names:
            if not self.channels.subscribe(self.subscriber, name, pattern=what == b"psubscribe"):
                raise Refused(b"ERR too many subscriptions, or too long a name")
            self.subscriber.tell(what, name, len(self.subscriber))
        return NO_REPLY

    @commands.add(b"UNSUBSCRIBE", most=inf)
    def unsubscribe(self, *names: bytes) -> object:
        """Hear nothing more of these channels, or of any channel."""
        return self._unsubscribe(b"unsubscribe", names or (*self.subscriber.channels,))

    @commands.add(b"PUNSUBSCRIBE", most=inf)
    def unsubscribe_from_patterns(self, *names: bytes) -> object:
        """Hear nothing more by these patterns, or by any pattern."""
        return self._unsubscribe(b"punsubscribe", names or (*self.subscriber.patterns,))

    def _unsubscribe(self, what: bytes, names: tuple[bytes, ...]) -> object:
        for name in names:
            self.channels.unsubscribe(self.subscriber, name, pattern=what == b"punsubscribe")
            self.subscriber.tell(what, name, len(self.subscriber))
        if not names:
            self.subscriber.tell(what, None, len(self.subscriber))
        return NO_REPLY

    @commands.add(b"PUBLISH", least=2)
    def publish(self, channel: bytes, text: bytes) -> int:
        """Send a text to all subscribers of a channel, and reply with how many those are."""
        if len(text) > LARGEST:
            raise Refused(TOO_LARGE)
        return self.channels.publish(channel, text)


def _found(name: bytes, words: list[bytes]) -> Command:
    command = on_keys.find(name) or commands.find(name)
    shown = repr(name[:64])[2:-1].encode()
    if command is None:
        raise Refused(b"ERR unknown command '%b'" % shown)
    if not command.least <= len(words) <= command.most:
        raise Refused(b"ERR wrong number of arguments for '%b' command" % shown.lower())
    return command


redis = Redis
