"""The TLS context that a server uses for a connection."""

from __future__ import annotations

from typing import Any


def first_of(contexts: Any) -> Any:
    """Return the context for a connection whose client asks for no name."""
    return contexts.serverConnectionForTLS(None).get_context()
