"""The checks of the contract find transports that break it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tcpapp.testing.buffered import BufferedTransport
from tcpapp.testing.contract import CHECKS, Broken, Carrier, End, Planted, applies, hold, name_of
from tcpapp.testing.contract.fakes import Wires
from tcpapp.testing.pipe import Pipe
from tcpapp.testing.pipe_socket import PipeSocket

BY_NAME = {name_of(check): check for check in CHECKS}


def broken(carrier: Carrier, check: Any) -> str:
    """Return the error that `check` finds in `carrier`."""
    results: list[Any] = []
    ensureDeferred(hold(carrier, check)).addBoth(results.append)
    [found] = results
    assert isinstance(found, Failure), f"{name_of(check)} finds no fault"
    return str(found.check(Broken, AttributeError, RuntimeError) and found.value)


def test_every_check_has_a_name_and_a_promise() -> None:
    """Each check has a docstring, and a name of its own."""
    assert len(BY_NAME) == len(CHECKS)
    assert all(check.__doc__ for check in CHECKS)


def test_a_check_that_does_not_apply_is_not_made() -> None:
    """A check of half-close is not run on a carrier without half-close."""
    carrier = Wires()
    carrier.half_close = False
    check = BY_NAME["half_close_by_either"]
    assert applies(Wires(), check)
    assert not applies(carrier, check)
    ensureDeferred(hold(carrier, check))


class Strings(Carrier):
    """A carrier of Twisted's `StringTransport`, unchanged."""

    async def connect(self, server: End, client: End) -> None:
        server.makeConnection(StringTransport())
        client.makeConnection(StringTransport())

    async def turn(self) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_a_string_transport_fails_all_checks_but_one(check: Any) -> None:
    """A `StringTransport` carries nothing, so it fails all checks except the refusal of a second producer."""
    if name_of(check) != "one_producer_at_a_time":
        assert broken(Strings(), check)


def losing_again(transport: BufferedTransport, reason: Failure) -> None:
    """Call the protocol's `connectionLost` twice."""
    protocol = getattr(transport, "protocol", None)
    CONNECTION_LOST(transport, reason)
    if protocol is not None:
        protocol.connectionLost(reason)


CONNECTION_LOST = BufferedTransport.connectionLost
FAULTS: dict[str, tuple[type, str, Any, str]] = {
    "told twice": (BufferedTransport, "connectionLost", losing_again, "lose_connection_flushes"),
    "lost inside the call": (
        BufferedTransport,
        "loseConnection",
        lambda self: self.connectionLost(Failure(ConnectionDone())),
        "lose_connection_flushes",
    ),
    "an end where a reset is due": (Pipe, "reset", Pipe.end, "abort_cuts"),
    "abort flushes": (BufferedTransport, "abortConnection", BufferedTransport.loseConnection, "abort_cuts"),
    "reading is not paused": (BufferedTransport, "pauseProducing", lambda self: None, "pauses_reading"),
    "no room is ever missing": (
        BufferedTransport,
        "_isSendBufferFull",
        lambda self: False,
        "pauses_a_push_producer",
    ),
    "text is taken": (BufferedTransport, "write", lambda self, data: None, "refuses_text"),
    "producers replace each other": (
        BufferedTransport,
        "registerProducer",
        lambda self, producer, streaming: None,
        "one_producer_at_a_time",
    ),
    "boundless": (Pipe, "capacity", property(lambda self: 1 << 40, lambda *_: None), "a_slow_reader_holds_the_writer"),
    "bytes are lost": (PipeSocket, "recv", lambda self, most: self.incoming.read(most)[1:], "delivers_in_order"),
    "abort sends the rest": (
        BufferedTransport,
        "abortConnection",
        lambda self: (self.doWrite(), BufferedTransport.loseConnection(self)),
        "abort_cuts",
    ),
}


@pytest.mark.parametrize(("kind", "name", "fault", "check"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found(
    kind: type, name: str, fault: Any, check: str, monkeypatch: pytest.MonkeyPatch, logged_errors: Any
) -> None:
    """Each check passes on a `Wire`, and finds the fault that is planted into it."""
    ensureDeferred(hold(Wires(), BY_NAME[check]))
    monkeypatch.setattr(kind, name, fault, raising=False)  # its objects have the attribute, or the class does
    assert broken(Wires(), BY_NAME[check])
    logged_errors.take()


def test_an_abort_that_sends_the_unsent_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of aborts also fails when the reasons are right, but unsent bytes arrive."""
    abort = BufferedTransport.abortConnection

    def send_all_and_abort(transport: BufferedTransport) -> None:
        while transport.doWrite() is None and transport.wants_to_write:
            pass
        abort(transport)

    monkeypatch.setattr(BufferedTransport, "abortConnection", send_all_and_abort)
    assert "bytes that were unsent at the abort were sent" in broken(Wires(capacity=10_000_000), BY_NAME["abort_cuts"])


def test_an_end_notes_events_inside_a_call() -> None:
    """`End` notes which events come inside a call, so that a check can tell them from later events."""
    end = End()
    with end.calling():
        end.makeConnection(StringTransport())
    end.dataReceived(b"x")
    assert end.notes == ["made inside a call", "data"]


def test_a_planted_error_has_a_type_of_its_own() -> None:
    """A protocol that a check lets fail raises `Planted`, so that a test can take this error alone from the log."""
    end = End()
    end.makeConnection(StringTransport())
    end.fails = True
    with pytest.raises(Planted):
        end.dataReceived(b"x")


@pytest.mark.parametrize(
    "call", [lambda c: c.connect(End(), End()), Carrier.turn, Carrier.close], ids=["connect", "turn", "close"]
)
def test_the_base_class_of_carriers_is_abstract(call: Any) -> None:
    """The base class `Carrier` connects nothing: its methods raise `NotImplementedError`."""
    results: list[Any] = []
    ensureDeferred(call(Carrier())).addErrback(lambda failure: results.append(failure.type))
    assert results == [NotImplementedError]
