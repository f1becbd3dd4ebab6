"""Deferreds that have fired when they are made are Deferreds in every respect."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from twisted.internet.defer import (
    AlreadyCalledError,
    Deferred,
    DeferredList,
    fail,
    gatherResults,
    inlineCallbacks,
    succeed,
)
from twisted.python.failure import Failure

from tcpapp import conversation
from tcpapp.connection.fired import fired, given
from tests.peers import Peer, stalled


def result_of(deferred: Deferred[Any]) -> Any:
    """Return the result of a Deferred that has fired."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    return found[0]


def test_it_is_a_deferred_that_has_fired() -> None:
    """It has the type and the result of one that was fired, and cannot be fired again."""
    assert isinstance(fired(), Deferred)
    assert (fired().called, fired().result, given(7).result) == (True, None, 7)
    assert repr(given(7)).endswith("current result: 7>")
    for fires in (fired().callback, fired().errback):
        with pytest.raises(AlreadyCalledError):
            fires(Failure(LookupError()))
    with pytest.raises(AttributeError, match="colour"):
        fired().colour  # type: ignore[attr-defined]  # noqa: B018


def test_its_callbacks_are_called_at_once_and_are_its_own() -> None:
    """Callbacks get the result of the callback before, and those of another one change nothing."""
    first, second = fired(), fired()
    assert first.addCallback(lambda _: 1).addCallback(lambda found: found + 1) is first
    assert (first.result, second.result) == (2, None)
    first.cancel()
    assert result_of(first) == 2


def test_an_error_of_a_callback_is_handled_as_with_any_deferred() -> None:
    """An errback takes the error of a callback before it."""

    def broken(_: object) -> None:
        raise ZeroDivisionError

    assert result_of(given(1).addCallback(broken).addErrback(lambda failure: failure.type)) is ZeroDivisionError


def test_it_is_chained_and_gathered_as_any_deferred() -> None:
    """A callback can return it, a callback of it can return another one, and lists of them work."""
    assert result_of(succeed(None).addCallback(lambda _: given(3))) == 3
    later: Deferred[int] = Deferred()
    waiting = fired().addCallback(lambda _: later)
    later.callback(4)
    assert result_of(waiting) == 4
    assert result_of(gatherResults([given(1), fired(), given(3)])) == [1, None, 3]
    assert result_of(DeferredList([fired()])) == [(True, None)]


@pytest.mark.parametrize(
    ("made", "result"),
    [
        (fired, None),
        (lambda: given(b"x"), b"x"),
        (lambda: fired().addCallback(lambda _: 5), 5),
        (lambda: given(b"x").addCallback(lambda _: None), None),
    ],
)
def test_it_can_be_awaited(made: Any, result: Any) -> None:
    """To await it gives its result at once, as its callbacks left it, again and again."""

    async def waits(deferred: Deferred[Any]) -> list[Any]:
        return [await deferred, await deferred]

    assert result_of(Deferred.fromCoroutine(waits(made()))) == [result, result]

    @inlineCallbacks
    def yields() -> Generator[Deferred[Any], Any, Any]:
        return (yield made())

    assert result_of(yields()) == result


def test_a_wait_for_it_lasts_as_long_as_its_callbacks() -> None:
    """If a callback returned a Deferred, or it is paused, to await it waits; an error is raised."""

    async def waits(deferred: Deferred[Any]) -> Any:
        return await deferred

    later: Deferred[int] = Deferred()
    waiting = Deferred.fromCoroutine(waits(fired().addCallback(lambda _: later)))
    assert not waiting.called
    later.callback(9)
    assert result_of(waiting) == 9
    failing = Deferred.fromCoroutine(waits(fired().addCallback(lambda _: fail(LookupError()))))
    assert result_of(failing.addErrback(lambda failure: failure.type)) is LookupError


def test_a_conversation_makes_no_deferred_for_messages_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """``receive``, ``async for`` and ``send`` make one only where they wait."""
    made: list[Deferred[Any]] = []

    @conversation
    async def talk(connection: Any) -> None:
        await connection.send(b"first: " + await connection.receive())
        async for message in connection:
            await connection.send(message)

    peer = Peer(talk)
    begin = Deferred.__init__

    def noted(self: Any, canceller: Any = None) -> None:
        made.append(self)
        begin(self, canceller)

    monkeypatch.setattr(Deferred, "__init__", noted)
    peer.says(b"".join(b"%d\n" % number for number in range(9)))
    assert peer.hears() == b"first: 0\n" + b"".join(b"%d\n" % number for number in range(1, 9))
    assert len(peer.transport.writes) == 1
    assert len(made) == 1  # it waits for the tenth message


def test_a_send_waits_while_the_peer_takes_nothing() -> None:
    """Bytes over the write mark wait, and the Deferred of their ``send`` with them."""
    peer = stalled(None)
    sends = [peer.connection.send(b"x" * 1000) for _ in range(400)]
    assert (sends[0].called, sends[-1].called) == (True, False)
    peer.transport.go_on()
    peer.transport.turn()
    assert all(each.called for each in sends)
