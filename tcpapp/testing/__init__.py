"""
The test kit: test a TCP service, or any Twisted protocol, without a network, and trust the result.

================ ==================================================================================================
module           what it gives
================ ==================================================================================================
`transport`      `FakeTransport`: a `StringTransport` that behaves as a TCP connection
`wire`           `Wire`: two protocols joined in memory: cut, stalled, slow, reset, half-closed, under TLS
`faultproxy`     `FaultProxy`: real connections, delayed, slowed, sliced, cut and reset, by Toxiproxy's names
`simulation`     `Simulation` and `simulate`: whole services in virtual time, by a seed
`oracles`        `check_framing`, `check_app`: the promises of every framing, and of every app
`strategies`     Hypothesis strategies of messages, cuts and schedules
`contract`       the contract of every transport, as checks
`leaks`          `Leaks`: timers, ports, connections and errors that a test left behind
`certificates`   `Certificates`: an authority and a server's certificate for tests of TLS
`pytest_plugin`  the fixtures, and the check for leaks
================ ==================================================================================================

`FakeTransport` and `Wire` use `buffered` (Twisted's own connection over a socket in memory) and `pipe`. Nothing here
needs the global reactor. Import from the modules: this package itself imports none of them, so an unused pytest plugin
costs nothing.

Imports `codecs`, `connection`, `errors`, `framing`, `server`, `spec`, `tcpapp`, `telemetry` and `transport`.
New here: a tool or a check for tests is a module here; its fixtures are in `pytest_plugin`.
"""
