"""
Servers: the factory, the listener, the service that starts and stops them, and accept control.

Imports `close_reason`, `connection`, `errors`, `framing`, `limits`, `telemetry` and `transport`.

New here: each task that concerns all connections of a server, or its ports, is a module.
"""
