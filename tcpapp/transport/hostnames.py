"""
Host names: from the form in which people write them to one form for look-ups, requests and comparisons.

A name with letters outside ASCII is mapped by UTS 46: small letters, one kind of dot. Then each of its labels is
encoded by IDNA 2008 (RFC 5891), as in Twisted. That needs the package idna, which ``pip install 'tcpapp[tls]'``
installs. If idna is missing or refuses the name (a symbol, or ``_`` in a name with letters outside ASCII), Python's own
codec encodes it by IDNA 2003 (RFC 3490). A name in ASCII can have a ``_``, because such hosts exist.
"""

from __future__ import annotations

import ipaddress
import re

__all__ = ["TAKES", "comparable", "is_host", "is_ip", "to_ascii"]

TAKES = "an IP address or a host name (RFC 1123; not ending in a number)"
"""The words that say what a host must be."""

LONGEST = 253
"""The most characters of a name, without a dot at its end (RFC 1035, section 2.3.4). Encoding more takes long."""

_LABEL = re.compile("[A-Za-z0-9_-]{1,63}")
_NUMBER = re.compile("[0-9]+|0[xX][0-9A-Fa-f]*")
_ADDRESS = re.compile("[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?")


def is_ip(value: str) -> bool:
    """Return whether `value` is an IP address. An IPv6 address can have a zone: ``fe80::1%eth0`` (RFC 4007)."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return _ADDRESS.fullmatch(value) is not None


def is_host(value: str) -> bool:
    """Return whether `value` is an IP address or a host name (RFC 1123, and ``_``)."""
    if is_ip(value):
        return True
    try:
        name = to_ascii(value).removesuffix(".")
    except UnicodeError:
        return False
    *_, last = labels = name.split(".")
    # many programs read a name that ends in a number as an IPv4 address (WHATWG URL, "ends in a number")
    return len(name) <= LONGEST and all(map(_LABEL.fullmatch, labels)) and not _NUMBER.fullmatch(last)


def to_ascii(name: str) -> str:
    """
    Return `name` in the form of DNS: labels with letters outside ASCII become ``xn--…``. A name in ASCII is unchanged,
    and so is a dot at the end.

    Raises `UnicodeError` for a name that no host can have.
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
    Return a host name or an IP address in the form for comparisons and requests. For an impossible name, return the
    empty text.

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
    """
    Encode `name` by the package idna. Raises `ImportError` without it, and `UnicodeError` for a name that it refuses.
    """
    import idna  # late: the core works without it

    mapped = idna.uts46_remap(name, std3_rules=False)
    return ".".join(each if each.isascii() else idna.encode(each).decode() for each in mapped.split("."))
