"""
tcpapp: the toolkit for TCP message services in Python, on Twisted.

Write one function. Run it with twistd. Test it without a network. Deploy it without losing a message.

The tower; a file imports only from rows below its own::

    plugin              4  twistd tcpapp: command line → service
    service             3  listening services: start, drain, stop, start again
    server              2  MessageServerFactory, listen(): who is connected, how many may be
    client              2  MessageClientFactory, connect()
    connection          1  MessageProtocol: one conversation, OPEN → CLOSING → CLOSED
      dispatch          1  messages → app → replies, one at a time
      inbox, outbox     1  what waits on either side, with marks and bounds
      requests, ending  1  replies that are waited for; how a connection ends
      settings, app     1  what the connections of a factory share; the three forms of app
      telemetry         1  what happened, told to whoever listens
      limits, addresses 1  every number with its reason; endpoint strings, checked
    framing             0  bytes ↔ messages. No Twisted, no clock, no log
    codecs              0  message bytes ↔ values: text, JSON, MessagePack
    spec, close_reason  0  the language of specs; why a connection ended
    errors              0  every error, one tree
    apps                ∥  the small services that ship with it
    testing             ∥  the test kit
"""

from tcpapp import codecs, errors, framing
from tcpapp.app import conversation
from tcpapp.client import MessageClientFactory, connect
from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection import MessageProtocol, State
from tcpapp.limits import Limits, Timeouts
from tcpapp.server import Listening, MessageServerFactory, listen
from tcpapp.service import MessageService
from tcpapp.telemetry import Telemetry

__all__ = [
    "CloseReason",
    "EndedBy",
    "Limits",
    "Listening",
    "MessageClientFactory",
    "MessageProtocol",
    "MessageServerFactory",
    "MessageService",
    "State",
    "Telemetry",
    "Timeouts",
    "codecs",
    "connect",
    "conversation",
    "errors",
    "framing",
    "listen",
]
