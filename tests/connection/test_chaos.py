"""Whatever a peer, an app and a user do to a connection, each message and each wait is accounted for."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from tcpapp import Limits, MessageServerFactory, Telemetry, Timeouts
from tcpapp.connection.app import batch, conversation
from tcpapp.connection.connection import State
from tcpapp.connection.pause_flags import PAUSED
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import NotConnected, TimedOut, TooManyTasks, UndecodableMessage, UnsendableMessage
from tcpapp.limits import Policies
from tcpapp.telemetry import AppFailed, Closed, MessagesSkipped
from tests.peers import AbruptTransport, NotedTransport, TurnClock

EXPECTED = (NotConnected, CancelledError, TimedOut, UnsendableMessage, UndecodableMessage)
"""The errors that a Deferred of a connection can fail with."""

TIMES = Timeouts(
    first_message=0,
    idle=0,
    message_timeout=20,
    handler_timeout=15,
    send_progress=30,
    grace=5,
    half_close=25,
    request=12,
)

IN_APP = ["reply", "reply", "reply", "none", "later", "send", "big", "slow", "slow", "receive", "request", "pause"]
IN_APP += ["stream", "stream later"]
TASKS = ["ticks", "receives", "fails", "cleans_up", "cuts"]
MOST_TASKS = 3
ENDS = ["close", "close now", "drain", "abort", "fail"]


class Broken(Exception):
    """An exception of the app."""


class Heard:
    """A recorder that notes what it gets."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.handed_over: list[bytes] = []
        self.left: list[bytes] = []

    def received(self, messages: Sequence[bytes]) -> None:
        self.came += messages

    def sending(self, messages: Sequence[bytes]) -> None:
        self.handed_over += messages

    def sent(self, data: bytes) -> None:
        self.left.append(data)


