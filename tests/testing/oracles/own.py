"""A framing of a user's own, into which the tests plant faults."""

from __future__ import annotations

from tcpapp.errors import UnsendableMessage
from tcpapp.framing import DEFAULT_MAX, Framing


class Own(Framing):
    """Lines, as a user might write them. Other framings of the tests derive from this class and add faults."""

    __slots__ = ()

    def __init__(self, *, max=DEFAULT_MAX, oversize="close"):  # noqa: A002 - the public name
        super().__init__(max=max, oversize=oversize)

    def receive(self, chunk):
        self._check()
        messages = []
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            message = self._with_held(end)
            if len(message) > self.max:
                return self._fail(self._too_long(len(message)), messages)
            messages.append(message)
        size = len(self._held) + len(rest)
        if size > self.max:
            return self._fail(self._too_long(size), messages)
        if rest:
            self._hold(rest)
        return messages

    def frame(self, message):
        self._sendable(message)
        if b"\n" in message:
            raise UnsendableMessage("holds the delimiter")
        return message + b"\n"
