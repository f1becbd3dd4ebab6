"""Codecs: message bytes ↔ values, errors of the peer and of the app, and specs."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.codecs import Codec, Json, MessagePack, Text, from_string
from tcpapp.codecs.base import BYTE_WEIGHT, QUOTED, VALUE_WEIGHT
from tcpapp.errors import InvalidOption, UndecodableMessage, UnsendableMessage
from tests.patience import PATIENCE

CODECS = [Text(), Json(), MessagePack(), Json(list[int]), MessagePack(dict[str, int])]
STRUCTURED = [Json, MessagePack]


@dataclass
class Point:
    x: int
    y: int = 0


class Command(msgspec.Struct, tag="command", forbid_unknown_fields=True):
    word: str


class Picky(msgspec.Struct):
    """A type that refuses words, and that has a bug for some of them."""

    word: str

    def __post_init__(self) -> None:
        if self.word == "bug":
            raise RuntimeError("a mistake of the app")
        if self.word == "deep":
            raise RecursionError
        raise ValueError(f"no such word: {self.word}")


def cycle() -> list[Any]:
    """Return a list that contains itself."""
    ring: list[Any] = []
    ring.append(ring)
    return ring


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "message", "value"),
    [
        (Text(), b"", ""),
        (Text(), "hallå \0".encode(), "hallå \0"),
        (Text(), b"\xef\xbb\xbfx", "\ufeffx"),
        (Json(), b'{"id":1}', {"id": 1}),
        (Json(), b"null", None),
        (Json(), '["å",1.5,true]'.encode(), ["å", 1.5, True]),
        (Json(Point), b'{"x":1,"y":2}', Point(1, 2)),
        (Json(int | str), b'"a"', "a"),
        (MessagePack(), b"\x81\xa2id\x01", {"id": 1}),
        (MessagePack(), b"\xc0", None),
        (MessagePack(), b"\xc4\x02ab", b"ab"),
        (MessagePack(Point), b"\x82\xa1x\x01\xa1y\x02", Point(1, 2)),
        (MessagePack(list[int]), b"\x91\x07", [7]),
    ],
)
def test_a_message_and_its_value_give_each_other(codec: Codec[Any], message: bytes, value: object) -> None:
    """A message decodes to its value, and the value encodes to the message."""
    assert value == codec.decode(message)
    assert message == codec.encode(value)


def test_a_typed_value_is_of_its_type() -> None:
    """With a type, `decode` gives an instance of this type, with its defaults."""
    assert Json(Point).decode(b'{"x":1}') == Point(1, 0)


@pytest.mark.parametrize("make", STRUCTURED)
def test_a_reply_can_have_another_type(make: type[Json[Any]]) -> None:
    """The type of a codec is for received messages; `encode` accepts a value of another type."""
    codec = make(Point)
    assert make().decode(codec.encode("fine")) == "fine"  # type: ignore[arg-type]


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.exhaustive
@given(st.text())
def test_any_text_is_received_as_it_was_sent(value: str) -> None:
    """Any text is received as it was sent."""
    assert value == Text().decode(Text().encode(value))


@pytest.mark.exhaustive
@given(codec=st.sampled_from([Json(), MessagePack()]), value=plain)
def test_any_plain_value_is_received_as_it_was_sent(codec: Codec[Any], value: object) -> None:
    """Any value that JSON can represent is received as it was sent."""
    assert value == codec.decode(codec.encode(value))


@pytest.mark.exhaustive
@given(value=plain)
def test_json_fits_lines(value: object) -> None:
    """JSON has no line break, so each message fits into a line."""
    assert b"\n" not in Json().encode(value)
    assert b"\r" not in Json().encode(value)


@pytest.mark.parametrize(
    ("value", "message"), [(b"\xff", b'"/w=="'), (float("nan"), b"null"), ({1: 2}, b'{"1":2}'), ({1}, b"[1]")]
)
def test_values_beyond_json_are_encoded_as_msgspec_does(value: object, message: bytes) -> None:
    """Bytes become base64, NaN becomes null, keys become strings, and sets become arrays."""
    assert message == Json().encode(value)


# Invalid messages: the peer's fault -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (Text(), b"ab\xff"),
        (Text(), b"\xed\xa0\x80"),
        (Json(), b""),
        (Json(), b"{]"),
        (Json(), b"1 2"),
        (Json(), b"NaN"),
        (Json(), b"\xef\xbb\xbf1"),
        (Json(), b'"\xff"'),
        (Json(), b"1e999"),
        (Json(), b"1" * 4301),
        (Json(), b"[" * 100_000),
        (Json(), b'{"":' * 100_000),
        (Json(Point), b"{}"),
        (Json(list[int]), b'["a"]'),
        (MessagePack(), b""),
        (MessagePack(), b"\xc1"),
        (MessagePack(), b"\x01\x02"),
        (MessagePack(), b"\xa1\xff"),
        (MessagePack(), b"\xdd\xff\xff\xff\xff"),
        (MessagePack(), b"\x81\x80\x01"),
        (MessagePack(), b"\xd7\xff" + b"\xff" * 8),
        (MessagePack(), b"\x91" * 100_000),
        (MessagePack(Point), b"\x01"),
        (Json(Picky), b'{"word":"x"}'),
        (Json(Picky), b'{"word":"bug"}'),
    ],
)
def test_an_invalid_message_is_the_peers_fault(codec: Codec[Any], message: bytes) -> None:
    """`UndecodableMessage` names the expected and the received value, and keeps the message and the cause."""
    wanted = {
        "Text()": "UTF-8 text",
        "Json()": "one JSON value (RFC 8259)",
        "Json(Point)": "one JSON value (RFC 8259) of type Point",
        "Json(list[int])": "one JSON value (RFC 8259) of type list[int]",
        "Json(Picky)": "one JSON value (RFC 8259) of type Picky",
        "MessagePack()": "one MessagePack value",
        "MessagePack(Point)": "one MessagePack value of type Point",
    }[repr(codec)]
    with pytest.raises(UndecodableMessage) as caught:
        codec.decode(message)
    text = str(caught.value)
    assert text.startswith(f"not {wanted}: ")
    assert f"; got {len(message)} bytes: {repr(message[:QUOTED])[: QUOTED - 1]}" in text
    assert message == caught.value.message
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("codec", "message", "says"),
    [
        (Text(), b"ab\xff", " at 2; got"),
        (Json(Picky), b'{"word":"x"}', "no such word: x"),
        (Json(Picky), b'{"word":"bug"}', "a mistake of the app"),
        (Json(Picky), b'{"word":"deep"}', ": nested too deep; got"),
    ],
)
def test_an_undecodable_message_says_why(codec: Codec[Any], message: bytes, says: str) -> None:
    """The error has the position in a text, says "nested too deep", or has the text of the app's own type."""
    with pytest.raises(UndecodableMessage) as caught:
        codec.decode(message)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (Text(), b"\x1b[31m\r\n\xff" * 1000),
        (Json(), b"\x1b\r\n" * 1000),
        (Json(Command), b'{"type":"command","word":"","' + b"\\u001b" * 1000 + b'":1}'),
        (Json(Command), b'{"type":"' + "\N{RIGHT-TO-LEFT OVERRIDE}\\n".encode() * 1000 + b'"}'),
        (Json(Picky), b'{"word":"' + b"\\r\\u001b" * 1000 + b'"}'),
        (MessagePack(Picky), b"\x81\xa4word\xda\x10\x00" + b"\x1b" * 4096),
    ],
)
def test_bytes_of_a_peer_are_escaped_and_cut_in_an_error(codec: Codec[Any], message: bytes) -> None:
    """An error is one short printable line, whatever bytes the peer sent."""
    with pytest.raises(UndecodableMessage) as caught:
        codec.decode(message)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 2 * QUOTED + 100


