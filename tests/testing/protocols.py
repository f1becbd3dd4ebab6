"""Protocols that note what they are told."""

from __future__ import annotations

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import AccumulatingProtocol
from zope.interface import implementer


@implementer(IHalfCloseableProtocol)
class HalfCloseable(AccumulatingProtocol):
    """Notes which side has ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def readConnectionLost(self) -> None:
        self.ended.append("read")

    def writeConnectionLost(self) -> None:
        self.ended.append("write")
