"""
Names of hosts, as they are written, and in the one form in which they are looked up, asked for and compared.

A name beyond ASCII is mapped as UTS 46 says: small letters, one kind of dot. Then each of its labels is encoded by
IDNA 2008 (RFC 5891), as Twisted has it; that takes the package idna, which comes with ``pip install 'tcpapp[tls]'``.
Where that is not there, or refuses the name (a symbol, or ``_`` beside letters beyond ASCII), Python's own codec does
it, by IDNA 2003 (RFC 3490). A name in ASCII may have a ``_``, for there are such hosts.
"""

from __future__ import annotations

import ipaddress
import re

__all__ = ["TAKES", "comparable", "is_host", "is_ip", "to_ascii"]

TAKES = "an IP address or a host name (RFC 1123; not ending in a number)"
"""What a host must be, in words."""

LONGEST = 253
"""Characters of a name, without a dot at its end (RFC 1035, section 2.3.4). To encode a longer one takes long."""

_LABEL = re.compile("[A-Za-z0-9_-]{1,63}")
_NUMBER = re.compile("[0-9]+|0[xX][0-9A-Fa-f]*")
_ADDRESS = re.compile("[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?")


def is_ip(value: str) -> bool:
    """Whether `value` is an IP address; one of IPv6 may have a zone: ``fe80::1%eth0`` (RFC 4007)."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return _ADDRESS.fullmatch(value) is not None


def is_host(value: str) -> bool:
    """Whether `value` is an IP address or a host name (RFC 1123, and ``_``)."""
    if is_ip(value):
        return True
    try:
        name = to_ascii(value).removesuffix(".")
    except UnicodeError:
        return False
    *_, last = labels = name.split(".")
    # a name that ends in a number is read as an IPv4 address (WHATWG URL, "ends in a number"), and this is none
    return len(name) <= LONGEST and all(map(_LABEL.fullmatch, labels)) and not _NUMBER.fullmatch(last)


def to_ascii(name: str) -> str:
    """
    `name` as DNS has it: labels beyond ASCII as ``xn--…``. A name in ASCII, and a dot at the end, are left as they are.

    Raises `UnicodeError` for a name that cannot be a host's.
    """
    if name.isascii():
        return name
    if len(name) > LONGEST + 1:
        raise UnicodeError(f"a name of {len(name)} characters")
    try:
        return _by_idna(name)
    except (ImportError, UnicodeError):
        made = name.encode("idna").decode()
        if not all(map(_LABEL.fullmatch, made.removesuffix(".").split("."))):
            raise UnicodeError(f"{made!r} is no host's name") from None
        return made


def comparable(name: str) -> str:
    """
    A host name, or an IP address, as it is compared and asked for; the empty text for a name that cannot be a host's.

    It is in small letters, as ASCII, and without a dot at its end (RFC 6125, section 6.4; RFC 6066, section 3).
    """
    if len(name) > LONGEST + 1:
        return ""
    try:
        found = to_ascii(name)
    except UnicodeError:
        return ""
    return found.lower().removesuffix(".")


def _by_idna(name: str) -> str:
    """By the package; raises `ImportError` without it, and a `UnicodeError` for what it refuses."""
    import idna  # late: the core does without it

    mapped = idna.uts46_remap(name, std3_rules=False)
    return ".".join(each if each.isascii() else idna.encode(each).decode() for each in mapped.split("."))
