"""What the run of other packages' tests does with its results. The tests need no network and no other package."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import beside, more, packages

PACKAGE = packages.Package("some==1.0", ("some.test",), needs=("beside==2.0",))


class FakeRunner:
    """A runner with given results, one set for each run. It raises a set that is an exception."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.asked: list[list[str]] = []

    def run(self, names: Any) -> dict[str, beside.Found]:
        self.asked.append(list(names))
        found = self.results.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def found(epoll: dict[str, str], uvloop: dict[str, str]) -> dict[str, beside.Found]:
    """Return these results of tests as a run on both reactors gives them."""
    both = {"epoll": epoll, "uvloop": uvloop}
    return {reactor: {name: (how, "why") for name, how in each.items()} for reactor, each in both.items()}


def compared(*results: Any) -> tuple[dict[str, str], list[list[str]]]:
    """Return the faults that `compare` finds in these runs, and the names that each run was asked for."""
    runner: Any = FakeRunner(*results)
    return more.compare(PACKAGE, runner), runner.asked


def test_a_test_that_also_fails_on_epoll_is_no_fault() -> None:
    """A test that fails on both reactors, or on epoll alone, is no fault, and no module runs again."""
    faults, asked = compared(found({"m.C.a": "fail", "m.C.b": "fail"}, {"m.C.a": "fail", "m.C.b": "ok"}))
    assert faults == {}
    assert asked == [["some.test"]]


def test_a_test_that_fails_on_uvloop_twice_is_a_fault() -> None:
    """
    A test is a fault if it passes on epoll and fails or is absent on uvloop, both at first and when its module runs
    alone.
    """
    once = found({"m.C.a": "ok", "m.C.b": "ok", "n.C.c": "ok"}, {"m.C.a": "fail", "m.C.b": "error"})
    again = found({"m.C.a": "ok", "m.C.b": "ok", "n.C.c": "ok"}, {"m.C.a": "ok", "m.C.b": "error"})
    faults, asked = compared(once, again)
    assert faults == {"m.C.b": "error: why", "n.C.c": "absent: it was not run"}
    assert asked == [["some.test"], ["m", "n"]]


def test_reactors_run_one_after_the_other_each_with_a_new_resource() -> None:
    """Without `at_once` the reactors run one after the other, and `around` is entered and left for each."""
    began: list[str] = []

    @contextmanager
    def around() -> Iterator[None]:
        began.append("begun")
        yield
        began.append("ended")

    code = "import sys, json; json.dump({'m.C.' + sys.argv[1]: ['ok', '']}, open(sys.argv[2], 'w'))"
    runner = beside.Runner((sys.executable, "-c", code), at_once=False, around=around)
    assert runner.run(["m"]) == {each: {f"m.C.{each}": ("ok", "")} for each in ("epoll", "uvloop")}
    assert began == ["begun", "ended"] * 2


def test_a_run_without_results_or_over_its_time_breaks() -> None:
    """
    A run that writes no results, or that lasts more than `longest`, raises `Broke` with what it printed or with the
    time.
    """
    with pytest.raises(beside.Broke, match="the run on epoll broke:\nno reactor"):
        beside.Runner((sys.executable, "-c", "print('no reactor')"), at_once=False).run([])
    with pytest.raises(beside.Broke, match="it took longer than 0 s"):
        beside.Runner((sys.executable, "-c", "import signal; signal.pause()"), longest=0.0).run([])


def test_a_run_that_breaks_on_uvloop_is_a_fault() -> None:
    """A run that breaks on uvloop is a fault of the package, with the output of the run."""
    faults, _ = compared(beside.Broke("uvloop", "aborted"))
    assert faults == {"some": "the run on uvloop broke:\naborted"}


def test_a_package_whose_run_breaks_on_epoll_is_skipped() -> None:
    """`compare` raises `NotHere` when the run breaks on epoll."""
    with pytest.raises(more.NotHere, match="the run on epoll broke"):
        compared(beside.Broke("epoll", "aborted"))


