"""The states of a client: each of the four is an event as it begins, for functions and for ``async for``."""

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
"""States that are kept for a slow reader: the newest ones. Our choice; more than an hour of waits."""

_log = Logger(namespace="tcpapp")


@dataclass(frozen=True)
class Connecting:
    """The client connects to `endpoint`, or prepares the connection: attempt `attempt` since the last success."""

    attempt: int
    endpoint: str


@dataclass(frozen=True)
class Connected:
    """The client has a `connection`, prepared and open."""

    connection: Connection


@dataclass(frozen=True)
class Waiting:
    """The client waits for `seconds`, until its clock shows `until`, before attempt `attempt`, because of `error`."""

    attempt: int
    seconds: float
    until: float
    error: BaseException


@dataclass(frozen=True)
class Stopped:
    """
    The client does nothing: it was not started yet, was stopped (`error` is `None`), or gave up because of `error`.
    """

    error: BaseException | None = None


State = Connecting | Connected | Waiting | Stopped


class Observed:
    """The state of one client, and its watchers; `seconds` is the clock for logging their failures."""

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        self.state: State = Stopped()
        self._watchers: tuple[Callable[[State], object], ...] = ()
        self._failures = FailureLog(seconds)

    def watch(self, watcher: Callable[[State], object]) -> Callable[[], None]:
        """Call `watcher` with each state from now on; returns a function that ends it."""
        self._watchers = (*self._watchers, watcher)

        def stop() -> None:
            self._watchers = tuple(each for each in self._watchers if each is not watcher)

        return stop

    def become(self, state: State) -> None:
        """Change to this state now. A watcher that raises is logged, without harm to other watchers or the client."""
        self.state = state
        for watcher in self._watchers:
            try:
                watcher(state)
            except Exception:  # noqa: BLE001 - whatever a watcher raises
                text = "a watcher of a client failed on {state!r}"
                self._failures.write(_log, text, Failure(), state=type(state).__name__)


class States:
    """
    The states of a client, from the current one on: ``async for state in client.states()``.

    It ends after a `Stopped` that the client was not in when it began. For a slow reader, the newest states are kept.
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
        """Itself."""
        return self

    async def __anext__(self) -> State:
        """The next state, once there is one."""
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