@pytest.mark.exhaustive
@given(codec=st.sampled_from(CODECS), message=st.binary())
def test_any_bytes_are_read_or_refused(codec: Codec[Any], message: bytes) -> None:
    """For any bytes, `decode` gives a value or raises `UndecodableMessage`, and no other error."""
    with suppress(UndecodableMessage):
        codec.decode(message)


@pytest.mark.parametrize("make", [Text, *STRUCTURED])
def test_read_raises_or_returns_the_error(make: type[Codec[Any]]) -> None:
    """`read` gives the value; for an invalid message it raises, or returns the error with invalid="deliver"."""
    message = make().encode("fine")
    assert make().read(message) == make(invalid="deliver").read(message) == "fine"
    with pytest.raises(UndecodableMessage):
        make().read(b"\xc1")
    error = make(invalid="deliver").read(b"\xc1")
    assert isinstance(error, UndecodableMessage)
    assert error.message == b"\xc1"


@pytest.mark.parametrize("make", [Text, *STRUCTURED])
def test_an_error_that_is_delivered_holds_no_frames(make: type[Codec[Any]]) -> None:
    """A delivered error has no traceback, which would hold the decoded value; its `weight` covers its memory."""
    error = make(invalid="deliver").read(b"\xc1" * 100)
    assert isinstance(error, UndecodableMessage)
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)
    assert sys.getsizeof(error) + sys.getsizeof(str(error)) + sys.getsizeof(vars(error)) <= error.weight - 100
    assert error.weight <= 2000


