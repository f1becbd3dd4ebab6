"""Why a connection ended: one value, and a table of the rules."""

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
    """Who ends a connection by each rule, as the docstring of `CloseReason` has it, and by those of timeouts."""
    written = dict(re.findall(r"^ +``([a-z-]+)`` +(\w+)  ?", CloseReason.__doc__ or "", re.MULTILINE))
    return written | {each.metadata["rule"]: "us" for each in numbers_of(Timeouts) if each.metadata["rule"]}


def test_the_table_names_the_end_that_closed_it() -> None:
    """Every row of the table names one of the three who end connections."""
    rows = re.findall(r"^ +``", CloseReason.__doc__ or "", re.MULTILINE)
    assert len(rows) + len({each.metadata["rule"] for each in numbers_of(Timeouts)} - {""}) == len(table())
    assert set(table().values()) == {each.value for each in EndedBy}


def test_the_clean_rules_are_in_the_table() -> None:
    """A conversation comes to its proper end by rules of the table only."""
    assert set(table()) >= CLEAN_RULES


def test_every_rule_of_an_unreadable_stream_is_in_the_table() -> None:
    """Each error that ends a stream has its row."""
    kinds = [getattr(errors, name) for name in errors.__all__]
    rules = {each.rule for each in kinds if issubclass(each, UnreadableStream) and each is not UnreadableStream}
    assert rules <= set(table())


@pytest.mark.parametrize("error", UNREADABLE, ids=lambda error: error.rule)
def test_an_unreadable_stream_gives_its_reason(error: UnreadableStream) -> None:
    """The reason takes its rule, text and numbers from the error; the table says who ended it."""
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
    """A close is clean where it was asked for, drained, of age, or ended between two messages; by no other rule."""
    clean = rule in {"closed", "drained", "max-age", "end-of-stream"}
    assert clean == CloseReason(EndedBy.US, rule, "").clean


def test_a_reason_reads_as_a_log_line() -> None:
    """The text has the rule, who, and the detail."""
    assert str(CloseReason(EndedBy.NETWORK, "lost", "reset")) == "lost (by network): reset"


def test_the_end_that_closed_it_is_a_label() -> None:
    """`EndedBy` is a `str`, in text as in a metric's label."""
    assert (str(EndedBy.PEER), f"{EndedBy.PEER}") == ("peer", "peer")
    assert EndedBy.PEER == "peer"


def test_reasons_are_equal_by_what_happened() -> None:
    """Two closes of the same kind are equal, with equal hashes, whatever exception was behind each."""
    one, other = (CloseReason(EndedBy.US, "app-failed", "boom", error=error) for error in (ValueError(), None))
    assert one == other
    assert hash(one) == hash(other)
    assert one != CloseReason(EndedBy.PEER, "app-failed", "boom")


def test_the_exception_is_left_out_of_the_repr() -> None:
    """The repr is one line without the exception, whose text can come from a peer."""
    assert "boom" not in repr(CloseReason(EndedBy.US, "aborted", "", error=ValueError("boom")))


def test_a_reason_cannot_be_changed() -> None:
    """What is told to one listener is what is told to the next."""
    with pytest.raises(AttributeError):
        CloseReason(EndedBy.US, "closed", "").rule = "lost"  # type: ignore[misc]


def test_what_is_public_is_named() -> None:
    """The module gives the reason and who ended it."""
    assert sorted(close_reason.__all__) == ["CloseReason", "EndedBy"]


def test_the_error_of_a_reason_holds_no_frames() -> None:
    """A reason is kept for as long as somebody asks for it; the frames would keep what the connection had read."""
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
