"""Turns the given texts of options into a configuration, or into a list of all errors in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.interfaces import IStreamServerEndpoint

from tcpapp.apps import FRAMINGS
from tcpapp.errors import InvalidOption, TcpAppError
from tcpapp.limits import Limits, Policies, Timeouts
from tcpapp.process.configuration.options import OPTIONS, SWITCH, Option, option_of, set_by_options
from tcpapp.process.configuration.problems import Problems
from tcpapp.process.configuration.readers import Around
from tcpapp.process.configuration.sources import Given

__all__ = ["Checked", "check"]

Numbers = TypeVar("Numbers", Limits, Timeouts)


@dataclass(frozen=True)
class Checked:
    """
    A valid configuration. `given` has the texts of options, and `values` the value of each option.

    `arguments` are the arguments for the `MessageServerFactory`.
    """

    given: Mapping[str, Given]
    values: Mapping[str, Any]
    arguments: Mapping[str, Any]

    @property
    def endpoints(self) -> list[IStreamServerEndpoint]:
        """The endpoints to listen on."""
        return list(self.values["listen"])

    @property
    def troubles(self) -> list[str]:
        """A line for each invalid certificate file of a directory, where other files of it are valid."""
        return [line for each in self.endpoints for line in getattr(each, "troubles", ())]

    def place(self, name: str) -> str:
        """Return the name of an option as its source spells it; the empty text for an option that was not given."""
        return self.given[name].place if name in self.given else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the texts that were given for an option, or its default."""
        return self.given[name].texts if name in self.given else OPTIONS[name].texts


def check(given: Mapping[str, Given], reactor: Any, folder: str = "") -> Checked:
    """
    Check the texts of options, and return the configuration. Options that are not in `given` have their defaults.

    Paths are relative to `folder` (by default, the current directory), and apps are imported from there, too.
    Certificates are read and the app is imported; nothing is listened on. Raises `Problems`, which lists all errors;
    they are the caller's fault.
    """
    return _Check(_with_framing(given), reactor, folder).all()


def _with_framing(given: Mapping[str, Given]) -> Mapping[str, Given]:
    """The `given` texts, with the framing of an app that takes one framing only, unless another text is given."""
    app = given["app"].text if "app" in given else ""
    if app not in FRAMINGS or "framing" in given:
        return given
    return {**given, "framing": Given((FRAMINGS[app],), f"the app {app}")}


class _Check:
    """One check of a configuration, and the errors found by it."""

    def __init__(self, given: Mapping[str, Given], reactor: Any, folder: str) -> None:
        self.given = given
        self.problems: list[str] = []
        self.values: dict[str, Any] = {}
        self.around = Around(reactor, folder, self.values)

    def all(self) -> Checked:
        """Check all options, and return the configuration."""
        self.read([each for each in OPTIONS.values() if not each.last])
        wholes = {
            "limits": self.numbers(Limits, int),
            "timeouts": self.numbers(Timeouts, float),
            "policies": self.policies(),
        }
        self.read([each for each in OPTIONS.values() if each.last])
        self.check_framing()
        if self.problems:
            raise Problems(self.problems)
        arguments = {each.sets: self.values[name] for name, each in OPTIONS.items() if each.sets}
        return Checked(self.given, self.values, arguments | wholes)

    def read(self, options: list[Option]) -> None:
        """Read the options that are neither numbers nor policies."""
        for option in options:
            if option.reads is not None:
                with self.naming(option.name):
                    texts = self.given[option.name].texts if option.name in self.given else option.texts
                    self.values[option.name] = option.reads(texts, self.around)

    def check_framing(self) -> None:
        """Note an error for an app that takes one framing only, with another framing."""
        app, spec = self.text("app"), self.text("framing")
        if app in FRAMINGS and spec.partition(":")[0] != FRAMINGS[app]:
            self.problems.append(f"{self.place('framing')}={spec!r}: the app {app} takes the framing {FRAMINGS[app]}")

    def text(self, name: str) -> str:
        """Return the given text of an option, or its default."""
        return self.given[name].text if name in self.given else OPTIONS[name].default

    def place(self, name: str) -> str:
        """Return the name of an option in its source."""
        return self.given[name].place if name in self.given else f"--{name}"

    @contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Note an error that is raised inside, with the name of the option in its source before it."""
        try:
            yield
        except TcpAppError as error:
            self.problems.append(f"{self.place(name)}: {error}")
        except Problems as problems:
            self.problems += [f"{self.place(name)}: {text}" for text in problems.texts]

    def policies(self) -> Policies:
        """Read the policies."""
        chosen: dict[str, Any] = {}
        for field in set_by_options(Policies):
            option = OPTIONS[option_of(field)]
            text = self.text(option.name)
            if option.switched and text not in SWITCH:
                self.problems.append(f"{self.place(option.name)}={text!r}: takes {' or '.join(SWITCH)}")
                continue
            value: Any = SWITCH[text] if option.switched else text
            try:
                Policies(**{field.name: value})
                chosen[field.name] = value
            except InvalidOption as error:
                self.problems.append(self.renamed(str(error), Policies))
        return Policies(**chosen)

    def numbers(self, kind: type[Numbers], number: type[int | float]) -> Numbers:
        """Read the numbers of one kind. Each is checked by itself, then all together."""
        chosen: dict[str, Any] = {}
        for field in set_by_options(kind):
            text = self.text(option_of(field))
            try:
                value = number(text)
            except ValueError:
                takes = "a whole number" if number is int else "a number"
                place = self.place(option_of(field))
                self.problems.append(f"{place}={text!r}: takes {takes} of {field.metadata['unit']}")
                continue
            try:
                kind(**{field.name: value} | _with(field.name, value))
                chosen[field.name] = value
            except InvalidOption as error:
                self.problems.append(self.renamed(str(error), kind))
        try:
            return kind(**chosen)
        except InvalidOption as error:
            self.problems.append(self.renamed(str(error), kind))
            return kind()

    def renamed(self, text: str, kind: Any) -> str:
        """Return an error's text with the names of fields replaced by the names of their options."""
        for field in set_by_options(kind):
            option = option_of(field)
            # an error about two numbers can name a number that was not given, and has its default
            place = self.place(option) if option in self.given else f"the default of --{option}"
            text = re.sub(rf"\b{field.name}\b", place.replace("\\", r"\\"), text)
        return text


def _with(name: str, value: Any) -> dict[str, Any]:
    """Return the number that a number is checked with: some numbers depend on each other in pairs."""
    if name == "inbox_high":
        return {"inbox_low": max(0, min(value, Limits().inbox_low))}
    return {"inbox_high": max(value, Limits().inbox_high)} if name == "inbox_low" else {}
