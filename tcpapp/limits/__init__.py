"""
Every number that bounds a connection or a server: its default, its unit, and where the number comes from.

Each ``why`` names software or a standard with this number, or says that it is our choice and how it was chosen. All
limits are on by default, and those of a server are options of ``twistd tcpapp``. The longest message belongs to the
framing (``max=``), since it depends on the wire format.

Imports `errors` and `spec`.

New here: a number is a field in `limits`, `timeouts`, `policies` or `recovery`; what enforces one is a module here.
"""

from __future__ import annotations

from tcpapp.limits.limits import Limits
from tcpapp.limits.numbers import numbers_of
from tcpapp.limits.policies import Policies
from tcpapp.limits.recovery import Recovery
from tcpapp.limits.timeouts import Timeouts

__all__ = ["Limits", "Policies", "Recovery", "Timeouts", "numbers_of"]
