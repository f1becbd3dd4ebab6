"""
Leaks of a test: ports, connections, timers, sockets, and errors that were not taken.

`Leaks` is a plain class, for pytest, trial and unittest alike; the pytest plugin makes one for each test. In trial::

    class ServerTests(TestCase):
        def setUp(self):
            self.leaks = Leaks(reactor)
            self.addCleanup(self.leaks.check_settled)      # a Deferred: trial waits for it

Over a fake reactor::

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
"""Seconds to wait in each turn of the reactor while things are ending: only a leak waits all turns, 0.1 s."""


@implementer(ILogObserver)
class Leaks:
    """
    Everything that a reactor holds and the log received, and that did not exist when this was made.

    - `reactor`: a reactor, real or fake, a `Clock`, or `None`: then only the log is watched. Methods that it lacks
      (``getDelayedCalls``, ``getReaders`` and ``getWriters``) are not used.
    - `sockets`: whether the sockets of this process are checked as well. They show a paused connection, which no
      reactor lists. They are found in ``/dev/fd``, if that exists.
    - `publisher`: the log of failures; `None`: Twisted's own.

    It watches the log until `stop`, which every check calls. Used with ``with``, it checks at the end.
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
        Return the logged failures of these types (by default all) and forget them: the test expected them.

        Failures of Deferreds that nobody handled are logged when those are collected, so garbage is collected first.
        """
        gc.collect()
        taken = [each for each in self.failures if not types or each.check(*types)]
        self.failures = [each for each in self.failures if each not in taken]
        return taken

    def left(self) -> list[str]:
        """A line for each thing that is left now, with its name. Logged failures are not included."""
        new = {each: text for each, text in self._held().items() if each not in self._before}
        named = {each.fileno() for each in new if hasattr(each, "fileno")}
        return [text for each, text in new.items() if not (isinstance(each, tuple) and each[0] in named)]

    def check(self) -> None:
        """
        Raise `AssertionError` that names everything that is left, including logged failures that were not taken.

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
        Like `check`, after some turns of the reactor, in which things can end.

        Returns a Deferred, which takes no turn if nothing is left, and 0.1 seconds if something is.
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
        """Note the event's failure, as an observer of the log; ``twisted.python.log.err`` has another name for it."""
        failure = event.get("log_failure") or (event.get("isError") and event.get("failure"))
        if failure:
            self.failures.append(failure)

    def _held(self) -> dict[Any, str]:
        """Everything that the reactor and the process hold, each with its description."""
        reactor = self.reactor
        internal = getattr(reactor, "_internalReaders", ())  # the descriptor that wakes the reactor up
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
    """Whether a delayed call is the time limit that trial sets for each part of a test."""
    return str(getattr(call.func, "__module__", "")).startswith("twisted.trial.")


def timer(call: Any, now: float) -> str:
    """The function of a delayed call, its arguments and its time; and where it was made, if the reactor notes that."""
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
    """The kind of a port or a connection, and its owner."""
    owner = getattr(each, "protocol", None) or getattr(each, "factory", None)
    for wrapped in ("_wrappedProtocol", "wrappedProtocol"):  # an endpoint's, and TLS's
        owner = getattr(owner, wrapped, None) or owner
    kind = "port" if hasattr(each, "factory") and hasattr(each, "stopListening") else "connection"
    return f"{kind}: {each!r}" if owner is None else f"{kind}: {each!r} of {safe_repr(owner)}"


def open_sockets() -> dict[Any, str]:
    """The sockets of this process, by descriptor and inode; none if the system does not list them."""
    found: dict[Any, str] = {}
    try:
        names = os.listdir("/dev/fd")  # noqa: PTH208 - names are needed, all of them before the first is examined
    except OSError:
        return found
    for name in names:
        with suppress(OSError):  # The descriptor that listed the folder is gone by now.
            status = os.fstat(int(name))
            if stat.S_ISSOCK(status.st_mode):
                with socket.socket(fileno=os.dup(int(name))) as each:
                    found[int(name), status.st_ino] = f"socket: descriptor {name}, {described(each)}"
    return found


def described(each: socket.socket) -> str:
    """The family and the two addresses of a socket, if it has them."""
    parts = [each.family.name if isinstance(each.family, socket.AddressFamily) else str(each.family)]
    with suppress(OSError):
        parts.append(f"at {each.getsockname()!r}")
    with suppress(OSError):
        parts.append(f"to {each.getpeername()!r}")
    return " ".join(parts)
