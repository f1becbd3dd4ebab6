"""
Servers: the factory, what listens, the service that starts and stops them, and how fast they accept.

Imports `close_reason`, `connection`, `errors`, `framing`, `limits`, `telemetry` and `transport`.
New here: what concerns all connections of a server, or its ports, is a module here.
"""
