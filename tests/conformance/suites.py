"""The test modules of Twisted that are run, and the tests in them that fail on uvloop and not on the epoll reactor."""

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
"""The suites that test reactors."""

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
"""The suites of code that uses a reactor."""

EXCEPTIONS = {
    "twisted.internet.test.test_unix.UNIXTestsBuilder_*.test_avoidLeakingFileDescriptors": (
        "wants a log line about descriptors that came to a protocol that takes none. uvloop reads by read(2): the "
        "kernel drops such descriptors, so that none leaks, and tells nobody"
    ),
}
"""Tests that pass on the epoll reactor and fail on uvloop, with the reason. A test here that passes is a fault."""

LEAST = 6_800
"""Tests that must pass at least: with fewer, some suite was not run."""
