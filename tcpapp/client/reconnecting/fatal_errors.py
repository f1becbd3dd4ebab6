"""
Fatal errors: they end a client at once, because another attempt cannot succeed. After other errors it tries again.
"""

from __future__ import annotations

from tcpapp.errors import GiveUp, InvalidFraming, InvalidOption

__all__ = ["is_fatal"]

OURS = (GiveUp, InvalidFraming, InvalidOption)
"""Errors of tcpapp that only a change of the program can fix."""

OF_CERTIFICATES = ("certificate", "unknown ca", "unrecognized name")
"""
Parts of OpenSSL's texts about a certificate that is not trusted, of our side or the peer's, also in alerts (RFC 8446,
section 6.2).
"""


def is_fatal(error: BaseException) -> bool:
    """
    Return whether a client that could not connect because of `error` must stop.

    Only people can fix a certificate that one side does not trust, because of its name, its age or its authority. The
    same is true of the errors for which ``prepare`` raises `GiveUp`. All other errors can be over in a moment: no
    server listens, a name is not found, a network is down.

    `InvalidAddress` is not fatal either: addresses are checked when the client is made, so later errors are about files
    of certificates, which are possibly being renewed.
    """
    if isinstance(error, OURS):
        return True
    module = type(error).__module__.partition(".")[0]
    if module == "service_identity":
        return True
    return module == "OpenSSL" and any(each in str(error).lower() for each in OF_CERTIFICATES)
