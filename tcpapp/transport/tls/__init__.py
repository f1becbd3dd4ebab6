"""
TLS from endpoint strings: from certificate files to connections.

::

    names      the names of a certificate, and how they are compared
    files      certificates and keys, read from PEM and checked
    contexts   the TLS contexts of a server, by host name; reloaded when its files change
    client     the TLS options of a client: the authorities that it trusts, and its certificate
    endpoints  makes endpoints from the values of an endpoint string
    session    the agreed TLS of one connection, and the identity of the peer

It uses Twisted's `CertificateOptions`, pyOpenSSL and cryptography, which ``pip install 'tcpapp[tls]'`` installs. It is
imported only when TLS is used. Versions below TLS 1.2 are not supported (RFC 8996).
"""
