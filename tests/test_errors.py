"""The tree of errors: it is as drawn, and each carries what it promises."""

from __future__ import annotations

import re

import pytest

from tcpapp import errors
from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.errors import (
    InvalidAddress,
    InvalidFraming,
    InvalidOption,
    InvalidProxyHeader,
    MalformedFrame,
    MalformedProxyHeader,
    MessageTooLong,
    NotConnected,
    TcpAppError,
    TimedOut,
    TruncatedMessage,
    UndecodableMessage,
    UnreadableStream,
    UnsendableMessage,
    without_frames,
)


def drawn() -> dict[str, str]:
    """The parent of each error, as the picture in the docstring of `tcpapp.errors` has it."""
    parents, path = {}, ["TcpAppError"]
    for branch, name in re.findall(r"^ {4}([│ ]*[├└]── )(\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(branch) // 4
        parents[name] = path[depth - 1]
        path[depth:] = [name]
    return parents


def test_the_tree_is_as_drawn() -> None:
    """The picture shows every error, under the error it is a kind of."""
    classes = [getattr(errors, name) for name in errors.__all__ if name != "TcpAppError"]
    assert drawn() == {each.__name__: each.__bases__[0].__name__ for each in classes}


def test_every_error_is_public() -> None:
    """Every error that the module defines is in its ``__all__``."""
    defined = [name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)]
    assert sorted(defined) == sorted(errors.__all__)


@pytest.mark.parametrize("kind", [InvalidAddress, InvalidFraming, InvalidOption, InvalidProxyHeader])
def test_what_cannot_be_is_a_value_error(kind: type[TcpAppError]) -> None:
    """The ``Invalid…`` errors are `ValueError`\\ s too."""
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize("kind", [UnsendableMessage, UnreadableStream, NotConnected, TimedOut])
def test_what_happens_later_is_no_value_error(kind: type[TcpAppError]) -> None:
    """An error of a running connection is not caught as a mistake in its settings."""
    assert not issubclass(kind, ValueError)


def test_the_rules_of_unreadable_streams_differ() -> None:
    """Each kind of `UnreadableStream` ends a connection by its own rule."""
    kinds = [
        UnreadableStream,
        MessageTooLong,
        MalformedFrame,
        TruncatedMessage,
        UndecodableMessage,
        MalformedProxyHeader,
    ]
    assert [each.rule for each in kinds] == [
        "unreadable-stream",
        "message-too-long",
        "malformed-frame",
        "truncated-message",
        "undecodable-message",
        "malformed-proxy-header",
    ]


def test_an_unreadable_stream_carries_its_numbers() -> None:
    """The value and the limit that decided are attributes; the text is the message."""
    error = MessageTooLong("10 bytes", value=10, limit=5)
    assert (str(error), error.value, error.limit) == ("10 bytes", 10, 5)


def test_a_rule_without_numbers_has_none() -> None:
    """Where no number decided, `value` and `limit` are None."""
    error = MalformedFrame("not a frame")
    assert (error.value, error.limit) == (None, None)


def test_an_undecodable_message_carries_its_bytes() -> None:
    """The message is kept whole, and its length is the value."""
    error = UndecodableMessage("not JSON", message=b"{]")
    assert (str(error), error.message, error.value, error.limit) == ("not JSON", b"{]", 2, None)


def test_not_connected_carries_the_reason() -> None:
    """The reason of the close is an attribute."""
    reason = CloseReason(EndedBy.PEER, "end-of-stream", "the peer closed")
    error = NotConnected("cannot send", reason)
    assert ("cannot send", reason) == (str(error), error.reason)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (30.0, "request timed out after 30 s"),
        (0.25, "request timed out after 0.25 s"),
        (1, "request timed out after 1 s"),
    ],
)
def test_a_timeout_says_which_and_how_long(seconds: float, text: str) -> None:
    """`TimedOut` names its timer and its seconds, in text and as attributes."""
    error = TimedOut("request", seconds)
    assert (text, "request", seconds) == (str(error), error.timer, error.seconds)


def test_an_error_is_kept_without_frames_however_long_its_chain() -> None:
    """Also where it bites its tail, as Python lets it."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    for each in (first, second):
        try:
            raise each
        except LookupError:
            pass
        except ValueError:
            pass
    assert without_frames(first) is first
    assert (first.__traceback__, second.__traceback__) == (None, None)
