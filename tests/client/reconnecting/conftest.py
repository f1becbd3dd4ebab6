"""Clients that reconnect, over a simulated network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tcpapp import Client
from tests.peers import Hosts


@pytest.fixture
def client_of(hosts: Hosts) -> Callable[..., Client[Any, Any]]:
    """Give ``client_of(endpoint, **options)``: a client on ``hosts.client``, which is stopped after the test."""

    def make(endpoint: Any = "tcp:server:7007", **options: Any) -> Client[Any, Any]:
        client: Client[Any, Any] = Client(endpoint, reactor=hosts.client.reactor, **options)

        def end() -> None:
            connection = client.connection
            client.stop()
            if connection is not None:
                connection.abort()

        hosts.at_end.insert(0, end)
        return client

    return make
