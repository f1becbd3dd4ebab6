"""Specs: the texts that name a framing and its options."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tcpapp.framing
from tcpapp.errors import InvalidFraming
from tcpapp.framing import (
    SPECS,
    Blocks,
    Cobs,
    Delimited,
    Fixed,
    Framing,
    LengthPrefixed,
    Lines,
    Netstrings,
    Parser,
    Raw,
    Slip,
    Varint,
    exactly,
    from_string,
    http1,
    irc,
    memcached,
    nats,
    parser,
    resp,
    smtp,
    smtp_data,
    stomp,
)
from tcpapp.framing.reader import Parse
from tcpapp.framing.specs import add
from tests.framing import generators
from tests.framing.generators import record

READ = [
    ("raw", Raw()),
    ("line", Lines()),
    (r"line:delimiter=\r\n", Lines(delimiter=b"\r\n")),
    (r"delimited:by=\x03", Delimited(b"\x03")),
    (r"delimited:by=\:\=\\", Delimited(b":=\\")),
    ("delimited:by=→", Delimited("→".encode())),
    ("int8", LengthPrefixed(1)),
    ("int16", LengthPrefixed(2)),
    ("int24", LengthPrefixed(3)),
    ("int32", LengthPrefixed(4)),
    ("int64", LengthPrefixed(8)),
    ("length", LengthPrefixed()),
    ("length:width=4:order=little:offset=0:adjust=0:strip=4", LengthPrefixed(order="little")),
    ("length:width=2:offset=1:adjust=-3:strip=3", LengthPrefixed(2, offset=1, adjust=-3, strip=3)),
    ("varint", Varint()),
    ("netstring", Netstrings()),
    ("fixed:size=128", Fixed(128)),
    ("mllp", Blocks(b"\x0b", b"\x1c\r")),
    (r"blocks:start=\x0b:end=\x1c\r", Blocks(b"\x0b", b"\x1c\r")),
    ("slip", Slip()),
    ("cobs", Cobs()),
    ("http1", http1()),
    ("http1:side=client", http1(side="client")),
    ("http1:bodies=stream", http1(bodies="stream")),
    ("smtp", smtp()),
    ("smtp:side=client", smtp(side="client")),
    ("smtp_data", smtp_data()),
    ("irc", irc()),
    ("irc:side=client", irc(side="client")),
    ("stomp", stomp()),
    ("memcached", memcached()),
    ("memcached:side=client", memcached(side="client")),
    ("resp", resp()),
    ("resp:side=client:version=3", resp(side="client", version=3)),
    ("nats", nats()),
    ("nats:side=client", nats(side="client")),
]


@pytest.mark.parametrize(("spec", "framing"), READ, ids=[spec for spec, _ in READ])
def test_specs(spec: str, framing: Framing) -> None:
    """Each spec gives its framing, also with ``max`` and ``oversize``, and `str` of the framing is a spec of it."""
    assert from_string(spec) == framing
    assert from_string(str(framing)) == framing
    oversize = "close" if isinstance(framing, Parser) else "skip"
    bounded = from_string(f"{spec}:max=200:oversize={oversize}")
    assert (bounded.max, bounded.oversize) == (200, oversize)
    assert str(bounded) == f"{framing}:max=200" + ":oversize=skip" * (oversize == "skip")


def test_every_name_is_read() -> None:
    """Every name in `SPECS` is read by a test, and no other."""
    assert {spec.partition(":")[0] for spec, _ in READ} == set(SPECS)


class Odd(Raw):
    """A framing whose option has a type that no spec can give."""

    __slots__ = ("odd",)
    _name = "odd"

    def __init__(self, odd: float = 1.0) -> None:
        self.odd = odd
        super().__init__()


def test_an_option_of_another_type_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec for an option of another type raises TypeError, which tells the framing's author the possible types."""
    monkeypatch.setattr("tcpapp.framing.specs._FORMS", {})
    add([Odd])
    with pytest.raises(TypeError, match=r"Odd\(odd=…\): a spec has int, bytes, str and Literal; write its type so"):
        from_string("odd:odd=1.5")


def test_a_framing_is_returned_unchanged() -> None:
    """`from_string` returns a framing that it is given."""
    framing = Lines()
    assert from_string(framing) is framing