class Run:
    """One connection, the calls on it and their results."""

    def __init__(self, machine: Chaos, transport: NotedTransport) -> None:
        self.machine = machine
        self.transport = transport
        self.connection: Any = None
        self.heard: Heard | None = None
        self.taken: list[int] = []
        self.replies: list[int] = []
        self.junk = self.said = 0
        self.streams = {"begun": 0, "ended": 0}
        self.pending: list[Deferred[Any]] = []
        self.reasons: list[Any] = []
        self.talks: list[str] = []
        self.outcomes: list[list[Any]] = []
        self.handed_out: list[Deferred[Any]] = []
        self.work: list[Deferred[None]] = []
        self.tasks = 0

    # Awaited Deferreds.

    def wait(self, deferred: Deferred[Any], then: Callable[[Any], Any] = lambda result: None) -> Deferred[Any]:
        seen: list[Any] = []
        self.outcomes.append(seen)
        self.handed_out.append(deferred)

        def note(result: Any) -> None:
            seen.append(result.value if isinstance(result, Failure) else result)
            then(result)

        deferred.addBoth(note)
        return deferred

    def take(self, message: Any) -> str:
        """Note that this message is being handled, and return the action in its text."""
        if isinstance(message, UndecodableMessage):
            return "none"
        try:
            number, what = message if isinstance(message, list) else json.loads(message)
        except ValueError:  # the rest of a message that an earlier chunk began
            self.junk += 1
            return "none"
        self.taken.append(number)
        return what

    def receive(self, then: Callable[[], Any] = lambda: None) -> None:
        def got(result: Any) -> None:
            if not isinstance(result, Failure):
                self.take(result)
            then()

        self.wait(self.connection.receive(), got)

    def request(self, then: Callable[[], Any] = lambda: None) -> None:
        def got(result: Any) -> None:
            if not isinstance(result, Failure):
                try:
                    self.replies.append((result if isinstance(result, list) else json.loads(result))[0])
                except ValueError:
                    self.junk += 1
            then()

        self.wait(self.connection.request(self.machine.message("q")), got)

    def do(self, what: str) -> Any:
        """Do what an app does for this action, and return the reply."""
        connection, reply = self.connection, self.reply("r")
        if what == "later":
            self.pending.append(Deferred())
            return self.pending[-1]
        if what == "send":
            self.wait(connection.send(reply))
        elif what == "slow":
            self.machine.clock.rightNow += 0.001
        elif what == "fail":
            raise Broken
        elif what.startswith("stream") and self.machine.app in ("function", "coroutines"):
            return self.stream() if what == "stream" else self.stream_later()
        elif what in ENDS:
            self.end(what)
        elif what in ("receive", "request", "pause"):
            {"receive": self.receive, "request": self.request, "pause": connection.pause}[what]()
        return {"none": None, "big": self.reply("x" * 60)}.get(what, reply)

    # Tasks.

    def spawn(self, kind: str, background: bool) -> None:
        task = getattr(self, "task_that_" + kind)
        try:
            self.wait(self.connection.spawn(self.counted(task), background=background))
        except (NotConnected, TooManyTasks):
            assert self.connection.state in (State.CLOSING, State.CLOSED) or self.tasks == MOST_TASKS

    async def counted(self, task: Callable[[], Any]) -> None:
        self.tasks += 1
        try:
            await task()
        finally:
            self.tasks -= 1

    async def some_work(self) -> None:
        self.work.append(Deferred())
        await self.work[-1]

    async def task_that_ticks(self) -> None:
        count = 0
        async for _ in self.connection.every(0.7):
            count += 1
            await self.connection.send(self.reply("t"))
            if count == 3:
                break

    async def task_that_receives(self) -> None:
        self.take(await self.connection.receive())

    async def task_that_fails(self) -> None:
        await self.some_work()
        raise Broken

    async def task_that_cleans_up(self) -> None:
        try:
            await self.some_work()
        finally:
            await self.some_work()

    async def task_that_cuts(self) -> None:
        await self.some_work()
        self.connection.abort()
        await self.some_work()

    def do_all_work(self) -> None:
        while waiting := [each for each in self.work if not each.called]:
            waiting[0].callback(None)

    def closed(self, reason: Any) -> None:
        assert self.tasks == 0, "the app was told of the end before its tasks had ended"
        self.reasons.append(reason)

    # Replies of many messages.

    def stream(self) -> Iterator[Any]:
        """Give several replies, of which each takes time."""
        self.streams["begun"] += 1
        try:
            for what in ("r", "x" * 60, "r", "r"):
                self.machine.clock.rightNow += 0.0002
                yield self.reply(what)
        finally:
            self.streams["ended"] += 1

    async def stream_later(self) -> AsyncIterator[Any]:
        """Give several replies. The second one is there when the test answers."""
        self.streams["begun"] += 1
        try:
            yield self.reply("r")
            self.pending.append(Deferred())
            reply = await self.pending[-1]
            if reply is not None:
                yield reply
            yield self.reply("x" * 60)
        finally:
            self.streams["ended"] += 1

    def reply(self, what: str) -> Any:
        """Return a message to the peer, with the number of the app's messages so far."""
        self.said += 1
        return [self.said, what] if self.machine.codec else json.dumps([self.said, what]).encode()

    def end(self, what: str) -> None:
        if what == "abort":
            self.connection.abort()
        elif what == "drain":
            self.connection.drain()
        else:
            self.wait(self.connection.close(0 if what == "close now" else None))

    @property
    def lost(self) -> bool:
        return self.connection.state is State.CLOSED


def function(machine: Chaos) -> Any:
    class App:
        def received(self, message: Any, connection: Any) -> Any:
            run = machine.run_of(connection)
            machine.check_at_once(run)
            return run.do(run.take(message))

        def closed(self, connection: Any, reason: Any) -> None:
            machine.run_of(connection).closed(reason)

    return App()


def coroutines(machine: Chaos) -> Any:
    class App:
        async def received(self, message: Any, connection: Any) -> Any:
            run = machine.run_of(connection)
            machine.check_at_once(run)
            done = run.do(run.take(message))
            return await done if isinstance(done, Deferred) else done

        def closed(self, connection: Any, reason: Any) -> None:
            machine.run_of(connection).closed(reason)

    return App()