def test_a_codec_of_a_user_weighs_messages_by_their_length() -> None:
    """The base class knows nothing about the values, so its `weight` assumes the largest value for these bytes."""
    assert Codec().weight(b"x" * 100) == VALUE_WEIGHT + 100 * BYTE_WEIGHT


@pytest.mark.parametrize("codec", [Json(), MessagePack(), Text()], ids=str)
def test_a_codec_goes_on_after_a_fault(codec: Codec[Any]) -> None:
    """A codec has no state: it decodes a message after an invalid one like any other."""
    with pytest.raises(UndecodableMessage):
        codec.decode(b"\xc1")
    assert codec.decode(codec.encode("fine")) == "fine"


# Values that cannot be encoded: our fault -----------------------------------------------------------------------------


class Unprintable:
    def __repr__(self) -> str:
        raise AssertionError("an error names the type alone")


@pytest.mark.parametrize(
    ("codec", "value", "says"),
    [
        (Text(), 5, "text cannot send this int: not a str; it takes a str without lone surrogates"),
        (Text(), b"x", "text cannot send this bytes: not a str"),
        (Text(), None, "text cannot send this NoneType: not a str"),
        (Text(), "a\ud800", " at 1; it takes a str without lone surrogates"),
        (Json(), Unprintable(), "json cannot send this Unprintable: "),
        (Json(), cycle(), "json cannot send this list: "),
        (Json(), "a\udfff", "json cannot send this str: "),
        (Json(), {(1, 2): 3}, "json cannot send this dict: "),
        (Json(), 1j, "; it takes None, bool, int, float, str, bytes, list, dict, dataclasses"),
        (MessagePack(), Unprintable(), "msgpack cannot send this Unprintable: "),
        (MessagePack(), cycle(), "msgpack cannot send this list: "),
        (MessagePack(), 2**64, "msgpack cannot send this int: "),
        (MessagePack(), ["\ud800"], "msgpack cannot send this list: "),
    ],
)
def test_a_value_that_cannot_be_encoded_is_our_fault(codec: Codec[Any], value: object, says: str) -> None:
    """A value without an encoding raises `UnsendableMessage`, which says what can be sent, and keeps the cause."""
    with pytest.raises(UnsendableMessage) as caught:
        codec.encode(value)
    assert says in str(caught.value)
    assert caught.value.__cause__ is not None


def test_text_is_encoded_whatever_a_subclass_says() -> None:
    """A subclass of `str` is sent as its text, even if it has an ``encode`` of its own."""

    class Loud(str):
        __slots__ = ()

        def encode(self, *args: Any) -> bytes:
            raise LookupError

    assert Text().encode(Loud("x")) == b"x"


