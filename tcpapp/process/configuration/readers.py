"""Readers: each turns the texts of an option into its value, or raises an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tcpapp import codecs, framing
from tcpapp.apps import echo
from tcpapp.connection.concurrency import check_concurrency, check_replies
from tcpapp.connection.parsing import parts_of
from tcpapp.connection.settings import Settings
from tcpapp.errors import InvalidAddress, InvalidOption, UndecodableMessage
from tcpapp.limits.networks import Networks
from tcpapp.process.configuration.app_target import load_app
from tcpapp.process.configuration.problems import Problems
from tcpapp.spec import InvalidSpec, split
from tcpapp.transport.endpoint_strings import server_endpoint

__all__ = ["DEFAULT_ENDPOINT", "Around", "Read"]

DEFAULT_ENDPOINT = "tcp:7007:interface=127.0.0.1"


@dataclass(frozen=True)
class Around:
    """
    What a reader can use: the reactor, the folder that paths are relative to, and the options that were read before.
    """

    reactor: Any
    folder: str
    values: Mapping[str, Any]


Read = Callable[[Sequence[str], Around], Any]
"""A reader of texts. It raises a `TcpAppError`, or `Problems` if there are several errors."""


def endpoints(texts: Sequence[str], around: Around) -> list[Any]:
    """Return the endpoints to listen on. Raises `Problems`, which lists all invalid ones."""
    if not texts:
        raise InvalidOption(f"takes an endpoint, as {DEFAULT_ENDPOINT}, or several")
    made, wrong = [], []
    for text in texts:
        try:
            made.append(server_endpoint(around.reactor, text, around.folder))
        except InvalidAddress as error:
            wrong.append(str(error))
    if wrong:
        raise Problems(wrong)
    return made


def app(texts: Sequence[str], around: Around) -> Any:
    """Import and return the app."""
    return load_app(texts[-1], around.folder)


def framing_of(texts: Sequence[str], around: Around) -> framing.Framing:
    """Return the framing that the spec describes, or that a target names."""
    return framing.from_string(texts[-1], around.folder)


def codec(texts: Sequence[str], _around: Around) -> codecs.Codec[Any] | None:
    """Return the codec that the spec describes, or `None` for messages of bytes."""
    return codecs.from_string(None if texts[-1] == "none" else texts[-1])


def heartbeat(texts: Sequence[str], around: Around) -> Any:
    """
    Return the heartbeat message. Its ``\\`` escapes are the same as in a framing's spec.

    For a parser, the text is the message as it is on the wire.
    """
    text, chosen, by = texts[-1], around.values.get("framing"), around.values.get("codec")
    if text == "none" or chosen is None:
        return None
    reads = parts_of(chosen, by)[1]
    try:
        message = split(f"message:text={text}")[1]["text"]
        value = message if reads is None else reads.decode(message)
    except (InvalidSpec, UndecodableMessage) as error:
        raise InvalidOption(f"{text!r}: {error}") from error
    return Settings(framing=chosen, codec=by, heartbeat=value).heartbeat


def concurrency(texts: Sequence[str], around: Around) -> int:
    """Return the number of messages that the app, which was read before, works on at once."""
    text = texts[-1]
    number = int(text) if text.isascii() and text.isdecimal() else text
    try:
        return check_concurrency(number, around.values.get("app", echo))
    except InvalidOption as error:
        raise InvalidOption(str(error).removeprefix("concurrency=")) from None


def replies(texts: Sequence[str], _around: Around) -> str:
    """Return the order of the replies."""
    try:
        return check_replies(texts[-1])
    except InvalidOption as error:
        raise InvalidOption(str(error).removeprefix("replies=")) from None


def network_list(texts: Sequence[str], _around: Around) -> tuple[str, ...]:
    """Return the texts of networks, after a check."""
    Networks(texts)
    return tuple(texts)


def denied(texts: Sequence[str], around: Around) -> Networks:
    """Return the networks that ``--allow`` and ``--deny`` describe."""
    return Networks(around.values.get("allow", ()), texts)


def proxies(texts: Sequence[str], _around: Around) -> Networks | None:
    """Return the networks whose PROXY headers are accepted; `None` for the default."""
    return Networks(texts) if texts else None
