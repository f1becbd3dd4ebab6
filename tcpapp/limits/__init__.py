"""
The numbers that bound a connection or a server: each with its default, its unit, and the reason for it.

Each ``why`` names software or a standard with the same number, or says that the number is our choice and how it was
chosen. The limits of a server are options of ``twistd tcpapp``. The longest message is an option of the framing
(``max=``), because it depends on the wire format.

Imports `errors` and `spec`.

New here: a number is a field in `limits`, `timeouts`, `policies` or `recovery`. The code that enforces a number is a
module.
"""

from __future__ import annotations

from tcpapp.limits.limits import Limits
from tcpapp.limits.numbers import numbers_of
from tcpapp.limits.policies import Policies
from tcpapp.limits.recovery import Recovery
from tcpapp.limits.timeouts import Timeouts

__all__ = ["Limits", "Policies", "Recovery", "Timeouts", "numbers_of"]
