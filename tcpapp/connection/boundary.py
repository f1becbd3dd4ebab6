"""
Whether a connection is at a message boundary: between two messages, with nothing in hand that bytes cannot carry.

What stands against it is a list of `Obstacle`. Some of them pass by themselves, as the app answers. The others are
`lasting`: such a connection cannot be moved to another process, and is drained instead.

A later hook can lift two of them. An app with ``save(connection)`` gives the bytes of its own state, which go over in
the section ``app`` of the connection's state, and its ``restored(connection, saved)`` gets them. Such an app can be a
class or a conversation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import isclass
from typing import Final

from tcpapp.connection.handlers import Conversation
from tcpapp.connection.lifecycle import State
from tcpapp.connection.outbox_state import has_sends, has_streams, most_unsent
from tcpapp.connection.pause_flags import HANDLING
from tcpapp.connection.settings import Settings
from tcpapp.connection.stages import Stages
from tcpapp.errors import InvalidState
from tcpapp.transport.layers import tls_layer

__all__ = ["Obstacle", "app_obstacle", "obstacles_of"]


@dataclass(frozen=True)
class Obstacle:
    """
    What stands against a message boundary.

    - `rule`: a short fixed name, fit for a metric's label.
    - `detail`: a clause for people, about the connection.
    - `lasting`: it does not pass by waiting.
    """

    rule: str
    detail: str
    lasting: bool = False


OF_A_CONNECTION: Final[dict[Obstacle, Callable[[Stages], object]]] = {
    Obstacle("tls", "it uses TLS, or begins to, and the keys cannot be moved", lasting=True): lambda each: (
        each._starttls is not None or tls_layer(each.transport) is not None
    ),
    Obstacle(
        "switched", "its framing was switched, and a state is read by the framing of the factory", lasting=True
    ): lambda each: each._buffered.framing != each._settings.framing or each._codec is not each._settings.codec,
    Obstacle("handling", "its app is being called, or is about to be"): lambda each: (
        each._dispatcher.pauses & HANDLING or each._dispatcher.sorts_replies or not each._dispatcher.started
    ),
    Obstacle("reply-pending", "its app has not answered a message yet"): lambda each: each._dispatcher.in_flight,
    Obstacle("body", "the body of a message has not come whole, or is not read yet"): lambda each: (
        each._bodies is not None and len(each._bodies)
    ),
    Obstacle("requests-pending", "requests of ours wait for their replies"): lambda each: (
        each._dispatcher.requests is not None and len(each._dispatcher.requests)
    ),
    Obstacle("receive-pending", "a receive() waits for a message"): lambda each: each._inbox.awaited,
    Obstacle("send-pending", "a send() waits for the peer to take its bytes"): lambda each: has_sends(each._outbox),
    Obstacle("stream-pending", "a send_stream() has not sent all of its bytes"): lambda each: has_streams(each._outbox),
    Obstacle("data", "its app keeps connection.data, which cannot be moved", lasting=True): lambda each: (
        each._data is not None and vars(each._data)
    ),
    Obstacle("tasks", "tasks of its app run (spawn)"): lambda each: each._tasks is not None and each._tasks.working,
    Obstacle("background-tasks", "tasks of its app run in the background (spawn)", lasting=True): lambda each: (
        each._tasks is not None and each._tasks.in_background
    ),
    Obstacle("ticks", "code waits for a tick (every)"): lambda each: each._tasks is not None and len(each._tasks.ticks),
    Obstacle("unsent", "more bytes wait for the peer to take them than a state can have"): lambda each: (
        each._outbox.unsent > most_unsent(each._settings)
    ),
}
"""What can stand against a boundary of an open connection, and how that is seen."""


def obstacles_of(connection: Stages) -> list[Obstacle]:
    """All that stands against a boundary of this connection; an empty list at a boundary."""
    state = connection._lifecycle.stage.state
    if state is not State.OPEN:
        waits = state in (State.UNOPENED, State.OPENING)
        return [Obstacle("not-open", f"its state is {state.value}, and only open connections move", lasting=not waits)]
    app, framing = app_obstacle(connection._settings), _framing_obstacle(connection)
    found = [each for each in (app, framing) if each is not None]
    return found + [obstacle for obstacle, stands in OF_A_CONNECTION.items() if stands(connection)]


def app_obstacle(settings: Settings) -> Obstacle | None:
    """What keeps the app of these settings from continuing in another process, or from continuing there; or `None`."""
    app = settings.app
    if isclass(app):
        detail = f"its app, {app.__name__}, is a class, whose instance has a state of its own for each connection"
        return Obstacle("app-class", detail, lasting=True)
    if isinstance(app, Conversation):
        detail = f"its app, {app.__name__}, is a conversation, which runs as long as the connection"
        return Obstacle("conversation", detail, lasting=True)
    handlers = settings.handlers()
    if handlers.received is None and handlers.received_all is None:
        detail = "its app takes no messages: they are fetched by receive(), in code that is not part of its state"
        return Obstacle("receive-only", detail, lasting=True)
    return None


def _framing_obstacle(connection: Stages) -> Obstacle | None:
    """What keeps its framing from being dumped: the stream has failed, or the framing cannot say what it holds."""
    if connection._bodies is not None and connection._bodies.coming is not None:
        return None  # that passes
    try:
        connection._framing.dump()
    except InvalidState as error:
        return Obstacle("framing", f"its framing cannot be moved: {error}", lasting=True)
    return None