# The contract and the specs -------------------------------------------------------------------------------------------


def test_a_codec_of_a_user_needs_two_methods() -> None:
    """`encode` and `decode` of the base class raise NotImplementedError."""
    codec: Codec[Any] = Codec()
    with pytest.raises(NotImplementedError):
        codec.decode(b"")
    with pytest.raises(NotImplementedError):
        codec.encode(None)
    assert (str(codec), repr(codec)) == ("codec", "Codec()")


@pytest.mark.parametrize(
    ("codec", "spec", "call"),
    [
        (Text(), "text", "Text()"),
        (Text(invalid="deliver"), "text:invalid=deliver", "Text(invalid='deliver')"),
        (Json(), "json", "Json()"),
        (Json(Point), "json", "Json(Point)"),
        (Json(list[int], invalid="deliver"), "json:invalid=deliver", "Json(list[int], invalid='deliver')"),
        (Json(int | str), "json", "Json(int | str)"),
        (MessagePack(type=dict), "msgpack", "MessagePack(dict)"),
        (MessagePack(invalid="deliver"), "msgpack:invalid=deliver", "MessagePack(invalid='deliver')"),
    ],
)
def test_a_codec_shows_its_spec_and_its_call(codec: Codec[Any], spec: str, call: str) -> None:
    """`str` of a codec is its spec, without its type; `repr` is the call that makes it."""
    assert (spec, call) == (str(codec), repr(codec))


@pytest.mark.parametrize(
    ("spec", "call"),
    [
        ("text", "Text()"),
        ("json", "Json()"),
        ("msgpack", "MessagePack()"),
        ("json:invalid=close", "Json()"),
        ("json:invalid=deliver", "Json(invalid='deliver')"),
        ("json:max_keys=0", "Json(max_keys=0)"),
        ("json:max_keys=1000", "Json()"),
        ("msgpack:invalid=deliver:max_keys=5000", "MessagePack(invalid='deliver', max_keys=5000)"),
        (r"text:invalid=\x64eliver", "Text(invalid='deliver')"),
    ],
)
def test_a_spec_gives_a_codec(spec: str, call: str) -> None:
    """A spec gives its codec, with its options; the spec of this codec gives an equal codec."""
    codec = from_string(spec)
    assert call == repr(codec)
    assert call == repr(from_string(str(codec)))
    assert codec.invalid == ("deliver" if "deliver" in call else "close")


def test_a_codec_in_place_of_a_spec_is_returned_unchanged() -> None:
    """`from_string` returns a codec, or None, that it is given in place of a spec."""
    codec = Json(Point)
    assert from_string(codec) is codec
    assert from_string(None) is None


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("jsn", "codec='jsn': takes 'text', 'json' or 'msgpack'; did you mean 'json'?"),
        ("protobuf", "codec='protobuf': takes 'text', 'json' or 'msgpack'"),
        ("JSON", "codec='JSON': takes 'text', 'json' or 'msgpack'"),
        ("", "codec='': begins with a name, as in name:key=value, as in json:invalid=deliver"),
        ("json:deliver", "codec='json:deliver': after the name come key=value options"),
        (
            "json:invlid=deliver",
            "has no invlid=; takes invalid=close or invalid=deliver, max_keys=NUMBER; did you mean 'invalid'?",
        ),
        ("json:type=int", "json has no type=; takes invalid=close or invalid=deliver"),
        ("text:max_keys=5", "text has no max_keys=; takes invalid=close or invalid=deliver"),
        ("json:max_keys=", "max_keys='': takes a whole number of keys, 0 or more (0: no limit)"),
        ("json:max_keys=-1", "max_keys='-1': takes a whole number of keys"),
        ("json:invalid=delivr", "invalid='delivr': takes 'close' or 'deliver'; did you mean 'deliver'?"),
        (r"json:invalid=\xff", "invalid='\ufffd': takes 'close' or 'deliver'"),
        (5, "codec=5: takes 'text', 'json', 'msgpack', or a Codec such as Json()"),
        (b"json", "codec=b'json': takes 'text', 'json', 'msgpack', or a Codec such as Json()"),
        (Json, "or a Codec such as Json()"),
    ],
)
def test_an_invalid_spec_says_what_it_takes(spec: Any, says: str) -> None:
    """A mistake in a spec raises `InvalidOption`, which says what is valid."""
    with pytest.raises(InvalidOption) as caught:
        from_string(spec)
    assert says in str(caught.value)


