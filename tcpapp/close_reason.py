"""
Why a connection ended: one structured value, used everywhere.

The log line, the metric label, the app's ``closed`` and `NotConnected` all carry a `CloseReason`. The first cause
counts. For example, a message is too long, the connection is closed, and the peer then resets it: the reason is the
long message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from typing_extensions import override

__all__ = ["CloseReason", "EndedBy"]


class EndedBy(str, Enum):
    """Who ended a connection."""

    US = "us"
    PEER = "peer"
    NETWORK = "network"

    @override
    def __str__(self) -> str:
        return self.value


CLEAN_RULES = frozenset({"closed", "end-of-stream", "drained", "max-age", "moved", "taken-over"})
"""The rules by which a successful conversation ends."""


@dataclass(frozen=True)
class CloseReason:
    """
    Why a connection ended.

    - `by`: who ended it: us, the peer, or the network.
    - `rule`: a short fixed name, fit for a metric's label. The rules are:

      ========================== ======= ====================================================================
      rule                       by      what happened
      ========================== ======= ====================================================================
      ``closed``                 us      ``close()`` was called, or a conversation finished
      ``drained``                us      the server is stopping and the connection's work is finished
      ``moved``                  us      the connection continues in another process; the peer does not notice
      ``taken-over``             us      another protocol has the transport, by ``take_over()``
      ``end-of-stream``          peer    the peer closed its side between two messages
      ``truncated-message``      peer    the peer closed its side in the middle of a message
      ``message-too-long``       us      a message over the framing's ``max``
      ``malformed-frame``        us      bytes that are no frame
      ``undecodable-message``    us      a message that the codec cannot decode
      ``malformed-proxy-header`` us      no PROXY header where one is required, or an invalid one
      ``app-failed``             us      the app raised, or gave a reply that cannot be sent
      ``login-failed``           us      the peer gave no valid credentials to an `authenticated` app: in all its tries,
                                         or in time
      ``aborted``                us      ``abort()`` was called
      ``grace-over``             us      ``close(grace)`` could not flush in time
      ``drain-over``             us      the drain's deadline came first
      ``half-close-over``        us      the replies to a peer that had closed its side took too long
      ``proxy-header-timeout``   us      no whole PROXY header came in ``proxy_header`` seconds
      ``message-rate``           us      more messages a second than ``message_rate``, and ``over_rate`` does not wait
      ``byte-rate``              us      the same for ``byte_rate``
      ``memory-short``           us      all connections held more than ``max_buffered``, and this one the most;
                                         or memory was almost full, and a message was not whole in time
      ``too-much-unsent``        us      more unsent bytes than ``max_unsent``
      ``stream-cut``             us      the source of a ``send_stream`` failed, or the call was cancelled
      ``tls-failed``             us      the TLS handshake failed: a certificate is not trusted, or no version or
                                         cipher is in common; by the peer if the peer reported it
      ``plain-before-tls``       us      plain bytes came behind the message that asked for TLS
      ``lost``                   network reset, or timed out
      ========================== ======= ====================================================================

      The rules of timeouts are listed with their numbers in `tcpapp.limits.Timeouts`. All of them are by us.

    - `detail`: a sentence for people. It shows bytes of a peer only escaped and cut.
    - `value` and `limit`: the number that led to the end and its limit; `None` for a rule without numbers.
    - `error`: the exception that led to the end, if there is one.
    """

    by: EndedBy
    rule: str
    detail: str
    value: float | None = None
    limit: float | None = None
    error: BaseException | None = field(default=None, compare=False, repr=False)

    @property
    def clean(self) -> bool:
        """Whether the conversation ended as it should: its rule is one of `CLEAN_RULES`."""
        return self.rule in CLEAN_RULES

    @override
    def __str__(self) -> str:
        return f"{self.rule} (by {self.by}): {self.detail}"
