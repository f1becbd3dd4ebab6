"""
The small apps that ship with tcpapp. Each shows one form of app.

============ ============================================== ==========================================
name         what it does                                   form
============ ============================================== ==========================================
`echo`       sends every message back                       a function
`upper`      sends every message back in capitals           a coroutine function
`discard`    drops every message                            an object that serves all connections
`time`       sends the time each second                     a conversation
`chat`       a chat room                                    a class, with an object for each connection
`http_hello` greets by HTTP/1.1, and sends bodies back      a function of values, for ``--framing http1``
`memcached`  a cache, for ``--framing memcached``           an object that serves all connections
`redis`      a cache with channels, for ``--framing resp``  a class, with an object for each connection
`smtp_sink`  receives mails by SMTP, and drops them         a class to inherit, for ``--framing smtp``
============ ============================================== ==========================================

``twistd tcpapp --app NAME`` serves one of them; `BUILT_IN` has them by name. `tcpapp.apps.middleware` has functions
from app to app.

Two apps need to be told what they allow. So an instance in a module of yours is served (``--app mine:proxy``):

================= ============================== ============================= ===================================
module            what it does                   made by                       framing
================= ============================== ============================= ===================================
`socks5`          a SOCKS5 proxy                 ``Socks5(allow=[...])``        `tcpapp.apps.socks5.greeting`
`connect_proxy`   a proxy by HTTP CONNECT        ``ConnectProxy(allow=[...])`` `http1`
================= ============================== ============================= ===================================

Imports `close_reason`, `connection`, `errors`, `framing`, `limits`, `telemetry` and `transport`. New here: an app is a
module, and an entry in `BUILT_IN`. Middleware is a module in `middleware`, and a row in the table there.
"""

from tcpapp.apps.chat import chat
from tcpapp.apps.discard import discard
from tcpapp.apps.echo import echo
from tcpapp.apps.http_hello import http_hello
from tcpapp.apps.memcached import memcached
from tcpapp.apps.redis import redis
from tcpapp.apps.smtp_sink import smtp_sink
from tcpapp.apps.time import time
from tcpapp.apps.upper import upper

__all__ = [
    "BUILT_IN",
    "FRAMINGS",
    "chat",
    "discard",
    "echo",
    "http_hello",
    "memcached",
    "redis",
    "smtp_sink",
    "time",
    "upper",
]

BUILT_IN = {
    "chat": chat,
    "discard": discard,
    "echo": echo,
    "http_hello": http_hello,
    "memcached": memcached,
    "redis": redis,
    "smtp_sink": smtp_sink,
    "time": time,
    "upper": upper,
}
"""Each app by its name on the command line."""

FRAMINGS = {"http_hello": "http1", "memcached": "memcached", "redis": "resp", "smtp_sink": "smtp"}
"""The framing of each app that takes the messages of one framing only."""
