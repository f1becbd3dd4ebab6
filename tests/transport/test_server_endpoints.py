"""The endpoints of ``tcp:``, ``tcp6:`` and ``unix:``, and their errors."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ServerFactory
from twisted.internet.testing import MemoryReactorClock

from tcpapp.server.listener import close_port
from tcpapp.transport.server_endpoints import TCPListener, UNIXListener
from tests.integration.peers import bounded
from tests.peers import outcome


class Quiet(ServerFactory):
    """A factory that makes no log lines; `numPorts` counts its open ports."""

    noisy = False


@pytest.fixture
def umask() -> Iterator[None]:
    """Let the test change the umask of the process, and restore it afterwards."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def unix(reactor: Any, path: object, **given: Any) -> UNIXListener:
    """Return a `UNIXListener` for this path."""
    return UNIXListener(reactor, str(path), **({"mode": None, "backlog": 5, "lock": True} | given))


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(
    ("mask", "mode", "found"),
    [(0o077, None, 0o600), (0o027, None, 0o640), (0, None, 0o666), (0o077, 0o660, 0o660), (0, 0o600, 0o600)],
)
@bounded
async def test_the_mode_of_a_unix_socket_is_as_asked_for_or_by_the_umask(
    mask: int, mode: int | None, found: int, global_reactor: Any, tmp_path: Path
) -> None:
    """The file of a UNIX socket has the given permissions, or the permissions that the umask leaves."""
    os.umask(mask)
    port = await unix(global_reactor, tmp_path / "socket", mode=mode).listen(Quiet())
    assert (tmp_path / "socket").stat().st_mode & 0o777 == found
    assert os.umask(mask) == mask
    await close_port(port)


@bounded
async def test_an_abstract_socket_leaves_no_file(
    global_reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An abstract socket has no file and no lock: its name is free when the process ends."""
    monkeypatch.chdir(tmp_path)
    name = f"\0{tmp_path.name}-{os.getpid()}"
    port = await unix(global_reactor, name).listen(Quiet())
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(name)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - a test waits for nothing else
    await close_port(port)


def refusal(listener: Any, factory: Any) -> CannotListenError:
    """Return the error with which this listener fails."""
    (error,) = outcome(listener.listen(factory))
    assert isinstance(error, CannotListenError)
    return error


def test_a_missing_folder_of_a_unix_socket_is_named(global_reactor: Any, tmp_path: Path) -> None:
    """When the folder of a UNIX socket is missing, the error names the folder and the path of the socket."""
    path, factory = tmp_path / "gone" / "socket", Quiet()
    error = refusal(unix(global_reactor, path), factory)
    assert (error.port, error.socketError) == (os.fsencode(path), f"there is no folder {tmp_path / 'gone'}")
    assert factory.numPorts == 0


@pytest.mark.parametrize("kind", ["a file", "a socket", "nothing"])
def test_an_error_says_what_is_at_the_path_of_a_unix_socket(kind: str, tmp_path: Path) -> None:
    """When the path of a UNIX socket is a file that is no socket, the error says so; else the system's error stays."""
    path = tmp_path / "s"
    if kind == "a file":
        path.write_text("not a socket")
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    error = refusal(unix(Beginning(OSError(errno.EADDRINUSE, "Address already in use")), path), Quiet())
    told = "a file is there that is no socket" if kind == "a file" else f"[Errno {errno.EADDRINUSE}] Address already"
    assert str(error.socketError).startswith(told)


@bounded
async def test_a_path_that_another_process_listens_on_is_reported(global_reactor: Any, tmp_path: Path) -> None:
    """When another process listens on the path, the error says so and names the lock file."""
    path = tmp_path / "socket"
    port = await unix(global_reactor, path).listen(Quiet())
    assert refusal(unix(global_reactor, path), Quiet()).socketError == (
        f"another process listens there, which holds {path}.lock"
    )
    await close_port(port)


class Refusing(MemoryReactorClock):
    """A reactor that cannot listen on any port, for the reason `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def listenTCP(self, *given: Any, **named: Any) -> Any:
        raise self.error

    def listenUNIX(self, *given: Any, **named: Any) -> Any:
        raise self.error


def test_an_error_of_listen_2_has_the_address_in_it() -> None:
    """A bare error of listen(2) gets the address; an error that has the address already is unchanged."""
    bare = OSError(errno.EADDRINUSE, "Address already in use")
    error = refusal(TCPListener(Refusing(bare), 7007, 5, "127.0.0.1"), Quiet())
    assert (error.interface, error.port, error.socketError) == ("127.0.0.1", 7007, bare)
    named = CannotListenError("127.0.0.1", 7007, bare)
    assert refusal(TCPListener(Refusing(named), 7007, 5, "127.0.0.1"), Quiet()) is named


def test_an_error_of_a_file_has_the_sockets_path_in_it() -> None:
    """An error about the lock file has the path of the socket, and not the path of the lock file."""
    error = refusal(unix(Refusing(PermissionError(13, "Permission denied", "/run/s.lock")), "/run/s"), Quiet())
    assert (error.port, str(error.socketError)) == (b"/run/s", "[Errno 13] Permission denied")


class Beginning(Refusing):
    """A reactor that fails in ``bind`` as Twisted's do: the factory is started, and the lock is taken."""

    def listenUNIX(self, path: str, factory: Any, *, wantPID: int, **named: Any) -> Any:  # noqa: N803
        factory.doStart()
        if wantPID:
            Path(f"{path}.lock").symlink_to("1")
        raise CannotListenError(None, os.fsencode(path), self.error)


@pytest.mark.parametrize("lock", [True, False])
def test_a_failed_attempt_leaves_nothing_behind(lock: bool, tmp_path: Path) -> None:
    """After a failed attempt, there is no lock file, the factory is stopped, and the path can be tried again."""
    factory = Quiet()
    error = refusal(unix(Beginning(PermissionError(13, "Permission denied")), tmp_path / "s", lock=lock), factory)
    assert (str(error.socketError), factory.numPorts) == ("[Errno 13] Permission denied", 0)
    assert list(tmp_path.iterdir()) == []
