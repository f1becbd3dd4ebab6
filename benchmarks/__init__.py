"""tcpapp beside its peers: decoding, echo over loopback, and memory, measured in one run. See README.md here."""
