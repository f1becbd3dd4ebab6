"""tcpapp in programs of asyncio, and asyncio in apps of tcpapp."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from tcpapp import aio
from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.errors import InvalidOption, NotConnected
from tests.peers import outcome
from tests.processes import SECONDS

pytestmark = pytest.mark.once  # a loop of asyncio cannot run inside another

ROOT = Path(__file__).resolve().parents[2]


def runs(program: str, tmp_path: Path) -> str:
    """Run a program, check that it ends well and prints no error, and return its output."""
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, str(tmp_path / "program.py")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


# Futures from Deferreds, and Deferreds from awaitables ----------------------------------------------------------------


def test_a_future_ends_as_the_deferred_does() -> None:
    """A future ends with the result of its Deferred, with its error, or cancelled."""

    async def main() -> None:
        assert await aio.future(succeed(1)) == 1
        with pytest.raises(ValueError, match="no"):
            await aio.future(fail(ValueError("no")))
        with pytest.raises(asyncio.CancelledError):
            await aio.future(fail(CancelledError()))

    asyncio.run(main())


def test_a_future_that_is_cancelled_cancels_the_deferred() -> None:
    """If a task is cancelled while it awaits a future, the Deferred of the future is cancelled, too."""

    async def main() -> None:
        cancelled: list[Any] = []
        waits: Deferred[Any] = Deferred(cancelled.append)
        task = asyncio.ensure_future(aio.future(waits))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert cancelled == [waits]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(aio.future(Deferred()), 0.001)

    asyncio.run(main())


def test_a_deferred_ends_as_the_awaitable_does() -> None:
    """`aio.deferred` runs a coroutine as a task, which can await asyncio, and fires with its result or error."""

    async def good() -> str:
        await asyncio.sleep(0)
        assert asyncio.current_task() is not None
        return "good"

    async def bad() -> None:
        raise ValueError

    async def main() -> None:
        seen = [outcome(aio.deferred(each)) for each in (good(), bad())]
        await asyncio.sleep(0.01)
        assert seen[0] == ["good"]
        assert [ValueError] == [type(each) for each in seen[1]]

    asyncio.run(main())


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_deferred_is_cancelled_at_any_moment(turns: int, logged_errors: Any) -> None:
    """A Deferred that is cancelled before its task has begun, or later, leaves no unhandled error."""

    async def sleeps() -> None:
        await asyncio.sleep(10)

    async def main() -> list[Any]:
        made = aio.deferred(sleeps())
        seen = outcome(made)
        for _ in range(turns):
            await asyncio.sleep(0)
        made.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        return seen

    assert [CancelledError] == [type(each) for each in asyncio.run(main())]
    gc.collect()
    assert logged_errors.take() == []


def test_a_task_that_is_cancelled_fails_the_deferred() -> None:
    """If another holder of the task cancels it, the Deferred fails with `CancelledError`."""

    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(10))
        seen = outcome(aio.deferred(task))
        task.cancel()
        await asyncio.sleep(0.001)
        assert [CancelledError] == [type(each) for each in seen]

    asyncio.run(main())


def test_native_passes_on_attributes_and_plain_results() -> None:
    """`Native` passes on attributes and plain results. If `receive()` fails after a loss, the iteration raises."""

    class Thing:
        port = 7007

        def double(self, number: int) -> int:
            return 2 * number

        def receive(self) -> Deferred[Any]:
            return fail(NotConnected("no", CloseReason(EndedBy.NETWORK, "lost", "no")))

    async def main() -> None:
        thing = aio.Native(Thing())
        assert (thing.port, thing.double(2)) == (7007, 4)
        with pytest.raises(NotConnected):
            async for _ in thing:
                pass

    asyncio.run(main())


def test_a_future_raises_the_error_of_its_deferred() -> None:
    """A future raises the Deferred's error, also an error like asyncio's for a future that was not awaited."""

    async def main() -> None:
        waits: Deferred[Any] = Deferred()
        made = aio.future(waits)
        asyncio.get_running_loop().call_soon(waits.errback, RuntimeError("its own"))
        with pytest.raises(RuntimeError, match="its own"):
            await made

    asyncio.run(main())


def test_two_natives_of_one_object_are_equal() -> None:
    """Two `Native` objects of one connection are equal, so an app can keep its connections in a set."""
    one, other = object(), object()
    assert {aio.Native(one), aio.Native(one)} == {aio.Native(one)}
    assert aio.Native(one) != aio.Native(other)
    assert aio.Native(one) != one


class Startable:
    """An object that is started and stopped, as a `Client`."""

    def __init__(self) -> None:
        self.started: Deferred[Any] = Deferred()
        self.stops = 0

    def start(self) -> Deferred[Any]:
        return self.started

    def stop(self) -> Deferred[Any]:
        self.stops += 1
        return succeed(None)


@pytest.mark.parametrize("when", ["before it starts", "as it starts", "inside"])
def test_a_with_that_is_cancelled_stops_the_client(when: str) -> None:
    """An ``async with`` that is cancelled stops its client once, whether the block was entered or not."""

    async def main() -> None:
        thing, inside = Startable(), asyncio.Event()

        async def use() -> None:
            async with aio.Native(thing):
                inside.set()
                await asyncio.sleep(10)

        task = asyncio.ensure_future(use())
        await asyncio.sleep(0)
        if when != "before it starts":
            thing.started.callback(thing)
        if when == "inside":
            await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (thing.stops, inside.is_set()) == (1, when == "inside")

    asyncio.run(main())


def test_a_with_that_fails_to_start_stops_the_client() -> None:
    """If the start fails, the ``async with`` raises the error, and stops its client."""

    async def main() -> None:
        thing = Startable()
        thing.started.errback(ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            async with aio.Native(thing):
                raise AssertionError
        assert thing.stops == 1

    asyncio.run(main())


@pytest.mark.parametrize(("result", "left"), [("made", []), (ValueError("no"), []), (None, ["made"])])
def test_a_connection_for_a_cancelled_task_is_released(result: Any, left: list[str]) -> None:
    """If a task is cancelled when its connection is already made, the connection is released."""

    async def main() -> None:
        waits: Deferred[Any] = Deferred(lambda _: left.remove("made"))
        let_go: list[Any] = []
        task = asyncio.ensure_future(aio._handed_over(aio.future(waits), let_go.append))
        await asyncio.sleep(0)
        if isinstance(result, Exception):
            waits.errback(result)
        elif result:
            waits.callback(result)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert let_go == [result] * (result == "made")
        assert left == []

    asyncio.run(main())


# Whole programs -------------------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio
from tcpapp import aio

async def shout(message, connection):
    await asyncio.sleep(0)
    assert asyncio.current_task() is not None
    return message.upper()

@aio.conversation
async def counts(connection):
    async for message in connection:
        await connection.send(b"%d" % len(message))

async def main():
    async with await aio.listen("tcp:0:interface=127.0.0.1", aio.app(shout)) as server:
        where = f"tcp:localhost:{server.port}"
        async with aio.client(where) as client:
            print(await client.request(b"client"), type(client.state).__name__)
            print(await asyncio.gather(*(client.request(b"%d" % number) for number in range(3))))
        async with aio.pool(where, 2) as pool:
            print(await pool.request(b"pool"))
        async with await aio.connect(where) as connection:
            print(await connection.request(b"connection"))
            await connection.send(b"sent")
            print(await anext(aiter(connection)))
        async for _ in connection:
            print("never")
        try:
            await asyncio.wait_for(client.receive(), 1)
        except Exception as error:
            print(type(error).__name__)
    other = await aio.listen("tcp:0:interface=127.0.0.1", counts)
    async with aio.client(f"tcp:127.0.0.1:{other.port}") as client:
        print(await client.request(b"four"))
    await other.close()

asyncio.run(main())
"""


