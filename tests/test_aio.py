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

pytestmark = pytest.mark.once  # a loop of asyncio's runs inside no other

ROOT = Path(__file__).resolve().parents[1]


def runs(program: str, tmp_path: Path) -> str:
    """What a program prints; it has to end well, and say nothing else."""
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, str(tmp_path / "program.py")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


# One into the other ---------------------------------------------------------------------------------------------------


def test_a_future_ends_as_the_deferred_does() -> None:
    """Well, with its error, or cancelled."""

    async def main() -> None:
        assert await aio.future(succeed(1)) == 1
        with pytest.raises(ValueError, match="no"):
            await aio.future(fail(ValueError("no")))
        with pytest.raises(asyncio.CancelledError):
            await aio.future(fail(CancelledError()))

    asyncio.run(main())


def test_a_future_that_is_cancelled_cancels_the_deferred() -> None:
    """Whoever waits for a task has it cancelled, too; the Deferred's own end comes too late."""

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
    """Which is a task, and may await all that asyncio has."""

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
    """Also before its task has begun, where Twisted's ``fromFuture`` leaves an error that nobody handles."""

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
    """By whoever else has it."""

    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(10))
        seen = outcome(aio.deferred(task))
        task.cancel()
        await asyncio.sleep(0.001)
        assert [CancelledError] == [type(each) for each in seen]

    asyncio.run(main())


def test_what_is_no_method_is_what_it_is() -> None:
    """And what gives no Deferred gives that; where it ends badly, iteration raises that."""

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
    """Server and client, one loop; the process ends by itself."""
    program = PROGRAM.replace("anext(aiter(connection))", "connection.receive()")  # which Python 3.10 has, too
    assert runs(program, tmp_path).splitlines() == [
        "b'CLIENT' Connected",
        "[b'0', b'1', b'2']",
        "b'POOL'",
        "b'CONNECTION'",
        "b'SENT'",
        "NotConnected",
        "b'4'",
    ]


def test_where_another_reactor_is_there_already_that_is_told(tmp_path: Path) -> None:
    """In one line, with what to do."""
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


def test_without_a_loop_it_cannot_be() -> None:
    """It says where it can."""
    with pytest.raises(InvalidOption, match="no loop of asyncio runs here"):
        aio.start()


def test_under_twisteds_own_start_of_asyncios_reactor(tmp_path: Path) -> None:
    """A program that runs the reactor itself; and a loop that ends without a thread having been used."""
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
