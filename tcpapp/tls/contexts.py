"""
What a server shows, to whom, and what it asks of its clients; renewed when its files are.

A connection that is open keeps what it was shown. Files that are not right do not take the place of those that were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime, IStreamServerEndpoint
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from tcpapp.errors import InvalidAddress
from tcpapp.tls.files import Identity, certificates_in, matches, read_directory, read_identity
from tcpapp.tls.protocol import ServerTLS

__all__ = ["MINIMUMS", "ServerContexts", "ServerSpec", "TLSServerEndpoint", "TLSServerFactory"]

MINIMUMS = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}
"""The versions of TLS that may be the lowest. Twisted speaks none below 1.2 either."""

_log = Logger(namespace="tcpapp")


@dataclass(frozen=True)
class ServerSpec:
    """
    What an endpoint string says of a server's TLS.

    - `certificate`, `key`, `chain`: PEM files; see `read_identity`.
    - `directory`: a folder of PEM files, for as many names; see `read_directory`.
    - `clients`: ``"required"`` or ``"wished"`` of those who connect is a certificate by one of the `authorities`.
    - `protocols`: what may be agreed on by ALPN, the best first.
    - `minimum`: the lowest version of TLS.
    """

    certificate: Path | None = None
    key: Path | None = None
    chain: Path | None = None
    directory: Path | None = None
    clients: str = ""
    authorities: Path | None = None
    protocols: tuple[bytes, ...] = ()
    minimum: str = "1.2"


@implementer(IOpenSSLServerConnectionCreator)
class ServerContexts:
    """The contexts of one server, by the name that the client asks for (SNI); for any other name it is the first."""

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self._seen = self._marks()
        self._first, self._by_name = self._load()

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:  # noqa: N802 - Twisted's name
        """The server's side of a new connection. Twisted calls it."""
        connection = SSL.Connection(self._first, None)
        connection.set_app_data(protocol)
        return connection

    def reload(self) -> bool:
        """Read the files anew. Where they are not right, that is logged, and what was shown before is shown still."""
        self._seen = self._marks()
        try:
            self._first, self._by_name = self._load()
        except InvalidAddress as error:
            _log.error("certificates are not renewed, and those before hold: {error}", error=str(error))
            return False
        _log.info("certificates are renewed: {names}", names=", ".join(sorted(self._by_name)) or "no names")
        return True

    def look(self) -> None:
        """Read the files anew if any of them has changed since they were read last."""
        if self._marks() != self._seen:
            self.reload()

    def _load(self) -> tuple[SSL.Context, dict[str, SSL.Context]]:
        identities = list(self._identities())
        contexts = [self._context(each) for each in identities]
        by_name: dict[str, SSL.Context] = {}
        for identity, context in zip(identities, contexts, strict=True):
            for name in identity.names:
                by_name.setdefault(name, context)
        return contexts[0], by_name

    def _identities(self) -> Iterator[Identity]:
        spec = self.spec
        if spec.certificate is not None:
            yield read_identity(spec.certificate, spec.key, spec.chain)
        if spec.directory is not None:
            yield from read_directory(spec.directory)

    def _context(self, identity: Identity) -> SSL.Context:
        options = CertificateOptions(
            privateKey=identity.key,
            certificate=identity.certificate,  # type: ignore[arg-type]  # which pyOpenSSL would rather have
            extraCertChain=list(identity.chain),  # type: ignore[arg-type]  # as above
            acceptableProtocols=list(self.spec.protocols) or None,
            raiseMinimumTo=MINIMUMS[self.spec.minimum] if self.spec.minimum != "1.2" else None,
            contextForServerName=self._for_name,
        )
        context = options.getContext()
        if self.spec.authorities is not None:
            self._ask_for_certificate(context, self.spec.authorities)
        return context

    def _ask_for_certificate(self, context: SSL.Context, authorities: Path) -> None:
        for each in certificates_in(authorities):
            context.add_client_ca(each)
        context.load_verify_locations(str(authorities))
        flags = SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE
        if self.spec.clients == "required":
            flags |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        context.set_verify(flags)

    def _for_name(self, name: bytes | None) -> SSL.Context | None:
        wanted = (name or b"").decode("ascii", "replace").lower().removesuffix(".")
        found = self._by_name.get(wanted)
        if found is not None:
            return found
        return next((context for pattern, context in self._by_name.items() if matches(pattern, wanted)), None)

    def _marks(self) -> dict[Path, tuple[int, int, int]]:
        """What tells a file that was changed: its time, its size, and which file it is."""
        spec = self.spec
        paths = [each for each in (spec.certificate, spec.key, spec.chain, spec.authorities) if each is not None]
        if spec.directory is not None:
            paths += sorted(spec.directory.glob("*.pem"))
        marks = {}
        for path in paths:
            try:
                status = path.stat()
            except OSError:
                marks[path] = (0, 0, 0)
            else:
                marks[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return marks


class TLSServerFactory(TLSMemoryBIOFactory):
    """Wraps a server's factory in TLS, and looks at the files every `watch` seconds (0: never) while it listens."""

    noisy = False
    # Twisted's own choice holds small writes back for a turn, and loses them where the peer closes in it. Ours are
    # gathered already.
    protocol = ServerTLS

    def __init__(self, contexts: ServerContexts, factory: Any, clock: IReactorTime, watch: float) -> None:
        super().__init__(contexts, False, factory, clock)
        self._watch = watch
        self._watching = LoopingCall(contexts.look)
        self._watching.clock = clock

    def startFactory(self) -> None:
        """It is listened with. Twisted calls it."""
        super().startFactory()
        if self._watch:
            self._watching.start(self._watch, now=False)

    def stopFactory(self) -> None:
        """It is no longer listened with. Twisted calls it."""
        if self._watching.running:
            self._watching.stop()
        super().stopFactory()


@implementer(IStreamServerEndpoint)
class TLSServerEndpoint:
    """Listens on another endpoint, and speaks TLS there. `contexts` may be renewed at any time."""

    def __init__(self, endpoint: Any, contexts: ServerContexts, clock: Any, watch: float = 0.0) -> None:
        self.endpoint = endpoint
        self.contexts = contexts
        self._clock = clock
        self._watch = watch

    def listen(self, factory: Any) -> Any:
        """As every endpoint does."""
        return self.endpoint.listen(self.wrapped(factory))

    def wrapped(self, factory: Any) -> TLSServerFactory:
        """`factory`, behind TLS."""
        return TLSServerFactory(self.contexts, factory, self._clock, self._watch)

    def reload(self) -> bool:
        """Read certificates and keys anew; see `ServerContexts.reload`."""
        return self.contexts.reload()
