"""The options `concurrency` and `replies`: what they take, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp import MessageClientFactory, MessageServerFactory, batch, conversation
from tcpapp.apps import echo
from tcpapp.connection.concurrency import AS_READY, IN_ORDER
from tcpapp.errors import InvalidOption


@conversation
async def talk(connection: Any) -> None:
    """Receive messages until the end."""
    async for _ in connection:
        pass


@batch
def echo_all(messages: list[bytes], connection: Any) -> list[bytes]:
    """Reply with the messages."""
    return messages


def test_one_message_at_a_time_in_order_is_the_default() -> None:
    """Without the options, the app works on one message at a time."""
    settings = MessageServerFactory(echo).settings
    assert (settings.concurrency, settings.replies) == (1, IN_ORDER)


@pytest.mark.parametrize("app", [echo, echo_all], ids=["function", "batch"])
def test_servers_and_clients_take_the_options(app: Any) -> None:
    """Factories of both sides take a number of messages and an order, also for batches."""
    for factory in (MessageServerFactory, MessageClientFactory):
        settings = factory(app, concurrency=1000, replies="as-ready").settings
        assert (settings.concurrency, settings.replies) == (1000, AS_READY)


@pytest.mark.parametrize("number", [0, -1, 1.5, "8", True])
def test_a_concurrency_is_a_number_from_1_on(number: Any) -> None:
    """Any other concurrency is refused."""
    with pytest.raises(InvalidOption, match=r"^concurrency=.*: takes a number of messages, from 1 on$"):
        MessageServerFactory(echo, concurrency=number)


def test_a_conversation_takes_one_message_at_a_time() -> None:
    """A conversation fetches its messages itself, so a concurrency over 1 is refused. 1 is accepted."""
    MessageServerFactory(talk, concurrency=1)
    with pytest.raises(InvalidOption, match=r"^concurrency=2: takes no @conversation, which fetches its messages"):
        MessageServerFactory(talk, concurrency=2)


def test_without_an_app_there_is_no_concurrency() -> None:
    """Where messages are received without an app, a concurrency over 1 has no meaning, and is refused."""
    MessageClientFactory(concurrency=1)
    with pytest.raises(InvalidOption, match=r"^concurrency=2: takes an app that gets the messages"):
        MessageClientFactory(concurrency=2)


@pytest.mark.parametrize(("word", "hint"), [("in_order", "; did you mean 'in-order'?"), ("", ""), (1, "")])
def test_replies_come_in_order_or_as_ready(word: Any, hint: str) -> None:
    """Any other word for the order of the replies is refused, with the word that was probably meant."""
    with pytest.raises(InvalidOption) as raised:
        MessageServerFactory(echo, replies=word)
    assert str(raised.value) == f"replies={word!r}: takes in-order or as-ready{hint}"
