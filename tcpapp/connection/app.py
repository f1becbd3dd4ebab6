"""
Apps, which users write in one of three forms.

1. A function: message in, reply out (`None`: no reply)::

       def shout(message, connection):
           return message.upper()

2. An object with any of ``opened``, ``received`` and ``closed``. Of a class, each connection gets a new
   instance; an instance serves all connections::

       class Chat:
           def opened(self, connection): ...
           def received(self, message, connection): ...
           def closed(self, connection, reason): ...
           def draining(self, connection): ...

   The value that ``opened`` returns is sent as a greeting. ``draining`` is called once, when the server or the
   connection is drained. Its value is sent at once, before the app finishes the messages that it has.

3. A coroutine that runs as long as the connection is open::

       @conversation
       async def talk(connection):
           async for message in connection:
               await connection.send(message)

Each of them can be async: it returns a Deferred, or is a coroutine function. `None` means no reply. With a codec that
has `None` as a value (JSON's null), `Reply(None)` sends that value. When the connection ends, a pending reply is
cancelled: a coroutine gets Twisted's ``CancelledError`` where it waits, and can clean up.

A reply can be an iterator or an async iterator of messages, such as a generator. They are sent one by one, while the
peer reads them. When the connection ends, the iterator is closed.

One message of a connection is handled at a time, in order. With a ``concurrency`` over 1, the first two forms work on
that many messages at once.

The first two forms have a batch form for many small messages. It is called once for all messages that came together,
and returns the replies to all of them::

    @batch
    def shout(messages, connection):
        return [message.upper() for message in messages]

An object has ``received_all(messages, connection)`` instead of ``received``.

A class must not have a `functools.partial` as one of these methods: Python 3.14 calls it with the instance, and older
Pythons without it. ``staticmethod(partial(...))`` is the same on each.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tcpapp.connection.connection import Connection

from tcpapp.connection.handlers import Batch, Conversation

__all__ = ["batch", "conversation"]


def conversation(talk: Callable[[Connection], Coroutine[Any, Any, Any]]) -> Conversation:
    """
    Make an app of a coroutine function that takes the connection, and runs as long as it is open.

    When the coroutine returns or raises, its connection is closed, and no other. When the connection ends, the
    coroutine's ``async for`` ends, and its ``receive`` and ``send`` fail. A coroutine that waits for something else is
    cancelled there. Raises `InvalidOption` for anything but a coroutine function of one argument.
    """
    return Conversation(talk)


def batch(received_all: Callable[[list[Any], Connection], Any]) -> Batch:
    """
    Make an app of a function from a list of messages, and the connection, to the list of replies.

    The list holds, in order, the messages of one chunk, or the messages that waited while the function's last Deferred
    or coroutine was pending. It has at least one message, and at most ``messages_per_turn`` of one chunk. The function
    returns a list of any number of replies, or `None` for no reply. All replies are framed and written together. When
    the function raises, or gives anything but a list or `None`, the connection is closed, as with any app.
    """
    return Batch(received_all)
