"""Which of Twisted's test modules are run, and which of their tests may fail here and not on the epoll reactor."""

from __future__ import annotations

REACTOR_SUITES = (
    *(
        f"twisted.internet.test.test_{name}"
        for name in (
            "abstract",
            "address",
            "base",
            "core",
            "default",
            "endpoints",
            "fdset",
            "filedescriptor",
            "main",
            "newtls",
            "posixbase",
            "process",
            "protocol",
            "sigchld",
            "socket",
            "stdio",
            "tcp",
            "threads",
            "time",
            "tls",
            "udp",
            "udp_internals",
            "unix",
        )
    ),
    *(
        f"twisted.test.test_{name}"
        for name in ("internet", "iutils", "process", "stdio", "tcp", "tcp_internals", "threads", "udp", "unix")
    ),
)
"""The suites for reactors themselves."""

USERS = (
    *(
        f"twisted.test.test_{name}"
        for name in ("amp", "ftp", "policies", "protocols", "ssl", "sslverify", "task", "threadpool")
    ),
    "twisted.protocols.test.test_tls",
    "twisted.application",
    "twisted.conch",
    "twisted.mail",
    "twisted.names",
    "twisted.runner",
    "twisted.spread",
    "twisted.trial",
    "twisted.web",
    "twisted.words",
)
"""The suites of what uses a reactor."""

EXCEPTIONS = {
    "twisted.internet.test.test_unix.UNIXTestsBuilder_*.test_avoidLeakingFileDescriptors": (
        "wants a log line about descriptors that came to a protocol that takes none. uvloop reads by read(2): the "
        "kernel drops such descriptors, so that none leaks, and tells nobody"
    ),
}
"""By name: why a test that passes on the epoll reactor fails on this one. A test that is here and passes is a fault."""

LEAST = 6_800
"""Tests that pass, at least: fewer, and something was not run."""
