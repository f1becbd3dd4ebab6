"""
The kinds of toxics, and their attributes: Toxiproxy's names, in seconds and bytes.

All values are checked here before they are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from tcpapp.errors import InvalidOption
from tcpapp.spec import suggest
from tcpapp.testing.faultproxy.breaking import LimitData, ResetPeer, Timeout
from tcpapp.testing.faultproxy.stages import Bandwidth, Latency, Slicer, SlowClose, Stage

__all__ = ["KINDS", "STREAMS", "checked", "checked_kind", "checked_stream", "checked_toxicity"]

STREAMS: Final = MappingProxyType(
    {"downstream": ("downstream",), "upstream": ("upstream",), "both": ("upstream", "downstream")}
)
"""The values of `stream`, and the streams that each stands for. Downstream is from the server to the client."""


def _is_number(value: Any, kinds: Any = (int, float)) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_whole(value: Any) -> bool:
    return _is_number(value, int)


@dataclass(frozen=True)
class _Attribute:
    """An attribute: the values that it `takes` in words, their check, and its `default`; `None` if it is required."""

    takes: str
    right: Callable[[Any], bool]
    default: float | None = None


def _seconds(default: float | None = None) -> _Attribute:
    return _Attribute("a number of seconds, 0 or more", _is_number, default)


def _bytes(default: int | None = None) -> _Attribute:
    return _Attribute("a whole number of bytes, 0 or more", _is_whole, default)


@dataclass(frozen=True)
class Kind:
    """A kind of toxic: the `stage` that does its work, and the attributes that it `takes`."""

    stage: type[Stage]
    takes: Mapping[str, _Attribute]


_RATE = _Attribute("bytes a second, 0 (nothing passes) or more", _is_number)
_SIZE = _Attribute("a whole number of bytes, 1 or more", lambda value: _is_whole(value) and value >= 1)

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "latency": Kind(Latency, {"latency": _seconds(), "jitter": _seconds(0.0)}),
        "bandwidth": Kind(Bandwidth, {"rate": _RATE}),
        "slow_close": Kind(SlowClose, {"delay": _seconds()}),
        "timeout": Kind(Timeout, {"timeout": _seconds(0.0)}),
        "reset_peer": Kind(ResetPeer, {"timeout": _seconds(0.0)}),
        "slicer": Kind(Slicer, {"average_size": _SIZE, "size_variation": _bytes(0), "delay": _seconds(0.0)}),
        "limit_data": Kind(LimitData, {"bytes": _bytes()}),
    }
)
"""All kinds by name."""


def checked_kind(name: str) -> Kind:
    """Return the kind of this name. Raises `InvalidOption`, the caller's fault."""
    if name == "down":
        raise InvalidOption("'down' is the whole proxy's: await proxy.disable(), or async with proxy.down()")
    if not isinstance(name, str) or name not in KINDS:
        raise InvalidOption(f"{name!r} is no toxic; there are {', '.join(KINDS)}{suggest(str(name), KINDS)}")
    return KINDS[name]


def checked_stream(stream: str) -> tuple[str, ...]:
    """Return the streams that `stream` stands for. Raises `InvalidOption`, the caller's fault."""
    if not isinstance(stream, str) or stream not in STREAMS:
        raise InvalidOption(f"stream={stream!r}: takes {', '.join(STREAMS)}{suggest(str(stream), STREAMS)}")
    return STREAMS[stream]


def checked_toxicity(toxicity: float) -> float:
    """Return `toxicity`, after a check that it is a probability. Raises `InvalidOption`, the caller's fault."""
    if not _is_number(toxicity) or toxicity > 1:
        raise InvalidOption(f"toxicity={toxicity!r}: takes a probability, from 0.0 (no connection) to 1.0 (every one)")
    return toxicity


def checked(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return all attributes of a toxic of this kind: the `given` ones, and the defaults of the others. Raises
    `InvalidOption`, the caller's fault.
    """
    takes = checked_kind(name).takes
    for key, value in given.items():
        if key not in takes:
            known = [*takes, "toxicity"]
            raise InvalidOption(f"{name} has no {key!r}; it takes {', '.join(known)}{suggest(key, known)}")
        if not takes[key].right(value):
            raise InvalidOption(f"{name}: {key}={value!r}: takes {takes[key].takes}")
    for key, attribute in takes.items():
        if attribute.default is None and key not in given:
            raise InvalidOption(f"{name} needs {key}=: {attribute.takes}")
    attributes = {key: given.get(key, attribute.default) for key, attribute in takes.items()}
    if name == "slicer" and attributes["size_variation"] >= attributes["average_size"]:
        size, variation = attributes["average_size"], attributes["size_variation"]
        raise InvalidOption(f"slicer: size_variation={variation}: takes less than average_size, which is {size}")
    return attributes
