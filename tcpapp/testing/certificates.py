"""Certificates for tests of TLS: an authority that no other program trusts, and a server's certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

try:
    import trustme
except ImportError as error:
    raise ImportError(f"{__name__} needs trustme: pip install 'tcpapp[testing]'") from error

from twisted.internet.endpoints import quoteStringArgument

__all__ = ["Certificates"]

NAMES = ("localhost", "127.0.0.1", "::1")
"""The default names of the server's certificate."""


class Certificates:
    """
    An authority and a server's certificate, as PEM files in `folder`. They are valid while the tests run.

    The certificate is for the host names and addresses in `names`; by default, for the loopback interface.

    - `authority`: the file of the authority's certificate. It is alone in its folder, which can be given to
      ``trustRoots=``.
    - `key`, `chain`: the files of the server's private key, and of its certificate.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        trusted = folder / "trusted"
        trusted.mkdir()
        self.authority = trusted / "authority.pem"
        self.key = folder / "key.pem"
        self.chain = folder / "chain.pem"
        authority = trustme.CA()
        certificate = authority.issue_cert(*(names or NAMES))
        authority.cert_pem.write_to_path(str(self.authority))
        certificate.private_key_pem.write_to_path(str(self.key))
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(str(self.chain), append=True)

    def listen(self, port: int = 0, interface: str = "127.0.0.1") -> str:
        """Return a server endpoint string for TLS on `port` (0: any free port) of `interface` (``""``: all)."""
        key, chain = quoteStringArgument(str(self.key)), quoteStringArgument(str(self.chain))
        return f"ssl:{port}:interface={quoteStringArgument(interface)}:privateKey={key}:certKey={chain}"

    def connect(self, port: int, host: str = "localhost") -> str:
        """Return a client endpoint string for TLS to `port` of `host`. The client trusts only this authority."""
        trusted = quoteStringArgument(str(self.authority.parent))
        return f"tls:{quoteStringArgument(host)}:{port}:trustRoots={trusted}"

    def server_options(self) -> Any:
        """Return the server's `CertificateOptions`, for ``startTLS`` or ``wrapServerTLS``."""
        from twisted.internet.ssl import PrivateCertificate

        return PrivateCertificate.loadPEM(self.key.read_bytes() + self.chain.read_bytes()).options()

    def client_options(self, name: str = "localhost") -> Any:
        """
        Return the options of a client that trusts only this authority and expects the server called `name`, for
        ``startTLS``.
        """
        from twisted.internet.ssl import Certificate, optionsForClientTLS

        return optionsForClientTLS(name, trustRoot=Certificate.loadPEM(self.authority.read_bytes()))
