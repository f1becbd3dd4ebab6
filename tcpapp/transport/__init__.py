"""
Everything below a connection: endpoint strings, names and sockets, TLS, PROXY headers, keepalive.

Imports `close_reason`, `errors`, `limits`, `proxy_protocol` and `spec`.
New here: another kind of endpoint, or another layer below a connection, is a module here.
"""
