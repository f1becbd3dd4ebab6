"""
The service as a process: what twistd runs, its signals, systemd, its options, its log and its event loop.

Imports `apps`, `codecs`, `connection`, `errors`, `framing`, `limits`, `server`, `spec`, `telemetry` and `transport`.

New here: what an operator starts, watches or signals is a module here; an option is an entry in
`configuration.options`.
"""
