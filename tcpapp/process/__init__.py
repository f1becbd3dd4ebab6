"""
The service as a process: what twistd runs, what signals and systemd do to it, its options, its log, its loop.

Imports `apps`, `codecs`, `connection`, `errors`, `framing`, `limits`, `server`, `spec`, `telemetry` and `transport`.
New here: what an operator starts, watches or signals is a module here; an option is an entry in
`configuration.options`.
"""
