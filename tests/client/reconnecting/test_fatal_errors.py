"""Which errors end a client."""

from __future__ import annotations

import pytest
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError, TimeoutError

from tcpapp.client.reconnecting.fatal_errors import is_fatal
from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.errors import GiveUp, InvalidAddress, InvalidOption, NotConnected, TimedOut


@pytest.mark.parametrize(
    "error",
    [
        GiveUp("the login was refused"),
        InvalidOption("no"),
        VerificationError(errors=[]),
        TLSError([("SSL routines", "", "certificate verify failed")]),
        TLSError([("SSL routines", "", "tlsv1 alert unknown ca")]),
        TLSError([("SSL routines", "", "tlsv13 alert certificate required")]),
    ],
)
def test_errors_that_only_people_can_mend_are_fatal(error: Exception) -> None:
    """An untrusted certificate, a refused login, and an invalid option are fatal."""
    assert is_fatal(error)


@pytest.mark.parametrize(
    "error",
    [
        InvalidAddress("a certificate that is being renewed"),
        ConnectionRefusedError(),
        DNSLookupError(),
        TimeoutError(),
        ConnectError(),
        TimedOut("prepare", 10),
        NotConnected("lost", CloseReason(EndedBy.NETWORK, "lost", "lost")),
        TLSError([("SSL routines", "", "unexpected eof while reading")]),
        ValueError("the certificate of somebody else's library"),
    ],
)
def test_errors_that_can_be_over_in_a_moment_are_not_fatal(error: Exception) -> None:
    """A refused connection, an unknown host, a timeout, and a half-written certificate are not fatal."""
    assert not is_fatal(error)
