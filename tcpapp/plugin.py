"""
``twistd tcpapp``: from the command line to the service.

`Options` checks the whole configuration before anything is opened. For errors it prints one line each on stderr,
without a traceback or the help page, and exits with 1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from tcpapp import accelerated
from tcpapp.limits.renamed import new_name
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
    The command line of ``twistd tcpapp``. A subclass is the command line of your own command.

    After `parseOptions`, `factory` serves the app, `endpoints` are where to listen, and `checked` is the whole
    configuration.
    """

    synopsis = "[options]"
    longdesc = "Serves a message app over TCP, UNIX sockets, TLS, and any other endpoint of Twisted's."
    # Twisted's usage module would fill in defaults given here, and hide that the environment or a file sets an option
    optParameters = [[each.name, None, None, each.meaning] for each in OPTIONS.values() if not each.repeated] + [
        ["config", None, None, FLAGS["config"][1]]
    ]
    optFlags = [[name, None, FLAGS[name][1]] for name in ("check", "show-config", "show-limits")]

    checked: Checked
    factory: MessageServerFactory

    def __init__(self) -> None:
        super().__init__()
        self.update({each.name: [] for each in OPTIONS.values() if each.repeated})
        self.warnings: list[str] = []
        # twistd changes the directory later (--rundir); relative paths are read from this one
        self._folder = current_directory()

    @property
    def command(self) -> str:
        """The name of the command: ``tcpapp``, or the name that the plugin of a subclass gives it."""
        return getattr(self.parent, "subCommand", None) or "tcpapp"

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line. An error ends the program, with a line for each error on stderr."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            refuse(self.command, [self._without_prefix(str(error))])
        except Problems as problems:
            refuse(self.command, problems.texts)

    def opt_version(self) -> NoReturn:
        """Print the versions, and whether the path of a message is compiled, and exit."""
        form = "compiled" if accelerated else "from its Python sources"
        python = ".".join(map(str, sys.version_info[:3]))
        sys.stdout.write(f"tcpapp {version('tcpapp')}, {form}; Twisted {version('twisted')}, Python {python}\n")
        raise SystemExit(0)

    def parseArgs(self, *args: str) -> None:
        """Raise `UsageError` for an argument: the command has only options."""
        if args:
            raise usage.UsageError(f"{args[0]!r} is no option; options begin with --")

    def postOptions(self) -> None:
        """Read all sources and check the whole configuration; if a page was asked for, print it and exit."""
        from twisted.internet import reactor  # late: twistd has installed the reactor that was asked for

        self._reactor = reactor
        run_on_monotonic_time(reactor)  # before anything notes the time by it
        checked = self.checked = self.read_configuration()
        self._show(checked)
        remove_own_pid_file(self.parent or {})
        self.endpoints = checked.endpoints
        self.update({name: checked.texts(name) for name in OPTIONS})
        # the accept rate needs a clock, and has no transport to take one from
        self.factory = MessageServerFactory(**checked.arguments, clock=reactor)

    def _show(self, checked: Checked) -> None:
        """
        Print the pages that were asked for, with warnings on stderr, and exit. Does nothing if none was asked for.
        """
        good = f"twistd {self.command}: the configuration is good"
        if any(map(is_unseen, checked.endpoints)):
            good += f"; sockets that are handed over could not be checked: {HOW}"
        pages = {
            "show-config": lambda: config_page(checked.given),
            "show-limits": lambda: limits_page(checked.given),
            "check": lambda: good,
        }
        asked = [page() for flag, page in pages.items() if self[flag]]
        if asked:
            for doubt in [*self.warnings, *checked.troubles]:
                print(f"twistd {self.command}: warning: {doubt}", file=sys.__stderr__)
            sys.stdout.write("\n".join([*asked, ""]))
            raise SystemExit(0)

    def read_configuration(self) -> Checked:
        """
        Read the configuration from the file, the environment and the command line, and check it as a whole. Raises
        `Problems`, which lists all errors.

        A running service calls it again to reload its configuration. The options of the command line stay as they were.
        """
        prefix = "".join(each if each.isalnum() else "_" for each in self.command.upper()) + "_"
        environment, self.warnings = from_environment(os.environ, prefix)
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
        """Return the page that ``--help`` prints: options in groups, each with its default."""
        return help_page(self.longdesc)

    def _from_command_line(self) -> dict[str, Given]:
        """
        Return the options of the command line: a copy, because `postOptions` overwrites them with the final values.
        """
        if not hasattr(self, "_words"):
            self._words = from_command_line(self)
        return self._words

    def _without_prefix(self, error: str) -> str:
        """Return the text of getopt's error. For an unknown option it names the new name, or a similar one."""
        wrong = error.removeprefix("option --").removesuffix(" not recognized")
        if new := new_name(wrong):
            return f"--{wrong} is now --{new.replace('_', '-')}"
        return error + (suggest(wrong, [*OPTIONS, *FLAGS]) if wrong != error else "")


def _adding(option: Option) -> Callable[[Options, str], None]:
    """Return the method that Twisted's usage module calls each time a repeatable option is given."""

    def add(self: Options, text: str) -> None:
        self[option.name].append(text)

    add.__doc__ = option.meaning
    return add


for each in OPTIONS.values():
    if each.repeated:
        setattr(Options, f"opt_{each.name.replace('-', '_')}", _adding(each))


def makeService(options: Options) -> IService:
    """
    Return the service that `options` describe. twistd calls this function.

    When twistd runs in the foreground and logs to stdout, this replaces stdout by a stream that never blocks.
    """
    from twisted.internet import reactor  # late: twistd has installed the reactor that was asked for

    twistd: dict[str, Any] = options.parent or {}
    if twistd.get("nodaemon"):
        sys.stdout = without_blocking(sys.stdout)
    return TwistdService(options, reactor)


def current_directory() -> str:
    """Return the current directory; the empty text if it has been removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def remove_own_pid_file(twistd: Mapping[str, Any]) -> None:
    """
    Remove the pid file of `twistd`'s options if it contains this process's own id.

    Such a file was left by a process that was killed and had the same id: in a container, each start is process 1.
    Without this, twistd would say that another server runs, and refuse to start. It handles all other pid files itself.
    """
    path = twistd.get("pidfile")
    with suppress(OSError, ValueError):
        if path and int(Path(path).read_text()) == os.getpid():
            Path(path).unlink()
            _log.warn("removed {path}: it was left by an earlier process with this process's id", path=path)


def refuse(command: str, texts: Sequence[str]) -> NoReturn:
    """
    End the program with status 1 and a line for each error. The lines go to the real stderr, because twistd replaces
    `sys.stderr` by its log.
    """
    head = f"twistd {command}: "
    if len(texts) > 1:
        tell(f"{head}{len(texts)} things are wrong:")
        head = "  "
    for text in texts:
        tell(f"{head}{text}")
    raise SystemExit(1)
