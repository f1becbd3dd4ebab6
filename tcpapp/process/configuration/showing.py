"""The pages for an operator: every option, the current values with their sources, and every limit with its reason."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping

from tcpapp.process.configuration.options import GROUPS, OPTIONS, Option, is_off
from tcpapp.process.configuration.sources import Given

__all__ = ["FLAGS", "config_page", "help_page", "limits_page", "switched_off"]

FLAGS = {
    "config": (
        "FILE",
        "Read options from a file (TOML). The environment overrides it, and the command line overrides both",
    ),
    "check": ("", "Check the whole configuration, print the result, and exit"),
    "show-config": ("", "Print the value and the source of every option, as an options file, and exit"),
    "show-limits": ("", "Print every limit and timeout with its unit and its reason, and exit"),
    "version": ("", "Print the versions of tcpapp and Twisted, and whether tcpapp is compiled"),
    "help": ("", "Print this page"),
}
"""The options that are no setting: the word for the value of each, and what it does."""


def help_page(longdesc: str) -> str:
    """Return the page that ``--help`` prints: options in groups, each with its default."""
    lines = [longdesc, ""]
    for title, options in GROUPS.items():
        lines.append(f"{title}:")
        for each in options:
            lines += _entry(f"--{each.name}=", f"{each.meaning} [default: {each.default}]")
        lines.append("")
    lines.append("Other:")
    for name, (takes, meaning) in FLAGS.items():
        lines += _entry(f"--{name}{'=' if takes else ''}", meaning)
    return "\n".join([*lines, ""])


def config_page(given: Mapping[str, Given]) -> str:
    """
    Return the page that ``--show-config`` prints: an options file with the same values, and the source of each value.
    """
    lines: list[str] = []
    tables: dict[str, list[str]] = {}
    for each in OPTIONS.values():
        line = _setting(each, given.get(each.name))
        (tables.setdefault(each.section, []) if each.section else lines).append(line)
    for section, entries in tables.items():
        lines += ["", f"[{section}]", *entries]
    return "\n".join(lines)


def limits_page(given: Mapping[str, Given]) -> str:
    """
    Return the page that ``--show-limits`` prints: each number, its unit, what it bounds, and the reason for its
    default.
    """
    lines: list[str] = []
    for title, options in GROUPS.items():
        numbers = [each for each in options if each.field is not None and each.section != "policies"]
        if numbers:
            lines.append(f"{title.partition(',')[0]}:")
        for each in numbers:
            lines += _limit(each, given.get(each.name))
    return "\n".join(lines)


def switched_off(given: Mapping[str, Given]) -> list[str]:
    """Return a line for each limit that is on by default and was switched off."""
    found = []
    for name, each in given.items():
        field = OPTIONS[name].field
        if field is not None and "zero" in field.metadata and is_off(field, float(each.text)):
            found.append(f"{each.place}=0: {field.metadata['zero']} ({field.metadata['what']})")
    return found


def _entry(option: str, meaning: str) -> list[str]:
    indent = " " * 24
    text = textwrap.wrap(meaning, 76, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    if len(option) > 21:
        return [f"  {option}", *text]
    return [f"  {option:<21} {text[0].strip()}", *text[1:]]


def _setting(option: Option, given: Given | None) -> str:
    texts = option.texts if given is None else given.texts
    place = "default" if given is None else given.place.partition(": ")[0]
    if option.repeated:
        value = "[" + ", ".join(json.dumps(each) for each in texts) + "]"
    elif option.field is not None and option.section != "policies":
        value = given.text if given is not None else option.default
    else:
        value = json.dumps(given.text if given is not None else option.default)
    return f"{option.name} = {value}  # {place}"


def _limit(option: Option, given: Given | None) -> list[str]:
    assert option.field is not None
    about = option.field.metadata
    text = given.text if given is not None else option.default
    off = ", which is OFF" if is_off(option.field, float(text)) else ""
    place = "the default" if given is None else f"by {given.place}; the default is {option.default}"
    head = f"{text} {about['unit']}{off} ({place})"
    return [
        *_entry(f"--{option.name}", head),
        *_entry("", option.meaning),
        *_entry("", f"why {option.default}: {about['why']}"),
    ]
