"""Certificates for servers and a client, of an authority that is trusted and of one that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme


class Files:
    """PEM files in a folder, and the authorities that signed them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, self.stranger = trustme.CA(), trustme.CA()
        self.authority.cert_pem.write_to_path(str(folder / "roots.pem"))
        self.stranger.cert_pem.write_to_path(str(folder / "strangers.pem"))

    def issue(self, name: str, *names: str, by: Any = None, **options: Any) -> Path:
        """Write a private key, its certificate for these names and the chain to a file, and return its path."""
        made = (by or self.authority).issue_cert(*names, **options)
        path = self.folder / name
        blobs = [made.private_key_pem, *made.cert_chain_pems]
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Give a folder with certificates of a server for localhost, of another server, and of a client."""
    made = Files(tmp_path)
    made.issue("server.pem", "localhost", "127.0.0.1")
    made.issue("other.pem", "other.example", "*.wild.example")
    made.issue("client.pem", "ann@example.org", common_name="ann")
    return made
