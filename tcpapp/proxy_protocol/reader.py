"""Bytes → `Header`, in chunks of any size."""

from __future__ import annotations

from collections.abc import Collection

from tcpapp.errors import InvalidOption, InvalidProxyHeader, MalformedProxyHeader
from tcpapp.framing.base import quoted
from tcpapp.proxy_protocol import version1, version2
from tcpapp.proxy_protocol.header import Header

__all__ = ["DEFAULT_MAX", "HeaderReader"]

DEFAULT_MAX = 4096
"""
The most bytes in a header, as in nginx (``NGX_PROXY_PROTOCOL_MAX_HEADER``).

The specification wants a header to fit into 536 bytes, and allows 65551. A proxy that sends a long chain of
certificates needs more than 4096.
"""

_STARTS = {1: version1.STARTS, 2: (version2.SIGNATURE,)}
_LONGEST_START = max(map(len, (*version1.STARTS, version2.SIGNATURE)))
_BEGINNINGS = {
    1: "'PROXY TCP4 ', 'PROXY TCP6 ' or 'PROXY UNKNOWN' (version 1)",
    2: f"{version2.SIGNATURE.decode()!r} (version 2)",
}


class HeaderReader:
    r"""
    Reads the PROXY header that a connection must begin with.

    Call `receive` for every chunk until it returns the `Header`. Then `rest` and all later chunks belong to the
    protocol that follows. Call `finish` if the stream ends before that::

        reader = HeaderReader()
        reader.receive(b"PROXY TCP4 192.168.0.1 ")                                   # → None: not whole yet
        reader.receive(b"192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\n").source       # → 192.168.0.1:56324
        reader.rest                                                                  # → b"GET / HTTP/1.1\r\n"

    - `versions`: the accepted versions, of 1 and 2.
    - `max`: the most bytes in a header, 107 (the longest of version 1) to 65551 (the longest of version 2).
    - `header`: the header, once it was read; `None` until then.
    - `rest`: the bytes of the last chunk that follow the header.
    - `failure`: the error that ended the stream; `None` while the stream can be read.

    The same bytes give the same header, or an error with the same text, however they are cut. An error is raised at the
    first byte that no valid header can have. Addresses and TLVs are checked only when the header is whole, as the
    specification says. Time is linear in the bytes, and at most `max` bytes are held.

    Raises `InvalidOption`, the caller's fault, for invalid arguments.
    """

    __slots__ = ("_held", "_starts", "failure", "header", "max", "rest", "versions")

    def __init__(
        self,
        *,
        versions: Collection[int] = (1, 2),
        max: int = DEFAULT_MAX,  # noqa: A002 - the public name, as framings have it
    ) -> None:
        if not versions or not set(versions) <= {1, 2}:
            raise InvalidOption(f"versions={versions!r}: takes 1, 2 or both, as in versions=(1, 2)")
        if isinstance(max, bool) or not isinstance(max, int) or not version1.LONGEST <= max <= version2.LONGEST:
            takes = f"takes a whole number, {version1.LONGEST} to {version2.LONGEST}"
            raise InvalidOption(f"max={max!r}: {takes}")
        self.versions = tuple(sorted(set(versions)))
        self.max = max
        self.header: Header | None = None
        self.rest = b""
        self.failure: MalformedProxyHeader | None = None
        self._held = bytearray()
        self._starts = tuple(start for version in self.versions for start in _STARTS[version])

    @property
    def held(self) -> int:
        """The number of bytes of the unfinished header that are held now."""
        return len(self._held)

    def receive(self, chunk: bytes) -> Header | None:
        """
        Take the next bytes of the stream; return the header if it is whole now, or `None`.

        Raises `MalformedProxyHeader`, the peer's fault, and nothing else; after that, every call raises it again. When
        the header was read already, a call returns it again, and `rest` is the whole chunk.
        """
        self._check()
        if self.header is not None:
            self.rest = chunk
            return self.header
        before = len(self._held)
        self._held += chunk[: self.max - before]
        try:
            size = self._end()
            if size is None:
                return None
            self.header = _read(bytes(self._held[:size]))
        except (InvalidProxyHeader, MalformedProxyHeader) as error:
            raise self._failed(error) from None
        self._held.clear()
        self.rest = chunk[size - before :]
        return self.header

    def finish(self) -> None:
        """
        Tell the reader that the stream has ended.

        Raises `MalformedProxyHeader`, the peer's fault, if the header is not whole; its `value` is the number of bytes
        that had arrived. Raises `failure` again if there was one before.
        """
        self._check()
        if self.header is None:
            text = "the stream ended before a PROXY header, which must come first"
            if self._held:
                text = f"the stream ended inside a PROXY header, of which {self.held} bytes had arrived"
            raise self._failed(MalformedProxyHeader(text, value=self.held))

    def _check(self) -> None:
        """Raise the failure again, without earlier tracebacks."""
        if self.failure is not None:
            raise self.failure.with_traceback(None)

    def _failed(self, error: InvalidProxyHeader | MalformedProxyHeader) -> MalformedProxyHeader:
        """End the stream with an error. An invalid header that was read is the peer's fault, not ours."""
        self.failure = error if isinstance(error, MalformedProxyHeader) else MalformedProxyHeader(str(error))
        self._held.clear()
        return self.failure

    def _end(self) -> int | None:
        """Return how many bytes the header has; `None` while it is not whole."""
        if not self._begun():
            return None
        return version1.end(self._held) if self._held.startswith(b"P") else version2.end(self._held, self.max)

    def _begun(self) -> bool:
        """
        Return whether a whole beginning of a header has come. Raises `MalformedProxyHeader` at the first byte that fits
        no beginning.
        """
        window = bytes(self._held[:_LONGEST_START])
        if window.startswith(self._starts):
            return True
        for size in range(1, len(window) + 1):
            if not any(start.startswith(window[:size]) for start in self._starts):
                expected = ", or ".join(_BEGINNINGS[version] for version in self.versions)
                came = quoted(window[:size])
                raise MalformedProxyHeader(f"{came} begins the stream; a PROXY header begins with {expected}")
        return False


def _read(data: bytes) -> Header:
    return version1.read(data) if data.startswith(b"P") else version2.read(data)
