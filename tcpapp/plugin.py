"""
``twistd tcpapp``: from the command line to the service.

`Options` says in one line on stderr what is wrong with a command line, and exits with 1: no traceback, no page of
help. Everything that can be known to be wrong is found here, before anything is opened.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import textwrap
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn, TypeVar

from twisted.application.service import IService
from twisted.internet.address import UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage

from tcpapp import codecs, framing
from tcpapp.addresses import describe, server_endpoint
from tcpapp.app import handlers_of
from tcpapp.apps import BUILT_IN
from tcpapp.errors import InvalidOption, TcpAppError
from tcpapp.limits import Limits, Timeouts, numbers_of
from tcpapp.networks import Networks
from tcpapp.server import MessageServerFactory
from tcpapp.service import MessageService
from tcpapp.spec import suggest

__all__ = ["Options", "load_app", "makeService"]

Numbers = TypeVar("Numbers", Limits, Timeouts)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Those that stop the server."""

DEFAULT_ENDPOINT = "tcp:7007:interface=127.0.0.1"

_log = Logger(namespace="tcpapp")


def load_app(target: str) -> Any:
    """
    The app that `target` names: a built-in's name, or ``module:name`` with the current directory importable.

    Raises `InvalidOption` for one that is not there, or cannot be imported, or is no app.
    """
    module_name, colon, path = target.partition(":")
    try:
        if not colon:
            return _built_in(target)
        app: Any = _import(module_name)
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


def _import(name: str) -> ModuleType:
    try:
        if (here := str(Path.cwd())) not in sys.path:
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


def _option(field: Field[Any]) -> str:
    return field.name.replace("_", "-")


def _meaning(field: Field[Any]) -> str:
    """What a number bounds, and what 0 means where it may be 0."""
    zero = field.metadata["zero"]
    return f"{field.metadata['what']} (0: {zero})" if zero else str(field.metadata["what"])


GROUPS: dict[str, Sequence[tuple[str, str, str]]] = {
    "What is served, and where": (
        ("listen", DEFAULT_ENDPOINT, "a Twisted endpoint to listen on; give it again for more"),
        ("app", "echo", f"the app: {', '.join(sorted(BUILT_IN))}, or module:name"),
        ("framing", "line", "how messages lie in the stream: " + ", ".join(framing.SPECS)),
        ("codec", "none", "what messages carry: text, json, msgpack; none: bytes"),
    ),
    "Who may come in": (
        ("allow", "all", "a network (192.0.2.0/24, 2001:db8::/32) or an address that may; give it again for more"),
        ("deny", "none", "one that may not, though it is allowed; give it again for more"),
    ),
    "Limits": tuple((_option(each), str(each.default), _meaning(each)) for each in numbers_of(Limits)),
    "Timeouts, in seconds": tuple(
        (_option(each), f"{each.default:.15g}", _meaning(each)) for each in numbers_of(Timeouts)
    ),
}
"""Every option, as ``--help`` groups them: name, default, meaning."""

REPEATED = ("listen", "allow", "deny")
"""The options that may be given more than once."""


class Options(usage.Options):
    """
    The command line of ``twistd tcpapp``, and of a command of your own, which has a subclass of it.

    After `parseOptions`, `factory` and `endpoints` are what is to be served, and where.
    """

    synopsis = "[options]"
    longdesc = "Serves a message app over TCP (and UNIX sockets, and TLS: whatever Twisted has endpoints for)."
    optParameters = [
        [name, None, default, meaning]
        for group in GROUPS.values()
        for name, default, meaning in group
        if name not in REPEATED
    ]

    def __init__(self) -> None:
        super().__init__()
        self.update({name: [] for name in REPEATED})

    @property
    def command(self) -> str:
        """What the command is called: ``tcpapp``, or as the plugin names it that has a subclass of this."""
        return getattr(self.parent, "subCommand", None) or "tcpapp"

    def opt_listen(self, endpoint: str) -> None:
        """a Twisted endpoint to listen on"""
        self["listen"].append(endpoint)

    def opt_allow(self, network: str) -> None:
        """a network, or an address, that may come in"""
        self["allow"].append(network)

    def opt_deny(self, network: str) -> None:
        """one that may not"""
        self["deny"].append(network)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line. What is wrong with it ends the program, in one line on stderr."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            _refuse(self.command, self._without_prefix(str(error)))
        except TcpAppError as error:
            _refuse(self.command, str(error))

    def parseArgs(self, *args: str) -> None:
        """There are no arguments but options."""
        if args:
            raise usage.UsageError(f"{args[0]!r} is no option; options begin with --")

    def postOptions(self) -> None:
        """Check everything, as a whole; the app last, for importing it runs code."""
        from twisted.internet import reactor  # late: twistd has installed the one it was asked for

        self["listen"] = self["listen"] or [DEFAULT_ENDPOINT]
        with _naming("--listen"):
            self.endpoints = [server_endpoint(reactor, endpoint) for endpoint in self["listen"]]
        with _naming("--framing"):
            self["framing"] = framing.from_string(self["framing"])
        with _naming("--codec"):
            self["codec"] = codecs.from_string(None if self["codec"] == "none" else self["codec"])
        with _naming("--allow"):
            Networks(allow=self["allow"])
        with _naming("--deny"):
            networks = Networks(self["allow"], self["deny"])
        limits = self._numbers(Limits, int)
        timeouts = self._numbers(Timeouts, float)
        with _naming("--app"):
            app = load_app(self["app"])
        self.factory = MessageServerFactory(
            app,
            self["framing"],
            codec=self["codec"],
            limits=limits,
            timeouts=timeouts,
            networks=networks,
            clock=reactor,  # what keeps the pace of accepting has no transport to ask
        )

    def getUsage(self, width: int | None = None) -> str:
        """The page that ``--help`` prints: options in groups, each with its default."""
        lines = [self.longdesc, ""]
        for title, options in GROUPS.items():
            lines.append(f"{title}:")
            for name, default, meaning in options:
                lines += _help_of(f"--{name}=", f"{meaning} [default: {default}]")
            lines.append("")
        lines += ["Other:", *_help_of("--version", "Twisted's version"), *_help_of("--help", "this page"), ""]
        return "\n".join(lines)

    def _numbers(self, kind: type[Numbers], number: type[int | float]) -> Numbers:
        """The options of `kind`; what cannot be is told with the names that the command line has for them."""
        values: dict[str, Any] = {}
        for field in numbers_of(kind):
            text = self[_option(field)]
            try:
                values[field.name] = number(text)
            except ValueError:
                takes = "a whole number" if number is int else "a number"
                raise InvalidOption(f"--{_option(field)}={text!r}: takes {takes} of {field.metadata['unit']}") from None
        try:
            return kind(**values)
        except InvalidOption as error:
            told = str(error)
            for field in numbers_of(kind):
                told = re.sub(rf"\b{field.name}\b", f"--{_option(field)}", told)
            raise InvalidOption(told) from None

    def _without_prefix(self, error: str) -> str:
        """getopt's words, with a near spelling where an option was not known."""
        wrong = error.removeprefix("option --").removesuffix(" not recognized")
        known = [name for group in GROUPS.values() for name, _, _ in group]
        return error + (suggest(wrong, known) if wrong != error else "")


