"""Every option: its name on the command line, its default, its meaning, and its place in an options file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, dataclass, fields
from typing import Any

from tcpapp import framing
from tcpapp.apps import BUILT_IN
from tcpapp.connection.concurrency import AS_READY, IN_ORDER
from tcpapp.limits import Limits, Policies, Timeouts
from tcpapp.process.configuration import readers

__all__ = [
    "GROUPS",
    "OPTIONS",
    "SWITCH",
    "WORDS",
    "Option",
    "is_off",
    "option_of",
    "set_by_options",
]

WORDS = {True: "on", False: "off"}
SWITCH = {word: value for value, word in WORDS.items()}
"""The words that an on/off option takes, and their values."""


NOTHING_GIVEN = ("all", "none", "this machine")
"""The words that ``--help`` shows as the default of a repeatable option that has no text by default."""


@dataclass(frozen=True)
class Option:
    """
    One option. `section` is its table in an options file, or the empty text.

    - `reads`: the function that turns its texts into its value; options above it in `GROUPS` are read before it. It is
      `None` for a number or a policy, which `field` describes.
    - `sets`: the argument of `MessageServerFactory` that its value becomes, if there is one.
    - `repeated`: whether it can be given several times, for several values.
    - `fixed`: whether a running process cannot change it.
    - `last`: whether it is read after all other options, because reading it runs the user's code.
    """

    name: str
    default: str
    meaning: str
    section: str = ""
    reads: readers.Read | None = None
    sets: str = ""
    repeated: bool = False
    fixed: bool = False
    last: bool = False
    field: Field[Any] | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """Its texts when it is not given."""
        return () if self.default in NOTHING_GIVEN and self.repeated else (self.default,)

    @property
    def switched(self) -> bool:
        """Whether it is an on/off option."""
        return self.field is not None and isinstance(self.field.default, bool)


def option_of(field: Field[Any]) -> str:
    """Return the name of a number or a policy on the command line."""
    return field.name.replace("_", "-")


def is_off(field: Field[Any], value: float) -> bool:
    """Return whether `value` switches off a limit that is on by default."""
    return not value and field.default != 0 and field.metadata["zero"].startswith(("no ", "as the system"))


def set_by_options(kind: type[Any]) -> tuple[Field[Any], ...]:
    """
    Return the fields of `Limits`, `Timeouts` or `Policies` that have an option: all that have a meaning for a server.
    """
    return tuple(each for each in fields(kind) if each.metadata.get("side") != "client")


def _numbers(kind: type[Any], section: str) -> tuple[Option, ...]:
    return tuple(_number(each, section) for each in set_by_options(kind))


def _number(field: Field[Any], section: str) -> Option:
    zero = field.metadata["zero"]
    meaning = f"{field.metadata['what']} (0: {zero})" if zero else str(field.metadata["what"])
    fixed = field.metadata.get("fixed", False)
    return Option(option_of(field), f"{field.default:.15g}", meaning, section, fixed=fixed, field=field)


def _policy(field: Field[Any]) -> Option:
    default = WORDS[field.default] if isinstance(field.default, bool) else str(field.default)
    return Option(option_of(field), default, field.metadata["what"], "policies", field=field)


GROUPS: dict[str, tuple[Option, ...]] = {
    "Service": (
        Option(
            "listen",
            readers.DEFAULT_ENDPOINT,
            "Listen on this Twisted endpoint; can be repeated",
            reads=readers.endpoints,
            repeated=True,
            fixed=True,
        ),
        Option(
            "app",
            "echo",
            f"Serve this app: {', '.join(sorted(BUILT_IN))}, or module:name",
            reads=readers.app,
            sets="app",
            fixed=True,
            last=True,
        ),
        Option(
            "framing",
            "line",
            f"Split the byte stream into messages by this framing: {', '.join(framing.SPECS)}, or module:name; "
            "some apps bring theirs",
            reads=readers.framing_of,
            sets="framing",
            fixed=True,
        ),
        Option(
            "codec",
            "none",
            "Decode and encode messages as text, json or msgpack; none: bytes",
            reads=readers.codec,
            sets="codec",
            fixed=True,
        ),
        Option(
            "heartbeat-message",
            "none",
            "Send this message when the peer has sent no data for heartbeat seconds, up to heartbeats_missed times",
            reads=readers.heartbeat,
            sets="heartbeat",
            fixed=True,
        ),
        Option(
            "concurrency",
            "1",
            "Let the app work on this many messages of one connection at once",
            reads=readers.concurrency,
            sets="concurrency",
            fixed=True,
            last=True,
        ),
        Option(
            "replies",
            IN_ORDER,
            f"With a concurrency over 1: send replies in the order of the messages ({IN_ORDER}), or each as soon as it "
            f"is there ({AS_READY})",
            reads=readers.replies,
            sets="replies",
            fixed=True,
        ),
    ),
    "Access": (
        Option(
            "allow",
            "all",
            "Allow only this network (192.0.2.0/24, 2001:db8::/32) or address; can be repeated",
            reads=readers.network_list,
            repeated=True,
        ),
        Option(
            "proxies",
            "this machine",
            "Accept PROXY headers only from this address or network (--listen=haproxy:...); can be repeated",
            reads=readers.proxies,
            sets="proxies",
            repeated=True,
        ),
        Option(
            "deny",
            "none",
            "Reject this network or address, even if it is allowed; can be repeated",
            reads=readers.denied,
            sets="networks",
            repeated=True,
        ),
    ),
    "Limits": _numbers(Limits, "limits"),
    "Policies": tuple(map(_policy, set_by_options(Policies))),
    "Timeouts, in seconds": _numbers(Timeouts, "timeouts"),
}
"""Every option that has a value, in the groups of ``--help``."""


def _all() -> Iterator[Option]:
    for group in GROUPS.values():
        yield from group


OPTIONS = {each.name: each for each in _all()}
"""All options by name."""
