"""The application on uvicorn: TLS, and what signals do."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from adaptive.errors import BundleError, ConfigError
from adaptive.serve.logs import configure, told
from adaptive.serve.memory import freeze
from adaptive.serve.refusals import Refusal
from adaptive.serve.settings import Settings

if TYPE_CHECKING:
    from adaptive.serve.service import Service

log = logging.getLogger("adaptive.serve")
LINGER_S = 0.5  # between the end of listening and that of idle connections


def run(app: FastAPI, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight; SIGHUP reloads the bundle.

    Raises:
        BundleError: golden inputs failed, so that nothing was served.
        ConfigError: the address is taken or no address of this machine.
    """
    handler = configure()
    try:
        sockets = [listen(settings.host, settings.port)]
        server = Server(app, settings)
        with _back_to_back():
            server.run(sockets)
        if server.failure is not None:
            raise server.failure
    finally:
        handler.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        ConfigError: it cannot.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        raise ConfigError(f"{host}:{port} cannot be listened on: {error.strerror}") from None
    return found


class Server(uvicorn.Server):
    """uvicorn, which tells its application that it is to stop.

    Attributes:
        failure: why the application could not start.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        tls = settings.tls
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,  # its lines hold what was asked for; the gate has its own
                server_header=False,
                timeout_graceful_shutdown=max(1, math.ceil(settings.drain_s)),
                timeout_keep_alive=30,
                ssl_certfile=None if tls is None else tls.certificate,
                ssl_keyfile=None if tls is None else tls.key,
                ssl_ca_certs=None if tls is None else tls.authorities,
                ssl_cert_reqs=_cert_reqs(settings),
            )
        )
        self._service: Service = app.state.service
        self._service.settle = freeze
        self.failure: BundleError | None = None
        app.state.started = self._started
        self._reloads: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell where."""
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        await super().startup(sockets)
        for each in sockets or ():
            host, port = each.getsockname()[:2]
            told("listening", host=host, port=port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen no more, and close connections once clients had time to read that they are to.

        uvicorn closes those that are idle at once. A request that was just being written on one
        would be lost.
        """
        for server in self.servers:
            server.close()
        for each in sockets or ():
            each.close()
        ends = time.monotonic() + LINGER_S
        while self.failure is None and not self.force_exit and time.monotonic() < ends:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; readiness says so at once, and what is in flight is finished."""
        self._service.draining = True
        super().handle_exit(sig, frame)

    def _started(self, starting: asyncio.Task[None]) -> None:
        if starting.cancelled() or (error := starting.exception()) is None:
            return
        why = str(error) if isinstance(error, BundleError) else type(error).__name__
        self.failure = BundleError(f"the server cannot start: {why}")
        self.should_exit = True

    def _reload(self) -> None:
        task = asyncio.ensure_future(self._try_reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _try_reload(self) -> None:
        try:
            await self._service.reload()
        except Refusal as refusal:
            log.error("%s", refusal.message)


@contextmanager
def _back_to_back() -> Iterator[None]:
    """uvicorn raises the signals that it was stopped by once more; by then all is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {sig: signal.signal(sig, lambda *_: None) for sig in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)


def _cert_reqs(settings: Settings) -> int:
    import ssl

    asked = settings.tls is not None and settings.tls.authorities is not None
    return int(ssl.CERT_REQUIRED if asked else ssl.CERT_NONE)
