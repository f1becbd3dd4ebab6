"""A TLS peer that uses neither tcpapp nor Twisted."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress


class Secret:
    """A TLS peer over a blocking socket, by Python's ``ssl``. It can close its own side and go on reading."""

    def __init__(self, plain: socket.socket, version: str = "1.3") -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2 if version == "1.2" else ssl.TLSVersion.TLSv1_3
        self._plain = plain
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._come, self._go)
        while True:
            with suppress(ssl.SSLWantReadError):
                self._session.do_handshake()
                break
            self._pass_on()
            self._come.write(plain.recv(65536))
        self._pass_on()

    def _pass_on(self) -> None:
        self._plain.sendall(self._go.read())

    def sendall(self, data: bytes) -> None:
        self._session.write(data)
        self._pass_on()

    def shutdown(self, how: int) -> None:
        """
        Send close_notify.

        Python raises if the server has not closed yet, or has sent data; such errors are ignored.
        """
        with suppress(ssl.SSLError):
            self._session.unwrap()
        self._pass_on()

    def recv(self, size: int) -> bytes:
        while True:
            try:
                return self._session.read(size)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                some = self._plain.recv(65536)
                if not some:
                    return b""
                self._come.write(some)
