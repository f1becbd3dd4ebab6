"""The loop: uvloop's, that knows of `NotReading`."""

from __future__ import annotations

from typing import Any

import uvloop
from typing_extensions import override

from tcpapp.reactor.stream import NotReading

__all__ = ["Loop"]


class Loop(uvloop.Loop):
    """uvloop's loop. asyncio's libraries run in it beside the reactor."""

    @override
    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Handle what a callback raised, as asyncio does; but not `NotReading`, which is no error."""
        if not isinstance(context.get("exception"), NotReading):
            super().call_exception_handler(context)
