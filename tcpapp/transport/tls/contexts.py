"""
The TLS contexts of a server: its certificates, and its requirements for clients. They are reloaded when its files
change.

An open connection keeps its certificate. If a file becomes invalid, the certificate that was read from it before stays
in use, and the error is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
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
from tcpapp.transport.hostnames import comparable
from tcpapp.transport.tls.files import Identity, certificates_in, named, pem_files, read_directory, read_identity
from tcpapp.transport.tls.names import matches
from tcpapp.transport.tls.protocol import ServerTLS

__all__ = ["MINIMUMS", "ServerContexts", "ServerSpec", "TLSServerEndpoint", "TLSServerFactory"]

MINIMUMS = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}
"""The versions that can be the lowest version of TLS. Twisted supports none below 1.2 either."""

_log = Logger(namespace="tcpapp")


@dataclass(frozen=True)
class ServerSpec:
    """
    The TLS values of a server's endpoint string. Paths are made absolute, because the files are read again later.

    - `certificate`, `key`, `chain`: PEM files; see `read_identity`.
    - `directory`: a folder of PEM files, for several host names; see `read_directory`.
    - `clients`: ``"required"`` or ``"wished"`` if clients present a certificate that one of the `authorities` has
      signed.
    - `protocols`: the protocols for ALPN, the best first. A client that offers only other protocols is refused.
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

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Path):
                object.__setattr__(self, each.name, value.absolute())


Shown = tuple[Identity, SSL.Context]
"""A certificate, and the context that presents it."""


