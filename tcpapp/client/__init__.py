"""
Clients: one connection held by hand, one that comes back, several as one; for Twisted, asyncio and scripts.

Imports `close_reason`, `connection`, `errors`, `framing`, `limits`, `server`, `spec`, `telemetry` and `transport`.
New here: another kind of client is a module here; what one that comes back does is in `reconnecting`.
"""
