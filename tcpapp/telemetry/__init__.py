"""
Events: what happened, sent to all listeners.

A server and its connections send events, and never log themselves. `log` is the listener that every factory begins
with; counters and metrics are further listeners. No event is on the path of a message, and none is made while nobody
listens::

    telemetry = Telemetry()
    telemetry.listen(log)
    factory = MessageServerFactory(app, telemetry=telemetry)

Imports `close_reason`, `errors`, `limits`, `proxy_protocol`, `spec` and `transport`.
New here: an event is a class in `events`; a number to be shown is in `counters` or `statistics`.
"""

from __future__ import annotations

from tcpapp.telemetry import events
from tcpapp.telemetry.bus import Telemetry
from tcpapp.telemetry.events import *  # noqa: F403 - an event is a class there, and nothing here
from tcpapp.telemetry.log import RateLimitedLog, log

__all__ = ["RateLimitedLog", "Telemetry", "log"]
__all__ += events.__all__