MISTAKES = [
    ("", "begins with a name"),
    (":max=1", "begins with a name"),
    ("lines", r"'lines' is no framing; there are raw, line, .*; did you mean 'line'\?$"),
    ("Int32", "did you mean 'int32'"),
    ("telepathy", "'telepathy' is no framing; there are .*; one of your own is module:name$"),
    ("line:max", "after the name come key=value options"),
    (r"line:delimiter=\q", "after a backslash comes one of"),
    ("line:max=1:max=2", "max= is given twice"),
    ("line:delimeter=x", r"line: delimeter= is no option of it; it takes .*; did you mean 'delimiter'\?$"),
    ("raw:by=x", "raw: by= is no option of it; it takes max, oversize"),
    ("int32:width=4", "int32: width= is no option of it"),
    ("mllp:start=x", "mllp: start= is no option of it"),
    ("line:delimiter=", "line: delimiter=b'': takes bytes, one or more"),
    ("delimited", "delimited: by= is missing; it takes by, max, oversize"),
    ("fixed", "fixed: size= is missing"),
    ("blocks:start=x", "blocks: end= is missing; it takes start, end, max, oversize"),
    ("line:max=many", "line: max='many': takes a whole number, in digits"),
    ("line:max=", "line: max='': takes a whole number"),
    ("line:max=1_0", "takes a whole number"),
    ("line:max=1.5", "takes a whole number"),
    ("line:max=" + "9" * 5000, "takes a whole number"),
    ("line:max=0", "line: max=0: takes a whole number, 1 or more"),
    ("line:max=-1", "line: max=-1: takes a whole number, 1 or more"),
    ("line:oversize=skipp", r"line: oversize='skipp': takes close or skip; did you mean 'skip'\?"),
    ("length:order=middle", "length: order='middle': takes big or little"),
    (r"length:order=\xff", r"takes big or little"),
    ("length:width=9", "length: width=9: takes a whole number, 1 to 8"),
    ("fixed:size=0", "fixed: size=0: takes a whole number, 1 or more"),
    ("fixed:size=9:max=8", "fixed: size=9: takes at most max=8 bytes"),
    ("line:\ud800=x", "surrogate"),
]


@pytest.mark.parametrize(("spec", "why"), MISTAKES, ids=[ascii(spec[:30]) for spec, _ in MISTAKES])
def test_mistakes(spec: str, why: str) -> None:
    """A mistake in a spec raises `InvalidFraming`, which names the option, its valid values, and a similar name."""
    with pytest.raises(InvalidFraming, match=why):
        from_string(spec)


def undecorated() -> Parse:
    """Read a line; a parser without its decorator."""
    return (yield tcpapp.framing.until(b"\n"))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (None, "a spec such as 'line', or an object such as Lines"),
        (b"line", "a spec"),
        (5, "a spec"),
        (Slip, r"Slip\("),
        (undecorated, "; write @parser above its function$"),
        (undecorated(), "; write @parser above its function$"),
    ],
    ids=["none", "bytes", "number", "class", "generator-function", "generator"],
)
def test_a_value_that_is_no_spec_is_refused(wrong: object, why: str) -> None:
    """A value that is neither a spec nor a framing raises `InvalidFraming`; so does the class of a framing."""
    with pytest.raises(InvalidFraming, match=why):
        from_string(wrong)


@given(st.one_of(st.text(), st.text(alphabet="linedlmt:=\\x03max158", max_size=20)))
@example("line:max=\ud800")
def test_any_text(text: str) -> None:
    """Any text is the spec of a framing, or raises `InvalidFraming`."""
    try:
        framing = from_string(text)
    except InvalidFraming:
        return
    assert from_string(str(framing)) == framing


@given(st.binary(min_size=1, max_size=8), st.integers(1, 10**9))
def test_any_delimiter(by: bytes, most: int) -> None:
    """A framing with any delimiter has a spec in printable ASCII, which gives the framing again."""
    for framing in (Delimited(by, max=most), Lines(by, max=most), Blocks(by, by[::-1], max=most)):
        assert str(framing).isascii()
        assert str(framing).isprintable()
        assert from_string(str(framing)) == framing


# Framings in a module

HERE = "tests.framing.generators"

MADE = Lines(max=7)


def plain() -> Parse:
    """Read a byte, without a decorator."""
    return (yield exactly(1))


@parser
def typed(  # type: ignore[no-untyped-def]  # one argument has no type
    count: int = 2,
    sign: bytes = b"!",
    side="peer",
    *,
    order: Literal["big", "little"] = "big",
    version: Literal[2, 3] = 2,
) -> Parse:
    """Read bytes; the options have all types of a spec."""
    return (yield exactly(count)), sign, side, order, version


