"""The settings that all connections of one factory share, checked once."""

from __future__ import annotations

from copy import copy
from dataclasses import fields, replace
from functools import partial
from random import Random
from typing import Any, TypedDict

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorTime
from typing_extensions import Unpack

from tcpapp import codecs
from tcpapp import framing as framings
from tcpapp.codecs import Codec
from tcpapp.connection.concurrency import check_concurrency, check_replies
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.handlers import handlers_of, value_of
from tcpapp.connection.open_waits import OpenWaits, waits_of
from tcpapp.connection.parsing import parts_of, users_codec
from tcpapp.connection.pending_requests import Key, check_key
from tcpapp.connection.shared_timer import SharedTimer
from tcpapp.connection.spread_writes import SpreadWrites
from tcpapp.errors import InvalidOption, UnsendableMessage
from tcpapp.framing import Framing
from tcpapp.limits import Limits, Policies, Timeouts
from tcpapp.limits.fairness import FairShare, StepScheduler
from tcpapp.limits.memory_budget import MemoryBudget
from tcpapp.limits.networks import Networks
from tcpapp.limits.renamed import new_name
from tcpapp.spec import suggest
from tcpapp.telemetry import LimitNear, RateLimitedLog, Telemetry
from tcpapp.telemetry.counters import Counters

__all__ = ["Options", "Settings"]

LOCAL_PROXIES = Networks(allow=["127.0.0.0/8", "::1"])
"""Proxies on this machine. Proxies on a UNIX socket are always accepted."""


CHANGEABLE: dict[str, type[Any]] = {
    "limits": Limits,
    "timeouts": Timeouts,
    "policies": Policies,
    "networks": Networks,
    "proxies": Networks,
}
"""The sets that can be changed while connections are open."""

SET_OF = {each.name: name for name in ("limits", "timeouts", "policies") for each in fields(CHANGEABLE[name])}
"""The set that each single value belongs to."""


class Options(TypedDict, total=False):
    """The keyword arguments that factories, `listen` and `connect` pass on to `Settings`, which describes them."""

    codec: Codec[Any] | str | None
    limits: Limits | None
    timeouts: Timeouts | None
    policies: Policies | None
    key: Key | None
    clock: IReactorTime | None
    telemetry: Telemetry | None
    networks: Networks | None
    proxies: Networks | None
    heartbeat: Any
    random: Random | None
    concurrency: int | None
    replies: str | None


