"""The machine of a run, and which processors the server and the load use."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

BUSY = 0.5
"""Load average per processor above which other work probably affects the numbers."""


_ALLOWED = sorted(os.sched_getaffinity(0))
"""The processors of this process when it began."""


@dataclass(frozen=True)
class Processors:
    """The processors of the server under test and of the load; `None` if there is only one."""

    server: int | None
    load: int | None

    def __str__(self) -> str:
        if self.server is None:
            return "server and load share one processor: nothing is pinned"
        return f"server pinned to CPU {self.server}, load generator to CPU {self.load}"


def processors() -> Processors:
    """Return the first and the last processor of this process."""
    return Processors(_ALLOWED[0], _ALLOWED[-1]) if len(_ALLOWED) > 1 else Processors(None, None)


def pin(pid: int, processor: int | None) -> None:
    """Keep a process on one processor, if there are several."""
    if processor is not None:
        with contextlib.suppress(ProcessLookupError):  # the process has ended already, and reports the reason itself
            os.sched_setaffinity(pid, {processor})


def unpin() -> None:
    """Let this process use all processors again."""
    os.sched_setaffinity(0, _ALLOWED)


def cpu_seconds(pid: int) -> tuple[float, float]:
    """
    Return how many seconds a process of one thread has run, and how many it was ready but waited for its processor.

    They are exact to the nanosecond, unlike ``/proc/PID/stat``. The waiting time shows other work on the machine.
    """
    ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


def heap_bytes(pid: int) -> int:
    """Return the bytes of a process that belong to no file: its heap. The kernel's socket buffers are not included."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this kernel does not tell a process's anonymous memory")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this kernel does not tell a process's {name}")


def resident_bytes(pid: int) -> int:
    """Return the bytes of memory that a process has now."""
    return _status(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """Return the most bytes that a process has had since it began, or since `forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Restart `peak_bytes` (proc(5), ``clear_refs``)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def open_files(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - thousands of them, many times a second


def raise_file_limit(wanted: int) -> int:
    """Let this process and its children open `wanted` files, or as many as possible. Return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else min(soft, wanted)


def cpu_model() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def load_per_processor() -> float:
    """Return the load average of the last minute, for each processor."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def installed(package: str) -> str:
    """Return the version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def describe() -> dict[str, str | int | float]:
    """Return the properties of the machine and of the software that the numbers depend on."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "twisted": installed("twisted"),
        "load_per_core": round(load_per_processor(), 2),
        "pinning": str(processors()),
    }
