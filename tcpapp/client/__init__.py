"""
Clients: one connection, a client that reconnects, and a pool, for programs with Twisted, for asyncio and for scripts.

Imports `close_reason`, `connection`, `errors`, `framing`, `limits`, `server`, `spec`, `telemetry` and `transport`.

New here: each kind of client is a module. The parts of the reconnecting client are in `reconnecting`.
"""
