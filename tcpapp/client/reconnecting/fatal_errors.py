"""Which errors end a client at once, because another attempt cannot succeed, and after which it tries again."""

from __future__ import annotations

from tcpapp.errors import GiveUp, InvalidFraming, InvalidOption

__all__ = ["is_fatal"]

OURS = (GiveUp, InvalidFraming, InvalidOption)
"""Errors of tcpapp that only a change of the program can fix."""

OF_CERTIFICATES = ("certificate", "unknown ca", "unrecognized name")
"""
OpenSSL's texts for a certificate, ours or the peer's, that is not trusted; in alerts, too (RFC 8446, section 6.2).
"""


def is_fatal(error: BaseException) -> bool:
    """
    Whether a client that could not connect because of `error` must stop.

    Only people can fix a certificate that either side does not trust, because of another name, its age or an unknown
    authority. The same is true of the errors for which ``prepare`` raises `GiveUp`. All other errors can be over in a
    moment: nobody listens, a name is not found, a network is down.

    `InvalidAddress` is such an error, too. Addresses are checked when the client is made. Later errors are about files
    of certificates, which are being renewed.
    """
    if isinstance(error, OURS):
        return True
    module = type(error).__module__.partition(".")[0]
    if module == "service_identity":
        return True
    return module == "OpenSSL" and any(each in str(error).lower() for each in OF_CERTIFICATES)
