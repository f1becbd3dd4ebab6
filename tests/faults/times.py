"""How long these tests wait."""

from __future__ import annotations

SOON = 0.05
"""Seconds: each of these waits is one that nothing ends but its time."""
