"""The guard that keeps the tests off the network."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request

import pytest


def test_connections_beyond_this_machine_are_refused_and_remembered(no_network: list[str]) -> None:
    with socket.socket() as client, pytest.raises(OSError, match="network"):
        client.connect(("192.0.2.1", 80))  # TEST-NET-1, see RFC 5737
    with pytest.raises(urllib.error.URLError, match="network"):
        urllib.request.urlopen("http://name.invalid/")  # RFC 2606
    assert no_network == ["192.0.2.1", "name.invalid"]
    no_network.clear()  # else the guard would fail this test too


def test_a_server_on_this_machine_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        accept = threading.Thread(target=lambda: server.accept()[0].close())
        accept.start()
        socket.create_connection(("localhost", server.getsockname()[1])).close()
        accept.join()
