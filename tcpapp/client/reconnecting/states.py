"""The four states of a client. Each change is passed to watching functions, and to ``async for``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tcpapp.telemetry.log_lines import FailureLog

if TYPE_CHECKING:
    from typing_extensions import Self

    from tcpapp.connection.connection import Connection

__all__ = ["Connected", "Connecting", "Observed", "State", "States", "Stopped", "Waiting"]

MOST_STATES = 64
"""The most states that are kept for a slow reader, the newest ones. Our choice: more than an hour of waits."""

_log = Logger(namespace="tcpapp")


@dataclass(frozen=True)
class Connecting:
    """
    The client connects to `endpoint`, or prepares the connection. It is attempt number `attempt` since the last
    success.
    """

    attempt: int
    endpoint: str


@dataclass(frozen=True)
class Connected:
    """The client has a `connection`, which is open and prepared."""

    connection: Connection


@dataclass(frozen=True)
class Waiting:
    """
    Because of `error`, the client waits `seconds`, until its clock shows `until`, before attempt number `attempt`.
    """

    attempt: int
    seconds: float
    until: float
    error: BaseException


@dataclass(frozen=True)
class Stopped:
    """
    The client does not run: it was not started yet or was stopped (`error` is `None`), or it gave up because of
    `error`.
    """

    error: BaseException | None = None


State = Connecting | Connected | Waiting | Stopped


class Observed:
    """The state of one client, and its watchers. `seconds` is the clock for the log of their failures."""

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        self.state: State = Stopped()
        self._watchers: tuple[Callable[[State], object], ...] = ()
        self._failures = FailureLog(seconds)

    def watch(self, watcher: Callable[[State], object]) -> Callable[[], None]:
        """Call `watcher` with each new state from now on. Returns a function that removes the watcher again."""
        self._watchers = (*self._watchers, watcher)

        def stop() -> None:
            self._watchers = tuple(each for each in self._watchers if each is not watcher)

        return stop

    def become(self, state: State) -> None:
        """
        Change to this state, and call the watchers. If a watcher raises, the error is logged, and the other watchers
        are called.
        """
        self.state = state
        for watcher in self._watchers:
            try:
                watcher(state)
            except Exception:  # noqa: BLE001 - a function of the user can raise anything
                text = "a watcher of a client failed on {state!r}"
                self._failures.write(_log, text, Failure(), state=type(state).__name__)


class States:
    """
    An iterator of the states of a client, from the current state on. `Client.states` returns it.

    It ends after the first `Stopped`, except for the state in which the iteration began. For a slow reader, only the
    newest states are kept.
    """

    def __init__(self, observed: Observed) -> None:
        self._states: deque[State] = deque([observed.state], maxlen=MOST_STATES)
        self._waiter: Deferred[None] | None = None
        self._over = False
        self._first = True
        self._stop = observed.watch(self._note)

    def _note(self, state: State) -> None:
        self._states.append(state)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    def __aiter__(self) -> Self:
        """Return the iterator itself."""
        return self

    async def __anext__(self) -> State:
        """Wait for the next state, and return it."""
        if self._over:
            self._stop()
            raise StopAsyncIteration
        if not self._states:
            self._waiter = Deferred()
            await self._waiter
        state = self._states.popleft()
        self._over = isinstance(state, Stopped) and not self._first
        self._first = False
        return state
