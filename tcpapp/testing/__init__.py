"""
The test kit: test a TCP service, or any Twisted protocol, without a network, and believe the result.

================ ==================================================================================================
module           what it gives
================ ==================================================================================================
`transport`      `FakeTransport`: a `StringTransport` that does what a TCP connection does
`wire`           `Wire`: two protocols joined in memory: cut, stalled, slow, reset, half-closed, under TLS
`faultproxy`     `FaultProxy`: real connections, delayed, slowed, sliced, cut and reset, by Toxiproxy's names
`simulation`     `Simulation` and `simulate`: whole services in virtual time, by a seed
`oracles`        `check_framing`, `check_app`: what holds for every framing, and for every app
`strategies`     Hypothesis strategies of messages, cuts and schedules
`contract`       what every transport has to do, as checks to hold one to
`leaks`          `Leaks`: what a test left behind
`certificates`   `Certificates`: an authority, and a server it vouches for, for TLS
`pytest_plugin`  the fixtures, and the check for leaks
================ ==================================================================================================

`FakeTransport` and `Wire` stand on `buffered` (Twisted's own connection over a socket in memory) and `pipe`. Nothing
here needs the global reactor. Import from the modules: this package itself imports none of them, so that the pytest
plugin costs nothing where it is not used.

Imports `codecs`, `connection`, `errors`, `framing`, `server`, `spec`, `tcpapp`, `telemetry` and `transport`.
New here: what a test holds, sends or checks is a module here; its fixtures are in `pytest_plugin`.
"""