@pytest.mark.parametrize("make", [Text, *STRUCTURED])
@pytest.mark.parametrize("invalid", ["skip", None, 1, []])
def test_invalid_is_close_or_deliver(make: type[Codec[Any]], invalid: Any) -> None:
    """Another value for `invalid` is refused when the codec is made."""
    with pytest.raises(InvalidOption, match=r"^invalid=.*: takes 'close' or 'deliver'$"):
        make(invalid=invalid)


@pytest.mark.parametrize("make", STRUCTURED)
@pytest.mark.parametrize("number", [-1, 1.5, True, None, "5"])
def test_max_keys_is_a_number(make: type[Json[Any]], number: Any) -> None:
    """A value for `max_keys` that is no whole number from 0 on is refused when the codec is made."""
    with pytest.raises(InvalidOption, match=r"^max_keys=.*: takes a whole number of keys, 0 or more"):
        make(max_keys=number)


@pytest.mark.parametrize("make", STRUCTURED)
@pytest.mark.parametrize("kind", ["Point", 5, list[object()], "x" * 1000])  # type: ignore[misc]
def test_an_invalid_type_is_refused_when_the_codec_is_made(make: type[Json[Any]], kind: Any) -> None:
    """A type that msgspec cannot validate raises `InvalidOption`, which lists valid kinds of types."""
    with pytest.raises(InvalidOption, match=r"^type=.*: takes a type msgspec can validate: a Struct") as caught:
        make(kind)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("make", [Json, partial(from_string, "json")], ids=["class", "spec"])
def test_without_msgspec_the_extra_is_named(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without msgspec, making a codec that needs it raises an error that says how to install it."""
    monkeypatch.setitem(sys.modules, "msgspec.json", None)
    with pytest.raises(InvalidOption, match=r"^codec json: needs msgspec.*pip install 'tcpapp\[codecs\]'$"):
        make()


def test_text_does_without_msgspec() -> None:
    """The codec `Text` works without msgspec, which no module imports before it is needed."""
    program = (
        "import sys; sys.modules['msgspec'] = None\n"
        "from tcpapp.codecs import from_string\n"
        "assert from_string('text').decode(b'x') == 'x'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2], timeout=PATIENCE)


# The collector --------------------------------------------------------------------------------------------------------


COLLECTED: list[bool] = []


class Seen(msgspec.Struct):
    """A value that records whether the collector was on when the value was made."""

    padding: str

    def __post_init__(self) -> None:
        COLLECTED.append(gc.isenabled())


@pytest.mark.parametrize("codec", [Json(Seen), MessagePack(Seen)])
@pytest.mark.parametrize(("size", "on"), [(100, True), (10_000, False)])
def test_the_collector_does_not_run_while_a_large_message_is_decoded(codec: Any, size: int, on: bool) -> None:
    """The collector is off during a large `decode`: CPython up to 3.11 would scan the growing value repeatedly."""
    COLLECTED.clear()
    message = codec.encode({"padding": "x" * size})
    codec.decode(message)
    with pytest.raises(UndecodableMessage):
        codec.decode(message + b"!")
    assert (COLLECTED[0], gc.isenabled()) == (on, True)


@pytest.mark.usefixtures("collector_off")
def test_a_collector_that_was_off_stays_off() -> None:
    """A collector that the user has switched off stays off after a large `decode`."""
    Json().decode(b"[" + b"[]," * 10_000 + b"1]")
    assert not gc.isenabled()


@pytest.fixture
def collector_off() -> Iterator[None]:
    """Switch the collector off during the test."""
    gc.disable()
    yield
    gc.enable()
