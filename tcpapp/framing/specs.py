"""
Framings by their specs: ``line``, ``int32:max=65536``, ``delimited:by=\\x03``, ``mine:memcached:side=client`` …

A framing's class says the name of its spec (`_name`), and those with some arguments given (`_presets`). Its options are
the arguments of its ``__init__``, read by their types. A framing in a module of the user's own has the spec
``module:name``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

from tcpapp.errors import InvalidFraming
from tcpapp.framing.base import Framing
from tcpapp.framing.parsers import Parser
from tcpapp.spec import InvalidSpec, shown, split, suggest
from tcpapp.target import InvalidTarget, load

__all__ = ["add", "from_string", "named"]

_NUMBER = re.compile(rb"-?[0-9]{1,19}")
_TARGET = re.compile(r"(?P<module>[\w.]+):(?P<path>[\w.]+)(?P<options>:.*)?", re.DOTALL)
"""A spec of a framing in a module. What follows a name of ours has a ``=`` in it, and is no such name."""


def _number(key: str, value: bytes) -> int:
    if not _NUMBER.fullmatch(value):
        raise InvalidFraming(f"{key}={_shown(value)}: takes a whole number, in digits")
    return int(value)


def _bytes(_key: str, value: bytes) -> bytes:
    return value


def _text(key: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidFraming(f"{key}={_shown(value)}: takes text") from None


def _choice(*choices: Any) -> Callable[[str, bytes], Any]:
    words = {str(each): each for each in choices}

    def choose(key: str, value: bytes) -> Any:
        word = value.decode("utf-8", "replace")
        if word not in words:
            raise InvalidFraming(f"{key}={_shown(value)}: takes {' or '.join(words)}{suggest(word, words)}")
        return words[word]

    return choose


def _shown(value: bytes) -> str:
    return repr(value.decode("utf-8", "backslashreplace"))


Reader = Callable[[str, bytes], Any]

_READERS: dict[Any, Reader] = {int: _number, bytes: _bytes, str: _text}

_COMMON: dict[str, Reader] = {"max": _number, "oversize": _choice("close", "skip")}
"""The options that all framings have."""

_FORMS: dict[str, tuple[type[Framing], tuple[Any, ...]]] = {}
"""The class that each name stands for, and its arguments that are given with the name."""


def named(values: Iterable[object]) -> tuple[type[Framing], ...]:
    """The framings among `values` that have a spec."""
    return tuple(each for each in values if _is_framing(each) and each._name)


def _is_framing(value: object) -> TypeGuard[type[Framing]]:
    return isinstance(value, type) and issubclass(value, Framing)


def add(framings: Iterable[type[Framing]]) -> tuple[str, ...]:
    """Have `from_string` read the specs of these; returns the names that a spec can begin with."""
    for kind in framings:
        _FORMS.update({name: (kind, given) for name, given in kind._presets.items()})
        _FORMS[kind._name] = (kind, ())
    return tuple(_FORMS)


@lru_cache(maxsize=64)
def _options(name: str) -> tuple[dict[str, Reader], tuple[str, ...]]:
    """The options of a spec that begins with `name`, with their readers; and those of them that must be there."""
    kind, given = _FORMS[name]
    return _options_of(kind, given=bool(given))


def _options_of(kind: type[Framing], *, given: bool) -> tuple[dict[str, Reader], tuple[str, ...]]:
    """The same for a class. Where some arguments are `given`, the options are the others, which have names only."""
    hints = get_type_hints(kind._function if issubclass(kind, Parser) else kind.__init__)
    options = list(inspect.signature(kind).parameters.values())
    if given:
        options = [each for each in options if each.kind is each.KEYWORD_ONLY]
    own = [each for each in options if each.name not in _COMMON]
    named = {each.name: (f"{kind.__name__}({each.name}=…)", hints.get(each.name, type(each.default))) for each in own}
    readers = {name: _reader(option, hint) for name, (option, hint) in named.items()}
    return readers | _COMMON, tuple(each.name for each in options if each.default is each.empty)


def _reader(option: str, hint: Any) -> Reader:
    """What reads an option of this type."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
    if get_origin(hint) is Literal:
        return _choice(*get_args(hint))
    if hint not in _READERS:
        raise TypeError(f"{option}: a spec has int, bytes, str and Literal; write its type so, not as {hint!r}")
    return _READERS[hint]


