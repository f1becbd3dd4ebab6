"""Framings that are written as a generator: a function that reads one message, and says what it needs next."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints, overload

from typing_extensions import Self, override

from tcpapp.errors import (
    InvalidFraming,
    InvalidState,
    MalformedFrame,
    TruncatedMessage,
    UnreadableStream,
    UnsendableMessage,
)
from tcpapp.framing.base import DEFAULT_MAX, Framing
from tcpapp.framing.body import Body
from tcpapp.framing.reader import MessageReader, Parse, receive
from tcpapp.framing.rereading import ReadFromHeld
from tcpapp.framing.state import StateReader
from tcpapp.spec import line_of, suggest

__all__ = ["Parser", "parser"]

SHOWN = 80
"""The most characters of an exception in the text of an error: it can hold bytes of the peer."""

Form = Literal["value", "whole", "bytes"]
"""What `receive` gives for a message: what the generator returns; a `Decoded`; or the same, where it must be bytes."""


class Parser(ReadFromHeld, Framing):
    """
    A framing whose messages a generator reads; made by `parser`.

    `receive` returns what the generator returns, one value for each message, and `frame` takes such a value. ``max``
    bounds all bytes of one message on the wire, in both directions. ``oversize`` is ``"close"`` only, because the
    generator alone knows where a message ends.

    Errors, beside the errors of the generator: `MessageTooLong`; `TruncatedMessage` if the stream ends inside a
    message; `MalformedFrame` for any `Exception` of the generator, which is its ``__cause__``.
    """

    __slots__ = ("_encode", "_form", "_parse", "_reader")
    frames_alike = True

    _function: ClassVar[Callable[..., Parse]]
    _frame: ClassVar[Callable[..., bytes] | None]
    _frame_options: ClassVar[tuple[str, ...]]
    _choices: ClassVar[dict[str, tuple[Any, ...]]]
    __signature__: ClassVar[inspect.Signature]

    _encode: Callable[[Any], Any] | None
    _form: Form
    _parse: Callable[[], Parse]
    _reader: MessageReader

    def __init__(self, *args: Any, **options: Any) -> None:
        try:
            given = self.__signature__.bind(*args, **options)
        except TypeError as error:
            raise TypeError(f"{self._name}: {error}") from None
        given.apply_defaults()
        own = given.arguments
        most, oversize = own.pop("max"), own.pop("oversize")
        for name, value in own.items():
            _check_choice(name, value, self._choices.get(name, (value,)))
            setattr(self, name, value)
        self._form = "value"
        self._parse = partial(self._function, **own) if own else self._function
        named = {name: own[name] for name in self._frame_options}
        self._encode = partial(self._frame, **named) if self._frame is not None and named else self._frame
        if oversize == "skip":
            raise InvalidFraming("oversize='skip': a parser takes close, because only its generator finds the next one")
        super().__init__(max=most, oversize=oversize)

    @override
    def _start(self) -> None:
        if (reader := getattr(self, "_reader", None)) is not None:
            reader.close()
        self._reader = MessageReader(self._reading(), self.max, whole=self._form == "whole")
        if self._form == "bytes":
            self._reader.new_body = _no_body
        super()._start()

    def _reading(self) -> Callable[[], Parse]:
        """The function that reads a message of this stream."""
        return self._parse

    @override
    def fresh(self) -> Self:
        return self._formed(self._form)

    def whole(self) -> Self:
        """A fresh framing whose messages are each a `Decoded`, and which sends bytes that are framed already."""
        return self._formed("whole")

    def of_bytes(self) -> Self:
        """A fresh framing for a codec: each of its messages must be bytes."""
        return self._formed("bytes")

    def make_bodies(self, new_body: Callable[[int | None], Body]) -> None:
        """Make the bodies of this stream by `new_body`, which gets the size of each, or `None`."""
        self._reader.new_body = new_body

    def _formed(self, form: Form) -> Self:
        state = object.__new__(type(self))
        for name in (*self._defaults, "_parse", "_encode"):
            setattr(state, name, getattr(self, name))
        state._form = form
        state._start()
        return state

    # Receiving

    receive = receive

    @property
    def _held(self) -> bytes | bytearray:
        return self._reader.held

    @_held.setter
    def _held(self, held: bytes | bytearray) -> None:
        self._reader.held = held

    def _only_bytes(self, messages: list[Any]) -> list[Any]:
        for place, message in enumerate(messages):
            if type(message) is not bytes:
                text = f"{self._name} returns a {type(message).__name__}: where there is a codec, a message is bytes"
                return self._fail(MalformedFrame(text), messages[:place])
        return messages

    def _fault_of(self, error: Exception) -> MalformedFrame:
        """The fault of a stream whose generator raised `error`."""
        fault = MalformedFrame(f"{self._name} raised {type(error).__name__}: {line_of(str(error), SHOWN)}")
        fault.__cause__ = error
        return fault

    @override
    def _fail(self, failure: UnreadableStream, messages: list[Any]) -> list[Any]:
        stream = self._reader.stream
        self._reader.close()
        if stream is not None:
            stream.body.fail(failure)
            self._reader.stream = None
        return super()._fail(failure, messages)

    # The body of a message

    @property
    @override
    def in_body(self) -> bool:
        """Whether the stream is inside the body of a message, which was returned already."""
        return self._reader.stream is not None

    @property
    @override
    def held(self) -> int:
        stream = self._reader.stream
        return len(self._held) if stream is None else stream.held

    @override
    def finish(self) -> None:
        """Report that the stream ended here. A body that ends with the stream is whole then."""
        stream = self._reader.stream
        if stream is not None and stream.ends_with_the_stream:
            stream.close()
            stream.body.finish()
            self._reader.stream = None
        elif stream is not None:
            text = f"the stream ended inside the body of a message, of which {stream.arrived} bytes had arrived"
            self._fail(TruncatedMessage(text, value=stream.arrived), [])
        super().finish()

    @override
    def dump(self) -> bytes:
        if self.in_body:
            raise InvalidState("a stream cannot be dumped inside a body: what came of it was handed on")
        return super().dump()

    @override
    def _read_state(self, state: StateReader) -> None:
        super()._read_state(state)
        reader = self._reader
        held = bytes(reader.held)
        if not reader.load(held):
            raise self._impossible(f"{len(held)} bytes held, which do not begin one message")

    @override
    def _most_held(self) -> int:
        return self.max

    # Sending

    @override
    def frame(self, message: Any) -> bytes:
        """
        The bytes that carry `message`, by the `frame` that the parser was made with; without one, they are `message`.

        Raises `UnsendableMessage`, also for any `Exception` of that function, and for bytes over ``max``.
        """
        framed = message if self._form == "whole" else self._framed(message)
        self._sendable(framed)
        return framed

    @override
    def frame_all(self, messages: list[Any]) -> bytes:
        """The bytes that carry `messages`, one after the other. Raises `UnsendableMessage` as `frame` does."""
        if self._form == "whole" and messages and self._all_sendable(messages):
            return b"".join(messages)
        return b"".join([self.frame(message) for message in messages])

    def _framed(self, message: Any) -> bytes:
        encode = self._encode
        if encode is None:
            if isinstance(message, bytes):
                return message
            hint = "make the parser with frame=…, a function from message to bytes"
            raise UnsendableMessage(f"{self._name} sends bytes, not {type(message).__name__}: {hint}")
        try:
            framed = encode(message)
        except UnsendableMessage:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {line_of(str(error), SHOWN)}"
            raise UnsendableMessage(f"{self._name} cannot frame this {type(message).__name__}: {why}") from error
        if not isinstance(framed, bytes):
            raise UnsendableMessage(f"frame= of {self._name} returns bytes, not {type(framed).__name__}")
        return framed

    # A generator cannot be copied, and can be run again over the held bytes

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        state = self.fresh()
        state.failure = self.failure
        if self.failure is None:
            state.load(self.dump())
        return state

    # Composed

    def alone(self, message: bytes) -> Self:
        """A fresh framing that reads `message` alone, which was a message of another stream."""
        return self.fresh()

    def __iter__(self) -> Parse:
        """A generator that reads one message: ``item = yield from resp()`` reads a message inside another."""
        return self._parse()


@overload
def parser(function: Callable[..., Parse], /) -> type[Parser]: ...


@overload
def parser(
    *, max: int = DEFAULT_MAX, frame: Callable[..., bytes] | None = None
) -> Callable[[Callable[..., Parse]], type[Parser]]: ...


def parser(
    function: Callable[..., Parse] | None = None,
    /,
    *,
    max: int = DEFAULT_MAX,  # noqa: A002 - the public name
    frame: Callable[..., bytes] | None = None,
) -> type[Parser] | Callable[[Callable[..., Parse]], type[Parser]]:
    """
    Make a framing of a generator function that reads one message.

    ::

        @parser(max=1 << 20, frame=encode)
        def memcached():
            line = yield until(b"\\r\\n", max=2048)
            words = line.split()
            if words[:1] == [b"set"]:
                data = yield exactly(int(words[4]))
                if (yield exactly(2)) != b"\\r\\n":
                    raise MalformedFrame("no CRLF after the data block")
                return words, data
            return words, None

    The function says what it needs: it yields `until`, `until_any`, `exactly` or `peek`, and gets the bytes. What it
    returns is the message, or `NO_MESSAGE` for bytes that are none. It is run again for the next one. ``memcached()``
    is a framing.

    - `max`: the most bytes of one message, all of them, in both directions; ``memcached(max=…)`` changes it.
    - `frame`: the function from a message to its bytes, for sending. Without it, messages that are sent are bytes.

    Arguments of the function are options of the framing: ``def memcached(side="server")`` makes ``memcached("client")``
    possible. Where `frame` has an argument of the same name, it gets that option, too. An option whose type is a
    `Literal` takes no other value.

    The message must depend on its bytes alone. The bytes of an unfinished message are kept, and the function can be run
    over them again, for example in another process.
    """
    if function is None:
        return partial(_made, max=max, frame=frame)
    return _made(function, max=max, frame=frame)


def _made(function: Callable[..., Parse], *, max: int, frame: Callable[..., bytes] | None) -> type[Parser]:  # noqa: A002
    if not inspect.isgeneratorfunction(function):
        raise InvalidFraming(f"{function!r}: @parser takes a function that yields what it needs, and returns a message")
    name = function.__name__
    own = list(inspect.signature(function).parameters.values())
    for each in own:
        if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY) or hasattr(Parser, each.name):
            raise InvalidFraming(f"{name}({each}): takes another argument, as framings have something of that name")
    limits = [
        inspect.Parameter("max", inspect.Parameter.KEYWORD_ONLY, default=max),
        inspect.Parameter("oversize", inspect.Parameter.KEYWORD_ONLY, default="close"),
    ]
    return type(
        name,
        (Parser,),
        {
            "__slots__": tuple(each.name for each in own),
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
            "__signature__": inspect.Signature([*own, *limits]),
            "_name": name if function.__module__.startswith(f"{__package__}.") else f"{function.__module__}:{name}",
            "_function": staticmethod(function),
            "_frame": None if frame is None else staticmethod(frame),
            "_frame_options": _taken_by(frame, [each.name for each in own]),
            "_choices": _choices_of(function),
        },
    )


def _no_body(_: int | None) -> Body:
    """Where there is a codec, it decodes the bytes of whole messages."""
    raise MalformedFrame("a message with a body, where there is a codec: serve this framing without a codec")


def _taken_by(frame: Callable[..., bytes] | None, names: list[str]) -> tuple[str, ...]:
    """Those of these options that `frame` has arguments for."""
    if frame is None or not names:
        return ()
    try:
        parameters = inspect.signature(frame).parameters
    except (TypeError, ValueError):  # some built-in functions have no signature
        return ()
    return tuple(name for name in names if name in parameters)


def _choices_of(function: Callable[..., Parse]) -> dict[str, tuple[Any, ...]]:
    """What each option takes whose type is a `Literal`; nothing for a function with types that are not to be found."""
    try:
        hints = get_type_hints(function)
    except (NameError, AttributeError, TypeError):
        return {}
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        near = suggest(str(value), [str(each) for each in choices])
        raise InvalidFraming(f"{name}={value!r}: takes {' or '.join(map(repr, choices))}{near}")
