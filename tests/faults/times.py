"""The timeouts that these tests wait for."""

from __future__ import annotations

SOON = 0.05
"""The timeout in seconds. Nothing but the timeout ends these waits."""
