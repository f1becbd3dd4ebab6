"""What an app keeps in `connection.data`: one namespace for each connection, until its end."""

from __future__ import annotations

from typing import Any
from weakref import ref

import pytest

from tcpapp import aio
from tests.peers import Peer


def counting(message: bytes, connection: Any) -> bytes:
    """Number the messages of a connection."""
    connection.data.count = getattr(connection.data, "count", 0) + 1
    return b"%d" % connection.data.count


class Kept:
    """An object that an app keeps."""


def test_an_app_that_is_a_function_keeps_the_state_of_each_connection() -> None:
    """Each connection has its own data, which lasts from message to message."""
    ann, bob = Peer(counting), Peer(counting)
    ann.says(b"a\nb\n")
    bob.says(b"c\n")
    assert (ann.hears(), bob.hears()) == (b"1\n2\n", b"1\n")
    assert vars(ann.connection.data) == {"count": 2}


def test_the_data_is_made_when_it_is_first_used() -> None:
    """A connection whose app keeps nothing has no namespace."""
    peer = Peer(lambda message, connection: message)
    peer.says(b"a\n")
    assert peer.protocol._data is None
    assert peer.connection.data is peer.connection.data


def test_the_data_is_there_for_all_who_are_told_of_the_end() -> None:
    """The app's `closed`, and a callback of `when_closed`, still have the data. After that it is dropped."""
    told: list[Any] = []

    class App:
        def opened(self, connection: Any) -> None:
            connection.data.user = "ann"

        def closed(self, connection: Any, reason: Any) -> None:
            told.append(connection.data.user)

    peer = Peer(App())
    peer.connection.when_closed().addCallback(lambda _: told.append(peer.connection.data.user))
    peer.leaves()
    assert (told, vars(peer.connection.data)) == (["ann", "ann"], {})


@pytest.mark.usefixtures("no_collector")
def test_data_that_refers_to_its_connection_is_freed_at_the_end() -> None:
    """Two connections that keep each other in their data, as those of a proxy, are freed without the collector."""
    one, other = Peer(), Peer()
    one.connection.data.other, other.connection.data.other = other.connection, one.connection
    kept = one.connection.data.kept = Kept()
    dead = ref(kept)
    del kept
    for peer in (one, other):
        peer.leaves()
        peer.events.clear()
    assert dead() is None


def test_an_app_of_asyncio_has_the_same_data() -> None:
    """The wrapper of `tcpapp.aio` gives the data of its connection."""
    peer = Peer()
    assert aio.Native(peer.connection).data is peer.connection.data
