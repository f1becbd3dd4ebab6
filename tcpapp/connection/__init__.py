"""
One conversation, from its first byte to its end, and the apps that take part in it.

Imports `close_reason`, `codecs`, `errors`, `framing`, `limits`, `proxy_protocol`, `spec`, `telemetry` and `transport`.
New here: a part of a connection is a module here; `protocol` puts the parts together, `connection` is what users call.
"""
