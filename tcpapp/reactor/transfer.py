"""
The transfer of bytes: the state of a connection on uvloop, and what is done for each chunk, read or written.

This module is compiled, where there is a C compiler (see `tcpapp.compiled`).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.python import context, log
from twisted.python.log import ILogContext

from tcpapp.reactor.small_reads import SmallReads

__all__ = ["Transfer", "call_writer", "receive", "send"]

NO_LOG_CONTEXT = context.defaultContextDict.get(ILogContext, {})


class Transfer:
    """
    The state of a connection that each chunk needs.

    Compiled, these attributes are fields, which are read faster than those in a ``__dict__``. An object can only get
    another class that has the same fields. So this is a base of all classes that a connection can have. Its methods are
    for those on uvloop only.

    `_stream`
        uvloop's transport; `None` until the turn after the connection was made, and after its end.
    `_is_plain`
        Whether the connection has its transport, and the writer only needs to write, and can do so at once.
    `_writing`
        Whether the writer has work: unwritten bytes, a producer to resume, or closing.
    `_queued`
        Whether the writer is called in the next turn.
    `_has_read`
        Whether the loop has read from the socket since the writer got other work than writing.
    `_receiving`
        Whether a call of ``dataReceived`` is running.
    `_is_lent`
        Whether the connection was taken off the reactor, which then holds it only weakly.
    `_log_context`
        The logging context for calls of ``dataReceived``. `_log_name` is the ``logstr`` that it was made of.
    `_size`
        The ``bufferSize``.
    `_tempDataBuffer`, `_tempDataLen`
        The unwritten bytes, and their number.
    """

    __slots__ = (
        "_has_read",
        "_is_lent",
        "_is_plain",
        "_log_context",
        "_log_name",
        "_queued",
        "_receiving",
        "_size",
        "_stream",
        "_tempDataBuffer",
        "_tempDataLen",
        "_writing",
        "logstr",
        "reactor",
    )

    reactor: Any  # a UvloopReactor
    _tempDataBuffer: list[bytes]  # noqa: N815 - names in this form are Twisted's
    _tempDataLen: int  # noqa: N815

    def __init__(self) -> None:
        self._stream: Any = None
        self._is_plain = False
        self._writing = False
        self._queued = False
        self._has_read = False
        self._receiving = False
        self._is_lent = False
        self._log_name: str | None = None
        self._log_context: Any = None
        self._size: int = FileDescriptor.bufferSize
        self.logstr = "Uninitialized"  # as Twisted's class has it

    def _read(self, data: bytes) -> None:
        """Pass on bytes that uvloop has read."""
        reactor = self.reactor
        contexts = reactor._contexts
        if len(contexts) != 1:  # the loop runs inside a logging context, or inside `iterate`
            reactor.something_came()
            log.callWithLogger(self, receive, self, data)
        else:
            if self._log_name is not self.logstr:
                self._log_name = self.logstr
                self._log_context = {ILogContext: {**NO_LOG_CONTEXT, "system": self._log_name}}
            contexts.append(self._log_context)
            try:
                receive(self, data)
            finally:
                contexts.pop()
        if len(data) > self._size and self._stream is not None:  # more bytes than the connection reads at once
            self._stream.set_protocol(SmallReads(self))  # type: ignore[arg-type]  # it is a `Stream`

    def _write_piece(self, data: Any) -> None:
        """Write these bytes when the current call of ``dataReceived`` returns, or in the next turn."""
        if not self._is_plain or type(data) is not bytes:
            FileDescriptor.write(self, data)  # type: ignore[arg-type]  # it is a `Stream`
            return
        size = len(data)
        if size:
            self._tempDataBuffer.append(data)
            self._tempDataLen += size
            if not self._writing:
                self._writing = True
                if not self._receiving:
                    call_writer(self)
            if self._tempDataLen > self._size:
                self._maybePauseProducer()  # type: ignore[attr-defined]  # it is a `Stream`

    def writer_turn(self) -> None:
        """Do the writer's work. The reactor calls it once, in the turn after the work began."""
        self._queued = False
        if self._is_plain and self._writing:
            self._has_read = False
            send(self)
        else:
            self._writer_turn()  # type: ignore[attr-defined]  # it is a `Stream`


def receive(stream: Any, data: bytes) -> None:
    """Pass bytes to the protocol of a connection, and send the bytes that it wrote meanwhile. Raises no error."""
    stream._receiving = True
    try:
        stream.protocol.dataReceived(data)
        stream._receiving = False
        if stream._writing:
            if stream._is_plain:
                send(stream)
            else:
                call_writer(stream)
    except BaseException:  # noqa: BLE001 - whatever it is, it is an error of this connection, as in Twisted's reactors
        stream._failed()


def send(stream: Any) -> None:
    """Give all unwritten bytes of a connection to uvloop, which writes to the socket at once."""
    pieces = stream._tempDataBuffer
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    pieces.clear()
    stream._tempDataLen = 0
    stream._writing = False
    stream._stream.write(data)


def call_writer(stream: Any) -> None:
    """Call the writer of a connection in the next turn."""
    if stream._is_lent:
        stream._come_back()
    if not stream._queued and stream._stream is not None:
        stream._queued = True
        stream.reactor._call_writer_of(stream)
