"""From the texts that were given to what is served; or all that is wrong with them."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from twisted.internet.interfaces import IStreamServerEndpoint

from tcpapp import codecs, framing
from tcpapp.apps import BUILT_IN
from tcpapp.codecs import Codec
from tcpapp.connection.handlers import handlers_of
from tcpapp.connection.settings import Settings
from tcpapp.errors import InvalidOption, TcpAppError, UndecodableMessage
from tcpapp.framing import Framing
from tcpapp.limits import Limits, Policies, Timeouts
from tcpapp.limits.networks import Networks
from tcpapp.process.configuration.options import OPTIONS, SWITCH, option_of, set_by_options
from tcpapp.process.configuration.sources import Given, Problems
from tcpapp.spec import InvalidSpec, split, suggest
from tcpapp.transport.endpoint_strings import server_endpoint

__all__ = ["Checked", "check", "load_app"]

Numbers = TypeVar("Numbers", Limits, Timeouts)


@dataclass(frozen=True)
class Checked:
    """A configuration that can be: what is served, and `given`, what it was made of."""

    given: Mapping[str, Given]
    endpoints: list[IStreamServerEndpoint]
    framing: Framing
    codec: Codec[Any] | None
    app: Any
    heartbeat: Any
    networks: Networks
    proxies: Networks | None
    limits: Limits
    timeouts: Timeouts
    policies: Policies

    @property
    def troubles(self) -> list[str]:
        """A line for each file of certificates that is not right, and that the endpoints can do without."""
        return [line for each in self.endpoints for line in getattr(each, "troubles", ())]

    def place(self, name: str) -> str:
        """What an option is called where it was given; the empty text where it was not."""
        return self.given[name].place if name in self.given else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """What an option was given, or its default."""
        if name in self.given:
            return self.given[name].texts
        option = OPTIONS[name]
        return () if option.repeated and name != "listen" else (option.default,)


def check(given: Mapping[str, Given], reactor: Any, folder: str = "") -> Checked:
    """
    What these texts make, with the defaults for all that is not `given`.

    Paths are relative to `folder`, where apps are imported from, too; without one, to the current directory. Raises
    `Problems` with all that is wrong. Certificates are read and the app is imported, and nothing is opened.
    """
    return _Check(given, reactor, folder).all()


class _Check:
    """One look at a configuration, and what was found to be wrong with it."""

    def __init__(self, given: Mapping[str, Given], reactor: Any, folder: str) -> None:
        self.given = given
        self.reactor = reactor
        self.folder = folder
        self.problems: list[str] = []

    def all(self) -> Checked:
        """Everything, as a whole; the app last, for importing it runs code."""
        endpoints = [self.endpoint(text) for text in self.texts("listen")]
        if not endpoints:
            example = OPTIONS["listen"].default
            self.problems.append(f"{self.place('listen')}: takes an endpoint, as {example}, or several")
        chosen, codec = self.framing(), self.codec()
        networks, proxies = self.networks(), self.proxies()
        limits, timeouts, policies = self.numbers(Limits, int), self.numbers(Timeouts, float), self.policies()
        heartbeat = self.heartbeat(codec, chosen)
        app = None
        with self.naming("app"):
            app = load_app(self.text("app"), self.folder)
        if self.problems:
            raise Problems(self.problems)
        return Checked(
            self.given, endpoints, chosen, codec, app, heartbeat, networks, proxies, limits, timeouts, policies
        )

    def texts(self, name: str) -> tuple[str, ...]:
        """What an option that may be given again was given."""
        if name in self.given:
            return self.given[name].texts
        return (OPTIONS[name].default,) if name == "listen" else ()

    def text(self, name: str) -> str:
        """What an option was given, or its default."""
        return self.given[name].text if name in self.given else OPTIONS[name].default

    def place(self, name: str) -> str:
        """What an option is called where it was given."""
        return self.given[name].place if name in self.given else f"--{name}"

    @contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Note what is said of a value, beginning with the place where it was given."""
        try:
            yield
        except TcpAppError as error:
            self.problems.append(f"{self.place(name)}: {error}")

    def endpoint(self, text: str) -> Any:
        with self.naming("listen"):
            return server_endpoint(self.reactor, text, self.folder)

    def framing(self) -> Any:
        with self.naming("framing"):
            return framing.from_string(self.text("framing"))

    def codec(self) -> Any:
        with self.naming("codec"):
            return codecs.from_string(None if self.text("codec") == "none" else self.text("codec"))

    def heartbeat(self, codec: Codec[Any] | None, chosen: Framing | None) -> Any:
        """The message; its ``\\`` escapes are those of a framing's spec."""
        text = self.text("heartbeat-message")
        if text == "none" or chosen is None:
            return None
        with self.naming("heartbeat-message"):
            try:
                message = split(f"message:text={text}")[1]["text"]
                value = message if codec is None else codec.decode(message)
            except (InvalidSpec, UndecodableMessage) as error:
                raise InvalidOption(f"{text!r}: {error}") from error
            return Settings(framing=chosen, codec=codec, heartbeat=value).heartbeat

    def networks(self) -> Networks:
        """Who may come in."""
        lists: dict[str, tuple[str, ...]] = {}
        for name in ("allow", "deny"):
            with self.naming(name):
                Networks(self.texts(name))
                lists[name] = self.texts(name)
        return Networks(**lists)

    def proxies(self) -> Networks | None:
        """Who may say for whom it comes; `None` for whoever may by default."""
        with self.naming("proxies"):
            texts = self.texts("proxies")
            return Networks(texts) if texts else None
        return None

    def policies(self) -> Policies:
        """What is done where there is a choice."""
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
        """The numbers of one kind: each by itself, then all together."""
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
        """What is said of fields, said of the options by the names that they have where they were given."""
        for field in set_by_options(kind):
            option = option_of(field)
            # a rule for two numbers may name one that was not given, and is as it is by default
            place = self.place(option) if option in self.given else f"the default of --{option}"
            text = re.sub(rf"\b{field.name}\b", place.replace("\\", r"\\"), text)
        return text


