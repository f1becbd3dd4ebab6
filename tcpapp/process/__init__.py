"""
The service as a process: the service that twistd runs, signals, systemd, options, the log, and the event loop monitor.

Imports `apps`, `codecs`, `connection`, `errors`, `framing`, `limits`, `server`, `spec`, `target`, `telemetry` and
`transport`.

New here: each task of the running process is a module; an option is an entry in `configuration.options`.
"""
