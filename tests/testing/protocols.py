"""Protocols that note which of their methods are called."""

from __future__ import annotations

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import AccumulatingProtocol
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class HalfCloseable(AccumulatingProtocol):
    """A protocol that notes which of its directions have ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def readConnectionLost(self) -> None:
        self.ended.append("read")

    def writeConnectionLost(self) -> None:
        self.ended.append("write")
