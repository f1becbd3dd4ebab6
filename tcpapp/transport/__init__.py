"""
Everything below a connection: endpoint strings, names and sockets, TLS, PROXY headers, keepalive.

Imports `close_reason`, `errors`, `limits`, `proxy_protocol` and `spec`. New here: each kind of endpoint, and each layer
below a connection, is a module.
"""