def _with(name: str, value: Any) -> dict[str, Any]:
    """What goes with a number for it to be looked at by itself: the other mark of the two that depend on each other."""
    if name == "inbox_high":
        return {"inbox_low": max(0, min(value, Limits().inbox_low))}
    return {"inbox_high": max(value, Limits().inbox_high)} if name == "inbox_low" else {}


# The app --------------------------------------------------------------------------------------------------------------


def load_app(target: str, folder: str = "") -> Any:
    """
    The app that `target` names: a built-in's name, or ``module:name`` with `folder` importable.

    Without a `folder` it is the current directory.

    Raises `InvalidOption` for one that is not there, or cannot be imported, or is no app.
    """
    module_name, colon, path = target.partition(":")
    try:
        if not colon:
            return _built_in(target)
        app: Any = _import(module_name, folder)
        for name in path.split("."):
            if not hasattr(app, name):
                raise InvalidOption(f"there is no {name!r} in {module_name}{suggest(name, dir(app))}")
            app = getattr(app, name)
        handlers_of(app)
    except InvalidOption as error:
        raise InvalidOption(f"{target!r}: {error}") from error
    return app


def _built_in(name: str) -> Any:
    if name not in BUILT_IN:
        raise InvalidOption(f"takes module:name, or one of {', '.join(sorted(BUILT_IN))}{suggest(name, BUILT_IN)}")
    return BUILT_IN[name]


def _import(name: str, folder: str) -> ModuleType:
    try:
        if (here := folder or str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever the module's own code raises; a script that ends exits
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidOption(f"importing {name!r} failed: {told}{_place_of(error)}") from error


def _place_of(error: BaseException) -> str:
    """Where in the app's own code `error` was raised: there is no traceback to look at."""
    ours = ("<frozen", __file__, importlib.__file__)
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(ours)]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