def from_string(spec: str | Framing, folder: str | None = None) -> Framing:
    """
    The framing that `spec` describes; a framing is returned as it is.

    A spec is a name and options, ``name:key=value:key=value``, with escapes as in `tcpapp.spec`. All framings take
    ``max`` (bytes) and ``oversize`` (``close`` or ``skip``). The `str` of a framing makes an equal one. Raises
    `InvalidFraming`, which names the option, what it takes, and a similar name.

    ``module:name`` is a framing in a module, with the same options: a class such as `parser` makes, or a framing. The
    module is imported, also from `folder` (``""``: the current directory). A name in `SPECS` comes before a module.
    """
    if isinstance(spec, Framing):
        return spec
    if not isinstance(spec, str):
        made = f"{spec.__name__}(…)" if isinstance(spec, type) and issubclass(spec, Framing) else "Lines()"
        hint = _undecorated(spec)
        raise InvalidFraming(f"{spec!r}: a framing is a spec such as 'line', or an object such as {made}{hint}")
    target = _TARGET.fullmatch(spec)
    try:
        if target is not None and target["module"] not in _FORMS:
            return _imported(target, folder)
        name, given = split(spec)
    except (InvalidSpec, UnicodeError) as error:
        raise InvalidFraming(str(error)) from None
    if name not in _FORMS:
        hint = suggest(name, _FORMS) or "; one of your own is module:name"
        raise InvalidFraming(f"{name!r} is no framing; there are {', '.join(_FORMS)}{hint}")
    try:
        return _made(name, given)
    except InvalidFraming as error:
        raise InvalidFraming(f"{name}: {error}") from None


def _undecorated(found: object) -> str:
    """The hint that a generator, or its function, is no framing by itself."""
    is_one = inspect.isgeneratorfunction(found) or inspect.isgenerator(found)
    return "; write @parser above its function" if is_one else ""


def _imported(target: re.Match[str], folder: str | None) -> Framing:
    """The framing that is named by its module."""
    where = f"{target['module']}:{target['path']}"
    try:
        given = split(f"{target['path']}{target['options'] or ''}")[1]
        found = load(target["module"], target["path"], folder)
        if _is_framing(found):
            return _call(found, (), given, _options_of(found, given=False))
        if not isinstance(found, Framing):
            raise InvalidFraming(f"takes a framing, not {found!r:.80}{_undecorated(found)}")
        if given:
            raise InvalidFraming(f"{shown(next(iter(given)))}= cannot be given: it is a framing that is made already")
    except (InvalidSpec, InvalidTarget, InvalidFraming, TypeError) as error:
        raise InvalidFraming(f"{where}: {error}") from error
    return found


def _made(name: str, given: dict[str, bytes]) -> Framing:
    kind, arguments = _FORMS[name]
    return _call(kind, arguments, given, _options(name))


def _call(
    kind: type[Framing],
    arguments: tuple[Any, ...],
    given: dict[str, bytes],
    options: tuple[dict[str, Reader], tuple[str, ...]],
) -> Framing:
    readers, required = options
    for key in given:
        if key not in readers:
            raise InvalidFraming(
                f"{shown(key)}= is no option of it; it takes {', '.join(readers)}{suggest(key, readers)}"
            )
    for key in required:
        if key not in given:
            raise InvalidFraming(f"{key}= is missing; it takes {', '.join(readers)}")
    return kind(*arguments, **{key: readers[key](key, value) for key, value in given.items()})
