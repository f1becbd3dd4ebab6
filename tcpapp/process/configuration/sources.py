"""
Sources of options: the options file, the environment, and the command line. Later ones take precedence.

An options file is TOML. Each option has its name, with ``-`` or ``_``. Numbers are in the tables ``[limits]`` and
``[timeouts]`` and policies in ``[policies]``, or all of them outside any table. A repeatable option takes an array, and
an on/off option takes true or false.

In the environment, an option is a prefix and its name in capitals with ``_``. Spaces separate several values.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tcpapp.limits.renamed import new_name
from tcpapp.process.configuration.options import OPTIONS, WORDS, Option
from tcpapp.spec import nearest, suggest

# Python 3.11 and later have tomllib; for older ones there is the package tomli
tomllib: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

__all__ = ["Given", "from_command_line", "from_environment", "from_file"]

LONGEST_FILE = 1024 * 1024
"""The most bytes of an options file. Our choice: a hundred times the length of a file that sets every option."""


@dataclass(frozen=True)
class Given:
    """The texts that were given for an option. `place` is the name of the option in its source."""

    texts: tuple[str, ...]
    place: str

    @property
    def text(self) -> str:
        """The text of an option with one value. If several texts were given, it is the last of them."""
        return self.texts[-1]


def from_command_line(values: Mapping[str, Any]) -> dict[str, Given]:
    """
    Return the options of the command line. `values` are the values of twisted.python.usage, with `None` for an option
    that was not given.
    """
    found = {}
    for name, option in OPTIONS.items():
        value = values.get(name)
        if value:
            found[name] = Given(tuple(value) if option.repeated else (value,), f"--{name}")
        elif value is not None and not option.repeated:
            found[name] = Given(("",), f"--{name}")
    return found


OTHERS = frozenset({"config", "accelerated"})
"""What the environment sets besides options: the file of the options, and whether compiled code is used."""


def from_environment(environ: Mapping[str, str], prefix: str) -> tuple[dict[str, Given], list[str]]:
    """
    Return the options in the environment, whose variables begin with `prefix`, and a warning for each variable that is
    probably misspelt.

    Other variables with this prefix are ignored: Kubernetes, for example, sets some for a service of the same name.
    """
    found, doubts = {}, []
    for variable in sorted(environ):
        if not variable.startswith(prefix):
            continue
        name = variable.removeprefix(prefix).lower().replace("_", "-")
        text = environ[variable]
        if name in OPTIONS:
            found[name] = Given(tuple(text.split()) if OPTIONS[name].repeated else (text,), variable)
        elif new := new_name(name.replace("-", "_")):
            doubts.append(f"{variable} is now {prefix}{new.upper()}")
        elif name not in OTHERS and (near := nearest(name, [*OPTIONS, "config"])):
            right = prefix + near.upper().replace("-", "_")
            doubts.append(f"{variable}: there is no such variable; did you mean {right!r}?")
    return found, doubts


def from_file(path: str, folder: str = "", by: str = "") -> tuple[dict[str, Given], list[str]]:
    """
    Return the options in the file at `path`, and a line for each error in the file.

    The path is relative to `folder` (by default, the current directory). `by` names the option or the variable that
    gave the path.
    """
    try:
        content = _read(Path(folder, path))
        table = tomllib.loads(content)
    except OSError as error:
        return {}, [f"{by and f'{by}: '}{path}: {error.strerror or error}"]
    except ValueError as error:  # for bytes that are not UTF-8, and for TOML's own errors
        return {}, [f"{path}: {error}"]
    found: dict[str, Given] = {}
    problems: list[str] = []
    for key, option, value in _entries(path, table, problems):
        place = f"{path}: {key}"
        texts = _texts(value, option)
        if texts is None:
            takes = "a text, or an array of texts" if option.repeated else "a text or a number"
            takes = "true or false" if option.switched else takes
            problems.append(f"{place}: takes {takes}, not {_kind(value)}")
        elif option.name in found:
            problems.append(f"{place}: {option.name} is given twice; give it once")
        else:
            found[option.name] = Given(texts, place)
    return found, problems


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(LONGEST_FILE + 1)
    if len(content) > LONGEST_FILE:
        raise OSError(None, f"it is longer than {LONGEST_FILE} bytes, the most that an options file can have")
    return content.decode("utf-8-sig")  # some editors on Windows write a byte order mark first


def _entries(path: str, table: dict[str, Any], problems: list[str]) -> Iterable[tuple[str, Option, Any]]:
    sections = sorted({each.section for each in OPTIONS.values() if each.section})
    for key, value in table.items():
        if isinstance(value, dict):
            if key not in sections:
                near = suggest(key, sections)
                problems.append(f"{path}: there is no table [{key}]; there are {', '.join(sections)}{near}")
                continue
            for inner, each in value.items():
                yield from _entry(path, f"{key}.{inner}", inner, each, key, problems)
        else:
            yield from _entry(path, key, key, value, None, problems)


def _entry(
    path: str, key: str, name: str, value: Any, section: str | None, problems: list[str]
) -> Iterable[tuple[str, Option, Any]]:
    known = [each.name for each in OPTIONS.values() if section in (None, each.section)]
    option = OPTIONS.get(name.replace("_", "-"))
    if new := new_name(name):
        problems.append(f"{path}: {key} is now {new}")
    elif option is None or option.name not in known:
        problems.append(f"{path}: {key}: there is no such option{suggest(name.replace('_', '-'), known)}")
    else:
        yield key, option, value


def _texts(value: Any, option: Option) -> tuple[str, ...] | None:
    """Return `value` as the texts that a command line would have; `None` for a value that no option takes."""
    if option.repeated and isinstance(value, list):
        return tuple(value) if all(isinstance(each, str) for each in value) else None
    if option.switched and isinstance(value, bool):
        return (WORDS[value],)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return (str(value),)


def _kind(value: Any) -> str:
    names = {bool: "true or false", dict: "a table", list: "an array"}
    return names.get(type(value), f"a {type(value).__name__}")
