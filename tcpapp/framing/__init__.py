"""
Bytes ↔ messages: splits a stream of bytes into messages, and frames messages for it. No I/O, no clock, no log.

===================================== ============================================ ===================================
on the wire, for ``hello``            framing                                      spec
===================================== ============================================ ===================================
``hello`` in chunks as they come      `Raw`                                        ``raw``
``hello`` 0A, ``hello`` 0D 0A         `Lines`                                      ``line``, ``line:delimiter=\\r\\n``
``hello`` 03                          `Delimited`                                  ``delimited:by=\\x03``
05 ``hello`` … 00 05 ``hello``        `LengthPrefixed`                             ``int8 int16 int24 int32 int64``
05 00 00 00 ``hello`` and the like    `LengthPrefixed`                             ``length:width=4:order=little``
05 ``hello``                          `Varint`                                     ``varint``
``5:hello,``                          `Netstrings`                                 ``netstring``
``hello``                             `Fixed`                                      ``fixed:size=5``
0B ``hello`` 1C 0D                    `Blocks`                                     ``mllp``, ``blocks:start=…:end=…``
C0 ``hello`` C0                       `Slip`                                       ``slip``
06 ``hello`` 00                       `Cobs`                                       ``cobs``
requests and responses of HTTP/1.1    `http1`                                      ``http1``, ``http1:side=client``
commands and replies of SMTP          `smtp`                                       ``smtp``, ``smtp:side=client``
mails behind DATA of SMTP             `smtp_data`                                  ``smtp_data``
messages of IRC                       `irc`                                        ``irc``, ``irc:side=client``
frames of STOMP                       `stomp`                                      ``stomp``
commands and replies of memcached     `memcached`                                  ``memcached:side=client``
requests and values of Redis          `resp`                                       ``resp``, ``resp:version=3``
lines and payloads of NATS            `nats`                                       ``nats``, ``nats:side=client``
what your own function reads          `Parser`, by the decorator `parser`          ``module:name``
===================================== ============================================ ===================================

Each takes ``max``, the most bytes of a message (1 MiB), and ``oversize`` for longer messages (``"close"`` the
connection, or ``"skip"`` the message). `from_string` makes a framing from its spec, and `str` gives its spec.

A framing is a configuration, and also the state of one stream. `Framing.fresh` makes the state of another stream::

    framing = Lines()
    framing.receive(b"hel")      # → []
    framing.receive(b"lo\\nwor")  # → [b"hello"]
    framing.frame(b"hello")      # → b"hello\\n"
    framing.finish()             # raises TruncatedMessage: "wor" was begun

A framing of your own is a generator function that reads one message, made a framing by `parser`. It yields what it
needs: `until`, `until_any`, `exactly`, `peek`. `Framing` is the contract of all framings, and their base class.

Imports `errors`, `spec` and `target`.
New here: a framing is a class, or a function with `parser`, in a module here, and a line in the list below.
"""

from tcpapp.framing import specs
from tcpapp.framing.base import DEFAULT_MAX, Framing, Oversize
from tcpapp.framing.body import Body
from tcpapp.framing.parsers import Parser, parser
from tcpapp.framing.reader import NO_MESSAGE
from tcpapp.framing.specs import from_string
from tcpapp.framing.streams import piece, stream
from tcpapp.framing.wants import exactly, peek, until, until_any

# The framings that have a spec, in the order in which they are listed to operators.
# isort: off
from tcpapp.framing.raw import Raw as Raw
from tcpapp.framing.lines import Lines as Lines, Delimited as Delimited
from tcpapp.framing.length import LengthPrefixed as LengthPrefixed
from tcpapp.framing.varint import Varint as Varint
from tcpapp.framing.netstrings import Netstrings as Netstrings
from tcpapp.framing.fixed import Fixed as Fixed
from tcpapp.framing.blocks import Blocks as Blocks
from tcpapp.framing.slip import Slip as Slip
from tcpapp.framing.cobs import Cobs as Cobs
from tcpapp.framing.http1 import http1 as http1
from tcpapp.framing.smtp import smtp as smtp, smtp_data as smtp_data
from tcpapp.framing.irc import irc as irc
from tcpapp.framing.stomp import stomp as stomp
from tcpapp.framing.memcached import memcached as memcached
from tcpapp.framing.resp import resp as resp
from tcpapp.framing.nats import nats as nats
# isort: on

FRAMINGS = specs.named(list(vars().values()))
"""The classes of all framings that have a spec."""

SPECS = specs.add(FRAMINGS)
"""The names that a spec can begin with."""

__all__ = ["DEFAULT_MAX", "NO_MESSAGE", "SPECS", "Body", "Framing", "Oversize", "Parser", "from_string"]
__all__ += ["exactly", "parser", "peek", "piece", "stream", "until", "until_any"]
__all__ += [each.__name__ for each in FRAMINGS]
