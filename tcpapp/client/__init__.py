"""
Clients: one connection, a client that reconnects, and a pool; for Twisted, asyncio and scripts.

Imports `close_reason`, `connection`, `errors`, `framing`, `limits`, `server`, `spec`, `telemetry` and `transport`.

New here: another kind of client is a module here; a part of the reconnecting client is in `reconnecting`.
"""
