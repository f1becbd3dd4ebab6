"""
What the user writes: an app, in one of three forms.

1. A function: message in, reply out (`None`: no reply)::

       def shout(message, connection):
           return message.upper()

2. An object with any of ``opened``, ``received`` and ``closed``. A class is made anew for each connection; an instance
   serves them all::

       class Chat:
           def opened(self, connection): ...
           def received(self, message, connection): ...
           def closed(self, connection, reason): ...
           def draining(self, connection): ...

   What ``opened`` returns is sent as a greeting. ``draining`` is called once, when the server or the connection is
   drained: what it returns is sent at once, before the app finishes the messages that it has.

3. A coroutine that lives as long as the connection::

       @conversation
       async def talk(connection):
           async for message in connection:
               await connection.send(message)

Any of them may be async: return a Deferred, or be a coroutine function. `None` in reply is no reply; with a codec
that has `None` as a value (JSON's null), `Reply(None)` sends that value. One message of a connection is handled at a
time, in order. When the connection ends, an answer that is still awaited is cancelled: a coroutine gets Twisted's
``CancelledError`` where it waits, and can clean up.

Where many small messages come at once, the first two have a batch form, which is called once for all that came
together, and gives the replies to all of them::

    @batch
    def shout(messages, connection):
        return [message.upper() for message in messages]

An object has ``received_all(messages, connection)`` in the place of ``received``.

A class must not have a `functools.partial` as one of these: Python 3.14 calls it with the instance, and older Pythons
without it. ``staticmethod(partial(...))`` is the same on each.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tcpapp.connection.connection import MessageProtocol

from tcpapp.connection.handlers import Batch, Conversation

__all__ = ["batch", "conversation"]


def conversation(talk: Callable[[MessageProtocol], Coroutine[Any, Any, Any]]) -> Conversation:
    """
    Make an app of a coroutine function that takes the connection, and lives as long as it.

    When the coroutine returns, the connection is closed; when it raises, that connection alone. When the connection
    ends, the coroutine's ``async for`` ends, its ``receive`` and ``send`` fail; where it waits for something else, it
    is cancelled there. Raises `InvalidOption` for what is no such function.
    """
    return Conversation(talk)


def batch(received_all: Callable[[list[Any], MessageProtocol], Any]) -> Batch:
    """
    Make an app of a function from a list of messages, and the connection, to the list of replies.

    The list holds, in order, what came in one chunk, or what had to wait while the function's last Deferred or
    coroutine was pending: one message at least, and of one chunk ``messages_per_turn`` at most. What is returned is
    the list of replies, which need not be as many, or `None` for none. All of them are framed and written together.
    Where it raises, or gives no list, the connection is closed, as with any app.
    """
    return Batch(received_all)
