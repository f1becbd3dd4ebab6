"""
Peers that are not Python: the same echo in Go, on Node and in C, each measured if its toolchain is found.

Each peer is one source file here. It is built when it is needed, serves on a free port of 127.0.0.1, prints the port,
and ends with its standard input.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILT = HERE / "built"

TITLES = {
    "go": "Go, net and bufio",
    "node": "Node, net",
    "c": "C, epoll, bytes as they come",
    "go-room": "Go, net and bufio",
}
"""The names of the peers in the table. Go has one processor (``GOMAXPROCS=1``), as all others have."""

ROOMS = ("go-room",)
"""The peers that send each message to all."""
TOOLS = {"go": "go", "node": "node", "c": "cc"}
ENVIRONMENT = {"GOMAXPROCS": "1", "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}


def found() -> list[str]:
    """Return the echo servers whose toolchain is installed."""
    return [name for name, tool in TOOLS.items() if shutil.which(tool)]


def rooms() -> list[str]:
    """Return the rooms whose toolchain is installed."""
    return [name for name in ROOMS if name.partition("-")[0] in found()]


def command(name: str) -> list[str]:
    """Return the command of a peer, and build the peer first if needed. Raise an error if that fails."""
    name, _, kind = name.partition("-")
    if name == "node":
        return ["node", str(HERE / "echo.js")]
    BUILT.mkdir(exist_ok=True)
    program = BUILT / f"echo-{name}"
    source = str(HERE / f"echo.{name}")
    build = ["go", "build", "-o", str(program), source] if name == "go" else ["cc", "-O2", "-o", str(program), source]
    environment = {"HOME": str(BUILT), **os.environ, **ENVIRONMENT}
    subprocess.run(build, check=True, timeout=300, env=environment)
    return [str(program), *([kind] if kind else [])]