class Settings:
    """
    The settings of a factory's connections. Raises `InvalidFraming` or `InvalidOption` for the first invalid one.

    - `app`: see `tcpapp.connection.app`; `None` leaves every message to ``receive``.
    - `framing`: a `Framing` or a spec such as ``"int32"``.
    - `codec`: a `Codec`, a spec such as ``"json"``, or `None`: messages are bytes.
    - `limits`, `timeouts`, `policies`: see `tcpapp.limits`; by default all on.
    - `key`: how replies find their requests (see `tcpapp.connection.pending_requests`); `None`: in order.
    - `clock`: the clock of all timers; `None`: the reactor of each connection's transport. Where there is neither, as
      with a `StringTransport`, no timer runs.
    - `telemetry`: gets the events; `None`: a `RateLimitedLog` writes them to the log.
    - `networks`: the networks whose clients a server accepts; `None`: all. A client ignores it.
    - `proxies`: the networks of proxies that may name their client, where a server listens for proxies (``haproxy:``);
      `None`: this machine.
    - `heartbeat`: the message that is sent when nothing came for ``timeouts.heartbeat`` seconds; `None`: no heartbeats.
      It can be a function of the connection that returns the message, or `None` to send none this time. It can be a
      `Reply`, such as ``Reply(None)`` for a codec's null.
    - `random`: the source of random numbers; `None`: a source of its own.
    - `concurrency`: how many messages of one connection the app works on at once; `None`: 1. An app that is a
      conversation fetches its messages itself, and takes 1 only.
    - `replies`: with a `concurrency` over 1, ``"in-order"`` (or `None`) sends the replies in the order of the messages,
      and ``"as-ready"`` sends each as soon as it is there.
    """

    def __init__(self, app: Any = None, framing: Framing | str = "line", **options: Unpack[Options]) -> None:
        telemetry = options.get("telemetry")
        self.app = app
        self.framing, self.codec = parts_of(framings.from_string(framing), codecs.from_string(options.get("codec")))
        self.limits: Limits = _instance("limits", options.get("limits"), Limits)
        self.timeouts: Timeouts = _instance("timeouts", options.get("timeouts"), Timeouts)
        self.policies: Policies = _instance("policies", options.get("policies"), Policies)
        self.fair_share = FairShare()
        self.spread_writes = SpreadWrites()
        self.step_scheduler = StepScheduler()
        self.counters = Counters()
        self.rules = (self.limits, self.policies)
        self._waits: dict[bool, OpenWaits] = {}
        self._timer: SharedTimer | None = None
        self.memory_budget = MemoryBudget(self.limits.max_buffered, partial(self.limit_near, "max_buffered"))
        self.key = check_key(options.get("key"))
        self.clock = options.get("clock")
        told = Telemetry(RateLimitedLog()) if telemetry is None else telemetry
        self.telemetry: Telemetry = _instance("telemetry", told, Telemetry)
        self.networks: Networks = _instance("networks", options.get("networks"), Networks)
        proxies = options.get("proxies")
        self.proxies: Networks = _instance("proxies", LOCAL_PROXIES if proxies is None else proxies, Networks)
        self.handlers = handlers_of(app, self.codec)
        self.random: Random = _instance("random", options.get("random"), Random)
        self.heartbeat = self._checked_heartbeat(options.get("heartbeat"))
        self.concurrency = check_concurrency(options.get("concurrency"), app)
        self.replies = check_replies(options.get("replies"))
        unknown = sorted(set(options) - set(Options.__annotations__))
        if unknown:
            raise TypeError(f"unknown argument {unknown[0]!r}: {_known_arguments(unknown[0])}")

    def parts_of(self, framing: Framing, codec: Codec[Any] | None) -> tuple[Framing, Codec[Any] | None]:
        """The framing and the codec that a connection uses for another `framing`: these settings' own if they fit."""
        if codec is users_codec(self.codec) and type(framing) is type(self.framing) and framing == self.framing:
            return self.framing, self.codec
        return parts_of(framing, codec)

    def change(self, **others: Any) -> None:
        """
        Replace whole sets (`CHANGEABLE`; `None` leaves a set as it is), or single values in them.

        All changes are made, or none. Raises `InvalidOption` for an invalid value, `TypeError` for an unknown name.
        """
        changed: dict[str, Any] = {}
        values: dict[str, dict[str, Any]] = {}
        for name, value in others.items():
            if name in SET_OF:
                values.setdefault(SET_OF[name], {})[name] = value
            elif new := new_name(name):
                raise TypeError(f"{name} is now {new}")
            elif name not in CHANGEABLE:
                raise TypeError(f"{name}: there is no such setting to change{suggest(name, [*CHANGEABLE, *SET_OF])}")
            elif value is not None:
                changed[name] = _instance(name, value, CHANGEABLE[name])
        for name, several in values.items():
            changed[name] = replace(changed.get(name, getattr(self, name)), **several)
        for name, each in changed.items():
            setattr(self, name, each)
        self._waits = {}
        self.rules = (self.limits, self.policies)
        self.memory_budget.limit = self.limits.max_buffered

    def frame(self, message: Any) -> bytes:
        """`message` as it stands on the wire. Raises `UnsendableMessage`."""
        return self.framing.fresh().frame(message if self.codec is None else self.codec.encode(message))

    def begin_waits(self, deadlines: Deadlines, *, serves: bool) -> None:
        """Begin the waits of an open connection. A server (`serves`) has other waits than a client."""
        deadlines.open(self._open_waits(serves))
        if self.timeouts.max_age:
            spread = self.limits.age_jitter / 100
            deadlines.start("max_age", self.timeouts.max_age * self.random.uniform(1 - spread, 1 + spread))

    def track_waits(self, deadlines: Deadlines, *, serves: bool) -> None:
        """Begin those waits of an open connection that begin again and again."""
        deadlines.track(self._open_waits(serves))

    def _open_waits(self, serves: bool) -> OpenWaits:
        found = self._waits.get(serves)
        if found is None:
            timeouts = self.timeouts
            tracked = waits_of(timeouts, serves=serves, heartbeats=self.heartbeat is not None)
            first_message = timeouts.first_message if serves else 0.0
            found = self._waits[serves] = OpenWaits(timeouts.message_timeout, tracked, first_message)
        return found

    def with_rules(self, rules: tuple[Limits, Policies]) -> Settings:
        """These settings with the limits and policies of an earlier time, for a connection that began then."""
        if rules is self.rules:
            return self
        earlier = copy(self)
        earlier.limits, earlier.policies = rules
        return earlier

    @property
    def reads_specially(self) -> bool:
        """Whether a transport must be told, before it reads, how many bytes a read takes. Twisted's default is told."""
        limits = self.limits
        return bool(limits.byte_rate) or limits.write_high != FileDescriptor.bufferSize or self.concurrency > 1

    def timer_on(self, clock: IReactorTime) -> SharedTimer:
        """The timer of all connections that run on `clock`."""
        timer = self._timer
        if timer is None or timer.clock is not clock:
            timer = self._timer = SharedTimer(clock)
        return timer

    def limit_near(self, name: str, value: int, limit: int, where: str = "") -> None:
        """The limit called `name` is near."""
        if self.telemetry:
            self.telemetry.emit(LimitNear(name, value, limit, where))

    def _checked_heartbeat(self, heartbeat: Any) -> Any:
        """`heartbeat` itself. Raises `InvalidOption` for a message that cannot be sent."""
        if heartbeat is not None and not callable(heartbeat):
            try:
                self.frame(value_of(heartbeat))
            except UnsendableMessage as error:
                raise InvalidOption(f"heartbeat={heartbeat!r}: {error}") from error
        return heartbeat


def _known_arguments(wrong: str) -> str:
    """Where an unknown argument belongs, or which arguments there are."""
    if name := SET_OF.get(wrong):
        return f"write {name}={CHANGEABLE[name].__name__}({wrong}=…)"
    return f"there are {', '.join(Options.__annotations__)}{suggest(wrong, Options.__annotations__)}"


def _instance(name: str, value: Any, kind: type[Any]) -> Any:
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise InvalidOption(f"{name}={value!r}: takes a {kind.__name__}")
    return value
