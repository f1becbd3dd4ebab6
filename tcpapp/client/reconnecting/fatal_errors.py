"""Which errors end a client at once, because to try again would be of no use, and which are tried again."""

from __future__ import annotations

from tcpapp.errors import GiveUp, InvalidFraming, InvalidOption

__all__ = ["is_fatal"]

OURS = (GiveUp, InvalidFraming, InvalidOption)
"""Errors that are ours, and that nothing but another program mends."""

OF_CERTIFICATES = ("certificate", "unknown ca", "unrecognized name")
"""What OpenSSL says where a certificate, ours or theirs, is not believed; in alerts, too (RFC 8446, section 6.2)."""


def is_fatal(error: BaseException) -> bool:
    """
    Whether a client that could not connect because of `error` is to stop.

    A certificate that is not believed, by either side, for another name, expired or of no known authority, is for
    people to mend, as is whatever ``prepare`` raised `GiveUp` for. All else (nobody listens, a name that is not found,
    a network that is down) may be over in a moment. So is `InvalidAddress`: addresses are checked where the client is
    made, and what is wrong with one later are files of certificates, which are being renewed.
    """
    if isinstance(error, OURS):
        return True
    module = type(error).__module__.partition(".")[0]
    if module == "service_identity":
        return True
    return module == "OpenSSL" and any(each in str(error).lower() for each in OF_CERTIFICATES)
