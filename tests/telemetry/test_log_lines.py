"""Log lines about failures: how the text of an exception is shown, and how many lines of one kind are written."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from twisted.logger import Logger, LogPublisher, eventAsJSON, eventAsText
from twisted.python.failure import Failure

from tcpapp.telemetry import log_lines
from tcpapp.telemetry.log_lines import MOST_FRAMES, MOST_KINDS, FailureLog, LineRates, LoggedFailure

NASTY = "no such command: \x1b]0;owned\x07\x1b[2J\r\nTraceback forged " + "A" * 100_000


def failed(error: BaseException, depth: int = 0) -> Failure:
    """Return the failure of a function that raises `error`, `depth` calls below another one."""

    def fall(left: int) -> None:
        if left:
            fall(left - 1)
        raise error

    try:
        fall(depth)
    except BaseException:  # noqa: BLE001 - as it is given
        return Failure()
    raise AssertionError


# The text of a failure ------------------------------------------------------------------------------------------------


def test_a_logged_failure_differs_only_in_its_text() -> None:
    """A `LoggedFailure` keeps type, value, traceback and frames, which error trackers and `check` use."""
    failure = failed(ValueError("no"))
    logged = LoggedFailure(failure)
    assert logged.value is failure.value
    assert (logged.type, logged.tb, logged.frames) == (failure.type, failure.tb, failure.frames)
    assert logged.check(ValueError) is ValueError


def test_an_ordinary_failure_reads_as_twisted_prints_it() -> None:
    """The traceback of an ordinary `LoggedFailure` is the traceback that Twisted prints."""
    failure = failed(ValueError("no such thing"), depth=2)
    assert LoggedFailure(failure).getTraceback() == failure.getTraceback()


@pytest.mark.parametrize(
    "text_of",
    [
        pytest.param(lambda failure: failure.getTraceback(), id="traceback"),
        pytest.param(lambda failure: failure.getTraceback(detail="verbose"), id="verbose"),
        pytest.param(lambda failure: failure.getBriefTraceback(), id="brief"),
        pytest.param(lambda failure: failure.getErrorMessage(), id="message"),
        pytest.param(str, id="str"),
        pytest.param(repr, id="repr"),
    ],
)
def test_an_exceptions_text_is_escaped_and_cut(text_of: Any) -> None:
    """The text of an exception has no control character and no long line, in each way to print a `LoggedFailure`."""
    lines = text_of(LoggedFailure(failed(ValueError(NASTY)))).split("\n")
    assert all(each.isprintable() for each in lines)
    assert max(map(len, lines)) < 400
    assert not any(each.startswith("Traceback forged") for each in lines)
    assert any("no such command: \\x1b]0;owned\\x07\\x1b[2J\\r\\nTraceback forged" in each for each in lines)


def test_the_frames_stay_readable() -> None:
    """The frames of a traceback are not escaped: they come from the source, and not from a peer."""
    text = LoggedFailure(failed(ValueError(NASTY))).getTraceback()
    assert "in fall\n" in text
    assert "raise error" in text


def test_an_exception_whose_str_raises_is_one_line() -> None:
    """An exception whose ``__str__`` raises is printed as one line with its name."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("\x1b")

    last = LoggedFailure(failed(Broken())).getTraceback().rstrip("\n").split("\n")[-1]
    assert "Broken" in last
    assert last.isprintable()


def test_a_deep_traceback_shows_its_beginning_and_its_end() -> None:
    """A traceback of 502 calls shows `MOST_FRAMES` of them, and says how many are left out."""
    text = LoggedFailure(failed(ValueError("deep"), depth=500)).getTraceback()
    assert text.count("in fall\n") == MOST_FRAMES - 1  # and one frame of `failed`
    assert f"({502 - MOST_FRAMES} calls are left out here)\n" in text
    assert text.endswith("ValueError: deep\n")


def test_a_failure_without_frames_can_be_printed() -> None:
    """The traceback of a failure that was never raised ends with the exception."""
    assert LoggedFailure(Failure(ValueError("no"))).getTraceback().endswith("ValueError: no\n")


def test_a_logged_failure_prints_to_a_file_or_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """`printTraceback` writes the same text to a given file, and without one to Twisted's log."""
    failure = LoggedFailure(failed(ValueError("\x07")))
    given, default = io.StringIO(), io.StringIO()
    monkeypatch.setattr(log_lines, "logerr", default)
    failure.printTraceback(given)
    failure.printTraceback()
    assert given.getvalue() == default.getvalue() == failure.getTraceback()


# The events that observers get ----------------------------------------------------------------------------------------


def observed(write: Any) -> list[Any]:
    """Return the events that ``write(logger)`` logs."""
    events: list[Any] = []
    write(Logger("tests", observer=LogPublisher(events.append)))
    return events


def test_every_observers_text_is_safe() -> None:
    """A failure is printable text in the text log and in the JSON log; an observer finds the exception itself."""
    failure = failed(ValueError(NASTY))
    log = FailureLog(lambda: 0.0)
    [event] = observed(lambda logger: log.write(logger, "it failed on {what}", failure, what="this"))
    text = eventAsText(event, includeTimestamp=False)
    assert text.startswith("[tests#critical] it failed on this\nTraceback")
    assert all(each.isprintable() for each in text.split("\n"))
    assert len(text) < 2000
    stored = eventAsJSON(event)
    assert stored.isprintable()
    assert len(stored) < 20_000
    assert json.loads(stored)["what"] == "this"
    assert event["log_failure"].value is failure.value


def test_failures_of_one_kind_make_a_line_a_second() -> None:
    """
    Of failures of one kind, one a second is logged; the next line says how many were left out.

    Another exception, or another place that raises, is another kind.
    """
    now = 100.0
    log = FailureLog(lambda: now)
    here, there = failed(ValueError("here")), Failure(KeyError("there"))

    def flood(logger: Logger) -> None:
        for failure in (here, here, here, there):
            log.write(logger, "it failed", failure)

    def say(logger: Logger) -> None:
        log.write(logger, "it failed", here)

    assert [event["log_failure"].value for event in observed(flood)] == [here.value, there.value]
    now = 101.0
    told, line = observed(say)
    assert eventAsText(told).endswith("left out 2 line(s) like the next one")
    assert line["log_failure"].value is here.value


# The rate of lines ----------------------------------------------------------------------------------------------------


def test_lines_of_a_kind_have_a_rate() -> None:
    """`take` allows two lines of a kind at once, then half a second later the next, and says how many were left out."""
    now = 0.0
    rates = LineRates(lambda: now)
    assert [rates.take("kind", 2) for _ in range(5)] == [0, 0, None, None, None]
    assert rates.take("other", 1) == 0
    now = 0.5
    assert [rates.take("kind", 2) for _ in range(2)] == [3, None]


def test_the_table_of_kinds_is_bounded() -> None:
    """When `MOST_KINDS` kinds have a rate of their own, all new kinds share one rate."""
    rates = LineRates(lambda: 0.0)
    for number in range(MOST_KINDS):
        assert rates.take(number, 1) == 0
    assert [rates.take(f"more {number}", 1) for number in range(3)] == [0, None, None]
    assert rates.take(0, 1) is None