def test_constraints_have_the_locked_versions_and_markers_and_no_hashes() -> None:
    """`pinned` keeps versions and markers, and leaves out hashes, comments and the packages in `loose`."""
    locked = (
        "# by make lock\n"
        "attrs==25.1.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n    # via twisted\n"
        "tomli==2.2.1 ; python_full_version < '3.11' \\\n    --hash=sha256:22\n"
    )
    assert more.pinned(locked) == "attrs==25.1.0\ntomli==2.2.1 ; python_full_version < '3.11' \n"
    assert more.pinned(locked, ("tomli",)) == "attrs==25.1.0\n"


def test_an_environment_is_set_up_once_for_each_row_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prepare` installs a package and its needs once, and installs again when the row of the table changes."""
    monkeypatch.setattr(more.venv, "create", lambda folder, **_: Path(folder).mkdir(exist_ok=True))
    calls: list[tuple[Any, ...]] = []
    for _ in range(2):
        folder = more.prepare(PACKAGE, lambda *command: calls.append(command), tmp_path)
    assert folder == tmp_path / "some"
    assert [call[5] for call in calls] == ["install"]
    assert {"some==1.0", "beside==2.0", *more.BASE} < set(calls[0])
    more.prepare(packages.Package("some==1.1", ()), lambda *command: calls.append(command), tmp_path)
    assert len(calls) == 2


def test_an_install_that_fails_gives_the_reason_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prepare` raises the error of a failed install, and the next call tries again."""
    monkeypatch.setattr(more.venv, "create", lambda folder, **_: Path(folder).mkdir(exist_ok=True))

    def refuse(*_: object) -> None:
        raise more.NotHere("ERROR: no such version")

    for _ in range(2):
        with pytest.raises(more.NotHere, match="no such version"):
            more.prepare(PACKAGE, refuse, tmp_path)


def test_a_package_whose_program_is_missing_is_skipped(tmp_path: Path) -> None:
    """`prepare` raises `NotHere` for a package whose program is not installed, and creates nothing."""
    package = packages.Package("some==1.0", (), program="no-such-program")
    with pytest.raises(more.NotHere, match="no-such-program is not installed"):
        more.prepare(package, print, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_package_whose_port_is_taken_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    When another program serves at the port, the package is skipped, since its tests would change the data of that
    program.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(more, "REDIS_PORT", taken.getsockname()[1])
        with pytest.raises(more.NotHere, match="something serves on port"), more.serving("redis-server"):
            pass


def test_a_program_serves_while_the_tests_run(
    monkeypatch: pytest.MonkeyPatch, requires_program: Callable[[str], str]
) -> None:
    """The program serves once its log says so, and no longer than the tests run."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    monkeypatch.setattr(more, "REDIS_PORT", address[1])
    with more.serving(requires_program("redis-server")), socket.create_connection(address) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(10) == b"+PONG\r\n"
    with socket.socket() as client:
        assert client.connect_ex(address) != 0


def test_a_package_whose_program_ends_early_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """`serving` raises `NotHere` when the program ends before it serves."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(more, "REDIS_PORT", port)
    with pytest.raises(more.NotHere, match=f"nothing serves on port {port}"), more.serving("true"):
        pass


def test_skipped_packages_are_printed_and_are_no_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`main` prints each skipped package with its reason, and reports no fault."""

    def refuse(package: packages.Package) -> Path:
        raise more.NotHere("no network")

    monkeypatch.setattr(more, "prepare", refuse)
    assert not more.main([])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{packages.PACKAGES[0].requirement} is passed over: no network"
    assert len(told) == len(packages.PACKAGES) + 1


def test_every_version_in_the_table_is_exact() -> None:
    """Every requirement in the table of packages names an exact version."""
    for package in packages.PACKAGES:
        assert all("==" in each for each in (package.requirement, *package.needs))
