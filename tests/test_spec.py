"""Specs: ``name:key=value``, their escapes, and the errors of invalid specs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.spec import LINE, InvalidSpec, escape, line_of, shown, split, suggest


@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("raw", "raw", {}),
        ("line:delimiter=x", "line", {"delimiter": b"x"}),
        (r"line:delimiter=\r\n", "line", {"delimiter": b"\r\n"}),
        (r"x:k=\t\0\x1B\xff", "x", {"k": b"\t\0\x1b\xff"}),
        (r"x:k=\:\=\\", "x", {"k": rb":=\ ".strip()}),
        ("x:k=a=b", "x", {"k": b"a=b"}),
        ("x:k=", "x", {"k": b""}),
        ("x:a=1:b=2", "x", {"a": b"1", "b": b"2"}),
        ("x:k=å", "x", {"k": "å".encode()}),
        ("å:ä=1", "å", {"ä": b"1"}),
        (r"a\:b:c\=d=e", "a:b", {"c=d": b"e"}),
        ("x:k=a\nb", "x", {"k": b"a\nb"}),
        ("x:k=\udcff", "x", {"k": b"\xff"}),
    ],
)
def test_a_spec_is_a_name_and_its_options(spec: str, name: str, options: dict[str, bytes]) -> None:
    """`split` gives the name and the options of a spec without escapes, and keeps a byte that is no UTF-8."""
    assert (name, options) == split(spec)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "begins with a name, as in name:key=value"),
        (":k=v", "begins with a name"),
        ("k=v", "begins with a name"),
        ("x:", "after the name come key=value options"),
        ("x:k", "after the name come key=value options"),
        ("x:=v", "after the name come key=value options"),
        ("x::k=v", "after the name come key=value options"),
        ("x:k=1:k=1", "k= is given twice; give it once"),
        ("x:k=\\", r"after a backslash comes one of : = \ n r t 0 or xNN (two hex digits)"),
        (r"x:k=\q", "after a backslash comes one of"),
        (r"x:k=\x1", "after a backslash comes one of"),
        (r"x:k=\xg0", "after a backslash comes one of"),
        ("x:k=\\å", "after a backslash comes one of"),
        ("x:k=\ud800", r"holds a lone surrogate, which has no bytes; write a byte as \xNN"),
    ],
)
def test_an_invalid_spec_raises(spec: str, says: str) -> None:
    """The error of an invalid spec quotes the whole spec, and says what would be valid."""
    with pytest.raises(InvalidSpec) as caught:
        split(spec)
    assert str(caught.value).startswith(f"{spec!r}: ")
    assert says in str(caught.value)


@given(st.binary())
def test_an_escaped_value_is_read_back(value: bytes) -> None:
    """`split` gives back any bytes that `escape` has written."""
    assert ("n", {"k": value}) == split("n:k=" + escape(value))


@given(st.binary())
def test_an_escaped_value_is_printable_ascii(value: bytes) -> None:
    """`escape` writes any bytes as printable ASCII, for a log line and a command line."""
    assert escape(value).isascii()
    assert escape(value).isprintable()


@given(st.text(alphabet=st.sampled_from("ab:=\\nx0\ud800\udcffå")) | st.text())
def test_any_text_is_read_or_refused(spec: str) -> None:
    """For any text, `split` gives a name and options, or raises `InvalidSpec`, and no other error."""
    try:
        name, _ = split(spec)
    except InvalidSpec:
        return
    assert name


@pytest.mark.parametrize(
    ("wrong", "says"), [("jsn", "; did you mean 'json'?"), ("zzz", ""), ("", ""), ("json", "; did you mean 'json'?")]
)
def test_a_near_spelling_is_suggested(wrong: str, says: str) -> None:
    """`suggest` gives the most similar known name, if one is similar."""
    assert says == suggest(wrong, iter(["text", "json"]))


@pytest.mark.parametrize(("text", "line"), [("max", "max"), ("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("", "")])
def test_shown_gives_one_line(text: str, line: str) -> None:
    """`shown` escapes the characters that cannot be printed."""
    assert shown(text) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hallå", "hallå"),
        ("", ""),
        ("a\r\nb\x1b[2J\u202e\ud800", "a\\r\\nb\\x1b[2J\\u202e\\ud800"),
        ("it's \\ and \"", "it's \\ and \""),
        ("x" * LINE, "x" * LINE),
        ("x" * (LINE + 1), "x" * (LINE - 3) + "..."),
        ("\x00" * LINE, ("\\x00" * LINE)[: LINE - 3] + "..."),
    ],
)
def test_a_line_of_a_log_is_escaped_and_cut(text: str, line: str) -> None:
    """`line_of` escapes the characters that cannot be printed, and cuts the result at `LINE` characters with "..."."""
    assert line_of(text) == line


def test_a_line_can_be_cut_at_another_length() -> None:
    """`line_of` cuts at the given number of characters."""
    assert line_of("x" * 11, 10) == "xxxxxxx..."
