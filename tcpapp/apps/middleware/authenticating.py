"""Middleware that lets a peer reach an app only after it has logged in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from twisted.internet.defer import Deferred, DeferredLock

from tcpapp.apps.middleware.wrapping import wrap
from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.connection import State
from tcpapp.connection.handlers import outcome_of, value_of
from tcpapp.errors import InvalidOption

__all__ = ["authenticated"]

RULE = "login-failed"
"""The rule by which a connection without a login is closed."""


def authenticated(
    app: Any,
    check: Callable[[Any, Any], Any],
    *,
    tries: int = 3,
    within: float = 10.0,
    welcome: Any = None,
    denied: Any = None,
) -> Any:
    """
    Let a peer reach `app` only after one of its first messages was valid credentials.

    ``check(message, connection)`` gets each message until then, and returns the identity of the peer (any true value),
    or a false value for wrong credentials. It can be async. The identity is ``connection.data.identity``. `app` knows
    the connection from then on: now its ``opened`` is called, and a conversation begins. If a peer does not log in,
    none of the app's parts is called for it.

    - `tries`: after as many wrong tries the connection is closed, by the rule ``login-failed``.
    - `within`: the seconds for the login, after which the connection is closed by the same rule.
    - `welcome`: the reply to valid credentials, before the greeting of the app.
    - `denied`: the reply to wrong ones.

    An app logs its peer out by ``connection.data.identity = None``: then messages are credentials again. A conversation
    goes on, and ends itself.

    An error that `check` raises is a failure of the app, and closes the connection: it lets nobody in. Compare secrets
    with `hmac.compare_digest`, and do the same work for an unknown name, so that the time of a reply tells nothing.

    Raises `InvalidOption` for an object that is no app, and for invalid arguments.
    """
    if not _takes_two(check):
        raise InvalidOption(f"authenticated: check={check!r:.100}: takes a function of (message, connection)")
    for name, value in {"tries": tries, "within": within}.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise InvalidOption(f"authenticated: {name}={value!r}: takes a number above 0")
    return _Gate(check, tries, within, welcome, denied).around(app)


def _takes_two(check: Any) -> bool:
    try:
        inspect.signature(check).bind("message", "connection")
    except TypeError:
        return False
    except ValueError:  # a function in C does not say what it takes
        return True
    return True


def _identity_of(connection: Any) -> Any:
    return getattr(connection.data, "identity", None)


def _sends(connection: Any) -> bool:
    """Whether replies can be sent: the connection is not closing."""
    return connection.state in (State.OPEN, State.INPUT_CLOSED)


async def _say(reply: Any, connection: Any) -> None:
    if reply is not None:
        await connection.send(value_of(reply))


class _Login:
    """The login of one connection: the wrong tries so far, and what begins when it succeeds."""

    def __init__(self, opened: Callable[[Any], Any] | None = None, deadline: Deferred[None] | None = None) -> None:
        self.opened = opened
        self.deadline = deadline
        self.wrong = 0
        self.lock = DeferredLock()  # with `concurrency`, messages behind the credentials wait for the check


class _Gate:
    """The functions around an app. A connection without an identity reaches none of the app's parts."""

    def __init__(self, check: Callable[[Any, Any], Any], tries: int, within: float, welcome: Any, denied: Any) -> None:
        self._check = check
        self._tries = tries
        self._within = within
        self._welcome = welcome
        self._denied = denied
        self._logins: WeakKeyDictionary[Any, _Login] = WeakKeyDictionary()
        self._begun: WeakSet[Any] = WeakSet()

    def around(self, app: Any) -> Any:
        """`app` behind this gate."""
        return wrap(
            app,
            opened=self.opened,
            received=self.received,
            received_all=self.received_all,
            closed=self.closed,
            draining=self.draining,
            talk=self.talk,
        )

    def opened(self, connection: Any, inner: Any) -> None:
        """The app's ``opened`` is called after the login, which has a deadline."""
        deadline = connection.spawn(self._wait_for_login(connection), background=True)
        self._logins[connection] = _Login(inner, deadline)

    def received(self, message: Any, connection: Any, inner: Any) -> Any:
        """Hand a message on after the login; before it, it is a try to log in."""
        if _identity_of(connection):
            return inner(message, connection)
        return self._first(message, connection, inner)

    async def _first(self, message: Any, connection: Any, inner: Any) -> Any:
        login = self._login_of(connection)
        await login.lock.acquire()
        try:
            if not _identity_of(connection):
                return await self._try(message, connection, login)
        finally:
            login.lock.release()
        return await outcome_of(inner, message, connection)

    def received_all(self, messages: list[Any], connection: Any, inner: Any) -> Any:
        """As `received`: the messages behind the credentials are handed on as a batch."""
        if _identity_of(connection):
            return inner(messages, connection)
        return self._first_of_all(messages, connection, inner)

    async def _first_of_all(self, messages: list[Any], connection: Any, inner: Any) -> list[Any]:
        login = self._login_of(connection)
        replies = []
        for place, message in enumerate(messages, 1):
            reply = await self._try(message, connection, login)
            if reply is not None:
                replies.append(reply)
            if _identity_of(connection) and messages[place:]:
                replies += await outcome_of(inner, messages[place:], connection) or ()
            if _identity_of(connection) or not _sends(connection):
                break
        return replies

    async def talk(self, connection: Any, inner: Any) -> None:
        """Begin the conversation after the login."""
        login = self._login_of(connection)
        while not _identity_of(connection):
            await self._try(await connection.receive(), connection, login)  # a conversation has no part `opened`
            if not _sends(connection):
                return
        await inner(connection)

    def closed(self, connection: Any, reason: CloseReason, inner: Any) -> Any:
        """Tell an app that knows the connection."""
        self._logins.pop(connection, None)
        return inner(connection, reason) if connection in self._begun else None

    def draining(self, connection: Any, inner: Any) -> Any:
        """Tell an app that knows the connection."""
        return inner(connection) if connection in self._begun else None

    def _login_of(self, connection: Any) -> _Login:
        return self._logins.setdefault(connection, _Login())

    async def _try(self, message: Any, connection: Any, login: _Login) -> Any:
        """Check a message, and answer it. Returns what the app says at its beginning."""
        if not _sends(connection):
            return None
        identity = await outcome_of(self._check, message, connection)
        if not _sends(connection):  # it came too late
            return None
        if identity:
            return await self._let_in(identity, connection, login)
        login.wrong += 1
        await _say(self._denied, connection)
        if login.wrong < self._tries:
            return None
        detail = f"none of {login.wrong} message(s) was valid credentials"
        connection.close(reason=CloseReason(EndedBy.US, RULE, detail, login.wrong, self._tries))
        return None

    async def _let_in(self, identity: Any, connection: Any, login: _Login) -> Any:
        connection.data.identity = identity
        self._begun.add(connection)
        self._logins.pop(connection, None)
        if login.deadline is not None:
            login.deadline.cancel()
        await _say(self._welcome, connection)  # before all that the app sends in its `opened`
        return None if login.opened is None else await outcome_of(login.opened, connection)

    async def _wait_for_login(self, connection: Any) -> None:
        async for _ in connection.every(self._within):
            detail = f"no valid credentials came in {self._within:g} s"
            connection.close(reason=CloseReason(EndedBy.US, RULE, detail, self._within, self._within))