def batches(machine: Chaos) -> Any:
    @batch
    def app(messages: list[Any], connection: Any) -> Any:
        run = machine.run_of(connection)
        machine.check_at_once(run)
        assert messages
        all_done, todo = [], [run.take(each) for each in messages]
        for what in todo:
            done = run.do("none" if what == "later" else what)
            if done is not None:
                all_done.append(done)
        if "later" in todo:
            later: Deferred[Any] = Deferred()
            run.pending.append(later)
            return later.addCallback(lambda reply: all_done if reply is None else [*all_done, reply])
        return all_done

    return app


def conversing(machine: Chaos) -> Any:
    @conversation
    async def talk(connection: Any) -> None:
        run = machine.run_of(connection)
        run.talks.append("began")
        try:
            async for message in connection:
                done = run.do(run.take(message))
                if isinstance(done, Deferred):
                    done = await done
                if done is not None:
                    await connection.send(done)
        finally:
            run.talks.append("ended")

    return talk


APPS: dict[str, Callable[[Chaos], Any]] = {
    "function": function,
    "coroutines": coroutines,
    "batches": batches,
    "conversation": conversing,
    "none": lambda machine: None,
}


class Chaos:
    """Two connections of one factory, whose limits are so low that they are reached."""

    def __init__(
        self,
        *,
        transport: type[NotedTransport] = NotedTransport,
        app: str = "function",
        codec: str | None = None,
        budget: int = 250,
        per_turn: int = 256,
        rates: dict[str, int] | None = None,
        waits: str = "wait",
        skip: bool = False,
        buffered: int = 0,
        reads: bool = True,
        key: bool = False,
        recorded: bool = False,
        concurrency: int = 1,
        replies: str = "in-order",
    ) -> None:
        self.runs: list[Run] = []
        self.number = 0
        self.errors: list[LogEvent] = []
        self.codec, self.app = codec, app
        self.concurrency = concurrency if app in ("function", "coroutines", "batches") else 1
        self.clock = TurnClock()
        self.events: list[Any] = []
        self.factory = MessageServerFactory(
            APPS[app](self),
            "line:max=99" + ":oversize=skip" * skip,
            codec=codec,
            key=(self.key_of_request, self.key_of_reply) if key else None,
            limits=Limits(
                write_high=50,
                max_unsent=2000,
                inbox_high=500,
                inbox_low=100,
                max_requests=5,
                max_tasks=MOST_TASKS,
                work_per_turn=budget,
                messages_per_turn=per_turn,
                max_buffered=buffered,
                **rates or {},
            ),
            timeouts=TIMES,
            policies=Policies(over_rate=waits),
            telemetry=Telemetry(self.events.append),
            concurrency=self.concurrency,
            replies=replies,
        )
        for _ in range(2):
            new = transport(clock=self.clock, peer_reads=reads)
            run = Run(self, new)
            self.runs.append(run)
            protocol: Any = self.factory.buildProtocol(None)
            run.connection = protocol.connection
            new.connect(protocol)
            if recorded and not run.lost:
                run.heard = Heard()
                protocol.record(run.heard)

    def key_of_request(self, message: Any) -> int:
        return self.parse(message)[0] % 7

    def key_of_reply(self, message: Any) -> int | None:
        number, what = self.parse(message)
        return number % 7 if what == "reply" else None

    @staticmethod
    def parse(message: Any) -> Any:
        try:
            return message if isinstance(message, list) else json.loads(message)
        except ValueError:
            return 0, "junk"

    def message(self, what: str) -> Any:
        self.number += 1
        return [self.number, what] if self.codec else json.dumps([self.number, what]).encode()

    def run_of(self, connection: Any) -> Run:
        [run] = [each for each in self.runs if each.connection is connection]
        return run

    def step(self, name: str, which: int, *args: Any) -> None:
        getattr(self, "do_" + name)(which, *args)
        self.check()

    def do_say(self, which: int, whats: list[str], fault: bytes) -> None:
        run = self.runs[which]
        if run.transport.disconnected or run.lost or run.transport._peer_socket.ended:
            return
        chunk = b""
        for what in whats:
            self.number += 1
            chunk += json.dumps([self.number, what]).encode() + b"\n"
        run.transport.receive(chunk + (fault if self.codec or fault != b"{\n" else b""))

    def do_receive(self, which: int, then: str) -> None:
        self.runs[which].receive(lambda: self.then(which, then))

    def do_request(self, which: int, then: str) -> None:
        self.runs[which].request(lambda: self.then(which, then))

    def do_send(self, which: int, then: str) -> None:
        run = self.runs[which]
        run.wait(run.connection.send(self.message("s" * 40)), lambda _: self.then(which, then))

    def then(self, which: int, what: str) -> None:
        run = self.runs[which]
        if what == "cancel":
            for each in list(run.handed_out):
                each.cancel()
        elif what in ("receive", "request"):
            getattr(run, what)()
        elif what == "answer":
            self.do_answer(which, "reply")
        elif what == "resume":
            run.connection.resume()
        elif what in ENDS and what != "fail":
            run.end(what)

    def do_cancel(self, which: int, place: int) -> None:
        run = self.runs[which]
        if run.handed_out:
            run.handed_out[place % len(run.handed_out)].cancel()

    def do_answer(self, which: int, reply: str, place: int = 0) -> None:
        run = self.runs[which]
        waiting = [each for each in run.pending if not each.called]
        if waiting:
            each = waiting[place % len(waiting)]
            if reply == "fail":
                each.errback(Broken())
            elif reply == "cancel":
                each.cancel()
            else:
                each.callback(run.reply("r") if reply == "reply" else None)

    def do_spawn(self, which: int, kind: str, background: bool) -> None:
        self.runs[which].spawn(kind, background)

    def do_work(self, which: int, place: int) -> None:
        waiting = [each for each in self.runs[which].work if not each.called]
        if waiting:
            waiting[place % len(waiting)].callback(None)

    def do_hold(self, which: int, what: str) -> None:
        getattr(self.runs[which].connection, what)()

    def do_end(self, which: int, what: str) -> None:
        self.runs[which].end(what)

    def do_take(self, which: int, count: int | None) -> None:
        if not self.runs[which].lost:
            self.runs[which].transport.take(count)

    def do_stall(self, which: int) -> None:
        self.runs[which].transport.stall()

    def do_go_on(self, which: int) -> None:
        if not self.runs[which].lost:
            self.runs[which].transport.go_on()

    def do_turn(self, which: int, count: int) -> None:
        for _ in range(count):
            self.clock.turn()

    def do_pass_time(self, which: int, seconds: float) -> None:
        self.clock.advance(seconds)

    def do_go(self, which: int, how: str) -> None:
        run = self.runs[which]
        if run.lost:
            return
        if how == "half":
            run.transport.half_close()
        elif how == "reset":
            run.transport.reset()
        else:
            run.transport.lose()

    def check(self) -> None:
        for run in self.runs:
            assert run.taken == sorted(set(run.taken))
            assert self.factory.settings.key or run.replies == sorted(set(run.replies))
            assert not set(run.taken) & set(run.replies)
            assert run.reasons == [] or len(run.reasons) == 1
            if run.lost:
                assert protocol_of(run.connection)._buffered.reported == 0
            self.check_info(run)
        memory = self.factory.settings.memory_budget
        assert memory.total == sum(memory._held.values()) >= 0
        assert all(not each._ended for each in memory._held)

    def check_at_once(self, run: Run) -> None:
        """The app gets a message only while it has fewer than `concurrency` to answer."""
        waiting = [each for each in run.pending if not each.called]
        assert len(waiting) < self.concurrency, "the app got a message before it replied to earlier ones"

    def check_info(self, run: Run) -> None:
        """Messages wait for an app only while something holds it, and `info()` says what. Nothing is negative."""
        info = protocol_of(run.connection).info()
        takes = self.app in ("function", "coroutines", "batches")
        if takes and info.state in ("open", "input-closed") and (info.unread or info.pending):
            assert info.holds
        assert min(info.messages, info.sent_messages, info.unsent, info.buffered, info.unread, info.pending) >= 0
        assert info.age >= 0
        assert all(each.seconds >= 0 for each in (*info.holds, *filter(None, [info.deadline])))

    def finish(self) -> None:
        self.let_all_end_well()
        for run in self.runs:
            self.check_goes_on(run)
            if not run.lost:
                run.transport.lose()
        for run in self.runs:
            for each in run.pending:
                if not each.called:
                    each.callback(None)
            run.do_all_work()
        self.check_nothing_is_left()
        self.check_messages()
        self.check_bytes()

    def let_all_end_well(self) -> None:
        """Read everything, reply to everything and resume everything, until nothing waits."""
        for run in self.runs:
            if not run.lost:
                run.transport.go_on()
        for _ in range(400):
            for which, run in enumerate(self.runs):
                while any(not each.called for each in run.pending):
                    self.do_answer(which, "reply")
                run.do_all_work()
                run.connection.resume()
            paused = any(
                protocol_of(each.connection)._dispatcher.pauses & PAUSED for each in self.runs
            )  # the app has just paused
            if not paused and not self.clock.getDelayedCalls():
                break
            self.clock.turn()
            self.clock.advance(0.02)

    def check_goes_on(self, run: Run) -> None:
        limits, connection = self.factory.settings.limits, run.connection
        taken_from = self.app != "none" and "ended" not in run.talks
        if connection.is_open and taken_from and not limits.message_rate and not limits.byte_rate:
            assert (connection.unread, protocol_of(connection).info().pending) == (0, 0), "messages wait for ever"
            assert run.transport.unread == 0, "the peer's bytes are not read"
        assert connection.state is not State.CLOSING or run.transport.disconnecting, "the transport does not close"

    def check_nothing_is_left(self) -> None:
        for run in self.runs:
            assert [len(each) for each in run.outcomes] == [1] * len(run.outcomes)
            for [each] in run.outcomes:
                assert not isinstance(each, Exception) or isinstance(each, (*EXPECTED, Broken))
            assert run.tasks == 0
            assert run.talks in ([], ["began", "ended"])
            assert run.streams["begun"] == run.streams["ended"]
        assert self.clock.getDelayedCalls() == []
        assert (self.factory.info().buffered, dict(self.factory.settings.memory_budget._held)) == (0, {})
        assert self.factory.connections == set()
        for each in self.told(AppFailed):
            assert isinstance(each.failure.value, (Broken, UndecodableMessage, UnsendableMessage, CancelledError))

    def check_messages(self) -> None:
        """Check that each received message was taken, or is counted."""
        assert len(self.told(Closed)) == 2
        lost = sum(each.unhandled for each in self.told(Closed)) + sum(
            each.count for each in self.told(MessagesSkipped)
        )
        unread = sum(run.connection.unread for run in self.runs)
        taken = sum(len(run.taken) + len(run.replies) + run.junk for run in self.runs)
        info = self.factory.info()
        if self.codec is None:  # with a codec the first invalid message is neither taken nor counted
            assert info.messages == lost + unread + taken + info.late_replies

    def check_bytes(self) -> None:
        """All bytes that the transports got are counted, and all whole messages in them. A recorder hears the same."""
        info = self.factory.info()
        sent = [b"".join(run.transport.writes) for run in self.runs]
        assert (info.sent_messages, info.sent_bytes) == (sum(each.count(b"\n") for each in sent), sum(map(len, sent)))
        for run in self.runs:
            if run.heard is not None:
                assert run.heard.left == run.transport.writes
                handed_over = iter(run.heard.handed_over)
                assert all(message in handed_over for message in b"".join(run.heard.left).split(b"\n")[:-1]), "in order"
        if all(run.heard is not None for run in self.runs):
            skipped = sum(each.count for each in self.told(MessagesSkipped))
            assert info.messages == sum(len(run.heard.came) for run in self.runs if run.heard) + skipped

    def told(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.events if isinstance(each, kind)]


