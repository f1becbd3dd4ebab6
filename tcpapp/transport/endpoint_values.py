"""The values in endpoint strings: their checks, and making paths absolute."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from tcpapp.transport.hostnames import is_host, is_ip

__all__ = ["ADDRESSES", "BACKLOG", "CHECKS", "PATHS", "absolute", "lacks_interface"]

BACKLOG = "1024"
"""
Clients that can wait to be accepted: ranch's backlog. Twisted's 50 is soon full when many clients reconnect at once.
"""

_LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""The most bytes in a socket's path: with a NUL at the end, 108 on Linux (unix(7)) and 104 on BSD and macOS."""


def lacks_interface(value: str) -> bool:
    """
    Return whether `value` is a link-local IPv6 address without an interface. Each interface can have that address (RFC
    4007).
    """
    return is_ip(value) and "%" not in value and ":" in value and ipaddress.ip_address(value).is_link_local


def _is_socket(value: str) -> bool:
    try:
        path = os.fsencode(value)
    except UnicodeEncodeError:
        return False
    # a leading NUL makes the name abstract (unix(7)); in endpoint strings an @ stands for it
    return 0 < len(path) <= _LONGEST_PATH and path not in (b"\0", b"@") and b"\0" not in path[1:]


def _is_readable(value: str) -> bool:
    return value != "" and Path(value).exists() and os.access(value, os.R_OK)


def _whole(least: int, most: int) -> Callable[[str], bool]:
    return lambda value: re.fullmatch("[0-9]{1,10}", value) is not None and least <= int(value) <= most


def _like(pattern: str) -> Callable[[str], bool]:
    return lambda value: re.fullmatch(pattern, value, re.DOTALL) is not None


CHECKS: dict[str, tuple[Callable[[str], bool], str]] = {
    "alpn": (_like("[!-+.-~-]{1,255}(,[!-+.-~-]{1,255})*"), "names of protocols, such as h2,http/1.1"),
    "backlog": (_whole(0, 2**31 - 1), "a whole number"),
    "clients": (_like("required|wished"), "required or wished"),
    "directory": (lambda value: _is_readable(value) and Path(value).is_dir(), "a readable directory"),
    "domain": (_like("INET|INET6|UNIX"), "INET, INET6 or UNIX"),
    "file": (lambda value: _is_readable(value) and Path(value).is_file(), "a readable file"),
    "host": (is_host, r"an IP address (IPv6: \:\:1, no brackets) or a host name (RFC 1123; not ending in a number)"),
    "interface": (lambda value: not value or is_ip(value), r"an IP address (IPv6: \:\:1), or nothing for all"),
    "ip": (is_ip, r"an IP address (IPv6: \:\:1)"),
    "listening": (_whole(0, 65535), "a number from 0 (any free port) to 65535"),
    "lockfile": (_like("[01]"), "0 or 1"),
    "minimum": (_like(r"1\.[23]"), "1.2 or 1.3"),
    "mode": (_like("[0-7]{1,4}"), "permissions in octal, such as 660"),
    "name": (_like(".+"), "a name"),
    "port": (_whole(1, 65535), "a number from 1 to 65535"),
    "socket": (_is_socket, f"a path of 1 to {_LONGEST_PATH} bytes, no NUL among them; or @name, abstract"),
    "roots": (
        lambda value: _is_readable(value) and not Path(value).is_socket(),
        "a readable file, or a directory of them",
    ),
    "timeout": (_whole(1, 2**31 - 1), "a whole number of seconds, 1 or more"),
    "watch": (_whole(0, 2**31 - 1), "a whole number of seconds (0: never)"),
}
"""The check of each value, and the words that say what it takes."""

ADDRESSES = ("host", "interface", "bindAddress")
"""The values that can be an address to listen on, to connect to, or to connect from."""
PATHS = {"directory", "file", "roots", "socket"}
"""The values that are paths."""


def absolute(value: str, folder: str) -> str:
    """
    Return a path, which is relative to `folder` (by default, the current directory), as an absolute path.

    The name of an abstract socket stays as it is, and so does the path of a socket that would become too long.
    """
    if not value or value.startswith(("/", "\0", "@")):
        return value
    try:
        found = str(Path(folder or Path.cwd()) / value)
    except OSError:  # the current directory has been removed
        return value
    return value if _is_socket(value) and not _is_socket(found) else found
