"""
An app that is a coroutine: how its connection runs it, what it waits for, and how it fetches messages.

A conversation fetches messages as fast as they come, and its work between two messages takes time. Once it has used
the time of one turn of the event loop, it gets the next message in a later turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tcpapp.connection.inbox import Inbox
from tcpapp.connection.outcomes import APP_FAILED, BUFFERED_CHANGED, CONVERSATION_ENDED, Settler
from tcpapp.connection.tasks import awaited_by
from tcpapp.limits.fairness import FairShare

__all__ = ["RunningConversation"]

NEVER: Final = -inf
"""A time before all others."""


class RunningConversation:
    """
    The conversation of one connection, which is `running` until its coroutine ends.

    `turn_began` is when it last got messages. `waits_since` is since when it waits for a turn; infinity where it does
    not. `receives` are the calls of ``receive`` that wait for the turn; `None` where there are none. `notified` says
    that it knows of the end, because the call it awaited failed.
    """

    __slots__ = (
        "_budget",
        "_clock",
        "_coroutine",
        "_fair_share",
        "_inbox",
        "_running",
        "_seconds",
        "_settler",
        "notified",
        "receives",
        "turn_began",
        "waits_since",
    )

    def __init__(
        self,
        settler: Settler,
        inbox: Inbox,
        fair_share: FairShare,
        clock: IReactorTime | None,
        seconds: Callable[[], float],
        budget: float,
    ) -> None:
        self._settler = settler
        self._inbox = inbox
        self._fair_share = fair_share
        self._clock = clock
        self._seconds = seconds
        self._budget = budget
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._running: Deferred[Any] | None = None
        self.receives: deque[Deferred[Any]] | None = None
        self.notified = False
        self.turn_began = NEVER
        self.waits_since = inf

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run `coroutine`: its end, or its failure, is an outcome."""
        self._coroutine = coroutine
        self._running = Deferred.fromCoroutine(coroutine)
        self._running.addCallbacks(self._ended, self._failed)

    @property
    def running(self) -> bool:
        """Whether its coroutine has not ended."""
        return self._running is not None

    @property
    def awaited(self) -> object:
        """The object that its innermost coroutine awaits; `None` while it runs, or has ended."""
        return awaited_by(self._coroutine)

    def cancel(self, waited_for: object) -> None:
        """The connection has ended: cancel the coroutine if it does not know, and still waits for `waited_for`."""
        if self._running is not None and not self.notified and self.awaited is waited_for is not None:
            self._running.cancel()

    def receive(self) -> Deferred[Any]:
        """The next message; in a later turn, where a message is there already and the time of this turn is used up."""
        if self.receives is None and (self._running is None or not self._inbox.waiting or not self._turn_is_over):
            return self._inbox.receive()
        later: Deferred[Any] = Deferred(self._cancel_receive)
        if self.receives is None:
            self.receives = deque()
            self._wait_for_turn()
        self.receives.append(later)
        return later

    def take_turn(self) -> None:
        """Its turn has come: give each ``receive`` that had to wait for it a message, in order, while time lasts."""
        outcome = BUFFERED_CHANGED
        self.turn_began = self._seconds()
        self.waits_since = inf
        while self.receives:
            if self._inbox.waiting and self._turn_is_over:
                self._wait_for_turn()
                break
            outcome |= self._inbox.give(self.receives.popleft())
        else:
            self.receives = None
        self._settler.settle(outcome)

    def take_last(self) -> None:
        """The connection has ended and no turn follows: give each ``receive`` its message now."""
        if self.receives is not None:
            self._fair_share.cancel(self.take_turn)
            self._budget = inf
            self.take_turn()

    @property
    def _turn_is_over(self) -> bool:
        """Whether it has used the time of one turn."""
        return self._seconds() - self.turn_began > self._budget

    def _wait_for_turn(self) -> None:
        assert self._clock is not None
        self.waits_since = self._seconds()
        self._fair_share.wait(self.take_turn, self._clock, self._budget)

    def _cancel_receive(self, receive: Deferred[Any]) -> None:
        """`receive` was cancelled, before its turn or after."""
        if self.receives is not None and receive in self.receives:
            self.receives.remove(receive)
        else:
            self._inbox.forget_waiter(receive)

    def _ended(self, _: object) -> None:
        self._running = self._coroutine = None
        self._settler.settle(CONVERSATION_ENDED)

    def _failed(self, failure: Failure) -> None:
        self._running = self._coroutine = None
        self._settler.settle(APP_FAILED, failure)
