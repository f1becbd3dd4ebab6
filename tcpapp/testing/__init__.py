"""
The test kit: tests of a TCP service, or of any Twisted protocol, without a network.

================ ==================================================================================================
module           contents
================ ==================================================================================================
`transport`      `FakeTransport`: a `StringTransport` that behaves like a TCP connection
`wire`           `Wire`: connects two protocols in memory: cut, stalled, slow, reset, half-closed, under TLS
`faultproxy`     `FaultProxy`: delays, slows, slices, cuts and resets real connections; Toxiproxy's names
`simulation`     `Simulation` and `simulate`: whole services in virtual time, repeatable by a seed
`oracles`        `check_framing`, `check_app`: check the promises of every framing, and of every app
`strategies`     Hypothesis strategies of messages, cuts and schedules
`contract`       checks of the contract of every transport
`leaks`          `Leaks`: finds timers, ports, connections and errors that a test left behind
`certificates`   `Certificates`: an authority and a server's certificate for tests of TLS
`pytest_plugin`  the fixtures, and the leak check
================ ==================================================================================================

`FakeTransport` and `Wire` use `buffered` (Twisted's own connection over a socket in memory) and `pipe`. Only the pytest
plugin and real connections use the global reactor. Import from the modules: this package itself imports none of them,
so that an unused pytest plugin costs nothing.

Imports `codecs`, `connection`, `errors`, `framing`, `server`, `spec`, `tcpapp`, `telemetry` and `transport`. New here:
each tool or check for tests is a module. Its fixtures are in `pytest_plugin`.
"""
