"""
Leaks of a test: ports, connections, timers, sockets and logged errors that it leaves behind.

`Leaks` is a plain class, for pytest, trial and unittest alike; the pytest plugin makes one for each test. In trial::

    class ServerTests(TestCase):
        def setUp(self):
            self.leaks = Leaks(reactor)
            self.addCleanup(self.leaks.check_settled)      # a Deferred: trial waits for it

With a fake reactor::

    with Leaks(clock):
        ...
"""

from __future__ import annotations

import gc
import inspect
import os
import socket
import stat
from contextlib import suppress
from types import TracebackType
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, LogPublisher, globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.reflect import fullyQualifiedName, safe_repr
from typing_extensions import Self
from zope.interface import implementer

__all__ = ["Leaks"]

TURNS = (*[0.0] * 20, *[0.005] * 20)
"""Seconds to wait in each turn of the reactor while things end. Only a leak takes all turns, which are 0.1 s."""


@implementer(ILogObserver)
class Leaks:
    """
    Finds everything that a reactor holds now, or that was logged, and that did not exist when this object was made.

    - `reactor`: a reactor, real or fake, or a `Clock`. With `None`, only the log is watched. Missing methods
      (``getDelayedCalls``, ``getReaders``, ``getWriters``) are not used.
    - `sockets`: whether the sockets of this process are checked, too. This finds a paused connection, which no reactor
      lists. Sockets are found in ``/dev/fd``, if that exists.
    - `publisher`: the log to watch; `None` is Twisted's own.

    It watches the log until `stop`, which every check calls. Used by ``with``, it checks at the end of the block.
    """

    def __init__(self, reactor: Any = None, *, sockets: bool = True, publisher: LogPublisher | None = None) -> None:
        self.reactor = reactor
        self.failures: list[Failure] = []
        self._sockets = sockets
        self._publisher = globalLogPublisher if publisher is None else publisher
        self._before = self._held()
        self._publisher.addObserver(self)

    def take(self, *types: type[BaseException]) -> list[Failure]:
        """
        Return the logged failures of these types (by default, all) and forget them, because the test expected them.

        Garbage is collected first, because unhandled failures of Deferreds are logged when the Deferreds are collected.
        """
        gc.collect()
        taken = [each for each in self.failures if not types or each.check(*types)]
        self.failures = [each for each in self.failures if each not in taken]
        return taken

    def left(self) -> list[str]:
        """
        Return a line for each port, connection, timer and socket that is left now. Logged failures are not included.
        """
        new = {each: text for each, text in self._held().items() if each not in self._before}
        named = {each.fileno() for each in new if hasattr(each, "fileno")}
        return [text for each, text in new.items() if not (isinstance(each, tuple) and each[0] in named)]

    def check(self) -> None:
        """
        Raise an `AssertionError` that lists everything that is left, including logged failures that were not taken.

        It does not wait: with a running reactor, use `check_settled`.
        """
        errors = [f"logged error: {each.getTraceback().rstrip()}" for each in self.take()]
        left = self.left() + errors
        self.stop()
        if left:
            raise AssertionError("left behind:\n" + "\n".join(left))

    @inlineCallbacks
    def check_settled(self) -> Any:
        """
        Do as `check` does, after some turns of the reactor, in which things can end.

        Returns a Deferred. It fires without a turn if nothing is left, and fails after 0.1 seconds if something is.
        """
        try:
            for seconds in TURNS:
                if not self.left():
                    break
                yield deferLater(self.reactor, seconds)
        finally:
            self.check()

    def stop(self) -> None:
        """Stop watching the log. It can be called again."""
        self._publisher.removeObserver(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.check()
        self.stop()

    def __call__(self, event: LogEvent) -> None:
        """
        Note the failure of an event. The log calls it; events of ``twisted.python.log.err`` have another key for the
        failure.
        """
        failure = event.get("log_failure") or (event.get("isError") and event.get("failure"))
        if failure:
            self.failures.append(failure)

    def _held(self) -> dict[Any, str]:
        """Return everything that the reactor and the process hold, with a description."""
        reactor = self.reactor
        internal = getattr(reactor, "_internalReaders", ())  # the descriptor that wakes the reactor
        held: dict[Any, str] = {}
        if hasattr(reactor, "getDelayedCalls"):
            calls = [each for each in reactor.getDelayedCalls() if not is_trials(each)]
            held |= {call: timer(call, reactor.seconds()) for call in calls}
        if hasattr(reactor, "getReaders"):
            descriptors = {*reactor.getReaders(), *reactor.getWriters()} - {*internal}
            held |= {each: descriptor(each) for each in descriptors}
        if self._sockets:
            held |= open_sockets()
        return held


def is_trials(call: Any) -> bool:
    """Return whether a delayed call is the time limit that trial sets for each part of a test."""
    return str(getattr(call.func, "__module__", "")).startswith("twisted.trial.")


def timer(call: Any, now: float) -> str:
    """
    Return a text with the function of a delayed call, its arguments, its time, and, if the reactor notes it, where it
    was made.
    """
    made = "".join(getattr(call, "creator", None) or ())
    arguments = [safe_repr(each) for each in call.args or ()]
    arguments += [f"{name}={safe_repr(each)}" for name, each in (call.kw or {}).items()]
    text = f"timer: {_name(call.func)}({', '.join(arguments)}), due in {call.getTime() - now:g} s"
    return f"{text}; made in:\n{made}" if made else text


def _name(function: Any) -> str:
    owner = getattr(function, "__self__", None)
    try:
        name: str = fullyQualifiedName(function)
    except AttributeError:  # an object that can be called
        return str(safe_repr(function))
    return name if owner is None or inspect.ismodule(owner) else f"{name} of {safe_repr(owner)}"


def descriptor(each: Any) -> str:
    """Return a text with the kind of a port or a connection, and its owner."""
    owner = getattr(each, "protocol", None) or getattr(each, "factory", None)
    for wrapped in ("_wrappedProtocol", "wrappedProtocol"):  # an endpoint's, and TLS's
        owner = getattr(owner, wrapped, None) or owner
    kind = "port" if hasattr(each, "factory") and hasattr(each, "stopListening") else "connection"
    return f"{kind}: {each!r}" if owner is None else f"{kind}: {each!r} of {safe_repr(owner)}"


def open_sockets() -> dict[Any, str]:
    """Return texts for the sockets of this process, by descriptor and inode; none if the system does not list them."""
    found: dict[Any, str] = {}
    try:
        names = os.listdir("/dev/fd")  # noqa: PTH208 - all names are needed before the first is examined
    except OSError:
        return found
    for name in names:
        with suppress(OSError):  # The descriptor that listed the folder is closed by now.
            status = os.fstat(int(name))
            if stat.S_ISSOCK(status.st_mode):
                with socket.socket(fileno=os.dup(int(name))) as each:
                    found[int(name), status.st_ino] = f"socket: descriptor {name}, {described(each)}"
    return found


def described(each: socket.socket) -> str:
    """Return a text with the family of a socket, and its two addresses if it has them."""
    parts = [each.family.name if isinstance(each.family, socket.AddressFamily) else str(each.family)]
    with suppress(OSError):
        parts.append(f"at {each.getsockname()!r}")
    with suppress(OSError):
        parts.append(f"to {each.getpeername()!r}")
    return " ".join(parts)
