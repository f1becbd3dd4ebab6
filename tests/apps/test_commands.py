"""Commands by their names, and the numbers in their words."""

from __future__ import annotations

from math import inf

import pytest

from tcpapp.apps.commands import Command, Commands, number


def test_a_function_is_found_by_each_of_its_names() -> None:
    """A function is added under its names, with the least and the most words that it takes."""
    commands = Commands()

    @commands.add(b"GET", b"GETS", least=1, most=inf)
    def get() -> None: ...

    @commands.add(b"PING")
    def ping() -> None: ...

    @commands.add(b"ECHO", least=1)
    def echo() -> None: ...

    assert commands.find(b"GETS") == Command(get, 1, inf)
    assert commands.find(b"PING") == Command(ping, 0, 0)
    assert commands.find(b"ECHO") == Command(echo, 1, 1)
    assert commands.find(b"get") is None
    assert [*commands] == [b"GET", b"GETS", b"PING", b"ECHO"]
    assert b"GET" in commands
    assert b"SET" not in commands


@pytest.mark.parametrize(("word", "value"), [(b"0", 0), (b"100", 100), (b"-5", -5), (b"007", 7), (b"-0", 0)])
def test_a_number_has_digits_and_a_sign(word: bytes, value: int) -> None:
    """A number is digits, with a minus sign or without."""
    assert number(word, -5, 100) == value


@pytest.mark.parametrize(
    "word",
    [b"", b"-", b"+5", b"1_0", b" 5", b"5 ", b"1.0", b"--5", b"\xd9\xa5", b"x", b"101", b"-6", b"0" * 5, b"9" * 5000],
)
def test_other_words_are_no_numbers(word: bytes) -> None:
    """What else `int` reads is no number, nor is one out of range, or with digits that only cost time."""
    assert number(word, -5, 100) is None
