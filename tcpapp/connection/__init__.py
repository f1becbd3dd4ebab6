"""
One connection, from its first byte to its end, and the apps that handle its messages.

Imports `close_reason`, `codecs`, `errors`, `framing`, `limits`, `proxy_protocol`, `spec`, `telemetry` and `transport`.
New here: each part of a connection is a module. `protocol` joins the parts; `connection` has the methods for users.
"""
