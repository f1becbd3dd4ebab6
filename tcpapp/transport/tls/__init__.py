"""
TLS, as an endpoint string describes it, from files to connections.

::

    names      the names of a certificate, and how they are compared
    files      certificates and keys, read from PEM and checked
    contexts   the certificates of a server, by name, and its demands; reloaded when its files change
    client     the authorities that a client trusts, and its certificate
    endpoints  from the values of an endpoint string to an endpoint
    session    the agreed TLS of one connection, and the identity of the peer

It uses Twisted's `CertificateOptions`, pyOpenSSL and cryptography, which come with ``pip install 'tcpapp[tls]'``. It is
imported only when TLS is used. Versions below TLS 1.2 are not supported (RFC 8996).
"""
