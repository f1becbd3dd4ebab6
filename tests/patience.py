"""
How long a test waits before it fails.

An awaited event takes a fraction of a second, or seconds on a busy machine.
"""

PATIENCE = 120.0
"""Seconds for one event: a line of a log, a reply, the end of a process. A smaller number makes no test quicker."""

LONGEST = 600.0
"""Seconds for a whole test that waits for the reactor."""
