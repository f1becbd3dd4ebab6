"""The two sources of `tcpapp.framing.loops` do the same: the Python one, and the compiled one."""

from __future__ import annotations

import importlib.util
import random
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tcpapp
from tcpapp.framing import loops as compiled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

pytestmark = pytest.mark.skipif(not tcpapp.accelerated, reason="tcpapp is not compiled here")

INPUTS = 3_000
"""How many inputs each loop gets in a test; `main` takes any number."""


def source() -> ModuleType:
    """The module as Python runs it where nothing is compiled."""
    path = Path(tcpapp.__file__).parent / "framing" / "loops.py"
    spec = importlib.util.spec_from_file_location("loops_from_source", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FIELDS = {1: ">B", 2: ">H", 4: ">I", 8: ">Q", -1: "<B", -2: "<H", -4: "<I", -8: "<Q"}


def three(order: Any) -> tuple[Any, Any]:
    """The functions of a length of three bytes."""
    return (
        lambda chunk, at: (int.from_bytes(chunk[at : at + 3], order),),
        lambda length: length.to_bytes(3, order),
    )


def spoiled(chunk: bytes, chance: random.Random) -> bytes:
    """`chunk` with a byte changed, cut off, or as it was."""
    if chunk and chance.random() < 0.3:
        at = chance.randrange(len(chunk))
        return chunk[:at] + bytes([chance.choice([0, 1, 0x2C, 0x30, 0x3A, 0x7F, 0x80, 0xFF])]) + chunk[at + 1 :]
    return chunk[: chance.randint(0, len(chunk))] if chance.random() < 0.5 else chunk


def place(chunk: bytes, chance: random.Random) -> int:
    """Where a loop begins: mostly at the beginning, or behind the chunk where a long message was skipped."""
    return chance.choice([0, 0, 0, 0, min(1, len(chunk)), len(chunk), len(chunk) + 1, 2**70])


def messages(chance: random.Random) -> list[Any]:
    """Some messages, a few of them of wrong types."""
    longest = chance.choice([1, 3, 130, 300])
    found: list[Any] = [bytes(chance.randrange(longest)) for _ in range(chance.randrange(12))]
    if chance.random() < 0.1:
        found.append(chance.choice([bytearray(b"x"), "x", None, 3, type("Bytes", (bytes,), {})(b"x")]))
    return found


def counted(chance: random.Random) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls of the loops for lengths of a fixed width."""
    width = chance.choice([*FIELDS, 3, -3])
    if width in FIELDS:
        field = struct.Struct(FIELDS[width])
        unpack, pack = field.unpack_from, field.pack
    else:
        unpack, pack = three("big" if width > 0 else "little")
    most = min(chance.choice([1, 5, 127, 128, 255, 2**70]), 256 ** abs(width) - 1)  # as the framing takes care of
    frames = b"".join([pack(len(each)) + each for each in messages(chance) if type(each) is bytes and len(each) < 256])
    chunk = spoiled(frames, chance)
    yield "cut_counted", (chunk, place(chunk, chance), abs(width), most, unpack, pack, -1)
    yield "frame_counted", (messages(chance), most, pack)


def varint(length: int) -> bytes:
    """`length` as a varint."""
    found = bytearray()
    while length > 0x7F:
        found.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*found, length])


def varints(chance: random.Random) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls of the loops for varints."""
    most = chance.choice([1, 127, 128, 200, 20_000, 2**70])
    long = [bytes(chance.choice([16_383, 16_384]))] if chance.random() < 0.05 else []
    frames = b"".join([varint(len(each)) + each for each in [*messages(chance), *long] if type(each) is bytes])
    yield "cut_varints", (chunk := spoiled(frames, chance), place(chunk, chance), most)
    yield "frame_varints", ([*messages(chance), *long], most, varint)


def netstrings(chance: random.Random) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls of the loop for netstrings."""
    frames = [b"%d:%b," % (len(each), each) for each in messages(chance) if type(each) is bytes]
    frames += [b"007:1234567,", b"1000:" + bytes(1000) + b","] if chance.random() < 0.1 else []
    chance.shuffle(frames)
    chunk = spoiled(b"".join(frames), chance)
    yield "cut_netstrings", (chunk, place(chunk, chance), chance.choice([1, 10, 300, 2000, 2**70]))


def places(chance: random.Random) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls of the functions that a parser is read with."""
    data = bytes(chance.choices(b"\r\n a", k=chance.randrange(30)))
    wanted = bytes(chance.choices(b"\r\n", k=chance.randint(1, 3)))
    yield "find_in", (data, wanted, chance.randint(0, 40), chance.randint(0, 40))
    size = chance.choice([0, 1, -1, 2**61 - 1, -(2**40), chance.randint(-1000, 1000)])
    yield "size_of", (size,)
    yield "total_length", (messages(chance),)


KINDS = {"counted": counted, "varints": varints, "netstrings": netstrings, "places": places}


def outcome(module: ModuleType, name: str, arguments: tuple[Any, ...]) -> tuple[Any, list[Any]]:
    """What a loop returns, without the length of a run, and the messages that it cuts."""
    found: list[Any] = []
    cuts = name.startswith("cut_")
    returned = getattr(module, name)(*arguments, *([found] if cuts else []))
    return (returned[0] if isinstance(returned, tuple) else returned), found


def compare(kind: str, inputs: int, seed: int) -> None:
    """Give both sources as many inputs of a kind, and compare what they do."""
    from_source, chance = source(), random.Random(seed)
    for _ in range(inputs):
        for name, arguments in KINDS[kind](chance):
            assert outcome(compiled, name, arguments) == outcome(from_source, name, arguments), (name, arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_both_sources_do_the_same(kind: str) -> None:
    """Random inputs of each kind, spoiled ones too, give the same messages, places and bytes."""
    compare(kind, INPUTS, seed=1)


if __name__ == "__main__":
    for kind in KINDS:
        compare(kind, int(sys.argv[1]) // len(KINDS), seed=int(sys.argv[2]))
    print(f"{sys.argv[1]} inputs: both sources do the same")  # noqa: T201
