"""Host names: which are valid, and the one form in which each is looked up, sent and compared."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.transport.hostnames import comparable, is_host, is_ip, to_ascii

WIDE_DOT, IDEOGRAPHIC_DOT = "\uff0e", "\u3002"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localhost", "localhost"),
        ("Example.ORG.", "Example.ORG."),
        ("my_service", "my_service"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example."),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        (f"bücher{WIDE_DOT}example{IDEOGRAPHIC_DOT}", "xn--bcher-kva.example."),
        ("\uff25xample.org", "example.org"),
        ("straße.example", "xn--strae-oqa.example"),
        ("bücher.my_service.example", "xn--bcher-kva.my_service.example"),
        ("\u2603.example", "xn--n3h.example"),
        ("r3---sn.ü.example", "r3---sn.xn--tda.example"),
    ],
)
def test_a_name_in_ascii(name: str, expected: str) -> None:
    """`to_ascii` lower-cases names beyond ASCII, knows every kind of dot, and accepts symbols as Python does."""
    assert to_ascii(name) == expected
    assert is_host(name)


@pytest.mark.parametrize("name", ["\ufffd.example", "jörg müller", "ü/a.example", "\ud800", "ü" * 300])
def test_an_invalid_name_raises(name: str) -> None:
    """`to_ascii` raises UnicodeError for an invalid name, and `is_host` is false."""
    with pytest.raises(UnicodeError):
        to_ascii(name)
    assert not is_host(name)


def test_without_the_package_idna_python_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package idna, which comes with TLS, Python's own codec encodes names by older rules."""
    monkeypatch.setitem(sys.modules, "idna", None)
    assert to_ascii("BÜCHER.example.") == "xn--bcher-kva.example."
    assert to_ascii("straße.example") == "strasse.example"
    with pytest.raises(UnicodeError):
        to_ascii("jörg müller")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Example.ORG.", "example.org"),
        ("*.Example.org", "*.example.org"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        (f"Ünicode.EXAMPLE{WIDE_DOT}", "xn--nicode-2ya.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("under_score.example", "under_score.example"),
        ("\ufffd.example", ""),
        ("a" * 255, ""),
        ("::1", "::1"),
    ],
)
def test_names_are_compared_in_one_form(name: str, expected: str) -> None:
    """`comparable` gives lower-case ASCII without a dot at the end, or an empty text for an invalid name."""
    assert comparable(name) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("fe80::1%a b", False),
        ("1.2.3", False),
        ("localhost", False),
        ("\uff11.2.3.4", False),
    ],
)
def test_ip_addresses_are_recognised(value: str, expected: bool) -> None:
    """`is_ip` is true for an IP address, with or without a zone (RFC 4007)."""
    assert is_ip(value) is expected


@pytest.mark.parametrize("value", ["", ".", "a..b", "ü..b", ".a", "a b", "a@b", "999.1.1.1", "1.2.3.", "0x1", "a" * 64])
def test_invalid_hosts_are_recognised(value: str) -> None:
    """An empty label, a blank, a label that is too long, and a number at the end (WHATWG URL) make no host."""
    assert not is_host(value)


@given(st.text(max_size=20))
def test_the_comparable_form_of_a_host_is_stable(value: str) -> None:
    """For a valid host, `comparable` gives ASCII that is a valid host again and does not change any more."""
    if is_host(value):
        form = comparable(value)
        assert (comparable(form), form.isascii(), is_host(form)) == (form, True, True)
