"""What every test stands on: no network, few threads, the checkout as `adaptive`."""

from __future__ import annotations

import os

# Read when the libraries are first imported, so set before any of them is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "2")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes, which share the cores
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["ADAPTIVE_LOOKS"] = "off"  # tests that count looks name a file of their own
if not os.path.exists("/dev/nvidiactl"):  # without a GPU Triton's interpreter runs its kernels
    os.environ["TRITON_INTERPRET"] = "1"

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_cascade import make_cascade

from adaptive.bundle.card import render_card
from adaptive.bundle.contents import Bundle
from adaptive.bundle.store import save_bundle

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
os.getloadavg = lambda: (0.0, 0.0, 0.0)  # builds warn of a busy machine, as one under tests is


def _is_local(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(name).partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Refuses connections and look-ups beyond this machine, and fails the test that tried.

    The attempt is kept as well as refused: libraries that catch the error would hide it.
    """
    attempts: list[str] = []
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    look_up = socket.getaddrinfo

    def refuse(host: object) -> None:
        attempts.append(str(host))
        raise OSError(f"a test may not reach the network, and this one tried {host!r}")

    def guarded(original: Any) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            inet = self.family in (socket.AF_INET, socket.AF_INET6)
            if inet and not _is_local(address[0]):
                refuse(address[0])
            return original(self, address)

        return call

    def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_local(host):
            refuse(host)
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)
    yield attempts
    assert not attempts, f"the test tried to reach {attempts}"


@pytest.fixture
def three_threads() -> Iterator[None]:
    """Torch has so many, and what is opened meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_cascade() -> Bundle:
    """A three-tier cascade of random weights, see `tests/tiny_cascade.py`."""
    return make_cascade()


@pytest.fixture(scope="session")
def tiny_bundle(tiny_cascade: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a folder. Not to be changed: copy it."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    return save_bundle(tiny_cascade, folder, card=render_card(tiny_cascade), recipe="name: tiny\n")
