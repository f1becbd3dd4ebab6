"""
``twistd tcpapp``: from the command line to the service.

`Options` says on stderr what is wrong with a configuration, a line each, and exits with 1: no traceback, no page of
help. Everything that can be known to be wrong is found here, before anything is opened.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from tcpapp.process.configuration.app_target import load_app
from tcpapp.process.configuration.checking import Checked, check
from tcpapp.process.configuration.options import GROUPS, OPTIONS, Option
from tcpapp.process.configuration.problems import Problems
from tcpapp.process.configuration.showing import FLAGS, config_page, help_page, limits_page
from tcpapp.process.configuration.sources import Given, from_command_line, from_environment, from_file
from tcpapp.process.nonblocking_log import tell, without_blocking
from tcpapp.process.twistd_service import TwistdService, run_on_monotonic_time
from tcpapp.server.factory import MessageServerFactory
from tcpapp.spec import suggest
from tcpapp.transport.socket_activation import HOW, is_unseen

__all__ = ["GROUPS", "Options", "load_app", "makeService"]

_log = Logger(namespace="tcpapp")


class Options(usage.Options):
    """
    The command line of ``twistd tcpapp``, and of a command of your own, which has a subclass of it.

    After `parseOptions`, `factory` and `endpoints` are what is to be served, and where; `checked` is the whole of it.
    """

    synopsis = "[options]"
    longdesc = "Serves a message app over TCP (and UNIX sockets, and TLS: whatever Twisted has endpoints for)."
    # usage keeps the default of an option that was not given, and what was not given the environment or a file may give
    optParameters = [[each.name, None, None, each.meaning] for each in OPTIONS.values() if not each.repeated] + [
        ["config", None, None, FLAGS["config"][1]]
    ]
    optFlags = [[name, None, FLAGS[name][1]] for name in ("check", "show-config", "show-limits")]

    checked: Checked
    factory: MessageServerFactory

    def __init__(self) -> None:
        super().__init__()
        self.update({each.name: [] for each in OPTIONS.values() if each.repeated})
        self.doubts: list[str] = []
        # twistd goes to another directory (--rundir) after this, and what is read again later is where it was
        self._folder = current_directory()

    @property
    def command(self) -> str:
        """What the command is called: ``tcpapp``, or as the plugin names it that has a subclass of this."""
        return getattr(self.parent, "subCommand", None) or "tcpapp"

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line. What is wrong with it ends the program, with a line for each on stderr."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            refuse(self.command, [self._without_prefix(str(error))])
        except Problems as problems:
            refuse(self.command, problems.texts)

    def parseArgs(self, *args: str) -> None:
        """There are no arguments but options."""
        if args:
            raise usage.UsageError(f"{args[0]!r} is no option; options begin with --")

    def postOptions(self) -> None:
        """Put all sources together and check them as a whole; where a page was asked for, print it and leave."""
        from twisted.internet import reactor  # late: twistd has installed the one it was asked for

        self._reactor = reactor
        run_on_monotonic_time(reactor)  # before anything notes the time by it
        checked = self.checked = self.look()
        self._show(checked)
        remove_own_pid_file(self.parent or {})
        self.endpoints = checked.endpoints
        self.update({name: checked.texts(name) for name in OPTIONS})
        # what keeps the pace of accepting has no transport to ask for a clock
        self.factory = MessageServerFactory(**checked.arguments, clock=reactor)

    def _show(self, checked: Checked) -> None:
        """
        Print the pages that were asked for, and leave where there was one.

        What the log would say of the configuration as the service starts is said on stderr.
        """
        good = f"twistd {self.command}: the configuration is good"
        if any(map(is_unseen, checked.endpoints)):
            good += f"; sockets that are handed over could not be looked at: {HOW}"
        pages = {
            "show-config": lambda: config_page(checked.given),
            "show-limits": lambda: limits_page(checked.given),
            "check": lambda: good,
        }
        asked = [page() for flag, page in pages.items() if self[flag]]
        if asked:
            for doubt in [*self.doubts, *checked.troubles]:
                print(f"twistd {self.command}: warning: {doubt}", file=sys.__stderr__)
            sys.stdout.write("\n".join([*asked, ""]))
            raise SystemExit(0)

    def look(self) -> Checked:
        """
        What holds now, by the file, the environment and the command line, checked as a whole. Raises `Problems`.

        A service that runs calls it again to read its configuration anew: what the command line said stays.
        """
        prefix = "".join(each if each.isalnum() else "_" for each in self.command.upper()) + "_"
        environment, self.doubts = from_environment(os.environ, prefix)
        path, by = self["config"], "--config"
        if not path:
            path, by = os.environ.get(f"{prefix}CONFIG"), f"{prefix}CONFIG"
        given, problems = from_file(path, self._folder, by) if path else ({}, [])
        given = given | environment | self._from_command_line()
        try:
            checked = check(given, self._reactor, self._folder)
        except Problems as found:
            raise Problems(problems + found.texts) from None
        if problems:
            raise Problems(problems)
        return checked

    def getUsage(self, width: int | None = None) -> str:
        """The page that ``--help`` prints: options in groups, each with its default."""
        return help_page(self.longdesc)

    def _from_command_line(self) -> dict[str, Given]:
        """What was given there, which is kept: `postOptions` puts what holds in its place."""
        if not hasattr(self, "_words"):
            self._words = from_command_line(self)
        return self._words

    def _without_prefix(self, error: str) -> str:
        """getopt's words, with a near spelling where an option was not known."""
        wrong = error.removeprefix("option --").removesuffix(" not recognized")
        return error + (suggest(wrong, [*OPTIONS, *FLAGS]) if wrong != error else "")


def _adding(option: Option) -> Callable[[Options, str], None]:
    """What usage calls where an option is given that may be given again."""

    def add(self: Options, text: str) -> None:
        self[option.name].append(text)

    add.__doc__ = option.meaning
    return add


for each in OPTIONS.values():
    if each.repeated:
        setattr(Options, f"opt_{each.name.replace('-', '_')}", _adding(each))


def makeService(options: Options) -> IService:
    """
    The service that `options` describe. twistd calls it.

    In the foreground, where twistd is about to log to stdout, it is given one that does not wait for who reads it.
    """
    from twisted.internet import reactor  # late: twistd has installed the one it was asked for

    twistd: dict[str, Any] = options.parent or {}
    if twistd.get("nodaemon"):
        sys.stdout = without_blocking(sys.stdout)
    return TwistdService(options, reactor)


def current_directory() -> str:
    """Where the process is; the empty text where that directory has been removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def remove_own_pid_file(twistd: Mapping[str, Any]) -> None:
    """
    Remove the pid file of `twistd`'s options where it has this process's own id.

    No other process has that id, so the file is left from a process that was killed: in a container each start is
    process 1. twistd would say that another server runs, and never start again. All other pid files are for twistd.
    """
    path = twistd.get("pidfile")
    with suppress(OSError, ValueError):
        if path and int(Path(path).read_text()) == os.getpid():
            Path(path).unlink()
            _log.warn("removed {path}: it was left by an earlier process with this process's id", path=path)


def refuse(command: str, texts: Sequence[str]) -> NoReturn:
    """End the program, with a line for each on the real stderr: twistd has put its log in the place of the other."""
    head = f"twistd {command}: "
    if len(texts) > 1:
        tell(f"{head}{len(texts)} things are wrong:")
        head = "  "
    for text in texts:
        tell(f"{head}{text}")
    raise SystemExit(1)
