"""Why a connection ended: the value `CloseReason`, and the table of its rules."""

from __future__ import annotations

import re

import pytest

from tcpapp import close_reason, errors
from tcpapp.close_reason import CLEAN_RULES, CloseReason, EndedBy
from tcpapp.errors import (
    MalformedFrame,
    MalformedProxyHeader,
    MessageTooLong,
    TruncatedMessage,
    UndecodableMessage,
    UnreadableStream,
)
from tcpapp.limits import Timeouts, numbers_of

UNREADABLE = [
    MessageTooLong("too long", value=10, limit=5),
    MalformedFrame("no frame"),
    TruncatedMessage("cut", value=3),
    UndecodableMessage("not JSON", message=b"{]"),
    MalformedProxyHeader("no PROXY header", value=108, limit=107),
]


def table() -> dict[str, str]:
    """Return who ends a connection by each rule, from the docstring of `CloseReason` and the rules of timeouts."""
    written = dict(re.findall(r"^ +``([a-z-]+)`` +(\w+)  ?", CloseReason.__doc__ or "", re.MULTILINE))
    return written | {each.metadata["rule"]: "us" for each in numbers_of(Timeouts) if each.metadata["rule"]}


def test_the_table_says_who_ends_a_connection() -> None:
    """Each row of the table names a member of `EndedBy`, and each member has a row."""
    rows = re.findall(r"^ +``", CloseReason.__doc__ or "", re.MULTILINE)
    assert len(rows) + len({each.metadata["rule"] for each in numbers_of(Timeouts)} - {""}) == len(table())
    assert set(table().values()) == {each.value for each in EndedBy}


def test_the_clean_rules_are_in_the_table() -> None:
    """Each rule of `CLEAN_RULES` is in the table."""
    assert set(table()) >= CLEAN_RULES


def test_every_rule_of_an_unreadable_stream_is_in_the_table() -> None:
    """The rule of each error that ends a stream is in the table."""
    kinds = [getattr(errors, name) for name in errors.__all__]
    rules = {each.rule for each in kinds if issubclass(each, UnreadableStream) and each is not UnreadableStream}
    assert rules <= set(table())


@pytest.mark.parametrize("error", UNREADABLE, ids=lambda error: error.rule)
def test_an_unreadable_stream_gives_its_reason(error: UnreadableStream) -> None:
    """The reason has the rule, text and numbers of its error, and ends the connection by the side in the table."""
    reason = error.close_reason()
    assert (error.rule, str(error), error.value, error.limit, error) == (
        reason.rule,
        reason.detail,
        reason.value,
        reason.limit,
        reason.error,
    )
    assert table()[error.rule] == str(reason.by)


@pytest.mark.parametrize("rule", sorted(table()))
def test_only_a_proper_end_is_clean(rule: str) -> None:
    """
    A reason is clean for the rules closed, drained, max-age, moved, taken-over and end-of-stream, and for no other.
    """
    clean = rule in {"closed", "drained", "max-age", "moved", "taken-over", "end-of-stream"}
    assert clean == CloseReason(EndedBy.US, rule, "").clean


def test_a_reason_reads_as_a_log_line() -> None:
    """The text of a reason has its rule, who ended the connection, and the detail."""
    assert str(CloseReason(EndedBy.NETWORK, "lost", "reset")) == "lost (by network): reset"


def test_ended_by_is_a_label() -> None:
    """A member of `EndedBy` is a `str`, as the label of a metric must be."""
    assert (str(EndedBy.PEER), f"{EndedBy.PEER}") == ("peer", "peer")
    assert EndedBy.PEER == "peer"


def test_reasons_are_equal_without_their_errors() -> None:
    """Two reasons that differ only in their exception are equal, and have one hash."""
    one, other = (CloseReason(EndedBy.US, "app-failed", "boom", error=error) for error in (ValueError(), None))
    assert one == other
    assert hash(one) == hash(other)
    assert one != CloseReason(EndedBy.PEER, "app-failed", "boom")


def test_the_exception_is_left_out_of_the_repr() -> None:
    """The repr of a reason does not have the exception, whose text can come from a peer."""
    assert "boom" not in repr(CloseReason(EndedBy.US, "aborted", "", error=ValueError("boom")))


def test_a_reason_cannot_be_changed() -> None:
    """The fields of a reason cannot be set: one listener cannot change the reason of the next."""
    with pytest.raises(AttributeError):
        CloseReason(EndedBy.US, "closed", "").rule = "lost"  # type: ignore[misc]


def test_the_public_names_of_the_module() -> None:
    """The module exports `CloseReason` and `EndedBy`."""
    assert sorted(close_reason.__all__) == ["CloseReason", "EndedBy"]


def test_the_error_of_a_reason_holds_no_frames() -> None:
    """The error of a reason has no traceback: its frames would keep what the connection had read."""
    try:
        try:
            b"\xff".decode()
        except UnicodeDecodeError as cause:
            raise UndecodableMessage("not text", message=b"\xff") from cause
    except UndecodableMessage as caught:
        error = caught
    reason = error.close_reason()
    assert reason.error is error
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)