class TwistdService(MessageService):
    """
    The service as twistd runs it: one line and a non-zero exit where it cannot listen, and orderly ends.

    SIGTERM (and Ctrl-C) drains, and the process exits with 0; a second one cuts what still drains. Twisted's own
    handler would end a drained process by the signal, as if it had been killed.
    """

    def __init__(self, options: Options, reactor: Any) -> None:
        super().__init__(options.factory, options.endpoints, reactor)
        self._reactor = reactor
        self._command = options.command
        self._twistd: dict[str, Any] = options.parent or {}
        self._terminating = False

    def privilegedStartService(self) -> None:
        """Listen, or end the program. twistd calls it."""
        self._take_signals()  # who sees it listen may stop it, though the reactor does not run yet
        try:
            super().privilegedStartService()
        except (CannotListenError, OSError) as error:
            told = _cannot_listen(error)
            _log.critical("{told}", told=told)
            self._clean_up(told)
            _refuse(self._command, told)

    def _clean_up(self, message: str) -> None:
        """What twistd leaves undone on this way out: files of its own and ours, and telling who waits for a daemon."""
        self._reactor.iterate(0)  # which does not run yet, so that the ports that could be opened are closed here
        if self._twistd.get("pidfile"):
            Path(self._twistd["pidfile"]).unlink(missing_ok=True)
        if self._twistd.get("statusPipe") is not None:
            os.write(self._twistd["statusPipe"], f"1 {message}".encode("ascii", "backslashreplace")[:100])

    def startService(self) -> None:
        """Serve. twistd calls it."""
        super().startService()
        # As the reactor starts, Twisted installs handlers of its own; a signal that comes then waits for ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._reactor.callWhenRunning(self._take_signals)

    def _take_signals(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._signalled)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._terminate, signal.Signals(number).name)

    def _terminate(self, name: str) -> None:
        if self._terminating or not self.running:
            _log.warn("{name}, while stopping: cutting every connection", name=name)
            self.cut()
        else:
            self._terminating = True
            _log.info("{name}: stopping", name=name)
            self._reactor.stop()


def makeService(options: Options) -> IService:
    """The service that `options` describe. twistd calls it."""
    from twisted.internet import reactor  # late: twistd has installed the one it was asked for

    return TwistdService(options, reactor)


def _help_of(option: str, meaning: str) -> list[str]:
    indent = " " * 24
    text = textwrap.wrap(meaning, 76, initial_indent=indent, subsequent_indent=indent)
    return [f"  {option:<21} {text[0].strip()}", *text[1:]]


def _cannot_listen(error: CannotListenError | OSError) -> str:
    """What is wrong, in Twisted's words; but those call a UNIX socket ``any:b'/run/app.sock'``."""
    if isinstance(error, OSError):
        return f"Couldn't listen: {error}."
    if isinstance(error.port, int):
        return str(error)
    return f"Couldn't listen on {describe(UNIXAddress(error.port))}: {error.socketError}."


@contextmanager
def _naming(option: str) -> Iterator[None]:
    """Begin what is said of a value with the `option` that it was given to."""
    try:
        yield
    except TcpAppError as error:
        raise type(error)(f"{option}: {error}") from error


def _refuse(command: str, message: str) -> NoReturn:
    """End the program with one line on the real stderr: twistd has put its log in the place of ``sys.stderr``."""
    print(f"twistd {command}: {message}", file=sys.__stderr__)
    raise SystemExit(1)
