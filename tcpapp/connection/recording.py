"""
Recorders: they hear of each message and each byte of one connection, while it goes on.

All messages arrive through the framing of the receiver, and all bytes leave through the transport of the outbox. While
there is a recorder, a stand-in has the place of each. It tells the recorders, and passes everything on. So a connection
without a recorder pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.python.failure import Failure

from tcpapp.connection.dispatcher import Dispatcher
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.receiver import Receiver
from tcpapp.framing import Framing
from tcpapp.framing.decoded import bytes_of

__all__ = ["Recorder", "Recording"]


class Recorder(Protocol):
    """
    What listens to the messages of one connection. A message is its bytes, without its frame and before any codec.

    The calls come from inside the path of a message. They must be quick, and must not use the connection. A recorder
    that raises is detached, and the event `RecorderFailed` has its error. The end of the connection ends the recording.

    A recorder can have a method ``taken_back(count)``: the last `count` messages that it was told of as received were
    not handed on. Another framing reads their bytes again (`tcpapp.Connection.switch`), and its messages come next.
    """

    def received(self, messages: Sequence[bytes]) -> None:
        """
        The messages of one chunk, in order, before the app gets the first of them.

        Each comes once, also where a rate or a turn lets it in later. Skipped messages do not come.
        """

    def sending(self, messages: Sequence[bytes]) -> None:
        """
        Messages that the outbox is about to get, in the order in which they leave.

        They are lost where the connection is cut, or their ``send`` is cancelled, before the transport has them.
        """

    def sent(self, data: bytes) -> None:
        """Bytes with their frames that the transport is about to get: a part of a message, or one or more messages."""


class _StandIn:
    """Has the place of a part, and passes everything on to it."""

    __slots__ = ("part", "recording")

    def __init__(self, part: Any, recording: Recording) -> None:
        self.part = part
        self.recording = recording

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)


class _RecordedFraming(_StandIn):
    """The framing of the receiver and of the replies. All that it frames is sent next."""

    __slots__ = ()

    def receive(self, chunk: bytes) -> list[bytes]:
        messages: list[bytes] = self.part.receive(chunk)
        if messages:
            self.recording.tell("received", bytes_of(messages))
        return messages

    def frame(self, message: bytes) -> bytes:
        data: bytes = self.part.frame(message)
        self.recording.tell("sending", [message])
        return data

    def frame_all(self, messages: list[bytes]) -> bytes:
        data: bytes = self.part.frame_all(messages)
        self.recording.tell("sending", messages)
        return data

    @property
    def failure(self) -> Any:
        return self.part.failure

    @failure.setter
    def failure(self, failure: Any) -> None:
        self.part.failure = failure

    @property
    def skipped(self) -> int:
        skipped: int = self.part.skipped
        return skipped

    @skipped.setter
    def skipped(self, count: int) -> None:
        self.part.skipped = count


class _NotedFraming(_RecordedFraming):
    """The framing of the connection itself. Replies before a message are sent first, and a request can be refused."""

    __slots__ = ()

    def frame(self, message: bytes) -> bytes:
        data: bytes = self.part.frame(message)
        self.recording.framed = data, message
        return data


class _RecordedOutbox(_StandIn):
    """The outbox of the connection itself, which gives it the message that was framed last."""

    __slots__ = ()

    def write(self, data: bytes, messages: int = 1) -> None:
        self.recording.tell_framed(data)
        self.part.write(data, messages)

    def write_shared(self, shared: Any) -> Any:
        self.recording.tell("sending", [shared.message])
        return self.part.write_shared(shared)

    def send(self, data: bytes) -> Any:
        self.recording.tell_framed(data)
        return self.part.send(data)


class _RecordedTransport(_StandIn):
    """The transport of the outbox."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        self.recording.tell("sent", data)
        self.part.write(data)


class Recording:
    """
    The recorders of one connection, and the stand-ins that tell them.

    The connection uses the two `stand_ins` as its framing and its outbox, until it calls `end`. `failed` gets the
    failure of a recorder. `over` is called when no recorder is left. The recording does not refer to its stand-ins, so
    that it is freed with them.
    """

    def __init__(
        self,
        receiver: Receiver,
        dispatcher: Dispatcher,
        outbox: Outbox,
        failed: Callable[[Failure], None],
        over: Callable[[], None],
    ) -> None:
        self._receiver, self._dispatcher, self.outbox = receiver, dispatcher, outbox
        self._failed = failed
        self._over = over
        self._recorders: tuple[_Attached, ...] = ()
        self._framing = receiver.framing
        self.framed: tuple[bytes | None, bytes] = None, b""
        receiver.framing = _recorded(self._framing, self)
        dispatcher.change_framings(lambda each: _recorded(each, self))
        outbox.transport = _RecordedTransport(outbox.transport, self)

    def stand_ins(self) -> tuple[Any, Any]:
        """The framing and the outbox that the connection has to use."""
        return _NotedFraming(self._framing, self), _RecordedOutbox(self.outbox, self)

    def take_back(self, count: int) -> None:
        """The last `count` messages are read again by another framing."""
        if count:
            self.tell("taken_back", count)

    def switch(self, framing: Framing) -> Framing:
        """The receiver reads by another `framing`. Returns the stand-in of that framing for the replies."""
        self._framing = framing
        self._receiver.framing = _recorded(framing, self)
        replies: Framing = _recorded(framing, self)
        return replies

    def add(self, recorder: Recorder) -> Callable[[], None]:
        """Tell `recorder` from now on; returns a function that ends it."""
        attached = _Attached(recorder, self)
        self._recorders = (*self._recorders, attached)
        return attached.stop

    def remove(self, attached: _Attached) -> None:
        """Tell it no more."""
        attached.recording = None
        self._recorders = tuple(each for each in self._recorders if each is not attached)
        if not self._recorders:
            self._over()

    def tell(self, what: str, told: Any) -> None:
        """Call the method `what` of each recorder. It gets a copy of a list, which it can keep."""
        for each in self._recorders:
            if each.recording is not None:  # else a recorder before it has removed it
                try:
                    getattr(each.recorder, what, _ignore)(told.copy() if isinstance(told, list) else told)
                except Exception:  # noqa: BLE001 - an error of a recorder must not concern the connection
                    each.stop()
                    self._failed(Failure())

    def tell_framed(self, data: bytes) -> None:
        """Report the message in `data`, which the outbox gets next, if that message was framed last."""
        if self.framed[0] is data:
            self.tell("sending", [self.framed[1]])

    def end(self) -> tuple[Framing, Outbox]:
        """Give the parts their places back. Returns the framing and the outbox that the connection has to use again."""
        for each in self._recorders:
            each.recording = None
        self._receiver.framing = self._framing
        self._dispatcher.change_framings(_part_of)
        if isinstance(self.outbox.transport, _RecordedTransport):  # else the outbox has let go of its transport
            self.outbox.transport = self.outbox.transport.part
        return self._framing, self.outbox


def _ignore(told: Any) -> None:
    """Stands in for a method that a recorder need not have."""


def _recorded(framing: Any, recording: Recording) -> Any:
    return _RecordedFraming(framing, recording)


def _part_of(stand_in: Any) -> Any:
    return stand_in.part


class _Attached:
    """A recorder of a `Recording`, until it is removed. The same recorder can be attached twice."""

    __slots__ = ("recorder", "recording")

    def __init__(self, recorder: Recorder, recording: Recording) -> None:
        self.recorder = recorder
        self.recording: Recording | None = recording

    def stop(self) -> None:
        """Tell the recorder no more. Can be called twice, and after the end of the connection."""
        if self.recording is not None:
            self.recording.remove(self)
