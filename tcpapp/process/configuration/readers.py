"""How each option's texts are read: what they stand for, or what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tcpapp import codecs, framing
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
    """What an option may be read by: the reactor, the folder that paths begin in, and the options before it."""

    reactor: Any
    folder: str
    values: Mapping[str, Any]


Read = Callable[[Sequence[str], Around], Any]
"""A reader: the texts of an option to its value. It raises a `TcpAppError`, or `Problems` where there are several."""


def endpoints(texts: Sequence[str], around: Around) -> list[Any]:
    """The endpoints to listen on."""
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
    """The app itself."""
    return load_app(texts[-1], around.folder)


def framing_of(texts: Sequence[str], _around: Around) -> framing.Framing:
    """The framing by its spec."""
    return framing.from_string(texts[-1])


def codec(texts: Sequence[str], _around: Around) -> codecs.Codec[Any] | None:
    """The codec by its spec; `None`: messages are bytes."""
    return codecs.from_string(None if texts[-1] == "none" else texts[-1])


def heartbeat(texts: Sequence[str], around: Around) -> Any:
    """The message; its ``\\`` escapes are those of a framing's spec."""
    text, chosen, by = texts[-1], around.values.get("framing"), around.values.get("codec")
    if text == "none" or chosen is None:
        return None
    try:
        message = split(f"message:text={text}")[1]["text"]
        value = message if by is None else by.decode(message)
    except (InvalidSpec, UndecodableMessage) as error:
        raise InvalidOption(f"{text!r}: {error}") from error
    return Settings(framing=chosen, codec=by, heartbeat=value).heartbeat


def network_list(texts: Sequence[str], _around: Around) -> tuple[str, ...]:
    """Networks, as they were written."""
    Networks(texts)
    return tuple(texts)


def denied(texts: Sequence[str], around: Around) -> Networks:
    """The networks that both lists allow."""
    return Networks(around.values.get("allow", ()), texts)


def proxies(texts: Sequence[str], _around: Around) -> Networks | None:
    """The networks whose PROXY headers are accepted; `None` for the default."""
    return Networks(texts) if texts else None