def test_everything_is_awaited_in_a_program_of_asyncios(tmp_path: Path) -> None:
    """In a program of asyncio, server and clients run on one loop, and the process ends by itself."""
    program = PROGRAM.replace("anext(aiter(connection))", "connection.receive()")  # Python 3.10 has no anext()
    assert runs(program, tmp_path).splitlines() == [
        "b'CLIENT' Connected",
        "[b'0', b'1', b'2']",
        "b'POOL'",
        "b'CONNECTION'",
        "b'SENT'",
        "NotConnected",
        "b'4'",
    ]


def test_another_installed_reactor_is_an_error(tmp_path: Path) -> None:
    """If another reactor is installed, the error says so in one line, with what to do."""
    program = """
import asyncio
from twisted.internet import selectreactor
selectreactor.install()
from tcpapp import aio

async def main():
    try:
        aio.start()
    except ValueError as error:
        print(error)

asyncio.run(main())
"""
    assert runs(program, tmp_path) == (
        "aio: the reactor of this program is SelectReactor, and not asyncio's on the loop that runs; "
        "call aio.start(), or use aio, before twisted.internet.reactor is imported\n"
    )


def test_without_a_loop_aio_is_refused(tmp_path: Path) -> None:
    """Without a running loop, the error says where `aio` can be used, for each kind of reactor."""
    with pytest.raises(InvalidOption, match="no loop of asyncio runs here, for Twisted's reactor is"):
        aio.start()
    program = """
from tcpapp import aio

def tell():
    try:
        aio.client("tcp:localhost:7007")
    except ValueError as error:
        print(error)

tell()
from twisted.internet import asyncioreactor
asyncioreactor.install()
tell()
"""
    assert runs(program, tmp_path) == (
        "aio: no loop of asyncio runs here; call it inside asyncio.run(main())\n"
        "aio: no loop of asyncio runs here; call it inside a coroutine that the reactor runs, by aio.deferred(main())\n"
    )