@implementer(IOpenSSLServerConnectionCreator)
class ServerContexts:
    """
    The contexts of one server, by the host name that the client asks for (SNI). For any other name the first is used.

    Raises `InvalidAddress`, the caller's fault, if there is no usable certificate. `troubles` has a line for each
    invalid file of a `directory`. They are logged when the endpoint begins to listen, or at the first connection.
    """

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self.troubles: list[str] = []
        self._told: list[str] = []
        self._seen = self._marks()
        self._shown: list[Shown] = []
        self._show(self._load())

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:  # noqa: N802 - Twisted's name
        """Return the server's side of a new connection. Twisted calls it."""
        self.log_troubles()
        connection = SSL.Connection(self._first, None)
        connection.set_app_data(protocol)
        return connection

    def reload(self) -> bool:
        """
        Read the files again, and log their errors. Returns whether all files are valid. It never raises.

        For an invalid file, the certificate that was read from it before stays in use.
        """
        self._told = []
        return self._renew()

    def check_files(self) -> None:
        """Read the files again if any of them has changed since they were read, or was invalid then."""
        if self.troubles or self._marks() != self._seen:
            self._renew()

    def log_troubles(self) -> None:
        """Log each of the `troubles` that was not logged yet."""
        if self.troubles != self._told:
            for each in self.troubles:
                if each not in self._told:
                    _log.error("certificate not loaded: {error}", error=each)
            self._told = list(self.troubles)

    def _renew(self) -> bool:
        # The marks are read before the files: a file that changes meanwhile is read again at the next check.
        before, self._seen = (self._seen, self.troubles), self._marks()
        try:
            self._show(self._load())
        except Exception as error:  # noqa: BLE001 - on any error the old certificates stay in use
            told = str(error) if isinstance(error, InvalidAddress) else f"{type(error).__name__}: {error}"
            self.troubles = [told]
        self.log_troubles()
        if before != (self._seen, self.troubles):
            _log.info("certificates loaded for: {names}", names=", ".join(sorted(self._by_name)) or "no names")
        return not self.troubles

    def _show(self, loaded: list[Shown]) -> None:
        self._shown = loaded
        self._first = loaded[0][1]
        self._by_name: dict[str, SSL.Context] = {}
        for identity, context in loaded:
            for name in identity.names:
                self._by_name.setdefault(name, context)

    def _load(self) -> list[Shown]:
        """Read the files. For an invalid file of the directory, its previous content is returned."""
        spec = self.spec
        troubles: list[str] = []
        if spec.authorities is not None:
            with named(spec.authorities):
                self._ask_for_certificate(SSL.Context(SSL.TLS_METHOD), spec.authorities)
        found: list[Shown] = []
        if spec.certificate is not None:
            found.append(self._with_context(read_identity(spec.certificate, spec.key, spec.chain)))
        if spec.directory is not None:
            found += self._load_directory(spec.directory, troubles)
        if not found:
            told = "".join(f"; {each}" for each in troubles)
            raise InvalidAddress(
                f"{spec.directory}: it has no certificate with a private key that can be used, in files *.pem{told}"
            )
        self.troubles = troubles
        return found

    def _load_directory(self, directory: Path, troubles: list[str]) -> Iterator[Shown]:
        held = read_directory(directory)
        troubles += held.troubles
        by_file: dict[Path, list[Shown]] = {}
        for identity in held.identities:
            try:
                by_file.setdefault(identity.file, []).append(self._with_context(identity))
            except InvalidAddress as error:
                troubles.append(str(error))
        before: dict[Path, list[Shown]] = {}
        for each in self._shown:
            before.setdefault(each[0].file, []).append(each)
        for file in pem_files(directory):
            if file not in by_file and file in before and not any(each.startswith(f"{file}: ") for each in troubles):
                troubles.append(f"{file}: there is no private key in {directory} to the certificate in it")
            yield from by_file.get(file) or before.get(file, [])

    def _with_context(self, identity: Identity) -> Shown:
        with named(identity.file):
            return identity, self._context(identity)

    def _context(self, identity: Identity) -> SSL.Context:
        options = CertificateOptions(
            privateKey=identity.key,
            certificate=identity.certificate,  # type: ignore[arg-type]  # pyOpenSSL prefers this type to its own
            extraCertChain=list(identity.chain),  # type: ignore[arg-type]  # as above
            raiseMinimumTo=MINIMUMS[self.spec.minimum] if self.spec.minimum != "1.2" else None,
            contextForServerName=self.for_name,
        )
        context = options.getContext()
        if self.spec.protocols:
            context.set_alpn_select_callback(_choice_of(self.spec.protocols))
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

    def for_name(self, name: bytes | None) -> SSL.Context | None:
        """
        Return the context for the host `name` that a client asks for; `None` stands for the first. OpenSSL calls it.
        """
        wanted = comparable((name or b"").decode("ascii", "replace"))
        found = self._by_name.get(wanted)
        if found is not None:
            return found
        return next((context for pattern, context in self._by_name.items() if matches(pattern, wanted)), None)

    def _marks(self) -> dict[Path, tuple[int, int, int]]:
        """Return marks that change when a file changes: its time, its size, and its inode."""
        spec = self.spec
        paths = [each for each in (spec.certificate, spec.key, spec.chain, spec.authorities) if each is not None]
        if spec.directory is not None:
            paths += pem_files(spec.directory)
        marks = {}
        for path in paths:
            try:
                status = path.stat()
            except OSError:
                marks[path] = (0, 0, 0)
            else:
                marks[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return marks


def _choice_of(protocols: tuple[bytes, ...]) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    """
    Return a function that chooses the first of our `protocols` that the client offers.

    If the client offers none of them, the function raises, so that OpenSSL sends the alert ``no_application_protocol``
    (RFC 7301, section 3.2). Twisted's own function returns the empty name, which OpenSSL reports to the client as an
    internal error.
    """

    def choose(_connection: SSL.Connection, offered: list[bytes]) -> bytes:
        for each in protocols:
            if each in offered:
                return each
        raise SSL.Error([("SSL routines", "", "no application protocol in common (ALPN)")])

    return choose


class TLSServerFactory(TLSMemoryBIOFactory):
    """Wraps a server's factory in TLS. While it listens, it checks the files every `watch` seconds (0: never)."""

    noisy = False
    # Twisted's own class holds small writes back for a turn, and loses them if the peer closes meanwhile. Our writes
    # are gathered already.
    protocol = ServerTLS

    def __init__(self, contexts: ServerContexts, factory: Any, clock: IReactorTime, watch: float) -> None:
        super().__init__(contexts, False, factory, clock)
        self._watch = watch
        self._watching = LoopingCall(contexts.check_files)
        self._watching.clock = clock

    def startFactory(self) -> None:
        """Begin to check the files when listening begins. Twisted calls it."""
        super().startFactory()
        if self._watch:
            self._watching.start(self._watch, now=False)

    def stopFactory(self) -> None:
        """Stop checking the files when listening ends. Twisted calls it."""
        if self._watching.running:
            self._watching.stop()
        super().stopFactory()


@implementer(IStreamServerEndpoint)
class TLSServerEndpoint:
    """Listens on another endpoint, and sets up TLS there. `contexts` can be reloaded at any time."""

    def __init__(self, endpoint: Any, contexts: ServerContexts, clock: Any, watch: float = 0.0) -> None:
        self.endpoint = endpoint
        self.contexts = contexts
        self._clock = clock
        self._watch = watch

    def listen(self, factory: Any) -> Any:
        """Listen with `factory` over TLS. Returns the Deferred of the endpoint below."""
        return self.endpoint.listen(self.wrapped(factory))

    def wrapped(self, factory: Any) -> TLSServerFactory:
        """Return `factory` wrapped in TLS."""
        self.contexts.log_troubles()
        return TLSServerFactory(self.contexts, factory, self._clock, self._watch)

    @property
    def troubles(self) -> list[str]:
        """A line for each invalid file that is not used; see `ServerContexts`."""
        return self.contexts.troubles

    def reload(self) -> bool:
        """Reload certificates and keys. See `ServerContexts.reload`."""
        return self.contexts.reload()