THENS = ["none", "none", "cancel", "receive", "request", "answer", "resume", "close", "close now", "drain", "abort"]
WHATS = [*IN_APP * 3, *ENDS]
FAULTS = [*[b""] * 8, b"half", b"x" * 150 + b"\n", b"{\n"]
WHICH = st.integers(0, 1)


def choose(values: Any) -> Any:
    return st.sampled_from(values)


STEPS = {
    "say": (st.lists(choose(WHATS), min_size=1, max_size=12), choose(FAULTS)),
    "receive": (choose(THENS),),
    "request": (choose(THENS),),
    "send": (choose(THENS),),
    "cancel": (st.integers(0, 20),),
    "answer": (choose(["reply", "reply", "reply", "none", "fail", "cancel"]), st.integers(0, 9)),
    "hold": (choose(["pause", "resume", "resume"]),),
    "spawn": (choose(TASKS), st.booleans()),
    "work": (st.integers(0, 9),),
    "end": (choose(["close", "close now", "drain", "abort"]),),
    "take": (st.one_of(st.none(), st.integers(1, 200)),),
    "stall": (),
    "go_on": (),
    "turn": (st.integers(1, 5),),
    "pass_time": (choose([0.1, 1.0, 6.0, 40.0]),),
    "go": (choose(["half", "half", "reset", "leave"]),),
}
RATES = [{}, {}, {"message_rate": 3}, {"byte_rate": 200}, {"message_rate": 3, "byte_rate": 300}]
CONFIG = {
    "transport": [NotedTransport, AbruptTransport],
    "app": sorted(APPS),
    "codec": [None, None, "json", "json:invalid=deliver"],
    "budget": [0, 250, 250],
    "per_turn": [0, 2, 256],
    "rates": RATES,
    "waits": ["wait", "wait", "refuse", "reset"],
    "skip": [False, True],
    "buffered": [0, 3000, 10_000],
    "reads": [True, False],
    "key": [False, True],
    "recorded": [False, True],
    "concurrency": [1, 1, 2, 5],
    "replies": ["in-order", "as-ready"],
}