def test_in_a_second_loop_aio_is_refused(tmp_path: Path) -> None:
    """A process has one reactor, which runs on one loop. In a second loop calls raise, and do not wait for ever."""
    program = """
import asyncio
from twisted.internet.defer import Deferred
from tcpapp import aio

async def first():
    aio.start()

async def second():
    for call in (aio.start, lambda: aio.future(Deferred()), lambda: aio.client("tcp:localhost:7007")):
        try:
            call()
        except ValueError as error:
            print(error)
    print(await aio.future(Deferred.fromCoroutine(ready())))

async def ready():
    return "ready"

asyncio.run(first())
asyncio.run(second())
"""
    told = (
        "aio: Twisted's reactor runs on another loop of asyncio, such as an earlier asyncio.run(), and a process has "
        "one reactor; do everything in one asyncio.run(main()), or start a process for each loop\n"
    )
    assert runs(program, tmp_path) == 3 * told + "ready\n"


INSTALLS = {"asyncio": "", "uvloop": "import tcpapp.reactor\ntcpapp.reactor.install()\n"}
STARTS = {
    "asyncio": "asyncio.run(main())",
    "uvloop": "from twisted.internet.task import react\nreact(lambda reactor: aio.deferred(main()))",
}


def runs_on(reactor: str, program: str, tmp_path: Path) -> str:
    """Run a program whose ``main()`` runs on this reactor, and return its output."""
    return runs(f"{INSTALLS[reactor]}{program}\n{STARTS[reactor]}\n", tmp_path)


LEAVES = """
import asyncio
import tcpapp
from tcpapp import aio
from tcpapp.client.reconnecting import Connected, Waiting

async def given_up(native, kind):
    members = getattr(native.wrapped, "members", [native.wrapped])
    when = asyncio.Event()
    members[0].watch(lambda state: isinstance(state, kind) and when.set())

    async def use():
        async with native:
            await asyncio.sleep(3600)

    task = asyncio.ensure_future(use())
    await when.wait()
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print(*(type(each.state).__name__ for each in members))

async def main():
    server = await aio.listen("tcp:0:interface=127.0.0.1", lambda message, _: message)
    where = f"tcp:127.0.0.1:{server.port}"
    await given_up(aio.client(where), Connected)
    await given_up(aio.pool(where, 2), Connected)
    await server.close(0)
    await given_up(aio.client(where), Waiting)
    await given_up(aio.pool(where, 2), Waiting)
"""


@pytest.mark.parametrize("reactor", STARTS)
def test_a_with_that_is_cancelled_leaves_nothing_that_connects(reactor: str, tmp_path: Path) -> None:
    """On real ports, a cancelled ``async with`` stops all clients, inside the block and while it is entered."""
    assert runs_on(reactor, LEAVES, tmp_path) == 2 * "Stopped\nStopped Stopped\n"


