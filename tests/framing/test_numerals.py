"""Whole numbers in a peer's text are only digits, and few of them."""

from __future__ import annotations

import pytest

from tcpapp.errors import MalformedFrame
from tcpapp.framing.numerals import decimal, hexadecimal

WRONG = ["", " 1", "1 ", "+1", "-1", "1_0", "1.0", "0x1", "1\n", "\N{ARABIC-INDIC DIGIT ONE}", "\N{SUPERSCRIPT TWO}"]


def test_digits_are_a_number() -> None:
    """Decimal and hexadecimal digits give their number, also behind zeros and in capitals."""
    assert [decimal(b"0"), decimal(b"0012"), decimal(b"9" * 18)] == [0, 12, 10**18 - 1]
    assert [hexadecimal(b"0"), hexadecimal(b"00aF"), hexadecimal(b"F" * 15)] == [0, 0xAF, 16**15 - 1]


@pytest.mark.parametrize("text", [*WRONG, "a", "1" * 19])
def test_other_text_is_no_decimal_number(text: str) -> None:
    """What `int` would accept, and too many digits, are refused."""
    with pytest.raises(MalformedFrame, match="decimal digits"):
        decimal(text.encode())


@pytest.mark.parametrize("text", [*WRONG, "g", "1" * 16])
def test_other_text_is_no_hexadecimal_number(text: str) -> None:
    """What `int` would accept, and too many digits, are refused."""
    with pytest.raises(MalformedFrame, match="hexadecimal digits"):
        hexadecimal(text.encode())