def run(config: dict[str, Any], steps: list[Any]) -> None:
    errors: list[LogEvent] = []

    def note(event: LogEvent) -> None:
        if "log_failure" in event:
            errors.append(event)

    globalLogPublisher.addObserver(note)
    try:
        chaos = Chaos(**config)
        for each in steps:
            chaos.step(*each)
        chaos.finish()
        del chaos
        gc.collect(1)
        assert [each["log_failure"].getTraceback() for each in errors] == []
    finally:
        globalLogPublisher.removeObserver(note)


ANY_STEP = st.one_of([st.tuples(st.just(name), WHICH, *args) for name, args in STEPS.items()])


@pytest.mark.exhaustive
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    config=st.fixed_dictionaries({name: choose(values) for name, values in CONFIG.items()}),
    steps=st.lists(ANY_STEP, max_size=30),
)
def test_each_message_and_each_wait_is_accounted_for(config: dict[str, Any], steps: list[Any]) -> None:
    """Each message is handled or counted, once and in order. After the end, nothing is held and nothing waits."""
    run(config, steps)


CALM = {name: STEPS[name] for name in ("turn", "take", "stall", "go_on", "hold")}
CALM["say"] = (
    st.lists(choose(["reply", "none", "later", "send", "big", "slow", "pause", "stream"]), min_size=1, max_size=12),
    choose([b"", b"", b"[0,", b"x" * 150 + b"\n"]),
)
CALM["answer"] = (choose(["reply"]),)
SAME = {name: CONFIG[name] for name in ("app", "codec", "per_turn", "reads", "key")}
CALM_STEP = st.one_of([st.tuples(st.just(name), WHICH, *args) for name, args in CALM.items()])


@pytest.mark.exhaustive
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    config=st.fixed_dictionaries({name: choose(values) for name, values in SAME.items()}),
    steps=st.lists(CALM_STEP, max_size=30),
    half=st.booleans(),
)
def test_replies_are_the_same_whatever_the_budget(config: dict[str, Any], steps: list[Any], half: bool) -> None:
    """A connection sends the same replies for every `work_per_turn`, whether it waits for turns or not."""
    heard = []
    for budget in (0, 250, 2000):
        chaos = Chaos(**config, budget=budget, skip=True)
        for name, which, *args in steps:
            if name == "say" and config["app"] == "batches":  # what these do depends on the other messages of the batch
                args[0] = ["reply" if each in ("send", "later") else each for each in args[0]]
            chaos.step(name, which, *args)
        if half:
            chaos.do_go(0, "half")
        chaos.finish()
        heard.append([each.transport.value() for each in chaos.runs])
    assert heard[1:] == heard[:1] * 2