@parser
def odd(size: float = 1.5) -> Parse:
    """Read nothing; the option has a type that no spec can give."""
    yield exactly(int(size))


@pytest.mark.parametrize(
    ("spec", "framing"),
    [
        (f"{HERE}:record", record()),
        (f"{HERE}:record:side=client:width=2:max=30:oversize=close", record("client", width=2, max=30)),
        (f"{__name__}:MADE", MADE),
        (f"{__name__}:Odd.__base__:max=5", Raw(max=5)),
        (rf"{__name__}:typed:count=3:sign=\:\r:side=\:a b:order=little", typed(3, b":\r", ":a b", order="little")),
        (f"{__name__}:typed:version=3", typed(version=3)),
    ],
)
def test_a_framing_in_a_module(spec: str, framing: Framing) -> None:
    """``module:name`` is a framing in a module, with options by their types, or by the types of their defaults."""
    assert from_string(spec) == framing
    assert from_string(str(framing)) == framing


def test_the_spec_of_a_parser_names_its_module() -> None:
    """`str` of a parser names its module, and the options that differ from their defaults."""
    assert str(record("client", max=30)) == f"{HERE}:record:side=client:max=30"


def test_a_module_in_a_folder(tmp_path: Path) -> None:
    """A module is imported from the folder that is given, and from there only if it is given."""
    (tmp_path / "own_framing.py").write_text(Path(generators.__file__).read_text())
    with pytest.raises(InvalidFraming, match=r"^own_framing:record: importing 'own_framing' failed: ModuleNotFound"):
        from_string("own_framing:record")
    assert from_string("own_framing:record:width=2", str(tmp_path)).max == 40


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("absent.module:record", "absent.module:record: importing 'absent.module' failed: ModuleNotFoundError"),
        (f"{HERE}:recrod", f"{HERE}:recrod: there is no 'recrod' in {HERE}; did you mean 'record'?"),
        (
            f"{HERE}:record:sides=client",
            f"{HERE}:record: sides= is no option of it; it takes side, width, max, oversize",
        ),
        (f"{__name__}:typed:version=4", f"{__name__}:typed: version='4': takes 2 or 3"),
        (f"{HERE}:record:width=two", f"{HERE}:record: width='two': takes a whole number, in digits"),
        (rf"{HERE}:record:side=\xff", f"{HERE}:record: side='\\\\xff': takes text"),
        (f"{HERE}:record:oversize=skip", f"{HERE}:record: oversize='skip': a parser takes close"),
        (f"{HERE}:record:width", f"{HERE}:record: 'record:width': after the name come key=value options"),
        (f"{__name__}:MADE:max=3", f"{__name__}:MADE: max= cannot be given: it is a framing that is made already"),
        (f"{__name__}:plain", f"{__name__}:plain: takes a framing, not <function plain"),
        (f"{__name__}:HERE", f"{__name__}:HERE: takes a framing, not '{HERE}'"),
        (f"{__name__}:odd:size=1", f"{__name__}:odd: odd(size=…): a spec has int, bytes, str and Literal"),
    ],
)
def test_mistakes_with_a_module(spec: str, why: str) -> None:
    """A mistake in the spec of a framing in a module raises `InvalidFraming`, which begins with that module."""
    with pytest.raises(InvalidFraming) as caught:
        from_string(spec)
    assert str(caught.value).startswith(why)


def test_a_function_without_the_decorator() -> None:
    """The error of a generator function that is no parser says what is missing."""
    with pytest.raises(InvalidFraming, match=r"; write @parser above its function$"):
        from_string(f"{__name__}:plain")


def test_a_name_of_tcpapp_comes_first(tmp_path: Path) -> None:
    """The name of a framing of tcpapp is never the name of a module."""
    (tmp_path / "line.py").write_text(Path(generators.__file__).read_text())
    with pytest.raises(InvalidFraming, match="after the name come key=value options"):
        from_string("line:record", str(tmp_path))


def test_public_names() -> None:
    """Each name in ``__all__`` exists, and the package's docstring has each framing in its table."""
    for name in tcpapp.framing.__all__:
        assert hasattr(tcpapp.framing, name)
    for framing in [*Framing.__subclasses__(), *Parser.__subclasses__()]:
        if framing.__module__.count(".") == 2 and framing.__name__ in tcpapp.framing.__all__:
            assert f"`{framing.__name__}`" in tcpapp.framing.__doc__
