"""
TLS, as an endpoint string describes it, from files to connections.

::

    names      which names a certificate is for, and how they are compared
    files      certificates and keys, read from PEM and checked
    contexts   what a server shows, to whom, and asks for; renewed when its files are
    client     what a client trusts, and shows
    endpoints  from the values of an endpoint string to an endpoint
    session    what was agreed on one connection, and who the peer is

It stands on Twisted's `CertificateOptions`, pyOpenSSL and cryptography, which come with ``pip install 'tcpapp[tls]'``,
and is imported where TLS is used, not before. Below TLS 1.2 nothing is spoken (RFC 8996).
"""
