"""How long a test waits before it fails. The awaited events take a fraction of a second, on a busy machine a few."""

PATIENCE = 120.0
"""Seconds for one event: a line of a log, a reply, the end of a process. No test is quicker for a smaller number."""

LONGEST = 600.0
"""Seconds for a whole test that waits for the reactor."""
