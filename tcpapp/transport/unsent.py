"""Bytes that a transport has been given, and that the system has not accepted yet."""

from __future__ import annotations

from typing import Any

__all__ = ["holds_bytes"]


def holds_bytes(transport: Any) -> bool:
    """Return whether a transport of Twisted or of our reactor holds bytes that the system has not accepted."""
    unsent = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    return unsent > 0 or bool(getattr(transport, "_tempDataLen", 0) or getattr(transport, "_blocked", False))
