"""The errors: their tree is as its picture shows, and each has the attributes that it promises."""

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
    InvalidState,
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
    """Return the parent of each error, from the picture in the docstring of `tcpapp.errors`."""
    parents, path = {}, ["TcpAppError"]
    for branch, name in re.findall(r"^ {4}([│ ]*[├└]── )(\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(branch) // 4
        parents[name] = path[depth - 1]
        path[depth:] = [name]
    return parents


def test_the_tree_is_as_drawn() -> None:
    """The picture shows each error under its base class."""
    classes = [getattr(errors, name) for name in errors.__all__ if name != "TcpAppError"]
    assert drawn() == {each.__name__: each.__bases__[0].__name__ for each in classes}


def test_every_error_is_public() -> None:
    """The ``__all__`` of `tcpapp.errors` has every error that it defines."""
    defined = [name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)]
    assert sorted(defined) == sorted(errors.__all__)


@pytest.mark.parametrize("kind", [InvalidAddress, InvalidFraming, InvalidOption, InvalidProxyHeader, InvalidState])
def test_an_invalid_setting_is_a_value_error(kind: type[TcpAppError]) -> None:
    """The errors ``Invalid…`` are `ValueError`\\ s, too."""
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize("kind", [UnsendableMessage, UnreadableStream, NotConnected, TimedOut])
def test_an_error_of_a_connection_is_no_value_error(kind: type[TcpAppError]) -> None:
    """An error of a running connection is no `ValueError`, so it is not caught as a mistake in settings."""
    assert not issubclass(kind, ValueError)


def test_the_rules_of_unreadable_streams_differ() -> None:
    """Each kind of `UnreadableStream` ends a connection by a rule of its own."""
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
    """A `MessageTooLong` has its text, its value and its limit."""
    error = MessageTooLong("10 bytes", value=10, limit=5)
    assert (str(error), error.value, error.limit) == ("10 bytes", 10, 5)


def test_a_rule_without_numbers_has_none() -> None:
    """The `value` and `limit` of an error without numbers are None."""
    error = MalformedFrame("not a frame")
    assert (error.value, error.limit) == (None, None)


def test_an_undecodable_message_carries_its_bytes() -> None:
    """An `UndecodableMessage` has the whole message, and the message's length as its value."""
    error = UndecodableMessage("not JSON", message=b"{]")
    assert (str(error), error.message, error.value, error.limit) == ("not JSON", b"{]", 2, None)


def test_not_connected_carries_the_reason() -> None:
    """A `NotConnected` has the reason for which the connection ended."""
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
    """A `TimedOut` names its timer and its seconds, in its text and as attributes."""
    error = TimedOut("request", seconds)
    assert (text, "request", seconds) == (str(error), error.timer, error.seconds)


def test_an_error_is_kept_without_frames_however_long_its_chain() -> None:
    """`without_frames` removes the tracebacks of an error and of its causes, even if the causes form a circle."""
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
