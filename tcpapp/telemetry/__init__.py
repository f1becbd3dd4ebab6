"""
Events: each says what happened, and goes to all listeners.

Servers and connections emit events; they do not write to the log themselves. A factory without a `telemetry` argument
has one listener, which writes to the log. Metrics can be further listeners. No event is on the path of a message, and
none is made while there is no listener::

    telemetry = Telemetry()
    telemetry.listen(log)
    factory = MessageServerFactory(app, telemetry=telemetry)

Imports `close_reason`, `errors`, `limits`, `proxy_protocol`, `spec` and `transport`. New here: an event is a class in
`events`. A number that `info()` shows is in `counters` or `statistics`.
"""

from __future__ import annotations

from tcpapp.telemetry import events
from tcpapp.telemetry.bus import Telemetry
from tcpapp.telemetry.events import *  # noqa: F403 - an event is a class there, and nothing here
from tcpapp.telemetry.log import RateLimitedLog, log

__all__ = ["RateLimitedLog", "Telemetry", "log"]
__all__ += events.__all__