ADDRESSES = """
import asyncio
import socket
from tcpapp import aio
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHostnameResolver
from zope.interface import implementer

@implementer(IHostnameResolver)
class Names:
    def resolveHostName(self, receiver, name, portNumber=0, *given):
        receiver.resolutionBegan(None)
        for host in {"dead": ["127.0.0.2", "127.0.0.1"], "both": ["127.0.0.2", "::1"]}[name]:
            receiver.addressResolved((IPv6Address if ":" in host else IPv4Address)("TCP", host, portNumber))
        receiver.resolutionComplete()

async def main():
    reactor = aio.start()
    reactor.installNameResolver(Names())
    servers = [
        await aio.listen("tcp:0:interface=127.0.0.1", lambda message, _: b"IPv4"),
        await aio.listen(r"tcp:0:interface=\\:\\:1", lambda message, _: b"IPv6"),
    ]
    for name, server in zip(["dead", "both"], servers):
        async with aio.client(f"tcp:{name}:{server.port}") as client:
            print(await client.request(b"hello"))
        async with await aio.connect(f"tcp:{name}:{server.port}") as connection:
            print(await connection.request(b"hello"))
        await server.close()
    for connects in (aio.connect, lambda itself: aio.client(itself, connect_now=True).start()):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        try:
            await connects(TCP4ClientEndpoint(reactor, "127.0.0.1", port, bindAddress=("127.0.0.1", port)))
        except Exception as error:
            print(type(error).__name__, "connected to itself" in str(error))
"""


APPS = """
import asyncio
from tcpapp import aio

ended = asyncio.Event()
queue = asyncio.Queue()
lock = asyncio.Lock()

@aio.app
class Ticking:
    def opened(self, connection):
        connection.spawn(self.ticks(connection))
        connection.spawn(self.waits(), background=True)

    async def ticks(self, connection):
        async for skipped in connection.every(0.01):
            async with lock:
                await connection.send(b"tick")

    async def waits(self):
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            print("task ended")

    async def received(self, message, connection):
        await asyncio.wait_for(queue.put(message), 10)
        return await queue.get()

    def closed(self, connection, reason):
        print("closed", reason.rule)
        ended.set()

@aio.conversation
async def talk(connection):
    try:
        async for message in connection:
            await asyncio.sleep(0)
            await connection.send(message.upper())
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("talk cancelled")
        ended.set()
        raise

async def main():
    async with await aio.listen("tcp:0:interface=127.0.0.1", Ticking) as server:
        async with await aio.connect(f"tcp:127.0.0.1:{server.port}") as connection:
            print(*[await connection.receive() for _ in range(2)])
            await connection.send(b"hello")
            while await connection.receive() == b"tick":
                pass
            connection.abort()
        await ended.wait()
    ended.clear()
    async with await aio.listen("tcp:0:interface=127.0.0.1", talk) as server:
        connection = await aio.connect(f"tcp:127.0.0.1:{server.port}")
        print(await connection.request(b"hello"))
        await connection.close()
        await server.drain(0.1)
        await ended.wait()
"""


@pytest.mark.parametrize("reactor", STARTS)
def test_apps_of_asyncio_use_its_library_on_both_reactors(reactor: str, tmp_path: Path) -> None:
    """On a real port, an app awaits locks, queues and timeouts of asyncio. Its tasks and coroutines end with it."""
    assert runs_on(reactor, APPS, tmp_path).splitlines() == [
        "b'tick' b'tick'",
        "task ended",
        "closed lost",
        "b'HELLO'",
        "talk cancelled",
    ]


@pytest.mark.parametrize("reactor", STARTS)
def test_all_addresses_are_tried_and_a_connection_to_itself_is_refused(reactor: str, tmp_path: Path) -> None:
    """A client of `aio` tries all addresses of a name, and refuses a connection to itself, as all clients do."""
    assert runs_on(reactor, ADDRESSES, tmp_path).splitlines() == [
        *(2 * ["b'IPv4'"]),
        *(2 * ["b'IPv6'"]),
        *(2 * ["ConnectionRefusedError True"]),
    ]


def test_aio_works_in_a_program_that_runs_the_asyncio_reactor(tmp_path: Path) -> None:
    """`aio` works where a program runs the asyncio reactor itself, and a loop can end without using a thread."""
    program = """
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet.task import react
from twisted.internet.defer import ensureDeferred
from tcpapp import aio

async def native():
    assert aio.start() is aio.start()
    async with await aio.listen("tcp:0:interface=127.0.0.1", lambda message, _: message) as server:
        async with await aio.connect(f"tcp:127.0.0.1:{server.port}") as connection:
            return await connection.request(b"hello")

react(lambda reactor: aio.deferred(native()).addCallback(print))
"""
    assert runs(program, tmp_path) == "b'hello'\n"
    alone = "import asyncio\nfrom tcpapp import aio\n\nasync def main():\n    aio.start()\n\nasyncio.run(main())\n"
    assert runs(alone, tmp_path) == ""
